//! The server of this workspace, used as its README describes.

use std::time::Duration;

use wsloop::event::{Binary, Ready, Utf8};
use wsloop::{
    Builder, Connection, DeflateConfig, Loops, Outgoing, SendError, Server, SlowConsumer, Topic,
};
use wsloop_peers::server::{Deflate, Mode, Options, Skill, announce, refuse};

fn main() -> wsloop::Result<()> {
    let options = Options::of(&[
        Skill::Broadcast,
        Skill::BusyPoll,
        Skill::Conflate,
        Skill::Deflate,
        Skill::Greet,
        Skill::Loops,
        #[cfg(feature = "redis")]
        Skill::Redis,
        Skill::Tls,
        Skill::Topics,
    ]);
    let engines = Engines::connect(&options);
    if options.loops == 1 {
        let mut server = engines.join(builder(&options)).build()?;
        engines.wait();
        let addr = server.local_addr().unwrap_or(options.listen);
        announce(addr).unwrap_or_else(|error| refuse(error));
        return Ok(server.start()?);
    }
    let for_loops = engines.clone();
    let loops = Loops::new(options.loops, move |_| for_loops.join(builder(&options))).spawn()?;
    engines.wait();
    for addr in loops.local_addrs() {
        announce(addr).unwrap_or_else(|error| refuse(error));
    }
    loops.join().map(drop)
}

/// The engines that connect the topics of several processes.
#[derive(Clone)]
struct Engines {
    #[cfg(feature = "redis")]
    redis: Option<wsloop_redis::Redis>,
}

impl Engines {
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    fn connect(options: &Options) -> Self {
        Self {
            #[cfg(feature = "redis")]
            redis: options
                .redis
                .as_deref()
                .map(|url| wsloop_redis::Redis::new(url).unwrap_or_else(|error| refuse(error))),
        }
    }

    /// Gives a loop its backplanes.
    fn join(&self, builder: Builder) -> Builder {
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.redis {
            return builder.backplane(redis.clone());
        }
        builder
    }

    /// Waits until the engines are connected.
    fn wait(&self) {
        #[cfg(feature = "redis")]
        while self
            .redis
            .as_ref()
            .is_some_and(|redis| !redis.stats().is_connected)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Returns the settings and the handlers of one loop.
fn builder(options: &Options) -> Builder {
    let mut builder = listener(options)
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
    if options.greet {
        builder = builder.on(Ready, |conn, ()| {
            let number = conn.server().loop_number();
            conn.send_utf8(&format!("loop {number}"))
        });
    }
    builder
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
