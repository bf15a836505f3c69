#!/usr/bin/perl
# What a client says goes to everybody, and so does what is typed here: Net::WebSocket::Server with
# each of its options, methods and events. ../relay.rs is the same program in Rust.
#
#     perl relay.pl [PORT]
use strict;
use warnings;
use Net::WebSocket::Server;

my $port   = shift // 9006;
my $origin = 'http://example.com';

my $ticks = 0;
my $typed = '';

Net::WebSocket::Server->new(
    listen         => $port,
    silence_max    => 30,
    tick_period    => 1,
    watch_readable => [
        \*STDIN => sub {
            my ($serv, $fh) = @_;
            unless (sysread $fh, $typed, 4096, length $typed) {
                $serv->unwatch_readable($fh);
                return $serv->shutdown;
            }
            while ($typed =~ s/^(.*)\n//) {
                my $line = $1;
                $_->send_utf8("operator: $line") for $serv->connections;
            }
        },
    ],
    on_tick => sub {
        my ($serv) = @_;
        $ticks++;
        $_->send_utf8("up for $ticks s") for $serv->connections;
    },
    on_shutdown => sub {
        my ($serv) = @_;
        $_->send_utf8('good bye') for $serv->connections;
    },
    on_connect => sub {
        my ($serv, $conn) = @_;
        my $texts = 0;
        $conn->max_recv_size(1000);
        $conn->on(
            handshake => sub {
                my ($conn, $handshake) = @_;
                $conn->disconnect unless $handshake->req->origin eq $origin;
            },
            ready => sub {
                my ($conn) = @_;
                $conn->send_utf8('hello ' . $conn->ip);
            },
            utf8 => sub {
                my ($conn, $msg) = @_;
                return $conn->disconnect(4000, 'as you wish') if $msg eq 'quit';
                $texts++;
                $_->send_utf8("$texts: $msg") for $conn->server->connections;
            },
            binary => sub {
                my ($conn, $bytes) = @_;
                $_->send_binary($bytes) for $conn->server->connections;
            },
            pong => sub {
                my ($conn, $bytes) = @_;
                print $conn->port, " is alive\n";
            },
            disconnect => sub {
                my ($conn, $code, $reason) = @_;
                print $conn->port, ' has left: ', $code // 'no close frame', "\n";
            },
        );
    },
)->start;
