//! All public errors, and the only map from a fault to a close code or an HTTP status.
//!
//! There is one type for each kind of fault, because the reactions differ:
//!
//! | type | whose fault | reaction |
//! |---|---|---|
//! | [`ProtocolError`] | the peer broke RFC 6455 or a limit | close with [`ProtocolError::close_code`] |
//! | [`HandshakeError`] | the request cannot be upgraded | answer with [`HandshakeError::status`] |
//! | [`SendError`] | a message cannot be sent as asked for | returned to the caller |
//! | [`AnswerError`] | an HTTP answer cannot be given as asked for | returned to the caller |
//! | [`HandlerError`] | a handler failed | close with 1011 |
//! | [`BuildError`] | the configuration | the server does not start |
//! | [`io::Error`] | the network | the connection is dropped |
//!
//! The `Display` text of each error includes its causes, so `{error}` is enough for a log line.
//! `source()` continues after the causes in the text, so a report that walks the chain names each
//! cause once; `std::io::Error` does the same. The causes themselves are in the variants. `Debug`
//! of [`Error`] and [`BuildError`] is the same text, so a `main` that returns one of them prints a
//! readable line.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::PathBuf;

use http::StatusCode;

use crate::close_code::CloseCode;
use crate::reasons::{ProtocolReason, RefusalReason};

/// The result of calls that can fail in more than one way.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error that this crate returns to its caller. `Debug` prints the same text as `Display`.
#[non_exhaustive]
pub enum Error {
    /// The server could not be built.
    Build(BuildError),
    /// A system call of the event loop failed.
    Io(io::Error),
    /// A message could not be sent.
    Send(SendError),
    /// An HTTP response could not be given.
    Answer(AnswerError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::Answer(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Build(error) => error.source(),
            Self::Io(error) => error.source(),
            Self::Send(error) => error.source(),
            Self::Answer(error) => error.source(),
        }
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<AnswerError> for Error {
    fn from(error: AnswerError) -> Self {
        Self::Answer(error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

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
            Self::BadCloseLength => f.write_str("close frame with a body of one byte"),
            Self::BadDeflate => f.write_str("malformed compressed message"),
            Self::BadUtf8 => f.write_str("text is not utf-8"),
            Self::ContinuationExpected => f.write_str("new message inside a fragmented one"),
            Self::ContinuationUnexpected => f.write_str("continuation of no message"),
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
            Self::TimedOut => f.write_str("message not whole within message_timeout"),
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

/// An opening handshake that cannot be accepted (RFC 6455, 4.2), or a plain request that is
/// malformed or too large.
///
/// The response has the status [`status`](Self::status), and the connection closes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandshakeError {
    /// The address has the maximum number of connections that
    /// [`max_connections_per_address`](crate::Builder::max_connections_per_address) allows. Only
    /// where proxies supply the address; otherwise there is no event for such a client.
    AddressConnections,
    /// The same for [`max_half_open_per_address`](crate::Builder::max_half_open_per_address).
    AddressHalfOpen,
    /// The same for [`max_handshake_rate`](crate::Builder::max_handshake_rate).
    AddressRate,
    /// The end of the body is ambiguous: several `Content-Length` headers, one beside a
    /// `Transfer-Encoding`, or the latter in HTTP/1.0 (RFC 9112, 6.1).
    AmbiguousLength,
    /// A chunk of the body is malformed (RFC 9112, 7.1).
    BadChunk,
    /// A header line is malformed: a bare CR or LF, a folded line, or a byte that is not allowed
    /// there.
    BadHeader,
    /// `Sec-WebSocket-Key` is not the base64 of 16 bytes (RFC 6455, 4.2.1).
    BadKey,
    /// `Content-Length` is not a number, in digits only (RFC 9110, 8.6).
    BadLength,
    /// The first bytes are not a header of the PROXY protocol, where one is required
    /// ([`Place::proxy_protocol`](crate::Place::proxy_protocol)).
    BadProxyHeader,
    /// The request line is not that of an HTTP/1.1 request.
    BadRequestLine,
    /// The request target is not a valid resource name (RFC 6455, 4.2.1).
    BadTarget,
    /// The request announces a body (`Content-Length` or `Transfer-Encoding`).
    BodyProhibited,
    /// The body of a plain request is larger than `max_body_size`.
    BodyTooBig {
        /// The limit, in bytes.
        limit: usize,
    },
    /// `Connection` does not list `upgrade` (RFC 6455, 4.2.1).
    ConnectionNotUpgrade,
    /// A header that may occur once occurs more often. Carries its name.
    DuplicateHeader(&'static str),
    /// `Expect` is something other than `100-continue` (RFC 9110, 10.1.1).
    Expectation,
    /// The request head is larger than `max_handshake_size`.
    HeadTooBig {
        /// The limit, in bytes.
        limit: usize,
    },
    /// `Host` is not on the list of [`Builder::hosts`](crate::Builder::hosts) (RFC 9110, 7.4).
    HostNotServed,
    /// The version is neither HTTP/1.1 nor a higher minor version; for plain requests HTTP/1.0 is
    /// allowed too.
    HttpVersion,
    /// The method is not GET (RFC 6455, 4.2.1).
    MethodNotGet,
    /// A mandatory header is missing. Carries its name.
    MissingHeader(&'static str),
    /// The request does not ask for an upgrade to `websocket`.
    NotUpgrade,
    /// The server's [`memory_budget`](crate::Builder::memory_budget) is used up, and the connection
    /// held more than others.
    NoMemory,
    /// The `Origin` handler, or [`Builder::origins`](crate::Builder::origins), refused the
    /// request's origin (RFC 6455, 4.2.2).
    OriginRefused,
    /// A handler refused the request with this status.
    Refused(StatusCode),
    /// The request was not complete within `handshake_timeout`.
    TimedOut,
    /// The request has more header lines than `max_headers`.
    TooManyHeaders {
        /// The limit, in header lines.
        limit: usize,
    },
    /// The body has a transfer encoding other than `chunked` (RFC 9112, 6.1).
    TransferEncoding,
    /// The answer was deferred ([`Upgrade::defer`](crate::handshake::Upgrade::defer)) and did not
    /// come within `handshake_timeout`.
    Undecided,
    /// `Sec-WebSocket-Version` is not 13 (RFC 6455, 4.2.2).
    UnsupportedVersion,
}

impl HandshakeError {
    /// Returns the HTTP status of the response.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::AddressConnections | Self::AddressHalfOpen | Self::AddressRate => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::AmbiguousLength
            | Self::BadChunk
            | Self::BadHeader
            | Self::BadKey
            | Self::BadLength
            | Self::BadProxyHeader
            | Self::BadRequestLine
            | Self::BadTarget
            | Self::BodyProhibited
            | Self::ConnectionNotUpgrade
            | Self::DuplicateHeader(_)
            | Self::MissingHeader(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooBig { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooBig { .. } | Self::TooManyHeaders { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::HostNotServed => StatusCode::MISDIRECTED_REQUEST,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::MethodNotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotUpgrade | Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::OriginRefused => StatusCode::FORBIDDEN,
            Self::Refused(status) => *status,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
            Self::NoMemory | Self::Undecided => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the reason without its values, as it is counted.
    pub const fn reason(&self) -> RefusalReason {
        match self {
            Self::AddressConnections => RefusalReason::AddressConnections,
            Self::AddressHalfOpen => RefusalReason::AddressHalfOpen,
            Self::AddressRate => RefusalReason::AddressRate,
            Self::AmbiguousLength => RefusalReason::AmbiguousLength,
            Self::BadChunk => RefusalReason::BadChunk,
            Self::BadHeader => RefusalReason::BadHeader,
            Self::BadKey => RefusalReason::BadKey,
            Self::BadLength => RefusalReason::BadLength,
            Self::BadProxyHeader => RefusalReason::BadProxyHeader,
            Self::BadRequestLine => RefusalReason::BadRequestLine,
            Self::BadTarget => RefusalReason::BadTarget,
            Self::BodyProhibited => RefusalReason::BodyProhibited,
            Self::BodyTooBig { .. } => RefusalReason::BodyTooBig,
            Self::ConnectionNotUpgrade => RefusalReason::ConnectionNotUpgrade,
            Self::DuplicateHeader(_) => RefusalReason::DuplicateHeader,
            Self::Expectation => RefusalReason::Expectation,
            Self::HeadTooBig { .. } => RefusalReason::HeadTooBig,
            Self::HostNotServed => RefusalReason::HostNotServed,
            Self::HttpVersion => RefusalReason::HttpVersion,
            Self::MethodNotGet => RefusalReason::MethodNotGet,
            Self::MissingHeader(_) => RefusalReason::MissingHeader,
            Self::NoMemory => RefusalReason::NoMemory,
            Self::NotUpgrade => RefusalReason::NotUpgrade,
            Self::OriginRefused => RefusalReason::OriginRefused,
            Self::Refused(_) => RefusalReason::Refused,
            Self::TimedOut => RefusalReason::TimedOut,
            Self::TooManyHeaders { .. } => RefusalReason::TooManyHeaders,
            Self::TransferEncoding => RefusalReason::TransferEncoding,
            Self::Undecided => RefusalReason::Undecided,
            Self::UnsupportedVersion => RefusalReason::UnsupportedVersion,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressConnections => f.write_str("max_connections_per_address is reached"),
            Self::AddressHalfOpen => f.write_str("max_half_open_per_address is reached"),
            Self::AddressRate => f.write_str("max_handshake_rate is exceeded"),
            Self::AmbiguousLength => f.write_str("length of the body is ambiguous"),
            Self::BadChunk => f.write_str("malformed chunk in the body"),
            Self::BadHeader => f.write_str("malformed header"),
            Self::BadKey => f.write_str("sec-websocket-key is not the base64 of 16 bytes"),
            Self::BadLength => f.write_str("content-length is not a number"),
            Self::BadProxyHeader => f.write_str("no header of the PROXY protocol"),
            Self::BadRequestLine => f.write_str("malformed request line"),
            Self::BadTarget => f.write_str("malformed request target"),
            Self::BodyProhibited => f.write_str("upgrade request with a body"),
            Self::BodyTooBig { limit } => {
                write!(f, "body exceeds max_body_size of {limit} bytes")
            }
            Self::ConnectionNotUpgrade => f.write_str("connection header does not list upgrade"),
            Self::DuplicateHeader(name) => write!(f, "more than one {name} header"),
            Self::Expectation => f.write_str("expectation other than 100-continue"),
            Self::HeadTooBig { limit } => {
                write!(
                    f,
                    "request head exceeds max_handshake_size of {limit} bytes"
                )
            }
            Self::HostNotServed => f.write_str("host is not on the list of hosts"),
            Self::HttpVersion => f.write_str("http version is not 1.1 or a later 1.x"),
            Self::MethodNotGet => f.write_str("method is not GET"),
            Self::MissingHeader(name) => write!(f, "no {name} header"),
            Self::NoMemory => f.write_str("memory_budget is used up"),
            Self::NotUpgrade => f.write_str("not an upgrade to websocket"),
            Self::OriginRefused => f.write_str("origin refused"),
            Self::Refused(status) => write!(f, "refused with {status}"),
            Self::TimedOut => f.write_str("request not complete within handshake_timeout"),
            Self::TooManyHeaders { limit } => {
                write!(f, "request has more than max_headers of {limit}")
            }
            Self::TransferEncoding => f.write_str("transfer encoding other than chunked"),
            Self::Undecided => f.write_str("not decided on within handshake_timeout"),
            Self::UnsupportedVersion => f.write_str("sec-websocket-version is not 13"),
        }
    }
}

impl std::error::Error for HandshakeError {}

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
    /// The message is larger than `max_send_size`.
    TooBig {
        /// The message's size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BacklogFull { queued, limit } => {
                write!(
                    f,
                    "{queued} bytes are queued already, max_backlog is {limit}"
                )
            }
            Self::BadCloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::BadFrame => f.write_str("frame cannot be sent by itself"),
            Self::BadUtf8 => f.write_str("text is not utf-8"),
            Self::Closing => f.write_str("the connection is closing"),
            Self::ControlTooLong { size } => {
                write!(f, "control frame of {size} bytes, 125 are allowed")
            }
            Self::Dropped => f.write_str("dropped, the peer reads too slowly"),
            Self::Gone => f.write_str("the connection is gone"),
            Self::MessageUnderWay => f.write_str("a message in parts has not ended"),
            Self::NoMemory { budget } => {
                write!(f, "memory_budget of {budget} bytes is nearly used up")
            }
            Self::NoMessage => f.write_str("no message in parts was begun"),
            Self::NotReady => f.write_str("the opening handshake is not over"),
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
    /// The opening handshake is over, or was answered already.
    HandshakeDone,
    /// A part of the response is malformed: a status that is not allowed there, or a header name, a
    /// header value or a reason phrase with bytes that would corrupt the message.
    Malformed,
    /// The client does not offer this subprotocol (RFC 6455, 4.1).
    SubprotocolNotOffered,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HandshakeDone => "the opening handshake is over, or was answered already",
            Self::Malformed => "malformed part of an http answer",
            Self::SubprotocolNotOffered => "the client does not offer this subprotocol",
        })
    }
}

impl std::error::Error for AnswerError {}

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

/// The configuration is wrong, or something that it names is not available. `Debug` prints the same
/// text as `Display`.
#[non_exhaustive]
pub enum BuildError {
    /// The name in [`ClientAddress::Header`](crate::ClientAddress::Header) is not a header name.
    /// Carries it.
    BadHeaderName(String),
    /// An entry of [`Builder::hosts`](crate::Builder::hosts) is not a host. Carries it.
    BadHost(String),
    /// An entry of [`Place::proxy_protocol`](crate::Place::proxy_protocol) or
    /// [`Builder::trusted_proxies`](crate::Builder::trusted_proxies) is neither an address nor a
    /// network. Carries it.
    BadNetwork(String),
    /// An entry of [`Builder::origins`](crate::Builder::origins) is not an origin. Carries it.
    BadOrigin(String),
    /// Two settings contradict each other, or one has a value that cannot work. Carries the
    /// description.
    Conflict(&'static str),
    /// The event loop could not be created.
    EventLoop(io::Error),
    /// An address could not be resolved or bound.
    Listen {
        /// The address or path, as given to the builder.
        address: String,
        /// The reason. For a name with several addresses it lists each with its own reason; its
        /// kind is the common one, or that of the first address.
        source: io::Error,
    },
    /// There is no listener.
    NoListener,
    /// There is no TLS provider: the feature `tls` includes none, and the process has not installed
    /// one.
    NoProvider,
    /// A file with a certificate chain or a private key cannot be used.
    Pem {
        /// The file, as it was given.
        path: PathBuf,
        /// The problem.
        problem: PemProblem,
    },
    /// The TLS provider that the process has installed cannot be used, for instance because it
    /// lacks the cipher suites of TLS 1.2 or 1.3.
    Provider(Box<dyn std::error::Error + Send + Sync>),
    /// A source that was given to the builder cannot be watched.
    Watch(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHeaderName(name) => write!(f, "{name:?} is no name of a header"),
            Self::BadHost(entry) => write!(f, "{entry:?} is no host"),
            Self::BadNetwork(entry) => write!(
                f,
                "{entry:?} is no address, no network such as 10.0.0.0/8, and not \"unix:\""
            ),
            Self::BadOrigin(entry) => write!(f, "{entry:?} is no origin"),
            Self::Conflict(what) => f.write_str(what),
            Self::EventLoop(error) => write!(f, "cannot make the event loop: {error}"),
            Self::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::NoListener => f.write_str("no listener: call listen, or one of its kind"),
            Self::NoProvider => f.write_str(
                "no tls provider: enable the feature aws-lc-rs or ring of wsloop, or call \
                 rustls::crypto::CryptoProvider::install_default first",
            ),
            Self::Pem { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Provider(error) => write!(f, "the tls provider cannot be used: {error}"),
            Self::Watch(error) => write!(f, "cannot watch a source: {error}"),
        }
    }
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::EventLoop(error) | Self::Listen { source: error, .. } | Self::Watch(error) => {
                error.source()
            }
            Self::Pem { problem, .. } => problem.source(),
            Self::Provider(error) => error.source(),
            Self::BadHeaderName(_)
            | Self::BadHost(_)
            | Self::BadNetwork(_)
            | Self::BadOrigin(_)
            | Self::Conflict(_)
            | Self::NoListener
            | Self::NoProvider => None,
        }
    }
}

/// The problem of a PEM file, in [`BuildError::Pem`].
#[non_exhaustive]
#[derive(Debug)]
pub enum PemProblem {
    /// The file contains a certificate where a private key is expected.
    CertificateForKey,
    /// The file is binary: DER or PKCS#12 instead of PEM.
    Der,
    /// The file is empty.
    Empty,
    /// The private key is encrypted; it has to be stored without a passphrase.
    EncryptedKey,
    /// The file contains a private key where certificates are expected.
    KeyForCertificate,
    /// The PEM framing or the base64 in it is malformed.
    Malformed(Box<dyn std::error::Error + Send + Sync>),
    /// The private key does not belong to any certificate of the chain.
    Mismatch {
        /// The file with the chain.
        chain: PathBuf,
    },
    /// The file has no `CERTIFICATE` section.
    NoCertificate,
    /// The file has no private key section (PKCS#8, PKCS#1 or SEC1).
    NoKey,
    /// A section has no end: the file was truncated, or is still being written.
    Truncated {
        /// The line at which the section begins, counted from 1.
        line: usize,
    },
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The PEM is well-formed, but its content cannot be used for TLS.
    Unusable(Box<dyn std::error::Error + Send + Sync>),
    /// The file is UTF-16 text.
    Utf16,
    /// The certificate is not valid for the name that it was given for, or the name is not a DNS
    /// name.
    WrongName {
        /// The name.
        name: String,
        /// The names in the certificate, as rustls shows them.
        presented: Vec<String>,
    },
    /// The server's own certificate, to which the private key belongs, is not the first.
    WrongOrder {
        /// Its position in the file, counted from 1.
        position: usize,
    },
}

impl fmt::Display for PemProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateForKey => f.write_str(
                "a certificate where the private key is expected: are the two files swapped?",
            ),
            Self::KeyForCertificate => f.write_str(
                "a private key where the certificate is expected: are the two files swapped?",
            ),
            Self::Der => f.write_str(
                "binary data (der or pkcs#12), not pem; convert a certificate with `openssl x509 \
                 -inform der -in FILE -out NEW`, a key with `openssl pkey -inform der -in FILE \
                 -out NEW`, a pkcs#12 file with `openssl pkcs12 -nodes -in FILE -out NEW`",
            ),
            Self::Empty => f.write_str("the file is empty"),
            Self::EncryptedKey => f.write_str(
                "the private key is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`",
            ),
            Self::Malformed(error) => write!(f, "malformed pem: {error}"),
            Self::Mismatch { chain } => write!(
                f,
                "the private key does not belong to the certificate in {}; take both from the \
                 same issue",
                chain.display()
            ),
            Self::NoCertificate => f.write_str(
                "no certificate in the file: a section `-----BEGIN CERTIFICATE-----` is needed, and \
                 neither a request (csr) nor pkcs#7 is one",
            ),
            Self::NoKey => f.write_str(
                "no private key in the file: a section `-----BEGIN PRIVATE KEY-----`, or one of \
                 `RSA` or `EC`, is needed",
            ),
            Self::Truncated { line } => write!(
                f,
                "the section that begins at line {line} has no end: the file is cut off, copy it \
                 again"
            ),
            Self::Unreadable(error) => {
                write!(f, "cannot read the file: {error}")?;
                if error.kind() == io::ErrorKind::PermissionDenied {
                    f.write_str("; let the server's user read it and enter its directories")?;
                }
                Ok(())
            }
            Self::Unusable(error) => write!(f, "not usable for tls: {error}"),
            Self::Utf16 => f.write_str("utf-16 text; store it as ascii or utf-8"),
            Self::WrongName { name, presented } if presented.is_empty() => {
                write!(f, "the certificate has no name {name:?}, or that is no dns name")
            }
            Self::WrongName { name, presented } => write!(
                f,
                "the certificate has no name {name:?}, it is for {}; give it one of these names, \
                 or issue another",
                presented.join(", ")
            ),
            Self::WrongOrder { position } => write!(
                f,
                "the chain is in the wrong order: the server's own certificate comes first, and \
                 here it is number {position}"
            ),
        }
    }
}

impl std::error::Error for PemProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(error) | Self::Unusable(error) => error.source(),
            Self::Unreadable(error) => error.source(),
            Self::CertificateForKey
            | Self::Der
            | Self::Empty
            | Self::EncryptedKey
            | Self::KeyForCertificate
            | Self::Mismatch { .. }
            | Self::NoCertificate
            | Self::NoKey
            | Self::Truncated { .. }
            | Self::Utf16
            | Self::WrongName { .. }
            | Self::WrongOrder { .. } => None,
        }
    }
}

/// The failure of one connection, in the `Error` event.
#[non_exhaustive]
#[derive(Debug)]
pub enum Fault {
    /// A handler returned an error or panicked.
    Handler(HandlerError),
    /// The opening handshake was refused.
    Handshake(HandshakeError),
    /// Reading or writing failed; this includes TLS errors.
    Io(io::Error),
    /// The server's [`memory_budget`](crate::Builder::memory_budget) is used up, and the connection
    /// held more than others.
    NoMemory,
    /// The peer violated the protocol or exceeded a limit.
    Protocol(ProtocolError),
    /// The peer reads too slowly and [`SlowConsumer::Close`](crate::SlowConsumer::Close) is set.
    SlowConsumer,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(error) => write!(f, "handler failed: {error}"),
            Self::Handshake(error) => write!(f, "handshake refused: {error}"),
            Self::Io(error) => error.fmt(f),
            Self::NoMemory => f.write_str("memory_budget is used up"),
            Self::Protocol(error) => error.fmt(f),
            Self::SlowConsumer => f.write_str("max_backlog exceeded"),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Handler(error) => error.source(),
            Self::Handshake(error) => error.source(),
            Self::Io(error) => error.source(),
            Self::Protocol(error) => error.source(),
            Self::NoMemory | Self::SlowConsumer => None,
        }
    }
}

/// `ProtocolError` travels through the hot path in a `Result`; it stays small.
const _: () = assert!(size_of::<ProtocolError>() <= 24);

impl CloseCode {
    /// Returns the code if a Close frame may contain it.
    ///
    /// # Errors
    ///
    /// [`SendError::BadCloseCode`] if it must not be sent (RFC 6455, 7.4).
    pub(crate) fn sendable(self) -> std::result::Result<Self, SendError> {
        match self.is_sendable() {
            true => Ok(self),
            false => Err(SendError::BadCloseCode(self.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_map_to_their_codes_and_statuses() {
        let big = ProtocolError::MessageTooBig {
            size: 70_000,
            limit: 65_536,
        };
        assert_eq!(big.close_code(), CloseCode::MESSAGE_TOO_BIG);
        assert_eq!(
            big.to_string(),
            "message of 70000 bytes exceeds max_recv_size of 65536"
        );
        assert_eq!(
            ProtocolError::BadUtf8.close_code(),
            CloseCode::INVALID_PAYLOAD
        );
        assert_eq!(
            ProtocolError::Unmasked.close_code(),
            CloseCode::PROTOCOL_ERROR
        );
        assert_eq!(
            ProtocolError::TooManyFragments { limit: 1 }.close_code(),
            CloseCode::POLICY_VIOLATION
        );
        assert_eq!(HandshakeError::TooManyHeaders { limit: 100 }.status(), 431);
        assert_eq!(HandshakeError::HttpVersion.status(), 505);
        assert_eq!(HandshakeError::UnsupportedVersion.status(), 426);
    }

    /// An error below all others, with a text of its own.
    #[derive(Debug)]
    struct Cause(&'static str, Option<Box<Self>>);

    impl fmt::Display for Cause {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Cause {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    /// An error whose text leaves out its own cause, as many crates do it.
    fn cause() -> Box<Cause> {
        Box::new(Cause("the cause", Some(Box::new(Cause("its root", None)))))
    }

    fn io() -> io::Error {
        io::Error::other(cause())
    }

    /// All variants that have a cause, and the error that each is wrapped in.
    fn with_causes() -> Vec<Error> {
        let pem = |problem| BuildError::Pem {
            path: "chain.pem".into(),
            problem,
        };
        let listen = BuildError::Listen {
            address: "localhost:1".into(),
            source: io(),
        };
        vec![
            Error::Build(BuildError::EventLoop(io())),
            Error::Build(listen),
            Error::Build(pem(PemProblem::Malformed(cause()))),
            Error::Build(pem(PemProblem::Unreadable(io()))),
            Error::Build(pem(PemProblem::Unusable(cause()))),
            Error::Build(BuildError::Provider(cause())),
            Error::Build(BuildError::Watch(io())),
            Error::Io(io()),
        ]
    }

    /// Returns the text that a program prints when it walks the chain of causes.
    fn report(error: &dyn std::error::Error) -> String {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let texts: Vec<String> = chain.map(ToString::to_string).collect();
        texts.join(": ")
    }

    #[test]
    fn a_report_names_every_cause_once_and_the_text_alone_is_useful() {
        let once = |error: &dyn std::error::Error| {
            let report = report(error);
            for text in ["the cause", "its root"] {
                assert_eq!(report.matches(text).count(), 1, "{report}");
            }
            assert!(error.to_string().contains("the cause"), "{error}");
        };
        for error in with_causes() {
            once(&error);
            if let Error::Build(error) = &error {
                once(error);
                if let BuildError::Pem { problem, .. } = error {
                    once(problem);
                }
            }
        }
        once(&Fault::Io(io()));
        // The report of an error without a cause is its own text.
        for fault in [
            Fault::Handler(HandlerError::new(&"a reason")),
            Fault::Handshake(HandshakeError::BadKey),
            Fault::NoMemory,
            Fault::Protocol(ProtocolError::BadUtf8),
            Fault::SlowConsumer,
        ] {
            assert_eq!(report(&fault), fault.to_string());
        }
        let send = Error::Send(SendError::Gone);
        assert_eq!(report(&send), send.to_string());
    }

    #[test]
    fn a_main_that_returns_an_error_ends_with_a_line_that_can_be_read() {
        for error in with_causes() {
            assert_eq!(format!("{error:?}"), error.to_string());
            assert_eq!(format!("{error:#?}"), error.to_string());
        }
        let text = format!("{:?}", BuildError::NoListener);
        assert_eq!(text, BuildError::NoListener.to_string());
    }

    #[test]
    fn a_file_that_may_not_be_read_has_its_remedy() {
        let denied = PemProblem::Unreadable(io::ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().contains("server's user"), "{denied}");
        let missing = PemProblem::Unreadable(io::ErrorKind::NotFound.into());
        assert!(!missing.to_string().contains("server's user"), "{missing}");
    }

    #[test]
    fn panic_texts_are_kept() {
        assert_eq!(
            HandlerError::from_panic(&"boom").to_string(),
            "panicked: boom"
        );
        assert_eq!(
            HandlerError::from_panic(&"bang".to_owned()).to_string(),
            "panicked: bang"
        );
        assert_eq!(
            HandlerError::from_panic(&7).to_string(),
            "panicked: (no message)"
        );
    }
}
