//! Incremental parsing of a [`Request`] within the limits, independent of how reads are cut.

use std::mem::{self, MaybeUninit};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::head::Head;
use super::request::Request;
use super::scan::Scanner;
use crate::{HandshakeError, Limits};

/// An incremental parser of one request head.
///
/// Each byte is scanned once, when it arrives, so a head that arrives one byte at a time costs no
/// more than one that arrives whole. A head that arrives whole is parsed in place; otherwise its
/// bytes are kept, never more than `max_handshake_size`.
///
/// An error is final: every later call returns it again. After a request, the parser is ready for
/// the next one.
#[derive(Debug)]
pub struct Parser {
    scanner: Scanner,
    /// The scanned bytes of an incomplete head, never more than `max_size`.
    partial: Vec<u8>,
    failed: Option<HandshakeError>,
    /// The bytes of a refused head, and how many of them were scanned.
    refused: (Vec<u8>, usize),
    max_size: usize,
    max_headers: usize,
}

impl Parser {
    /// Creates a parser with `max_handshake_size` and `max_headers` of `limits`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            scanner: Scanner::new(limits.max_headers),
            partial: Vec::new(),
            failed: None,
            refused: (Vec::new(), 0),
            max_size: limits.max_handshake_size,
            max_headers: limits.max_headers,
        }
    }

    /// Creates a parser that also accepts HTTP/1.0, which is valid for plain requests only.
    pub(crate) fn plain(limits: &Limits) -> Self {
        Self {
            scanner: Scanner::plain(limits.max_headers),
            ..Self::new(limits)
        }
    }

    /// Consumes the next bytes, and returns the request when its head is complete.
    ///
    /// The number is how many bytes of this `input` belong to the head; the bytes after it were not
    /// scanned. `Ok(None)` means that all of `input` was consumed and more is needed.
    ///
    /// # Errors
    ///
    /// Returns an error as soon as the bytes cannot become a request head within the limits.
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<(Request, usize)>, HandshakeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let parsed = self.advance(input);
        if let Err(error) = parsed {
            self.failed = Some(error);
            self.partial = Vec::new();
        }
        parsed
    }

    /// Returns how many bytes of memory an incomplete head takes.
    pub(crate) fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// Returns whether no byte of a head has been consumed.
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.failed.is_none()
    }

    /// Returns the bytes of the refused head, at most `max_handshake_size`.
    pub(crate) fn refused(&self) -> Option<Head<'_>> {
        let (bytes, at) = &self.refused;
        self.failed.map(|_| Head { bytes, at: *at })
    }

    /// Keeps the head that is refused after `at` bytes of `input`.
    fn note_refused(&mut self, input: &[u8], at: usize) {
        let mut head = mem::take(&mut self.partial);
        let at = head.len() + at;
        head.extend_from_slice(input);
        self.refused = (head, at);
    }

    fn advance(&mut self, input: &[u8]) -> Result<Option<(Request, usize)>, HandshakeError> {
        let room = self.max_size.saturating_sub(self.partial.len());
        let allowed = input.get(..room).unwrap_or(input);
        let scanned = self.scanner.scan(allowed);
        if scanned.is_err() {
            self.note_refused(allowed, self.scanner.refused_at());
        }
        let Some(taken) = scanned? else {
            // The head does not end within the limit, so it exceeds it.
            if allowed.len() == room && !input.is_empty() {
                self.note_refused(allowed, allowed.len());
                return Err(HandshakeError::HeadTooBig {
                    limit: self.max_size,
                });
            }
            self.keep(input);
            return Ok(None);
        };
        let ending = input.get(..taken).unwrap_or(input);
        let lines = self.scanner.lines();
        let higher_minor = self.scanner.has_higher_minor();
        self.scanner = self.scanner.renew();
        // Common case: the head arrived whole, and is parsed in place.
        let request = if self.partial.is_empty() {
            let request = self.request(ending, lines, higher_minor);
            if request.is_err() {
                self.note_refused(ending, taken);
            }
            request?
        } else {
            self.keep(ending);
            let head = mem::take(&mut self.partial);
            let request = self.request(&head, lines, higher_minor);
            if request.is_err() {
                self.note_refused(&head, head.len());
            }
            request?
        };
        Ok(Some((request, taken)))
    }

    /// Appends to the partial head; the caller keeps its length within `max_size`.
    fn keep(&mut self, input: &[u8]) {
        let needed = self.partial.len() + input.len();
        if needed > self.partial.capacity() {
            // Doubles like `Vec`, but not beyond the limit.
            let doubled = self.partial.capacity().saturating_mul(2).min(self.max_size);
            self.partial
                .reserve_exact(needed.max(doubled) - self.partial.len());
        }
        self.partial.extend_from_slice(input);
    }

    /// Parses a complete head with this many header lines. A minor version above 1 is treated as 1.
    fn request(
        &self,
        head: &[u8],
        lines: usize,
        higher_minor: bool,
    ) -> Result<Request, HandshakeError> {
        let mut inline = [const { MaybeUninit::uninit() }; INLINE_LINES];
        let mut spilled = Vec::new();
        let fields = if lines <= INLINE_LINES {
            &mut inline[..]
        } else {
            // The scanner counted them: at most as many as the head holds, and at most
            // `max_headers`.
            spilled.resize(lines, MaybeUninit::uninit());
            &mut spilled[..]
        };
        let known;
        let head = match higher_minor {
            false => head,
            true => {
                known = with_known_minor(head);
                &known
            }
        };
        let mut parsed = httparse::Request::new(&mut []);
        let status = parsed.parse_with_uninit_headers(head, fields);
        if status.map_err(|error| self.fault(error))? != httparse::Status::Complete(head.len()) {
            // The scanner found an end that this parser does not.
            return Err(HandshakeError::BadHeader);
        }
        let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
            .map_err(|_| HandshakeError::BadRequestLine)?;
        let target = parsed.path.unwrap_or_default();
        // RFC 6455, 3: "Fragment identifiers are meaningless in the context of WebSocket URIs and
        // MUST NOT be used on these URIs." `Uri` would silently drop it.
        if target.contains('#') {
            return Err(HandshakeError::BadTarget);
        }
        let uri = Uri::try_from(target).map_err(|_| HandshakeError::BadTarget)?;
        let many = |_| HandshakeError::TooManyHeaders {
            limit: self.max_headers,
        };
        let mut headers = HeaderMap::try_with_capacity(lines).map_err(many)?;
        for field in &*parsed.headers {
            let name = HeaderName::from_bytes(field.name.as_bytes())
                .map_err(|_| HandshakeError::BadHeader)?;
            let value =
                HeaderValue::from_bytes(field.value).map_err(|_| HandshakeError::BadHeader)?;
            headers.try_append(name, value).map_err(many)?;
        }
        let version = match parsed.version {
            Some(0) => Version::HTTP_10,
            _ => Version::HTTP_11,
        };
        Ok(Request::new(method, uri, version, headers))
    }

    fn fault(&self, error: httparse::Error) -> HandshakeError {
        match error {
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine => HandshakeError::BadHeader,
            httparse::Error::Status | httparse::Error::Token => HandshakeError::BadRequestLine,
            httparse::Error::TooManyHeaders => HandshakeError::TooManyHeaders {
                limit: self.max_headers,
            },
            httparse::Error::Version => HandshakeError::HttpVersion,
        }
    }
}

/// Returns the head with the minor version 1. That is the byte before the end of the request line,
/// which an empty line may precede.
fn with_known_minor(head: &[u8]) -> Vec<u8> {
    let mut known = head.to_vec();
    let line = known
        .iter()
        .skip(EMPTY_LINE)
        .position(|byte| *byte == b'\r');
    let minor = line.and_then(|len| known.get_mut(len + EMPTY_LINE - 1));
    if let Some(minor) = minor {
        *minor = b'1';
    }
    known
}

/// Size of an empty line, in bytes.
const EMPTY_LINE: usize = 2;

/// Most header lines that are parsed without an allocation for their positions.
const INLINE_LINES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::SAMPLE;
    use super::*;

    type Parsed = Result<Option<(String, usize)>, HandshakeError>;

    fn limits(size: usize, headers: usize) -> Limits {
        Limits {
            max_handshake_size: size,
            max_headers: headers,
            ..Limits::default()
        }
    }

    /// Feeds `pieces`; returns the request, and the number of bytes consumed from all of them.
    fn feed<'a>(limits: &Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Parsed {
        let mut parser = Parser::new(limits);
        let mut before = 0;
        for piece in pieces {
            if let Some((request, taken)) = parser.parse(piece)? {
                assert!(taken <= piece.len());
                assert!(parser.is_empty());
                return Ok(Some((format!("{request:?}"), before + taken)));
            }
            before += piece.len();
            assert!(parser.partial.capacity() <= limits.max_handshake_size);
            assert_eq!(parser.is_empty(), before == 0);
        }
        Ok(None)
    }

    fn whole(limits: &Limits, head: impl AsRef<[u8]>) -> Parsed {
        feed(limits, [head.as_ref()])
    }

    #[test]
    fn every_split_gives_the_same() {
        let stream = [SAMPLE.as_bytes(), &[0x81, 0x80, 1, 2, 3, 4]].concat();
        let limits = Limits::default();
        let expected = whole(&limits, &stream);
        assert!(matches!(expected, Ok(Some((_, taken))) if taken == SAMPLE.len()));
        for first in 0..=stream.len() {
            let (head, tail) = stream.split_at(first);
            assert_eq!(feed(&limits, [head, tail]), expected, "{first}");
        }
        for size in 1..40 {
            assert_eq!(feed(&limits, stream.chunks(size)), expected, "{size}");
        }
    }

    #[test]
    fn size_limit_is_exact() {
        let big = |limit| Err(HandshakeError::HeadTooBig { limit });
        let size = SAMPLE.len();
        for pieces in [1, 7, size] {
            let feed = |limit| feed(&limits(limit, 100), SAMPLE.as_bytes().chunks(pieces));
            assert!(matches!(feed(size), Ok(Some(_))));
            assert!(matches!(feed(size + 1), Ok(Some(_))));
            assert_eq!(feed(size - 1), big(size - 1));
            assert_eq!(feed(1), big(1));
            assert_eq!(feed(0), big(0));
        }
        // A head that reaches the limit without its end is refused without waiting for more.
        assert_eq!(whole(&limits(20, 100), &SAMPLE[..20]), big(20));
        assert_eq!(
            whole(&limits(usize::MAX, usize::MAX), &SAMPLE[..20]),
            Ok(None)
        );
    }

    #[test]
    fn header_limit_is_exact() {
        let many = |limit| Err(HandshakeError::TooManyHeaders { limit });
        for count in [0, 1, 99, 100, 101, 700] {
            let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
            for limit in [count, count + 1, usize::MAX] {
                assert!(matches!(whole(&limits(1 << 20, limit), &head), Ok(Some(_))));
            }
            if count > 0 {
                assert_eq!(whole(&limits(1 << 20, count - 1), &head), many(count - 1));
            }
        }
        // `HeaderMap` has a limit of its own, at which it must not panic.
        let lines: String = (0..40_000).map(|line| format!("h{line}: \r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(
            whole(&limits(usize::MAX, usize::MAX), head),
            many(usize::MAX)
        );
    }

    #[test]
    fn malformed_heads() {
        for (lines, fault) in [
            ("Host : a\r\n", HandshakeError::BadHeader),
            ("Host\r\n", HandshakeError::BadHeader),
            (": a\r\n", HandshakeError::BadHeader),
            ("H\u{e9}: a\r\n", HandshakeError::BadHeader),
            (" Host: a\r\n", HandshakeError::BadHeader),
            ("Host: a\r\n b\r\n", HandshakeError::BadHeader),
            ("Host: a\n", HandshakeError::BadHeader),
            ("Host: a\rb\r\n", HandshakeError::BadHeader),
            ("Host: a\0\r\n", HandshakeError::BadHeader),
            (
                "Transfer-Encoding\x0b: chunked\r\n",
                HandshakeError::BadHeader,
            ),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
            assert_eq!(whole(&Limits::default(), head), Err(fault), "{lines:?}");
        }
        for target in [
            "/a#b",
            "#",
            "http://a/#",
            "http://",
            "/\u{e9}",
            "a b/",
            "\\",
            "ws:///a",
        ] {
            let result = whole(&Limits::default(), format!("GET {target} HTTP/1.1\r\n\r\n"));
            let fault = if target.contains(' ') {
                HandshakeError::BadRequestLine
            } else {
                HandshakeError::BadTarget
            };
            assert_eq!(result, Err(fault), "{target:?}");
        }
    }

    #[test]
    fn an_error_is_final() {
        let mut parser = Parser::new(&Limits::default());
        assert!(matches!(parser.parse(b"GET / HTTP/1.1\r\n"), Ok(None)));
        assert!(matches!(
            parser.parse(b"\0"),
            Err(HandshakeError::BadHeader)
        ));
        assert!(matches!(
            parser.parse(b"\r\n"),
            Err(HandshakeError::BadHeader)
        ));
        assert!(!parser.is_empty());
        assert_eq!(parser.partial.capacity(), 0);
    }

    #[test]
    fn all_bytes_in_values_and_targets() {
        for byte in 0..=255u8 {
            for (before, after) in SPOTS {
                let head = [before.as_bytes(), &[byte], after.as_bytes()].concat();
                if let Ok(Some((request, _))) = Parser::new(&Limits::default()).parse(&head) {
                    // No accessor panics on an accepted request.
                    let _ = request.accept_key();
                    let _ = (
                        request.host(),
                        request.origin(),
                        request.path(),
                        request.query(),
                    );
                    let _ = (request.cookies().count(), request.subprotocols().count());
                }
            }
        }
    }

    /// Positions at which a byte is inserted into a head: the text before it and after it.
    const SPOTS: [(&str, &str); 6] = [
        ("", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET /a", "?b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET /?b", " HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a", ":80\r\n\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nOrigin: ",
            "\r\nCookie: a=b\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: ",
            "\r\nCookie: \r\n\r\n",
        ),
    ];

    /// Complete heads, some with one byte changed.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        (any::<prop::sample::Index>(), any::<Option<u8>>()).prop_map(|(at, change)| {
            let mut head = SAMPLE.as_bytes().to_vec();
            if let Some(byte) = change {
                let at = at.index(head.len());
                head[at] = byte;
            }
            head
        })
    }

    proptest! {
        #[test]
        fn however_cut_the_result_is_the_same(
            stream in prop_oneof![heads(), prop::collection::vec(any::<u8>(), 0..64)],
            sizes in prop::collection::vec(1..50usize, 1..20),
            size in 0..400usize,
        ) {
            let limits = limits(size, 7);
            let mut rest = &stream[..];
            let pieces = sizes.iter().cycle().map_while(|size| {
                let piece = rest.split_off(..rest.len().min(*size))?;
                (!piece.is_empty()).then_some(piece)
            });
            prop_assert_eq!(feed(&limits, pieces), whole(&limits, &stream));
        }
    }
}
