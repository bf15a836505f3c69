//! Requests that attempt to crash the server, to pass unnoticed, or to be parsed differently by
//! others.

use std::net::{TcpListener, TcpStream};

use wsloop::Server;
use wsloop::event::{Connect, Handshake, Origin, Request, Utf8};
use wsloop::plain_http::Response;

use crate::support::{Client, REQUEST, Running, echo, frame, log, request_with, settle};

/// Returns a request with a header in which `byte` replaces the `@` of `place`.
fn with_byte(place: &str, byte: u8) -> Vec<u8> {
    let (before, after) = place.split_once('@').unwrap_or((place, ""));
    let lines = [before.as_bytes(), &[byte], after.as_bytes(), b"\r\n"].concat();
    let start = REQUEST.find("Host:").unwrap_or_default();
    let mut request = REQUEST.as_bytes()[..start].to_vec();
    request.extend(lines);
    // This header replaces the valid header of the same name.
    let name = before.split(':').next().unwrap_or_default();
    for line in REQUEST[start..].split_inclusive("\r\n") {
        if !line.starts_with(&format!("{name}:")) {
            request.extend_from_slice(line.as_bytes());
        }
    }
    request
}

#[test]
fn every_byte_in_every_header_is_answered_and_never_a_panic() {
    let server = Running::start(|builder| {
        let builder = builder
            .origins([
                "http://a@b.example".replace('@', "").as_str(),
                "none",
                "self",
            ])
            .on(Handshake, |_, upgrade| {
                // The accessors must not panic on any accepted request.
                let request = upgrade.request();
                let _ = (
                    request.host(),
                    request.origin(),
                    request.query_pairs().count(),
                );
                let _ = (request.cookies().count(), request.subprotocols().count());
                let _ = request.header("x-other");
            });
        #[cfg(feature = "deflate")]
        let builder = builder.deflate(wsloop::DeflateConfig::default());
        echo(builder)
    });
    for place in [
        "Host: a@b",
        "Host: @",
        "Origin: http://a@b.example",
        "Origin: @",
        "Cookie: a=@; b=c",
        "Cookie: @=b",
        "X-Other: a@b",
        "X-@: b",
        "X-Other@: b",
        "Upgrade: websocket@",
        "Connection: @Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=@",
        "Sec-WebSocket-Version: 1@",
        "Sec-WebSocket-Protocol: a@b",
        "Sec-WebSocket-Extensions: permessage-deflate; @",
        "Sec-WebSocket-Extensions: permessage-deflate; a=\"@\"",
    ] {
        for byte in 0..=255u8 {
            let mut client = server.client();
            let response = client.request(with_byte(place, byte));
            let status = response.status;
            assert!(
                [101, 400, 403, 426].contains(&status),
                "{place} {byte:#x}: {status}"
            );
            let breaks = byte == 0x7f || (byte < 0x20 && byte != b'\t');
            // A CR or LF may only appear where it ends a valid line.
            assert!(status != 101 || !breaks, "{place} {byte:#x}");
            if status == 101 {
                client.expect_alive();
            } else {
                client.expect_eof();
            }
        }
    }
    for byte in 0..=255u8 {
        let target = [b"GET /ch", &[byte][..], b"t HTTP/1.1\r\n"].concat();
        let line_end = REQUEST.find("\r\n").unwrap_or_default() + 2;
        let mut client = server.client();
        let response = client.request([&target, &REQUEST.as_bytes()[line_end..]].concat());
        let allowed = byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
        assert!(
            response.status == 400 || response.status == 101 && byte.is_ascii_graphic(),
            "{byte:#x}: {}",
            response.status
        );
        assert!(response.status == 101 || !allowed, "{byte:#x}");
    }
    server.ready().expect_alive();
}

/// Starts a server that also answers plain requests and keeps their connections.
fn with_plain(refuse: &'static str) -> Running {
    Running::start(move |builder| {
        let builder = builder
            .on(Request, |_, request| {
                assert_ne!(request.path(), "/admin", "it was smuggled");
                Response::new(200).body(request.body())
            })
            .on(Utf8, |conn, text| {
                assert_ne!(text, "never", "it was smuggled");
                conn.send_utf8(text)
            });
        match refuse {
            "list" => builder.origins(["https://friend.example"]),
            "origin" => builder.on(Origin, |_, origin| origin.is_none()),
            "handshake" => builder.on(Handshake, |_, _| false),
            "refuse" => builder.on(Handshake, |_, upgrade| upgrade.refuse(401)),
            "error" => builder.on(Handshake, |_, _| Err::<bool, _>("told to")),
            "http_error" => builder.on(Origin, |conn, _| conn.http_error(402)),
            _ => builder,
        }
    })
}

#[test]
fn a_refused_upgrade_ends_its_connection_also_where_plain_requests_are_kept_alive() {
    let asked = request_with("Origin: https://evil.example\r\n");
    let bad = |from: &str, to: &str| asked.replace(from, to);
    let cases = [
        ("list", asked.clone(), 403),
        ("origin", asked.clone(), 403),
        ("handshake", asked.clone(), 403),
        ("refuse", asked.clone(), 401),
        ("error", asked.clone(), 500),
        ("http_error", asked.clone(), 402),
        ("", bad("Version: 13", "Version: 12"), 426),
        (
            "",
            bad("Connection: keep-alive, Upgrade", "Connection: keep-alive"),
            400,
        ),
        ("", bad("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        ("", bad("GET", "POST"), 405),
        ("", bad("Host: example.com\r\n", ""), 400),
        ("", bad("Host:", "Content-Length: 5\r\nHost:"), 400),
        ("", bad("Host:", "Content-Length: 0, 0\r\nHost:"), 400),
        ("", bad("Host:", "Transfer-Encoding: chunked\r\nHost:"), 400),
    ];
    for (place, request, status) in cases {
        let server = with_plain(place);
        let mut other = server.client();
        let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(other.request(plain).status, 200);
        for before in ["", plain] {
            for behind in [
                "GET /admin HTTP/1.1\r\nHost: internal\r\n\r\n"
                    .as_bytes()
                    .to_vec(),
                frame(0x81, b"never"),
                [REQUEST.as_bytes(), &frame(0x81, b"never")].concat(),
            ] {
                let mut client = server.client();
                client.send_raw([before.as_bytes(), request.as_bytes(), &behind].concat());
                if !before.is_empty() {
                    assert_eq!(client.response().status, 200);
                }
                let response = client.response();
                assert_eq!(response.status, status, "{place} {request}");
                let connection = response.header("connection").unwrap_or_default();
                assert!(connection.contains("close"), "{place}: {connection}");
                client.expect_eof();
            }
        }
        assert_eq!(other.request(plain).status, 200, "the others live");
    }
}

#[test]
fn every_upgrade_passes_the_same_hooks() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let (connect, origin, handshake) = (sender.clone(), sender.clone(), sender);
        echo(builder)
            .on(Connect, move |_, ()| connect.send("connect".into()).is_ok())
            .on(Origin, move |_, from| {
                let _ = origin.send(format!("origin {}", from.unwrap_or("none")));
                from != Some("http://evil.example")
            })
            .on(Handshake, move |_, upgrade| {
                let path = upgrade.request().path();
                handshake.send(format!("handshake {path}")).is_ok()
            })
            .on(Request, |_, _| Response::new(200))
    });
    let evil = request_with("Origin: http://evil.example\r\n");
    let adopted = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = Client::connect(listener.local_addr().expect("it is bound"));
        (client, listener.accept().expect("the client is there").0)
    };
    let begin = |way: usize, request: &str| -> Client<TcpStream> {
        match way {
            // First on its connection; after a plain request, separately or pipelined.
            0 => {
                let mut client = server.client();
                client.send_raw(request);
                client
            }
            1 => {
                let mut client = server.client();
                let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
                assert_eq!(client.request(plain).status, 200);
                client.send_raw(request);
                client
            }
            2 => {
                let mut client = server.client();
                let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
                client.send_raw([plain, request].concat());
                assert_eq!(client.response().status, 200);
                client
            }
            // Adopted from another server, before or within its request.
            3 => {
                let (mut client, socket) = adopted();
                server.handle.adopt(socket, b"").expect("it runs");
                client.send_raw(request);
                client
            }
            _ => {
                let (client, socket) = adopted();
                server.handle.adopt(socket, request).expect("it runs");
                client
            }
        }
    };
    for way in 0..5 {
        let mut client = begin(way, REQUEST);
        assert_eq!(client.response().status, 101, "{way}");
        client.expect_alive();
        log.expect(&["connect", "origin none", "handshake /chat"]);
        let mut client = begin(way, &evil);
        assert_eq!(client.response().status, 403, "{way}");
        client.expect_eof();
        log.expect(&["connect", "origin http://evil.example"]);
    }
}

#[test]
fn the_mandatory_headers_count_at_the_limit_of_headers() {
    // A header above the limit must not hide the last mandatory one.
    for limit in 3..9 {
        let server = Running::start(move |builder| echo(builder).max_headers(limit));
        for more in 0..6usize {
            let lines: String = (0..more).map(|at| format!("X-{at}: y\r\n")).collect();
            for request in [
                request_with(&lines),
                REQUEST.replace("Host:", &format!("{lines}Host:")),
            ] {
                // Five headers are mandatory.
                let expected = if 5 + more <= limit { 101 } else { 431 };
                assert_eq!(server.client().request(request).status, expected);
            }
        }
    }
    let server = Running::echo();
    for line in REQUEST.lines().skip(1).filter(|line| !line.is_empty()) {
        let without = REQUEST.replace(&format!("{line}\r\n"), "");
        let twice = REQUEST.replace(line, &format!("{line}\r\n{line}"));
        let status = server.client().request(without).status;
        assert!([400, 426].contains(&status), "no {line}: {status}");
        let list = line.starts_with("Upgrade") || line.starts_with("Connection");
        let expected = if list { 101 } else { 400 };
        assert_eq!(
            server.client().request(twice).status,
            expected,
            "two {line}"
        );
    }
}

#[test]
fn a_head_that_never_ends_is_refused_by_its_size_and_by_its_lines() {
    let server = Running::echo();
    let mut other = server.ready();
    for (line, most) in [
        ("X: y\r\n", 100 * 6),
        ("X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", 16_384),
    ] {
        let mut client = server.client();
        client.send_raw("GET / HTTP/1.1\r\n");
        let mut sent = 0;
        // In small steps, so that little more than necessary is sent.
        while sent <= most {
            client.send_raw(line);
            sent += line.len();
        }
        assert_eq!(client.response().status, 431);
        client.expect_eof();
        settle(&mut other);
    }
}

#[test]
fn what_proxies_read_differently_is_refused() {
    // Forms that a proxy may parse differently, with a request inside that the proxy would not see.
    let server = Running::start(|builder| {
        builder
            .on(Request, |_, request| {
                assert_ne!(request.path(), "/admin", "it was smuggled");
                Response::new(200).body(request.body())
            })
            .max_body_size(1000)
    });
    let inner = "GET /admin HTTP/1.1\r\nHost: internal\r\n\r\n";
    let size = inner.len();
    for lines in [
        format!("Content-Length: {size}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {size}"),
        format!("Content-Length: 0\r\nContent-Length: {size}"),
        format!("Content-Length: {size}\r\nContent-Length: {size}"),
        format!("Content-Length: 0, {size}"),
        format!("Content-Length: +{size}"),
        format!("Content-Length: -{size}"),
        format!("Content-Length: {size}abc"),
        format!("Content-Length: 0x{size:x}"),
        format!("Content-Length: \"{size}\""),
        format!("Content-Length : {size}"),
        format!("Content-Length\t: {size}"),
        format!(" Content-Length: {size}"),
        format!("X: y\r\n Content-Length: {size}"),
        format!("X: y\nContent-Length: {size}"),
        format!("X: y\rContent-Length: {size}"),
        format!("Content-Length: {size}\n"),
        "Transfer-Encoding: xchunked".into(),
        "Transfer-Encoding: chunked, identity".into(),
        "Transfer-Encoding: identity, chunked".into(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".into(),
        "Transfer-Encoding : chunked".into(),
        "Transfer-Encoding:\x0bchunked".into(),
        "Transfer-Encoding: \"chunked\"".into(),
        "Transfer-Encoding: chunked;a".into(),
        "Transfer\u{2010}Encoding: chunked".into(),
    ] {
        for body in [inner.to_owned(), format!("0\r\n\r\n{inner}")] {
            let mut client = server.client();
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
            client.send_raw([head, body].concat());
            let status = client.response().status;
            assert!([400, 501].contains(&status), "{lines:?}: {status}");
            client.expect_eof();
        }
    }
    // Forms that the specification allows: spaces around a value, and leading zeros.
    for length in [
        format!(" {size} "),
        format!("\t{size}"),
        format!("000{size}"),
    ] {
        let mut client = server.client();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:{length}\r\n\r\n");
        assert_eq!(client.request(head + inner).body, inner.as_bytes());
    }
    let chunks = format!("{size:x};a=b;c=\"d\"\r\n{inner}\r\n0\r\nX: y\r\n\r\n");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = server.client();
    assert_eq!(
        client.request(head.to_owned() + &chunks).body,
        inner.as_bytes()
    );
}

#[test]
fn the_same_hooks_are_passed_by_a_server_that_runs_its_own_turns() {
    let mut server = echo(Server::builder().listen("127.0.0.1:0"))
        .on(Origin, |_, origin| origin.is_none())
        .build()
        .expect("it can be built");
    let addr = server.local_addr().expect("it listens");
    for (lines, status) in [("", 101), ("Origin: http://evil.example\r\n", 403)] {
        let mut client = Client::connect(addr);
        client.send_raw(request_with(lines));
        for _ in 0..20 {
            let wait = std::time::Duration::from_millis(5);
            server.turn(Some(wait)).expect("it runs");
        }
        assert_eq!(client.response().status, status);
    }
}
