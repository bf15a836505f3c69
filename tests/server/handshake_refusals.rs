//! A request that is not a valid opening handshake receives one complete HTTP response with the
//! right status, and then the end of the connection.

use crate::support;
use crate::support::{REQUEST, Response, Running, frame, settle};
use wsloop::event::{Connect, Handshake, Origin};

/// Returns the request with one part replaced.
fn altered(from: &str, to: &str) -> String {
    assert!(REQUEST.contains(from));
    REQUEST.replace(from, to)
}

/// Sends a request that is refused, followed by much more data; reads the response and the end of
/// the stream.
#[track_caller]
fn refused(server: &Running, request: impl AsRef<[u8]>) -> Response {
    let request = request.as_ref();
    let mut client = server.client();
    // The server ignores the following request and frames.
    let behind = [REQUEST.as_bytes(), &frame(0x81, b"never").repeat(10_000)].concat();
    client.send_raw([request, &behind].concat());
    let response = client.response();
    assert_eq!(
        response
            .header("connection")
            .map(|value| value.contains("close")),
        Some(true)
    );
    assert_eq!(
        response.header("content-length"),
        Some(&*response.body.len().to_string()),
        "the answer is whole"
    );
    assert_eq!(response.header("sec-websocket-accept"), None);
    client.expect_eof();
    response
}

#[track_caller]
fn expect_status(server: &Running, request: impl AsRef<[u8]>, status: u16) -> Response {
    let shown = request.as_ref().escape_ascii().to_string();
    let response = refused(server, request);
    assert_eq!(response.status, status, "{shown}");
    response
}

#[test]
fn bad_requests() {
    let server = Running::echo();
    for request in [
        // The request line.
        altered("GET /", "GET  /"),
        altered("GET /", " GET /"),
        altered("GET /", "G@T /"),
        altered(" HTTP/1.1", ""),
        altered("HTTP/1.1", "HTTP/1.1 "),
        altered("HTTP/1.1", "http/1.1"),
        altered("HTTP/1.1", "HTTX/1.1"),
        "\r\n\r\n".to_owned() + REQUEST,
        "\0".to_owned() + REQUEST,
        "\x16\x03\x01\x02\0 a TLS hello\r\n\r\n".to_owned(),
        // The target.
        altered("/chat?room=7", "*"),
        altered("/chat?room=7", "chat"),
        altered("/chat?room=7", "example.com:80"),
        altered("/chat?room=7", "ftp://example.com/"),
        altered("/chat?room=7", "http://other.example.com/"),
        altered("/chat?room=7", "/chat#fragment"),
        altered("/chat?room=7", "/ch\tat"),
        altered("/chat?room=7", "/ch\0at"),
        altered("/chat?room=7", "/chät"),
        // The syntax of the lines.
        REQUEST.replace("\r\n", "\n"),
        altered("Host: example.com\r\n", "Host: example.com\n"),
        altered("Host: example.com\r\n", "Host: example.com\r"),
        altered("Host:", "Host :"),
        altered("Host:", " Host:"),
        altered("Host:", "Ho st:"),
        altered("Host:", ":"),
        altered("Host:", "no colon\r\nHost:"),
        altered("keep-alive, Upgrade", "keep-alive,\r\n Upgrade"),
        altered("keep-alive, Upgrade", "keep-alive,\0 Upgrade"),
        altered("keep-alive, Upgrade", "keep-alive,\x7f Upgrade"),
        // The headers.
        altered("Host: example.com\r\n", ""),
        altered("Host: example.com", "Host:"),
        altered(
            "Host: example.com",
            "Host: example.com\r\nHost: example.com",
        ),
        altered("Host: example.com", "Host: user@example.com"),
        altered("Host: example.com", "Host: example.com/path"),
        altered("Connection: keep-alive, Upgrade\r\n", ""),
        altered("keep-alive, Upgrade", "keep-alive"),
        altered("keep-alive, Upgrade", "\"keep-alive, Upgrade\""),
        altered("keep-alive, Upgrade", "\"keep-alive, Upgrade"),
        altered("keep-alive, Upgrade", "keep-alive; Upgrade"),
        altered(
            "Version: 13\r\n",
            "Version: 13\r\nSec-WebSocket-Version: 13\r\n",
        ),
        altered("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        altered("dGhlIHNhbXBsZSBub25jZQ==", ""),
        altered("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
        altered("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"),
        altered("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==, x"),
        altered(
            "Sec-WebSocket-V",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-V",
        ),
        altered("Host:", "Origin: http://a\r\nOrigin: http://b\r\nHost:"),
    ] {
        let response = expect_status(&server, &request, 400);
        assert_eq!(
            response.status_line, "HTTP/1.1 400 Bad Request",
            "{request:?}"
        );
        server.ready().expect_alive();
    }
}

#[test]
fn other_methods() {
    let server = Running::echo();
    for method in ["POST", "PUT", "OPTIONS", "CONNECT", "get", "BREW"] {
        let response = expect_status(&server, altered("GET", method), 405);
        assert_eq!(response.header("allow"), Some("GET"), "{method}");
    }
    server.ready().expect_alive();
}

#[test]
fn other_versions_and_other_upgrades() {
    let server = Running::echo();
    for request in [
        altered("Upgrade: websocket\r\n", ""),
        altered("Upgrade: websocket", "Upgrade: h2c"),
        altered("Upgrade: websocket", "Upgrade: websocket2"),
        altered("Upgrade: websocket", "Upgrade: \"websocket\""),
        altered("Upgrade: websocket", "Upgrade:"),
        altered("Sec-WebSocket-Version: 13\r\n", ""),
        altered("Version: 13", "Version:"),
        altered("Version: 13", "Version: 0"),
        altered("Version: 13", "Version: 8"),
        altered("Version: 13", "Version: 12"),
        altered("Version: 13", "Version: 14"),
        altered("Version: 13", "Version: 013"),
        altered("Version: 13", "Version: 13, 8"),
        altered("Version: 13", "Version: 4294967309"),
        // The draft without a version, and the request for a page from a browser.
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key1: 3e6b263  4 17 80\r\nSec-WebSocket-Key2: 17  9 G`ZD9   2 2b 7X 3 /r90\
            \r\n\r\nWjN}|M(6"
            .into(),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
    ] {
        let response = expect_status(&server, &request, 426);
        assert_eq!(response.header("sec-websocket-version"), Some("13"), "{request}");
        assert_eq!(response.header("upgrade"), Some("websocket"), "{request}");
        server.ready().expect_alive();
    }
}

#[test]
fn other_versions_of_http() {
    let server = Running::echo();
    for version in ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/3.1"] {
        expect_status(&server, altered("HTTP/1.1", version), 505);
    }
    expect_status(&server, altered("HTTP/1.1", "HTTP/1.10"), 400);
    expect_status(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    server.ready().expect_alive();
}

#[test]
fn heads_at_the_limit_and_beyond() {
    // The default limit, and a configured one.
    for (server, limit) in [
        (Running::echo(), 16_384),
        (
            Running::start(|builder| support::echo(builder.max_handshake_size(1000))),
            1000,
        ),
    ] {
        let start = altered("Host:", "X-Long: \r\nHost:");
        let filled = |size: usize| {
            let fill = "x".repeat(size - start.len());
            start.replace("X-Long: ", &format!("X-Long: {fill}"))
        };
        let request = filled(limit);
        assert_eq!(request.len(), limit);
        let mut client = server.client();
        assert_eq!(client.request(&request).status, 101);
        client.expect_alive();
        expect_status(&server, filled(limit + 1), 431);
        expect_status(&server, filled(100 * limit), 431);
        // In the request line, and in lines without an end.
        expect_status(
            &server,
            altered("/chat", &format!("/{}", "x".repeat(limit))),
            431,
        );
        expect_status(
            &server,
            altered("Host: ", &format!("Host: {}", "x".repeat(limit))),
            431,
        );
        expect_status(&server, altered("Host", &"x".repeat(limit)), 431);
        // The request is refused before its end arrives.
        let mut client = server.client();
        client.send_raw(&filled(limit + 1)[..limit]);
        assert_eq!(client.response().status, 431);
        client.expect_eof();
        server.ready().expect_alive();
    }
}

#[test]
fn header_lines_at_the_limit_and_beyond() {
    let own = REQUEST.matches("\r\n").count() - 2;
    for (server, limit) in [
        (Running::echo(), 100),
        (
            Running::start(|builder| support::echo(builder.max_headers(5))),
            5,
        ),
        (
            Running::start(|builder| support::echo(builder.max_headers(1000))),
            1000,
        ),
    ] {
        let lines = |count: usize| -> String {
            // The mandatory headers come last, and none of them may be lost.
            let more: String = (own..count).map(|at| format!("X-{at}: {at}\r\n")).collect();
            altered("Host:", &format!("{more}Host:"))
        };
        let mut client = server.client();
        assert_eq!(client.request(lines(limit)).status, 101);
        client.expect_alive();
        expect_status(&server, lines(limit + 1), 431);
        expect_status(&server, lines(limit + 2000), 431);
        server.ready().expect_alive();
    }
    // One header, repeated a thousand times.
    let server = Running::echo();
    let repeated = format!("{}Host:", "Cookie: a=b\r\n".repeat(1000));
    expect_status(&server, altered("Host:", &repeated), 431);
    server.ready().expect_alive();
}

#[test]
fn a_refused_connection_takes_what_still_comes() {
    let server = Running::echo();
    let mut other = server.ready();
    for request in [
        altered("GET", "POST"),
        altered("Version: 13", "Version: 8"),
        altered("Upgrade: websocket\r\n", ""),
        "\0".into(),
        format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000)),
    ] {
        let mut client = server.client();
        client.send_raw(request);
        let answer = client.response();
        assert!(answer.status >= 400);
        client.expect_eof();
        client.expect_drained(&mut other);
    }
}

#[test]
fn handlers_that_refuse_answer_403() {
    for place in 0..3 {
        let server = Running::start(move |builder| match place {
            0 => builder.on(Connect, |_, ()| false),
            1 => builder.on(Origin, |_, origin| origin != Some("http://evil.example")),
            _ => builder.on(Handshake, |_, upgrade| upgrade.request().path() != "/evil"),
        });
        let request =
            altered("/chat", "/evil").replace("Host:", "Origin: http://evil.example\r\nHost:");
        let response = expect_status(&server, request, 403);
        assert_eq!(response.status_line, "HTTP/1.1 403 Forbidden");
        if place > 0 {
            assert_eq!(server.client().request(REQUEST).status, 101);
        }
    }
}

fn fail() -> bool {
    panic!("told to")
}

#[test]
fn handlers_that_fail_answer_500() {
    for place in 0..6 {
        let server = Running::start(move |builder| match place {
            0 => builder.on(Connect, |_, ()| Err::<bool, _>("told to")),
            1 => builder.on(Origin, |_, _| Err::<bool, _>("told to")),
            2 => builder.on(Handshake, |_, _| Err::<bool, _>("told to")),
            3 => builder.on(Connect, |_, ()| fail()),
            4 => builder.on(Origin, |_, _| fail()),
            _ => builder.on(Handshake, |_, _| fail()),
        });
        for _ in 0..2 {
            let response = expect_status(&server, REQUEST, 500);
            let body = String::from_utf8_lossy(&response.body);
            assert!(
                !body.contains("told to"),
                "nothing of the inside is told: {body}"
            );
        }
    }
}

#[test]
fn a_refusal_disturbs_no_one() {
    let server = Running::echo();
    let mut other = server.ready();
    other.send_frame(0x01, "half ");
    for _ in 0..50 {
        expect_status(&server, altered("GET", "POST"), 405);
    }
    other.send_frame(0x80, "done");
    other.expect_text("half done");
    settle(&mut other);
}
