//! `shutdown` cuts a connection at once: without a Close frame and without queued messages, and
//! with one `Disconnect`.

use std::time::Instant;

use crate::support::{Client, PATIENCE, REQUEST, Running, frame, log, recorded};
use wsloop::event::{
    Binary, Connect, Disconnect, Handshake, Origin, PeerClose, Ping, Pong, Ready, Utf8,
};
use wsloop::{Builder, Connection, SendError};

fn cut(conn: &mut Connection<'_>) {
    conn.abort();
}

/// Registers a handler that cuts the connection.
type Arrange = fn(Builder) -> Builder;

/// The handlers of an open connection, and the frame that causes each event.
const PLACES: [(&str, Arrange, u8); 6] = [
    (
        "Utf8",
        |builder| builder.on(Utf8, |conn, _| cut(conn)),
        0x81,
    ),
    (
        "Binary",
        |builder| builder.on(Binary, |conn, _| cut(conn)),
        0x82,
    ),
    (
        "Ping",
        |builder| builder.on(Ping, |conn, _| cut(conn)),
        0x89,
    ),
    (
        "Pong",
        |builder| builder.on(Pong, |conn, _| cut(conn)),
        0x8a,
    ),
    (
        "PeerClose",
        |builder| builder.on(PeerClose, |conn, _| cut(conn)),
        0x88,
    ),
    (
        "Ready",
        |builder| builder.on(Ready, |conn, ()| cut(conn)),
        0,
    ),
];

#[test]
fn every_handler_of_an_open_connection_can_cut_it() {
    for (place, arrange, first) in PLACES {
        let (sender, log) = log();
        let server = Running::start(move |builder| arrange(recorded(builder, &sender)));
        let mut client = server.client();
        if first != 0 {
            client.upgrade();
            client.send_frame(first, "");
        } else {
            // The 101 may have been sent or not; nothing follows it.
            client.send_raw(REQUEST);
        }
        let rest = client.read_to_end();
        let head_end = rest.len().saturating_sub(4);
        assert!(
            rest.is_empty() || &rest[head_end..] == b"\r\n\r\n",
            "{place}"
        );
        let mut entry = log.next();
        while ["connect", "ready"].contains(&&*entry) {
            entry = log.next();
        }
        let expected = [
            "disconnect 1006 (cut by the server)",
            "disconnect 1005 (closed by the peer)",
        ];
        // The entry may end with the number of unsent bytes.
        let entry = entry.split(", ").next().unwrap_or_default();
        assert!(expected.contains(&entry), "{place}: {entry}");
        // The server continues.
        drop(client);
        let mut next = server.client();
        next.send_raw(REQUEST);
        if first != 0 {
            assert_eq!(next.response().status, 101, "{place}");
        } else {
            next.read_to_end();
        }
    }
}

#[test]
fn nothing_behind_it_in_the_same_segment_is_looked_at() {
    for (place, arrange, first) in PLACES {
        if first == 0 {
            continue;
        }
        let (sender, log) = log();
        let server = Running::start(move |builder| arrange(recorded(builder, &sender)));
        let mut client = server.ready();
        let behind = [
            frame(first, b""),
            frame(0x81, b"never"),
            frame(0x82, b"never"),
        ]
        .concat();
        client.send_raw(behind.repeat(50));
        assert_eq!(client.read_to_end(), b"", "{place}");
        log.expect(&["connect", "ready"]);
        assert!(log.next().starts_with("disconnect"), "{place}");
        assert_eq!(server.client().request(REQUEST).status, 101, "{place}");
        log.expect(&["connect"]);
    }
}

#[test]
fn the_opening_handshake_can_be_cut() {
    let arrangements: [(&str, Arrange); 3] = [
        ("Connect", |builder| {
            builder.on(Connect, |conn, ()| cut(conn))
        }),
        ("Origin", |builder| builder.on(Origin, |conn, _| cut(conn))),
        ("Handshake", |builder| {
            builder.on(Handshake, |conn, _| cut(conn))
        }),
    ];
    for (place, arrange) in arrangements {
        let (sender, log) = log();
        let server = Running::start(move |builder| arrange(recorded(builder, &sender)));
        let mut client = server.client();
        // The server may cut the connection before the client has sent the whole request.
        let _ = std::io::Write::write_all(&mut client.stream, REQUEST.as_bytes());
        assert_eq!(client.read_to_end(), b"", "{place}: no answer");
        let mut entry = log.next();
        if entry == "connect" {
            entry = log.next();
        }
        assert_eq!(entry, "disconnect 1006 (cut by the server)", "{place}");
    }
}

#[test]
fn what_was_sent_in_the_same_handler_is_not() {
    for close_first in [false, true] {
        let (sender, log) = log();
        let server = Running::start(move |builder| {
            recorded(builder, &sender).on(Utf8, move |conn, _| {
                conn.send_utf8("never")?;
                conn.ping(b"never")?;
                if close_first {
                    conn.disconnect(4001, "never")?;
                }
                conn.abort();
                Ok::<_, SendError>(())
            })
        });
        let mut client = server.ready();
        client.send_text("x");
        assert_eq!(client.read_to_end().escape_ascii().to_string(), "");
        log.expect(&["connect", "ready"]);
        assert!(log.next().starts_with("disconnect"));
    }
}

#[test]
fn a_close_of_the_peer_that_is_cut_gets_no_answer() {
    let server = Running::start(|builder| builder.on(PeerClose, |conn, _| cut(conn)));
    let mut client = server.ready();
    client.send_close(4000, "bye");
    assert_eq!(client.read_to_end().escape_ascii().to_string(), "");
}

#[test]
fn another_connection_can_be_cut_while_its_messages_wait() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender)
            .on(Utf8, |_, _| ())
            .on(Binary, |conn, _| {
                let me = conn.id();
                let mut hub = conn.server();
                for id in hub.ids() {
                    if id != me
                        && let Some(mut conn) = hub.get(id)
                    {
                        conn.abort();
                    }
                }
                conn.send_utf8("done")
            })
            .turn_bytes(1 << 20)
            .turn_messages(1)
    });
    let mut other = server.ready();
    log.expect(&["connect", "ready"]);
    let mut client = server.ready();
    log.expect(&["connect", "ready"]);
    let mut writer = Client::over(client.stream.try_clone().expect("a second descriptor"));
    let flood = std::thread::spawn(move || {
        let texts = frame(0x81, b"x").repeat(1000);
        // The thread ends when the connection does.
        let started = Instant::now();
        while std::io::Write::write_all(&mut writer.stream, &texts).is_ok() {
            assert!(started.elapsed() < PATIENCE, "it is never cut");
        }
    });
    other.send_frame(0x82, "");
    other.expect_text("done");
    log.expect(&["disconnect 1006 (cut by the server)"]);
    assert_eq!(client.read_to_end(), b"");
    flood.join().expect("the flood ends");
}

#[test]
fn a_cut_in_disconnect_changes_nothing() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        builder.on(Disconnect, move |conn, why| {
            sender.send(format!("disconnect {why}")).unwrap_or_default();
            conn.abort();
            assert_eq!(conn.send_utf8("never"), Err(SendError::Closing));
        })
    });
    let mut client = server.ready();
    client.send_close(1000, "");
    client.read_to_end();
    log.expect(&["disconnect 1000 (closed by the peer)"]);
    drop(client);
    server.stop();
    assert_eq!(log.rest(), [""; 0]);
}
