//! One client: what it sends, what it receives, and how it ends.

mod deflate;
mod ends;
mod receiving;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use flate2::Decompress;
use hdrhistogram::Histogram;

use crate::checker::Replies;
use crate::message::Temper;
use crate::record::{ClientRecord, Ending, Stage};
use crate::stream::{Got, Stream, is_end};
pub(crate) use deflate::Deflate;

/// The purpose of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// Exchanges messages.
    Talk,
    /// Requests this number of pages.
    Visit(u64),
    /// Sends a request that the server refuses.
    Blunder,
    /// Sends nothing, and waits.
    Silence,
    /// Sends half of a request, and waits.
    Stall,
    /// Disconnects in the middle of the request.
    DropRequest,
    /// Disconnects in the middle of the first TLS message.
    DropHello,
}

/// The state of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// The opening handshake is not complete, or never will be.
    Opening,
    Open,
    /// The client has sent a Close frame and awaits the server's.
    Closing,
    /// The client awaits the end of the stream. It reads frames if there was no Close frame yet.
    Ending,
    Over,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    Free,
    Paused,
    /// This number of small reads is left.
    Trickle(u32),
}

/// A message whose frames have not all arrived.
struct Partial {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
}

/// State that all clients share.
pub(crate) struct Context {
    pub(crate) rng: fastrand::Rng,
    pub(crate) scratch: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) deflate: Deflate,
    /// Round trips of polite clients, in microseconds, since the last reset.
    pub(crate) latency: Histogram<u64>,
    pub(crate) faults: Vec<String>,
    pub(crate) counts: Counts,
    /// Replies that polite clients await.
    pub(crate) awaited: usize,
}

/// The counters of the load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// Messages that were sent or received in several frames.
    pub(crate) fragmented_sent: u64,
    pub(crate) fragmented_received: u64,
    pub(crate) compressed_sent: u64,
    pub(crate) compressed_received: u64,
    /// Messages that were sent while at least one reply was awaited.
    pub(crate) pipelined: u64,
    /// How often a client stopped reading, or read slowly.
    pub(crate) pauses: u64,
    pub(crate) tls: u64,
    pub(crate) plain: u64,
    /// The largest message received.
    pub(crate) largest: u64,
}

/// A connection from connect to end.
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) stream: Stream,
    pub(crate) state: State,
    pub(crate) temper: Temper,
    pub(crate) reading: Reading,
    fate: Fate,
    stage: Stage,
    /// How the connection ended, or will end as far as is known.
    ending: Ending,
    deflate: bool,
    inflate: Option<Box<Decompress>>,
    /// Whether its server has a compressor, and statistics, for each connection.
    pub(crate) dedicated: bool,
    position: Option<[u64; 2]>,
    /// Bytes to send, and the number of them that have been written.
    out: Vec<u8>,
    written: usize,
    /// Bytes that were received and are not parsed yet.
    input: Vec<u8>,
    partial: Option<Partial>,
    replies: Replies,
    /// The times at which the messages with awaited replies were sent.
    flight: VecDeque<Instant>,
    sent: u64,
    pings: u64,
    pongs: u64,
    requests: u64,
    close_sent: Option<u16>,
    close_received: Option<u16>,
    /// Whether to shut down the sending side when everything has been written.
    finish: bool,
    /// When the client started to wait for the server to open or to end the connection.
    pub(crate) since: Instant,
}

/// The parameters of a new client.
pub(crate) struct Birth {
    pub(crate) number: u64,
    pub(crate) stream: Stream,
    pub(crate) fate: Fate,
    /// Whether the client offers compression, and whether the server then keeps its context.
    pub(crate) deflate: bool,
    pub(crate) dedicated: bool,
    /// The epoch and the number of the last message with a history that an earlier client received.
    pub(crate) position: Option<[u64; 2]>,
}

impl Client {
    pub(crate) fn new(birth: Birth, context: &mut Context) -> Self {
        let Birth {
            number,
            stream,
            fate,
            deflate,
            dedicated,
            position,
        } = birth;
        let inflate = || Box::new(Decompress::new(false));
        let mut client = Self {
            number,
            stream,
            state: State::Opening,
            temper: Temper::of(number),
            reading: Reading::Free,
            fate,
            stage: Stage::Connected,
            ending: match fate {
                Fate::Talk => Ending::Lost,
                Fate::Visit(_) => Ending::Visited,
                Fate::Blunder => Ending::Refused,
                Fate::Silence | Fate::Stall => Ending::Unfinished,
                Fate::DropRequest => Ending::InHandshake,
                Fate::DropHello => Ending::InHello,
            },
            deflate,
            inflate: (deflate && dedicated).then(inflate),
            dedicated,
            position,
            out: Vec::new(),
            written: 0,
            input: Vec::new(),
            partial: None,
            replies: Replies::new(number),
            flight: VecDeque::new(),
            sent: 0,
            pings: 0,
            pongs: 0,
            requests: 0,
            close_sent: None,
            close_received: None,
            finish: false,
            since: Instant::now(),
        };
        match client.stream.is_tls() {
            true => context.counts.tls += 1,
            false => context.counts.plain += 1,
        }
        client.ask();
        client
    }

    /// Removes the client's awaited replies from the total.
    pub(crate) fn forget(&self, context: &mut Context) {
        if self.temper == Temper::Polite {
            context.awaited -= self.flight.len();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Returns whether the client exchanges messages and may still become open.
    pub(crate) fn is_opening(&self) -> bool {
        self.state == State::Opening && self.fate == Fate::Talk
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    /// Returns the number of unsent bytes.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// Writes and reads as far as possible.
    pub(crate) fn advance(&mut self, context: &mut Context) {
        self.flush();
        // Slow clients read when their alarm is due.
        if self.reading == Reading::Free {
            self.read(usize::MAX, context);
        }
    }

    /// Reads about `limit` bytes, or all that are available.
    pub(crate) fn read(&mut self, limit: usize, context: &mut Context) {
        let mut buffer = std::mem::take(&mut context.buffer);
        let mut total = 0;
        while total < limit && self.state != State::Over {
            let size = (limit - total).min(buffer.len());
            match self.stream.read(&mut buffer[..size]) {
                Ok(Got::Bytes(size)) => {
                    total += size;
                    self.input.extend_from_slice(&buffer[..size]);
                    if let Err(fault) = self.take(context) {
                        let fault = format!("{} at the client: {fault}", self.number);
                        context.faults.push(fault);
                        self.state = State::Over;
                    }
                }
                Ok(Got::Nothing) => break,
                Ok(Got::End) => self.ended(context),
                Err(error) if is_end(&error) => self.ended(context),
                Err(error) => {
                    context.faults.push(format!("{}: {error}", self.number));
                    self.ended(context);
                }
            }
        }
        context.buffer = buffer;
        self.flush();
    }

    /// Reads a few KiB. If the connection is no longer open, reads everything else as well.
    pub(crate) fn trickle(&mut self, context: &mut Context) {
        self.read(TRICKLE, context);
        if self.state != State::Open {
            self.reading = Reading::Free;
            self.advance(context);
        }
    }

    /// Writes as many bytes as the socket accepts, and shuts down the sending side if that is due.
    pub(crate) fn flush(&mut self) {
        if self.state == State::Over || self.fate == Fate::DropHello {
            return;
        }
        if self.write_out().is_err() {
            // Nothing can be sent any more; the next read reports the end of the connection.
            (self.out, self.written) = (Vec::new(), 0);
        }
        if self.out.is_empty() && self.finish {
            self.finish = false;
            self.stream.finish();
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..])? {
                0 => return Ok(()),
                size => self.written += size,
            }
        }
        self.stream.flush()?;
        self.written = 0;
        // Most clients are idle most of the time, so they must not keep large buffers.
        match self.out.capacity() {
            ..=KEPT => self.out.clear(),
            _ => self.out = Vec::new(),
        }
        Ok(())
    }

    /// Returns the epoch and the number of the last message with a history.
    pub(crate) fn position(&self) -> Option<[u64; 2]> {
        let topics = &self.replies.topics;
        topics.history.map(|[_, last]| [topics.epoch, last])
    }

    /// Returns the client's record for the ledger.
    pub(crate) fn record(&self) -> ClientRecord {
        ClientRecord {
            number: self.number,
            stage: self.stage,
            ending: self.ending,
            is_slow: self.temper == Temper::Slow,
            close_sent: self.close_sent,
            close_received: self.close_received,
            requests: self.requests,
            pings: self.pings,
            pongs: self.pongs,
            sent: self.sent,
            echoes: self.replies.echoes,
            pushes: self.replies.pushes,
            news: match self.dedicated {
                // The server's statistics do not tell them apart.
                true => self.replies.news + self.replies.topics.total(),
                false => self.replies.news,
            },
            topics: self.replies.topics.clone(),
        }
    }
}

/// The size of a small read, in bytes.
const TRICKLE: usize = 4096;

/// The largest capacity of an empty buffer that is kept.
const KEPT: usize = 2048;
