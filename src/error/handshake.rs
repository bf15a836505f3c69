//! Requests that cannot be accepted.

use std::fmt;

use http::StatusCode;

use crate::reasons::RefusalReason;

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
            Self::BadKey => f.write_str("Sec-WebSocket-Key is not the base64 encoding of 16 bytes"),
            Self::BadLength => f.write_str("Content-Length is not a number"),
            Self::BadProxyHeader => f.write_str("missing or malformed PROXY protocol header"),
            Self::BadRequestLine => f.write_str("malformed request line"),
            Self::BadTarget => f.write_str("malformed request target"),
            Self::BodyProhibited => f.write_str("upgrade request with a body"),
            Self::BodyTooBig { limit } => {
                write!(f, "body exceeds max_body_size of {limit} bytes")
            }
            Self::ConnectionNotUpgrade => f.write_str("Connection header does not list upgrade"),
            Self::DuplicateHeader(name) => write!(f, "more than one {name} header"),
            Self::Expectation => f.write_str("Expect header other than 100-continue"),
            Self::HeadTooBig { limit } => {
                write!(
                    f,
                    "request head exceeds max_handshake_size of {limit} bytes"
                )
            }
            Self::HostNotServed => f.write_str("Host is not on the list of hosts"),
            Self::HttpVersion => f.write_str("HTTP version is not 1.1 or a later 1.x"),
            Self::MethodNotGet => f.write_str("method is not GET"),
            Self::MissingHeader(name) => write!(f, "no {name} header"),
            Self::NoMemory => f.write_str("memory_budget is used up"),
            Self::NotUpgrade => f.write_str("not an upgrade to WebSocket"),
            Self::OriginRefused => f.write_str("origin refused"),
            Self::Refused(status) => write!(f, "refused with {status}"),
            Self::TimedOut => f.write_str("request not complete within handshake_timeout"),
            Self::TooManyHeaders { limit } => {
                write!(
                    f,
                    "request has more header lines than max_headers of {limit}"
                )
            }
            Self::TransferEncoding => f.write_str("transfer encoding other than chunked"),
            Self::Undecided => {
                f.write_str("the deferred handshake was not answered within handshake_timeout")
            }
            Self::UnsupportedVersion => f.write_str("Sec-WebSocket-Version is not 13"),
        }
    }
}

impl std::error::Error for HandshakeError {}
