//! Bytes to requests, one after the other, wherever reads cut them.

use http::{Method, Version, header};

use super::body::Body;
use crate::handshake::{Head, Parser, Request};
use crate::{HandshakeError, Limits};

/// What came on a connection that is not upgraded yet.
#[non_exhaustive]
#[derive(Debug)]
pub enum Item {
    /// The client waits for a 100 before it sends its body: [`CONTINUE`] is what to send.
    Continue,
    /// A plain request, with its body.
    Request(Request),
    /// A request that asks for an upgrade to `websocket`; whether it may have it is for
    /// [`Request::accept_key`] to tell.
    Upgrade(Request),
}

/// The answer to `Expect: 100-continue` (RFC 9110, 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An incremental reader of the requests of one connection.
///
/// A request is whole when its body is: of `Content-Length` bytes, or in chunks. Both are read
/// strictly, since two parties that disagree about where a request ends can be played off against
/// each other. What is kept of a request that is not whole is bounded by `max_handshake_size` and
/// `max_body_size`.
///
/// An error is final: every later call returns it again.
#[derive(Debug)]
pub struct Reader {
    parser: Parser,
    /// A request that is whole but for its body.
    begun: Option<Box<(Request, Body)>>,
    failed: Option<HandshakeError>,
    limits: Limits,
    upgrades_only: bool,
    /// Whether the last head was of a HEAD request.
    is_head: bool,
}

impl Reader {
    /// Creates a reader with `max_handshake_size`, `max_headers` and `max_body_size` of `limits`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            parser: Parser::plain(limits),
            begun: None,
            failed: None,
            limits: *limits,
            upgrades_only: false,
            is_head: false,
        }
    }

    /// Creates a reader that takes every request for an attempt to upgrade, whatever it asks for.
    pub fn upgrades_only(limits: &Limits) -> Self {
        Self {
            parser: Parser::new(limits),
            upgrades_only: true,
            ..Self::new(limits)
        }
    }

    /// Returns about how many bytes of memory a request that is not whole takes.
    pub(crate) fn held(&self) -> usize {
        let begun = self.begun.as_deref();
        let begun = begun.map_or(0, |(request, body)| request.held() + body.held());
        self.parser.held() + begun
    }

    /// Takes the next bytes, and returns what is whole with them, if anything, and how many bytes
    /// of `input` were taken. Without an item these are all, and more are needed.
    ///
    /// # Errors
    ///
    /// As soon as the bytes cannot become a request within the limits.
    pub fn read(&mut self, input: &[u8]) -> Result<(Option<Item>, usize), HandshakeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(input).inspect_err(|error| {
            self.failed = Some(*error);
            self.begun = None;
        })
    }

    /// Returns whether no byte of a request was taken yet since the last one.
    pub fn is_empty(&self) -> bool {
        self.parser.is_empty() && self.begun.is_none() && self.failed.is_none()
    }

    /// Returns how many bytes of a body are kept, if one is under way.
    pub(crate) fn body_len(&self) -> Option<usize> {
        self.begun.as_deref().map(|(_, body)| body.len())
    }

    /// Returns what there was of a head that could not be read.
    pub(crate) fn refused(&self) -> Option<Head<'_>> {
        self.parser.refused()
    }

    /// Returns the method of the request that is read, as far as it matters for the answer: HEAD or
    /// another.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    fn advance(&mut self, input: &[u8]) -> Result<(Option<Item>, usize), HandshakeError> {
        if self.begun.is_some() {
            let (request, taken) = self.read_body(input)?;
            return Ok((request.map(Item::Request), taken));
        }
        let Some((request, taken)) = self.parser.parse(input)? else {
            return Ok((None, input.len()));
        };
        self.is_head = request.method() == Method::HEAD;
        if self.upgrades_only || request.asks_for_websocket() {
            return Ok((Some(Item::Upgrade(request)), taken));
        }
        request.check_plain()?;
        let waits = expects_continue(&request)?;
        let Some(body) = Body::of(&request, &self.limits)? else {
            return Ok((Some(Item::Request(request)), taken));
        };
        self.begun = Some(Box::new((request, body)));
        let rest = input.get(taken..).unwrap_or_default();
        // RFC 9110, 10.1.1: "A server MAY omit sending a 100 (Continue) response if it has already
        // received some or all of the content".
        if waits && rest.is_empty() {
            return Ok((Some(Item::Continue), taken));
        }
        let (request, more) = self.read_body(rest)?;
        Ok((request.map(Item::Request), taken + more))
    }

    /// Goes on with the body of the request that was begun.
    fn read_body(&mut self, input: &[u8]) -> Result<(Option<Request>, usize), HandshakeError> {
        let Some(mut begun) = self.begun.take() else {
            return Ok((None, 0));
        };
        let (taken, whole) = begun.1.take(input)?;
        if !whole {
            self.begun = Some(begun);
            return Ok((None, taken));
        }
        let (mut request, body) = *begun;
        request.set_body(body.into_bytes());
        Ok((Some(request), taken))
    }
}

/// Returns whether the client waits for a 100.
fn expects_continue(request: &Request) -> Result<bool, HandshakeError> {
    // RFC 9110, 10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request
    // MUST ignore that expectation."
    if request.version() == Version::HTTP_10 || !request.has(header::EXPECT) {
        return Ok(false);
    }
    let mut lines = request.headers().get_all(header::EXPECT).into_iter();
    let known = lines.all(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    known.then_some(true).ok_or(HandshakeError::Expectation)
}
