//! The command line of the load generator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

/// The usage text.
pub(super) const USAGE: &str = "\
load --connect ADDR [OPTIONS]

  --connect ADDR        the server; again for each further node
  --server-pid PID      its process, of which CPU time and memory are read
  --further-pid PID     a further process, of which CPU time is read; again for each
  --mode MODE           echo (default), handshake, broadcast, idle, topics or subscriptions
  --raw                 the server is a bare TCP echo: no handshake, the frames come back as sent
  --tls CERT.pem        speak TLS and trust this certificate, which is for 127.0.0.1
  --deflate HOW         offer permessage-deflate: shared (no context kept) or dedicated (kept)

  --connections N       connections with traffic (64); handshakes at a time; receivers
  --idle N              further connections, open and silent (0)
  --depth D             messages that are sent at once (1)
  --size BYTES          payload of a message (20)
  --kind KIND           text (ASCII, default), utf8 (mostly multi-byte), json or binary

  --warmup SECONDS      before anything is counted (1)
  --seconds S           counted (1.5)
  --rounds N            instead of seconds: exactly N rounds on each connection, no warm-up
  --rate N              messages per second over all connections, sent when they are due
  --spin                never sleep while waiting; a rate always spins

  --topics N            topics (1)
  --each N              topics that each connection is subscribed to (1)
  --keys N              distinct keys of messages, one after the other (1); reports memory growth
  --slow N              further subscribers, which read nothing until the end (0)
  --window N            publish as soon as fewer than N messages are on their way, --depth at once
  --place SIDE          subscribers on the publisher's loop (near), on others (far), or both; the
                        server sends `loop N` to each client
  --settle SECONDS      time between the subscriptions and the first message (0)
  --heat SECONDS        before the warm-up, publish as fast as the subscribers receive (0), so that
                        just-in-time compilers have done their work at any rate
  --socketio            speak the protocol of Socket.IO
";

/// The work of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each message returns on its connection.
    Echo,
    /// Connections open and close.
    Handshake,
    /// Each message returns on all connections.
    Broadcast,
    /// Connections are open and idle, to measure their memory.
    Idle,
    /// Each message of one client goes to the subscribers of a topic.
    Topics,
    /// Connections subscribe to topics, to measure the memory of subscriptions.
    Subscriptions,
}

/// The content of payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Printable ASCII, sent as text.
    Text,
    /// Text that consists mostly of characters of two to four bytes.
    Utf8,
    /// Text that resembles JSON records, so that it can be compressed.
    Json,
    /// Random bytes, sent as binary.
    Binary,
}

/// The compression that is negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deflate {
    /// The server resets its window after each message.
    Shared,
    /// The server keeps its window between messages.
    Dedicated,
}

/// The loop of the subscribers, in relation to the publisher's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The same loop.
    Near,
    /// Other loops.
    Far,
    /// For each topic, as many on the same loop as on others.
    Both,
}

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Span {
    /// A warm-up, then the counted time.
    Time { warmup: Duration, counted: Duration },
    /// This number of rounds on each connection, all of them counted.
    Rounds(u64),
}

/// All settings.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) connect: SocketAddr,
    /// The addresses of all nodes; the first one is `connect`.
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) server_pid: Option<u32>,
    pub(super) further_pids: Vec<u32>,
    pub(super) mode: Mode,
    pub(super) raw: bool,
    pub(super) tls: Option<PathBuf>,
    pub(super) deflate: Option<Deflate>,
    pub(super) connections: usize,
    pub(super) idle: usize,
    pub(super) depth: usize,
    pub(super) size: usize,
    pub(super) kind: Kind,
    pub(super) span: Span,
    pub(super) rate: Option<f64>,
    pub(super) spin: bool,
    pub(super) topics: usize,
    pub(super) each: usize,
    pub(super) keys: Option<usize>,
    pub(super) slow: usize,
    pub(super) window: Option<usize>,
    pub(super) place: Option<Place>,
    pub(super) settle: Duration,
    pub(super) heat: Duration,
    pub(super) socketio: bool,
}

impl Options {
    /// Parses a command line; returns `None` if it asks for the usage.
    pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let (mut warmup, mut seconds, mut rounds) = (1.0, 1.5, None);
        let (mut settle, mut heat) = (0.0, 0.0);
        let mut options = Self {
            connect: SocketAddr::from(([127, 0, 0, 1], 0)),
            nodes: Vec::new(),
            server_pid: None,
            further_pids: Vec::new(),
            mode: Mode::Echo,
            raw: false,
            tls: None,
            deflate: None,
            connections: 64,
            idle: 0,
            depth: 1,
            size: 20,
            kind: Kind::Text,
            span: Span::Rounds(0),
            rate: None,
            spin: false,
            topics: 1,
            each: 1,
            keys: None,
            slow: 0,
            window: None,
            place: None,
            settle: Duration::ZERO,
            heat: Duration::ZERO,
            socketio: false,
        };
        let mut parser = lexopt::Parser::from_iter(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("connect") => options.nodes.push(parser.value()?.parse()?),
                Long("server-pid") => options.server_pid = Some(parser.value()?.parse()?),
                Long("further-pid") => options.further_pids.push(parser.value()?.parse()?),
                Long("mode") => options.mode = parser.value()?.parse_with(mode)?,
                Long("raw") => options.raw = true,
                Long("tls") => options.tls = Some(parser.value()?.into()),
                Long("deflate") => options.deflate = Some(parser.value()?.parse_with(deflate)?),
                Long("connections") => options.connections = parser.value()?.parse()?,
                Long("idle") => options.idle = parser.value()?.parse()?,
                Long("depth") => options.depth = parser.value()?.parse()?,
                Long("size") => options.size = parser.value()?.parse()?,
                Long("kind") => options.kind = parser.value()?.parse_with(kind)?,
                Long("warmup") => warmup = parser.value()?.parse()?,
                Long("seconds") => seconds = parser.value()?.parse()?,
                Long("rounds") => rounds = Some(parser.value()?.parse()?),
                Long("rate") => options.rate = Some(parser.value()?.parse()?),
                Long("spin") => options.spin = true,
                Long("topics") => options.topics = parser.value()?.parse()?,
                Long("each") => options.each = parser.value()?.parse()?,
                Long("keys") => options.keys = Some(parser.value()?.parse()?),
                Long("slow") => options.slow = parser.value()?.parse()?,
                Long("window") => options.window = Some(parser.value()?.parse()?),
                Long("place") => options.place = Some(parser.value()?.parse_with(place)?),
                Long("settle") => settle = parser.value()?.parse()?,
                Long("heat") => heat = parser.value()?.parse()?,
                Long("socketio") => options.socketio = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected().into()),
            }
        }
        options.connect = *options.nodes.first().context("--connect is missing")?;
        options.settle = Duration::try_from_secs_f64(settle)?;
        options.heat = Duration::try_from_secs_f64(heat)?;
        options.span = match rounds {
            Some(rounds) => Span::Rounds(rounds),
            None => Span::Time {
                warmup: Duration::try_from_secs_f64(warmup)?,
                counted: Duration::try_from_secs_f64(seconds)?,
            },
        };
        options.validate()?;
        Ok(Some(options))
    }

    /// Returns whether subscribers are near the publisher or far from it: on its loop or another
    /// one, or at its node or another one.
    pub(super) fn has_sides(&self) -> bool {
        self.place.is_some() || self.nodes.len() > 1
    }

    fn validate(&self) -> Result<()> {
        if self.connections == 0 || self.depth == 0 {
            bail!("--connections and --depth are at least 1");
        }
        if let Some(rate) = self.rate {
            let fits = matches!(self.mode, Mode::Echo | Mode::Topics) && self.depth == 1;
            if !(fits && rate > 0.0 && rate.is_finite()) {
                bail!("--rate is for echoes and topics of depth 1, and more than nothing");
            }
            if matches!(self.span, Span::Rounds(_)) {
                bail!("--rate goes with --seconds, not with --rounds");
            }
        }
        if self.raw && (self.mode != Mode::Echo && self.mode != Mode::Idle) {
            bail!("--raw knows no handshakes and no broadcasts");
        }
        if self.raw && (self.tls.is_some() || self.deflate.is_some()) {
            bail!("--raw knows neither TLS nor compression");
        }
        match self.mode {
            Mode::Topics | Mode::Subscriptions => self.validate_topics(),
            _ if self.has_sides() || self.window.is_some() || self.socketio => {
                bail!("several nodes, --place, --window and --socketio are for --mode topics")
            }
            _ if self.topics != 1 || self.each != 1 || self.keys.is_some() || self.slow > 0 => {
                bail!("--topics, --each, --keys and --slow are for --mode topics or subscriptions")
            }
            _ => Ok(()),
        }
    }

    fn validate_topics(&self) -> Result<()> {
        let further = usize::from(self.mode == Mode::Subscriptions);
        if self.each == 0 || self.each + further > self.topics || self.keys == Some(0) {
            bail!("--each is at least 1 and at most --topics, and --keys is at least 1");
        }
        if self.topics > 10_000 || self.keys.is_some_and(|keys| keys > 1000) {
            bail!("at most 10,000 topics and 1,000 keys");
        }
        if self.mode == Mode::Topics && (self.size < 32 || self.kind == Kind::Binary) {
            bail!("--mode topics needs text of at least 32 bytes, which begins with the topic");
        }
        if self.deflate == Some(Deflate::Dedicated) {
            bail!("--mode topics goes only with --deflate shared");
        }
        if self.has_sides() || self.window.is_some() || self.socketio {
            self.validate_sides()?;
        }
        if self.slow > 0 && (self.tls.is_some() || self.deflate.is_some()) {
            bail!("--slow goes neither with TLS nor with compression");
        }
        Ok(())
    }

    fn validate_sides(&self) -> Result<()> {
        if self.mode != Mode::Topics || self.slow > 0 {
            bail!(
                "several nodes, --place, --window and --socketio are for --mode topics, not --slow"
            );
        }
        if self.place.is_some() && (self.nodes.len() > 1 || self.socketio) {
            bail!("--place goes neither with several nodes nor with --socketio");
        }
        if self.socketio && (self.tls.is_some() || self.deflate.is_some()) {
            bail!("--socketio goes neither with TLS nor with compression");
        }
        let window = self
            .window
            .is_none_or(|window| (1..=MOST_ON_THE_WAY).contains(&window));
        if !window || (self.window.is_some() && self.rate.is_some()) {
            bail!("--window is from 1 to {MOST_ON_THE_WAY}, and does not go with --rate");
        }
        Ok(())
    }
}

/// The largest window. It is smaller than the number of different messages, so that a lost message
/// and the next equal one are not taken for each other.
const MOST_ON_THE_WAY: usize = 512;

fn place(word: &str) -> Result<Place, &'static str> {
    match word {
        "near" => Ok(Place::Near),
        "far" => Ok(Place::Far),
        "both" => Ok(Place::Both),
        _ => Err("neither near, far nor both"),
    }
}

fn mode(word: &str) -> Result<Mode, &'static str> {
    match word {
        "echo" => Ok(Mode::Echo),
        "handshake" => Ok(Mode::Handshake),
        "broadcast" => Ok(Mode::Broadcast),
        "idle" => Ok(Mode::Idle),
        "topics" => Ok(Mode::Topics),
        "subscriptions" => Ok(Mode::Subscriptions),
        _ => Err("not a mode"),
    }
}

fn kind(word: &str) -> Result<Kind, &'static str> {
    match word {
        "text" => Ok(Kind::Text),
        "utf8" => Ok(Kind::Utf8),
        "json" => Ok(Kind::Json),
        "binary" => Ok(Kind::Binary),
        _ => Err("not a kind of payload"),
    }
}

fn deflate(word: &str) -> Result<Deflate, &'static str> {
    match word {
        "shared" => Ok(Deflate::Shared),
        "dedicated" => Ok(Deflate::Dedicated),
        _ => Err("neither shared nor dedicated"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(line.split(' ').map(String::from))
    }

    #[test]
    fn rounds_take_the_place_of_seconds() {
        let options = parse("load --connect 127.0.0.1:1 --rounds 7 --kind utf8")
            .unwrap()
            .unwrap();
        assert_eq!(options.span, Span::Rounds(7));
        assert_eq!(options.kind, Kind::Utf8);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(parse("load --depth 2").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --rate 5 --depth 2").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --rate 5 --rounds 2").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --raw --mode handshake").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --raw --tls a.pem").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --topics 2").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --mode topics --each 2 --size 64").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --mode topics --size 20").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --connect 127.0.0.1:2").is_err());
        assert!(parse("load --connect 127.0.0.1:1 --socketio").is_err());
        let topics = "load --connect 127.0.0.1:1 --mode topics --size 64";
        assert!(parse(&format!("{topics} --window 9")).is_ok());
        assert!(parse(&format!("{topics} --window 9 --rate 5")).is_err());
        assert!(parse(&format!("{topics} --window 1000")).is_err());
        assert!(parse(&format!("{topics} --place far --connect 127.0.0.1:2")).is_err());
    }
}
