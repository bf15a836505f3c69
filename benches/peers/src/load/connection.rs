//! One connection: its unsent frames and the replies that it awaits.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Result, bail};
use mio::{Interest, Registry, Token};

use super::checker::{Checker, Wire};
use super::sides::Side;
use super::stream::Stream;
use super::traffic::Traffic;

/// The progress of a connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Replies that were completed.
    pub(super) messages: u64,
    /// Bursts that were completed.
    pub(super) bursts: u64,
    /// Pongs that were received.
    pub(super) pongs: u64,
}

/// A burst that awaits its replies.
struct Sent {
    burst: usize,
    at: Instant,
}

/// Frames that still have to be written.
enum Outgoing {
    Burst(usize),
    Frames(Vec<u8>),
}

/// An open connection.
pub(super) struct Connection {
    stream: Stream,
    outgoing: VecDeque<Outgoing>,
    /// The bytes of the first item of `outgoing` that have been written.
    written: usize,
    awaited: VecDeque<Sent>,
    /// Checks the replies.
    pub(super) checker: Checker,
    /// The next burst, counted from this connection's first one.
    next: usize,
    /// Bursts that have been sent.
    pub(super) rounds: u64,
    /// Whether the connection is near the publisher or far from it, if that matters.
    pub(super) side: Option<Side>,
}

impl Connection {
    /// Creates a connection. Connections with different numbers start with different bursts.
    pub(super) fn new(
        mut stream: Stream,
        wire: Wire,
        number: usize,
        registry: &Registry,
    ) -> Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(stream.socket(), Token(number), interest)?;
        Ok(Self {
            stream,
            outgoing: VecDeque::new(),
            written: 0,
            awaited: VecDeque::new(),
            checker: Checker::new(wire),
            next: number * 5,
            rounds: 0,
            side: None,
        })
    }

    /// Sends the next burst; its latency counts from `at`.
    pub(super) fn send_next(&mut self, traffic: &Traffic, at: Instant) -> Result<()> {
        let burst = self.next;
        self.next += 1;
        self.send(burst, traffic, at)
    }

    /// Sends a burst.
    pub(super) fn send(&mut self, burst: usize, traffic: &Traffic, at: Instant) -> Result<()> {
        self.rounds += 1;
        self.awaits(burst, at);
        self.outgoing.push_back(Outgoing::Burst(burst));
        self.flush(traffic)
    }

    /// Sends frames to which no reply is awaited.
    pub(super) fn send_frames(&mut self, frames: Vec<u8>, traffic: &Traffic) -> Result<()> {
        self.outgoing.push_back(Outgoing::Frames(frames));
        self.flush(traffic)
    }

    /// Awaits the replies to a burst, which another connection may have sent.
    pub(super) fn awaits(&mut self, burst: usize, at: Instant) {
        self.awaited.push_back(Sent { burst, at });
    }

    /// Returns whether no reply is awaited.
    pub(super) fn is_quiet(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Returns the number of bursts whose replies are awaited.
    pub(super) fn awaited(&self) -> u64 {
        self.awaited.len() as u64
    }

    /// Yields when the bursts were sent whose replies are awaited.
    pub(super) fn sent_at(&self) -> impl Iterator<Item = Instant> {
        self.awaited.iter().map(|sent| sent.at)
    }

    /// Writes as many bytes as the socket accepts.
    pub(super) fn flush(&mut self, traffic: &Traffic) -> Result<()> {
        self.stream.flush()?;
        while let Some(front) = self.outgoing.front() {
            let bytes = match front {
                Outgoing::Burst(burst) => &traffic.burst(*burst).request,
                Outgoing::Frames(frames) => frames,
            };
            let Some(written) = self.stream.write(&bytes[self.written..])? else {
                break;
            };
            self.written += written;
            if self.written == bytes.len() {
                self.written = 0;
                self.outgoing.pop_front();
            }
        }
        Ok(())
    }

    /// Reads and checks the available bytes. Calls `latency` for each reply, with the times of its
    /// burst and of the read.
    pub(super) fn receive(
        &mut self,
        traffic: &Traffic,
        buffer: &mut [u8],
        mut latency: impl FnMut(Instant, Instant),
    ) -> Result<Progress> {
        let mut progress = Progress::default();
        while let Some(read) = self.stream.read(buffer)? {
            if read == 0 {
                bail!("the server closed the connection");
            }
            let now = Instant::now();
            let mut bytes = &buffer[..read];
            while !bytes.is_empty() {
                let front = self.awaited.front();
                let fed = self
                    .checker
                    .feed(bytes, traffic, front.map(|sent| sent.burst))
                    .map_err(anyhow::Error::msg)?;
                bytes = &bytes[fed.consumed..];
                for _ in 0..fed.messages {
                    if let Some(sent) = front {
                        latency(sent.at, now);
                    }
                }
                progress.messages += fed.messages as u64;
                progress.pongs += u64::from(fed.pong);
                if fed.whole {
                    progress.bursts += 1;
                    self.awaited.pop_front();
                }
                if let Some(pong) = fed.pong_due {
                    self.send_frames(pong, traffic)?;
                }
            }
            if read < buffer.len() && self.stream.short_read_is_all() {
                break;
            }
        }
        Ok(progress)
    }
}
