//! The limits of one connection.

/// The limits of one connection, in bytes or counts. Each is checked before anything is allocated
/// for the data that it limits. `usize::MAX` means no limit.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest message accepted, in bytes of payload over all of its fragments. A larger message
    /// fails the connection with 1009 at its frame header. Default 65,536.
    pub max_recv_size: usize,
    /// Largest message that can be sent, in bytes of payload. Default 65,536.
    pub max_send_size: usize,
    /// Most frames of one message; one more fails the connection with 1008. Default 131,072.
    pub max_fragments: usize,
    /// Most bytes queued for a peer that reads slowly. Default 1 MiB.
    pub max_backlog: usize,
    /// Largest request head, in bytes; a larger one gets a 431. Default 16,384.
    pub max_handshake_size: usize,
    /// Most header lines in a request; a request with more gets a 431. Default 100.
    pub max_headers: usize,
    /// Largest body of a plain request, in bytes; a larger one gets a 413. Default 65,536.
    pub max_body_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_recv_size: 64 << 10,
            max_send_size: 64 << 10,
            max_fragments: 128 << 10,
            max_backlog: 1 << 20,
            max_handshake_size: 16 << 10,
            max_headers: 100,
            max_body_size: 64 << 10,
        }
    }
}

/// The policy for a message that would exceed `max_backlog`, of the server
/// ([`Builder::slow_consumer`](crate::Builder::slow_consumer)), of one connection
/// ([`Connection::set_slow_consumer`](crate::Connection::set_slow_consumer)), or of topics
/// ([`Topic::slow_consumer`](crate::Topic::slow_consumer)).
///
/// A part of a message that is sent in parts is never dropped, because no other part could follow
/// it: where a policy would drop it, the sender gets the error. Pings and pongs may use 4 KiB
/// beyond `max_backlog`, and a Close frame is always queued. [`Stats`](crate::Stats) counts refused
/// and dropped messages and closed connections.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SlowConsumer {
    /// The sender gets [`SendError::BacklogFull`](crate::SendError::BacklogFull); the connection
    /// stays open.
    #[default]
    Error,
    /// The sender gets the same error, and the connection is closed with 1008.
    Close,
    /// The message is dropped; the sending method returns a [`Sent`](crate::Sent) without
    /// receivers.
    DropNewest,
    /// The oldest queued messages are dropped until the new one fits: only whole messages of which
    /// no byte has been sent, never control frames or parts of a message that is sent in parts. If
    /// that is not enough, the new message is dropped as with [`DropNewest`](Self::DropNewest).
    ///
    /// Messages that a handler sends to its own connection are offered to the kernel together; the
    /// part that the kernel does not accept stays queued.
    DropOldest,
    /// For topics: a message with a [key](crate::Outgoing::key) takes the place of an unsent one
    /// with the same topic and key, where that was in the queue. So a slow subscriber gets the
    /// latest message for each key, and a fast one gets every message.
    ///
    /// A message is replaced only if the kernel accepts no more data and none of its bytes has been
    /// sent. A message without a key, with a new one, or larger than the one that it replaces, is
    /// queued as long as `max_backlog` allows, and dropped otherwise. The kernel accepts only
    /// little data for a subscriber of such a topic
    /// ([`Builder::notsent_lowat`](crate::Builder::notsent_lowat)), since what it has accepted
    /// cannot be replaced. Messages that are not published to topics are treated as with
    /// [`Error`](Self::Error).
    Conflate,
}
