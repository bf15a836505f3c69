//! `Fragment` delivers messages in pieces that are larger than the memory or than `max_recv_size`.

use std::sync::mpsc::Sender;

use crate::support::{Log, Running, frame, log, recorded};
use wsloop::Builder;
use wsloop::event::Fragment;

/// Records pieces when they arrive.
fn in_pieces(builder: Builder, sender: &Sender<String>) -> Builder {
    let pieces = sender.clone();
    recorded(builder, sender)
        .max_recv_size(1000)
        .max_fragments(3)
        .on(Fragment, move |_, piece| {
            let text = String::from_utf8_lossy(piece.payload);
            let edges = (piece.first, piece.last);
            pieces.send(format!("{:?} {edges:?} {text}", piece.opcode))
        })
}

/// Joins the pieces of one message, and checks that they start and end correctly.
fn whole(log: &Log) -> (String, usize) {
    let mut text = String::new();
    for count in 1.. {
        let entry = log.next();
        let mut words = entry.splitn(4, ' ');
        let edges = [
            words.nth(1).unwrap_or_default(),
            words.next().unwrap_or_default(),
        ];
        assert_eq!(edges[0] == "(true,", count == 1, "{entry}");
        text.push_str(words.next().unwrap_or_default());
        if edges[1] == "true)" {
            return (text, count);
        }
    }
    unreachable!("the log ends first")
}

#[test]
fn fragments_come_one_by_one() {
    let (sender, log) = log();
    let server = Running::start(move |builder| in_pieces(builder, &sender));
    let mut client = server.ready();
    log.expect(&["connect", "ready"]);
    client.send_raw(
        [
            frame(0x81, b"whole"),
            frame(0x01, b"a"),
            frame(0x00, b""),
            frame(0x89, b"ping"),
            frame(0x00, b"b"),
            frame(0x80, b"c"),
            frame(0x82, b"whole, too"),
            frame(0x02, b""),
            frame(0x80, b""),
        ]
        .concat(),
    );
    log.expect(&[
        "utf8 whole",
        "Text (true, false) a",
        "ping ping",
        "Text (false, false) b",
        "Text (false, true) c",
        "binary 10",
        "Binary (true, true) ",
    ]);
}

#[test]
fn a_message_larger_than_allowed_comes_in_pieces() {
    let (sender, log) = log();
    let server = Running::start(move |builder| in_pieces(builder, &sender));
    let mut client = server.ready();
    log.expect(&["connect", "ready"]);
    let text = "0123456789".repeat(500_000);
    client.send_text(&text);
    let (whole_text, count) = whole(&log);
    assert!(whole_text == text && count > 1);
    // There are more frames than `max_fragments`, and more bytes than `max_recv_size`.
    client.send_frame(0x01, "x");
    for _ in 0..5000 {
        client.send_frame(0x00, "y");
    }
    client.send_frame(0x80, "z");
    let (text, count) = whole(&log);
    assert_eq!((text.len(), count), (5002, 5002));
    client.send_text("small");
    log.expect(&["utf8 small"]);
}

#[test]
fn text_is_checked_over_its_pieces() {
    let (sender, log) = log();
    let server = Running::start(move |builder| in_pieces(builder, &sender));
    // A character that is split between pieces is valid.
    let mut client = server.ready();
    client.send_frame(0x01, b"\xe2\x82");
    client.send_frame(0x80, b"\xac");
    client.expect_alive();
    for wrong in [
        [frame(0x01, b"a\xe2"), frame(0x80, b"b")].concat(),
        [frame(0x01, b"a"), frame(0x80, b"\xe2\x82")].concat(),
        frame(0x01, b"\xff"),
    ] {
        let mut client = server.ready();
        client.send_raw(wrong);
        client.expect_close(1007);
    }
    drop(log);
}

#[test]
fn the_protocol_is_held_to_between_pieces() {
    let (sender, log) = log();
    let server = Running::start(move |builder| in_pieces(builder, &sender));
    for wrong in [
        [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
        [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat(),
        [frame(0x01, b"a"), frame(0xc0, b"b")].concat(),
        frame(0x80, b"a"),
    ] {
        let mut client = server.ready();
        client.send_raw(wrong);
        client.expect_close(1002);
    }
    // A message that does not end.
    let mut client = server.ready();
    client.send_frame(0x01, b"begun");
    drop(client);
    drop(log);
    let stats = server.stop();
    assert_eq!(stats.messages_in, 1, "the one that ended");
}

#[test]
fn one_connection_alone_may_want_pieces() {
    use wsloop::event::Ready;
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let pieces = sender.clone();
        recorded(builder, &sender).on(Ready, move |conn, ()| {
            if conn
                .request_uri()
                .is_some_and(|uri| uri.path() == "/pieces")
            {
                let pieces = pieces.clone();
                conn.on(Fragment, move |_, piece| {
                    pieces.send(format!("piece {:?}", piece.payload))
                });
            }
        })
    });
    let mut client = server.client();
    let request = crate::support::REQUEST.replace("/chat", "/pieces");
    assert_eq!(client.request(request).status, 101);
    client.send_frame(0x02, [1]);
    client.send_frame(0x80, [2]);
    log.expect(&["connect", "piece [1]", "piece [2]"]);
    let mut client = server.ready();
    client.send_frame(0x02, [1]);
    client.send_frame(0x80, [2]);
    log.expect(&["connect", "binary 2"]);
}
