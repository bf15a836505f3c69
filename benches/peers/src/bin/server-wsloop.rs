//! The server of this workspace, used as its README describes.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wsloop::event::{Binary, Utf8};
use wsloop::{
    BuildError, Builder, Connection, DeflateConfig, Outgoing, SendError, Server, SlowConsumer,
    Topic,
};
use wsloop_peers::server::{Deflate, Mode, Options, Skill, announce, refuse};

fn main() -> wsloop::Result<()> {
    let mut options = Options::of(&[
        Skill::Broadcast,
        Skill::BusyPoll,
        Skill::Conflate,
        Skill::Deflate,
        Skill::Loops,
        Skill::Tls,
        Skill::Topics,
    ]);
    let mut first = build(&options)?;
    // With port 0 the kernel has chosen the port; further loops must listen on the same one.
    options.listen = first.local_addr().unwrap_or(options.listen);
    for _ in 1..options.loops {
        let options = options.clone();
        let (built, listens) = mpsc::channel();
        thread::spawn(move || {
            let mut server = build(&options)?;
            let _ = built.send(());
            Ok::<_, wsloop::Error>(server.start()?)
        });
        if listens.recv().is_err() {
            refuse("a further loop cannot listen");
        }
    }
    announce(options.listen).unwrap_or_else(|error| refuse(error));
    Ok(first.start()?)
}

/// Builds the server of one loop.
fn build(options: &Options) -> Result<Server, BuildError> {
    let mut builder = listener(options)
        .reuse_port(options.loops > 1)
        .busy_poll(options.busy_poll)
        .max_recv_size(options.max_message)
        .max_send_size(options.max_message)
        .max_backlog(options.max_message.saturating_mul(2))
        .silence_max(Duration::ZERO);
    if let Some(bytes) = options.read_buffer {
        builder = builder.read_buffer(bytes);
    }
    if let Some(deflate) = options.deflate {
        let config = match deflate {
            Deflate::Dedicated => DeflateConfig::dedicated(),
            _ => DeflateConfig::shared(),
        };
        // The other servers compress messages of any size.
        builder = builder.deflate(config.threshold(0));
    }
    builder = match options.mode {
        Mode::Broadcast => builder
            .on(Utf8, |conn, text| conn.server().broadcast_utf8(text))
            .on(Binary, |conn, data| conn.server().broadcast_binary(data)),
        Mode::Topics if options.conflate => builder
            .topics("", Topic::new().slow_consumer(SlowConsumer::Conflate))
            .on(Utf8, |conn, text| {
                let key = text.split(' ').nth(1).unwrap_or_default();
                topics(conn, text, Outgoing::text(text).key(key))
            }),
        Mode::Topics => builder.on(Utf8, |conn, text| topics(conn, text, Outgoing::text(text))),
        _ => builder
            .on(Utf8, |conn, text| conn.send_utf8(text))
            .on(Binary, |conn, data| conn.send_binary(data)),
    };
    builder.build()
}

/// Subscribes, unsubscribes or publishes, as a client has asked.
fn topics(conn: &mut Connection<'_>, text: &str, message: Outgoing<'_>) -> Result<(), SendError> {
    if let Some(name) = text.strip_prefix('+') {
        conn.subscribe(name)?;
    } else if let Some(name) = text.strip_prefix('-') {
        conn.unsubscribe(name);
    } else {
        let name = text.split(' ').next().unwrap_or_default();
        conn.server().publish(name, message)?;
    }
    Ok(())
}

/// Returns a builder with a listener, for TLS if the options name a certificate.
fn listener(options: &Options) -> Builder {
    let Some((chain, key)) = &options.tls else {
        return Server::builder().listen(options.listen);
    };
    match wsloop::config_from_pem(chain, key) {
        Ok(config) => Server::builder().listen_tls(options.listen, config),
        Err(error) => refuse(error),
    }
}
