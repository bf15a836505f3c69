//! Shared by the servers: the command line, and the listener.
//!
//! ```text
//! server-NAME --listen ADDRESS [--mode echo|broadcast|topics] [--tls CERT.pem KEY.pem]
//!     [--read-buffer BYTES] [--max-message BYTES] [--deflate shared|dedicated] [--batched]
//!     [--busy-poll MICROSECONDS] [--loops N] [--conflate] [--greet] [--redis URL] [--nats URL]
//! ```
//!
//! With `--mode topics`, the message `+NAME` subscribes its sender to a topic, and `-NAME` ends the
//! subscription; neither is answered. Any other message is published unchanged to the topic whose
//! name is its first word. With `--conflate` its second word is its key. With `--loops` the
//! subscribers of all loops receive it; with `--redis` or `--nats` also those of other processes
//! that use the same engine.
//!
//! With `--greet`, the first message to each client is `loop N`, with the number of its loop.
//!
//! A server prints `listening ADDRESS` when it accepts connections, and serves until it is killed.
//! It refuses unsupported options with exit status 64.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process;
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

#[cfg(feature = "peers")]
pub mod runtime;

/// The options of the command line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The address to listen on; with port 0 the kernel chooses a port.
    pub listen: SocketAddr,
    /// Where messages go.
    pub mode: Mode,
    /// The files of the certificate chain and of the key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The size of the read buffer, for servers that have such a setting.
    pub read_buffer: Option<usize>,
    /// The largest size of a message. The default is 64 MiB.
    pub max_message: usize,
    /// Whether messages are compressed, and how.
    pub deflate: Option<Deflate>,
    /// Whether the application flushes only when no further message is ready.
    pub batched: bool,
    /// How long a loop spins before it sleeps. The default is zero.
    pub busy_poll: Duration,
    /// The number of event loops that share the address, each on its own thread. The default is 1.
    pub loops: usize,
    /// Whether a slow subscriber gets only the latest message for each key.
    pub conflate: bool,
    /// Whether each client is sent the number of its loop.
    pub greet: bool,
    /// The URL of the Redis server that connects the topics of several processes.
    pub redis: Option<String>,
    /// The URL of the NATS server that connects the topics of several processes.
    pub nats: Option<String>,
}

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Back to the sender.
    Echo,
    /// To all clients.
    Broadcast,
    /// To the subscribers of a topic.
    Topics,
}

/// How messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deflate {
    /// Each connection has a compressor, which keeps its context between messages.
    Dedicated,
    /// Each message is compressed without context.
    Shared,
}

/// An option that not every server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skill {
    /// `--batched`
    Batched,
    /// `--mode broadcast`
    Broadcast,
    /// `--busy-poll`
    BusyPoll,
    /// `--conflate`
    Conflate,
    /// `--deflate`
    Deflate,
    /// `--greet`
    Greet,
    /// `--loops`
    Loops,
    /// `--nats`
    Nats,
    /// `--redis`
    Redis,
    /// `--tls`
    Tls,
    /// `--mode topics`
    Topics,
}

impl Options {
    /// Parses the command line, and raises the limit of open files. Refuses options that are not
    /// among the server's skills.
    pub fn of(skills: &[Skill]) -> Self {
        let options = Self::parse(env::args().skip(1)).unwrap_or_else(|problem| refuse(problem));
        let broadcast = options.mode == Mode::Broadcast;
        let topics = options.mode == Mode::Topics;
        let asked = [
            (Skill::Batched, "--batched", options.batched),
            (Skill::Broadcast, "--mode broadcast", broadcast),
            (Skill::BusyPoll, "--busy-poll", !options.busy_poll.is_zero()),
            (Skill::Conflate, "--conflate", options.conflate),
            (Skill::Deflate, "--deflate", options.deflate.is_some()),
            (Skill::Greet, "--greet", options.greet),
            (Skill::Loops, "--loops", options.loops != 1),
            (Skill::Nats, "--nats", options.nats.is_some()),
            (Skill::Redis, "--redis", options.redis.is_some()),
            (Skill::Tls, "--tls", options.tls.is_some()),
            (Skill::Topics, "--mode topics", topics),
        ];
        for (skill, name, asked) in asked {
            if asked && !skills.contains(&skill) {
                refuse(format_args!("this server has no {name}"));
            }
        }
        if broadcast && (options.batched || options.deflate.is_some()) {
            refuse("--mode broadcast goes with neither --batched nor --deflate");
        }
        if options.conflate && !topics {
            refuse("--conflate goes with --mode topics");
        }
        if (options.redis.is_some() || options.nats.is_some()) && !topics {
            refuse("--redis and --nats go with --mode topics");
        }
        // The libraries of some peers do not raise the limit, and thousands of clients will
        // connect.
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            eprintln!("the limit of open files stays: {error}");
        }
        options
    }

    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut listen = None;
        let mut options = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            mode: Mode::Echo,
            tls: None,
            read_buffer: None,
            max_message: 64 << 20,
            deflate: None,
            batched: false,
            busy_poll: Duration::ZERO,
            loops: 1,
            conflate: false,
            greet: false,
            redis: None,
            nats: None,
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--listen" => listen = Some(number(&name, &value()?)?),
                "--mode" => {
                    options.mode = match value()?.as_str() {
                        "echo" => Mode::Echo,
                        "broadcast" => Mode::Broadcast,
                        "topics" => Mode::Topics,
                        other => return Err(format!("unknown mode {other}")),
                    }
                }
                "--tls" => options.tls = Some((value()?.into(), value()?.into())),
                "--read-buffer" => options.read_buffer = Some(number(&name, &value()?)?),
                "--max-message" => options.max_message = number(&name, &value()?)?,
                "--deflate" => {
                    options.deflate = Some(match value()?.as_str() {
                        "dedicated" => Deflate::Dedicated,
                        "shared" => Deflate::Shared,
                        other => return Err(format!("unknown compression {other}")),
                    })
                }
                "--batched" => options.batched = true,
                "--conflate" => options.conflate = true,
                "--greet" => options.greet = true,
                "--redis" => options.redis = Some(value()?),
                "--nats" => options.nats = Some(value()?),
                "--busy-poll" => {
                    options.busy_poll = Duration::from_micros(number(&name, &value()?)?)
                }
                "--loops" => {
                    options.loops = number::<NonZeroUsize>(&name, &value()?)?.get();
                }
                _ => return Err(format!("unknown option {name}")),
            }
        }
        options.listen = listen.ok_or("--listen ADDRESS is missing")?;
        Ok(options)
    }
}

/// Ends a server that does not support its options.
pub fn refuse(problem: impl Display) -> ! {
    eprintln!("{problem}");
    process::exit(64)
}

/// Listens with an accept queue that is long enough for thousands of simultaneous clients.
///
/// # Errors
///
/// Returns the errors of the kernel, for instance if the address is in use.
pub fn listen(options: &Options) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&options.listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Prints on standard output that the server accepts connections.
///
/// # Errors
///
/// Returns the errors of standard output.
pub fn announce(addr: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening {addr}")?;
    out.flush()
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name} cannot be {value}"))
}

/// The length of the accept queue; the kernel may limit it further.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn every_option_is_read() {
        let options = parse(
            "--listen 127.0.0.1:0 --mode topics --tls cert.pem key.pem --read-buffer 65536 \
             --max-message 1048576 --deflate shared --batched --busy-poll 50 --loops 2 --conflate \
             --greet --redis redis://127.0.0.1:6379 --nats nats://127.0.0.1:4222",
        )
        .unwrap();
        assert_eq!(options.listen, SocketAddr::from(([127, 0, 0, 1], 0)));
        assert!(options.batched && options.conflate);
        assert_eq!(options.mode, Mode::Topics);
        assert_eq!(options.tls, Some(("cert.pem".into(), "key.pem".into())));
        assert_eq!(options.read_buffer, Some(65_536));
        assert_eq!(options.max_message, 1_048_576);
        assert_eq!(options.deflate, Some(Deflate::Shared));
        assert_eq!(options.busy_poll, Duration::from_micros(50));
        assert_eq!(options.loops, 2);
        assert!(options.greet);
        assert_eq!(options.redis.as_deref(), Some("redis://127.0.0.1:6379"));
        assert_eq!(options.nats.as_deref(), Some("nats://127.0.0.1:4222"));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for line in [
            "",
            "--listen",
            "--listen nowhere",
            "--listen 127.0.0.1:0 --mode whisper",
            "--listen 127.0.0.1:0 --deflate never",
            "--listen 127.0.0.1:0 --tls cert.pem",
            "--listen 127.0.0.1:0 --loops 0",
            "--listen 127.0.0.1:0 --loud",
        ] {
            parse(line).expect_err(line);
        }
    }
}
