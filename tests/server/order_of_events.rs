//! The events of one connection come in the documented order.

use crate::support;
use crate::support::Running;
use crate::support::events::record;
use wsloop::event::{Connect, Disconnect, Ready, Utf8};

#[test]
fn a_whole_life_closed_by_the_peer() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| record(builder, &sender));
    log.expect(&["start"]);
    let mut client = server.client();
    // Both events come before the client has sent anything.
    log.expect(&["accept", "connect"]);
    let request = support::request_with("Origin: http://a.example\r\n");
    assert_eq!(client.request(request).status, 101);
    log.expect(&["origin http://a.example", "handshake /chat", "ready"]);
    client.send_text("one");
    client.send_frame(0x82, [1, 2]);
    client.send_frame(0x89, "three");
    client.expect_frame(0x8a, "three");
    client.send_frame(0x8a, "four");
    client.send_close(4001, "five");
    assert_eq!(client.expect_close(4001), "five");
    client.expect_eof();
    log.expect(&[
        "utf8 one",
        "binary 2",
        "ping three",
        "pong four",
        "peer close 4001 five",
        "disconnect 4001 (closed by the peer) five",
    ]);
    drop(client);
    server.stop();
    assert_eq!(log.rest(), ["shutdown"]);
}

#[test]
fn everything_in_one_segment_comes_in_the_same_order() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| record(builder, &sender));
    let mut client = server.client();
    let mut bytes = support::REQUEST.as_bytes().to_vec();
    for (first, payload) in [
        (0x81, "a"),
        (0x01, "b"),
        (0x89, "c"),
        (0x80, "d"),
        (0x82, "e"),
        (0x8a, "f"),
        (0x88, "\u{3}\u{e9}g"),
        (0x81, "after the close"),
    ] {
        // A Close frame with the code 1001, whose bytes are not valid text.
        let payload = match first {
            0x88 => b"\x03\xe9g".to_vec(),
            _ => payload.as_bytes().to_vec(),
        };
        bytes.extend(support::frame(first, &payload));
    }
    client.send_raw(bytes);
    assert_eq!(client.response().status, 101);
    client.expect_frame(0x8a, "c");
    assert_eq!(client.expect_close(1001), "g");
    client.expect_eof();
    drop(client);
    server.stop();
    assert_eq!(
        log.rest(),
        [
            "start",
            "accept",
            "connect",
            "origin none",
            "handshake /chat",
            "ready",
            "utf8 a",
            "ping c",
            "utf8 bd",
            "binary 1",
            "pong f",
            "peer close 1001 g",
            "disconnect 1001 (closed by the peer) g",
            "shutdown",
        ]
    );
}

#[test]
fn a_life_closed_by_the_server() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        record(builder, &sender).on(Ready, |conn, ()| conn.disconnect(4000, "enough"))
    });
    let mut client = server.ready();
    assert_eq!(client.expect_close(4000), "enough");
    client.send_text("too late");
    client.send_frame(0x89, "too late");
    client.send_close(4002, "so be it");
    client.expect_eof();
    log.expect(&[
        "start",
        "accept",
        "connect",
        "origin none",
        "handshake /chat",
        // There is no message, no ping, and no `PeerClose`, because the peer's Close answers the
        // server's.
        "disconnect 4000 (closed by the server) enough",
    ]);
}

#[test]
fn an_end_without_a_close_frame() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| record(builder, &sender));
    let mut client = server.ready();
    client.send_text("bye");
    client.shutdown_write();
    assert_eq!(client.read_to_end(), b"", "no Close frame answers none");
    log.expect(&[
        "start",
        "accept",
        "connect",
        "origin none",
        "handshake /chat",
        "ready",
        "utf8 bye",
        "peer close none",
        "disconnect 1006 (connection ended without a Close frame)",
    ]);
}

#[test]
fn a_client_that_never_asks_has_a_connect_and_a_disconnect() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| record(builder, &sender));
    let mut client = server.client();
    client.send_raw("GET / HT");
    client.shutdown_write();
    client.read_to_end();
    log.expect(&[
        "start",
        "accept",
        "connect",
        "disconnect 1006 (connection ended without a Close frame)",
    ]);
}

#[test]
fn connections_do_not_mix() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        builder.on(Connect, move |conn, ()| {
            let id = conn.id().as_u64();
            let log = sender.clone();
            let mut heard = 0;
            conn.on(Utf8, move |conn, text| {
                heard += 1;
                conn.send_utf8(&format!("{heard} {text}"))
            });
            conn.on(Disconnect, move |conn, _| {
                assert_eq!(conn.id().as_u64(), id);
                log.send(format!("gone {id}"))
            });
        })
    });
    let mut clients: Vec<_> = (0..20).map(|_| server.ready()).collect();
    for round in 1..4 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.send_text(&format!("from {at}"));
        }
        for (at, client) in clients.iter_mut().enumerate() {
            client.expect_text(&format!("{round} from {at}"));
        }
    }
    drop(clients);
    server.stop();
    let mut gone = log.rest();
    assert_eq!(gone.len(), 20);
    gone.sort();
    gone.dedup();
    assert_eq!(gone.len(), 20, "each once");
}
