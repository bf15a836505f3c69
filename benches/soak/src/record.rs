//! The records that the two sides keep of an ended connection.

use std::fmt;
use std::net::SocketAddr;
use std::str::{FromStr, SplitWhitespace};

use anyhow::{Context, Result, bail};
use wsloop::HandshakeError;
use wsloop::event::Cause;

use crate::topics::{Heard, Served};

/// The server's record of a connection, written in its only `Disconnect`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ServerRecord {
    /// The number that the client sent; `None` if no handshake completed.
    pub(crate) number: Option<u64>,
    pub(crate) addr: SocketAddr,
    pub(crate) why: Why,
    pub(crate) code: u16,
    /// Plain requests that received a response.
    pub(crate) requests: u64,
    pub(crate) pings: u64,
    /// Messages received.
    pub(crate) received: u64,
    /// Messages sent: echoes, messages for this client alone, and messages for several clients.
    pub(crate) echoed: u64,
    pub(crate) pushed: u64,
    pub(crate) news: u64,
    /// Messages that were published to it. With statistics of each connection, these are among the
    /// news as well.
    pub(crate) topics: Box<Served>,
}

/// The cause of the end of a connection, from the server's point of view.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Why {
    Answered,
    Cut,
    Eof,
    Handler,
    Handshake,
    Io,
    Lifetime,
    Local,
    Peer,
    Protocol,
    Shutdown,
    Silent,
    SlowConsumer,
    TimedOut,
    /// A cause that this program does not know.
    Unknown,
}

impl Why {
    const ALL: [Self; 15] = [
        Self::Answered,
        Self::Cut,
        Self::Eof,
        Self::Handler,
        Self::Handshake,
        Self::Io,
        Self::Lifetime,
        Self::Local,
        Self::Peer,
        Self::Protocol,
        Self::Shutdown,
        Self::Silent,
        Self::SlowConsumer,
        Self::TimedOut,
        Self::Unknown,
    ];

    /// Returns whether the program of the server caused the end.
    pub(crate) fn is_own(self) -> bool {
        matches!(
            self,
            Self::Cut
                | Self::Handler
                | Self::Lifetime
                | Self::Local
                | Self::Shutdown
                | Self::SlowConsumer
        )
    }
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Answered => Self::Answered,
            Cause::Cut => Self::Cut,
            Cause::Eof => Self::Eof,
            Cause::Handler => Self::Handler,
            Cause::Handshake(HandshakeError::TimedOut) => Self::TimedOut,
            Cause::Handshake(_) => Self::Handshake,
            Cause::Io => Self::Io,
            Cause::Lifetime => Self::Lifetime,
            Cause::Local => Self::Local,
            Cause::Peer => Self::Peer,
            Cause::Protocol(_) => Self::Protocol,
            Cause::Shutdown => Self::Shutdown,
            Cause::Silent => Self::Silent,
            Cause::SlowConsumer => Self::SlowConsumer,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ServerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{number}")?,
            None => f.write_str("-")?,
        }
        let Self {
            addr, why, code, ..
        } = self;
        write!(f, " {addr} {why:?} {code} {} {}", self.requests, self.pings)?;
        let Self {
            received,
            echoed,
            pushed,
            news,
            topics,
            ..
        } = self;
        write!(f, " {received} {echoed} {pushed} {news} {topics}")
    }
}

impl FromStr for ServerRecord {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let number = words.next().context("an empty record")?;
        let number = (number != "-").then(|| number.parse()).transpose()?;
        let addr = next(&mut words)?;
        let why = words.next().unwrap_or_default();
        let known = |candidate: &Why| format!("{candidate:?}") == why;
        let record = Self {
            number,
            addr,
            why: Why::ALL.into_iter().find(known).context("a cause")?,
            code: next(&mut words)?,
            requests: next(&mut words)?,
            pings: next(&mut words)?,
            received: next(&mut words)?,
            echoed: next(&mut words)?,
            pushed: next(&mut words)?,
            news: next(&mut words)?,
            topics: Box::new(Served::parse(&mut words)?),
        };
        if let Some(word) = words.next() {
            bail!("{word} at the end of a record");
        }
        Ok(record)
    }
}

/// Parses the next word as a number or an address.
pub(crate) fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Result<T> {
    let word = words.next().context("a line that is too short")?;
    word.parse().ok().with_context(|| format!("{word:?}"))
}

/// The client's record of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClientRecord {
    pub(crate) number: u64,
    pub(crate) stage: Stage,
    pub(crate) ending: Ending,
    /// Whether the client is a slow one, which the server may cut while it closes the connection.
    pub(crate) is_slow: bool,
    pub(crate) close_sent: Option<u16>,
    pub(crate) close_received: Option<u16>,
    /// Plain requests that received a response.
    pub(crate) requests: u64,
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages received, by kind.
    pub(crate) echoes: u64,
    pub(crate) pushes: u64,
    pub(crate) news: u64,
    pub(crate) topics: Box<Heard>,
}

/// The progress of a connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// The client has not sent a complete request.
    Connected,
    /// The client has sent the request and received no response.
    Requested,
    /// The client has received a response.
    Open,
}

/// The end of a connection, from the client's point of view.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Ending {
    /// The client sent a Close frame first, and read until the end of the stream.
    Closed,
    /// The server sent a Close frame first; the client answered it, and read until the end.
    Answered,
    /// The client shut down its sending side without a Close frame, and read until the end.
    HalfClosed,
    /// The client closed its socket without a Close frame.
    Dropped,
    /// The client reset the connection.
    Reset,
    /// The client closed its socket within a message, between two of its frames.
    InMessage,
    /// The client closed its socket within a frame.
    InFrame,
    /// The client closed its socket within a TLS record.
    InRecord,
    /// The client closed its socket within its request, or before it.
    InHandshake,
    /// The client closed its socket within its first TLS message.
    InHello,
    /// The server ended the connection without a Close frame.
    Lost,
    /// The client never completed its handshake, and the server closed the connection.
    Unfinished,
    /// Plain requests received responses.
    Visited,
    /// The request was invalid, and the server refused it.
    Refused,
}

impl Ending {
    /// Returns whether the client left without reading all data.
    pub(crate) fn is_kill(self) -> bool {
        matches!(
            self,
            Self::Dropped
                | Self::Reset
                | Self::InMessage
                | Self::InFrame
                | Self::InRecord
                | Self::InHandshake
                | Self::InHello
        )
    }

    /// Returns the description for the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Closed => "closed by the client, in order",
            Self::Answered => "closed by the server, in order",
            Self::HalfClosed => "half closed by the client, without a Close frame",
            Self::Dropped => "dropped by the client",
            Self::Reset => "reset by the client",
            Self::InMessage => "dropped within a message, between two fragments",
            Self::InFrame => "dropped within a frame",
            Self::InRecord => "dropped within a TLS record",
            Self::InHandshake => "dropped within the opening handshake",
            Self::InHello => "dropped within the TLS handshake",
            Self::Lost => "cut by the server",
            Self::Unfinished => "never finished the opening handshake",
            Self::Visited => "plain HTTP requests",
            Self::Refused => "bad requests, refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_line() {
        for (number, why) in [(Some(7), Why::Peer), (None, Why::TimedOut)] {
            let record = ServerRecord {
                number,
                addr: SocketAddr::from(([127, 0, 0, 2], 4000)),
                why,
                code: 1000,
                requests: 1,
                pings: 2,
                received: 3,
                echoed: 4,
                pushed: 5,
                news: 6,
                topics: Box::default(),
            };
            let line = record.to_string();
            assert_eq!(line.parse::<ServerRecord>().unwrap(), record);
            assert!(format!("{line} 7").parse::<ServerRecord>().is_err());
            assert!(line[..line.len() - 2].parse::<ServerRecord>().is_err());
        }
    }
}
