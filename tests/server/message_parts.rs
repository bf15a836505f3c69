//! Messages in parts: several frames over time, several frames at once, or one frame from several
//! slices.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support::{self, Running};
use wsloop::event::*;
use wsloop::{Compress, Connection, OpCode, Outgoing, Prepared, SendError, Sent};

/// Starts a server that runs `action` when the client says "go".
fn on_go(
    action: impl Fn(&mut Connection<'_>) -> Result<(), SendError> + Send + 'static,
) -> Running {
    Running::start(move |builder| {
        builder
            .max_backlog(64 << 20)
            .on(Utf8, move |conn, text| match text {
                "go" => action(conn),
                text => conn.send_utf8(text).map(drop),
            })
    })
}

#[test]
fn in_one_handler() {
    let server = on_go(|conn| {
        conn.start_message(OpCode::Text, Compress::Auto)?;
        assert!(conn.is_message_under_way());
        assert_eq!(conn.send_part("one, ").map(Sent::bytes), Ok(7));
        assert_eq!(conn.send_part("").map(Sent::bytes), Ok(0));
        assert_eq!(
            conn.send_part(vec![b'x'; 10_000]).map(Sent::bytes),
            Ok(10_004)
        );
        assert_eq!(conn.ping(b"between").map(Sent::bytes), Ok(9));
        assert_eq!(conn.end_message("three").map(Sent::bytes), Ok(7));
        assert!(!conn.is_message_under_way());
        conn.start_message(OpCode::Binary, Compress::Auto)?;
        assert_eq!(conn.end_message(b"\xff").map(Sent::bytes), Ok(3));
        conn.start_message(OpCode::Text, Compress::Auto)?;
        assert_eq!(conn.end_message("").map(Sent::bytes), Ok(2));
        Ok(())
    });
    let mut client = server.ready();
    client.send_text("go");
    client.expect_frame(0x01, "one, ");
    client.expect_frame(0x00, [b'x'; 10_000]);
    client.expect_frame(0x89, "between");
    client.expect_frame(0x80, "three");
    client.expect_frame(0x82, [0xff]);
    client.expect_frame(0x81, "");
    client.expect_alive();
    drop(client);
    assert_eq!(server.stop().messages_out, 4);
}

#[test]
fn over_many_handlers_with_control_frames_between() {
    let server = Running::start(|builder| {
        builder
            .on(Ready, |conn, ()| {
                conn.start_message(OpCode::Text, Compress::Auto)
            })
            .on(Utf8, |conn, text| match text {
                "end" => conn.end_message("."),
                text => conn.send_part(text),
            })
            .on(Binary, |conn, data| {
                // None of these calls may interrupt the message in parts.
                let refused = Err(SendError::MessageUnderWay);
                let prepared = Prepared::binary(data);
                assert_eq!(conn.send_binary(data), refused);
                assert_eq!(conn.send_utf8(""), refused);
                assert_eq!(conn.send_prepared(&prepared), refused);
                assert_eq!(
                    conn.send_message(Outgoing::parts(OpCode::Text, &["a"])),
                    refused
                );
                assert_eq!(
                    conn.send_message(Outgoing::parts(OpCode::Text, &["a"]).in_frames()),
                    refused
                );
                let again = conn.start_message(OpCode::Text, Compress::Auto);
                assert_eq!(again, Err(SendError::MessageUnderWay));
                assert_eq!(
                    conn.server().broadcast_utf8("all").map(Sent::receivers),
                    Ok(0)
                );
                let id = conn.id();
                let handle = conn.server().handle();
                handle.send_utf8(id, "another thread")?;
                conn.pong(b"done").map(drop)
            })
    });
    let mut client = server.ready();
    for (at, text) in ["a", "b", "c"].into_iter().enumerate() {
        client.send_text(text);
        client.expect_frame(if at == 0 { 0x01 } else { 0x00 }, text);
        client.send_frame(0x89, "ping");
        client.expect_frame(0x8a, "ping");
        client.send_frame(0x82, "x");
        client.expect_frame(0x8a, "done");
    }
    client.send_text("end");
    client.expect_frame(0x80, ".");
}

#[test]
fn text_is_text_over_all_parts() {
    let server = on_go(|conn| {
        let euro = "€".as_bytes();
        conn.start_message(OpCode::Text, Compress::Auto)?;
        conn.send_part(&euro[..1])?;
        assert_eq!(conn.send_part("a"), Err(SendError::BadUtf8));
        assert_eq!(conn.end_message(&euro[1..2]), Err(SendError::BadUtf8));
        assert_eq!(conn.send_part(&euro[1..2]).map(Sent::bytes), Ok(3));
        // The refused part has not changed the message.
        assert_eq!(conn.end_message([euro[2], b'!']).map(Sent::bytes), Ok(4));

        let parts = [&euro[..2], &euro[2..]];
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Text, &parts))
                .map(Sent::bytes),
            Ok(5)
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Text, &parts).in_frames())
                .map(Sent::bytes),
            Ok(7)
        );
        let cut = [euro, &euro[..1]];
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Text, &cut)),
            Err(SendError::BadUtf8)
        );
        let result = conn.send_message(Outgoing::parts(OpCode::Text, &cut).in_frames());
        assert_eq!(result, Err(SendError::BadUtf8));
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Binary, &cut))
                .map(Sent::bytes),
            Ok(6)
        );
        Ok(())
    });
    let mut client = server.ready();
    client.send_text("go");
    client.expect_frame(0x01, [0xe2]);
    client.expect_frame(0x00, [0x82]);
    client.expect_frame(0x80, [0xac, b'!']);
    client.expect_text("€");
    client.expect_frame(0x01, [0xe2, 0x82]);
    client.expect_frame(0x80, [0xac]);
    client.expect_frame(0x82, [0xe2, 0x82, 0xac, 0xe2]);
    client.expect_alive();
}

#[test]
fn sizes_are_those_of_all_parts() {
    let server = on_go(|conn| {
        conn.set_max_send_size(10);
        let big = |size| SendError::TooBig { size, limit: 10 };
        conn.start_message(OpCode::Binary, Compress::Auto)?;
        assert_eq!(conn.send_part([1; 11]), Err(big(11)));
        conn.send_part([1; 6])?;
        assert_eq!(conn.send_part([1; 5]), Err(big(11)));
        assert_eq!(conn.end_message([1; 6]), Err(big(12)));
        conn.end_message([1; 4])?;
        let parts = [[2; 6], [2; 6]];
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Binary, &parts)),
            Err(big(12))
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Binary, &parts).in_frames()),
            Err(big(12))
        );
        let parts = [&[2; 6][..], &[2; 4], &[]];
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Binary, &parts))
                .map(Sent::bytes),
            Ok(12)
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Binary, &parts).in_frames())
                .map(Sent::bytes),
            Ok(14)
        );
        Ok(())
    });
    let mut client = server.ready();
    client.send_text("go");
    client.expect_frame(0x02, [1; 6]);
    client.expect_frame(0x80, [1; 4]);
    client.expect_frame(0x82, [2; 10]);
    client.expect_frame(0x02, [2; 6]);
    client.expect_frame(0x80, [2; 4]);
    client.expect_alive();
}

#[test]
fn empty_parts_have_no_frame_unless_all_are() {
    let server = on_go(|conn| {
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Text, &["", "a", "", "b", ""]).in_frames())
                .map(Sent::bytes),
            Ok(6)
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Text, &["", "c"]).in_frames())
                .map(Sent::bytes),
            Ok(3)
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Text, &["", ""]).in_frames())
                .map(Sent::bytes),
            Ok(2)
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Binary, &[""; 0]).in_frames())
                .map(Sent::bytes),
            Ok(2)
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Text, &["", ""]))
                .map(Sent::bytes),
            Ok(2)
        );
        assert_eq!(
            conn.send_message(Outgoing::parts(OpCode::Binary, &[""; 0]))
                .map(Sent::bytes),
            Ok(2)
        );
        Ok(())
    });
    let mut client = server.ready();
    client.send_text("go");
    client.expect_frame(0x01, "a");
    client.expect_frame(0x80, "b");
    client.expect_text("c");
    client.expect_text("");
    client.expect_frame(0x82, "");
    client.expect_text("");
    client.expect_frame(0x82, "");
    client.expect_alive();
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let server = Running::start(|builder| {
        builder
            .on(Connect, |conn, ()| {
                let early = Err(SendError::NotReady);
                assert_eq!(conn.start_message(OpCode::Text, Compress::Auto), early);
                assert_eq!(
                    conn.send_message(Outgoing::parts(OpCode::Text, &["a"]))
                        .map(drop),
                    early
                );
                assert_eq!(
                    conn.send_message(Outgoing::parts(OpCode::Text, &["a"]).in_frames())
                        .map(drop),
                    early
                );
                assert_eq!(conn.when_sent(|_, _| ()), early);
            })
            .on(Ready, |conn, ()| {
                assert_eq!(conn.send_part("a"), Err(SendError::NoMessage));
                assert_eq!(conn.end_message("a"), Err(SendError::NoMessage));
                for opcode in [
                    OpCode::Ping,
                    OpCode::Pong,
                    OpCode::Close,
                    OpCode::Continuation,
                ] {
                    let bad = Err(SendError::BadFrame);
                    assert_eq!(conn.start_message(opcode, Compress::Auto), bad);
                    assert_eq!(
                        conn.send_message(Outgoing::parts(opcode, &["a"])).map(drop),
                        bad
                    );
                    assert_eq!(
                        conn.send_message(Outgoing::parts(opcode, &["a"]).in_frames())
                            .map(drop),
                        bad
                    );
                }
                // A close does not wait for the end of a message.
                conn.start_message(OpCode::Text, Compress::Auto)?;
                conn.send_part("unfinished")?;
                conn.disconnect(4000, "enough")?;
                assert_eq!(conn.send_part("a"), Err(SendError::Closing));
                assert_eq!(
                    conn.start_message(OpCode::Text, Compress::Auto),
                    Err(SendError::Closing)
                );
                Ok::<_, SendError>(())
            })
    });
    let mut client = server.ready();
    client.expect_frame(0x01, "unfinished");
    assert_eq!(client.expect_close(4000), "enough");
    client.send_close(4000, "");
    client.expect_eof();
}

#[test]
fn many_parts_of_every_size_arrive_whole() {
    let server = on_go(|conn| {
        conn.set_max_send_size(usize::MAX);
        let parts: Vec<Vec<u8>> = (0..200).map(|at| vec![at as u8; at * at]).collect();
        conn.send_message(Outgoing::parts(OpCode::Binary, &parts))?;
        conn.send_message(Outgoing::parts(OpCode::Binary, &parts).in_frames())?;
        conn.start_message(OpCode::Binary, Compress::Auto)?;
        for part in &parts {
            conn.send_part(part)?;
        }
        conn.end_message("").map(drop)
    });
    let mut client = server.ready();
    client.send_text("go");
    let parts: Vec<Vec<u8>> = (0..200).map(|at| vec![at as u8; at * at]).collect();
    assert!(client.read_frame().payload == parts.concat());
    for ends in [true, false] {
        for (at, part) in parts.iter().enumerate().skip(1) {
            let frame = client.read_frame();
            let fin = u8::from(ends && at == 199) << 7;
            assert_eq!(frame.first, fin | if at == 1 { 2 } else { 0 });
            assert!(frame.payload == *part);
        }
    }
    client.expect_frame(0x80, "");
    client.expect_alive();
}

#[test]
fn another_connection_is_sent_parts_by_its_id() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        builder.on(Ready, move |conn, ()| sender.send(conn.id().to_string()))
    });
    let mut client = server.ready();
    log.next();
    for part in ["a", "b"] {
        let send = move |hub: &mut wsloop::Hub<'_>| {
            for id in hub.ids() {
                let mut conn = hub.get(id).unwrap();
                if !conn.is_message_under_way() {
                    conn.start_message(OpCode::Text, Compress::Auto).unwrap();
                }
                conn.send_part(part).unwrap();
            }
        };
        server.handle.run(send).unwrap();
    }
    client.expect_frame(0x01, "a");
    client.expect_frame(0x00, "b");
}
