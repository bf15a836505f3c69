//! The response to a plain request.

use std::time::SystemTime;

use http::{Method, StatusCode, Version};

use crate::AnswerError;
use crate::handshake::{Parts, Request};

/// A response to a plain request: a status with its reason phrase, headers and a body.
///
/// A status alone is a complete response; from 400 on it has a line of text as its body. This crate
/// writes `Date`, `Content-Length`, `Connection` and all other headers that frame the response, so
/// a handler cannot corrupt it. 405 and 426 get the headers that they require. Setters never fail:
/// a malformed part is omitted, and [`check`](Self::check) returns the error.
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
#[must_use]
#[derive(Clone, Debug)]
pub struct Response {
    parts: Parts,
    closes: bool,
}

/// What happens to the connection after a response.
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It closes.
    Close,
    /// Another request may follow.
    KeepAlive,
}

impl Response {
    /// Creates the response with this status, from 200 to 599, without custom headers.
    pub fn new(status: u16) -> Self {
        // A 1xx is no answer yet (RFC 9110, 15.2), and a 101 is for the opening handshake to give.
        Self {
            parts: Parts::new(status, (200..=599).contains(&status)),
            closes: false,
        }
    }

    /// Sets the reason phrase.
    pub fn reason(mut self, phrase: &str) -> Self {
        self.parts.set_reason(phrase);
        self
    }

    /// Appends a header; the same name can occur several times.
    ///
    /// `Content-Type` and `Allow` replace the defaults. `Connection`, `Content-Length`, `Date`,
    /// `Transfer-Encoding`, `Upgrade` and `Sec-WebSocket-*` make the response malformed.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match name.eq_ignore_ascii_case("date") {
            true => self.parts.note(Err(AnswerError::ReservedHeader)),
            false => self.parts.append(name, value),
        }
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

    /// Sets the body: UTF-8 text, unless a `Content-Type` header says otherwise. Responses that
    /// cannot have a body (204, 304, any response to HEAD) are sent without it.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.parts.set_body(body.into());
        self
    }

    /// Closes the connection after this response, even if the client would send another request.
    pub fn close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Returns the status; 500 if the requested one is not allowed.
    pub fn status(&self) -> StatusCode {
        self.parts.status()
    }

    /// Returns whether the connection closes after this response.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Checks that every part is well-formed.
    ///
    /// # Errors
    ///
    /// Returns the first fault: [`AnswerError::BadStatus`] if the status is not allowed in a
    /// response, [`AnswerError::BadReason`] or [`AnswerError::BadHeader`] for control characters,
    /// and [`AnswerError::ReservedHeader`] for a header that only this crate writes.
    pub fn check(&self) -> Result<(), AnswerError> {
        self.parts.check()
    }

    /// Appends the bytes of the response to `request` to `out`, without its malformed parts; `now`
    /// is for the `Date`.
    pub fn encode(&self, request: &Request, then: Then, now: SystemTime, out: &mut Vec<u8>) {
        let (parts, status) = (&self.parts, self.parts.status());
        let (fields, code) = (parts.fields(), status.as_u16());
        let title = parts.title();
        // RFC 9110, 15.3.5 and 15.4.5: these two have no content. 15.3.6: "a server MUST NOT
        // generate content in a 205 response", which is told by a length of 0.
        let has_length = !matches!(code, 204 | 304);
        let body = match parts.body() {
            _ if matches!(code, 204 | 205 | 304) => &[],
            Some(body) => body,
            None if code >= 400 => title.as_bytes(),
            None => &[],
        };
        let mut lines = parts.begin(&title, now, out);
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
            lines.push(&format!("Connection: {}", options.join(", ")));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            lines.push_upgrade();
        }
        // RFC 9110, 15.5.6: "The origin server MUST generate an Allow header field in a 405
        // response".
        if status == StatusCode::METHOD_NOT_ALLOWED && !fields.contains("Allow") {
            lines.push("Allow: GET, HEAD");
        }
        if !body.is_empty() && !fields.contains("Content-Type") {
            lines.push("Content-Type: text/plain; charset=utf-8");
        }
        if has_length {
            lines.push(&format!("Content-Length: {}", body.len()));
        }
        // RFC 9110, 9.3.2: "The HEAD method is identical to GET except that the server MUST NOT
        // send content in the response."
        let head_only = request.method() == Method::HEAD;
        lines.end(fields, if head_only { &[] } else { body });
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
