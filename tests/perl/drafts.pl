#!/usr/bin/env perl
# A client of an old draft that the Perl library still supports. It prints the server's response,
# whether the library accepts it, and how the connection ends. Usage: drafts.pl PORT DRAFT

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use Peer;
use Protocol::WebSocket::Handshake::Client;

alarm 60;
$| = 1;
my ($port, $draft) = @ARGV;

my $handshake = Protocol::WebSocket::Handshake::Client->new(
    url     => "ws://127.0.0.1:$port/chat",
    version => $draft eq 'draft-hixie-76' ? 'draft-ietf-hybi-00' : $draft,
);
my $request = $handshake->to_string;
# Browsers of that draft did not announce the eight bytes after the head.
$request =~ s/Content-Length: 8\r\n// if $draft eq 'draft-hixie-76';

my $peer = Peer->connect($port);
$peer->write($request, length $request);
my $answer = '';
while ($answer !~ /\r\n\r\n/) {
    my $bytes = $peer->read;
    last if $bytes eq '';
    $answer .= $bytes;
}
my ($line) = $answer =~ /^(.*?)\r\n/;
print "$line\n";
my ($version) = $answer =~ /^Sec-WebSocket-Version: (.*?)\r$/m;
print "version $version\n" if defined $version;
my $copy = $answer;
print $handshake->parse($copy) && $handshake->is_done ? "taken\n" : "not taken\n";
if ($handshake->is_done) {
    $peer->write($handshake->build_frame(buffer => 'hello')->to_bytes);
    my $frames = $handshake->build_frame;
    my $text;
    until (defined $text) {
        my $bytes = $peer->read;
        die 'the server closed' if $bytes eq '';
        $frames->append($bytes);
        $text = $frames->next_bytes;
    }
    print "echo $text\n";
}
else {
    1 while $peer->read ne '';
    print "closed\n";
}
