//! `disconnect` sends a Close frame, waits for the peer's, and cuts the connection if none arrives.

use std::io::Write;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::{Client, Frame, PATIENCE, REQUEST, Running, frame, log, recorded, settle};
use wsloop::event::{Binary, Connect, Handshake, Origin, PeerClose, Ping, Pong, Ready, Utf8};
use wsloop::{Builder, CloseCode, Connection, Phase, SendError, Sent};

/// Registers a handler that closes the connection.
type Arrange = fn(Builder) -> Builder;

/// All handlers that can close an open connection, and the frame that causes each event.
const PLACES: [(&str, Arrange, &[u8]); 5] = [
    (
        "Ready",
        |builder| builder.on(Ready, |conn, ()| close(conn)),
        b"",
    ),
    (
        "Utf8",
        |builder| builder.on(Utf8, |conn, _| close(conn)),
        b"\x81",
    ),
    (
        "Binary",
        |builder| builder.on(Binary, |conn, _| close(conn)),
        b"\x82",
    ),
    (
        "Ping",
        |builder| builder.on(Ping, |conn, _| close(conn).map(|_| true)),
        b"\x89",
    ),
    (
        "Pong",
        |builder| builder.on(Pong, |conn, _| close(conn)),
        b"\x8a",
    ),
];

fn close(conn: &mut Connection<'_>) -> Result<Sent, SendError> {
    conn.disconnect(4001, "enough")?;
    assert!(conn.phase() == Phase::Closing && !conn.is_ready());
    assert_eq!(conn.send_utf8("never"), Err(SendError::Closing));
    assert_eq!(conn.ping(b"never"), Err(SendError::Closing));
    // Only the first close counts.
    conn.disconnect(4002, "again")
}

/// Starts a server in which the handler of `arrange` closes.
fn closing(log: &Sender<String>, arrange: Arrange, close_timeout: Duration) -> Running {
    let log = log.clone();
    Running::start(move |builder| arrange(recorded(builder, &log)).close_timeout(close_timeout))
}

/// Opens a connection, and causes the event whose handler closes it.
fn lead(server: &Running, first: &[u8]) -> Client {
    let mut client = server.ready();
    if let [first] = first {
        client.send_frame(*first, "now");
    }
    client
}

#[test]
fn every_handler_can_close_and_the_peer_is_waited_for() {
    for (place, arrange, first) in PLACES {
        let (sender, log) = log();
        let server = closing(&sender, arrange, PATIENCE);
        let mut client = lead(&server, first);
        // There is neither a pong nor an echo: the Close frame comes first.
        assert_eq!(client.expect_close(4001), "enough", "{place}");
        // Later messages are discarded and not answered.
        client.send_text("never");
        client.send_frame(0x89, "never");
        client.send_frame(0x02, "never");
        client.send_frame(0x80, "never");
        if first.is_empty() {
            log.expect(&["connect"]);
        } else {
            log.expect(&["connect", "ready"]);
        }
        // Another connection is served, and the first one has not ended yet.
        let mut other = server.client();
        assert_eq!(other.request(REQUEST).status, 101);
        log.expect(&["connect"]);
        if !first.is_empty() {
            log.expect(&["ready"]);
            other.send_frame(if first == b"\x81" { 0x82 } else { 0x81 }, "x");
            other.read_frame();
            log.next();
        }
        client.send_close(4001, "enough");
        client.expect_eof();
        log.expect(&["disconnect 4001 (closed by the server) enough"]);
    }
}

#[test]
fn a_peer_that_does_not_answer_is_cut() {
    for (place, arrange, first) in PLACES {
        let (sender, log) = log();
        let server = closing(&sender, arrange, Duration::from_millis(60));
        let mut client = lead(&server, first);
        assert_eq!(client.expect_close(4001), "enough", "{place}");
        assert_eq!(client.read_to_end(), b"", "{place}");
        drop(server);
        drop(sender);
        let ends: Vec<String> = log
            .rest()
            .into_iter()
            .filter(|entry| entry.starts_with("disconnect"))
            .collect();
        assert_eq!(
            ends,
            ["disconnect 4001 (closed by the server) enough"],
            "{place}"
        );
    }
}

#[test]
fn a_peer_that_only_talks_on_is_cut_as_well() {
    let (sender, log) = log();
    let server = closing(&sender, PLACES[1].1, Duration::from_millis(60));
    let mut client = lead(&server, b"\x81");
    assert_eq!(client.expect_close(4001), "enough");
    // Further messages of the client do not extend the deadline.
    let text = frame(0x81, b"blah");
    let started = Instant::now();
    while client.stream.write_all(&text).is_ok() {
        assert!(started.elapsed() < PATIENCE, "it is never cut");
        std::thread::sleep(Duration::from_millis(2));
    }
    log.expect(&[
        "connect",
        "ready",
        "disconnect 4001 (closed by the server) enough",
    ]);
}

#[test]
fn only_the_disconnect_is_told_of_a_peer_that_answers_with_nonsense() {
    for nonsense in [frame(0x83, b""), frame(0x81, b"\xff"), vec![0x81, 0x00]] {
        let (sender, log) = log();
        let server = closing(&sender, PLACES[1].1, PATIENCE);
        let mut client = lead(&server, b"\x81");
        assert_eq!(client.expect_close(4001), "enough");
        client.send_raw(nonsense);
        client.expect_eof();
        log.expect(&[
            "connect",
            "ready",
            "disconnect 4001 (closed by the server) enough",
        ]);
    }
}

#[test]
fn a_peer_that_answers_with_the_end_is_done() {
    for fin in [true, false] {
        let (sender, log) = log();
        let server = closing(&sender, PLACES[1].1, PATIENCE);
        let mut client = lead(&server, b"\x81");
        assert_eq!(client.expect_close(4001), "enough");
        if fin {
            client.shutdown_write();
            client.expect_eof();
        } else {
            client.reset();
        }
        log.expect(&[
            "connect",
            "ready",
            "disconnect 4001 (closed by the server) enough",
        ]);
    }
}

#[test]
fn replies_before_it_are_sent() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, text| {
            conn.send_utf8(text)?;
            conn.send_binary(&[7; 60_000])?;
            conn.disconnect(4001, "")
        })
    });
    let mut client = server.ready();
    client.send_raw(frame(0x81, b"a").repeat(3));
    client.expect_text("a");
    client.expect_frame(0x82, [7; 60_000]);
    // The second and the third message are not delivered.
    assert_eq!(client.expect_close(4001), "");
    client.send_close(4001, "");
    client.expect_eof();
}

#[test]
fn an_own_code_when_the_peer_ends_without_a_close() {
    let (sender, log) = log();
    let arrange: Arrange = |builder| {
        builder.on(PeerClose, |conn, frame| {
            assert_eq!(frame, None);
            close(conn)
        })
    };
    let server = closing(&sender, arrange, PATIENCE);
    let mut client = server.ready();
    client.shutdown_write();
    assert_eq!(client.expect_close(4001), "enough");
    client.expect_eof();
    log.expect(&[
        "connect",
        "ready",
        "disconnect 4001 (closed by the server) enough",
    ]);
}

#[test]
fn another_thread_can_close() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let mut client = server.ready();
    log.expect(&["connect", "ready"]);
    let (found, ids) = std::sync::mpsc::channel();
    let look = move |hub: &mut wsloop::Hub<'_>| found.send(hub.ids()).unwrap_or_default();
    server.handle.run(look).expect("the server runs");
    let ids = ids.recv_timeout(PATIENCE).expect("the server runs it");
    server
        .handle
        .disconnect(ids[0], 4003, "from afar")
        .expect("the server runs");
    assert_eq!(client.expect_close(4003), "from afar");
    client.send_close(4003, "");
    client.expect_eof();
    log.expect(&["disconnect 4003 (closed by the server) from afar"]);
}

#[test]
fn no_status_sends_an_empty_close() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, _| conn.disconnect(CloseCode::NO_STATUS, ""))
    });
    let mut client = server.ready();
    client.send_text("x");
    let empty = Frame {
        first: 0x88,
        payload: Vec::new(),
    };
    assert_eq!(client.read_frame(), empty);
    client.send_frame(0x88, "");
    client.expect_eof();
}

#[test]
fn what_cannot_be_sent_is_an_error_and_closes_nothing() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let results = sender.clone();
        recorded(builder, &sender).on(Binary, move |conn, _| {
            let bad_codes = [0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65_535];
            for code in bad_codes {
                let result = conn.disconnect(code, "");
                assert_eq!(result, Err(SendError::BadCloseCode(code)));
            }
            let reserved = conn.disconnect(CloseCode::NO_STATUS, "a reason needs a code");
            assert_eq!(reserved, Err(SendError::BadCloseCode(1005)));
            let long = conn.disconnect(1000, &"x".repeat(124));
            assert_eq!(long, Err(SendError::ControlTooLong { size: 126 }));
            // 124 bytes in 62 characters.
            let long = conn.disconnect(1000, &"ü".repeat(62));
            assert_eq!(long, Err(SendError::ControlTooLong { size: 126 }));
            assert!(conn.is_ready() && conn.phase() != Phase::Closing);
            results.send("all refused".into()).unwrap_or_default();
        })
    });
    let mut client = server.ready();
    client.send_frame(0x82, "try");
    log.expect(&["connect", "ready", "all refused"]);
    client.expect_alive();
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
}

#[test]
fn before_ready_it_refuses_the_handshake() {
    let arrangements: [Arrange; 3] = [
        |builder| {
            builder.on(Connect, |conn, ()| {
                conn.disconnect(4001, "early").map(|_| true)
            })
        },
        |builder| {
            builder.on(Origin, |conn, _| {
                conn.disconnect(4001, "early").map(|_| true)
            })
        },
        |builder| {
            builder.on(Handshake, |conn, _| {
                conn.disconnect(4001, "early").map(|_| true)
            })
        },
    ];
    for arrange in arrangements {
        let (sender, log) = log();
        let server = closing(&sender, arrange, PATIENCE);
        let mut client = server.client();
        client.send_raw(REQUEST);
        assert_eq!(client.response().status, 403);
        client.expect_eof();
        let mut entry = log.next();
        if entry == "connect" {
            entry = log.next();
        }
        // A refusal is one HTTP response, without a Close frame.
        assert_eq!(entry, "disconnect 4001 (closed by the server) early");
        drop((client, server));
    }
}

#[test]
fn two_clients_do_not_share_a_close() {
    let server = Running::start(|builder| {
        support::echo(builder).on(Binary, |conn, _| conn.disconnect(4001, "you"))
    });
    let mut other = server.ready();
    let mut client = server.ready();
    client.send_frame(0x82, "");
    assert_eq!(client.expect_close(4001), "you");
    settle(&mut other);
    client.send_close(4001, "");
    client.expect_eof();
    other.expect_alive();
}
