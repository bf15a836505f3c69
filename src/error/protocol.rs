//! Faults of the peer in the protocol.

use std::fmt;

use crate::close_code::CloseCode;
use crate::reasons::ProtocolReason;

/// The peer violated the WebSocket protocol, or exceeded a limit.
///
/// The connection is failed (RFC 6455, 7.1.7): the server sends a Close frame with
/// [`close_code`](Self::close_code) and ignores all further data from the peer.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// A Close frame has a code that must not be sent (RFC 6455, 7.4).
    BadCloseCode(u16),
    /// The body of a Close frame is one byte long, too short for a code (RFC 6455, 5.5.1).
    BadCloseLength,
    /// The compressed data of a message is not valid DEFLATE (RFC 7692, 7.2.2).
    BadDeflate,
    /// A text message or a close reason is not UTF-8 (RFC 6455, 8.1).
    BadUtf8,
    /// A new data frame came before the last fragment of the previous message (RFC 6455, 5.4).
    ContinuationExpected,
    /// A continuation frame came without a message to continue (RFC 6455, 5.4).
    ContinuationUnexpected,
    /// A control frame is fragmented (RFC 6455, 5.5).
    ControlFragmented,
    /// A control frame's payload is longer than 125 bytes (RFC 6455, 5.5).
    ControlTooLong,
    /// A payload length uses more bytes than it needs (RFC 6455, 5.2).
    LengthNotMinimal,
    /// The top bit of a 64-bit payload length is set (RFC 6455, 5.2).
    LengthTopBit,
    /// A message is larger than `max_recv_size`.
    MessageTooBig {
        /// The size of the message as far as its frame headers have announced it, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A reserved bit is set that no negotiated extension uses (RFC 6455, 5.2). Carries the three
    /// bits.
    ReservedBits(u8),
    /// A frame has an undefined opcode (RFC 6455, 5.2). Carries it.
    ReservedOpCode(u8),
    /// A message expands to more than `max_ratio` times its compressed size (RFC 7692, 8).
    RatioTooHigh {
        /// The limit.
        limit: usize,
    },
    /// A message was not complete within `message_timeout`.
    TimedOut,
    /// More bytes arrived than [`max_byte_rate`](crate::Builder::max_byte_rate) allows.
    TooManyBytes,
    /// A message has more frames than `max_fragments`.
    TooManyFragments {
        /// The limit, in frames.
        limit: usize,
    },
    /// More messages arrived than [`max_message_rate`](crate::Builder::max_message_rate) allows.
    TooManyMessages,
    /// More pings and pongs arrived than [`max_ping_rate`](crate::Builder::max_ping_rate) allows.
    TooManyPings,
    /// A client's frame is not masked (RFC 6455, 5.1).
    Unmasked,
}

impl ProtocolError {
    /// Returns the close code to fail the connection with (RFC 6455, 7.4.1).
    ///
    /// No other code chooses a close code for a peer's fault.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::BadUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig { .. } | Self::RatioTooHigh { .. } => CloseCode::MESSAGE_TOO_BIG,
            Self::TimedOut
            | Self::TooManyBytes
            | Self::TooManyFragments { .. }
            | Self::TooManyMessages
            | Self::TooManyPings => CloseCode::POLICY_VIOLATION,
            Self::BadCloseCode(_)
            | Self::BadCloseLength
            | Self::BadDeflate
            | Self::ContinuationExpected
            | Self::ContinuationUnexpected
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::ReservedBits(_)
            | Self::ReservedOpCode(_)
            | Self::Unmasked => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// Returns the reason without its values, which is the key of its counter.
    pub const fn reason(&self) -> ProtocolReason {
        match self {
            Self::BadCloseCode(_) => ProtocolReason::BadCloseCode,
            Self::BadCloseLength => ProtocolReason::BadCloseLength,
            Self::BadDeflate => ProtocolReason::BadDeflate,
            Self::BadUtf8 => ProtocolReason::BadUtf8,
            Self::ContinuationExpected => ProtocolReason::ContinuationExpected,
            Self::ContinuationUnexpected => ProtocolReason::ContinuationUnexpected,
            Self::ControlFragmented => ProtocolReason::ControlFragmented,
            Self::ControlTooLong => ProtocolReason::ControlTooLong,
            Self::LengthNotMinimal => ProtocolReason::LengthNotMinimal,
            Self::LengthTopBit => ProtocolReason::LengthTopBit,
            Self::MessageTooBig { .. } => ProtocolReason::MessageTooBig,
            Self::RatioTooHigh { .. } => ProtocolReason::RatioTooHigh,
            Self::ReservedBits(_) => ProtocolReason::ReservedBits,
            Self::ReservedOpCode(_) => ProtocolReason::ReservedOpCode,
            Self::TimedOut => ProtocolReason::TimedOut,
            Self::TooManyBytes => ProtocolReason::TooManyBytes,
            Self::TooManyFragments { .. } => ProtocolReason::TooManyFragments,
            Self::TooManyMessages => ProtocolReason::TooManyMessages,
            Self::TooManyPings => ProtocolReason::TooManyPings,
            Self::Unmasked => ProtocolReason::Unmasked,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::BadCloseLength => f.write_str("Close frame with a one-byte body"),
            Self::BadDeflate => f.write_str("malformed compressed message"),
            Self::BadUtf8 => f.write_str("text is not UTF-8"),
            Self::ContinuationExpected => {
                f.write_str("new message before the end of a fragmented message")
            }
            Self::ContinuationUnexpected => f.write_str("continuation frame without a message"),
            Self::ControlFragmented => f.write_str("control frame is fragmented"),
            Self::ControlTooLong => f.write_str("control frame longer than 125 bytes"),
            Self::LengthNotMinimal => f.write_str("payload length is not minimally encoded"),
            Self::LengthTopBit => f.write_str("top bit of the payload length is set"),
            Self::MessageTooBig { size, limit } => {
                write!(
                    f,
                    "message of {size} bytes exceeds max_recv_size of {limit}"
                )
            }
            Self::ReservedBits(bits) => write!(f, "reserved bits {bits:#05b} are set"),
            Self::ReservedOpCode(code) => write!(f, "reserved opcode {code:#x}"),
            Self::RatioTooHigh { limit } => {
                write!(f, "compressed message expands beyond max_ratio of {limit}")
            }
            Self::TimedOut => f.write_str("message not complete within message_timeout"),
            Self::TooManyBytes => f.write_str("more bytes than max_byte_rate allows"),
            Self::TooManyFragments { limit } => {
                write!(f, "message has more frames than max_fragments of {limit}")
            }
            Self::TooManyMessages => f.write_str("more messages than max_message_rate allows"),
            Self::TooManyPings => f.write_str("more pings than max_ping_rate allows"),
            Self::Unmasked => f.write_str("client frame is not masked"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// `ProtocolError` travels through the hot path in a `Result`; it stays small.
const _: () = assert!(size_of::<ProtocolError>() <= 24);
