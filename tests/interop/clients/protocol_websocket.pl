# The client of Protocol::WebSocket, which has no I/O of its own.
use strict;
use warnings;
use utf8;
use FindBin;
use lib $FindBin::Bin;
use Checks;
use Encode;
use IO::Socket::INET;
use IO::Socket::SSL;
use Protocol::WebSocket::Frame;
use Protocol::WebSocket::Handshake::Client;

sub ready {
    my ($name, $path) = @_;
    my $url = url($name, $path);
    my ($scheme, $host, $port) = $url =~ m{^(wss?)://([^:/]+):(\d+)};
    my $socket = $scheme eq 'wss'
        ? IO::Socket::SSL->new(PeerAddr => $host, PeerPort => $port, SSL_ca_file => $AUTHORITY)
        : IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port);
    die "cannot connect: $!\n" unless $socket;
    my $handshake = Protocol::WebSocket::Handshake::Client->new(url => $url);
    $handshake->req->subprotocol('interop');
    syswrite $socket, $handshake->to_string;
    my $frames = Protocol::WebSocket::Frame->new(max_payload_size => 2 << 20);
    until ($handshake->is_done) {
        my $bytes = receive($socket);
        unless ($handshake->parse($bytes)) { die $handshake->error . "\n" }
        # What comes behind the answer is left in the buffer.
        $frames->append($bytes) if $handshake->is_done;
    }
    my $client = bless {socket => $socket, frames => $frames}, 'Client';
    my ($kind, $text) = $client->next;
    expect("$kind $text", 'text welcome');
    return $client;
}

sub receive {
    my ($socket) = @_;
    my $size = sysread $socket, my $bytes, 65_536;
    die "the connection ended\n" unless $size;
    return $bytes;
}

package Client {
    # Sends a frame of this type, all of it.
    sub send {
        my ($self, $type, $bytes, %options) = @_;
        my $frame = Protocol::WebSocket::Frame->new(
            buffer => $bytes, type => $type, masked => 1, max_payload_size => 2 << 20, %options,
        )->to_bytes;
        while (length $frame) {
            my $size = syswrite $self->{socket}, $frame, 16_384;
            die "cannot write: $!\n" unless $size;
            substr $frame, 0, $size, '';
        }
    }

    # The type and the payload of the next message.
    sub next {
        my ($self) = @_;
        my $bytes;
        until (defined($bytes = $self->{frames}->next_bytes)) {
            $self->{frames}->append(main::receive($self->{socket}));
        }
        my %types = (1 => 'text', 2 => 'binary', 8 => 'close', 9 => 'ping', 10 => 'pong');
        return ($types{$self->{frames}->opcode}, $bytes);
    }

    sub expect {
        my ($self, $type, $bytes) = @_;
        my ($found, $payload) = $self->next;
        Checks::expect("$found $payload", "$type $bytes");
    }
}

package main;

my $utf8 = encode('UTF-8', $TEXT);
check(text => sub {
    my $client = ready('text');
    $client->send(text => $TEXT);
    $client->expect(text => $utf8);
});
for (['binary', $BYTES], ['large', $LARGE]) {
    my ($name, $bytes) = @$_;
    check($name => sub {
        my $client = ready($name);
        $client->send(binary => $bytes);
        $client->expect(binary => $bytes);
    });
}
check(fragments => sub {
    my $client = ready('fragments', '/fragments');
    $client->send(text => 'ab', fin => 0);
    $client->send(continuation => 'cd', fin => 0);
    $client->send(continuation => 'ef');
    $client->expect(text => '3 pieces, 6 bytes');
});
Checks::tell('compression', 'none', 'it has none');
check(ping => sub {
    my $client = ready('ping');
    $client->send(ping => 'hello?');
    $client->expect(pong => 'hello?');
});
check(pong => sub {
    my $client = ready('pong');
    $client->send(text => '/ping are you there?');
    my ($type, $payload) = $client->next;
    expect($type, 'ping');
    $client->send(pong => $payload);
    $client->expect(text => 'pong are you there?');
});
check(close => sub {
    my $client = ready('close');
    $client->send(close => pack('n', 4002) . 'bye');
    $client->expect(close => pack('n', 4002) . 'bye');
});
check(closed => sub {
    my $client = ready('closed');
    $client->send(text => '/close 4001 enough');
    $client->expect(close => pack('n', 4001) . 'enough');
    $client->send(close => pack('n', 4001) . 'enough');
});
check(refusal => sub {
    my $opened = eval { ready('refusal', '/refused'); 1 };
    die "it opened\n" if $opened;
    die $@ unless $@ =~ /Wrong response line|403/;
    return $@ =~ /403/ ? '' : 'it tells a wrong status line';
});
