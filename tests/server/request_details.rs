//! The client's request is available from `Origin` until the end of `Ready`; its URI, origin and
//! subprotocol are available until the end of the connection.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::Sender;

use crate::support;
use crate::support::{REQUEST, Running, request_with};
use wsloop::event::*;
use wsloop::{Builder, Connection};

fn describe(conn: &Connection<'_>) -> String {
    let request = conn.request().map(|request| {
        let header = request.header("X-One").unwrap_or("none");
        let cookies: Vec<_> = request
            .cookies()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("x-one {header} cookies {}", cookies.join(","))
    });
    format!(
        "{} {} {} {}",
        conn.request_uri()
            .map_or_else(|| "no uri".into(), |uri| uri.to_string()),
        conn.origin().unwrap_or("no origin"),
        conn.subprotocol().unwrap_or("no subprotocol"),
        request.as_deref().unwrap_or("no request"),
    )
}

fn described(builder: Builder, log: Sender<String>) -> Builder {
    let say = |name: &'static str| {
        let log = log.clone();
        move |conn: &Connection<'_>| log.send(format!("{name}: {}", describe(conn))).unwrap()
    };
    let (connect, origin, handshake, ready) = (
        say("connect"),
        say("origin"),
        say("handshake"),
        say("ready"),
    );
    let (utf8, disconnect) = (say("utf8"), say("disconnect"));
    builder
        .subprotocols(["v2.chat", "v1.chat"])
        .on(Connect, move |conn, ()| connect(conn))
        .on(Origin, move |conn, _| origin(conn))
        .on(Handshake, move |conn, upgrade| {
            assert_eq!(upgrade.subprotocol(), Some("v2.chat"));
            handshake(conn);
        })
        .on(Ready, move |conn, ()| ready(conn))
        .on(Utf8, move |conn, _| utf8(conn))
        .on(Disconnect, move |conn, _| disconnect(conn))
}

const LINES: &str = "Origin: https://a.example\r\nX-One: 1\r\nCookie: a=1; b=2\r\nCookie: c=3\r\n\
    Sec-WebSocket-Protocol: v1.chat, v2.chat\r\n";

const URI: &str = "ws://example.com/chat?room=7 https://a.example";
const DETAILS: &str = "x-one 1 cookies a=1,b=2,c=3";

fn provoke(server: &Running) {
    let mut client = server.client();
    let response = client.request(request_with(LINES));
    assert_eq!(response.header("sec-websocket-protocol"), Some("v2.chat"));
    client.send_text("");
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
}

#[test]
fn the_request_is_there_to_the_end_of_ready() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| described(builder, sender));
    provoke(&server);
    log.expect(&[
        "connect: no uri no origin no subprotocol no request",
        &format!("origin: {URI} no subprotocol {DETAILS}"),
        &format!("handshake: {URI} no subprotocol {DETAILS}"),
        &format!("ready: {URI} v2.chat {DETAILS}"),
        &format!("utf8: {URI} v2.chat no request"),
        &format!("disconnect: {URI} v2.chat no request"),
    ]);
}

#[test]
fn a_request_that_is_kept_is_there_to_the_end() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| described(builder.keep_requests(true), sender));
    provoke(&server);
    for _ in 0..4 {
        log.next();
    }
    log.expect(&[
        &format!("utf8: {URI} v2.chat {DETAILS}"),
        &format!("disconnect: {URI} v2.chat {DETAILS}"),
    ]);
}

#[test]
fn uris_have_the_scheme_the_host_and_the_query() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        builder.on(Ready, move |conn, ()| {
            let uri = conn.request_uri().unwrap();
            sender.send(format!(
                "{} {} {:?} {} {:?}",
                uri.scheme_str().unwrap(),
                uri.host().unwrap(),
                uri.port_u16(),
                uri.path(),
                uri.query()
            ))
        })
    });
    for (target, host, expected) in [
        ("/", "h", "ws h None / None"),
        (
            "/a%20b/c?d=e&f=%3F?",
            "h:81",
            "ws h Some(81) /a%20b/c Some(\"d=e&f=%3F?\")",
        ),
        ("/?", "[::1]:8080", "ws [::1] Some(8080) / Some(\"\")"),
        ("http://h/x?y", "h", "ws h None /x Some(\"y\")"),
    ] {
        let request = REQUEST
            .replace("/chat?room=7", target)
            .replace("example.com", host);
        assert_eq!(server.client().request(request).status, 101, "{target}");
        assert_eq!(log.next(), expected);
    }
}

#[test]
fn the_handshake_handler_can_add_headers_and_pick_a_subprotocol() {
    let server = Running::start(|builder| {
        builder
            .subprotocols(["v2.chat"])
            .on(Handshake, |_, upgrade| {
                upgrade.header("X-Server", "wsloop")?;
                upgrade.header("Set-Cookie", "a=1; HttpOnly")?;
                upgrade.header("Set-Cookie", "b=2")?;
                upgrade.set_subprotocol("v1.chat")
            })
            .on(Ready, |conn, ()| {
                let name = conn.subprotocol().unwrap().to_owned();
                conn.send_utf8(&name)
            })
    });
    let mut client = server.client();
    let response = client.request(request_with(LINES));
    assert_eq!(response.status, 101);
    assert_eq!(response.header("x-server"), Some("wsloop"));
    assert_eq!(response.header("sec-websocket-protocol"), Some("v1.chat"));
    let cookies = response
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .count();
    assert_eq!(cookies, 2);
    client.expect_text("v1.chat");
}

#[test]
fn a_unix_socket_has_no_address_and_a_uri_all_the_same() {
    let dir = support::temp::TempDir::new();
    let path = dir.path("socket");
    let (sender, log) = support::log();
    let listen = path.clone();
    let _server = Running::start_on(move || {
        wsloop::Server::builder()
            .listen_unix(listen)
            .on(Ready, move |conn, ()| {
                assert!(conn.nodelay().unwrap());
                conn.set_nodelay(false).unwrap();
                let uri = conn.request_uri().unwrap();
                sender.send(format!("{:?} {:?} {uri}", conn.ip(), conn.port()))
            })
    });
    let mut client = support::Client::connect_unix(&path);
    client.upgrade();
    log.expect(&["None None ws://example.com/chat?room=7"]);
}
