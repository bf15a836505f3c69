//! Perl programs for Net::WebSocket::Server, and what becomes of them.
//!
//! ```text
//! cargo run --release --example porting echo|broadcast|full [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9005` unless given. To try it, open the console of a browser:
//!
//! ```text
//! ws = new WebSocket("ws://127.0.0.1:9005/")
//! ws.onmessage = event => console.log(event.data)
//! ws.send("hello")
//! ```
//!
//! Each function has its Perl above it; the handlers stand in the same order. What differs:
//!
//! - Handlers are registered one by one: `on(Utf8, ...)`. Those of the server get a hub, those of a
//!   connection the connection, and what is not needed of what happened is `()` or `_`.
//! - A `die` in Perl ends the server. An error or a panic here is logged, and closes the connection
//!   with 1011.
//! - A refused handshake is answered with 403, not by hanging up.
//! - `silence_max` pings, as in Perl; beyond twice of it a dead peer is closed, unless
//!   `idle_timeout` is set to zero.
//! - Pings of a client are answered.

use std::io::BufRead;
use std::time::Duration;
use std::{env, io, thread};

use wsloop::event::{Binary, Connect, Disconnect, Handshake, Pong, Ready, Shutdown, Tick, Utf8};
use wsloop::{Builder, CloseCode, Result, Server};

fn main() -> Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    let which = args.next();
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9005".into());
    let builder = Server::builder().listen(address.as_str());
    match which.as_deref() {
        Some("echo") => echo(builder),
        Some("broadcast") => broadcast(builder),
        Some("full") => full(builder),
        _ => {
            eprintln!("usage: porting echo|broadcast|full [ADDRESS]");
            std::process::exit(2);
        }
    }
}

// Sends each text back to where it came from.
//
//     Net::WebSocket::Server->new(
//         listen => 9005,
//         on_connect => sub {
//             my ($serv, $conn) = @_;
//             $conn->on(
//                 utf8 => sub {
//                     my ($conn, $msg) = @_;
//                     $conn->send_utf8($msg);
//                 },
//             );
//         },
//     )->start;
fn echo(builder: Builder) -> Result<()> {
    let server = builder
        .on(Connect, |conn, ()| {
            conn.on(Utf8, |conn, msg| conn.send_utf8(msg));
        })
        .build()?;
    start(server)
}

// Sends each text to everybody, and a count every second. The counter of the texts is the
// connection's own: `my $texts` of its closure. That of the ticks is the server's.
//
//     my $ticks = 0;
//     Net::WebSocket::Server->new(
//         listen => 9005,
//         tick_period => 1,
//         on_tick => sub {
//             my ($serv) = @_;
//             $ticks++;
//             $_->send_utf8("tick $ticks") for $serv->connections;
//         },
//         on_connect => sub {
//             my ($serv, $conn) = @_;
//             my $texts = 0;
//             $conn->on(
//                 utf8 => sub {
//                     my ($conn, $msg) = @_;
//                     $texts++;
//                     $_->send_utf8("$texts: $msg") for $conn->server->connections;
//                 },
//             );
//         },
//     )->start;
fn broadcast(builder: Builder) -> Result<()> {
    let mut ticks = 0;
    let server = builder
        .tick_period(Duration::from_secs(1))
        .on(Tick, move |serv, _| {
            ticks += 1;
            serv.broadcast_utf8(&format!("tick {ticks}"))
        })
        .on(Connect, |conn, ()| {
            let mut texts = 0;
            conn.on(Utf8, move |conn, msg| {
                texts += 1;
                conn.server().broadcast_utf8(&format!("{texts}: {msg}"))
            });
        })
        .build()?;
    start(server)
}

// Every handler that there is. Only pages of one origin may connect. A line on standard input ends
// the server, with a farewell.
//
//     my $origin = 'http://example.com';
//     Net::WebSocket::Server->new(
//         listen => 9005,
//         silence_max => 30,
//         watch_readable => [
//             \*STDIN => sub {
//                 my ($serv, $fh) = @_;
//                 $serv->shutdown if defined <$fh>;
//             },
//         ],
//         on_shutdown => sub {
//             my ($serv) = @_;
//             $_->send_utf8('good bye') for $serv->connections;
//         },
//         on_connect => sub {
//             my ($serv, $conn) = @_;
//             $conn->max_recv_size(1000);
//             $conn->on(
//                 handshake => sub {
//                     my ($conn, $handshake) = @_;
//                     $conn->disconnect unless $handshake->req->origin eq $origin;
//                 },
//                 ready => sub {
//                     my ($conn) = @_;
//                     $conn->send_utf8('hello ' . $conn->ip);
//                 },
//                 utf8 => sub {
//                     my ($conn, $msg) = @_;
//                     return $conn->disconnect(4000, 'as you wish') if $msg eq 'quit';
//                     $conn->send_utf8($msg);
//                 },
//                 binary => sub {
//                     my ($conn, $bytes) = @_;
//                     $conn->send_binary($bytes);
//                 },
//                 pong => sub {
//                     my ($conn, $bytes) = @_;
//                     print $conn->port, " is alive\n";
//                 },
//                 disconnect => sub {
//                     my ($conn, $code, $reason) = @_;
//                     print $conn->port, " has left: ", $code // 'no close frame', "\n";
//                 },
//             );
//         },
//     )->start;
fn full(builder: Builder) -> Result<()> {
    let origin = "http://example.com";
    let server = builder
        .silence_max(Duration::from_secs(30))
        .on(Shutdown, |serv, ()| serv.broadcast_utf8("good bye"))
        .on(Connect, move |conn, ()| {
            conn.set_max_recv_size(1000);
            conn.on(Handshake, move |_, upgrade| {
                upgrade.request().origin() == Some(origin)
            });
            conn.on(Ready, |conn, ()| {
                let ip = conn.ip().map_or_else(String::new, |ip| ip.to_string());
                conn.send_utf8(&format!("hello {ip}"))
            });
            conn.on(Utf8, |conn, msg| {
                if msg == "quit" {
                    return conn.disconnect(4000, "as you wish");
                }
                conn.send_utf8(msg).map(drop)
            });
            conn.on(Binary, |conn, bytes| conn.send_binary(bytes));
            conn.on(Pong, |conn, _| println!("{} is alive", conn.id()));
            conn.on(Disconnect, |conn, why| {
                // Those that the handshake refused are told of as well, as in Perl.
                match why.code {
                    CloseCode::ABNORMAL => println!("{} has left: no close frame", conn.id()),
                    code => println!("{} has left: {code}", conn.id()),
                }
            });
        })
        .build()?;
    // A watch of standard input is a thread with a handle.
    let handle = server.handle();
    thread::spawn(move || {
        if let Some(Ok(_)) = io::stdin().lock().lines().next() {
            let _ = handle.shutdown(); // it fails if the server is gone, which is as well
        }
    });
    start(server)
}

/// Tells where the server listens, and runs it.
fn start(mut server: Server) -> Result<()> {
    if let Some(addr) = server.local_addr() {
        eprintln!("listening on {addr}");
    }
    server.start()
}
