//! The two shortest programs for Net::WebSocket::Server, and their ports.
//!
//! ```text
//! cargo run --release --example porting echo|broadcast [ADDRESS]
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
//! Each function has the Perl original above it. Complete ports are relay (Net::WebSocket::Server),
//! members (WebSocket::Server) and board (UniEvent::WebSocket). docs/porting.md lists all methods,
//! options and events.

mod logger;

use std::env;
use std::time::Duration;

use wsloop::event::{Connect, Start, Tick, Utf8};
use wsloop::{Builder, Result, Server};

fn main() -> Result<()> {
    logger::init();
    let mut args = env::args().skip(1);
    let which = args.next();
    let address = args.next();
    let builder = Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9005"))
        .on(Start, |serv, ()| {
            eprintln!("listening on {:?}", serv.local_addrs())
        });
    match which.as_deref() {
        Some("echo") => echo(builder),
        Some("broadcast") => broadcast(builder),
        _ => {
            eprintln!("usage: porting echo|broadcast [ADDRESS]");
            std::process::exit(2);
        }
    }
}

// Sends each text back to its sender.
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
    builder
        .on(Connect, |conn, ()| {
            conn.on(Utf8, |conn, msg| conn.send_utf8(msg));
        })
        .run()
}

// Broadcasts each text, and a count every second. The counter of texts belongs to a connection:
// `my $texts` in its closure. The counter of ticks belongs to the server.
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
    builder
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
        .run()
}
