//! The answer to a plain request.

use std::time::SystemTime;

use http::{Method, StatusCode, Version};

use crate::AnswerError;
use crate::date::Date;
use crate::handshake::{Fields, Request};
use crate::tokens::is_field_text;

/// An answer to a plain request: a status with its reason phrase, headers and a body.
///
/// A status alone makes a complete answer; from 400 on it has a line of text for a body. `Date`,
/// `Content-Length`, `Connection` and what else frames an answer are written by this crate, so that
/// no handler can break one apart; 405 and 426 get the headers that they must have. Setters never
/// fail: a malformed part is not taken, and [`check`](Self::check) tells.
///
/// ```
/// use wsloop::plain_http::Response;
///
/// let page = Response::new(200)
///     .header("Content-Type", "text/html; charset=utf-8")
///     .body("<!doctype html><title>chat</title>");
/// assert!(page.check().is_ok());
/// assert!(Response::new(302).header("Location", "/\r\nSet-Cookie: a=b").check().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Response {
    status: StatusCode,
    reason: Option<Box<str>>,
    fields: Fields,
    body: Option<Vec<u8>>,
    closes: bool,
    /// Whether a part was malformed, and therefore not taken.
    malformed: bool,
}

/// What becomes of the connection behind an answer.
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It ends.
    Close,
    /// Another request may follow.
    KeepAlive,
}

impl Response {
    /// Creates the answer with this status, from 200 to 599, and without headers of its own.
    pub fn new(status: u16) -> Self {
        // A 1xx is no answer yet (RFC 9110, 15.2), and a 101 is for the opening handshake to give.
        let known = StatusCode::from_u16(status)
            .ok()
            .filter(|_| (200..=599).contains(&status));
        Self {
            status: known.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            reason: None,
            fields: Fields::default(),
            body: None,
            closes: false,
            malformed: known.is_none(),
        }
    }

    /// Sets the reason phrase.
    pub fn reason(mut self, phrase: &str) -> Self {
        if is_field_text(phrase.as_bytes()) {
            self.reason = Some(phrase.into());
        } else {
            self.malformed = true;
        }
        self
    }

    /// Appends a header; the same name may come several times.
    ///
    /// `Content-Type` and `Allow` replace the defaults. `Connection`, `Content-Length`, `Date`,
    /// `Transfer-Encoding`, `Upgrade` and `Sec-WebSocket-*` make the answer malformed.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let dated = name.eq_ignore_ascii_case("date");
        self.malformed |= dated || self.fields.append(name, value).is_err();
        self
    }

    /// Appends a cookie, by its name, its value and its attributes:
    /// `cookie("id", "31d4d96e", "Path=/; HttpOnly; Secure; SameSite=Strict")`.
    ///
    /// The answer is malformed if a part has a byte that RFC 6265, 4.1.1 does not allow there.
    pub fn cookie(mut self, name: &str, value: &str, attributes: &str) -> Self {
        self.malformed |= self.fields.append_cookie(name, value, attributes).is_err();
        self
    }

    /// Sets the body, a text in UTF-8 unless a `Content-Type` header says otherwise. What has none
    /// by definition (204, 304, any answer to HEAD) is sent without.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Has the connection end behind this answer, also if the client would send another request.
    pub fn close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Returns the status; 500 if the one asked for is none that answers.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns whether the connection is to end behind this answer.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Checks that every part is well-formed.
    ///
    /// # Errors
    ///
    /// Returns [`AnswerError::Malformed`] if the status does not answer, if the reason phrase or a
    /// header has control characters, or if a header is one that only this crate writes.
    pub fn check(&self) -> Result<(), AnswerError> {
        if self.malformed {
            Err(AnswerError::Malformed)
        } else {
            Ok(())
        }
    }

    /// Appends the bytes of the answer to `request` to `out`, without the parts that were
    /// malformed. `now` is for its `Date`.
    pub fn encode(&self, request: &Request, then: Then, now: SystemTime, out: &mut Vec<u8>) {
        let status = self.status;
        let standard = status.canonical_reason().unwrap_or("Unknown");
        let phrase = self.reason.as_deref().unwrap_or(standard);
        let title = format!("{} {phrase}", status.as_str());
        let body = match &self.body {
            Some(body) => body.as_slice(),
            None if status.as_u16() >= 400 => title.as_bytes(),
            None => &[],
        };
        // RFC 9110, 15.3.5 and 15.4.5: these two have no content. 15.3.6: "a server MUST NOT
        // generate content in a 205 response", which is told by a length of 0.
        let has_length = !matches!(status.as_u16(), 204 | 304);
        let body = match status.as_u16() {
            204 | 205 | 304 => &[],
            _ => body,
        };
        let mut line = |text: &str| {
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        line(&format!("HTTP/1.1 {title}"));
        line(&format!("Date: {}", Date::from(now)));
        let mut options = Vec::new();
        if status == StatusCode::UPGRADE_REQUIRED {
            options.push("upgrade");
        }
        match then {
            Then::Close => options.push("close"),
            Then::KeepAlive if request.version() == Version::HTTP_10 => options.push("keep-alive"),
            Then::KeepAlive => {}
        }
        if !options.is_empty() {
            line(&format!("Connection: {}", options.join(", ")));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            // As in a refusal: RFC 9110, 15.5.22 and RFC 6455, 4.2.2.
            line("Upgrade: websocket");
            line("Sec-WebSocket-Version: 13");
        }
        // RFC 9110, 15.5.6: "The origin server MUST generate an Allow header field in a 405
        // response".
        if status == StatusCode::METHOD_NOT_ALLOWED && !self.fields.contains("Allow") {
            line("Allow: GET, HEAD");
        }
        if !body.is_empty() && !self.fields.contains("Content-Type") {
            line("Content-Type: text/plain; charset=utf-8");
        }
        if has_length {
            line(&format!("Content-Length: {}", body.len()));
        }
        self.fields.encode(out);
        out.extend_from_slice(b"\r\n");
        // RFC 9110, 9.3.2: "The HEAD method is identical to GET except that the server MUST NOT
        // send content in the response."
        if request.method() != Method::HEAD {
            out.extend_from_slice(body);
        }
    }
}

impl From<u16> for Response {
    fn from(status: u16) -> Self {
        Self::new(status)
    }
}

impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Self {
        Self::new(status.as_u16())
    }
}
