//! Opening handshakes: the result must not depend on how the input is cut, accepted requests must
//! satisfy RFC 6455, 4.2.1 as checked independently here, and nothing may be injected into a
//! response.

use wsloop::handshake::{Parser, Refusal, Request, Upgrade};
use wsloop::{HandshakeError, Limits};

use crate::answers::{Answer, trimmed};
use crate::extensions::split;
use crate::input::{Dice, Input, cuts};

/// Settings (1 byte), cuts (2 bytes), a name and a value for a header, then the client's bytes, or
/// choices for a valid request, which must be accepted.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let settings = input.byte();
    let seed = input.short();
    let (name, value) = (input.text(), input.text());
    let good;
    let bytes = if settings & GOOD != 0 {
        good = good_request(&mut input, seed);
        good.as_bytes()
    } else {
        input.0
    };
    let mut limits = Limits::default();
    if settings & GOOD == 0 {
        limits.max_handshake_size = [16 << 10, 256, 40, usize::MAX][usize::from(settings & 3)];
        limits.max_headers = [100, 8, 1, usize::MAX][usize::from(settings >> 2 & 3)];
    }

    let [whole, others @ ..] = cuts(seed, bytes.len()).map(|cuts| feed(&limits, bytes, &cuts));
    for other in others {
        assert_eq!(whole, other);
    }
    let (request, taken) = match Parser::new(&limits).parse(bytes) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return,
        Err(error) => return check_refusal(error, &name, &value),
    };
    assert!(taken <= limits.max_handshake_size && request.headers().len() <= limits.max_headers);
    let head = Head::of(&bytes[..taken]);
    assert_eq!(head.fields.len(), request.headers().len());
    match request.accept_key() {
        Ok(accept) => {
            head.assert_upgrade();
            let expected = ::tungstenite::handshake::derive_accept_key(
                head.one("sec-websocket-key").unwrap_or_default(),
            );
            assert_eq!(accept.as_str(), expected);
            check_upgrade(Upgrade::new(request, accept), &name, &value);
        }
        Err(error) => {
            assert!(settings & GOOD == 0, "a good request is refused: {error}");
            check_refusal(error, &name, &value);
        }
    }
}

/// The setting for a request that must be accepted.
const GOOD: u8 = 0x80;

/// The result: the requests as text with their sizes, and the final error.
type Outcome = (Vec<(String, usize)>, Option<HandshakeError>);

/// Passes all bytes to the parser, cut into these sizes, as if requests followed each other.
fn feed(limits: &Limits, bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut parser = Parser::new(limits);
    let (mut requests, mut size, mut rest) = (Vec::new(), 0, bytes);
    for cut in cuts {
        let (mut piece, behind) = rest.split_at(*cut);
        rest = behind;
        while !piece.is_empty() {
            match parser.parse(piece) {
                Ok(Some((request, taken))) => {
                    assert!(0 < taken && taken <= piece.len() && parser.is_empty());
                    requests.push((format!("{request:?}"), size + taken));
                    piece = &piece[taken..];
                    size = 0;
                }
                Ok(None) => {
                    size += piece.len();
                    assert!(size <= limits.max_handshake_size && !parser.is_empty());
                    break;
                }
                Err(error) => {
                    // The error is final.
                    assert_eq!(parser.parse(b"GET").err(), Some(error));
                    return (requests, Some(error));
                }
            }
        }
    }
    (requests, None)
}

/// A request head, split in the simplest way.
struct Head<'h> {
    start: &'h [u8],
    fields: Vec<(String, &'h [u8])>,
}

impl<'h> Head<'h> {
    fn of(head: &'h [u8]) -> Self {
        let text = head.strip_suffix(b"\r\n\r\n").expect("an empty line");
        // One empty line may precede the request (RFC 9112, 2.2).
        let text = text.strip_prefix(b"\r\n").unwrap_or(text);
        let mut lines = Vec::new();
        let mut rest = text;
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        lines.push(rest);
        for line in &lines {
            let plain = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
            assert!(line.iter().all(plain), "a control character");
        }
        let fields = lines[1..].iter().map(|line| {
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, value) = line.split_at(colon.expect("a colon"));
            let name = std::str::from_utf8(name).expect("a token");
            assert!(!name.is_empty() && !name.contains([' ', '\t', '"', '(', '/', '@']));
            (name.to_ascii_lowercase(), value[1..].trim_ascii())
        });
        Self {
            start: lines[0],
            fields: fields.collect(),
        }
    }

    /// Returns the value of the only field with a name; `None` if there is none.
    fn one(&self, name: &str) -> Option<&'h [u8]> {
        let mut values = self.fields.iter().filter(|field| field.0 == name);
        let value = values.next()?.1;
        assert!(values.next().is_none(), "{name} is there twice");
        Some(value)
    }

    /// Returns whether a list contains `token`, in any case.
    fn lists(&self, name: &str, token: &str) -> bool {
        let values = self.fields.iter().filter(|field| field.0 == name);
        values
            .flat_map(|field| split(field.1, b','))
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Checks RFC 6455, 4.2.1, and the additional requirements of wsloop.
    fn assert_upgrade(&self) {
        let target = self.start.strip_prefix(b"GET ").expect("1. GET");
        let (target, version) = target.split_at(target.len() - 9);
        let minor = version
            .strip_prefix(b" HTTP/1.")
            .expect("1. HTTP/1.1 or higher");
        assert!(matches!(minor, [b'1'..=b'9']), "1. HTTP/1.1 or higher");
        assert!(!target.contains(&b' ') && !target.contains(&b'#'));
        let host = self.one("host").expect("2. a Host");
        assert!(!host.is_empty() && !host.contains(&b'@'));
        if target.first() != Some(&b'/') {
            let target = String::from_utf8_lossy(target).to_ascii_lowercase();
            let (scheme, rest) = target.split_once("://").expect("an absolute target");
            assert!(["http", "https", "ws", "wss"].contains(&scheme));
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let host = String::from_utf8_lossy(host).to_ascii_lowercase();
            // The default port of the scheme is equivalent to no port.
            let own = if ["http", "ws"].contains(&scheme) {
                "80"
            } else {
                "443"
            };
            let plain = |text: &str| {
                let bare = text.strip_suffix(':').unwrap_or(text);
                let bare = match bare.rsplit_once(':') {
                    Some((name, port)) if port.trim_start_matches('0') == own => name,
                    _ => bare,
                };
                bare.to_owned()
            };
            assert_eq!(plain(&host), plain(authority), "two hosts");
        }
        assert!(self.lists("upgrade", "websocket"), "3. Upgrade");
        assert!(self.lists("connection", "upgrade"), "4. Connection");
        let key = self.one("sec-websocket-key").expect("5. a key");
        assert!(key.len() == 24 && key.ends_with(b"=="));
        let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
        assert!(key[..22].iter().all(base64));
        assert_eq!(self.one("sec-websocket-version"), Some(&b"13"[..]), "6.");
        assert!(self.one("origin").is_none_or(<[u8]>::is_ascii), "7.");
        assert!(self.one("transfer-encoding").is_none(), "8. no body");
        if let Some(length) = self.one("content-length") {
            assert!(!length.is_empty() && length.iter().all(|digit| *digit == b'0'));
        }
    }
}

/// Checks that the 101 contains the configured fields and nothing else.
fn check_upgrade(mut upgrade: Upgrade, name: &str, value: &str) {
    let offered: Vec<_> = upgrade
        .request()
        .subprotocols()
        .map(str::to_owned)
        .collect();
    upgrade.choose_subprotocol(&[name, value]);
    let chosen = [name, value]
        .into_iter()
        .find(|name| offered.iter().any(|offer| offer == name));
    assert_eq!(upgrade.subprotocol(), chosen);
    if let Some(last) = offered.last() {
        upgrade.set_subprotocol(last).expect("it is offered");
    }
    let header = upgrade.header(name, value).is_ok();
    let cookie = upgrade.cookie(name, value, value).is_ok();
    let request = upgrade.request().clone();
    check_parts(&request);
    let mut out = Vec::new();
    upgrade.encode(std::time::UNIX_EPOCH, &mut out);
    let answer = Answer::parse(&out);
    assert_eq!((answer.status, answer.size), (101, out.len()));
    let own = 3 + usize::from(!offered.is_empty());
    assert_eq!(
        answer.fields.len(),
        own + usize::from(header) + usize::from(cookie)
    );
    let named = answer.values("sec-websocket-protocol");
    assert_eq!(named.first().copied(), offered.last().map(String::as_bytes));
    check_fields(&answer, own, header, cookie, name, value);
}

/// Checks that the appended fields follow the first `own` fields, unchanged.
fn check_fields(answer: &Answer, own: usize, header: bool, cookie: bool, name: &str, value: &str) {
    let mut fields = answer.fields[own..].iter();
    if header {
        let field = fields.next().expect("the header");
        assert_eq!(field.0, name.to_ascii_lowercase());
        assert_eq!(field.1, trimmed(value));
    }
    if cookie {
        let field = fields.next().expect("the cookie");
        assert_eq!(field.0, "set-cookie");
        assert!(field.1.starts_with(format!("{name}={value}").as_bytes()));
    }
}

/// Checks that a refusal has a status, a body of the stated length, and only configured fields.
fn check_refusal(error: HandshakeError, name: &str, value: &str) {
    let plain = Refusal::from(error);
    assert!(plain.status().as_u16() >= 400 && plain.check().is_ok());
    let usual = encode(&plain).0;
    let header = plain.clone().header(name, value).check().is_ok();
    let cookie = plain.clone().cookie(name, value, value).check().is_ok();
    let (answer, _) = encode(&plain.clone().reason(value));
    if plain.clone().reason(value).check().is_ok() {
        assert_eq!(answer.reason.as_bytes(), httparse_reason(value));
    }
    let all = plain
        .header(name, value)
        .cookie(name, value, value)
        .body(value);
    let (answer, body) = encode(&all);
    assert_eq!(body, value.as_bytes());
    // `Content-Type` and `Allow` replace the default ones.
    let lower = name.to_ascii_lowercase();
    let replaced = header && !usual.values(&lower).is_empty();
    assert!(!replaced || ["content-type", "allow"].contains(&&*lower));
    let own = usual.fields.len() - usize::from(replaced);
    assert_eq!(
        answer.fields.len(),
        own + usize::from(header) + usize::from(cookie)
    );
    check_fields(&answer, own, header, cookie, name, value);
}

/// httparse returns a reason only if it is ASCII, and without leading blanks.
fn httparse_reason(value: &str) -> &[u8] {
    if value.is_ascii() {
        value.as_bytes()
    } else {
        b""
    }
}

fn encode(refusal: &Refusal) -> (Answer, Vec<u8>) {
    let mut out = Vec::new();
    refusal.encode(std::time::UNIX_EPOCH, &mut out);
    let answer = Answer::parse(&out);
    assert_eq!(answer.status, refusal.status().as_u16());
    let body = out.split_off(answer.size);
    assert_eq!(answer.length(), Some(body.len()));
    assert!(answer.value("connection").ends_with(b"close"));
    (answer, body)
}

/// Calls everything that a handler may call on a request.
fn check_parts(request: &Request) {
    assert!(request.path().starts_with('/'));
    for (name, value) in request.cookies() {
        assert!(!name.is_empty() && !value.contains(';'));
    }
    assert!(request.host().is_some() && request.body().is_empty());
    assert!(request.query().is_some() || request.query_pairs().next().is_none());
    let _ = (
        request.origin(),
        request.cookie("a"),
        request.query_param("a"),
    );
}

/// Returns a request that no server may refuse, in a form that few clients use.
fn good_request(input: &mut Input<'_>, seed: u16) -> String {
    let mut dice = Dice::new(seed);
    let mut key = [0u8; 16];
    for (byte, given) in key.iter_mut().zip(input.bytes(16)) {
        *byte = *given;
    }
    let host = ["a", "[::1]:80", "127.0.0.1", "x-y.example:8080"][dice.below(4)];
    let path = ["/", "/chat?a=%20&b", "//", "/%C3%A9?"][dice.below(4)];
    let target = match dice.below(4) {
        0 => format!("wss://{host}{path}"),
        1 => format!("HTTP://{host}{path}"),
        _ => path.to_owned(),
    };
    let mut lines = vec![
        format!("host:{host}"),
        [
            "Upgrade: websocket",
            "upgrade:\th2c , WebSocket",
            "UPGRADE:,websocket,",
        ][dice.below(3)]
        .to_owned(),
        [
            "Connection: Upgrade",
            "connection: keep-alive,upgrade",
            "Connection: \t UPGRADE \t",
        ][dice.below(3)]
        .to_owned(),
        format!("Sec-WebSocket-Key: {}", base64(&key)),
        ["Sec-WebSocket-Version: 13", "sec-websocket-version:13 "][dice.below(2)].to_owned(),
    ];
    for _ in 0..dice.below(3) {
        let line = [
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            "Cookie: a=b; c=\"d\"",
            "User-Agent: \u{e9}",
            "Empty:",
            "Accept: */*, text/html;q=0.8",
        ];
        lines.push(line[dice.below(line.len())].to_owned());
    }
    match dice.below(3) {
        0 => lines.push("Origin: null".to_owned()),
        1 => lines.push("Sec-WebSocket-Protocol: b,, a".to_owned()),
        _ => {}
    }
    for at in (1..lines.len()).rev() {
        lines.swap(at, dice.below(at + 1));
    }
    format!("GET {target} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

fn base64(bytes: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let number = u128::from_be_bytes(*bytes);
    let digit = |at: u32| char::from(ALPHABET[(number >> (122 - 6 * at)) as usize & 63]);
    let last = char::from(ALPHABET[(number << 4) as usize & 63]);
    (0..21).map(digit).chain([last, '=', '=']).collect()
}
