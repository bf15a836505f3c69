package Peer;

# One end of a connection, with the frames of Protocol::WebSocket. The clients of this directory
# share it.

use strict;
use warnings;

use IO::Socket::INET;
use Protocol::WebSocket::Frame;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

my %NAMES = reverse %Protocol::WebSocket::Frame::TYPES;

# Connects to a port of this machine.
sub connect {
    my ($class, $port) = @_;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $port,
        Proto    => 'tcp',
    ) or die "connect: $@";
    $socket->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1) or die "TCP_NODELAY: $!";
    # The server enforces its own limits; 0 disables the limit of the library.
    my $frames = Protocol::WebSocket::Frame->new(max_payload_size => 0);
    return bless { socket => $socket, frames => $frames }, $class;
}

# Writes bytes, $piece at a time.
sub write {
    my ($self, $bytes, $piece) = @_;
    $piece ||= length $bytes < 1000 ? 1 : 4093;
    for (my $at = 0; $at < length $bytes; $at += $piece) {
        my $part = substr $bytes, $at, $piece;
        while (length $part) {
            my $count = syswrite $self->{socket}, $part;
            die "write: $!" unless defined $count;
            substr $part, 0, $count, '';
        }
    }
}

# Reads available bytes; returns '' at the end of the stream.
sub read {
    my $self = shift;
    my $count = sysread $self->{socket}, my $bytes, 8192;
    die "read: $!" unless defined $count;
    return $bytes;
}

# Performs the opening handshake of a Protocol::WebSocket::Handshake::Client; dies if it fails.
sub upgrade {
    my ($self, $handshake) = @_;
    $self->write($handshake->to_string, 7);
    while (!$handshake->is_done) {
        my $bytes = $self->read;
        die 'the server closed' if $bytes eq '';
        $handshake->parse($bytes) or die $handshake->error;
        $self->{frames}->append($bytes);
    }
}

# Sends a masked frame.
sub send {
    my ($self, $type, $payload, %args) = @_;
    $self->write(frame($type, $payload, %args));
}

# Makes the bytes of a masked frame.
sub frame {
    my ($type, $payload, %args) = @_;
    return Protocol::WebSocket::Frame->new(
        type             => $type,
        buffer           => $payload,
        masked           => 1,
        max_payload_size => 0,
        %args,
    )->to_bytes;
}

# Returns the type and the payload of the server's next frame, or nothing at the end of the stream.
sub receive {
    my $self = shift;
    my $frames = $self->{frames};
    while (1) {
        # The library already uses a length of eight bytes when only four of them have arrived.
        my $second = unpack 'x C', $frames->{buffer} . "\0\0";
        if (length $frames->{buffer} >= (($second & 127) == 127 ? 10 : 2)) {
            my $payload = $frames->next_bytes;
            if (defined $payload) {
                die 'a server must not mask' if $frames->masked;
                return ($NAMES{$frames->opcode}, $payload);
            }
        }
        my $bytes = $self->read;
        return if $bytes eq '';
        $frames->append($bytes);
    }
}

# Describes the server's next frame in words.
sub answer {
    my $self = shift;
    my ($type, $payload) = $self->receive or return 'the end';
    return "$type $payload" unless $type eq 'close';
    return 'close' unless length $payload;
    return sprintf 'close %d %s', unpack 'n a*', $payload;
}

1;
