//! HTTP responses other than the 101.

use std::time::SystemTime;

use http::{Method, StatusCode};

use super::parts::Parts;
use crate::{AnswerError, HandshakeError};

/// An HTTP response that refuses an upgrade: a status with its reason phrase, headers and a body.
///
/// The connection closes after it, and the response says so. A status alone is a complete response,
/// with its standard phrase and a line of text as its body. 405 and 426 get the headers that they
/// require. Setters never fail: a malformed part is omitted, and [`check`](Self::check) returns the
/// error.
///
/// ```
/// use wsloop::handshake::Refusal;
///
/// let moved = Refusal::new(307).header("Location", "wss://example.com/chat").body("");
/// assert!(moved.check().is_ok());
/// assert!(Refusal::new(403).header("X-Why", "no\r\nSet-Cookie: a=b").check().is_err());
/// ```
#[must_use]
#[derive(Clone, Debug)]
pub struct Refusal {
    parts: Parts,
    /// The error that the default body names.
    cause: Option<HandshakeError>,
    /// Whether the body is omitted and only its length is sent.
    head_only: bool,
}

impl Refusal {
    /// Creates the default response with this status, from 300 to 599 except 304.
    pub fn new(status: u16) -> Self {
        // A 1xx or 2xx would tell the client, or a proxy, that it got what it asked for. A 304
        // "cannot contain a message-body" (RFC 7232, 4.1), and no upgrade has a cached answer.
        let refuses = (300..=599).contains(&status) && status != 304;
        Self {
            parts: Parts::new(status, refuses),
            cause: None,
            head_only: false,
        }
    }

    /// Sets the reason phrase.
    pub fn reason(mut self, phrase: &str) -> Self {
        self.parts.set_reason(phrase);
        self
    }

    /// Appends a header; the same name can occur several times.
    ///
    /// `Content-Type`, `Allow` and `Date` replace the defaults. `Connection`, `Content-Length`,
    /// `Transfer-Encoding`, `Upgrade` and `Sec-WebSocket-*` are always written by this crate; they
    /// make the response malformed.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.parts.append(name, value);
        self
    }

    /// Appends a cookie with this name, value and attributes: `cookie("id", "31d4d96e", "Path=/;
    /// HttpOnly; Secure; SameSite=Strict")`.
    ///
    /// The response is malformed if a part has a byte that RFC 6265, 4.1.1 does not allow there.
    pub fn cookie(mut self, name: &str, value: &str, attributes: &str) -> Self {
        self.parts.append_cookie(name, value, attributes);
        self
    }

    /// Makes it a response to this method: the response to HEAD is sent without its body.
    pub fn answering(mut self, method: &Method) -> Self {
        // RFC 9110, 9.3.2: "the server MUST NOT send content in the response".
        self.head_only = method == Method::HEAD;
        self
    }

    /// Sets the body: UTF-8 text, unless a `Content-Type` header says otherwise.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.parts.set_body(body.into());
        self
    }

    /// Returns the status; 500 if the requested one cannot refuse.
    pub fn status(&self) -> StatusCode {
        self.parts.status()
    }

    /// Checks that every part is well-formed.
    ///
    /// # Errors
    ///
    /// Returns the first fault: [`AnswerError::BadStatus`] if the status cannot refuse,
    /// [`AnswerError::BadReason`] or [`AnswerError::BadHeader`] for control characters, and
    /// [`AnswerError::ReservedHeader`] for a header that only this crate writes.
    pub fn check(&self) -> Result<(), AnswerError> {
        self.parts.check()
    }

    /// Appends the bytes of the response to `out`, without its malformed parts; `now` is for the
    /// `Date`.
    pub fn encode(&self, now: SystemTime, out: &mut Vec<u8>) {
        let (parts, status) = (&self.parts, self.parts.status());
        let fields = parts.fields();
        let title = parts.title();
        let text;
        let body = match (parts.body(), self.cause) {
            (Some(body), _) => body,
            (None, Some(cause)) => {
                text = format!("{title}\n{cause}");
                text.as_bytes()
            }
            (None, None) => title.as_bytes(),
        };
        let mut lines = parts.begin(&title, now, out);
        if status == StatusCode::UPGRADE_REQUIRED {
            // RFC 7230, 6.7: a sender of Upgrade "MUST also send a Connection header field (Section
            // 6.1) that contains an "upgrade" connection option".
            lines.push("Connection: upgrade, close");
            lines.push_upgrade();
        } else {
            lines.push("Connection: close");
        }
        // RFC 7231, 6.5.5: "The origin server MUST generate an Allow header field in a 405
        // response"
        if status == StatusCode::METHOD_NOT_ALLOWED && !fields.contains("Allow") {
            lines.push("Allow: GET");
        }
        if !fields.contains("Content-Type") {
            lines.push("Content-Type: text/plain; charset=utf-8");
        }
        lines.push(&format!("Content-Length: {}", body.len()));
        lines.end(fields, if self.head_only { &[] } else { body });
    }
}

impl From<u16> for Refusal {
    fn from(status: u16) -> Self {
        Self::new(status)
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self::new(status.as_u16())
    }
}

impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Self {
        Self {
            cause: Some(error),
            ..Self::from(error.status())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(refusal: &Refusal) -> String {
        let mut out = Vec::new();
        refusal.encode(SystemTime::UNIX_EPOCH, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn defaults() {
        assert_eq!(
            encoded(&Refusal::new(403)),
            "HTTP/1.1 403 Forbidden\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Connection: close\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 13\r\n\r\n\
             403 Forbidden"
        );
        assert_eq!(
            encoded(&HandshakeError::BadKey.into()),
            "HTTP/1.1 400 Bad Request\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Connection: close\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 72\r\n\r\n\
             400 Bad Request\n\
             Sec-WebSocket-Key is not the base64 encoding of 16 bytes"
        );
        assert!(encoded(&Refusal::new(499)).starts_with("HTTP/1.1 499 Unknown\r\n"));
    }

    #[test]
    fn statuses_with_mandatory_headers() {
        for error in [
            HandshakeError::NotUpgrade,
            HandshakeError::UnsupportedVersion,
        ] {
            let answer = encoded(&error.into());
            assert!(answer.starts_with(
                "HTTP/1.1 426 Upgrade Required\r\n\
                 Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                 Connection: upgrade, close\r\n\
                 Upgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\n"
            ));
        }
        let answer = encoded(&HandshakeError::MethodNotGet.into());
        assert!(answer.contains("\r\nAllow: GET\r\n"));
        let answer = encoded(&Refusal::new(405).header("allow", "GET, POST"));
        assert!(!answer.contains("Allow: GET\r\n") && answer.contains("allow: GET, POST\r\n"));
    }

    #[test]
    fn all_parts_of_ones_own() {
        let refusal = Refusal::new(429)
            .reason("Slow Down")
            .header("Retry-After", "5")
            .header("content-type", "application/json")
            .body("{}");
        assert_eq!(refusal.check(), Ok(()));
        assert_eq!(
            encoded(&refusal),
            "HTTP/1.1 429 Slow Down\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Connection: close\r\n\
             Content-Length: 2\r\n\
             Retry-After: 5\r\n\
             content-type: application/json\r\n\r\n\
             {}"
        );
        let bytes = Refusal::new(500).body(vec![0xff, 0]);
        let mut out = Vec::new();
        bytes.encode(SystemTime::UNIX_EPOCH, &mut out);
        assert!(out.ends_with(&[b'\n', 0xff, 0]));
        assert!(encoded(&Refusal::new(500).body(String::new())).contains("Content-Length: 0\r\n"));
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let refusal = Refusal::from(HandshakeError::MethodNotGet);
        let with = encoded(&refusal);
        let without = encoded(&refusal.answering(&Method::HEAD));
        assert!(without.ends_with("\r\n\r\n") && with.starts_with(&without));
        let post = Refusal::new(403).answering(&Method::POST);
        assert!(encoded(&post).ends_with("403 Forbidden"));
    }

    #[test]
    fn cookies_are_headers() {
        let refusal = Refusal::new(401).cookie("id", "", "Max-Age=0");
        assert!(encoded(&refusal).contains("\r\nSet-Cookie: id=; Max-Age=0\r\n"));
        assert!(Refusal::new(401).cookie("id", "a;b", "").check().is_err());
    }

    #[test]
    fn malformed_parts_are_told_and_never_sent() {
        for status in [0, 99, 100, 101, 200, 204, 299, 304, 600, 999, u16::MAX] {
            let refusal = Refusal::new(status);
            assert_eq!(refusal.check(), Err(AnswerError::BadStatus), "{status}");
            assert_eq!(refusal.status(), 500);
        }
        let refused = HandshakeError::Refused(StatusCode::OK);
        assert_eq!(Refusal::from(refused).check(), Err(AnswerError::BadStatus));
        let clean = encoded(&Refusal::new(400));
        use AnswerError::{BadHeader, BadReason, ReservedHeader};
        for (fault, refusal) in [
            (BadReason, Refusal::new(400).reason("a\r\nSet-Cookie: b=c")),
            (BadReason, Refusal::new(400).reason("a\0")),
            (BadHeader, Refusal::new(400).header("X", "a\r\n\r\n<html>")),
            (BadHeader, Refusal::new(400).header("X\n", "a")),
            (
                ReservedHeader,
                Refusal::new(400).header("Content-Length", "5"),
            ),
            (
                ReservedHeader,
                Refusal::new(400).header("transfer-encoding", "chunked"),
            ),
            (
                ReservedHeader,
                Refusal::new(400).header("Connection", "keep-alive"),
            ),
            (ReservedHeader, Refusal::new(400).header("Upgrade", "h2c")),
            (
                ReservedHeader,
                Refusal::new(400).header("Sec-WebSocket-Accept", "x"),
            ),
        ] {
            assert_eq!(refusal.check(), Err(fault));
            assert_eq!(encoded(&refusal), clean);
        }
        assert_eq!(Refusal::new(300).check(), Ok(()));
        assert_eq!(Refusal::new(599).check(), Ok(()));
    }
}
