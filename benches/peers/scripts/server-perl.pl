#!/usr/bin/env perl
# Net::WebSocket::Server, following the synopsis of its documentation. Needs that module and
# Protocol::WebSocket, from CPAN. The command line is that of the servers in Rust; see
# src/server.rs.
use strict;
use warnings;

use Getopt::Long;
use IO::Socket::INET;

sub refuse {
    print STDERR "$_[0]\n";
    exit 64;
}

my ($listen, $mode, $max_message) = ('', 'echo', 64 << 20);
{
    local $SIG{__WARN__} = sub { chomp(my $problem = $_[0]); refuse($problem) };
    # Net::WebSocket::Server always reads 8 KiB at a time, so --read-buffer is ignored.
    GetOptions(
        'listen=s'      => \$listen,
        'mode=s'        => \$mode,
        'max-message=i' => \$max_message,
        'read-buffer=i' => \my $ignored,
    );
}
my ($host, $port) = $listen =~ /^(.+):(\d+)$/ or refuse('--listen ADDRESS is missing');
refuse("unknown mode $mode") unless $mode eq 'echo' || $mode eq 'broadcast';
eval { require Net::WebSocket::Server; 1 } or refuse('Net::WebSocket::Server is not installed');

my %echo = (
    utf8   => sub { my ($conn, $msg) = @_; $conn->send_utf8($msg) },
    binary => sub { my ($conn, $msg) = @_; $conn->send_binary($msg) },
);
my %broadcast = (
    utf8   => sub { my ($conn, $msg) = @_; $_->send_utf8($msg) for ready($conn) },
    binary => sub { my ($conn, $msg) = @_; $_->send_binary($msg) for ready($conn) },
);

# Returns the connections that have completed the handshake.
sub ready {
    my ($conn) = @_;
    return grep { $_->is_ready } $conn->server->connections;
}

my $socket = IO::Socket::INET->new(
    Listen    => 4096,
    LocalAddr => $host,
    LocalPort => $port,
    Proto     => 'tcp',
    ReuseAddr => 1,
) or refuse("cannot listen on $listen: $!");

$| = 1;
$SIG{PIPE} = 'IGNORE';    # otherwise a write to a closed connection ends the server
print "listening $host:", $socket->sockport, "\n";

Net::WebSocket::Server->new(
    listen      => $socket,
    silence_max => 0,
    on_connect  => sub {
        my ($server, $conn) = @_;
        $conn->max_recv_size($max_message);
        $conn->max_send_size($max_message);
        $conn->on($mode eq 'echo' ? %echo : %broadcast);
    },
)->start;
