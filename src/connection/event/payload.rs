//! The data of events for which no other module has a type.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::error::{HandshakeError, ProtocolError};
use crate::protocol::CloseCode;

/// A connection that was just accepted.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'p> {
    /// The address of the socket's peer, which may be a proxy; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The socket, for its options.
    pub socket: Option<BorrowedFd<'p>>,
}

/// Messages of a topic that were lost on the way to a loop.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lost<'p> {
    /// The name of the topic.
    pub topic: &'p str,
    /// How many messages were lost; `None` if the number is not known, and may be zero: for
    /// instance after the connection to an engine broke.
    pub count: Option<u64>,
}

/// The end of a connection.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Disconnected<'p> {
    /// The close code: the peer's if the peer closed, otherwise ours. It is [`CloseCode::ABNORMAL`]
    /// if no Close frame was sent, or if the kernel had not accepted it when the connection was
    /// cut.
    pub code: CloseCode,
    /// The reason that belongs to the code; it may be empty.
    pub reason: &'p str,
    /// The cause of the end.
    pub cause: Cause,
    /// Bytes that were sent to the peer and that the kernel had not accepted when the connection
    /// was cut; they are lost. Data that TLS holds back (at most 128 KiB) and data that the kernel
    /// had accepted do not count. 0 if the connection ended in order.
    pub unsent: usize,
}

impl fmt::Display for Disconnected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.cause)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if self.unsent > 0 {
            write!(f, ", {} bytes unsent", self.unsent)?;
        }
        Ok(())
    }
}

/// The cause of a connection's end.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Plain requests were answered, and no further request came or was allowed.
    Answered,
    /// [`Connection::abort`](crate::Connection::abort) or a deadline cut the connection.
    Cut,
    /// The peer ended the connection without a Close frame.
    Eof,
    /// A handler failed.
    Handler,
    /// The opening handshake was refused.
    Handshake(HandshakeError),
    /// The network failed.
    Io,
    /// The connection was older than [`max_lifetime`](crate::Builder::max_lifetime), or than
    /// [`set_lifetime`](crate::Connection::set_lifetime) allowed.
    Lifetime,
    /// [`Connection::disconnect`](crate::Connection::disconnect) was called.
    Local,
    /// The server's [`memory_budget`](crate::Builder::memory_budget) was used up, and the
    /// connection held more than others.
    NoMemory,
    /// The peer sent a Close frame.
    Peer,
    /// The peer broke the protocol or a limit.
    Protocol(ProtocolError),
    /// The server was shut down.
    Shutdown,
    /// The peer was silent for longer than `idle_timeout`.
    Silent,
    /// The peer read too slowly, and [`SlowConsumer::Close`](crate::SlowConsumer::Close) is set.
    SlowConsumer,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("plain requests were answered"),
            Self::Cut => f.write_str("cut by the server"),
            Self::Eof => f.write_str("connection ended without a Close frame"),
            Self::Handler => f.write_str("a handler failed"),
            Self::Handshake(error) => error.fmt(f),
            Self::Io => f.write_str("network error"),
            Self::Lifetime => f.write_str("older than max_lifetime"),
            Self::Local => f.write_str("closed by the server"),
            Self::NoMemory => f.write_str("memory_budget is used up"),
            Self::Peer => f.write_str("closed by the peer"),
            Self::Protocol(error) => error.fmt(f),
            Self::Shutdown => f.write_str("the server shut down"),
            Self::Silent => f.write_str("silent for longer than idle_timeout"),
            Self::SlowConsumer => f.write_str("max_backlog exceeded"),
        }
    }
}

/// A tick, or a call of an interval, and the number of those that were missed before it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// The time at which this turn of the loop began.
    pub now: Instant,
    /// How many ticks were due since the last one and were not delivered, because the loop was busy
    /// for longer than the period.
    pub missed: u64,
}
