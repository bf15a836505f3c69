#!/usr/bin/env perl
# A client built with Protocol::WebSocket, like the clients of the Perl servers. It uses every
# feature that a client may use, in small writes, and prints the server's answers. Usage: client.pl
# PORT

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use Encode ();
use Peer;
use Protocol::WebSocket::Handshake::Client;
use Protocol::WebSocket::Request;
use Protocol::WebSocket::Response;

alarm 60;
$| = 1;
binmode STDOUT;
my ($port) = @ARGV;

sub handshake {
    my $request = Protocol::WebSocket::Request->new(headers => ['X-Custom' => 'kept as it is']);
    my $handshake = Protocol::WebSocket::Handshake::Client->new(
        url => "ws://127.0.0.1:$port/r%C3%A4ume/7?name=a%20b&x=1",
        req => $request,
    );
    $request->origin('http://example.com');
    $request->subprotocol('v9.chat, v1.chat, v2.chat');
    $request->cookies('user=me; theme=dark');
    # Without this call every to_string generates a new key.
    $request->key('dGhlIHNhbXBsZSBub25jZQ==');
    return $handshake;
}

# Sends a message, and prints whether it comes back.
sub echo {
    my ($peer, $type, $payload) = @_;
    $peer->send($type, $payload);
    printf "%s %d %s\n", $type, length $payload, returns($peer, $type, $payload);
}

sub returns {
    my ($peer, $type, $payload) = @_;
    my ($got, $bytes) = $peer->receive or return 'lost';
    return $got eq $type && $bytes eq $payload
        ? 'comes back'
        : "becomes $got of " . length $bytes;
}

my $handshake = handshake();
my $peer = Peer->connect($port);
$peer->upgrade($handshake);
# The library's client does not check this header; the library's server generates it.
my %proof = @{ Protocol::WebSocket::Response->new(
    version => 'draft-ietf-hybi-17',
    key     => $handshake->req->key,
)->headers };
my $response = $handshake->res;
my $accept = $response->field('Sec-WebSocket-Accept');
print 'accept ', ($accept eq $proof{'Sec-WebSocket-Accept'} ? 'right' : "wrong: $accept"), "\n";
print 'subprotocol ', $response->subprotocol, "\n";
print 'seen ', $response->field('X-Seen'), "\n";
print 'cookie ', $response->field('Set-Cookie'), "\n";

for my $size (0, 125, 126, 65_535, 65_536, 200_000) {
    echo($peer, 'binary', join '', map { chr($_ % 253) } 1 .. $size);
}
# Characters of one to four bytes, ten bytes in total.
my $chars = Encode::encode('UTF-8', "a\x{e9}\x{20ac}\x{1d11e}");
echo($peer, 'text', $chars x $_) for 0, 1, 12, 13, 6553, 6554, 20_000;

# A message in frames that cut its characters, with control frames in between.
$peer->send('text', "gr\xc3", fin => 0);
$peer->send('ping', 'inside');
$peer->send('continuation', '', fin => 0);
$peer->send('pong', 'not asked for');
$peer->send('continuation', "\xbc\xc3", fin => 0);
$peer->send('continuation', "\x9fe");
print 'fragments: ', $peer->answer, "\n" for 1 .. 2;
# More frames than the library itself would accept.
$peer->send('binary', '', fin => 0);
$peer->send('continuation', chr, fin => 0) for 1 .. 199;
$peer->send('continuation', chr 200);
print '201 fragments: ', returns($peer, 'binary', join '', map chr, 1 .. 200), "\n";

$peer->send('ping', '');
print 'ping: ', returns($peer, 'pong', ''), "\n";
$peer->send('ping', 'x' x 125);
print 'ping: ', returns($peer, 'pong', 'x' x 125), "\n";
$peer->send('text', 'ping');
my ($type, $payload) = $peer->receive;
print "server: $type $payload\n";
$peer->send('pong', $payload);
print 'server: ', $peer->answer, "\n";

# Several frames in one write, then the closing handshake.
$peer->write(join('', map { Peer::frame('text', "together $_") } 1 .. 3), 1000);
print $peer->answer, "\n" for 1 .. 3;
$peer->send('close', pack('n a*', 4000, "bye \xe2\x82\xac"));
print $peer->answer, "\n" for 1 .. 2;

# A close without a code.
$peer = Peer->connect($port);
$peer->upgrade(handshake());
$peer->send('close', '');
print 'no code: ', $peer->answer, "\n" for 1 .. 2;

# A close by the server.
$peer = Peer->connect($port);
$peer->upgrade(handshake());
$peer->send('text', 'close');
($type, $payload) = $peer->receive;
printf "server: %s %d %s\n", $type, unpack 'n a*', $payload;
$peer->send($type, $payload);
print 'server: ', $peer->answer, "\n";

# Faults that the library can send and no client should, each on its own connection.
for my $fault (
    ['unmasked',         'text',   'hello',      masked => 0],
    ['reserved bit 1',   'text',   'hello',      rsv    => [1, 0, 0]],
    ['reserved bit 3',   'binary', 'hello',      rsv    => [0, 0, 1]],
    ['no start',         'continuation', 'hello'],
    ['fragmented ping',  'ping',   'hello',      fin    => 0],
    ['long ping',        'ping',   'x' x 126],
    ['close of 1 byte',  'close',  "\x03"],
    ['close 1005',       'close',  "\x03\xed"],
    ['no UTF-8',         'text',   "caf\xe9"],
    ['above the limit',  'binary', 'x' x 200_001],
    )
{
    my ($name, @frame) = @$fault;
    my $bytes = Peer::frame(@frame);
    $peer = Peer->connect($port);
    $peer->upgrade(handshake());
    # The header of a large frame is enough for the server to reject it.
    $peer->write(length $bytes > 1000 ? substr($bytes, 0, 1000) : $bytes);
    my ($code) = $peer->answer =~ /^(close \d+)/;
    print "$name: ", $code || 'not closed', "\n";
}
