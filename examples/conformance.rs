//! The echo server that conformance suites and measurements are run against: it sends every message
//! back to its sender, and its limits and its compression suit them.
//!
//! ```text
//! cargo run --release --example conformance [ADDRESS [shared|dedicated]]
//! ```
//!
//! The server compresses messages for clients that offer permessage-deflate: by default text from
//! 1,410 bytes on, with one compressor for all connections. With `shared` it compresses every
//! message with that compressor, with `dedicated` every message with a compressor per connection.
//!
//! The address is `127.0.0.1:9016` unless given. `unix:PATH` listens on a Unix socket, and
//! `inherited` on the sockets that systemd passes
//! (`systemd-socket-activate -l 9016 .../conformance inherited`). To run the cases of the Autobahn
//! TestSuite against it:
//!
//! ```text
//! conformance/run
//! ```
//!
//! Messages have up to 16 MiB, and the server sends no pings.

mod logger;
mod signals;

use std::time::Duration;

#[cfg(feature = "deflate")]
use wsloop::DeflateConfig;
use wsloop::event::{Binary, Utf8};
use wsloop::{Compress, Outgoing, Server};

fn main() -> wsloop::Result<()> {
    logger::init();
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9016".into());
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
    signals::wind_down_on_signals(server.handle())?;
    // With port 0 the kernel has chosen the port.
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}
