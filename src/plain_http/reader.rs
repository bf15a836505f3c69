//! An incremental reader of requests.

use http::{Method, Version, header};

use super::body::Body;
use crate::handshake::{Head, Parser, Request};
use crate::{HandshakeError, Limits};

/// The data that a connection has sent before an upgrade.
#[non_exhaustive]
#[derive(Debug)]
pub enum Item {
    /// The client waits for a 100 before it sends its body: send [`CONTINUE`].
    Continue,
    /// A plain request, with its body.
    Request(Request),
    /// A request for an upgrade to `websocket`; [`Request::accept_key`] checks whether it is valid.
    Upgrade(Request),
}

/// The response to `Expect: 100-continue` (RFC 9110, 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An incremental reader of the requests of one connection.
///
/// A request is complete when its body is: with `Content-Length` bytes, or in chunks. Both are
/// parsed strictly, because an attacker can exploit two parties that disagree about the end of a
/// request. `max_handshake_size` and `max_body_size` limit the memory for an incomplete request.
///
/// An error is final: every later call returns it again.
#[derive(Debug)]
pub struct Reader {
    parser: Parser,
    /// A request that is complete except for its body.
    begun: Option<Box<(Request, Body)>>,
    failed: Option<HandshakeError>,
    limits: Limits,
    upgrades_only: bool,
    /// Whether the last request head has the method HEAD.
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

    /// Creates a reader that treats every request as an attempt to upgrade.
    pub fn upgrades_only(limits: &Limits) -> Self {
        Self {
            parser: Parser::new(limits),
            upgrades_only: true,
            ..Self::new(limits)
        }
    }

    /// Returns approximately how many bytes of memory an incomplete request takes.
    pub(crate) fn held(&self) -> usize {
        let begun = self.begun.as_deref();
        let begun = begun.map_or(0, |(request, body)| request.held() + body.held());
        self.parser.held() + begun
    }

    /// Takes the next bytes. Returns the item that they complete, if any, and how many bytes of
    /// `input` were used. Without an item, all bytes were used and more are needed.
    ///
    /// # Errors
    ///
    /// Returns an error as soon as the bytes cannot become a request within the limits.
    pub fn read(&mut self, input: &[u8]) -> Result<(Option<Item>, usize), HandshakeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(input).inspect_err(|error| {
            self.failed = Some(*error);
            self.begun = None;
        })
    }

    /// Returns whether no byte of a request has arrived since the last one.
    pub fn is_empty(&self) -> bool {
        self.parser.is_empty() && self.begun.is_none() && self.failed.is_none()
    }

    /// Returns how many bytes of a body are stored, if one is in progress.
    pub(crate) fn body_len(&self) -> Option<usize> {
        self.begun.as_deref().map(|(_, body)| body.len())
    }

    /// Returns the part of a malformed request head that could be read.
    pub(crate) fn refused(&self) -> Option<Head<'_>> {
        self.parser.refused()
    }

    /// Returns whether the request that is being read has the method HEAD, which matters for the
    /// response.
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

    /// Continues with the body of the request that has begun.
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
