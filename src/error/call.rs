//! Faults of the caller, and of handlers.

use std::any::Any;
use std::fmt;

use crate::close_code::CloseCode;

/// The reason why data could not be sent; nothing was sent.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendError {
    /// The message would exceed `max_backlog`, and the kernel accepts no more: the peer does not
    /// read fast enough. A `Drain` follows, unless the connection closes.
    BacklogFull {
        /// Bytes already queued for the peer.
        queued: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A close code that must not be sent (RFC 6455, 7.4), among them 1005, 1006 and 1015.
    BadCloseCode(u16),
    /// A frame that cannot be sent alone: a continuation, or a malformed Close frame.
    BadFrame,
    /// Text that is not UTF-8.
    BadUtf8,
    /// The connection is closing: no frame may follow a Close frame (RFC 6455, 5.5.1).
    Closing,
    /// The payload of a control frame, or a close reason with its code, is longer than 125 bytes
    /// (RFC 6455, 5.5).
    ControlTooLong {
        /// The payload's size, in bytes.
        size: usize,
    },
    /// The slow-consumer policy dropped the message, because the peer reads too slowly (see
    /// [`SlowConsumer`](crate::SlowConsumer)).
    Dropped,
    /// The connection, or the server of a [`Handle`](crate::Handle), has ended.
    Gone,
    /// A message in parts has begun and not ended: only control frames can be sent between its
    /// parts (RFC 6455, 5.4).
    MessageUnderWay,
    /// The message would have to be queued, and the server's
    /// [`memory_budget`](crate::Builder::memory_budget) is nearly used up.
    NoMemory {
        /// The budget, in bytes.
        budget: usize,
    },
    /// A part of a message was sent before a message was begun.
    NoMessage,
    /// The opening handshake is not over yet.
    NotReady,
    /// The name of a topic is longer than
    /// [`max_topic_size`](crate::Builder::max_topic_size).
    TopicNameTooLong {
        /// The name's size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The message is larger than `max_send_size`.
    TooBig {
        /// The message's size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The connection is subscribed to
    /// [`max_subscriptions`](crate::Builder::max_subscriptions) topics.
    TooManySubscriptions {
        /// The limit.
        limit: usize,
    },
    /// The server has [`max_topics`](crate::Builder::max_topics) topics.
    TooManyTopics {
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BacklogFull { queued, limit } => {
                write!(
                    f,
                    "message does not fit: {queued} bytes are queued, max_backlog is {limit}"
                )
            }
            Self::BadCloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::BadFrame => f.write_str("a frame of this kind cannot be sent by this call"),
            Self::BadUtf8 => f.write_str("text is not UTF-8"),
            Self::Closing => f.write_str("the connection is closing"),
            Self::ControlTooLong { size } => {
                write!(
                    f,
                    "payload of a control frame has {size} bytes, more than 125"
                )
            }
            Self::Dropped => {
                f.write_str("the message was dropped, because the peer reads too slowly")
            }
            Self::Gone => f.write_str("the connection or the server has ended"),
            Self::MessageUnderWay => f.write_str("a message in parts has not ended"),
            Self::NoMemory { budget } => {
                write!(f, "memory_budget of {budget} bytes is nearly used up")
            }
            Self::NoMessage => f.write_str("no message in parts was started"),
            Self::NotReady => f.write_str("the opening handshake is not complete"),
            Self::TopicNameTooLong { size, limit } => {
                write!(f, "topic name of {size} bytes, max_topic_size is {limit}")
            }
            Self::TooManySubscriptions { limit } => {
                write!(f, "subscribed to max_subscriptions of {limit} topics")
            }
            Self::TooManyTopics { limit } => write!(f, "max_topics of {limit} is reached"),
            Self::TooBig { size, limit } => {
                write!(
                    f,
                    "message of {size} bytes exceeds max_send_size of {limit}"
                )
            }
        }
    }
}

impl std::error::Error for SendError {}

/// The reason why an HTTP response cannot be given; nothing was changed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerError {
    /// The name or the value of a header, or a part of a cookie, has bytes that would corrupt the
    /// message (RFC 9110, 5.5; RFC 6265, 4.1.1).
    BadHeader,
    /// The reason phrase has control characters (RFC 9112, 4).
    BadReason,
    /// The status is not allowed there.
    BadStatus,
    /// The opening handshake is over, or was answered already.
    HandshakeDone,
    /// The header is one that only this crate writes: `Content-Length`, for instance.
    ReservedHeader,
    /// The client does not offer this subprotocol (RFC 6455, 4.1).
    SubprotocolNotOffered,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HandshakeDone => "the opening handshake is complete, or was answered already",
            Self::BadHeader => "malformed header or cookie",
            Self::BadReason => "reason phrase contains control characters",
            Self::BadStatus => "status is not allowed in this response",
            Self::ReservedHeader => "the server itself writes this header",
            Self::SubprotocolNotOffered => "the client does not offer this subprotocol",
        })
    }
}

impl std::error::Error for AnswerError {}

impl CloseCode {
    /// Returns the code if a Close frame may contain it.
    ///
    /// # Errors
    ///
    /// [`SendError::BadCloseCode`] if it must not be sent (RFC 6455, 7.4).
    pub(crate) fn sendable(self) -> Result<Self, SendError> {
        match self.is_sendable() {
            true => Ok(self),
            false => Err(SendError::BadCloseCode(self.as_u16())),
        }
    }
}

/// A handler returned an error or panicked; its connection is closed with 1011.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HandlerError(Box<str>);

impl HandlerError {
    pub(crate) fn new(error: &dyn fmt::Display) -> Self {
        Self(error.to_string().into_boxed_str())
    }

    pub(crate) fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no message)");
        Self::new(&format_args!("panicked: {text}"))
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HandlerError {}
