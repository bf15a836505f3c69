//! The functions that send: what they send, what they return, and which calls fail without sending
//! anything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support::Running;
use wsloop::event::*;
use wsloop::{CloseCode, OpCode, Phase, Prepared, SendError, Sent};

#[test]
fn by_kind() {
    let server = Running::start(|builder| {
        builder.on(Ready, |conn, ()| {
            assert_eq!(
                conn.send(OpCode::Text, "é".as_bytes()).map(Sent::bytes),
                Ok(4)
            );
            assert_eq!(conn.send(OpCode::Text, b"\xff"), Err(SendError::BadUtf8));
            assert_eq!(conn.send(OpCode::Binary, b"\xff").map(Sent::bytes), Ok(3));
            assert_eq!(conn.send(OpCode::Ping, b"a").map(Sent::bytes), Ok(3));
            assert_eq!(conn.send(OpCode::Pong, b"").map(Sent::bytes), Ok(2));
            let continuation = conn.send(OpCode::Continuation, b"x");
            assert_eq!(continuation, Err(SendError::BadFrame));
            for bad in [&b"\x03"[..], b"\x03\xee", b"\x03\xe8\xff"] {
                assert_eq!(conn.send(OpCode::Close, bad), Err(SendError::BadFrame));
            }
            assert!(conn.is_ready());
            assert_eq!(
                conn.send(OpCode::Close, b"\x0f\xa0bye").map(Sent::bytes),
                Ok(7)
            );
            assert_eq!(conn.phase(), Phase::Closing);
            assert_eq!(conn.send(OpCode::Text, b""), Err(SendError::Closing));
        })
    });
    let mut client = server.ready();
    client.expect_text("é");
    client.expect_frame(0x82, [0xff]);
    client.expect_frame(0x89, "a");
    client.expect_frame(0x8a, "");
    assert_eq!(client.expect_close(4000), "bye");
}

#[test]
fn a_close_without_a_code() {
    let server = Running::start(|builder| {
        builder.on(Ready, |conn, ()| conn.send(OpCode::Close, b"").map(drop))
    });
    let mut client = server.ready();
    client.expect_frame(0x88, "");
    let server = Running::start(|builder| {
        builder.on(Ready, |conn, ()| conn.disconnect(CloseCode::NO_STATUS, ""))
    });
    server.ready().expect_frame(0x88, "");
}

#[test]
fn control_frames_up_to_125_bytes() {
    let server = Running::start(|builder| {
        builder.on(Ready, |conn, ()| {
            assert_eq!(conn.ping([b'p'; 125]).map(Sent::bytes), Ok(127));
            assert_eq!(conn.pong([b'q'; 125]).map(Sent::bytes), Ok(127));
            let long = SendError::ControlTooLong { size: 126 };
            assert_eq!(conn.ping([0; 126]), Err(long));
            assert_eq!(conn.pong([0; 126]), Err(long));
            assert_eq!(conn.send(OpCode::Ping, &[0; 126]), Err(long));
            let reason = "r".repeat(124);
            assert_eq!(conn.disconnect(1000, &reason), Err(long));
            for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
                let result = conn.disconnect(code, "reason");
                assert_eq!(result, Err(SendError::BadCloseCode(code)));
            }
            assert!(conn.is_ready(), "nothing was done");
            conn.disconnect(1000, &reason[1..])
        })
    });
    let mut client = server.ready();
    client.expect_frame(0x89, [b'p'; 125]);
    client.expect_frame(0x8a, [b'q'; 125]);
    assert_eq!(client.expect_close(1000), "r".repeat(123));
}

#[test]
fn sizes_are_checked_before_anything_is_sent() {
    let server = Running::start(|builder| {
        builder.max_send_size(1000).on(Ready, |conn, ()| {
            let big = SendError::TooBig {
                size: 1001,
                limit: 1000,
            };
            let text = "x".repeat(1001);
            assert_eq!(conn.send_utf8(&text), Err(big));
            assert_eq!(conn.send_binary(text.as_bytes()), Err(big));
            assert_eq!(conn.send(OpCode::Text, text.as_bytes()), Err(big));
            assert_eq!(conn.send_prepared(&Prepared::text(&text)), Err(big));
            assert_eq!(conn.server().broadcast_utf8(&text), Err(big));
            assert_eq!(conn.server().broadcast_binary(text.as_bytes()), Err(big));
            let prepared = Prepared::binary(text.as_bytes());
            assert_eq!(conn.server().broadcast_prepared(&prepared), Err(big));
            // The largest message is sent, with a header of four bytes.
            assert_eq!(conn.send_utf8(&text[1..]).map(Sent::bytes), Ok(1004));
        })
    });
    server.ready().expect_text(&"x".repeat(1000));
}

#[test]
fn prepared_messages_go_to_any_connection_any_number_of_times() {
    let server = Running::start(|builder| {
        let text = Prepared::text("prepared");
        let large = Prepared::binary(&[9; 40_000]);
        builder.on(Ready, move |conn, ()| {
            conn.send_prepared(&text)?;
            conn.send_prepared(&large)?;
            conn.send_utf8("between")?;
            conn.send_prepared(&text)
        })
    });
    for _ in 0..3 {
        let mut client = server.ready();
        client.expect_text("prepared");
        client.expect_frame(0x82, [9; 40_000]);
        client.expect_text("between");
        client.expect_text("prepared");
    }
}

#[test]
fn order_is_kept_whatever_the_sizes_and_ways() {
    // Small messages are collected, large ones are sent at once, and those of a broadcast are
    // shared.
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, _| {
            let id = conn.id();
            for size in [1, 9000, 3, 70_000, 5, 8191, 8192, 7] {
                conn.set_max_send_size(1 << 20);
                conn.send_binary(&vec![1; size])?;
                conn.server().broadcast_binary(&vec![2; size % 65_537])?;
                let mut hub = conn.server();
                let mut same = hub.get(id).unwrap();
                same.send_binary(&vec![3; size])?;
                conn.ping(b"4")?;
            }
            Ok::<_, SendError>(())
        })
    });
    let mut client = server.ready();
    let mut other = server.ready();
    client.send_text("go");
    for size in [1, 9000, 3, 70_000, 5, 8191, 8192, 7] {
        client.expect_frame(0x82, vec![1; size]);
        client.expect_frame(0x82, vec![2; size % 65_537]);
        client.expect_frame(0x82, vec![3; size]);
        client.expect_frame(0x89, "4");
        other.expect_frame(0x82, vec![2; size % 65_537]);
    }
}
