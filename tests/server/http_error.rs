//! A handler of the opening handshake can answer with any HTTP error, once, and not later.

use crate::support::{REQUEST, Running, log, recorded};
use wsloop::event::{Binary, Connect, Disconnect, Handshake, Origin, PeerClose, Ready, Utf8};
use wsloop::handshake::Refusal;
use wsloop::{AnswerError, Builder, Connection, SendError};

/// Registers a handler with the same answer for one of the three events.
fn answer(builder: Builder, place: usize, with: fn(&mut Connection<'_>) -> Answer) -> Builder {
    match place {
        0 => builder.on(Connect, move |conn, ()| with(conn)),
        1 => builder.on(Origin, move |conn, _| with(conn)),
        _ => builder.on(Handshake, move |conn, _| with(conn)),
    }
}

type Answer = Result<bool, AnswerError>;

#[test]
fn status_reason_headers_and_body() {
    for place in 0..3 {
        let (sender, log) = log();
        let server = Running::start(move |builder| {
            answer(recorded(builder, &sender), place, |conn| {
                let refusal = Refusal::new(503)
                    .reason("Come Back Later, Bitte schön")
                    .header("Retry-After", "120")
                    .header("Set-Cookie", "a=1")
                    .header("Set-Cookie", "b=2")
                    .header("Content-Type", "application/json")
                    .body(&br#"{"later":true}"#[..]);
                conn.http_error(refusal)?;
                // There is one answer.
                assert_eq!(conn.http_error(404), Err(AnswerError::HandshakeDone));
                assert_eq!(conn.send_utf8("never"), Err(SendError::NotReady));
                Ok(true)
            })
        });
        for _ in 0..2 {
            let mut client = server.client();
            let response = client.request(REQUEST);
            assert_eq!(
                response.status_line,
                "HTTP/1.1 503 Come Back Later, Bitte schön"
            );
            assert_eq!(response.body, br#"{"later":true}"#);
            let headers: Vec<_> = response
                .headers
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .filter(|(name, _)| *name != "date")
                .collect();
            assert!(
                response
                    .header("date")
                    .is_some_and(|date| date.ends_with(" GMT"))
            );
            assert_eq!(
                headers,
                [
                    ("connection", "close"),
                    ("content-length", "14"),
                    ("retry-after", "120"),
                    ("set-cookie", "a=1"),
                    ("set-cookie", "b=2"),
                    ("content-type", "application/json"),
                ]
            );
            client.expect_eof();
            let mut entry = log.next();
            if entry == "connect" {
                entry = log.next();
            }
            assert!(
                entry.starts_with("disconnect 1006 (refused with 503"),
                "{entry}"
            );
        }
    }
}

#[test]
fn a_status_alone_is_a_whole_answer() {
    for place in 0..3 {
        let server = Running::start(move |builder| {
            answer(builder, place, |conn| conn.http_error(404).map(|()| true))
        });
        let mut client = server.client();
        let response = client.request(REQUEST);
        assert_eq!(response.status_line, "HTTP/1.1 404 Not Found");
        assert!(!response.body.is_empty());
        client.expect_eof();
    }
}

#[test]
fn the_answer_counts_and_not_the_verdict_with_it() {
    for place in 0..3 {
        let server = Running::start(move |builder| {
            answer(builder, place, |conn| {
                let refusal = Refusal::new(401).header("WWW-Authenticate", "Basic");
                conn.http_error(refusal).map(|()| false)
            })
        });
        let mut client = server.client();
        let response = client.request(REQUEST);
        assert_eq!(response.status, 401, "handler {place}");
        assert_eq!(response.header("www-authenticate"), Some("Basic"));
        client.expect_eof();
    }
}

#[test]
fn a_redirect_and_an_empty_body() {
    let server = Running::start(|builder| {
        builder.on(Handshake, |conn, _| {
            conn.http_error(
                Refusal::new(307)
                    .header("Location", "ws://example.net/")
                    .body(""),
            )
        })
    });
    let mut client = server.client();
    let response = client.request(REQUEST);
    assert_eq!(response.status_line, "HTTP/1.1 307 Temporary Redirect");
    assert_eq!(response.header("location"), Some("ws://example.net/"));
    assert_eq!(response.header("content-length"), Some("0"));
    client.expect_eof();
}

#[test]
fn a_large_body_arrives_whole() {
    let server = Running::start(|builder| {
        builder.on(Handshake, |conn, _| {
            conn.http_error(Refusal::new(403).body(vec![b'x'; 8 << 20]))
        })
    });
    let mut client = server.client();
    let response = client.request(REQUEST);
    assert!(response.body == vec![b'x'; 8 << 20]);
    client.expect_eof();
}

#[test]
fn it_comes_too_late_after_the_handshake() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let try_it = |place: &'static str| {
            let sender = sender.clone();
            move |conn: &mut Connection<'_>| {
                assert_eq!(conn.http_error(404), Err(AnswerError::HandshakeDone));
                sender.send(place.into()).unwrap_or_default();
            }
        };
        let ready = try_it("ready");
        let utf8 = try_it("utf8");
        let peer_close = try_it("peer_close");
        let disconnect = try_it("disconnect");
        builder
            .on(Ready, move |conn, ()| ready(conn))
            .on(Utf8, move |conn, text| {
                utf8(conn);
                conn.send_utf8(text)
            })
            .on(Binary, |conn, _| conn.http_error(404))
            .on(PeerClose, move |conn, _| peer_close(conn))
            .on(Disconnect, move |conn, _| disconnect(conn))
    });
    let mut client = server.ready();
    client.expect_alive();
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
    log.expect(&["ready", "utf8", "peer_close", "disconnect"]);
    // If the handler returns this error, the connection closes with a Close frame.
    let mut client = server.ready();
    client.send_frame(0x82, "");
    client.expect_close(1011);
}
