//! Requests at every cut, wrong bodies, and the bytes of answers.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::handshake::Request;
use crate::{AnswerError, HandshakeError, Limits};

/// What a reader made of a stream: its items, and the error that ended it.
type Outcome = (Vec<String>, Option<HandshakeError>);

fn limits() -> Limits {
    Limits {
        max_handshake_size: 200,
        max_headers: 5,
        max_body_size: 20,
        ..Limits::default()
    }
}

fn feed<'a>(limits: &Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = Reader::new(limits);
    let mut items = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let (item, used) = match reader.read(piece) {
                Ok(read) => read,
                Err(error) => {
                    assert_eq!(reader.read(b"GET").err(), Some(error), "an error is final");
                    return (items, Some(error));
                }
            };
            assert!(used <= piece.len());
            assert!(item.is_some() || used == piece.len());
            piece = &piece[used..];
            match item {
                None => assert!(!reader.is_empty()),
                Some(Item::Continue) => assert!(!reader.is_empty()),
                Some(Item::Request(request)) => {
                    assert!(reader.is_empty() && request.body().len() <= limits.max_body_size);
                    let body = request.body().escape_ascii();
                    items.push(format!("{} {} {body}", request.method(), request.path()));
                }
                Some(Item::Upgrade(request)) => items.push(format!("upgrade {}", request.path())),
            }
        }
    }
    (items, None)
}

fn whole(bytes: impl AsRef<[u8]>) -> Outcome {
    feed(&limits(), [bytes.as_ref()])
}

fn request(head: &str) -> Request {
    match Reader::new(&Limits::default()).read(head.as_bytes()) {
        Ok((Some(Item::Request(request)), _)) => request,
        other => panic!("{other:?}"),
    }
}

/// Requests of every kind, one behind the other.
const STREAM: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
    \r\nHEAD /c HTTP/1.0\r\n\r\n\
    PUT /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
    5;a=b;c=\"d e\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n\
    OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nUpgrade: h2c\r\n\r\n\
    POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
    GET /f HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn every_cut_gives_the_same() {
    let expected = whole(STREAM);
    let items = [
        "GET /a ",
        "POST /b hello",
        "HEAD /c ",
        "PUT /d hello0123456789",
        "OPTIONS * ",
        "POST /e ",
        "upgrade /f",
    ];
    assert_eq!(expected, (items.map(String::from).to_vec(), None));
    let bytes = STREAM.as_bytes();
    for at in 0..bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(feed(&limits(), [head, tail]), expected, "{at}");
    }
    for size in 1..40 {
        assert_eq!(feed(&limits(), bytes.chunks(size)), expected, "{size}");
    }
}

proptest! {
    #[test]
    fn however_cut_the_result_is_the_same(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        sizes in prop::collection::vec(1..50usize, 1..20),
    ) {
        let mut stream = STREAM.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let mut rest = &stream[..];
        let pieces = sizes.iter().cycle().map_while(|size| {
            let piece = rest.split_off(..rest.len().min(*size))?;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(feed(&limits(), pieces), whole(&stream));
    }
}

#[test]
fn lengths_are_read_strictly() {
    let fault = |lines: &str| {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nhello");
        whole(request).1
    };
    for length in ["5", "05", "0000000005"] {
        assert_eq!(
            fault(&format!("Content-Length: {length}")),
            None,
            "{length}"
        );
    }
    for length in [
        "", "+5", "-5", "5 5", "5,5", "5, 5", "0x5", "5.0", "five", "5_0", "\"5\"", "5\t5",
        "\u{665}",
    ] {
        let result = fault(&format!("Content-Length: {length}"));
        assert_eq!(result, Some(HandshakeError::BadLength), "{length}");
    }
    for length in [
        "21",
        "4294967297",
        "18446744073709551616",
        "9".repeat(99).as_str(),
    ] {
        let result = fault(&format!("Content-Length: {length}"));
        assert_eq!(
            result,
            Some(HandshakeError::BodyTooBig { limit: 20 }),
            "{length}"
        );
    }
    let ambiguous = Some(HandshakeError::AmbiguousLength);
    assert_eq!(fault("Content-Length: 5\r\ncontent-length: 5"), ambiguous);
    assert_eq!(fault("Content-Length: 5\r\nContent-Length: 6"), ambiguous);
    assert_eq!(
        fault("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ambiguous
    );
    assert_eq!(
        fault("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        ambiguous
    );
    assert_eq!(
        fault("Transfer-Encoding: identity\r\nContent-Length: 5"),
        ambiguous
    );
    for encoding in [
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        "chunked;q=1",
        "xchunked",
        "\"chunked\"",
        "",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
    ] {
        let result = fault(&format!("Transfer-Encoding: {encoding}"));
        assert_eq!(result, Some(HandshakeError::TransferEncoding), "{encoding}");
    }
    for line in [
        "Content-Length : 5",
        " Content-Length: 5",
        "A: b\r\n c",
        "A: b\nC: d",
    ] {
        assert_eq!(fault(line), Some(HandshakeError::BadHeader), "{line}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(whole(old).1, ambiguous);
}

#[test]
fn chunks_are_read_strictly() {
    let read = |body: &str| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        whole(format!("{head}{body}"))
    };
    for body in [
        "5\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n000;x\r\nA:b\r\n\r\n",
    ] {
        assert_eq!(
            read(body),
            (vec!["POST / hello".to_owned()], None),
            "{body:?}"
        );
    }
    for body in [
        "\r\n",
        "\n",
        "x\r\n",
        "+5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5 ;a\r\nhello\r\n",
        "5\nhello\n",
        "5\r\r\nhello",
        "5;a\nhello\r\n",
        "5;a\0\r\nhello\r\n",
        "5\r\nhello0\r\n",
        "5\r\nhello\n0\r\n",
        "5\r\nhello\r0\r\n",
        "5\r\nhello\r\n\r\n",
        "00000000000000005\r\nhello\r\n",
        "0\r\n \r\n",
        "0\r\nA\r\n\r\n",
        "0\r\nA :b\r\n\r\n",
        "0\r\n:b\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA: b\r\n c\r\n\r\n",
        "0\r\n\n",
        "0\r\n\rx",
    ] {
        assert_eq!(read(body).1, Some(HandshakeError::BadChunk), "{body:?}");
    }
    let big = Some(HandshakeError::BodyTooBig { limit: 20 });
    for body in [
        "15",
        "14\r\n01234567890123456789\r\n1",
        "ffffffffffffffff",
        "10000000000000000",
    ] {
        assert_eq!(read(body).1, big, "{body:?}");
    }
    assert_eq!(read("14\r\n01234567890123456789\r\n0\r\n\r\n").1, None);
    // What is no payload is bounded as a head is, over all chunks.
    let head = Some(HandshakeError::HeadTooBig { limit: 200 });
    assert_eq!(read(&format!("1;{}", "x".repeat(200))).1, None);
    assert_eq!(read(&format!("1;{}", "x".repeat(201))).1, head);
    assert_eq!(read(&"1;0123456789\r\nx\r\n".repeat(20)).1, None);
    assert_eq!(read(&"1;01234567890\r\nx\r\n".repeat(20)).1, head);
    assert_eq!(read(&format!("0\r\n{}", "x".repeat(201))).1, head);
    let many = Some(HandshakeError::TooManyHeaders { limit: 5 });
    assert_eq!(read(&format!("0\r\n{}\r\n", "A:\r\n".repeat(5))).1, None);
    assert_eq!(read(&format!("0\r\n{}", "A:\r\n".repeat(6))).1, many);
}

#[test]
fn targets_and_hosts() {
    let fault = |line: &str, host: &str| whole(format!("{line}\r\n{host}\r\n")).1;
    let host = "Host: a\r\n";
    assert_eq!(fault("GET http://a/x HTTP/1.1", host), None);
    for line in [
        "GET * HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "GET http://b/ HTTP/1.1",
    ] {
        assert_eq!(fault(line, host), Some(HandshakeError::BadTarget), "{line}");
    }
    assert_eq!(fault("GET / HTTP/1.0", ""), None);
    assert_eq!(
        fault("GET / HTTP/1.0", "Host: a b\r\n"),
        Some(HandshakeError::BadHeader)
    );
    assert_eq!(
        fault("GET / HTTP/1.1", ""),
        Some(HandshakeError::MissingHeader("host"))
    );
    let twice = Some(HandshakeError::DuplicateHeader("host"));
    assert_eq!(fault("GET / HTTP/1.1", &host.repeat(2)), twice);
    for version in ["HTTP/0.9", "HTTP/2.0", "HTTP/0.0", "HTTP/0.1"] {
        let result = fault(&format!("GET / {version}"), host);
        assert_eq!(result, Some(HandshakeError::HttpVersion), "{version}");
    }
    for version in ["HTTP/1.2", "HTTP/1.9"] {
        assert_eq!(fault(&format!("GET / {version}"), host), None, "{version}");
    }
    // One empty line before a request, not two, nor half of one.
    assert_eq!(fault("\r\nGET / HTTP/1.1", host), None);
    for start in [
        "\r\n\r\nGET / HTTP/1.1",
        "\nGET / HTTP/1.1",
        "\rGET / HTTP/1.1",
    ] {
        assert_eq!(
            fault(start, host),
            Some(HandshakeError::BadRequestLine),
            "{start:?}"
        );
    }
    // HTTP/1.0 knows no upgrade.
    let old = "GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(whole(old).0, ["GET / "]);
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let read = |head: &str| {
        let (item, used) = Reader::new(&limits()).read(head.as_bytes())?;
        assert_eq!(used, head.len());
        Ok::<_, HandshakeError>(matches!(item, Some(Item::Continue)))
    };
    assert_eq!(read(head), Ok(true));
    // The body is on its way already, or there is none, or the client is too old.
    assert_eq!(read(&format!("{head}x")), Ok(false));
    assert_eq!(read(&head.replace(": 2", ": 0")), Ok(false));
    assert_eq!(read(&head.replace("1.1", "1.0")), Ok(false));
    assert_eq!(
        read(&head.replace("100-Continue", "200-ok")),
        Err(HandshakeError::Expectation)
    );
    // A body that is too large is not asked for.
    let big = Err(HandshakeError::BodyTooBig { limit: 20 });
    assert_eq!(read(&head.replace(": 2", ": 21")), big);

    let mut reader = Reader::new(&limits());
    assert!(matches!(
        reader.read(head.as_bytes()),
        Ok((Some(Item::Continue), _))
    ));
    assert!(matches!(reader.read(b"h"), Ok((None, 1))));
    let last = reader.read(b"iGET");
    assert!(matches!(last, Ok((Some(Item::Request(request)), 1)) if request.body() == b"hi"));
}

#[test]
fn with_upgrades_only_everything_is_an_attempt() {
    for head in [
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        "GET * HTTP/1.1\r\n\r\n",
    ] {
        let read = Reader::upgrades_only(&limits()).read(head.as_bytes());
        assert!(matches!(read, Ok((Some(Item::Upgrade(_)), used)) if used == head.len()));
    }
    let old = Reader::upgrades_only(&limits()).read(b"GET / HTTP/1.0");
    assert_eq!(old.err(), Some(HandshakeError::HttpVersion));
}

fn encoded(response: &Response, head: &str, then: Then) -> String {
    let mut out = Vec::new();
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    response.encode(&request(head), then, now, &mut out);
    String::from_utf8(out).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn whole_answers() {
    let page = Response::new(200)
        .header("content-type", "text/html")
        .cookie("id", "7", "HttpOnly")
        .body("<p>");
    assert_eq!(
        encoded(&page, GET, Then::KeepAlive),
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 3\r\n\
         content-type: text/html\r\nSet-Cookie: id=7; HttpOnly\r\n\r\n<p>"
    );
    assert_eq!(
        encoded(&Response::new(404).reason("Nowhere"), GET, Then::Close),
        "HTTP/1.1 404 Nowhere\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 11\r\n\r\n404 Nowhere"
    );
    let old = "GET / HTTP/1.0\r\n\r\n";
    let answer = encoded(&Response::new(200), old, Then::KeepAlive);
    assert!(answer.contains("\r\nConnection: keep-alive\r\nContent-Length: 0\r\n"));
}

#[test]
fn statuses_with_rules_of_their_own() {
    let upgrade = encoded(&Response::new(426), GET, Then::KeepAlive);
    assert!(upgrade.contains(
        "\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    ));
    let upgrade = encoded(&Response::new(426), GET, Then::Close);
    assert!(upgrade.contains("\r\nConnection: upgrade, close\r\n"));
    assert!(encoded(&Response::new(405), GET, Then::Close).contains("\r\nAllow: GET, HEAD\r\n"));
    for status in [204, 304] {
        let answer = encoded(&Response::new(status).body("x"), GET, Then::KeepAlive);
        assert!(
            !answer.contains("Content-") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }
    let answer = encoded(&Response::new(205).body("x"), GET, Then::KeepAlive);
    assert!(answer.ends_with("\r\nContent-Length: 0\r\n\r\n"));
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (with, without) = (Response::new(200).body("body"), Response::new(500));
    assert!(encoded(&with, head, Then::KeepAlive).ends_with("\r\nContent-Length: 4\r\n\r\n"));
    assert!(encoded(&without, head, Then::KeepAlive).ends_with("Content-Length: 25\r\n\r\n"));
}

#[test]
fn nothing_is_injected() {
    use AnswerError::{BadHeader, BadReason, ReservedHeader};
    let clean = encoded(&Response::new(200), GET, Then::KeepAlive);
    for (fault, response) in [
        (BadReason, Response::new(200).reason("a\r\nX: y")),
        (BadHeader, Response::new(200).header("X", "a\r\n\r\n<html>")),
        (BadHeader, Response::new(200).header("X\r\nY", "a")),
        (
            ReservedHeader,
            Response::new(200).header("Content-Length", "5"),
        ),
        (
            ReservedHeader,
            Response::new(200).header("transfer-encoding", "chunked"),
        ),
        (
            ReservedHeader,
            Response::new(200).header("Connection", "close"),
        ),
        (ReservedHeader, Response::new(200).header("Upgrade", "h2c")),
        (ReservedHeader, Response::new(200).header("date", "now")),
        (BadHeader, Response::new(200).cookie("a", "b\r\nX: y", "")),
        (
            BadHeader,
            Response::new(200).cookie("a", "b", "Path=/\nX: y"),
        ),
    ] {
        assert_eq!(response.check(), Err(fault));
        assert_eq!(encoded(&response, GET, Then::KeepAlive), clean);
    }
    for status in [0, 99, 100, 101, 199, 600, u16::MAX] {
        let response = Response::new(status);
        assert_eq!(response.check(), Err(AnswerError::BadStatus), "{status}");
        assert_eq!(response.status(), 500);
    }
}
