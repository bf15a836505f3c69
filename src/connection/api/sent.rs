//! What became of a call that sends.

/// What a call queued for clients, or handed to the kernel: the answer of every method that sends.
///
/// Handlers may end in it, whatever their branches do: all these methods return
/// `Result<Sent, SendError>`, and [`Sent::NOTHING`] is for a branch that sends nothing.
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
#[must_use]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    receivers: usize,
    bytes: usize,
}

impl Sent {
    /// Nothing was sent, to nobody.
    pub const NOTHING: Self = Self {
        receivers: 0,
        bytes: 0,
    };

    /// What was sent to one connection; nothing if it was dropped.
    #[inline]
    pub(crate) fn one(bytes: usize) -> Self {
        Self {
            receivers: usize::from(bytes > 0),
            bytes,
        }
    }

    /// Adds what was sent to another connection.
    pub(crate) fn add(&mut self, other: Self) {
        self.receivers += other.receivers;
        self.bytes += other.bytes;
    }

    /// Returns the bytes on the wire without TLS, frame headers included, for all receivers together.
    pub const fn bytes(self) -> usize {
        self.bytes
    }

    /// Returns how many connections it was sent to: 1 or 0, except for broadcasts.
    pub const fn receivers(self) -> usize {
        self.receivers
    }

    /// Returns whether it was sent to no connection: the slow-consumer policy dropped the message
    /// (see [`SlowConsumer`](crate::SlowConsumer)), or there was nothing to send, such as an empty
    /// part of a message or a second close, or a broadcast had no receiver.
    pub const fn is_dropped(self) -> bool {
        self.receivers == 0
    }
}
