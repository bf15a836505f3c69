# Mojolicious' client.
use strict;
use warnings;
use utf8;
use FindBin;
use lib $FindBin::Bin;
use Checks;
use Mojo::IOLoop;
use Mojo::JSON 'decode_json';
use Mojo::UserAgent;

my $agent = Mojo::UserAgent->new(max_connections => 0);
$agent->ca($AUTHORITY);
$agent->transactor->name('interop');

# Connects, and collects what comes.
sub ready {
    my ($name, $path, %headers) = @_;
    my ($client, @events);
    $agent->websocket(url($name, $path) => {%headers} => ['interop'] => sub {
        my (undef, $tx) = @_;
        unless ($tx->is_websocket) { push @events, 'refused ' . $tx->res->code; return }
        $client = $tx;
        $tx->max_websocket_size(2 << 20);
        $tx->on(text   => sub { push @events, "text $_[1]" });
        $tx->on(binary => sub { push @events, "binary $_[1]" });
        $tx->on(frame  => sub { my $frame = $_[1]; push @events, "pong $frame->[5]" if $frame->[4] == 10 });
        $tx->on(finish => sub { push @events, "finish $_[1] " . ($_[2] // '') });
    });
    my $next = sub { Mojo::IOLoop->one_tick until @events; shift @events };
    return ($client, $next) if ($path // '') eq '/refused';
    my $welcome = $next->();
    expect(Encode::decode('UTF-8', $welcome), 'text welcome');
    expect($client->protocol, 'interop');
    return ($client, $next);
}

check(text => sub {
    my ($client, $next) = ready('text');
    $client->send({text => Encode::encode('UTF-8', $TEXT)});
    expect(Encode::decode('UTF-8', $next->()), "text $TEXT");
    $client->finish;
});
for (['binary', $BYTES], ['large', $LARGE]) {
    my ($name, $bytes) = @$_;
    check($name => sub {
        my ($client, $next) = ready($name);
        $client->send({binary => $bytes});
        expect($next->(), "binary $bytes");
        $client->finish;
    });
}
check(fragments => sub {
    my ($client, $next) = ready('fragments', '/fragments');
    $client->send([0, 0, 0, 0, 1, 'ab']);
    $client->send([0, 0, 0, 0, 0, 'cd']);
    $client->send([1, 0, 0, 0, 0, 'ef']);
    expect($next->(), 'text 3 pieces, 6 bytes');
    $client->finish;
});
check(compression => sub {
    my ($client, $next) = ready('compression', '/', 'Sec-WebSocket-Extensions' => 'permessage-deflate');
    $client->send({text => $LONG});
    expect($next->(), "text $LONG");
    $client->send({text => '/info'});
    expect_compressed(decode_json($next->() =~ s/^text //r));
    $client->finish;
});
check(ping => sub {
    my ($client, $next) = ready('ping');
    $client->send([1, 0, 0, 0, 9, 'hello?']);
    expect($next->(), 'pong hello?');
    $client->finish;
});
check(pong => sub {
    my ($client, $next) = ready('pong');
    $client->send({text => '/ping are you there?'});
    expect($next->(), 'text pong are you there?');
    $client->finish;
});
check(close => sub {
    my ($client, $next) = ready('close');
    $client->finish(4002 => 'bye');
    # It reports its own Close.
    expect($next->(), 'finish 4002 bye');
});
check(closed => sub {
    my ($client, $next) = ready('closed');
    $client->send({text => '/close 4001 enough'});
    expect($next->(), 'finish 4001 enough');
});
check(refusal => sub {
    my (undef, $next) = ready('refusal', '/refused');
    expect($next->(), 'refused 403');
});
