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
//! Each line on standard input is broadcast. The server answers `quit` with a Close frame.
//! Differences from the Perl:
//!
//! - `on` registers a handler for an event; an unused argument is `()` or `_`. A loop over
//!   `connections` becomes a broadcast, which encodes the message once.
//! - A refused handshake is answered with 403; Perl closes the connection.
//! - A `die` ends the Perl server. Here an error or a panic is logged and closes the connection
//!   with 1011.
//! - A thread reads standard input, so that it may be a file or `/dev/null` as well, which epoll
//!   cannot watch and which a service often has. Its end does not end the server: a service would
//!   end at once. For sockets and pipes `watch_readable` is what it is in Perl.
//! - The server answers pings. It closes a client that sends nothing, not even a pong, for twice
//!   `silence_max`, unless `idle_timeout` is zero.
//! - Refused clients cause a `Disconnect`, too, as in Perl.

mod logger;
mod signals;

use std::io::{self, BufRead};
use std::time::Duration;
use std::{env, thread};

use wsloop::event::{Binary, Connect, Disconnect, Handshake, Pong, Ready, Shutdown, Tick, Utf8};
use wsloop::{CloseCode, Server};

fn main() -> wsloop::Result<()> {
    logger::init();
    let address = env::args().nth(1);
    let origin = "http://example.com";

    let mut ticks = 0;
    let mut server = Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9006"))
        .silence_max(Duration::from_secs(30))
        .tick_period(Duration::from_secs(1))
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
                conn.server().broadcast_utf8(&format!("{texts}: {msg}"))
            });
            conn.on(Binary, |conn, bytes| conn.server().broadcast_binary(bytes));
            conn.on(Pong, |conn, _| println!("{} is alive", conn.id()));
            conn.on(Disconnect, |conn, why| match why.code {
                CloseCode::ABNORMAL => println!("{} has left: no close frame", conn.id()),
                code => println!("{} has left: {code}", conn.id()),
            });
        })
        .build()?;

    let handle = server.handle();
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            // An error means that the server has ended.
            if handle.broadcast_utf8(&format!("operator: {line}")).is_err() {
                return;
            }
        }
    });
    signals::wind_down_on_signals(server.handle())?;
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}
