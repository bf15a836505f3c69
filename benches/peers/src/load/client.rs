//! All connections of a run, and its event loop.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use mio::{Events, Poll};

use super::checker::Wire;
use super::connection::Connection;
use super::measure::{Latency, Measure, rounded};
use super::meter::{Reading, Usage};
use super::options::{Options, Span};
use super::stream::Connector;
use super::traffic::Traffic;

/// The longest wait in a turn of the loop, so that time-outs are noticed.
const NAP: Duration = Duration::from_millis(20);
/// A server that sends nothing for this time has failed. Under valgrind it is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait, after the end, for the replies to messages sent at a rate.
const GRACE: Duration = Duration::from_secs(1);
/// Connections that are opened at the same time; the shortest accept queue holds them.
const OPENED_AT_ONCE: usize = 50;
/// The size of a read, as large as that of servers for large messages.
const READ_BYTES: usize = 1 << 20;

/// Figures since the warm-up.
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) latency: Histogram<u64>,
}

impl Counts {
    /// Records the latency of a reply.
    fn record(&mut self, sent: Instant, now: Instant) {
        let nanos = u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
    }
}

/// The connections of a run.
pub(super) struct Client {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// The connections with traffic come first, then the idle ones.
    pub(super) connections: Vec<Connection>,
    pub(super) traffic: Traffic,
    pub(super) counts: Counts,
    /// Latencies that start before this time are not recorded.
    pub(super) counted_from: Instant,
    spin: bool,
    last_reply: Instant,
    /// Pongs that were received.
    pub(super) pongs: u64,
}

impl Client {
    /// Creates a client without connections.
    pub(super) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            connections: Vec::new(),
            traffic: Traffic::new(options)?,
            counts: Counts {
                messages: 0,
                // Nanoseconds from 1 to 120 s, with three significant digits.
                latency: Histogram::new_with_bounds(1, 120_000_000_000, 3)?,
            },
            counted_from: Instant::now(),
            spin: options.spin || options.rate.is_some(),
            last_reply: Instant::now(),
            pongs: 0,
        })
    }

    /// Opens `more` connections.
    pub(super) fn open(
        &mut self,
        connector: &Connector,
        options: &Options,
        more: usize,
    ) -> Result<()> {
        let wire = match (options.raw, options.deflate) {
            (true, _) => Wire::Raw,
            (false, Some(_)) => Wire::Deflate,
            (false, None) => Wire::Plain,
        };
        let end = self.connections.len() + more;
        while self.connections.len() < end {
            let number = self.connections.len();
            let streams = connector
                .open((end - number).min(OPENED_AT_ONCE))
                .with_context(|| format!("connection {number} or one of the next"))?;
            for stream in streams {
                let number = self.connections.len();
                let connection = Connection::new(stream, wire, number, self.poll.registry())?;
                self.connections.push(connection);
            }
        }
        self.last_reply = Instant::now();
        Ok(())
    }

    /// Waits for events and handles them. Calls `burst` for each completed burst, with the number
    /// of its connection, after the connection has read all available bytes.
    pub(super) fn turn(
        &mut self,
        mut burst: impl FnMut(&mut Connection, usize, &Traffic) -> Result<()>,
    ) -> Result<()> {
        let timeout = if self.spin { Duration::ZERO } else { NAP };
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        let Self {
            events,
            buffer,
            connections,
            traffic,
            counts,
            pongs,
            ..
        } = self;
        let mut replied = false;
        for event in events.iter() {
            let number = event.token().0;
            let connection = &mut connections[number];
            if event.is_writable() {
                connection.flush(traffic)?;
            }
            if !event.is_readable() {
                continue;
            }
            let counted_from = self.counted_from;
            let progress = connection
                .receive(traffic, buffer, |sent, now| {
                    if sent >= counted_from {
                        counts.record(sent, now);
                    }
                })
                .with_context(|| format!("connection {number}"))?;
            counts.messages += progress.messages;
            *pongs += progress.pongs;
            replied |= progress.messages > 0 || progress.pongs > 0;
            for _ in 0..progress.bursts {
                burst(connection, number, traffic)?;
            }
        }
        if replied {
            self.last_reply = Instant::now();
        } else if !self.spin || self.events.is_empty() {
            let waited = self.last_reply.elapsed();
            anyhow::ensure!(waited < PATIENCE, "no reply for {waited:?}");
        }
        Ok(())
    }

    /// Ends a run at a rate: waits a moment for the slowest replies, so that the percentiles
    /// include them. Messages that have no reply even then are included with the time that they
    /// have waited. Only replies that came in time count as messages.
    pub(super) fn end_at_rate(&mut self, options: &Options, phases: &Phases) -> Result<Measure> {
        let (seconds, usage, wire_payload) = phases.end(self)?;
        let in_time = self.counts.messages;
        let end = Instant::now() + GRACE;
        while Instant::now() < end && !self.connections.iter().all(Connection::is_quiet) {
            self.turn(|_, _, _| Ok(()))?;
        }
        let (from, now) = (self.counted_from, Instant::now());
        for at in self
            .connections
            .iter()
            .flat_map(Connection::sent_at)
            .filter(|at| *at >= from)
        {
            self.counts.record(at, now);
        }
        self.counts.messages = in_time;
        let mut measure = self.measure(options, seconds, usage, wire_payload);
        measure.rate = options.rate;
        measure.unanswered = self.connections.iter().map(Connection::awaited).sum();
        Ok(measure)
    }

    /// Resets the figures.
    pub(super) fn restart_counts(&mut self) {
        self.counts.messages = 0;
        self.counts.latency.reset();
        self.counted_from = Instant::now();
    }

    /// Returns the payload bytes of compressed replies, before decompression.
    pub(super) fn wire_payload(&self) -> u64 {
        let each = self.connections.iter();
        each.map(|connection| connection.checker.wire_payload).sum()
    }

    /// Returns the figures of the completed run.
    pub(super) fn measure(
        &self,
        options: &Options,
        seconds: f64,
        usage: Option<Usage>,
        wire_payload: u64,
    ) -> Measure {
        let messages = self.counts.messages;
        let bytes = messages * options.size as u64;
        let mut measure = Measure::new(messages, seconds, usage);
        measure.bytes = bytes;
        measure.latency = Latency::of(&self.counts.latency);
        if options.deflate.is_some() {
            measure.reply_ratio = Some(rounded(wire_payload as f64 / bytes.max(1) as f64, 4));
        }
        measure
    }
}

/// The phases of a run: the warm-up, then the counted phase.
pub(super) struct Phases {
    pid: Option<u32>,
    begin: Instant,
    start: Instant,
    end: Option<Instant>,
    first: Option<Reading>,
    wire_payload: u64,
    counting: bool,
}

impl Phases {
    /// Starts the warm-up, or at once the counted phase if the run is limited by rounds.
    pub(super) fn begin(client: &mut Client, options: &Options) -> Result<Self> {
        let begin = Instant::now();
        let mut phases = Self {
            pid: options.server_pid,
            begin,
            start: begin,
            end: None,
            first: None,
            wire_payload: 0,
            counting: false,
        };
        match options.span {
            Span::Rounds(_) => phases.count(client)?,
            Span::Time { warmup, counted } => {
                phases.start = begin + warmup;
                phases.end = Some(phases.start + counted);
            }
        }
        Ok(phases)
    }

    /// Returns when the warm-up began.
    pub(super) fn began(&self) -> Instant {
        self.begin
    }

    fn count(&mut self, client: &mut Client) -> Result<()> {
        self.counting = true;
        self.first = self.pid.map(Reading::of).transpose()?;
        self.wire_payload = client.wire_payload();
        client.restart_counts();
        self.start = client.counted_from;
        Ok(())
    }

    /// Starts the counted phase when it is due; returns whether the run is over.
    pub(super) fn over(&mut self, client: &mut Client) -> Result<bool> {
        let Some(end) = self.end else {
            return Ok(false);
        };
        let now = Instant::now();
        if !self.counting && now >= self.start {
            self.count(client)?;
        }
        Ok(now >= end)
    }

    /// Ends the counted phase: returns its seconds, the server's usage, and the compressed payload.
    pub(super) fn end(&self, client: &Client) -> Result<(f64, Option<Usage>, u64)> {
        let usage = match (self.pid, self.first) {
            (Some(pid), Some(first)) => Some(Reading::of(pid)?.since(first)),
            _ => None,
        };
        let seconds = usage.map_or_else(|| self.start.elapsed().as_secs_f64(), |u| u.seconds);
        Ok((seconds, usage, client.wire_payload() - self.wire_payload))
    }
}
