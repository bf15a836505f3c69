//! The texts of log lines about clients that are refused or failed.

use std::fmt;
use std::io;

use http::{HeaderName, Version, header};

use crate::connection::{Clean, Shown};
use crate::error::HandshakeError;
use crate::handshake::{Head, Request};
use crate::reasons::TlsFailure;

/// Returns whether a request was meant to open a WebSocket.
pub(super) fn means_websocket(request: &Request) -> bool {
    request.has(header::SEC_WEBSOCKET_KEY)
        || request.has(header::SEC_WEBSOCKET_VERSION)
        || request.lists(header::UPGRADE, "websocket")
}

/// A refusal, with the values that explain it.
pub(super) struct Refused<'a> {
    pub(super) error: HandshakeError,
    /// The request, if it could be parsed.
    pub(super) request: Option<&'a Request>,
    /// The data that could not be parsed as a request.
    pub(super) head: Option<Head<'a>>,
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, .. } = *self;
        write!(f, "handshake refused with {}", error.status().as_u16())?;
        if let HandshakeError::Refused(_) = error {
            f.write_str(" by a handler, or because the server shuts down")?;
        } else {
            write!(f, ": {error}")?;
        }
        if let Some(request) = self.request {
            self.values(f, request)?;
        }
        match self.head {
            Some(head) => self.bytes(f, head),
            None => Ok(()),
        }
    }
}

impl Refused<'_> {
    /// Writes the values of a parsed request that explain the refusal.
    fn values(&self, f: &mut fmt::Formatter<'_>, request: &Request) -> fmt::Result {
        let show =
            |f: &mut fmt::Formatter<'_>, name: HeaderName| write!(f, "{}", Values(request, name));
        match self.error {
            HandshakeError::BadHeader => {
                show(f, header::HOST)?;
                show(f, header::ORIGIN)?;
                // Some applications put a secret into this header.
                write!(f, "{}", Names(request, header::SEC_WEBSOCKET_PROTOCOL))
            }
            HandshakeError::BadKey => show(f, header::SEC_WEBSOCKET_KEY),
            HandshakeError::BadTarget => {
                write!(
                    f,
                    ", target {}",
                    Target(request.uri().to_string().as_bytes())
                )?;
                show(f, header::HOST)
            }
            HandshakeError::BodyProhibited => {
                show(f, header::CONTENT_LENGTH)?;
                show(f, header::TRANSFER_ENCODING)
            }
            HandshakeError::ConnectionNotUpgrade => {
                show(f, header::CONNECTION)?;
                write!(f, ": {}", Stripped(request))
            }
            HandshakeError::DuplicateHeader(name) => {
                match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(name) => show(f, name),
                    Err(_) => Ok(()),
                }
            }
            HandshakeError::Expectation => show(f, header::EXPECT),
            HandshakeError::HostNotServed => show(f, header::HOST),
            HandshakeError::MethodNotGet => {
                write!(
                    f,
                    ", method {}",
                    Shown(request.method().as_str().as_bytes())
                )
            }
            HandshakeError::NotUpgrade => {
                show(f, header::UPGRADE)?;
                match means_websocket(request) {
                    true => write!(f, ": {}", Stripped(request)),
                    false => Ok(()),
                }
            }
            HandshakeError::OriginRefused => {
                show(f, header::ORIGIN)?;
                show(f, header::HOST)
            }
            HandshakeError::UnsupportedVersion => show(f, header::SEC_WEBSOCKET_VERSION),
            _ => Ok(()),
        }
    }

    /// Writes what is wrong with a head that could not be parsed.
    fn bytes(&self, f: &mut fmt::Formatter<'_>, head: Head<'_>) -> fmt::Result {
        match self.error {
            HandshakeError::HeadTooBig { .. } | HandshakeError::TooManyHeaders { .. } => {
                let Some((name, size)) = head.largest() else {
                    return Ok(());
                };
                write!(
                    f,
                    "; the largest header is {} with {size} bytes",
                    Shown(name)
                )
            }
            HandshakeError::HttpVersion => write!(
                f,
                ", request line {}: a proxy that speaks HTTP/1.0 to this server cannot open a \
                 WebSocket (nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, \
                 proxy_set_header Connection \"upgrade\")",
                Target(head.request_line())
            ),
            HandshakeError::BadRequestLine | HandshakeError::BadTarget => {
                write!(f, ", request line {}", Target(head.request_line()))
            }
            HandshakeError::BadHeader => {
                let (name, line) = head.malformed();
                match is_secret(name) {
                    true => write!(f, ", in {} of {} bytes", Shown(name), line.len()),
                    false => write!(f, ", line {}", Shown(line)),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The likely reason why a request lacks the headers of an opening handshake.
pub(super) struct Stripped<'a>(pub(super) &'a Request);

impl fmt::Display for Stripped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.version() == Version::HTTP_10 {
            f.write_str("a proxy speaks HTTP/1.0 to this server (nginx: proxy_http_version 1.1)")
        } else {
            f.write_str(
                "a proxy removed the Upgrade or Connection header (nginx: proxy_set_header Upgrade \
                 $http_upgrade, proxy_set_header Connection \"upgrade\")",
            )
        }
    }
}

/// All values of a header, if it is present.
struct Values<'a>(&'a Request, HeaderName);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.0.headers().get_all(&self.1).iter();
        for value in values.by_ref().take(VALUES) {
            write!(f, ", {} {}", self.1, Shown(value.as_bytes()))?;
        }
        match values.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A header's length without its value, if it is present.
struct Names<'a>(&'a Request, HeaderName);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.headers().get(&self.1) {
            Some(value) => write!(f, ", {} of {} bytes", self.1, value.len()),
            None => Ok(()),
        }
    }
}

/// A request target without its query, which may hold secrets.
struct Target<'a>(&'a [u8]);

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == b'?');
        let shown = self
            .0
            .get(..end.unwrap_or(self.0.len()))
            .unwrap_or_default();
        write!(f, "{}", Shown(shown))?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and a query of {more} bytes"),
        }
    }
}

/// A failure of TLS, with its details.
pub(super) struct Tls<'a> {
    pub(super) failure: TlsFailure,
    pub(super) name: Option<&'a str>,
    pub(super) error: Option<&'a io::Error>,
}

impl fmt::Display for Tls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS failed: {}", self.failure.words())?;
        if let Some(name) = self.name {
            write!(f, ", server name {}", Shown(name.as_bytes()))?;
        }
        match self.error {
            // The TLS session's error may contain bytes from the peer.
            Some(error) if self.failure != TlsFailure::PlainHttp => {
                write!(f, " ({})", Clean(error))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether a header's value may be a secret, judged by its name.
fn is_secret(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    [&b"auth"[..], b"cookie", b"key", b"protocol", b"token"]
        .iter()
        .any(|part| name.windows(part.len()).any(|window| window == *part))
}

/// How many values of one header are shown.
const VALUES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "Cookie",
            "set-cookie2",
            "Authorization",
            "X-Auth",
            "x-api-key",
            "X-Token",
        ] {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
        for name in ["Host", "", "Origin", "Upgrade", "Connection"] {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn queries_are_not_shown() {
        assert_eq!(
            Target(b"GET /a?token=s3cret HTTP/1.1").to_string(),
            "\"GET /a\" and a query of 22 bytes"
        );
        assert_eq!(Target(b"GET /a").to_string(), "\"GET /a\"");
    }
}
