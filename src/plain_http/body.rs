//! The body of a request: its end and its content (RFC 9112, 6 and 7).

use http::{Version, header};

use crate::handshake::Request;
use crate::tokens::{is_tchar, is_token};
use crate::{HandshakeError, Limits};

/// An incremental reader of one body, with a known length or in chunks.
///
/// At most `max_body_size` bytes are stored. Data that is not payload (chunk extensions and
/// trailers, which are read and dropped) may be as long as a request head.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    place: Place,
    limits: Limits,
    /// The number of bytes in extensions and trailers so far.
    extra: usize,
    /// The number of trailers that have begun.
    lines: usize,
}

/// The position of the next byte in a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// In a body with this many bytes left.
    Known(usize),
    /// In the size of a chunk, with the digits so far.
    Size {
        size: usize,
        digits: u8,
    },
    /// In the extensions after a size.
    Extension(usize),
    /// After the CR of a chunk's first line.
    SizeCr(usize),
    /// In a chunk with this many bytes left.
    Data(usize),
    /// After the data of a chunk.
    DataEnd,
    /// After the CR that follows a chunk.
    DataCr,
    /// At a place where a trailer may begin.
    TrailerStart,
    /// In the name of a trailer.
    TrailerName,
    /// In the value of a trailer.
    TrailerValue,
    /// After the CR of a trailer.
    TrailerCr,
    /// After the CR of the last, empty line.
    LastCr,
    End,
}

impl Body {
    /// Returns how many bytes of memory the reader holds.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns how many bytes of the body have arrived.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Creates the reader for a request's body; `None` if it has no body.
    pub(super) fn of(request: &Request, limits: &Limits) -> Result<Option<Self>, HandshakeError> {
        let headers = request.headers();
        let mut encodings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
        let mut lengths = headers.get_all(header::CONTENT_LENGTH).into_iter();
        let place = match (encodings.next(), lengths.next()) {
            (None, None) => return Ok(None),
            // RFC 9112, 6.1: "A server MAY reject a request that contains both Content-Length and
            // Transfer-Encoding". The two ends that it could have are what smuggling is made of.
            (Some(_), Some(_)) => return Err(HandshakeError::AmbiguousLength),
            (Some(encoding), None) => {
                // "A server or client that receives an HTTP/1.0 message containing a
                // Transfer-Encoding header field MUST treat the message as if the framing is
                // faulty".
                if request.version() == Version::HTTP_10 {
                    return Err(HandshakeError::AmbiguousLength);
                }
                let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
                if !chunked || encodings.next().is_some() {
                    return Err(HandshakeError::TransferEncoding);
                }
                NEXT_CHUNK
            }
            (None, Some(length)) => {
                // RFC 9112, 6.3 lets a list of the same number pass. Nobody sends one in earnest.
                if lengths.next().is_some() {
                    return Err(HandshakeError::AmbiguousLength);
                }
                match parse_length(length.as_bytes())? {
                    0 => return Ok(None),
                    length if length <= limits.max_body_size => Place::Known(length),
                    _ => return Err(too_big(limits)),
                }
            }
        };
        Ok(Some(Self {
            bytes: Vec::new(),
            place,
            limits: *limits,
            extra: 0,
            lines: 0,
        }))
    }

    /// Takes the next bytes. Returns how many of them belong to the body, and whether it is
    /// complete.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<(usize, bool), HandshakeError> {
        let mut rest = input;
        while self.place != Place::End {
            if let Place::Known(left) | Place::Data(left) = self.place {
                let (part, after) = rest.split_at(rest.len().min(left));
                self.keep(part);
                rest = after;
                self.place = match (self.place, left - part.len()) {
                    (Place::Known(_), 0) => Place::End,
                    (Place::Known(_), left) => Place::Known(left),
                    (_, 0) => Place::DataEnd,
                    (_, left) => Place::Data(left),
                };
                if part.is_empty() {
                    break;
                }
                continue;
            }
            let Some((byte, after)) = rest.split_first() else {
                break;
            };
            rest = after;
            self.place = self.step(*byte)?;
        }
        Ok((input.len() - rest.len(), self.place == Place::End))
    }

    /// Returns the body, which has to be complete.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends to the body, after its length was checked against the limit.
    fn keep(&mut self, part: &[u8]) {
        let needed = self.bytes.len() + part.len();
        if needed > self.bytes.capacity() {
            // The capacity doubles, as in `Vec`, but not beyond the limit.
            let doubled = self.bytes.capacity().saturating_mul(2);
            let room = needed.max(doubled.min(self.limits.max_body_size));
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
    }

    /// Returns the position after `byte`, which is not payload.
    fn step(&mut self, byte: u8) -> Result<Place, HandshakeError> {
        let malformed = Err(HandshakeError::BadChunk);
        match (self.place, byte) {
            // RFC 9112, 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF. No sign, no
            // prefix, no space, and no LF without a CR: parsers differ on each.
            (Place::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).unwrap_or_default() as usize;
                let size = size
                    .checked_mul(16)
                    .and_then(|size| size.checked_add(digit))
                    .filter(|size| *size <= self.limits.max_body_size - self.bytes.len())
                    .ok_or_else(|| too_big(&self.limits))?;
                match digits < SIZE_DIGITS {
                    true => Ok(Place::Size {
                        size,
                        digits: digits + 1,
                    }),
                    false => malformed,
                }
            }
            (Place::Size { digits: 0, .. }, _) => malformed,
            (Place::Size { size, .. }, b';') => Ok(Place::Extension(size)),
            (Place::Size { size, .. } | Place::Extension(size), b'\r') => Ok(Place::SizeCr(size)),
            // "A recipient MUST ignore unrecognized chunk extensions." (7.1.1)
            (Place::Extension(size), byte) if is_text(byte) => {
                self.spend()?;
                Ok(Place::Extension(size))
            }
            (Place::SizeCr(0), b'\n') => Ok(Place::TrailerStart),
            (Place::SizeCr(size), b'\n') => Ok(Place::Data(size)),
            (Place::DataEnd, b'\r') => Ok(Place::DataCr),
            (Place::DataCr, b'\n') => Ok(NEXT_CHUNK),

            (Place::TrailerStart, b'\r') => Ok(Place::LastCr),
            (Place::TrailerStart, byte) if is_tchar(byte) => {
                self.lines += 1;
                let limit = self.limits.max_headers;
                if self.lines > limit {
                    return Err(HandshakeError::TooManyHeaders { limit });
                }
                self.spend()?;
                Ok(Place::TrailerName)
            }
            (Place::TrailerName, b':') => Ok(Place::TrailerValue),
            (Place::TrailerName, byte) if is_tchar(byte) => {
                self.spend()?;
                Ok(Place::TrailerName)
            }
            (Place::TrailerValue, b'\r') => Ok(Place::TrailerCr),
            (Place::TrailerValue, byte) if is_text(byte) => {
                self.spend()?;
                Ok(Place::TrailerValue)
            }
            (Place::TrailerCr, b'\n') => Ok(Place::TrailerStart),
            (Place::LastCr, b'\n') => Ok(Place::End),
            _ => malformed,
        }
    }

    /// Counts a byte that is not payload.
    fn spend(&mut self) -> Result<(), HandshakeError> {
        self.extra += 1;
        let limit = self.limits.max_handshake_size;
        if self.extra > limit {
            return Err(HandshakeError::HeadTooBig { limit });
        }
        Ok(())
    }
}

fn too_big(limits: &Limits) -> HandshakeError {
    HandshakeError::BodyTooBig {
        limit: limits.max_body_size,
    }
}

/// Returns the value of a `Content-Length`; `usize::MAX` if it is larger than that.
fn parse_length(value: &[u8]) -> Result<usize, HandshakeError> {
    // RFC 9110, 8.6: Content-Length = 1*DIGIT
    if !is_token(value) || !value.iter().all(u8::is_ascii_digit) {
        return Err(HandshakeError::BadLength);
    }
    Ok(value.iter().fold(0usize, |length, digit| {
        let digit = usize::from(digit - b'0');
        length.saturating_mul(10).saturating_add(digit)
    }))
}

/// Returns whether `byte` is allowed in an extension or in a trailer's value.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// The beginning of a chunk.
const NEXT_CHUNK: Place = Place::Size { size: 0, digits: 0 };

/// The maximum number of digits in a chunk's size: that of 64 bits.
const SIZE_DIGITS: u8 = 16;
