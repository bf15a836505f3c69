#!/usr/bin/env perl
# Writes an opening handshake of Protocol::WebSocket, reads the response until the end of its input,
# and prints whether the library accepts it, wherever it is cut.

use strict;
use warnings;

use Protocol::WebSocket::Handshake::Client;
use Protocol::WebSocket::Response;

alarm 60;
$| = 1;
binmode STDIN;
binmode STDOUT;

sub handshake {
    my $handshake = Protocol::WebSocket::Handshake::Client->new(
        url => 'wss://example.com:8443/chat?room=7',
    );
    $handshake->req->subprotocol('chat, superchat');
    $handshake->req->cookies('a=1; b="x y"; c');
    return $handshake;
}

my $request = handshake()->to_string;
print $request;
# A frame follows the response immediately.
my $frame  = "\x81\x05hello";
my $answer = do { local $/; <STDIN> } . $frame;

my ($key) = $request =~ /^Sec-WebSocket-Key: (.*?)\r$/m;
my %proof = @{ Protocol::WebSocket::Response->new(
    version => 'draft-ietf-hybi-17',
    key     => $key,
)->headers };
my ($right, $wrong) = (0, 0);
for my $cut (0 .. length $answer) {
    my $handshake = handshake();
    my @parts = (substr($answer, 0, $cut), substr($answer, $cut));
    my $rest = '';
    for my $part (@parts) {
        # parse removes the head from its argument.
        $handshake->parse($part) or last if !$handshake->is_done;
        $rest .= $part if $handshake->is_done;
    }
    my $response = $handshake->res;
    my $taken = $handshake->is_done
        && $rest eq $frame
        && $response->field('Upgrade') eq 'websocket'
        && $response->field('Connection') eq 'Upgrade'
        && $response->field('Sec-WebSocket-Accept') eq $proof{'Sec-WebSocket-Accept'}
        && $response->subprotocol eq 'superchat'
        && $response->field('X-Custom') eq 'kept: as it is';
    $taken ? $right++ : $wrong++;
}
print "right $right wrong $wrong\n";
