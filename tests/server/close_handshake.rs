//! The server echoes a client's Close frame, ignores everything after it, and closes the connection
//! first.

use std::io::Write as _;

use crate::support::{Client, Frame, Running, frame, log, recorded, settle};
use wsloop::SendError;
use wsloop::event::{PeerClose, Utf8};

#[test]
fn code_and_reason_are_echoed_exactly() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let long = "x".repeat(123);
    for (code, reason) in [
        (1000, ""),
        (1000, "bye"),
        (1001, "going"),
        (1011, "failed"),
        (1012, ""),
        (1014, ""),
        (3000, ""),
        (4000, "bye"),
        (4999, "Grüße, €, 😀"),
        (4000, &*long),
    ] {
        let mut client = server.ready();
        client.send_close(code, reason);
        client.expect_frame(0x88, [&u16::to_be_bytes(code), reason.as_bytes()].concat());
        client.expect_eof();
        log.expect(&["connect", "ready", &format!("peer_close {code} {reason}")]);
        let disconnect = format!("disconnect {code} (closed by the peer) {reason}");
        log.expect(&[disconnect.trim_end()]);
    }
}

#[test]
fn an_empty_close_gets_an_empty_close() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let mut client = server.ready();
    client.send_frame(0x88, "");
    client.expect_frame(0x88, "");
    client.expect_eof();
    log.expect(&["connect", "ready", "peer_close 1005 "]);
    log.expect(&["disconnect 1005 (closed by the peer)"]);
}

/// RFC 6455, 7.1.1: "the underlying TCP connection ... SHOULD be closed first by the server".
#[test]
fn the_server_closes_first() {
    let server = Running::echo();
    let mut client = server.ready();
    client.send_close(1000, "");
    client.expect_close(1000);
    // The client has not shut down its side, so the end comes from the server.
    client.expect_eof();
}

#[test]
fn nothing_behind_a_close_is_looked_at() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let behind = [
        frame(0x81, b"never"),
        frame(0x89, b"never"),
        frame(0x88, &4001u16.to_be_bytes()),
        vec![0xff; 100],
        frame(0x82, &[0; 60_000]),
    ]
    .concat();
    // In the same segment, and later.
    for later in [false, true] {
        let mut client = server.ready();
        let mut bytes = frame(0x81, b"before");
        bytes.extend(frame(0x88, &4000u16.to_be_bytes()));
        if later {
            client.send_raw(bytes);
            client.expect_text("before");
            client.expect_close(4000);
            // The server has closed the socket, so the write may fail with a reset.
            let _ = client.stream.write_all(&behind);
        } else {
            bytes.extend_from_slice(&behind);
            client.send_raw(bytes);
            client.expect_text("before");
            client.expect_close(4000);
            client.expect_eof();
        }
        drop(client);
        log.expect(&["connect", "ready", "utf8 before", "peer_close 4000 "]);
        log.expect(&["disconnect 4000 (closed by the peer)"]);
    }
    server.ready().expect_alive();
    log.expect(&["connect", "ready", "utf8 alive?"]);
}

#[test]
fn a_close_may_come_in_pieces_and_inside_a_message() {
    let server = Running::echo();
    let mut other = server.ready();
    let close = frame(0x88, b"\x0f\xa0bye");
    for cut in 0..=close.len() {
        let mut client = server.ready();
        client.send_frame(0x01, "the first fragment");
        client.send_raw(&close[..cut]);
        settle(&mut other);
        client.send_raw(&close[cut..]);
        client.expect_frame(0x88, b"\x0f\xa0bye");
        client.expect_eof();
    }
}

#[test]
fn everything_sent_before_comes_before_the_close() {
    let server = Running::echo();
    let mut client = server.ready();
    let payload: Vec<u8> = (0..65_536).map(|at| (at % 253) as u8).collect();
    let mut bytes = frame(0x82, &payload).repeat(100);
    bytes.extend(frame(0x88, b"\x03\xe8"));
    let mut writer = Client::over(client.stream.try_clone().expect("a second descriptor"));
    let writing = std::thread::spawn(move || writer.send_raw(bytes));
    for _ in 0..100 {
        client.expect_frame(0x82, &payload);
    }
    client.expect_close(1000);
    client.expect_eof();
    writing.join().expect("everything was taken");
}

#[test]
fn a_handler_may_answer_with_words_and_a_code_of_its_own() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let seen = sender.clone();
        recorded(builder, &sender).on(PeerClose, move |conn, frame| {
            let code = frame.map(|frame| frame.code.as_u16());
            seen.send(format!("peer_close {code:?}"))
                .unwrap_or_default();
            conn.send_utf8("one last word")?;
            conn.disconnect(4001, "mine")?;
            assert_eq!(conn.send_utf8("never"), Err(SendError::Closing));
            Ok::<_, SendError>(())
        })
    });
    let mut client = server.ready();
    client.send_close(4000, "theirs");
    client.expect_text("one last word");
    assert_eq!(client.expect_close(4001), "mine");
    client.expect_eof();
    log.expect(&["connect", "ready", "peer_close Some(4000)"]);
    log.expect(&["disconnect 4000 (closed by the peer) theirs"]);
}

#[test]
fn both_sides_may_close_at_once() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender).on(Utf8, |conn, _| conn.disconnect(4001, "server"))
    });
    let mut client = server.ready();
    // The client has sent its Close frame before it receives the server's.
    client.send_raw([frame(0x81, b"close"), frame(0x88, b"\x0f\xa2client")].concat());
    let close = Frame {
        first: 0x88,
        payload: b"\x0f\xa1server".to_vec(),
    };
    assert_eq!(client.read_frame(), close);
    client.expect_eof();
    log.expect(&[
        "connect",
        "ready",
        "disconnect 4001 (closed by the server) server",
    ]);
    // There was only one `Disconnect`.
    server.ready().send_close(1000, "");
    log.expect(&["connect", "ready", "peer_close 1000 "]);
}

#[test]
fn a_farewell_to_one_who_closes_comes_before_our_close() {
    let server =
        Running::start(|builder| builder.on(PeerClose, |conn, _| conn.send_utf8("good bye")));
    let mut client = server.ready();
    client.send_close(4000, "bye");
    client.expect_text("good bye");
    assert_eq!(client.expect_close(4000), "bye");
    client.expect_eof();
}
