//! All connections of a run, and the turns of its loop.

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

/// A turn of the loop ends after this if nothing happens, so that time-outs are noticed.
const NAP: Duration = Duration::from_millis(20);
/// A server from which nothing comes for so long has failed; under valgrind it is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that are opened at once; the shortest queue of a listener holds them.
const OPENED_AT_ONCE: usize = 50;
/// Read at once, as much as a server of large messages does.
const READ_BYTES: usize = 1 << 20;

/// What has been counted since the warm-up.
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) latency: Histogram<u64>,
}

/// The connections of a run.
pub(super) struct Client {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// Those with traffic first, then the silent ones.
    pub(super) connections: Vec<Connection>,
    pub(super) traffic: Traffic,
    pub(super) counts: Counts,
    /// Latencies that count from before this are not recorded.
    pub(super) counted_from: Instant,
    spin: bool,
    last_reply: Instant,
}

impl Client {
    /// Opens no connection yet.
    pub(super) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            connections: Vec::new(),
            traffic: Traffic::new(options)?,
            counts: Counts {
                messages: 0,
                // From one microsecond, to three digits; below that all is one.
                latency: Histogram::new_with_bounds(1, 120_000_000_000, 3)?,
            },
            counted_from: Instant::now(),
            spin: options.spin || options.rate.is_some(),
            last_reply: Instant::now(),
        })
    }

    /// Opens so many connections more.
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

    /// Waits for events and treats them. `burst` is called for each burst that became whole, with
    /// the number of its connection, after the connection has read all there was.
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
            let latency = &mut counts.latency;
            let counted_from = self.counted_from;
            let progress = connection
                .receive(traffic, buffer, |sent, now| {
                    if sent >= counted_from {
                        let nanos = u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX);
                        latency.saturating_record(nanos);
                    }
                })
                .with_context(|| format!("connection {number}"))?;
            counts.messages += progress.messages;
            replied |= progress.messages > 0;
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

    /// Forgets what has been counted so far.
    pub(super) fn restart_counts(&mut self) {
        self.counts.messages = 0;
        self.counts.latency.reset();
        self.counted_from = Instant::now();
    }

    /// Bytes of payload that came compressed.
    pub(super) fn wire_payload(&self) -> u64 {
        let each = self.connections.iter();
        each.map(|connection| connection.checker.wire_payload).sum()
    }

    /// The figures, once the run is over.
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

/// The phases of a run by time: the warm-up, then what counts.
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
    /// Begins with the warm-up, or at once with what counts if the span is of rounds.
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

    /// When the warm-up began.
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

    /// Goes from the warm-up to what counts when it is time; whether all is over.
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

    /// Ends what counts: its seconds, what the server used, and the compressed payload.
    pub(super) fn end(&self, client: &Client) -> Result<(f64, Option<Usage>, u64)> {
        let usage = match (self.pid, self.first) {
            (Some(pid), Some(first)) => Some(Reading::of(pid)?.since(first)),
            _ => None,
        };
        let seconds = usage.map_or_else(|| self.start.elapsed().as_secs_f64(), |u| u.seconds);
        Ok((seconds, usage, client.wire_payload() - self.wire_payload))
    }
}
