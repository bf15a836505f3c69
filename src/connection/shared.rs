//! State that all connections of a server share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::adoption::Adoption;
use super::api::handle::Handle;
use super::api::loops::Siblings;
use super::core::NOBODY;
use super::data::Data;
use super::deflate::Compressors;
use super::limits::{Addresses, Budget};
use super::log_lines::{Clean, Hint, LINES_PERIOD, Line, LogLimits, Matter, Topic, Who};
use super::recoveries::Recoveries;
use super::send::ReplyBuffer;
use super::timers::{Action, TimerId, Timers};
use super::watch::Watches;
use crate::backplane::Outlets;
use crate::close_code::CloseCode;
use crate::config::Config;
use crate::error::HandshakeError;
use crate::reasons::RefusalReason;
use crate::stats::Stats;
use crate::topics::{Keeper, Publication, Topics};

/// State that all connections of a server share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// The connection whose events are being delivered, or [`NOBODY`].
    pub(crate) current: usize,
    /// Data that `current` was sent and that the kernel was not offered yet.
    pub(crate) out: ReplyBuffer,
    pub(crate) compressors: Compressors,
    /// Where compressed messages are inflated.
    pub(crate) inflated: Vec<u8>,
    /// Connections to settle before the turn ends.
    pub(crate) dirty: Vec<usize>,
    /// The number of connections in [`Phase::Open`](super::Phase::Open).
    pub(crate) ready: usize,
    /// The number of connections that were sent neither a 101 nor a response to a plain request.
    pub(crate) half_open: usize,
    pub(crate) addresses: Addresses,
    pub(crate) budget: Budget,
    /// Orders for the server to carry out at the end of the turn.
    pub(crate) orders: Vec<Order>,
    /// The TCP addresses that the server listens on; the server keeps them up to date.
    pub(crate) local_addrs: Vec<SocketAddr>,
    pub(crate) handle: Handle,
    /// When this turn of the loop began, from the reactor's epoch.
    pub(crate) now: Duration,
    /// The reactor's epoch.
    pub(crate) epoch: Option<Instant>,
    pub(crate) timers: Timers,
    pub(crate) watches: Watches,
    pub(crate) topics: Topics,
    /// The way to other loops and processes.
    pub(crate) outlets: Outlets,
    /// Connections that wait for what they missed.
    pub(crate) recoveries: Recoveries,
    /// The message that is being published, or its memory.
    pub(crate) publication: Option<Box<Publication>>,
    /// The application's own values.
    pub(super) data: Data,
    pub(crate) stats: Stats,
    pub(crate) log_limits: LogLimits,
    /// The counts when `fetch_stats` was called last.
    pub(super) fetched: Stats,
    /// Connections of other servers in the process, to be taken over.
    pub(crate) adoptions: Vec<Adoption>,
    /// Returns the time of day, for the `Date` header.
    pub(crate) wall_clock: fn() -> SystemTime,
    /// Set when the server shuts down.
    pub(crate) leaving: Option<Leaving>,
    /// The shutdown that begins when health checks have failed for `lame_duck`.
    pub(crate) lame_duck: Option<LameDuck>,
    /// The other loops of the process.
    pub(crate) siblings: Option<Siblings>,
}

/// A shutdown that is to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LameDuck {
    pub(crate) plan: Plan,
    /// When it begins.
    pub(crate) timer: TimerId,
}

/// The part of a shutdown's state that connections need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    /// The code that clients are closed with.
    pub(crate) code: CloseCode,
    /// The number up to which connections had their turn to be closed. One of them that becomes
    /// ready later is closed at once.
    pub(crate) called: u64,
}

/// An operation that only the server can carry out. Handlers request it, and it follows when they
/// have returned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Leave the listeners to another process that has their sockets.
    HandOver,
    /// Compute the deadlines of all connections again: a setting has changed.
    Rearm,
    StartListening,
    /// Shut down; every client is closed with this code.
    Stop(CloseCode),
    StopListening,
    /// Begin a new tick period: `tick_period` has changed.
    Tick,
    /// Shut down without loss.
    WindDown(Plan),
}

impl Order {
    /// Returns whether the order holds for all loops of a process.
    pub(crate) fn is_for_all(self) -> bool {
        !matches!(self, Self::Rearm | Self::Tick)
    }
}

/// How a server shuts down without loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Connections that are left after this time are cut.
    pub(crate) deadline: Duration,
    pub(crate) code: CloseCode,
    /// The time over which the clients are closed.
    pub(crate) spread: Duration,
}

impl Shared {
    pub(super) fn new(config: Config, handle: Handle) -> Self {
        Self {
            // Half of `max_backlog`, since what the kernel does not take becomes backlog.
            out: ReplyBuffer::new(config.limits.max_backlog / 2),
            compressors: Compressors::new(&config),
            inflated: Vec::new(),
            addresses: Addresses::new(config.addresses),
            budget: Budget::new(config.memory_budget, config.memory_relief),
            topics: Topics::new(config.topics.clone(), config.topic_limits),
            outlets: Outlets::default(),
            recoveries: Recoveries::default(),
            publication: None,
            config,
            current: NOBODY,
            dirty: Vec::new(),
            ready: 0,
            half_open: 0,
            orders: Vec::new(),
            local_addrs: Vec::new(),
            handle,
            now: Duration::ZERO,
            epoch: None,
            timers: Timers::default(),
            watches: Watches::default(),
            data: Data::default(),
            stats: Stats::default(),
            log_limits: LogLimits::new(),
            fetched: Stats::default(),
            adoptions: Vec::new(),
            wall_clock: SystemTime::now,
            leaving: None,
            lame_duck: None,
            siblings: None,
        }
    }

    /// Connects the topics with other loops and processes, before the first one is created.
    pub(crate) fn connect(&mut self, outlets: Outlets) {
        if outlets.keeps_history() {
            self.topics.set_keeper(Keeper::Backplane);
        } else if let Some(sequences) = outlets.sequences() {
            self.topics.set_keeper(Keeper::Loops(sequences.clone()));
        }
        self.outlets = outlets;
    }

    /// Returns when this turn of the loop began, in a form that other loops understand.
    pub(crate) fn instant(&self) -> Option<Instant> {
        self.epoch?.checked_add(self.now)
    }

    /// Returns the time, from the reactor's epoch, at which another loop published a message; that
    /// of this turn if it is not known.
    pub(crate) fn time_of(&self, published: Option<Instant>) -> Duration {
        let times = published.zip(self.epoch);
        times.map_or(self.now, |(published, epoch)| {
            published.saturating_duration_since(epoch).min(self.now)
        })
    }

    /// Sends what was published last, and leaves all backplanes: the server has stopped.
    pub(crate) fn leave_backplanes(&mut self) {
        self.outlets.flush();
        self.outlets = Outlets::default();
    }

    /// Returns whether the server shuts down, or health checks fail because it is about to.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.leaving.is_some() || self.lame_duck.is_some()
    }

    /// Returns the counts up to this turn.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            time: self.now,
            ..self.stats
        }
    }

    /// Returns whether a peer at this address is trusted to name its clients.
    pub(crate) fn trusts(&self, ip: Option<IpAddr>) -> bool {
        let forwarding = self.config.forwarding.as_deref();
        forwarding.is_some_and(|forwarding| forwarding.trusts(ip))
    }

    /// Returns permission to write a log line about a topic. If the topic had too many lines
    /// lately, the line is only counted.
    pub(crate) fn admits(&mut self, topic: Topic) -> Option<Line> {
        self.admits_at(topic, topic.level())
    }

    /// Does the same for a line at another level than the topic's own.
    #[cold]
    pub(crate) fn admits_at(&mut self, topic: Topic, level: Level) -> Option<Line> {
        if level > log::max_level() {
            return None;
        }
        let line = self.log_limits.admit(topic, level, self.now);
        if line.is_none() && self.log_limits.owe() {
            let due = self.now.saturating_add(LINES_PERIOD);
            self.timers.set(due, Action::ReportSuppressed);
        }
        line
    }

    /// Returns whether this hint is new, and records that it was given.
    pub(crate) fn hint(&mut self, hint: Hint) -> bool {
        self.log_limits.hint(hint)
    }

    /// Logs that a handler of the application failed.
    pub(crate) fn log_failed(&mut self, what: &str, error: &dyn fmt::Display) {
        if let Some(line) = self.admits(Topic::Other(Matter::Handler)) {
            line.write(format_args!("{what} failed: {}", Clean(error)));
        }
    }

    /// Counts and logs a connection that was refused because its address is not that of a listed
    /// proxy.
    pub(crate) fn log_no_proxy(&mut self, addr: Option<SocketAddr>) {
        let reason = RefusalReason::ProxyNotTrusted;
        self.stats.count_refusal(reason);
        if let Some(line) = self.admits(Topic::Refusal(reason)) {
            let text = "refused with 403: the peer is not a proxy that Place::proxy_protocol lists";
            line.about(Who::refused(addr), format_args!("{text}"));
        }
    }

    /// Logs that a connection of `addr` was refused because of a limit of its address.
    pub(crate) fn log_over_address(&mut self, error: HandshakeError, addr: Option<SocketAddr>) {
        if let Some(line) = self.admits(Topic::Refusal(error.reason())) {
            let limits = &self.config.addresses;
            let (name, limit) = match error {
                HandshakeError::AddressConnections => {
                    ("max_connections_per_address", limits.connections)
                }
                HandshakeError::AddressHalfOpen => ("max_half_open_per_address", limits.half_open),
                _ => {
                    let text = format_args!("refused with 429: {error}");
                    return line.about(Who::refused(addr), text);
                }
            };
            let text = format_args!("refused with 429: {name} of {limit} is reached");
            line.about(Who::refused(addr), text);
        }
    }
}
