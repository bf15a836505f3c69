//! Protocol::WebSocket, the library of the Perl servers, against wsloop. Each side reads the frames
//! and handshakes of the other. Where a server with that library and wsloop answer differently, the
//! difference is intended.
//!
//! The Perl programs are in `tests/perl`. Without Perl or the library (Debian's
//! `libprotocol-websocket-perl`) the tests print that they are skipped, and pass. With
//! `WSLOOP_REQUIRE_PERL=1`, which `.ci/run` sets, they fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "perl/program.rs"]
mod program;
mod support;

use std::net::{SocketAddr, TcpStream};

use program::{Perl, is_there};
use support::{Client, Frame, PATIENCE, REQUEST, Running, frame, log};
use tungstenite::Message as Tungstenite;
use wsloop::event::{Handshake, Pong, Utf8};
use wsloop::handshake::{Parser, Upgrade};
use wsloop::protocol::{CloseCode, Message, OpCode, Receiver, Sender};
use wsloop::{Builder, Limits, Prepared, SendError};

/// The sizes around each form of a frame's length, and a larger one.
const SIZES: [usize; 7] = [0, 1, 125, 126, 65_535, 65_536, 200_000];

/// Configures an echo server whose limits are the largest size of the tests.
fn serve(builder: Builder) -> Builder {
    support::echo(builder)
        .max_recv_size(200_000)
        .max_send_size(200_000)
}

#[test]
fn a_client_of_the_ancestors_library_is_served() {
    if !is_there() {
        return;
    }
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let pongs = sender.clone();
        support::recorded(serve(builder), &sender)
            .subprotocols(["v2.chat", "v1.chat"])
            .on(Handshake, |conn, upgrade| {
                let request = conn.request().unwrap();
                let cookies: Vec<_> = request.cookies().map(|(n, v)| format!("{n}={v}")).collect();
                let seen = [
                    request.path(),
                    request.query().unwrap_or_default(),
                    request.origin().unwrap_or_default(),
                    &cookies.join(" "),
                    request.header("X-Custom").unwrap_or_default(),
                ];
                upgrade.header("X-Seen", &seen.join(" | "))?;
                upgrade.header("Set-Cookie", "seen=1; Path=/")
            })
            .on(Utf8, |conn, text| match text {
                "close" => conn.disconnect(4001, "as you wish"),
                "ping" => conn.ping(b"are you there?"),
                _ => conn.send_utf8(text),
            })
            .on(Pong, move |conn, payload| {
                let text = format!("pong {}", payload.escape_ascii());
                pongs.send(text.clone()).unwrap();
                if payload == b"are you there?" {
                    conn.send_utf8(&text)?;
                }
                Ok::<_, SendError>(())
            })
    });
    let port = server.addr.port().to_string();
    let lines = Perl::start("client.pl", &[&port]).unwrap().lines();
    let expected = [
        "accept right",
        "subprotocol v2.chat",
        "seen /r%C3%A4ume/7 | name=a%20b&x=1 | http://example.com | user=me theme=dark \
         | kept as it is",
        "cookie seen=1; Path=/",
        "binary 0 comes back",
        "binary 125 comes back",
        "binary 126 comes back",
        "binary 65535 comes back",
        "binary 65536 comes back",
        "binary 200000 comes back",
        "text 0 comes back",
        "text 10 comes back",
        "text 120 comes back",
        "text 130 comes back",
        "text 65530 comes back",
        "text 65540 comes back",
        "text 200000 comes back",
        "fragments: pong inside",
        "fragments: text grüße",
        "201 fragments: comes back",
        "ping: comes back",
        "ping: comes back",
        "server: ping are you there?",
        "server: text pong are you there?",
        "text together 1",
        "text together 2",
        "text together 3",
        "close 4000 bye €",
        "the end",
        "no code: close",
        "no code: the end",
        "server: close 4001 as you wish",
        "server: the end",
        "unmasked: close 1002",
        "reserved bit 1: close 1002",
        "reserved bit 3: close 1002",
        "no start: close 1002",
        "fragmented ping: close 1002",
        "long ping: close 1002",
        "close of 1 byte: close 1002",
        "close 1005: close 1002",
        "no UTF-8: close 1007",
        "above the limit: close 1009",
    ];
    assert_eq!(lines, expected);

    // The events besides the messages.
    assert_eq!(server.stop().accepted, 13);
    let seen = log.rest();
    for event in ["connect", "ready", "disconnect"] {
        let count = seen.iter().filter(|seen| seen.starts_with(event)).count();
        assert_eq!(count, 13, "{event}");
    }
    let [empty, full] = [0, 125].map(|size| format!("ping {}", "x".repeat(size)));
    let expected = [
        "ping inside",
        "pong not asked for",
        &empty,
        &full,
        "pong are you there?",
        "peer_close 4000 bye €",
        "peer_close 1005 ",
    ];
    let frames = ["ping", "pong", "peer_close"];
    let told = |seen: &&String| frames.iter().any(|frame| seen.starts_with(frame));
    assert_eq!(seen.iter().filter(told).collect::<Vec<_>>(), expected);
}

#[test]
fn drafts_are_refused() {
    if !is_there() {
        return;
    }
    let server = Running::echo();
    let ancestor = Ancestor::start().unwrap();
    let upgrade_required = "HTTP/1.1 426 Upgrade Required";
    for (draft, expected) in [
        // The drafts of 2010, without and with a version.
        (
            "draft-hixie-75",
            vec![upgrade_required, "version 13", "not taken", "closed"],
        ),
        (
            "draft-hixie-76",
            vec![upgrade_required, "version 13", "not taken", "closed"],
        ),
        // Like the previous one, but its eight bytes are announced as a body.
        (
            "draft-ietf-hybi-00",
            vec!["HTTP/1.1 400 Bad Request", "not taken", "closed"],
        ),
        (
            "draft-ietf-hybi-10",
            vec![upgrade_required, "version 13", "not taken", "closed"],
        ),
    ] {
        let ask = |port: u16| {
            let port = port.to_string();
            Perl::start("drafts.pl", &[&port, draft]).unwrap().lines()
        };
        assert_eq!(ask(server.addr.port()), expected, "{draft}");
        // The Perl library accepts all of them, so the requests are valid.
        let theirs = ask(ancestor.addr.port());
        let taken = [
            "HTTP/1.1 101 WebSocket Protocol Handshake",
            "taken",
            "echo hello",
        ];
        assert_eq!(theirs, taken, "{draft}");
    }
    // The final version is accepted.
    let expected = ["HTTP/1.1 101 Switching Protocols", "taken"];
    let port = server.addr.port().to_string();
    let lines = Perl::start("drafts.pl", &[&port, "draft-ietf-hybi-17"]);
    assert_eq!(lines.unwrap().lines()[..2], expected);
    assert_eq!(server.stop().accepted, 5);
}

/// A message, for comparison.
type Seen = (OpCode, Vec<u8>);

/// Reads a client's frames, `piece` bytes at a time.
fn receive(bytes: &[u8], piece: usize) -> Vec<Seen> {
    let mut limits = Limits::default();
    limits.max_recv_size = 200_000;
    let mut receiver = Receiver::new(&limits);
    let mut seen = Vec::new();
    for part in bytes.to_vec().chunks_mut(piece) {
        let mut input = part;
        while let Some(message) = receiver.next(&mut input).unwrap() {
            seen.push(match message {
                Message::Text(text) => (OpCode::Text, text.into()),
                Message::Binary(data) => (OpCode::Binary, data.to_vec()),
                Message::Ping(data) => (OpCode::Ping, data.to_vec()),
                Message::Pong(data) => (OpCode::Pong, data.to_vec()),
                Message::Close(frame) => {
                    let code = u16::from(frame.code).to_be_bytes();
                    (OpCode::Close, [&code[..], frame.reason.as_bytes()].concat())
                }
                other => panic!("{other:?}"),
            });
        }
    }
    assert!(!receiver.is_partial());
    seen
}

#[test]
fn frames_there_and_back() {
    if !is_there() {
        return;
    }
    let mut messages: Vec<Seen> = Vec::new();
    for size in SIZES {
        let bytes = (0..size).map(|at| (at % 253) as u8).collect();
        messages.push((OpCode::Binary, bytes));
        let text: String = "aé€𝄞".chars().cycle().take(size * 2 / 5).collect();
        messages.push((OpCode::Text, text.into()));
        if size <= 125 {
            messages.push((OpCode::Ping, vec![b'i'; size]));
            messages.push((OpCode::Pong, vec![b'o'; size]));
        }
    }
    let mut sender = Sender::default();
    let mut sent = Vec::new();
    for (opcode, payload) in &messages {
        sender
            .message(*opcode, payload, usize::MAX, &mut sent)
            .unwrap();
    }
    // Messages that are encoded once for several connections.
    sent.extend_from_slice(Prepared::text("to all").frame());
    messages.push((OpCode::Text, b"to all".to_vec()));
    sent.extend_from_slice(Prepared::binary(&[0xff; 126]).frame());
    messages.push((OpCode::Binary, vec![0xff; 126]));
    sender
        .close(CloseCode::from(4000), "bye €", &mut sent)
        .unwrap();
    messages.push((OpCode::Close, b"\x0f\xa0bye \xe2\x82\xac".to_vec()));

    for fragments in [1, 2, 10] {
        let perl = Perl::start("mirror.pl", &[&fragments.to_string()]).unwrap();
        let back = perl.finish(&sent);
        let mut expected = Vec::new();
        for (opcode, payload) in &messages {
            if !opcode.is_control() {
                let pings = (1..fragments).map(|at| format!("after {at}").into());
                expected.extend(pings.map(|ping| (OpCode::Ping, ping)));
            }
            expected.push((*opcode, payload.clone()));
        }
        // The result does not depend on the size of the reads.
        for piece in [back.len(), 8192, 11 - fragments] {
            // Not `assert_eq`, which would print all messages.
            assert!(receive(&back, piece) == expected, "{fragments}, {piece}");
        }
    }
}

#[test]
fn a_handshake_without_sockets() {
    let Some(mut perl) = Perl::start("handshake.pl", &[]) else {
        return;
    };
    let head = perl.until(b"\r\n\r\n");
    let mut answers = Vec::new();
    for piece in [head.len(), 10, 1] {
        let mut parser = Parser::new(&Limits::default());
        let mut parts = head.chunks(piece);
        let request = loop {
            let part = parts.next().expect("the head is whole");
            if let Some((request, taken)) = parser.parse(part).unwrap() {
                assert_eq!(taken, part.len());
                break request;
            }
        };
        assert_eq!(parts.next(), None);
        assert_eq!(request.host(), Some("example.com:8443"));
        assert_eq!(request.origin(), Some("https://example.com:8443"));
        assert_eq!((request.path(), request.query()), ("/chat", Some("room=7")));
        let subprotocols: Vec<_> = request.subprotocols().collect();
        assert_eq!(subprotocols, ["chat", "superchat"]);
        // A cookie keeps its quotes, and an element that is not a pair is skipped.
        let cookies: Vec<_> = request.cookies().collect();
        assert_eq!(cookies, [("a", "1"), ("b", "\"x y\"")]);

        let accept = request.accept_key().unwrap();
        let mut upgrade = Upgrade::new(request, accept);
        upgrade.choose_subprotocol(&["v2", "superchat", "chat"]);
        upgrade.header("X-Custom", "kept: as it is").unwrap();
        let mut answer = Vec::new();
        upgrade.encode(std::time::SystemTime::now(), &mut answer);
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let cuts = answers[0].len() + b"\x81\x05hello".len() + 1;
    let verdict = String::from_utf8(perl.finish(&answers[0])).unwrap();
    assert_eq!(verdict, format!("right {cuts} wrong 0\n"));
}

/// An echo server in Perl, with the library of the Perl servers.
struct Ancestor {
    addr: SocketAddr,
    _perl: Perl,
}

impl Ancestor {
    fn start() -> Option<Self> {
        let mut perl = Perl::start("server.pl", &[])?;
        let line = String::from_utf8(perl.until(b"\n")).unwrap();
        let port: u16 = line.trim_end().parse().unwrap();
        Some(Self {
            addr: ([127, 0, 0, 1], port).into(),
            _perl: perl,
        })
    }
}

/// Runs a client that keeps to the rules; returns the frames that it receives.
fn play(addr: SocketAddr) -> Vec<Frame> {
    let mut client = Client::connect(addr);
    client.upgrade();
    let mut seen = Vec::new();
    for size in SIZES {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        client.send_frame(0x82, bytes);
        seen.push(client.read_frame());
        let text: String = "aé€𝄞".chars().cycle().take(size * 2 / 5).collect();
        client.send_text(&text);
        seen.push(client.read_frame());
    }
    // Fragments with an unsolicited pong between them, several messages in one write, and a close
    // with code and reason.
    let fragments = [
        frame(0x01, b"gr\xc3"),
        frame(0x8a, b"not asked for"),
        frame(0x00, b""),
        frame(0x80, b"\xbc\xc3\x9fe"),
    ];
    client.send_raw(fragments.concat());
    seen.push(client.read_frame());
    client.send_raw([frame(0x81, b"one"), frame(0x82, b"two")].concat());
    seen.push(client.read_frame());
    seen.push(client.read_frame());
    client.send_close(4000, "bye €");
    seen.push(client.read_frame());
    client.expect_eof();
    seen
}

#[test]
fn both_servers_answer_a_client_alike() {
    let Some(ancestor) = Ancestor::start() else {
        return;
    };
    let server = Running::start(serve);
    let ours = play(server.addr);
    assert_eq!(ours.len(), 2 * SIZES.len() + 4);
    assert!(play(ancestor.addr) == ours);

    // Another client, tungstenite, which has strict checks of its own.
    for addr in [ancestor.addr, server.addr] {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{addr}/chat?room=7");
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        for size in SIZES {
            let message = Tungstenite::binary(vec![7; size]);
            socket.send(message.clone()).unwrap();
            assert!(socket.read().unwrap() == message, "{size} of {addr}");
        }
        socket.send(Tungstenite::text("grüße")).unwrap();
        assert_eq!(socket.read().unwrap(), Tungstenite::text("grüße"));
        socket.close(None).unwrap();
        assert_eq!(socket.read().unwrap(), Tungstenite::Close(None));
    }
}

/// Returns the frames that a client receives for these bytes, sent after the 101 or together with
/// the request: up to a Close frame or the echo of "after". Returns nothing if the server closes
/// before its 101.
fn told(addr: SocketAddr, with_request: bool, bytes: &[u8]) -> Vec<Frame> {
    let mut client = Client::connect(addr);
    let bytes = [bytes, &frame(0x81, b"after")].concat();
    if with_request {
        client.send_raw([REQUEST.as_bytes(), &bytes].concat());
        let mut first = [0];
        if !matches!(client.stream.peek(&mut first), Ok(1)) {
            return Vec::new();
        }
        assert_eq!(client.response().status, 101);
    } else {
        client.upgrade();
        client.send_raw(bytes);
    }
    let mut seen = Vec::new();
    loop {
        let frame = client.read_frame();
        let last = frame.first == 0x88 || frame.payload == b"after";
        seen.push(frame);
        if last {
            return seen;
        }
    }
}

#[test]
fn where_the_servers_differ() {
    let Some(ancestor) = Ancestor::start() else {
        return;
    };
    let server = Running::start(serve);
    let text = |payload: &str| Frame {
        first: 0x81,
        payload: payload.into(),
    };
    let closed = |code: u16| (0x88, code);
    let unmasked = b"\x81\x05hello";
    for (what, bytes, theirs, ours) in [
        // The Perl server does not answer a ping, and accepts a frame without a mask.
        ("ping", frame(0x89, b"hello"), vec![], (0x8a, 0)),
        ("no mask", unmasked.to_vec(), vec!["hello"], closed(1002)),
        // The Perl server repairs invalid UTF-8 instead of rejecting it, and does not check
        // reserved bits and close codes.
        (
            "no UTF-8",
            frame(0x81, b"caf\xe9"),
            vec!["caf\u{fffd}"],
            closed(1007),
        ),
        (
            "a reserved bit",
            frame(0xc1, b"hello"),
            vec!["hello"],
            closed(1002),
        ),
        (
            "unknown opcode",
            frame(0x83, b"hello"),
            vec![],
            closed(1002),
        ),
        ("long ping", frame(0x89, &[b'x'; 126]), vec![], closed(1002)),
    ] {
        let mut expected: Vec<_> = theirs.into_iter().map(text).collect();
        expected.push(text("after"));
        assert_eq!(told(ancestor.addr, false, &bytes), expected, "{what}");
        let seen = told(server.addr, false, &bytes);
        assert_eq!(seen[0].first, ours.0, "{what}: {seen:?}");
        if ours.0 == 0x88 {
            assert_eq!(seen[0].payload[..2], ours.1.to_be_bytes(), "{what}");
        } else {
            assert_eq!(seen[0].payload, b"hello", "{what}");
            assert_eq!(seen[1..], [text("after")], "{what}");
        }
    }
    // The Perl server echoes a close code that must not be sent.
    let reserved = frame(0x88, &1006_u16.to_be_bytes());
    let theirs = &told(ancestor.addr, false, &reserved)[0];
    assert_eq!((theirs.first, &theirs.payload[..]), (0x88, &[3, 238][..]));
    let ours = &told(server.addr, false, &reserved)[0];
    assert_eq!((ours.first, &ours.payload[..2]), (0x88, &[3, 234][..]));
    // The Perl server does not serve a client that sends frames before the 101.
    assert_eq!(told(ancestor.addr, true, b""), []);
    assert_eq!(told(server.addr, true, b""), [text("after")]);
}
