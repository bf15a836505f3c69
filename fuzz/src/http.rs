//! Plain HTTP: the requests must not depend on how the input is cut. The end and the body of each
//! request are determined once more here in the simplest way, because request smuggling needs two
//! readings of one stream. Nothing may be injected into a response.

use std::time::{Duration, SystemTime};

use wsloop::handshake::Request;
use wsloop::plain_http::{Item, Reader, Response, Then};
use wsloop::{HandshakeError, Limits};

use crate::answers::{Answer, trimmed};
use crate::input::{Input, cuts};

/// Settings (1 byte), cuts (2 bytes), a status (2 bytes), a name and a value for a header, then the
/// client's bytes.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let settings = input.byte();
    let seed = input.short();
    let status = input.short();
    let (name, value) = (input.text(), input.text());
    let bytes = input.0;
    let mut limits = Limits::default();
    limits.max_handshake_size = [16 << 10, 200][usize::from(settings & 1)];
    limits.max_headers = [100, 4][usize::from(settings >> 1 & 1)];
    limits.max_body_size = [64 << 10, 8, 0, usize::MAX][usize::from(settings >> 2 & 3)];
    let reader = || match settings & 0x10 {
        0 => Reader::new(&limits),
        _ => Reader::upgrades_only(&limits),
    };

    let [whole, others @ ..] = cuts(seed, bytes.len()).map(|cuts| feed(reader(), bytes, &cuts));
    for other in others {
        assert_eq!(format!("{whole:?}"), format!("{other:?}"));
    }
    let mut start = 0;
    for (item, end) in whole.0 {
        let head = Head::of(&bytes[start..end]);
        match item {
            Item::Request(request) => {
                head.assert_plain(&request, &limits);
                check_answer(&request, status, &name, &value);
            }
            Item::Upgrade(request) => {
                // The reader has consumed nothing after the head.
                assert_eq!(head.rest, b"");
                let upgrade = head.values("upgrade").iter().any(|value| {
                    value
                        .to_ascii_lowercase()
                        .windows(9)
                        .any(|part| part == b"websocket")
                });
                assert!(upgrade || settings & 0x10 != 0);
                assert!(request.body().is_empty());
            }
            item => panic!("unknown: {item:?}"),
        }
        start = end;
    }
}

/// The result: the items, except 100s, with their ends in the stream, and the final error.
type Outcome = (Vec<(Item, usize)>, Option<HandshakeError>);

fn feed(mut reader: Reader, bytes: &[u8], cuts: &[usize]) -> Outcome {
    let (mut items, mut at, mut rest) = (Vec::new(), 0, bytes);
    for cut in cuts {
        let (mut piece, behind) = rest.split_at(*cut);
        rest = behind;
        while !piece.is_empty() {
            let (item, taken) = match reader.read(piece) {
                Ok(read) => read,
                Err(error) => {
                    assert_eq!(reader.read(b"GET").err(), Some(error), "it is final");
                    return (items, Some(error));
                }
            };
            at += taken;
            piece = &piece[taken..];
            match item {
                None => assert!(piece.is_empty(), "without an item, all is taken"),
                // Whether the reader asks for a 100 depends on the bytes that have already arrived.
                Some(Item::Continue) => {}
                Some(item) => {
                    assert!(reader.is_empty());
                    items.push((item, at));
                }
            }
        }
    }
    (items, None)
}

/// A request, split in the simplest way.
struct Head<'h> {
    start: &'h [u8],
    fields: Vec<(String, &'h [u8])>,
    rest: &'h [u8],
}

impl<'h> Head<'h> {
    fn of(mut bytes: &'h [u8]) -> Self {
        // RFC 9112, 2.2: an empty line may precede the request.
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        let start = line(&mut bytes);
        let mut fields = Vec::new();
        loop {
            let field = line(&mut bytes);
            if field.is_empty() {
                break;
            }
            assert!(
                !field.starts_with(b" ") && !field.starts_with(b"\t"),
                "a folded line"
            );
            let colon = field
                .iter()
                .position(|byte| *byte == b':')
                .expect("a colon");
            let name = std::str::from_utf8(&field[..colon]).expect("a token");
            assert!(!name.contains([' ', '\t']) && !name.is_empty());
            fields.push((name.to_ascii_lowercase(), field[colon + 1..].trim_ascii()));
        }
        Self {
            start,
            fields,
            rest: bytes,
        }
    }

    fn values(&self, name: &str) -> Vec<&'h [u8]> {
        let fields = self.fields.iter().filter(|field| field.0 == name);
        fields.map(|field| field.1).collect()
    }

    /// Checks that the request has only one reading, and that the reader has found it.
    fn assert_plain(&self, request: &Request, limits: &Limits) {
        let old = self.start.ends_with(b" HTTP/1.0");
        let [.., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] = &self.start[..] else {
            panic!("no version");
        };
        assert!(old || matches!(minor, b'1'..=b'9'));
        assert!(
            self.start
                .starts_with(format!("{} ", request.method()).as_bytes())
        );
        assert_eq!(self.fields.len(), request.headers().len());
        assert!(self.values("host").len() == 1 || old && self.values("host").is_empty());
        let lengths = self.values("content-length");
        let body = match (&self.values("transfer-encoding")[..], &lengths[..]) {
            ([], []) => Vec::new(),
            ([], [length]) => {
                assert!(length.iter().all(u8::is_ascii_digit));
                let length = std::str::from_utf8(length).expect("digits");
                assert_eq!(length.parse(), Ok(self.rest.len()));
                self.rest.to_vec()
            }
            ([coding], []) => {
                assert!(!old && coding.eq_ignore_ascii_case(b"chunked"));
                dechunked(self.rest)
            }
            _ => panic!("two readings"),
        };
        assert!(body.len() <= limits.max_body_size);
        assert_eq!(request.body(), body);
    }
}

/// Takes a line without its CRLF; it must not contain control characters other than tabs.
fn line<'b>(bytes: &mut &'b [u8]) -> &'b [u8] {
    let end = bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .expect("a line's end");
    let (line, rest) = bytes.split_at(end);
    assert!(
        line.iter()
            .all(|byte| *byte == b'\t' || !byte.is_ascii_control())
    );
    *bytes = &rest[2..];
    line
}

/// Returns the body of chunks, which must fill `bytes` exactly.
fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let head = line(&mut bytes);
        let size = head.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(size.iter().all(u8::is_ascii_hexdigit), "{head:?}");
        let size = std::str::from_utf8(size).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size..];
        assert_eq!(line(&mut bytes), b"");
    }
    while !line(&mut bytes).is_empty() {}
    assert_eq!(bytes, b"");
    body
}

/// Checks that a response contains the configured fields and nothing else, and a body of the stated
/// length.
fn check_answer(request: &Request, status: u16, name: &str, value: &str) {
    let plain = Response::new(status);
    let header = plain.clone().header(name, value).check().is_ok();
    let cookie = plain.clone().cookie(name, value, value).check().is_ok();
    assert_eq!(plain.check().is_ok(), (200..600).contains(&status));
    if plain.check().is_err() {
        assert!(!header && !cookie);
        return;
    }
    for (with_body, then) in [(true, Then::Close), (false, Then::KeepAlive)] {
        let bare = if with_body {
            plain.clone().body(value)
        } else {
            plain.clone()
        };
        let usual = encode(&bare, request, then).0;
        let (answer, body) = encode(
            &bare.header(name, value).cookie(name, value, value),
            request,
            then,
        );
        let bodiless = request.method() == "HEAD" || [204, 205, 304].contains(&status);
        match (bodiless, with_body) {
            (true, _) => assert_eq!(body, b""),
            (false, true) => assert_eq!(body, value.as_bytes()),
            (false, false) => assert_eq!(body.is_empty(), status < 400),
        }
        let closes = answer
            .values("connection")
            .iter()
            .any(|value| value.ends_with(b"close"));
        assert_eq!(closes, then == Then::Close);
        // `Content-Type` and `Allow` replace the default ones.
        let lower = name.to_ascii_lowercase();
        let replaced = header && !usual.values(&lower).is_empty();
        assert!(!replaced || ["content-type", "allow"].contains(&&*lower));
        let own = usual.fields.len() - usize::from(replaced);
        let mut fields = answer.fields[own..].iter();
        if header {
            assert_eq!(fields.next(), Some(&(lower, trimmed(value).to_vec())));
        }
        if cookie {
            let field = fields.next().expect("the cookie");
            assert_eq!(field.0, "set-cookie");
            assert!(field.1.starts_with(format!("{name}={value}").as_bytes()));
        }
        assert!(fields.next().is_none());
    }
}

fn encode(response: &Response, request: &Request, then: Then) -> (Answer, Vec<u8>) {
    let mut out = Vec::new();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    response.encode(request, then, now, &mut out);
    let answer = Answer::parse(&out);
    assert_eq!(answer.status, response.status().as_u16());
    assert_eq!(answer.value("date"), b"Sun, 06 Nov 1994 08:49:37 GMT");
    let body = out.split_off(answer.size);
    match answer.length() {
        // A response to HEAD states the length of the body that GET would return.
        Some(length) => {
            assert!(body.len() == length || request.method() == "HEAD" && body.is_empty())
        }
        None => assert!(body.is_empty()),
    }
    (answer, body)
}
