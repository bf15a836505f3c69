#!/usr/bin/perl
# A club: whoever is a member and comes from its own pages may talk to the others. A program for
# WebSocket::Server and WebSocket::Connection; ../members.rs is the same in Rust.
#
#     perl members.pl [PORT]
use strict;
use warnings;
use WebSocket qw( :ws );
use WebSocket::Server;

my $port   = shift // 9007;
my $origin = 'https://club.example';
my %member = (a1 => 'ada', b2 => 'bob', e3 => 'eve');
my %banned = map { $_ => 1 } qw( 127.0.0.66 );
my $seats  = 2;

my $ws = WebSocket::Server->new(
    port          => $port,
    subprotocol   => 'club.v2 club.v1',
    silence_max   => 30,
    on_shutdown   => sub {
        my ($serv) = @_;
        $_->send_utf8('* the club closes') for $serv->connections;
    },
    # The TCP connection is up. A defined but false value refuses.
    on_connect => sub {
        my ($serv, $conn) = @_;
        return 0 if $banned{ $conn->ip };
        $conn->max_recv_size(1000);
        $conn->on(
            origin => sub {
                my ($conn, $from) = @_;
                return $from eq $origin ? 1 : 0;    # 0 is a 403
            },
            handshake => sub {
                my ($conn, $handshake) = @_;
                my $req = $handshake->request;
                unless ($req->uri->path eq '/club') {
                    $conn->http_error(404);
                    return 0;
                }
                my $key  = $req->cookies->get('key');
                my $name = $key && $member{ $key->value };
                unless ($name) {
                    $conn->http_error({
                        code    => 401,
                        body    => 'members only',
                        headers => [ 'WWW-Authenticate' => 'Cookie' ],
                    });
                    return 0;
                }
                if ($serv->connections->length >= $seats) {
                    $conn->http_error(503, 'No Seat', 'the club is full');
                    return 0;
                }
                $conn->metadata({ name => $name, said => 0 });
                $handshake->response->headers->header('X-Member' => $name);
                $handshake->response->cookies->add({ name => 'seen', value => 'yes', path => '/' });
                return 1;
            },
            ready => sub {
                my ($conn) = @_;
                my $name  = $conn->metadata->{name};
                my $proto = $conn->subprotocol->first // 'none';
                $conn->send_utf8("welcome, $name ($proto)");
            },
            utf8 => sub {
                my ($conn, $text) = @_;
                return $conn->disconnect(4000, 'as you wish') if $text eq '/quit';
                return $conn->shutdown if $text eq '/cut';
                return $serv->shutdown if $text eq '/close';
                $conn->metadata->{said}++;
                my $name = $conn->metadata->{name};
                $_->send_utf8("$name: $text") for $serv->connections;
            },
            binary => sub {
                my ($conn, $bytes) = @_;
                $conn->disconnect(WS_NOT_ACCEPTABLE, 'text only');
            },
            # A defined but false value suppresses the pong.
            ping => sub {
                my ($conn, $payload) = @_;
                return $payload eq 'quiet' ? 0 : 1;
            },
            pong => sub {
                my ($conn, $payload) = @_;
                print $conn->metadata->{name}, " is there\n";
            },
            disconnect => sub {
                my ($conn, $code, $reason) = @_;
                my $who = $conn->metadata or return;
                my ($name, $said) = @$who{qw( name said )};
                $code //= WS_CLOSED_ABNORMALLY;
                print "$name said $said things and left: $code\n";
                $_->send_utf8("* $name has left") for $serv->connections;
            },
        );
    },
) || die WebSocket::Server->error;

$ws->start || die $ws->error;
