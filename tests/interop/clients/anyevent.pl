# The client AnyEvent::WebSocket::Client.
use strict;
use warnings;
use utf8;
use FindBin;
use lib $FindBin::Bin;
use AnyEvent;
use AnyEvent::WebSocket::Client;
use Checks;

# Connects, and collects what comes.
sub ready {
    my ($name, $path) = @_;
    my $agent = AnyEvent::WebSocket::Client->new(
        ssl_ca_file => $AUTHORITY, subprotocol => ['interop'], timeout => $LIMIT, max_payload_size => 2 << 20,
    );
    my $client = $agent->connect(url($name, $path))->recv;
    my (@events, $waiting);
    my $push = sub { push @events, shift; $waiting->send if $waiting };
    $client->on(each_message => sub {
        my $message = $_[1];
        my $kind = $message->is_text ? 'text' : $message->is_binary ? 'binary' : 'other ' . $message->opcode;
        $push->("$kind " . ($message->is_text ? $message->decoded_body : $message->body));
    });
    $client->on(finish => sub {
        my ($ended) = @_;
        $push->('finish ' . ($ended->close_code // '') . ' ' . ($ended->close_reason // ''));
    });
    my $next = sub {
        until (@events) { $waiting = AE::cv; $waiting->recv }
        return shift @events;
    };
    expect($next->(), 'text welcome');
    return ($client, $next);
}

sub message { AnyEvent::WebSocket::Message->new(@_) }

check(text => sub {
    my ($client, $next) = ready('text');
    $client->send($TEXT);
    expect($next->(), "text $TEXT");
    $client->close;
});
for (['binary', $BYTES], ['large', $LARGE]) {
    my ($name, $bytes) = @$_;
    check($name => sub {
        my ($client, $next) = ready($name);
        $client->send(message(body => $bytes, opcode => 2));
        expect($next->(), "binary $bytes");
        $client->close;
    });
}
Checks::tell('fragments', 'none', 'its interface has no fragments');
Checks::tell('compression', 'none', 'it has none');
check(ping => sub {
    my ($client, $next) = ready('ping');
    $client->send(message(body => 'hello?', opcode => 9));
    $client->send('and go on');
    expect($next->(), 'text and go on');
    $client->close;
    return 'its API does not report pongs';
});
check(pong => sub {
    my ($client, $next) = ready('pong');
    $client->send('/ping are you there?');
    my $event = $next->();
    $event = $next->() if $event =~ /^other 9/;
    expect($event, 'text pong are you there?');
    $client->close;
});
check(close => sub {
    my ($client, $next) = ready('close');
    $client->close(4002, 'bye');
    my $event = $next->();
    $event = $next->() while $event !~ /^finish/;
    # It ends its side at once, and a proxy may end both then, before the answer has come.
    expect($event, 'finish 4002 bye') unless $event eq 'finish  ';
    return;
});
check(closed => sub {
    my ($client, $next) = ready('closed');
    $client->send('/close 4001 enough');
    my $event = $next->();
    $event = $next->() while $event !~ /^finish/;
    expect($event, 'finish 4001 enough');
});
check(refusal => sub {
    my $opened = eval { ready('refusal', '/refused'); 1 };
    die "it opened\n" if $opened;
    return if $@ =~ /403/;
    # Version 0.54 reports a second error, the end of TLS, to a promise that it has given up.
    return 'over TLS an error of the client itself hides the status' if $BASE =~ /^wss/ && $@ =~ /Can't call method "croak"/;
    die $@;
});
