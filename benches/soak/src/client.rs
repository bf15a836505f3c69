//! One client: what it sends, what it is sent, and how it ends.

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

/// What a client is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// To exchange messages.
    Talk,
    /// To ask for so many pages.
    Visit(u64),
    /// To ask for something that is refused.
    Blunder,
    /// To send nothing, and to wait.
    Silence,
    /// To send half of a request, and to wait.
    Stall,
    /// To go away in the middle of the request.
    DropRequest,
    /// To go away in the middle of the first TLS message.
    DropHello,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// The opening handshake is not over, or is never to be.
    Opening,
    Open,
    /// A Close frame was sent, the server's is awaited.
    Closing,
    /// The end of the stream is awaited; what comes is read if no Close frame was.
    Ending,
    Over,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    Free,
    Paused,
    /// So many trickles are left.
    Trickle(u32),
}

/// A message of which not all frames have come.
struct Partial {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
}

/// What all clients share.
pub(crate) struct Context {
    pub(crate) rng: fastrand::Rng,
    pub(crate) scratch: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) deflate: Deflate,
    /// Round trips of clients that read, in microseconds, since it was cleared last.
    pub(crate) latency: Histogram<u64>,
    pub(crate) faults: Vec<String>,
    pub(crate) counts: Counts,
    /// Replies that are awaited by clients that read.
    pub(crate) awaited: usize,
}

/// What the load has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// Messages that were sent, and that came, in several frames.
    pub(crate) fragmented_sent: u64,
    pub(crate) fragmented_received: u64,
    pub(crate) compressed_sent: u64,
    pub(crate) compressed_received: u64,
    /// Messages that were sent while more than one reply was awaited.
    pub(crate) pipelined: u64,
    /// Times that a client stopped to read, or read at a trickle.
    pub(crate) pauses: u64,
    pub(crate) tls: u64,
    pub(crate) plain: u64,
    /// The largest message that came back.
    pub(crate) largest: u64,
}

/// A connection, from its connect to its end.
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) stream: Stream,
    pub(crate) state: State,
    pub(crate) temper: Temper,
    pub(crate) reading: Reading,
    fate: Fate,
    stage: Stage,
    /// How it ended, or will end as far as is known.
    ending: Ending,
    deflate: bool,
    inflate: Option<Box<Decompress>>,
    /// Bytes to send, and how many of them were.
    out: Vec<u8>,
    written: usize,
    /// Bytes that came and were not understood yet.
    input: Vec<u8>,
    partial: Option<Partial>,
    replies: Replies,
    /// When the messages were sent whose replies are awaited.
    flight: VecDeque<Instant>,
    sent: u64,
    pings: u64,
    pongs: u64,
    requests: u64,
    close_sent: Option<u16>,
    close_received: Option<u16>,
    /// Whether the own side is to be ended, once all is written.
    finish: bool,
    /// Since when it waits for the server to open or to end the connection.
    pub(crate) since: Instant,
}

/// What a client is made of.
pub(crate) struct Birth {
    pub(crate) number: u64,
    pub(crate) stream: Stream,
    pub(crate) fate: Fate,
    /// Whether it offers compression, and whether the server remembers messages for it then.
    pub(crate) deflate: bool,
    pub(crate) dedicated: bool,
}

impl Client {
    pub(crate) fn new(birth: Birth, context: &mut Context) -> Self {
        let Birth {
            number,
            stream,
            fate,
            deflate,
            dedicated,
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

    /// Notes that it awaits nothing any more.
    pub(crate) fn forget(&self, context: &mut Context) {
        if self.temper == Temper::Polite {
            context.awaited -= self.flight.len();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether it is there to exchange messages, and may become open.
    pub(crate) fn is_opening(&self) -> bool {
        self.state == State::Opening && self.fate == Fate::Talk
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    /// Bytes that wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// Writes and reads what can be.
    pub(crate) fn advance(&mut self, context: &mut Context) {
        self.flush();
        // Others read when their time comes.
        if self.reading == Reading::Free {
            self.read(usize::MAX, context);
        }
    }

    /// Reads up to so many bytes, or somewhat more.
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

    /// Reads a trickle; what is left comes with the next, or at once if it is the last.
    pub(crate) fn trickle(&mut self, context: &mut Context) {
        self.read(TRICKLE, context);
        if self.state != State::Open {
            self.reading = Reading::Free;
            self.advance(context);
        }
    }

    /// Writes what there is room for, and ends the own side if that is due.
    pub(crate) fn flush(&mut self) {
        if self.state == State::Over || self.fate == Fate::DropHello {
            return;
        }
        if self.write_out().is_err() {
            // The end is told by what is read; what was to be sent cannot be any more.
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
        // Most are idle most of the time, and shall not hold what they held once.
        match self.out.capacity() {
            ..=KEPT => self.out.clear(),
            _ => self.out = Vec::new(),
        }
        Ok(())
    }

    /// What is written down of it.
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
            news: self.replies.news,
        }
    }
}

/// A trickle, in bytes.
const TRICKLE: usize = 4096;

/// The largest empty buffer that is kept.
const KEPT: usize = 2048;
