//! A broadcast reaches all connections that are ready, and no others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpStream;

use crate::support;
use crate::support::{Client, PATIENCE, Running};
use socket2::{Domain, SockRef, Socket, Type};
use wsloop::event::*;
use wsloop::{Prepared, Sent, SlowConsumer};

#[test]
fn all_that_are_ready_are_reached_in_order() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, _| {
            let mut hub = conn.server();
            assert_eq!((hub.len(), hub.is_empty()), (5, false));
            let mut ids = hub.ids();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 5);
            let mut visited = Vec::new();
            hub.for_each(|conn| visited.push(conn.id()));
            visited.sort();
            assert_eq!(visited, ids);

            assert_eq!(hub.broadcast_utf8("text").map(Sent::receivers), Ok(5));
            assert_eq!(hub.broadcast_binary(b"binary").map(Sent::receivers), Ok(5));
            let large = Prepared::binary(&[7; 50_000]);
            assert_eq!(hub.broadcast_prepared(&large).map(Sent::receivers), Ok(5));
            assert_eq!(hub.broadcast_utf8("").map(Sent::receivers), Ok(5));
        })
    });
    let mut clients: Vec<_> = (0..5).map(|_| server.ready()).collect();
    // One client is connected but not ready.
    let mut waiting = server.client();
    clients[2].send_text("go");
    for client in &mut clients {
        client.expect_text("text");
        client.expect_frame(0x82, "binary");
        client.expect_frame(0x82, [7; 50_000]);
        client.expect_text("");
    }
    // This client did not receive the broadcasts; the first bytes that it receives are its 101.
    waiting.upgrade();
}

#[test]
fn nobody_is_reached_when_nobody_is_there() {
    let server = Running::start(|builder| {
        builder
            .on(Start, |hub, ()| {
                assert_eq!(hub.broadcast_utf8("to nobody").map(Sent::receivers), Ok(0));
                assert_eq!((hub.len(), hub.is_empty()), (0, true));
                assert!(hub.ids().is_empty());
                hub.for_each(|_| panic!("nobody is there"));
                *hub.shared::<bool>() = true;
            })
            .on(Ready, |conn, ()| {
                let called = conn.server().shared::<bool>().to_string();
                conn.send_utf8(&called)
            })
    });
    server.ready().expect_text("true");
}

#[test]
fn one_with_a_smaller_limit_is_passed_over() {
    let server = Running::start(|builder| {
        let mut first = true;
        builder
            .on(Ready, move |conn, ()| {
                if std::mem::take(&mut first) {
                    conn.set_max_send_size(4);
                }
            })
            .on(Utf8, |conn, _| {
                assert_eq!(
                    conn.server().broadcast_utf8("12345").map(Sent::receivers),
                    Ok(1)
                );
                assert_eq!(
                    conn.server().broadcast_utf8("1234").map(Sent::receivers),
                    Ok(2)
                );
            })
    });
    let (mut narrow, mut wide) = (server.ready(), server.ready());
    wide.send_text("go");
    wide.expect_text("12345");
    wide.expect_text("1234");
    narrow.expect_text("1234");
}

#[test]
fn one_that_does_not_read_holds_up_nobody() {
    const SIZE: usize = 64 << 10;
    for policy in [
        SlowConsumer::Error,
        SlowConsumer::Close,
        SlowConsumer::DropNewest,
    ] {
        let (sender, log) = support::log();
        let server = Running::start(move |builder| {
            support::echo(builder)
                .slow_consumer(policy)
                .max_backlog(4 * SIZE)
                .on(Connect, |conn, ()| {
                    let socket = conn.socket().unwrap();
                    SockRef::from(&socket).set_send_buffer_size(SIZE)
                })
                .on(Binary, move |conn, data| {
                    let reached = conn.server().broadcast_binary(data).unwrap();
                    sender.send(reached.receivers().to_string())
                })
        });
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(SIZE).unwrap();
        socket.connect(&server.addr.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut slow = Client::over(stream);
        slow.upgrade();
        let mut quick = server.ready();
        let mut reached = Vec::new();
        for round in 0..64 {
            quick.send_frame(0x82, [round; SIZE]);
            quick.expect_frame(0x82, [round; SIZE]);
            reached.push(log.next());
        }
        assert_eq!(reached[0], "2");
        // Whatever the policy, a connection does not count if nothing was queued for it.
        assert_eq!(reached[63], "1", "{policy:?}");
        // The messages that were queued before arrive complete and in order.
        let mut round = 0;
        loop {
            if policy == SlowConsumer::Close {
                let frame = slow.read_frame();
                if frame.first == 0x88 {
                    assert_eq!(&frame.payload[..2], 1008u16.to_be_bytes());
                    break;
                }
                assert!(frame.payload == [round; SIZE], "{policy:?}");
            } else {
                slow.expect_frame(0x82, [round; SIZE]);
                if round == 3 {
                    break;
                }
            }
            round += 1;
        }
        assert!(round >= 3, "{policy:?}");
    }
}
