//! The result of a call that sends.

use crate::topics::Published;

/// The result of each method that sends: the data that was queued for clients or handed to the
/// kernel.
///
/// All of these methods return `Result<Sent, SendError>`, so a handler can end with any of them,
/// and the arms of a `match` fit together. [`Sent::NOTHING`] is for an arm that sends nothing.
///
/// ```
/// use wsloop::{Sent, Server, event::Utf8};
///
/// let builder = Server::builder().on(Utf8, |conn, text| match text {
///     "ping" => conn.send_utf8("pong"),
///     "all" => conn.server().broadcast_utf8("hello"),
///     "bye" => conn.disconnect(1000, "as you wish"),
///     _ => Ok(Sent::NOTHING),
/// });
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    receivers: usize,
    bytes: usize,
}

impl Sent {
    /// Nothing, sent to no connection.
    pub const NOTHING: Self = Self {
        receivers: 0,
        bytes: 0,
    };

    /// The data sent to one connection; nothing if the message was dropped.
    #[inline]
    pub(crate) fn one(bytes: usize) -> Self {
        Self {
            receivers: usize::from(bytes > 0),
            bytes,
        }
    }

    /// Adds the data sent to another connection.
    pub(crate) fn add(&mut self, other: Self) {
        self.receivers += other.receivers;
        self.bytes += other.bytes;
    }

    /// Returns the number of bytes on the wire: frame headers are included, TLS is not. For several
    /// receivers it is the sum.
    pub const fn bytes(self) -> usize {
        self.bytes
    }

    /// Returns the number of connections that the data was sent to: 1 or 0, more for broadcasts.
    pub const fn receivers(self) -> usize {
        self.receivers
    }

    /// Returns whether the data was sent to no connection. Either the slow-consumer policy dropped
    /// the message (see [`SlowConsumer`](crate::SlowConsumer)), or there was nothing to send, as
    /// for an empty part of a message or a second close, or a broadcast had no receiver.
    pub const fn is_dropped(self) -> bool {
        self.receivers == 0
    }
}

/// The receivers are those for whom the message was queued or took the place of an older one.
impl From<Published> for Sent {
    fn from(published: Published) -> Self {
        Self {
            receivers: published.queued + published.conflated,
            bytes: published.bytes,
        }
    }
}
