//! What all HTTP answers consist of.

use std::time::SystemTime;

use http::StatusCode;

use super::fields::Fields;
use crate::date::Date;
use crate::error::AnswerError;
use crate::tokens::is_field_text;

/// The parts of an HTTP answer: its status with the reason phrase, headers and a body.
///
/// A malformed part is not taken, and [`check`](Self::check) reports it.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    status: StatusCode,
    reason: Option<Box<str>>,
    fields: Fields,
    body: Option<Vec<u8>>,
    /// The first fault of a part.
    fault: Option<AnswerError>,
}

impl Parts {
    /// Creates an answer with this status; 500 if it is not allowed there.
    pub(crate) fn new(status: u16, is_allowed: bool) -> Self {
        let known = StatusCode::from_u16(status).ok().filter(|_| is_allowed);
        Self {
            status: known.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            reason: None,
            fields: Fields::default(),
            body: None,
            fault: known.is_none().then_some(AnswerError::BadStatus),
        }
    }

    pub(crate) fn set_reason(&mut self, phrase: &str) {
        match is_field_text(phrase.as_bytes()) {
            true => self.reason = Some(phrase.into()),
            false => self.note(Err(AnswerError::BadReason)),
        }
    }

    pub(crate) fn append(&mut self, name: &str, value: &str) {
        let appended = self.fields.append(name, value);
        self.note(appended);
    }

    pub(crate) fn append_cookie(&mut self, name: &str, value: &str, attributes: &str) {
        let appended = self.fields.append_cookie(name, value, attributes);
        self.note(appended);
    }

    pub(crate) fn set_body(&mut self, body: Vec<u8>) {
        self.body = Some(body);
    }

    /// Keeps the first fault for [`check`](Self::check).
    pub(crate) fn note(&mut self, result: Result<(), AnswerError>) {
        self.fault = self.fault.or_else(|| result.err());
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Returns the status code with its reason phrase.
    pub(crate) fn title(&self) -> String {
        let standard = self.status.canonical_reason().unwrap_or("Unknown");
        let phrase = self.reason.as_deref().unwrap_or(standard);
        format!("{} {phrase}", self.status.as_str())
    }

    /// Checks that no part was malformed.
    pub(crate) fn check(&self) -> Result<(), AnswerError> {
        self.fault.map_or(Ok(()), Err)
    }

    /// Begins the answer: its status line, and its `Date` unless it has one.
    pub(crate) fn begin<'o>(
        &self,
        title: &str,
        now: SystemTime,
        out: &'o mut Vec<u8>,
    ) -> Lines<'o> {
        let mut lines = Lines(out);
        lines.push(&format!("HTTP/1.1 {title}"));
        // RFC 9110, 6.6.1: "An origin server with a clock MUST generate a Date header field in all
        // 2xx (Successful), 3xx (Redirection), and 4xx (Client Error) responses".
        if !self.fields.contains("Date") {
            lines.push(&format!("Date: {}", Date::from(now)));
        }
        lines
    }
}

/// The head of an answer, a line at a time.
pub(crate) struct Lines<'o>(&'o mut Vec<u8>);

impl Lines<'_> {
    pub(crate) fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    /// Appends the lines that a 426 must have besides `Connection`.
    pub(crate) fn push_upgrade(&mut self) {
        // RFC 9110, 15.5.22: "The server MUST send an Upgrade header field in a 426 response".
        self.push("Upgrade: websocket");
        // RFC 6455, 4.2.2: "and a |Sec-WebSocket-Version| header field indicating the version(s)
        // the server is capable of understanding"
        self.push("Sec-WebSocket-Version: 13");
    }

    /// Ends the head with the fields of the answer, and appends its body.
    pub(crate) fn end(self, fields: &Fields, body: &[u8]) {
        fields.encode(self.0);
        self.0.extend_from_slice(b"\r\n");
        self.0.extend_from_slice(body);
    }
}
