#!/usr/bin/perl
# A notice board: notes are put up by HTTP or by WebSocket, and come to everybody who has it open.
# A program for UniEvent::WebSocket; ../board.rs is the same in Rust.
#
#     perl board.pl [PORT]
use strict;
use warnings;
use UniEvent;
use UniEvent::HTTP;
use UniEvent::WebSocket;
use Protocol::WebSocket::Fast;

use constant NOTES_MAX => 100;
use constant NOTE_MAX  => 4096;
use constant NAME_MAX  => 30;

my $port = shift // 9008;
my @notes;
my %reader;    # id => { name, posted }

my $loop   = UniEvent::Loop->default_loop;
my $server = UniEvent::WebSocket::Server->new({
    locations        => [ { host => '127.0.0.1', port => $port, reuse_port => 0, tcp_nodelay => 1 } ],
    max_body_size    => NOTE_MAX,
    max_message_size => NOTE_MAX,
    check_utf8       => 1,
    shutdown_timeout => 2,
    deflate          => { compression_threshold => 512 },
}, $loop);

sub post {
    my ($note) = @_;
    shift @notes if @notes == NOTES_MAX;
    push @notes, $note;
    $_->send_text($note) for values %{ $server->connections };
}

# All connections count together.
my $counter = UniEvent::WebSocket::Connection::StatsCounter->new;

sub stats {
    return sprintf '{"readers":%d,"notes":%d,"messages_in":%d,"messages_out":%d}',
        scalar(keys %reader), scalar(@notes), $counter->msgs_in, $counter->msgs_out;
}

# Plain requests on the same port. What asks for an upgrade is left alone, and upgraded.
$server->http->request_callback(sub {
    my ($request) = @_;
    return if lc($request->header('Upgrade') // '') eq 'websocket';
    my ($method, $path) = ($request->method_str, $request->uri->path);
    my $answer = sub {
        my ($code, $body) = @_;
        $request->respond(UniEvent::HTTP::ServerResponse->new({ code => $code, body => $body // '' }));
    };
    return $answer->(200, join '', map {"$_\n"} @notes) if $method eq 'GET' && $path eq '/notes';
    return $answer->(200, stats()) if $method eq 'GET' && $path eq '/stats';
    # A web page of any origin could send these; a page says where it is from.
    return $answer->(403) if $method eq 'POST' && length $request->header('Origin');
    if ($method eq 'POST' && $path eq '/notes') {
        post($request->body);
        return $answer->(201);
    }
    if ($method eq 'POST' && $path eq '/stop') {
        $answer->(202);
        return $server->stop(1012);
    }
    $answer->(404);
});

# Good requests and bad ones.
$server->handshake_callback(sub {
    my ($server, $conn, $request) = @_;
    if (my $error = $request->error) {
        print "bad request: $error\n";
        return;    # the default answer follows
    }
    return $conn->send_accept_error({ code => 404, body => 'no such board' })
        unless $request->uri->path eq '/board';
    my $name = $request->uri->query->{name} // '';
    return $conn->send_accept_error({ code => 400, message => 'No Name', body => 'who are you?' })
        unless length $name && length $name <= NAME_MAX;
    $reader{ $conn->id } = { name => $name, posted => 0 };
    $conn->send_accept_response({ headers => { 'X-Notes' => scalar @notes } });
});

$server->connection_callback(sub {
    my ($server, $conn, $request) = @_;
    $conn->stats_counter($counter);
    $conn->send_text("hello $reader{ $conn->id }{name}");
    $conn->message_callback(sub {
        my ($conn, $message) = @_;
        return $conn->close(1003, 'text only') if $message->opcode != OPCODE_TEXT;
        my $text = $message->payload;
        my $data = $reader{ $conn->id };
        if ($text eq 'all') {
            # One message, in a frame for each note.
            $conn->message->opcode(OPCODE_TEXT)->send_multiframe([ map {"$_\n"} @notes ]);
        }
        elsif ($text eq 'archive') {
            # Compressed whatever its size; told when it has been written.
            $conn->message->opcode(OPCODE_TEXT)->deflate(1)->cb(sub {
                my ($conn, $error) = @_;
                print "$data->{name} has the archive\n" unless $error;
            })->send(join '', map {"$_\n"} @notes);
        }
        else {
            $data->{posted}++;
            post("$data->{name}: $text");
        }
    });
    # After the automatic pong.
    $conn->ping_callback(sub { print "$reader{ $_[0]->id }{name} asks\n" });
    # Answered with the same code and text, unless this closes.
    $conn->peer_close_callback(sub {
        my ($conn, $message) = @_;
        $conn->close(4002, 'come back') if $message && $message->close_code == 4001;
    });
    $conn->error_callback(sub {
        my ($conn, $error) = @_;
        print "$reader{ $conn->id }{name}: $error\n";
    });
});

$server->disconnection_callback(sub {
    my ($server, $conn, $code, $payload) = @_;
    my $data = delete $reader{ $conn->id };
    print "$data->{name} put up $data->{posted} and left: $code\n";
});

my $timer = UniEvent::Timer->new($loop);
$timer->callback(sub {
    my $rates = $counter->fetch(60);
    printf "%.1f messages/s in, %.1f out\n", $rates->msgs_in, $rates->msgs_out;
});
$timer->start(60);

$server->run;
$loop->run;
