//! A client that sends its requests and a FIN still receives every reply, and then the server's
//! FIN.

use std::time::Duration;

use crate::support::{Client, PATIENCE, REQUEST, Running, frame, log, recorded};
use wsloop::event::{PeerClose, Utf8};

#[test]
fn a_fin_without_a_close_is_told_as_such() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    for fin in [true, false] {
        let client = server.ready();
        log.expect(&["connect", "ready"]);
        if fin {
            let mut client = client;
            client.shutdown_write();
            // The server sends no Close frame: the client did not send one, and there was no error.
            client.expect_eof();
        } else {
            drop(client);
        }
        log.expect(&["peer_close without a frame"]);
        log.expect(&["disconnect 1006 (connection ended without a Close frame)"]);
    }
    server.ready().expect_alive();
}

#[test]
fn small_replies_come_before_the_end() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let mut client = server.client();
    // The whole conversation in one segment, including the FIN.
    let mut bytes = REQUEST.as_bytes().to_vec();
    bytes.extend(frame(0x81, b"a"));
    bytes.extend(frame(0x89, b"b"));
    bytes.extend(frame(0x81, b"c"));
    client.send_raw(bytes);
    client.shutdown_write();
    assert_eq!(client.response().status, 101);
    client.expect_text("a");
    client.expect_frame(0x8a, "b");
    client.expect_text("c");
    client.expect_eof();
    log.expect(&["connect", "ready", "utf8 a", "ping b", "utf8 c"]);
    log.expect(&["peer_close without a frame"]);
    log.expect(&["disconnect 1006 (connection ended without a Close frame)"]);
}

#[test]
fn large_replies_come_before_the_end() {
    let (sender, log) = log();
    let server = Running::start(|builder| {
        builder
            .on(Utf8, |conn, text| {
                conn.send_binary(&vec![text.as_bytes()[0]; REPLY])
            })
            .on(PeerClose, move |conn, frame| {
                sender.send(format!("{frame:?}")).unwrap_or_default();
                conn.send_utf8("last words")
            })
            .max_send_size(REPLY)
            .max_backlog(4 * REPLY)
    });
    let mut client = server.ready();
    let letters = b"abcdef";
    let requests: Vec<u8> = letters
        .iter()
        .flat_map(|letter| frame(0x81, &[*letter]))
        .collect();
    client.send_raw(requests);
    client.shutdown_write();
    for letter in letters {
        assert!(client.read_frame().payload == vec![*letter; REPLY]);
    }
    client.expect_text("last words");
    client.expect_eof();
    log.expect(&["None"]);
}

/// More than the socket buffers on both sides can hold.
const REPLY: usize = 16 << 20;

#[test]
fn many_messages_and_a_fin_behind_a_reader_that_starts_late() {
    let server = Running::echo();
    let client = server.ready();
    let count = 4000u32;
    let mut writer = Client::over(client.stream.try_clone().expect("a second descriptor"));
    let writing = std::thread::spawn(move || {
        for at in 0..count {
            let payload = at.to_be_bytes().repeat(1024);
            writer.send_frame(0x82, payload);
        }
        writer.shutdown_write();
    });
    let mut client = client;
    for at in 0..count {
        client.expect_frame(0x82, at.to_be_bytes().repeat(1024));
    }
    client.expect_eof();
    writing.join().expect("everything was taken");
}

#[test]
fn a_fin_inside_a_message_or_a_request_ends_it() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let text = frame(0x81, b"never whole");
    for cut in 1..text.len() {
        let mut client = server.ready();
        client.send_raw(&text[..cut]);
        client.shutdown_write();
        client.expect_eof();
        log.expect(&["connect", "ready", "peer_close without a frame"]);
        log.expect(&["disconnect 1006 (connection ended without a Close frame)"]);
    }
    for cut in [0, 1, 20, REQUEST.len() - 1] {
        let mut client = server.client();
        client.send_raw(&REQUEST[..cut]);
        client.shutdown_write();
        client.expect_eof();
        // There was no WebSocket yet, so there is no `PeerClose`.
        log.expect(&["connect"]);
        log.expect(&["disconnect 1006 (connection ended without a Close frame)"]);
    }
    server.ready().expect_alive();
}

#[test]
fn a_reset_is_told_once() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let client = server.ready();
    log.expect(&["connect", "ready"]);
    client.reset();
    let mut entry = log.next();
    while !entry.starts_with("disconnect") {
        assert!(entry.starts_with("error: ") || entry.starts_with("peer_close without"));
        entry = log.next();
    }
    assert!(entry.starts_with("disconnect 1006 ("), "{entry}");
    // The reset causes no other events.
    server.ready().expect_alive();
    log.expect(&["connect", "ready", "utf8 alive?"]);
}

#[test]
fn a_reset_while_replies_wait_is_told_once() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender)
            .on(Utf8, |conn, _| conn.send_binary(&vec![0; REPLY]))
            .max_send_size(REPLY)
            .max_backlog(4 * REPLY)
            .close_timeout(Duration::from_secs(60))
    });
    // The connection is open, or closing after a Close frame or a FIN, and the server cannot write
    // everything.
    for then in ["", "close", "fin"] {
        let mut client = server.ready();
        client.send_text("x");
        log.expect(&["connect", "ready"]);
        // A part of the reply has arrived.
        client.read_exactly(1);
        let end = match then {
            "close" => {
                client.send_close(1000, "");
                log.expect(&["peer_close 1000 "]);
                Some("disconnect 1000 (closed by the peer)")
            }
            "fin" => {
                client.shutdown_write();
                log.expect(&["peer_close without a frame"]);
                Some("disconnect 1006 (connection ended without a Close frame)")
            }
            _ => None,
        };
        if let Some(end) = end {
            log.expect(&[end]);
        }
        client.reset();
        if end.is_none() {
            let mut entry = log.next();
            while !entry.starts_with("disconnect") {
                entry = log.next();
            }
            assert!(entry.starts_with("disconnect 1006 ("), "{entry}");
        }
    }
    // The server stops quickly only if no connection is left.
    let started = std::time::Instant::now();
    server.stop();
    assert!(started.elapsed() < PATIENCE, "no connection is left");
}
