#!/usr/bin/env perl
# An echo server built with Protocol::WebSocket, with one loop over IO::Select: the core of
# Net::WebSocket::Server. It shows how the Perl servers react to the same bytes. It prints its port,
# and ends at the end of its input.

use strict;
use warnings;

use Encode ();
use IO::Select;
use IO::Socket::INET;
use Protocol::WebSocket::Frame;
use Protocol::WebSocket::Handshake::Server;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

alarm 120;
$SIG{PIPE} = 'IGNORE';
$| = 1;

my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Proto => 'tcp')
    or die "listen: $@";
print $listener->sockport, "\n";

my $select = IO::Select->new($listener, \*STDIN);
my %peers;
while (1) {
    for my $socket ($select->can_read) {
        exit if $socket == \*STDIN;
        if ($socket == $listener) {
            my $accepted = $listener->accept or next;
            $accepted->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
            $select->add($accepted);
            $peers{$accepted} = { handshake => Protocol::WebSocket::Handshake::Server->new };
        }
        elsif (!readable($socket, $peers{$socket})) {
            $select->remove($socket);
            delete $peers{$socket};
            close $socket;
        }
    }
}

# Processes the bytes of a client; returns false if the connection has ended.
sub readable {
    my ($socket, $peer) = @_;
    sysread $socket, my $bytes, 8192 or return 0;
    if (!$peer->{frames}) {
        my $handshake = $peer->{handshake};
        $handshake->parse($bytes) or return 0;
        return 1 unless $handshake->is_done;
        write_all($socket, $handshake->to_string);
        $peer->{frames} = $handshake->build_frame(max_payload_size => 1 << 20);
        return 1;
    }
    my $frames = $peer->{frames};
    $frames->append($bytes);
    while (defined(my $payload = $frames->next_bytes)) {
        my $reply = sub {
            my $frame = $peer->{handshake}->build_frame(
                type             => $_[0],
                buffer           => $_[1],
                max_payload_size => 0,
            );
            write_all($socket, $frame->to_bytes);
        };
        if ($frames->is_text) {
            # Decodes as for a handler, and encodes as in send_utf8.
            my $text = Encode::decode('UTF-8', $payload);
            $reply->(text => Encode::encode('UTF-8', $text));
        }
        elsif ($frames->is_binary) {
            $reply->(binary => $payload);
        }
        elsif ($frames->is_close) {
            $reply->(close => $payload);
            return 0;
        }
    }
    return 1;
}

sub write_all {
    my ($socket, $bytes) = @_;
    while (length $bytes) {
        my $count = syswrite($socket, $bytes) or return;
        substr $bytes, 0, $count, '';
    }
}
