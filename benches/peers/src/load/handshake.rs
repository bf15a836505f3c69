//! Connections that open and then close.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Registry, Token};

use super::frame::{self, client_frame};
use super::measure::Measure;
use super::meter::Reading;
use super::options::{Options, Span};
use super::stream::{Connector, Stream};

/// RFC 6455, 7.1.1: the server closes TCP first. After this time the client closes it instead.
const LINGER: Duration = Duration::from_millis(100);
/// The longest wait in a turn of the loop.
const NAP: Duration = Duration::from_millis(20);
/// A server that sends nothing for this time in a handshake has failed. Under valgrind it is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The progress of a connection.
enum Stage {
    /// The request is being written; the number counts the bytes written so far.
    Request(usize),
    /// The 101 is awaited.
    Answer,
    /// The Close frame has been sent; its echo is awaited.
    Goodbye,
    /// The server's end of the stream is awaited.
    End,
}

/// One connection from connect to close.
struct Visit {
    stream: Stream,
    stage: Stage,
    received: Vec<u8>,
    since: Instant,
}

/// Opens and closes connections, a fixed number at a time.
pub(super) fn run(options: &Options) -> Result<Measure> {
    let mut connector = Connector::new(options)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let limit = match options.span {
        Span::Rounds(rounds) => rounds * options.connections as u64,
        Span::Time { .. } => u64::MAX,
    };
    let (mut begun, mut done, mut lingered) = (0, 0_u64, 0);
    let mut visits: Vec<Option<Visit>> = Vec::new();
    visits.resize_with(options.connections, || None);

    let begin = Instant::now();
    let (start, end) = match options.span {
        Span::Rounds(_) => (begin, None),
        Span::Time { warmup, counted } => (begin + warmup, Some(begin + warmup + counted)),
    };
    let mut counting = None;
    let timeout = if options.spin { Duration::ZERO } else { NAP };
    while done < limit {
        let now = Instant::now();
        if counting.is_none() && now >= start {
            counting = Some((done, now, options.server_pid.map(Reading::of).transpose()?));
            lingered = 0;
        }
        if end.is_some_and(|end| now >= end) {
            break;
        }
        for (number, slot) in visits.iter_mut().enumerate() {
            let late = |visit: &mut Visit| match visit.stage {
                Stage::End => now - visit.since > LINGER,
                _ => false,
            };
            if slot.as_mut().is_some_and(late) {
                lingered += 1;
                done += 1;
                *slot = None;
            }
            if slot.is_none() && begun < limit {
                begun += 1;
                *slot = Some(Visit::begin(&mut connector, poll.registry(), number)?);
            }
            if let Some(visit) = slot {
                anyhow::ensure!(now - visit.since < PATIENCE, "no end of a handshake");
            }
        }
        if let Err(error) = poll.poll(&mut events, Some(timeout))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            let slot = &mut visits[event.token().0];
            if let Some(visit) = slot
                && visit.advance(&connector).context("in a handshake")?
            {
                *slot = None;
                done += 1;
            }
        }
    }
    let Some((before, from, first)) = counting else {
        bail!("the warm-up has not ended");
    };
    let usage = match (options.server_pid, first) {
        (Some(pid), Some(first)) => Some(Reading::of(pid)?.since(first)),
        _ => None,
    };
    let mut measure = Measure::new(done - before, from.elapsed().as_secs_f64(), usage);
    measure.lingered = lingered;
    Ok(measure)
}

impl Visit {
    fn begin(connector: &mut Connector, registry: &Registry, number: usize) -> Result<Self> {
        let mut stream = connector.begin()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(stream.socket(), Token(number), interest)?;
        Ok(Self {
            stream,
            stage: Stage::Request(0),
            received: Vec::with_capacity(512),
            since: Instant::now(),
        })
    }

    /// Advances until the socket would block; returns whether the connection is over.
    fn advance(&mut self, connector: &Connector) -> Result<bool> {
        if let Some(error) = self.stream.socket().take_error()? {
            return Err(error.into());
        }
        self.stream.flush()?;
        if let Stage::Request(mut written) = self.stage {
            while written < connector.request.len() {
                match self.stream.write(&connector.request[written..])? {
                    Some(more) => written += more,
                    None => break,
                }
            }
            self.stage = match written {
                all if all == connector.request.len() => Stage::Answer,
                part => Stage::Request(part),
            };
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(None) => return Ok(false),
                Ok(Some(0)) => return self.ended(),
                Ok(Some(read)) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if ends(error.kind()) => return self.ended(),
                Err(error) => return Err(error.into()),
            }
            self.judge(connector)?;
        }
    }

    fn ended(&self) -> Result<bool> {
        match self.stage {
            Stage::End => Ok(true),
            _ => bail!("the server closed too early"),
        }
    }

    fn judge(&mut self, connector: &Connector) -> Result<()> {
        if let Stage::Answer = self.stage
            && let Some(end) = self.received.windows(4).position(|w| w == b"\r\n\r\n")
        {
            connector.check_head(&self.received[..end + 4])?;
            self.received.drain(..end + 4);
            let close = client_frame(frame::CLOSE, &1000_u16.to_be_bytes(), [9, 8, 7, 6]);
            if self.stream.write(&close)? != Some(close.len()) {
                bail!("no room for a Close frame");
            }
            self.stage = Stage::Goodbye;
        }
        if let Stage::Goodbye = self.stage
            && let Some(header) = frame::parse(&self.received).map_err(anyhow::Error::msg)?
            && self.received.len() >= header.size + header.length
        {
            // RFC 6455, 5.5.1: "an endpoint typically echos the status code it received".
            let payload = &self.received[header.size..];
            if header.first != frame::CLOSE || !(payload.is_empty() || payload == [0x03, 0xe8]) {
                bail!("the answer to a Close frame is {:02x?}", self.received);
            }
            self.stage = Stage::End;
            self.since = Instant::now();
        }
        Ok(())
    }
}

/// Returns whether an error ends a stream like an EOF, such as TLS without `close_notify`.
fn ends(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
    )
}
