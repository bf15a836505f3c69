#!/usr/bin/env perl
# Reads a server's frames, and writes each message back masked, as a client would: data messages in
# FRAGMENTS fragments, with a ping after each but the last. Usage: mirror.pl FRAGMENTS <frames
# >frames

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use Peer;
use Protocol::WebSocket::Frame;

alarm 60;
my ($fragments) = @ARGV;
binmode STDIN;
binmode STDOUT;

my %names  = reverse %Protocol::WebSocket::Frame::TYPES;
my $frames = Protocol::WebSocket::Frame->new(max_payload_size => 0);
$frames->append(do { local $/; <STDIN> });
while (defined(my $payload = $frames->next_bytes)) {
    die 'a server must not mask' if $frames->masked;
    die 'a reserved bit is set' if grep { $_ } @{ $frames->rsv };
    my $type  = $names{ $frames->opcode };
    my $count = $frames->is_text || $frames->is_binary ? $fragments : 1;
    my $size  = int((length($payload) + $count - 1) / $count);
    for my $at (1 .. $count) {
        my $part = $at < $count ? substr($payload, 0, $size, '') : $payload;
        print Peer::frame($at == 1 ? $type : 'continuation', $part, fin => $at == $count ? 1 : 0);
        print Peer::frame('ping', "after $at") if $at < $count;
    }
}
die 'bytes are left over' if length $frames->{buffer};
