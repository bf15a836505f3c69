//! Finds the end of a request head, and refuses an invalid head at its first wrong byte.

use crate::error::HandshakeError;
use crate::tokens::is_tchar;

/// A scanner that processes each byte of a head once, independent of how reads are cut.
///
/// It is strict where HTTP parsers disagree with each other: line ends, folded lines, control
/// characters, and spaces in the request line. The parser of the complete head checks the rest of
/// the grammar.
#[derive(Debug)]
pub(super) struct Scanner {
    place: Place,
    lines: usize,
    max_lines: usize,
    /// How many bytes of the last input were scanned when it was refused.
    refused_at: usize,
    /// Whether plain requests are accepted besides opening handshakes.
    plain: bool,
    /// Whether the minor version is above 1.
    higher_minor: bool,
}

impl Scanner {
    pub(super) fn new(max_lines: usize) -> Self {
        Self {
            place: Place::Start,
            lines: 0,
            max_lines,
            refused_at: 0,
            plain: false,
            higher_minor: false,
        }
    }

    /// Makes a scanner that also accepts HTTP/1.0.
    pub(super) fn plain(max_lines: usize) -> Self {
        Self {
            plain: true,
            ..Self::new(max_lines)
        }
    }

    /// Makes a scanner for the next request.
    pub(super) fn renew(&self) -> Self {
        Self {
            plain: self.plain,
            ..Self::new(self.max_lines)
        }
    }

    /// Returns the number of header lines that have begun.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// Returns whether the minor version is above 1.
    pub(super) fn has_higher_minor(&self) -> bool {
        self.higher_minor
    }

    /// Returns how many bytes of the last input were scanned when it was refused.
    pub(super) fn refused_at(&self) -> usize {
        self.refused_at
    }

    /// Scans the next bytes; returns how many of them belong to the head, if it ends in them.
    pub(super) fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, HandshakeError> {
        let mut rest = input;
        loop {
            // Common case: the middle of a header line. `skip_text` reads at most one block beyond
            // its result, and each pass consumes a byte: the work is linear, whatever the peer
            // sends.
            if matches!(self.place, Place::Line) {
                rest = skip_text(rest);
            }
            let Some((byte, after)) = rest.split_first() else {
                return Ok(None);
            };
            rest = after;
            self.place = match self.step(*byte) {
                Ok(place) => place,
                Err(error) => {
                    self.refused_at = input.len() - rest.len();
                    return Err(error);
                }
            };
            if matches!(self.place, Place::End) {
                return Ok(Some(input.len() - rest.len()));
            }
        }
    }

    /// Returns the place that follows `byte`.
    fn step(&mut self, byte: u8) -> Result<Place, HandshakeError> {
        match (self.place, byte) {
            (Place::Line, b'\r') => Ok(Place::LineCr),
            (Place::Line, byte) if is_text(byte) => Ok(Place::Line),
            // RFC 7230, 3.5 allows a recipient to accept a bare LF as a line end; 3 requires it to
            // refuse or replace a bare CR. Both are refused here: proxies disagree on them, which
            // enables request smuggling.
            (Place::Line, _) => Err(HandshakeError::BadHeader),

            (Place::LineCr, b'\n') => Ok(Place::LineStart),
            (Place::LineStart, b'\r') => Ok(Place::LastCr),
            (Place::LineStart, byte) if is_tchar(byte) => {
                self.lines += 1;
                if self.lines > self.max_lines {
                    return Err(HandshakeError::TooManyHeaders {
                        limit: self.max_lines,
                    });
                }
                Ok(Place::Line)
            }
            (Place::LastCr, b'\n') => Ok(Place::End),
            // RFC 7230, 3.2.4: "A server that receives an obs-fold in a request message [...] MUST
            // either reject the message by sending a 400 (Bad Request) [...] or replace each
            // received obs-fold". This scanner rejects it: no header line starts with white space.
            (Place::LineCr | Place::LineStart | Place::LastCr | Place::End, _) => {
                Err(HandshakeError::BadHeader)
            }

            (Place::Method, b' ') => Ok(Place::TargetStart),
            // RFC 9112, 2.2: "a server that is expecting to receive and parse a request-line SHOULD
            // ignore at least one empty line (CRLF) received prior to the request-line."
            (Place::Start, b'\r') => Ok(Place::EmptyCr),
            (Place::EmptyCr, b'\n') => Ok(Place::Method),
            (Place::EmptyCr, _) => Err(HandshakeError::BadRequestLine),
            (Place::Start | Place::Method, byte) if is_tchar(byte) => Ok(Place::Method),
            (Place::Start | Place::Method, _) => Err(HandshakeError::BadRequestLine),

            // RFC 3986, 2: a URI consists of a subset of the graphic ASCII characters.
            (Place::TargetStart | Place::Target, b'!'..=b'~') => Ok(Place::Target),
            (Place::Target, b' ') => Ok(Place::Version(0)),
            (Place::TargetStart | Place::Target, b' ' | b'\r' | b'\n') => {
                Err(HandshakeError::BadRequestLine)
            }
            (Place::TargetStart | Place::Target, _) => Err(HandshakeError::BadTarget),

            (Place::Version(at), byte) => match VERSION.get(usize::from(at)) {
                Some(b'\n') if byte == b'\n' => Ok(Place::LineStart),
                Some(expected) if byte == *expected => Ok(Place::Version(at + 1)),
                Some(b'1') if byte == b'0' && at == MINOR && self.plain => {
                    Ok(Place::Version(at + 1))
                }
                // RFC 9110, 2.5: a recipient of a higher minor version than it implements "SHOULD
                // process the message as if it were in the highest minor version within that major
                // version". RFC 6455, 4.2.1: "HTTP/1.1 or higher".
                Some(b'1') if at == MINOR && matches!(byte, b'2'..=b'9') => {
                    self.higher_minor = true;
                    Ok(Place::Version(at + 1))
                }
                Some(b'1') if byte.is_ascii_digit() => Err(HandshakeError::HttpVersion),
                _ => Err(HandshakeError::BadRequestLine),
            },
        }
    }
}

/// The part of the head that the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Place {
    Start,
    /// After the CR of an empty line before the request.
    EmptyCr,
    Method,
    TargetStart,
    Target,
    /// Inside [`VERSION`], at this offset.
    Version(u8),
    LineStart,
    Line,
    LineCr,
    /// After the CR of the empty line that ends the head.
    LastCr,
    End,
}

/// Returns the rest of `bytes`, from the first byte on that ends a header line or is invalid in it.
fn skip_text(mut bytes: &[u8]) -> &[u8] {
    // An inner loop of fixed size without a branch compiles to a few vector instructions.
    while let Some((block, rest)) = bytes.split_first_chunk::<BLOCK>() {
        if !block.iter().fold(true, |all, byte| all & is_text(*byte)) {
            break;
        }
        bytes = rest;
    }
    let end = bytes
        .iter()
        .position(|byte| !is_text(*byte))
        .unwrap_or(bytes.len());
    bytes.get(end..).unwrap_or_default()
}

/// Returns whether `byte` may occur inside a header line.
const fn is_text(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// The end of the request line.
const VERSION: &[u8] = b"HTTP/1.1\r\n";

/// Offset of the minor version in [`VERSION`].
const MINOR: u8 = 7;

/// Size of the blocks that are skipped inside a header line, in bytes.
const BLOCK: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::samples::SAMPLE;
    use super::*;

    fn scan(input: &[u8]) -> Result<Option<usize>, HandshakeError> {
        Scanner::new(100).scan(input)
    }

    #[test]
    fn ends_after_the_empty_line() {
        assert_eq!(scan(SAMPLE.as_bytes()), Ok(Some(SAMPLE.len())));
        assert_eq!(
            scan(format!("{SAMPLE}\r\n\0").as_bytes()),
            Ok(Some(SAMPLE.len()))
        );
        assert_eq!(scan(b"GET / HTTP/1.1\r\n\r\n"), Ok(Some(18)));
        for end in 0..SAMPLE.len() {
            assert_eq!(scan(&SAMPLE.as_bytes()[..end]), Ok(None));
        }
    }

    #[test]
    fn every_byte_at_every_place_of_the_request_line() {
        for byte in 0..=255u8 {
            let at = |before: &str| scan(&[before.as_bytes(), &[byte]].concat());
            let expect = |allowed: bool, error| if allowed { Ok(None) } else { Err(error) };
            let method = expect(is_tchar(byte), HandshakeError::BadRequestLine);
            let start = if byte == b'\r' { Ok(None) } else { method };
            assert_eq!(at(""), start, "{byte:#x}");
            assert_eq!(
                at("GE"),
                if byte == b' ' { Ok(None) } else { method },
                "{byte:#x}"
            );

            let splits = matches!(byte, b' ' | b'\r' | b'\n');
            let target = expect(
                byte.is_ascii_graphic(),
                if splits {
                    HandshakeError::BadRequestLine
                } else {
                    HandshakeError::BadTarget
                },
            );
            assert_eq!(at("GET "), target, "{byte:#x}");
            assert_eq!(
                at("GET /"),
                if byte == b' ' { Ok(None) } else { target },
                "{byte:#x}"
            );

            let higher = matches!(byte, b'1'..=b'9');
            let fault = if byte.is_ascii_digit() {
                HandshakeError::HttpVersion
            } else {
                HandshakeError::BadRequestLine
            };
            assert_eq!(
                at("GET / "),
                expect(byte == b'H', HandshakeError::BadRequestLine)
            );
            assert_eq!(at("GET / HTTP/"), expect(byte == b'1', fault), "{byte:#x}");
            assert_eq!(at("GET / HTTP/1."), expect(higher, fault), "{byte:#x}");
            assert_eq!(
                at("GET / HTTP/1.1"),
                expect(byte == b'\r', HandshakeError::BadRequestLine)
            );
            assert_eq!(
                at("GET / HTTP/1.1\r"),
                expect(byte == b'\n', HandshakeError::BadRequestLine)
            );
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_header_line() {
        for byte in 0..=255u8 {
            let at =
                |before: &str| scan(&[b"GET / HTTP/1.1\r\n", before.as_bytes(), &[byte]].concat());
            let expect = |allowed| {
                if allowed {
                    Ok(None)
                } else {
                    Err(HandshakeError::BadHeader)
                }
            };
            assert_eq!(at(""), expect(is_tchar(byte) || byte == b'\r'), "{byte:#x}");
            assert_eq!(
                at("A: b\r\n"),
                expect(is_tchar(byte) || byte == b'\r'),
                "{byte:#x}"
            );
            assert_eq!(at("A: b\r"), expect(byte == b'\n'), "{byte:#x}");
            for pad in 0..2 * BLOCK {
                let before = format!("A: {:pad$}", "");
                let allowed = byte == b'\r' || is_text(byte);
                assert_eq!(at(&before), expect(allowed), "{byte:#x} after {pad}");
            }
            let last = at("\r");
            assert_eq!(last.is_ok(), byte == b'\n');
        }
    }

    #[test]
    fn other_protocols_are_refused_at_once() {
        // A TLS hello, HTTP/2, HTTP/0.9, SSH, two empty lines first.
        assert_eq!(
            scan(b"\x16\x03\x01\x02\x00"),
            Err(HandshakeError::BadRequestLine)
        );
        assert_eq!(
            scan(b"PRI * HTTP/2.0\r\n\r\nSM"),
            Err(HandshakeError::HttpVersion)
        );
        assert_eq!(scan(b"GET /\r\n"), Err(HandshakeError::BadRequestLine));
        assert_eq!(scan(b"SSH-2.0-x\r\n"), Err(HandshakeError::BadRequestLine));
        assert_eq!(
            scan(b"\r\n\r\nGET / HTTP/1.1\r\n"),
            Err(HandshakeError::BadRequestLine)
        );
        assert_eq!(
            scan(b"GET / HTTP/9.9\r\n"),
            Err(HandshakeError::HttpVersion)
        );
        assert_eq!(
            scan(b"GET / HTTP/1.0\r\n"),
            Err(HandshakeError::HttpVersion)
        );
        assert_eq!(
            scan(b"GET / http/1.1\r\n"),
            Err(HandshakeError::BadRequestLine)
        );
        assert_eq!(
            scan(b"GET  / HTTP/1.1\r\n"),
            Err(HandshakeError::BadRequestLine)
        );
        assert_eq!(
            scan(b"GET / HTTP/1.1 \r\n"),
            Err(HandshakeError::BadRequestLine)
        );
    }

    #[test]
    fn header_lines_are_counted_as_they_begin() {
        let head = b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\n";
        assert_eq!(Scanner::new(2).scan(head), Ok(None));
        let many = Err(HandshakeError::TooManyHeaders { limit: 2 });
        assert_eq!(Scanner::new(2).scan(&[&head[..], b"C"].concat()), many);
        assert_eq!(
            Scanner::new(0).scan(b"GET / HTTP/1.1\r\n\r\n"),
            Ok(Some(18))
        );
    }
}
