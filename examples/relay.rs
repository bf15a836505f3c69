//! Broadcasts each client's messages and the lines of standard input. This is a program for
//! Net::WebSocket::Server, ported handler by handler; the Perl original is perl/relay.pl.
//!
//! ```text
//! cargo run --release --example relay [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9006` unless given. Only pages of `http://example.com` may connect. A
//! client that is not a browser can send that origin, too:
//!
//! ```text
//! curl -i -N -H 'Origin: http://example.com' -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
//!     -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
//!     http://127.0.0.1:9006/ --output -
//! ```
//!
//! Each line on standard input, a terminal or a pipe, is broadcast; its end (Ctrl-D) shuts the
//! server down. The server answers `quit` with a Close frame. Differences from the Perl:
//!
//! - `on` registers a handler for an event; an unused argument is `()` or `_`. A loop over
//!   `connections` becomes a broadcast, which encodes the message once.
//! - A refused handshake is answered with 403; Perl closes the connection.
//! - A `die` ends the Perl server. Here an error or a panic is logged and closes the connection
//!   with 1011; in the watch of standard input it ends that watch.
//! - The server answers pings. It closes a client that sends nothing, not even a pong, for twice
//!   `silence_max`, unless `idle_timeout` is zero.
//! - Refused clients cause a `Disconnect`, too, as in Perl.

mod signals;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;
use std::{env, mem};

use wsloop::event::{Binary, Connect, Disconnect, Handshake, Pong, Ready, Shutdown, Tick, Utf8};
use wsloop::{CloseCode, Descriptor, Server};

fn main() -> wsloop::Result<()> {
    env_logger::init();
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9006".into());
    let origin = "http://example.com";

    let mut ticks = 0;
    let mut typed = Vec::new();
    // Reads the descriptor itself: epoll does not see bytes in the buffer of `Stdin`.
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);

    let mut server = Server::builder()
        .listen(address.as_str())
        .silence_max(Duration::from_secs(30))
        .tick_period(Duration::from_secs(1))
        .watch_readable(Descriptor(stdin), move |serv, watched| {
            let mut bytes = [0; 4096];
            let size = watched.source.0.read(&mut bytes)?;
            if size == 0 {
                serv.unwatch(watched.id);
                serv.shutdown();
            }
            typed.extend_from_slice(&bytes[..size]);
            while let Some(end) = typed.iter().position(|byte| *byte == b'\n') {
                let rest = typed.split_off(end + 1);
                let line = mem::replace(&mut typed, rest);
                let line = String::from_utf8_lossy(&line[..end]);
                serv.broadcast_utf8(&format!("operator: {line}"))
                    .map_err(io::Error::other)?;
            }
            Ok::<_, io::Error>(())
        })
        .on(Tick, move |serv, _| {
            ticks += 1;
            serv.broadcast_utf8(&format!("up for {ticks} s"))
        })
        .on(Shutdown, |serv, ()| serv.broadcast_utf8("good bye"))
        .on(Connect, move |conn, ()| {
            let mut texts = 0;
            conn.set_max_recv_size(1000);
            conn.on(Handshake, move |_, handshake| {
                handshake.request().origin() == Some(origin)
            });
            conn.on(Ready, |conn, ()| {
                let ip = conn.ip().map_or_else(String::new, |ip| ip.to_string());
                conn.send_utf8(&format!("hello {ip}"))
            });
            conn.on(Utf8, move |conn, msg| {
                if msg == "quit" {
                    return conn.disconnect(4000, "as you wish");
                }
                texts += 1;
                conn.server()
                    .broadcast_utf8(&format!("{texts}: {msg}"))
                    .map(drop)
            });
            conn.on(Binary, |conn, bytes| conn.server().broadcast_binary(bytes));
            conn.on(Pong, |conn, _| println!("{} is alive", conn.id()));
            conn.on(Disconnect, |conn, why| match why.code {
                CloseCode::ABNORMAL => println!("{} has left: no close frame", conn.id()),
                code => println!("{} has left: {code}", conn.id()),
            });
        })
        .build()?;
    signals::drain_on_signals(server.handle())?;
    if let Some(addr) = server.local_addr() {
        eprintln!("listening on {addr}");
    }
    server.start()
}
