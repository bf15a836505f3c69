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
use super::sides::Side;
use super::stream::{Connector, Stream};
use super::traffic::Traffic;

/// The longest wait in a turn of the loop, so that time-outs are noticed.
const NAP: Duration = Duration::from_millis(20);
/// A server that sends nothing for this time has failed. Under valgrind it is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait, after the end, for the replies to messages sent at a rate.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait for the last messages before they count as lost.
const LOST: Duration = Duration::from_secs(10);
/// How long nothing may come after the last message.
const SILENCE: Duration = Duration::from_millis(50);
/// Connections that are opened at the same time; the shortest accept queue holds them.
pub(super) const OPENED_AT_ONCE: usize = 50;
/// The size of a read, as large as that of servers for large messages.
const READ_BYTES: usize = 1 << 20;

/// Figures since the warm-up.
pub(super) struct Counts {
    pub(super) messages: u64,
    /// Messages that were published to topics.
    pub(super) published: u64,
    pub(super) latency: Histogram<u64>,
    /// The latency by [`Side`].
    sides: [Histogram<u64>; 2],
}

impl Counts {
    fn new() -> Result<Self> {
        // Nanoseconds from 1 to 120 s, with three significant digits.
        let histogram = || Histogram::new_with_bounds(1, 120_000_000_000, 3);
        Ok(Self {
            messages: 0,
            published: 0,
            latency: histogram()?,
            sides: [histogram()?, histogram()?],
        })
    }

    /// Records the latency of a reply.
    fn record(&mut self, sent: Instant, now: Instant, side: Option<Side>) {
        let nanos = u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
        if let Some(side) = side {
            self.sides[side as usize].saturating_record(nanos);
        }
    }

    fn restart(&mut self) {
        self.messages = 0;
        self.published = 0;
        self.latency.reset();
        self.sides.iter_mut().for_each(Histogram::reset);
    }
}

/// The counted phase of a run.
pub(super) struct Counted {
    seconds: f64,
    /// The usage of the server, and of further processes.
    usage: Vec<Usage>,
    /// The payload bytes of compressed replies.
    wire_payload: u64,
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
            counts: Counts::new()?,
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
        let end = self.connections.len() + more;
        while self.connections.len() < end {
            let number = self.connections.len();
            let streams = connector
                .open((end - number).min(OPENED_AT_ONCE))
                .with_context(|| format!("connection {number} or one of the next"))?;
            for stream in streams {
                self.add(stream, options)?;
            }
        }
        Ok(())
    }

    /// Adds an open connection.
    pub(super) fn add(&mut self, stream: Stream, options: &Options) -> Result<&mut Connection> {
        let wire = match options.deflate {
            _ if options.raw => Wire::Raw,
            _ if options.socketio => Wire::SocketIo,
            Some(_) => Wire::Deflate,
            None => Wire::Plain,
        };
        let number = self.connections.len();
        let connection = Connection::new(stream, wire, number, self.poll.registry())?;
        self.last_reply = Instant::now();
        self.connections.push(connection);
        self.connections.last_mut().context("no connection")
    }

    /// Handles events for some time.
    pub(super) fn turn_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(|_, _, _| Ok(()))?;
        }
        Ok(())
    }

    /// Waits until all messages have arrived, and checks that nothing else comes.
    pub(super) fn drain(&mut self) -> Result<()> {
        let end = Instant::now() + LOST;
        loop {
            let lost: u64 = self.connections.iter().map(Connection::awaited).sum();
            if lost == 0 {
                return self.turn_for(SILENCE);
            }
            anyhow::ensure!(Instant::now() < end, "{lost} messages were lost");
            self.turn(|_, _, _| Ok(()))?;
        }
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
            let (counted_from, side) = (self.counted_from, connection.side);
            let progress = connection
                .receive(traffic, buffer, |sent, now| {
                    if sent >= counted_from {
                        counts.record(sent, now, side);
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
        let counted = phases.end(self)?;
        let in_time = self.counts.messages;
        let end = Instant::now() + GRACE;
        while Instant::now() < end && !self.connections.iter().all(Connection::is_quiet) {
            self.turn(|_, _, _| Ok(()))?;
        }
        let (from, now) = (self.counted_from, Instant::now());
        for connection in &self.connections {
            for at in connection.sent_at().filter(|at| *at >= from) {
                self.counts.record(at, now, connection.side);
            }
        }
        self.counts.messages = in_time;
        let mut measure = self.measure(options, counted);
        measure.rate = options.rate;
        measure.unanswered = self.connections.iter().map(Connection::awaited).sum();
        Ok(measure)
    }

    /// Resets the figures.
    pub(super) fn restart_counts(&mut self) {
        self.counts.restart();
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
        Counted {
            seconds,
            usage,
            wire_payload,
        }: Counted,
    ) -> Measure {
        let Counts {
            messages,
            published,
            ref latency,
            sides: [ref near, ref far],
        } = self.counts;
        let bytes = messages * options.size as u64;
        let mut measure = Measure::new(messages, seconds, usage.first().copied());
        measure.bytes = bytes;
        measure.latency = Latency::of(latency);
        if options.has_sides() {
            (measure.near, measure.far) = (Latency::of(near), Latency::of(far));
            measure.published = published;
            let each = usage
                .iter()
                .map(|usage| usage.run / published.max(1) as f64);
            measure.per_publish = each.map(|each| rounded(each, 1)).collect();
        }
        if options.deflate.is_some() {
            measure.reply_ratio = Some(rounded(wire_payload as f64 / bytes.max(1) as f64, 4));
        }
        measure
    }
}

/// The phases of a run: the warm-up, then the counted phase.
pub(super) struct Phases {
    pids: Vec<u32>,
    begin: Instant,
    start: Instant,
    end: Option<Instant>,
    first: Vec<Reading>,
    wire_payload: u64,
    counting: bool,
}

impl Phases {
    /// Starts the warm-up, or at once the counted phase if the run is limited by rounds.
    pub(super) fn begin(client: &mut Client, options: &Options) -> Result<Self> {
        let begin = Instant::now();
        let further = options.further_pids.iter().copied();
        let mut phases = Self {
            pids: options.server_pid.into_iter().chain(further).collect(),
            begin,
            start: begin,
            end: None,
            first: Vec::new(),
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
        self.first = self.readings()?;
        self.wire_payload = client.wire_payload();
        client.restart_counts();
        self.start = client.counted_from;
        Ok(())
    }

    fn readings(&self) -> Result<Vec<Reading>> {
        self.pids.iter().map(|&pid| Reading::of(pid)).collect()
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

    /// Ends the counted phase.
    pub(super) fn end(&self, client: &Client) -> Result<Counted> {
        let last = self.readings()?;
        let pairs = last.into_iter().zip(&self.first);
        let usage: Vec<_> = pairs.map(|(last, &first)| last.since(first)).collect();
        let seconds = usage
            .first()
            .map_or_else(|| self.start.elapsed().as_secs_f64(), |u| u.seconds);
        Ok(Counted {
            seconds,
            usage,
            wire_payload: client.wire_payload() - self.wire_payload,
        })
    }
}
