//! Handlers of `Connect`, `Origin`, `Handshake` and `Ping` can refuse, each in its own way, without
//! other effects.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use crate::support::events::record;
use crate::support::{REQUEST, Running, request_with};
use wsloop::event::{Connect, Handshake, Origin, Ping, Verdict};
use wsloop::handshake::Refusal;
use wsloop::{AnswerError, Builder, SendError};

/// Returns the response and the log of a client that a server with this configuration refuses.
fn refused(
    configure: impl FnOnce(Builder) -> Builder + Send + 'static,
    request: impl AsRef<[u8]>,
) -> (support::Response, Vec<String>) {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| configure(record(builder, &sender)));
    let mut client = server.client();
    let response = client.request(request);
    client.expect_eof();
    drop(client);
    server.stop();
    let mut entries = log.rest();
    assert_eq!(entries.remove(0), "start");
    assert_eq!(entries.remove(0), "accept");
    assert_eq!(entries.pop().as_deref(), Some("shutdown"));
    (response, entries)
}

#[test]
fn connect_refuses_before_anything_is_read() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| record(builder, &sender).on(Connect, |_, ()| false));
    let mut client = server.client();
    let response = client.response();
    assert_eq!(response.status, 403);
    assert_eq!(response.header("connection"), Some("close"));
    client.expect_eof();
    log.expect(&[
        "start",
        "accept",
        "disconnect 1006 (refused with 403 Forbidden)",
    ]);
}

#[test]
fn connect_refuses_one_and_not_the_next() {
    let server = Running::start(|builder| {
        let mut count = 0;
        support::echo(builder).on(Connect, move |_, ()| {
            count += 1;
            count != 2
        })
    });
    let mut first = server.ready();
    assert_eq!(server.client().request(REQUEST).status, 403);
    server.ready().expect_alive();
    first.expect_alive();
}

#[test]
fn a_refused_client_may_have_sent_its_request_and_still_gets_its_answer() {
    // A reset for unread data must not destroy the response.
    let server = Running::start(|builder| builder.on(Connect, |_, ()| Verdict::Refuse));
    for _ in 0..50 {
        let mut client = server.client();
        client.send_raw(REQUEST);
        client.send_raw(support::frame(0x82, &[0; 60_000]));
        assert_eq!(client.response().status, 403);
        client.expect_eof();
    }
}

#[test]
fn origin_refuses_with_403_and_no_handshake_event() {
    let (response, entries) = refused(
        |builder| builder.on(Origin, |_, origin| origin == Some("https://good.example")),
        request_with("Origin: https://evil.example\r\n"),
    );
    assert_eq!(response.status, 403);
    assert_eq!(entries, ["connect", "disconnect 1006 (origin refused)"]);
}

#[test]
fn origin_is_told_exactly_what_the_client_sent() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        builder.on(Origin, move |conn, origin| {
            assert_eq!(conn.origin(), origin);
            sender.send(format!("{origin:?}")).unwrap();
            origin.is_none_or(|origin| origin == "null")
        })
    });
    for (line, told, status) in [
        ("", "None", 101),
        ("Origin: null\r\n", "Some(\"null\")", 101),
        ("Origin: HTTP://A.b:80\r\n", "Some(\"HTTP://A.b:80\")", 403),
        ("Origin: \r\n", "Some(\"\")", 403),
    ] {
        let response = server.client().request(request_with(line));
        assert_eq!(response.status, status, "{line}");
        assert_eq!(log.next(), told);
    }
}

#[test]
fn handshake_refuses_with_403() {
    let (response, entries) = refused(|builder| builder.on(Handshake, |_, _| false), REQUEST);
    assert_eq!(response.status, 403);
    assert_eq!(
        entries,
        [
            "connect",
            "origin none",
            "disconnect 1006 (refused with 403 Forbidden)"
        ]
    );
}

#[test]
fn handshake_refuses_with_any_answer() {
    let (response, entries) = refused(
        |builder| {
            builder.on(Handshake, |_, upgrade| {
                upgrade.refuse(
                    Refusal::new(307)
                        .reason("Over There")
                        .header("Location", "wss://b.example/chat")
                        .header("Set-Cookie", "a=1")
                        .header("Set-Cookie", "b=2")
                        .body("moved"),
                )
            })
        },
        REQUEST,
    );
    assert_eq!(response.status_line, "HTTP/1.1 307 Over There");
    assert_eq!(response.header("location"), Some("wss://b.example/chat"));
    let cookies = response
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    let cookies: Vec<_> = cookies.map(|(_, value)| value.as_str()).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.header("sec-websocket-accept"), None);
    assert_eq!(response.body, b"moved");
    assert_eq!(
        entries.last().map(String::as_str),
        Some("disconnect 1006 (refused with 307 Temporary Redirect)")
    );
}

#[test]
fn what_stands_behind_a_refused_request_is_never_a_message() {
    let mut bytes = REQUEST.as_bytes().to_vec();
    bytes.extend(support::frame(0x81, b"smuggled"));
    let (response, entries) = refused(|builder| builder.on(Handshake, |_, _| false), bytes);
    assert_eq!(response.status, 403);
    assert!(!entries.iter().any(|entry| entry.starts_with("utf8")));
}

#[test]
fn an_answer_given_on_the_connection_counts_in_every_phase() {
    fn teapot(conn: &mut wsloop::Connection<'_>) -> bool {
        conn.http_error(Refusal::new(418).body("short")).unwrap();
        assert_eq!(conn.http_error(500), Err(AnswerError::HandshakeDone));
        false
    }
    let (response, _) = refused(|builder| builder.on(Connect, |c, ()| teapot(c)), REQUEST);
    assert_eq!((response.status, &response.body[..]), (418, &b"short"[..]));
    let (response, _) = refused(|builder| builder.on(Handshake, |c, _| teapot(c)), REQUEST);
    assert_eq!((response.status, &response.body[..]), (418, &b"short"[..]));
    let (response, _) = refused(|builder| builder.on(Origin, |c, _| teapot(c)), REQUEST);
    assert_eq!((response.status, &response.body[..]), (418, &b"short"[..]));
}

#[test]
fn an_answer_refuses_without_a_verdict_too() {
    for phase in 0..3 {
        let (response, entries) = refused(
            move |builder| match phase {
                0 => builder.on(Connect, |conn, ()| conn.http_error(401)),
                1 => builder.on(Origin, |conn, _| conn.http_error(401)),
                _ => builder.on(Handshake, |conn, _| conn.http_error(401)),
            },
            REQUEST,
        );
        assert_eq!(response.status, 401, "{phase}");
        assert!(!entries.contains(&"ready".into()), "{phase}");
    }
}

#[test]
fn a_malformed_answer_is_an_error_of_the_handler() {
    let (response, entries) = refused(
        |builder| {
            builder.on(Handshake, |conn, upgrade| {
                let split = Refusal::new(403).header("X-Why", "a\r\nSet-Cookie: evil=1");
                assert_eq!(upgrade.refuse(split.clone()), Err(AnswerError::BadHeader));
                assert_eq!(conn.http_error(split), Err(AnswerError::BadHeader));
                assert_eq!(conn.http_error(200), Err(AnswerError::BadStatus));
                conn.http_error(101)
            })
        },
        REQUEST,
    );
    assert_eq!(response.status, 500);
    assert_eq!(response.header("set-cookie"), None);
    assert_eq!(
        entries.last().map(String::as_str),
        Some("disconnect 1006 (a handler failed)")
    );
}

#[test]
fn a_disconnect_before_the_handshake_is_a_403() {
    for phase in 0..3 {
        let (response, entries) = refused(
            move |builder| match phase {
                0 => builder.on(Connect, |conn, ()| {
                    conn.disconnect(4000, "no").map(|_| true)
                }),
                1 => builder.on(Origin, |conn, _| conn.disconnect(4000, "no").map(|_| true)),
                _ => builder.on(Handshake, |conn, _| {
                    conn.disconnect(4000, "no").map(|_| true)
                }),
            },
            REQUEST,
        );
        assert_eq!(response.status, 403, "{phase}");
        assert_eq!(
            entries.last().map(String::as_str),
            Some("disconnect 4000 (closed by the server) no")
        );
    }
}

#[test]
fn a_cut_before_the_handshake_sends_nothing() {
    for phase in 0..3 {
        let (sender, log) = support::log();
        let server = Running::start(move |builder| {
            let builder = record(builder, &sender);
            match phase {
                0 => builder.on(Connect, |conn, ()| conn.abort()),
                1 => builder.on(Origin, |conn, _| conn.abort()),
                _ => builder.on(Handshake, |conn, _| conn.abort()),
            }
        });
        let mut client = server.client();
        // The server may cut the connection before the request is written.
        _ = std::io::Write::write_all(&mut client.stream, REQUEST.as_bytes());
        assert_eq!(client.read_to_end(), b"", "{phase}");
        server.stop();
        let entries = log.rest();
        let gone = entries
            .iter()
            .filter(|entry| *entry == "disconnect 1006 (cut by the server)");
        assert_eq!(gone.count(), 1, "{entries:?}");
        assert!(!entries.contains(&"ready".into()), "{entries:?}");
    }
}

#[test]
fn ping_suppresses_the_pong_and_nothing_else() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        support::echo(record(builder, &sender)).on(Ping, |_, payload| payload != b"quiet")
    });
    let mut client = server.ready();
    client.send_frame(0x89, "loud");
    client.send_frame(0x89, "quiet");
    client.send_frame(0x89, "");
    client.expect_frame(0x8a, "loud");
    client.expect_frame(0x8a, "");
    client.expect_alive();
    drop(client);
    assert_eq!(server.stop().dropped_pongs, 0);
    let entries = log.rest();
    assert!(!entries.iter().any(|entry| entry.starts_with("error")));
}

#[test]
fn a_pong_that_a_close_forestalls_is_not_counted_as_dropped() {
    let server = Running::start(|builder| {
        builder.on(Ping, |conn, _| {
            conn.disconnect(1000, "")?;
            Ok::<_, SendError>(true)
        })
    });
    let mut client = server.ready();
    client.send_frame(0x89, "");
    client.answer_close(1000);
    drop(client);
    // The counter is about peers that do not read.
    assert_eq!(server.stop().dropped_pongs, 0);
}
