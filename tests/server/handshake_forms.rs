//! The server accepts an opening handshake in every form that RFC 6455 and HTTP/1.1 allow, however
//! its bytes arrive.

use crate::support;
use crate::support::{Client, REQUEST, Running, frame, log, settle};
use wsloop::event::{Handshake, Origin, Ready};

fn altered(from: &str, to: &str) -> String {
    assert!(REQUEST.contains(from));
    REQUEST.replace(from, to)
}

#[test]
fn names_and_lists_in_any_case_and_over_several_lines() {
    let server = Running::echo();
    for request in [
        altered("websocket", "WebSocket"),
        altered("websocket", "WEBSOCKET"),
        altered("Upgrade: websocket", "UPGRADE:websocket"),
        altered("Upgrade: websocket", "upgrade: \t websocket \t "),
        altered("Upgrade: websocket", "Upgrade: h2c, websocket"),
        altered("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"),
        altered("Upgrade: websocket", "Upgrade: ,, websocket ,"),
        altered("keep-alive, Upgrade", "Upgrade"),
        altered("keep-alive, Upgrade", "upgrade"),
        altered("keep-alive, Upgrade", "UPGRADE,Keep-Alive"),
        altered(
            "keep-alive, Upgrade",
            "keep-alive\r\nConnection: x\r\nconnection: uPGRADE",
        ),
        altered("Sec-WebSocket-Key", "SEC-WEBSOCKET-KEY"),
        altered("Sec-WebSocket-Key", "sec-websocket-key"),
        altered("Version: 13", "version:13"),
        altered("Host: example.com", "host: EXAMPLE.com:8080"),
        altered("Host: example.com", "HOST: [::1]:80"),
        altered("GET /chat?room=7", "GET http://example.com/chat?room=7"),
        altered("GET /chat?room=7", "GET ws://example.com"),
        altered("GET /chat?room=7", "GET /"),
        altered("GET /chat?room=7", "GET //?&=%00%0d%0a"),
        REQUEST
            .to_lowercase()
            .replace("get ", "GET ")
            .replace("http/1.1", "HTTP/1.1")
            .replace("dghlihnhbxbszsbub25jzq==", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        let mut client = server.client();
        let response = client.request(&request);
        assert_eq!(response.status, 101, "{request}");
        assert_eq!(response.status_line, "HTTP/1.1 101 Switching Protocols");
        assert_eq!(response.header("upgrade"), Some("websocket"));
        assert_eq!(response.header("connection"), Some("Upgrade"));
        let accept = response.header("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{request}");
        // The client offered neither.
        assert_eq!(response.header("sec-websocket-protocol"), None);
        assert_eq!(response.header("sec-websocket-extensions"), None);
        client.expect_alive();
    }
}

#[test]
fn byte_by_byte() {
    let server = Running::echo();
    let mut client = server.client();
    for byte in REQUEST.bytes() {
        client.send_raw([byte]);
    }
    assert_eq!(client.response().status, 101);
    client.expect_alive();
}

#[test]
fn cut_at_every_byte() {
    let server = Running::echo();
    let mut other = server.ready();
    let bytes = [REQUEST.as_bytes(), &frame(0x81, b"hello")].concat();
    for cut in 1..bytes.len() {
        let mut client = server.client();
        client.send_raw(&bytes[..cut]);
        settle(&mut other);
        client.send_raw(&bytes[cut..]);
        assert_eq!(client.response().status, 101, "cut at {cut}");
        client.expect_text("hello");
    }
}

#[test]
fn frames_in_the_same_segment_are_answered_behind_the_101() {
    let server = Running::start(|builder| {
        support::echo(builder).on(Ready, |conn, ()| conn.send_utf8("welcome"))
    });
    let mut client = server.client();
    let mut bytes = REQUEST.as_bytes().to_vec();
    for number in 0..1000 {
        bytes.extend(frame(0x81, format!("{number}").as_bytes()));
    }
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x88, b"\x03\xe8"));
    client.send_raw(bytes);
    assert_eq!(client.response().status, 101);
    client.expect_text("welcome");
    for number in 0..1000 {
        client.expect_text(&format!("{number}"));
    }
    client.expect_frame(0x8a, "ping");
    client.expect_close(1000);
    client.expect_eof();
}

#[test]
fn what_follows_the_request_is_a_frame_and_no_request() {
    let server = Running::echo();
    let mut client = server.client();
    client.send_raw(REQUEST.repeat(2));
    assert_eq!(client.response().status, 101);
    // As a frame, "G" has reserved bits.
    client.expect_close(1002);
    client.expect_eof();
    server.ready().expect_alive();
}

/// Returns the status of a request with `byte` in a header line, between `before` and `after`.
fn status(server: &Running, before: &str, byte: u8, after: &str) -> u16 {
    let at = REQUEST.find("Host:").unwrap_or_default();
    let mut request = REQUEST.as_bytes()[..at].to_vec();
    request.extend_from_slice(before.as_bytes());
    request.push(byte);
    request.extend_from_slice(after.as_bytes());
    request.extend_from_slice(&REQUEST.as_bytes()[at..]);
    server.client().request(request).status
}

#[test]
fn high_bytes_in_every_header() {
    let server = Running::echo();
    for byte in 0x80..=0xff {
        // Headers that may contain any such byte.
        for name in [
            "Cookie",
            "User-Agent",
            "X-Other",
            "Sec-WebSocket-Extensions",
            "Sec-WebSocket-Protocol",
        ] {
            assert_eq!(
                status(&server, &format!("{name}: a"), byte, "b\r\n"),
                101,
                "{name} {byte:#x}"
            );
        }
        // Header names, and headers with a defined syntax.
        assert_eq!(status(&server, "X-", byte, ": a\r\n"), 400, "{byte:#x}");
        assert_eq!(
            status(&server, "Sec-WebSocket-Key: a", byte, "\r\n"),
            400,
            "{byte:#x}"
        );
        assert_eq!(
            status(&server, "Sec-WebSocket-Version: 1", byte, "\r\n"),
            400,
            "{byte:#x}"
        );
        assert_eq!(status(&server, "Host: a", byte, "\r\n"), 400, "{byte:#x}");
        // Another header line contains the upgrade.
        assert_eq!(
            status(&server, "Upgrade: a", byte, "\r\n"),
            101,
            "{byte:#x}"
        );
        assert_eq!(
            status(&server, "Connection: a", byte, "\r\n"),
            101,
            "{byte:#x}"
        );
        let request = [REQUEST.as_bytes(), b""].concat();
        for from in ["websocket", "dGhl", "13", "example.com", "/chat", "GET"] {
            let at = REQUEST.find(from).unwrap_or_default();
            let mut request = request.clone();
            request[at] = byte;
            let status = server.client().request(request).status;
            assert!([400, 426].contains(&status), "{from} {byte:#x} {status}");
        }
    }
    server.ready().expect_alive();
}

#[test]
fn an_origin_with_high_bytes_is_never_taken_for_none() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        // Only clients without an origin, which are not browsers, are accepted.
        builder.on(Origin, move |_, origin| {
            sender.send(format!("{origin:?}")).unwrap_or_default();
            origin.is_none()
        })
    });
    assert_eq!(server.client().request(REQUEST).status, 101);
    log.expect(&["None"]);
    assert_eq!(
        status(&server, "Origin: http:/", b'/', "a.example\r\n"),
        403
    );
    log.expect(&["Some(\"http://a.example\")"]);
    for byte in 0x80..=0xff {
        let status = status(&server, "Origin: http://", byte, ".example\r\n");
        assert!([400, 403].contains(&status), "{byte:#x}: {status}");
    }
}

#[test]
fn a_client_that_waits_and_one_that_does_not_see_the_same() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        support::echo(builder).on(Handshake, move |_, upgrade| {
            let request = upgrade.request();
            let query = request.query().unwrap_or_default();
            sender
                .send(format!("{} {query}", request.path()))
                .unwrap_or_default();
        })
    });
    for eager in [false, true] {
        let mut client: Client = server.client();
        if eager {
            client.send_raw([REQUEST.as_bytes(), &frame(0x81, b"a")].concat());
            assert_eq!(client.response().status, 101);
        } else {
            client.upgrade();
            client.send_text("a");
        }
        client.expect_text("a");
        log.expect(&["/chat room=7"]);
    }
}
