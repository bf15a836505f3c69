//! Sends every message back to its sender.
//!
//! ```text
//! cargo run --release --example echo [ADDRESS [shared|dedicated]]
//! ```
//!
//! The server compresses messages for clients that offer permessage-deflate: by default text from
//! 1,410 bytes on, with one compressor for all connections. With `shared` it compresses every
//! message with that compressor, with `dedicated` every message with a compressor per connection.
//!
//! The address is `127.0.0.1:9001` unless given. `unix:PATH` listens on a Unix socket, and
//! `inherited` on the sockets that systemd passes
//! (`systemd-socket-activate -l 9001 .../echo inherited`). To try it, open the console of a
//! browser:
//!
//! ```text
//! ws = new WebSocket("ws://127.0.0.1:9001/")
//! ws.onmessage = event => console.log(event.data)
//! ws.send("hello")
//! ```
//!
//! The limits suit a conformance suite: messages of 16 MiB, and no pings from the server.

mod signals;

use std::time::Duration;

#[cfg(feature = "deflate")]
use wsloop::DeflateConfig;
use wsloop::event::{Binary, Utf8};
use wsloop::{Compress, OpCode, Server};

fn main() -> wsloop::Result<()> {
    env_logger::init();
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9001".into());
    let builder = match address.strip_prefix("unix:") {
        Some(path) => Server::builder().listen_unix(path),
        None if address == "inherited" => Server::builder().listen_inherited(),
        None => Server::builder().listen(address.as_str()),
    };
    let compressor = std::env::args().nth(2);
    #[cfg(feature = "deflate")]
    let builder = builder.deflate(match compressor.as_deref() {
        Some("dedicated") => DeflateConfig::dedicated(),
        _ => DeflateConfig::shared(),
    });
    let compress = match compressor {
        Some(_) => Compress::Yes,
        None => Compress::Auto,
    };
    let mut server = builder
        .max_recv_size(16 << 20)
        .max_send_size(16 << 20)
        .max_backlog(32 << 20)
        .silence_max(Duration::ZERO)
        .on(Utf8, move |conn, text| {
            conn.send_message(Outgoing::text(text).compress(compress))
        })
        .on(Binary, move |conn, data| {
            conn.send_message(Outgoing::binary(data).compress(compress))
        })
        .build()?;
    signals::drain_on_signals(server.handle())?;
    // With port 0 the kernel has chosen the port.
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    server.start()
}
