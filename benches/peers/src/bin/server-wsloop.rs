//! The server of this workspace, as its README teaches it.

use std::time::Duration;

use wsloop::event::{Binary, Utf8};
use wsloop::{Builder, Server};
use wsloop_peers::server::{Options, Skill, announce, refuse};

fn main() -> wsloop::Result<()> {
    let options = Options::of(&[Skill::Broadcast, Skill::Tls]);
    let mut builder = listener(&options)
        .max_recv_size(options.max_message)
        .max_send_size(options.max_message)
        .max_backlog(options.max_message.saturating_mul(2))
        .silence_max(Duration::ZERO);
    if let Some(bytes) = options.read_buffer {
        builder = builder.read_buffer(bytes);
    }
    builder = if options.broadcast {
        builder
            .on(Utf8, |conn, text| conn.server().broadcast_utf8(text))
            .on(Binary, |conn, data| conn.server().broadcast_binary(data))
    } else {
        builder
            .on(Utf8, |conn, text| conn.send_utf8(text))
            .on(Binary, |conn, data| conn.send_binary(data))
    };
    let mut server = builder.build()?;
    announce(server.local_addr().unwrap_or(options.listen)).unwrap_or_else(|error| refuse(error));
    server.start()
}

/// A builder that listens, for TLS if that is asked for.
fn listener(options: &Options) -> Builder {
    let Some((chain, key)) = &options.tls else {
        return Server::builder().listen(options.listen);
    };
    match wsloop::config_from_pem(chain, key) {
        Ok(config) => Server::builder().listen_tls(options.listen, config),
        Err(error) => refuse(error),
    }
}
