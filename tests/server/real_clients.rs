//! The server accepts the opening handshakes of deployed clients, with and without
//! permessage-deflate. docs/handshake.md lists what each client sends.

use crate::support::{REQUEST, Running, echo, request_with};
use wsloop::event::{Handshake, Ready};
use wsloop::{Builder, Server};

/// Returns servers whose settings must not affect which clients are accepted.
fn servers() -> Vec<Running> {
    let with = |configure: fn(Builder) -> Builder| Running::start(move |b| configure(echo(b)));
    vec![
        with(|builder| builder),
        #[cfg(feature = "deflate")]
        with(|builder| builder.deflate(wsloop::DeflateConfig::shared())),
        #[cfg(feature = "deflate")]
        with(|builder| builder.deflate(wsloop::DeflateConfig::dedicated())),
        with(|builder| builder.separate_switch(true)),
        with(|builder| builder.health_check("/health")),
    ]
}

#[test]
fn all_get_in() {
    let requests = [
        // java.net.http, Dart, Mojolicious, Shelly, older versions of Envoy.
        request_with("Content-Length: 0\r\n"),
        // The example of RFC 6455, 4.1, item 7, used as a fixed key.
        REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC=="),
        // React Native with an empty list, Tcl, and proxies that blank a value.
        request_with("Sec-WebSocket-Protocol:\r\n"),
        request_with("Sec-WebSocket-Protocol: ,\r\n"),
        request_with("Sec-WebSocket-Extensions:\r\n"),
        request_with("Sec-WebSocket-Extensions: ,,\r\n"),
        // Lists with invalid elements.
        request_with("Sec-WebSocket-Protocol: a b, c/d, \"e, f\"\r\n"),
        request_with("Sec-WebSocket-Protocol: a, a\r\n"),
        request_with("Sec-WebSocket-Extensions: a b; =, \"\r\n"),
        request_with("Sec-WebSocket-Extensions: x-webkit-deflate-frame, foo; bar=\"b, az\"\r\n"),
        REQUEST.replace(
            "keep-alive, Upgrade",
            "\"quoted, string\", keep-alive, upgrade",
        ),
        REQUEST.replace("keep-alive, Upgrade", "keep-alive\r\nConnection: Upgrade"),
        REQUEST.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
        // An absolute target with the default port of its scheme.
        REQUEST.replace("/chat?room=7", "http://example.com:80/chat?room=7"),
        REQUEST.replace("/chat?room=7", "wss://EXAMPLE.com:443/chat"),
        // A higher minor version is treated as 1.1 (RFC 9110, 2.5).
        REQUEST.replace("HTTP/1.1", "HTTP/1.2"),
        format!("\r\n{}", REQUEST.replace("HTTP/1.1", "HTTP/1.9")),
        // An empty line before the request.
        format!("\r\n{REQUEST}"),
        // Characters that browsers do not encode in a path and in a query (WHATWG URL, 1.3).
        REQUEST.replace("/chat?room=7", "/a|b[c]'~!$&()*+,;=:@?a={b}|c^d`e[f]\\g"),
        // A user's name in UTF-8, as proxies add it.
        request_with("X-Remote-User: J\u{fc}rgen\r\n"),
        request_with("Origin: file://\r\n"),
        request_with("Origin: null\r\n"),
        request_with("Expect:\r\nAccept-Encoding: gzip\r\nPragma: no-cache\r\n"),
    ];
    for server in servers() {
        for request in &requests {
            let mut client = server.client();
            let response = client.request(request);
            assert_eq!(response.status, 101, "{request}");
            client.send_text("hello");
            client.expect_text("hello");
        }
    }
}

#[test]
fn an_origin_of_a_file_can_be_listed() {
    let server = Running::start(|builder| echo(builder).origins(["file://"]));
    for (origin, status) in [
        ("file://", 101),
        ("FILE://", 101),
        ("file:///", 403),
        ("file://host", 403),
        ("http://", 403),
        ("null", 403),
    ] {
        let request = request_with(&format!("Origin: {origin}\r\n"));
        assert_eq!(server.client().request(request).status, status, "{origin}");
    }
    for entry in ["http://", "https://", "ws://", "://", "file:"] {
        let builder = Server::builder().listen("127.0.0.1:0").origins([entry]);
        assert!(builder.build().is_err(), "{entry}");
    }
}

#[test]
fn bytes_of_a_header_are_there_for_whoever_wants_them() {
    let server = Running::start(|builder| {
        builder.on(Handshake, |_, upgrade| {
            let request = upgrade.request();
            let user = request.header_bytes("x-remote-user").unwrap_or_default();
            request.header("x-remote-user").is_none() && user == "Jürgen".as_bytes()
        })
    });
    let request = request_with("X-Remote-User:  J\u{fc}rgen \r\n");
    assert_eq!(server.client().request(request).status, 101);
}

#[test]
fn the_101_can_leave_before_what_ready_sends() {
    let server = Running::start(|builder| {
        echo(builder).separate_switch(true).on(Ready, |conn, ()| {
            // The kernel has already accepted the 101.
            let waits = conn.buffered_amount();
            conn.send_utf8(&format!("{waits} before"))
        })
    });
    let mut client = server.ready();
    client.expect_text("0 before");
}
