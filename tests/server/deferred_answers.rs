//! Opening handshakes that are answered later: once, from any thread, and without losing anything
//! in between.

use std::sync::mpsc::{self, Receiver};

use wsloop::event::Handshake;
use wsloop::handshake::Refusal;
use wsloop::{AnswerError, Builder, ConnectionId, SendError};

use crate::support::{PATIENCE, REQUEST, Running, frame, log, recorded, request_with, settle};

/// Starts a server that defers each response to `/chat`, and reports the ids of those connections.
fn postponing(
    configure: impl FnOnce(Builder) -> Builder + Send + 'static,
) -> (Running, Receiver<ConnectionId>) {
    let (sender, ids) = mpsc::channel();
    let server = Running::start(move |builder| {
        configure(builder).on(Handshake, move |conn, upgrade| {
            if upgrade.request().path() == "/chat" {
                sender.send(conn.id()).unwrap_or_default();
                return upgrade.defer();
            }
            upgrade.accept()
        })
    });
    (server, ids)
}

fn next(ids: &Receiver<ConnectionId>) -> ConnectionId {
    ids.recv_timeout(PATIENCE).expect("a handshake")
}

#[test]
fn accepted_later_with_all_that_came_meanwhile() {
    let (sender, log) = log();
    let (server, ids) = postponing(move |builder| recorded(builder, &sender));
    let other = REQUEST.replace("/chat", "/other");
    let mut busy = server.client();
    assert_eq!(busy.request(other).status, 101);
    log.expect(&["connect", "ready"]);
    for together in [true, false] {
        let mut client = server.client();
        let request = request_with("Sec-WebSocket-Protocol: b, a\r\n");
        if together {
            client.send_raw([request.as_bytes(), &frame(0x81, b"one")].concat());
        } else {
            client.send_raw(request);
        }
        let id = next(&ids);
        if !together {
            client.send_raw(frame(0x81, b"one"));
        }
        client.send_raw(frame(0x81, b"two"));
        // The server serves other clients, and delivers nothing of this one.
        settle(&mut busy);
        log.expect(&["connect", "utf8 alive?", "utf8 alive?", "utf8 alive?"]);
        let done = server.handle.answer(id, |_, upgrade| {
            upgrade.header("X-Late", "yes")?;
            upgrade.cookie("id", "7", "")?;
            upgrade.set_subprotocol("a")
        });
        done.expect("the server runs");
        let response = client.response();
        assert_eq!(response.status, 101);
        assert_eq!(response.header("x-late"), Some("yes"));
        assert_eq!(response.header("set-cookie"), Some("id=7"));
        assert_eq!(response.header("sec-websocket-protocol"), Some("a"));
        client.expect_text("one");
        client.expect_text("two");
        client.expect_alive();
        log.expect(&["ready", "utf8 one", "utf8 two", "utf8 alive?"]);
        // Later answers have no effect.
        for _ in 0..2 {
            let again = server.handle.answer(id, |_, upgrade| upgrade.refuse(404));
            again.expect("the server runs");
        }
        client.expect_alive();
        client.reset();
        log.expect(&["utf8 alive?"]);
        while !log.next().starts_with("disconnect") {}
    }
}

#[test]
fn refused_later() {
    for way in 0..5 {
        let (sender, log) = log();
        let (server, ids) = postponing(move |builder| recorded(builder, &sender));
        let mut client = server.client();
        client.send_raw(REQUEST);
        let id = next(&ids);
        let handle = &server.handle;
        let (done, status) = match way {
            0 => (
                handle.answer(id, |_, upgrade| {
                    upgrade.refuse(Refusal::new(401).header("WWW-Authenticate", "Basic"))
                }),
                401,
            ),
            1 => (handle.answer(id, |_, _| false), 403),
            2 => (handle.answer(id, |_, _| Err::<(), _>("told to")), 500),
            3 => (handle.answer(id, |_, _| -> bool { panic!("told to") }), 500),
            _ => (handle.disconnect(id, 1000, ""), 403),
        };
        done.expect("the server runs");
        let late = handle.answer(id, |_, _| true);
        late.expect("the server runs");
        assert_eq!(client.response().status, status);
        client.expect_eof();
        log.expect(&["connect"]);
        let mut entry = log.next();
        if status == 500 {
            assert_eq!(
                entry,
                "error: handler failed: told to".replace(
                    "failed: told",
                    match way {
                        2 => "failed: told",
                        _ => "failed: panicked: told",
                    }
                )
            );
            entry = log.next();
        }
        assert!(entry.starts_with("disconnect"), "{entry}");
        drop(server);
        assert!(log.rest().is_empty());
    }
}

#[test]
fn from_the_loop_and_more_than_once() {
    let (server, ids) = postponing(|builder| builder);
    let mut client = server.client();
    client.send_raw(REQUEST);
    let id = next(&ids);
    let run = server.handle.run(move |hub| {
        let mut conn = hub.get(id).expect("it waits");
        assert!(conn.request().is_some() && !conn.is_ready());
        assert_eq!(conn.send_utf8("never"), Err(SendError::NotReady));
        assert_eq!(conn.answer(|_, _| true), Ok(()));
        assert_eq!(conn.answer(|_, _| false), Err(AnswerError::HandshakeDone));
    });
    run.expect("the server runs");
    assert_eq!(client.response().status, 101);
    // An answer can defer again.
    let mut client = server.client();
    client.send_raw(REQUEST);
    let id = next(&ids);
    let again = server.handle.answer(id, |_, upgrade| upgrade.defer());
    again.expect("the server runs");
    let done = server.handle.answer(id, |_, upgrade| upgrade.refuse(410));
    done.expect("the server runs");
    assert_eq!(client.response().status, 410);
}

#[test]
fn clients_that_left_and_answers_to_nothing() {
    let (sender, log) = log();
    let (server, ids) = postponing(move |builder| recorded(builder, &sender));
    for reset in [true, false] {
        let mut client = server.client();
        client.send_raw(REQUEST);
        let id = next(&ids);
        match reset {
            true => client.reset(),
            false => drop(client),
        }
        for _ in 0..2 {
            let done = server.handle.answer(id, |_, _| true);
            done.expect("the server runs");
        }
        log.expect(&["connect"]);
        while !log.next().starts_with("disconnect") {}
    }
    // A connection that was never deferred, and a server that shuts down in the meantime.
    let mut ready = server.client();
    assert_eq!(
        ready.request(REQUEST.replace("/chat", "/other")).status,
        101
    );
    let mut client = server.client();
    client.send_raw(REQUEST);
    next(&ids);
    server.handle.shutdown().expect("the server runs");
    assert_eq!(client.response().status, 503);
    client.expect_eof();
    ready.expect_close(1001);
}
