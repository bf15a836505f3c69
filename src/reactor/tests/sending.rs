//! Messages in parts, completion callbacks, and the policies for a full backlog.

use std::sync::Arc;

use super::*;
use crate::limits::Limits;
use crate::protocol::Prepared;

fn at<'w>(world: &'w mut World, client: &Client) -> Connection<'w> {
    Connection::new(&mut world.reactor.core, client.tag & SLOTS)
}

/// Creates a world whose connections may have `max_backlog` bytes queued.
fn limited(max_backlog: usize, slow_consumer: SlowConsumer) -> World {
    let limits = Limits {
        max_backlog,
        ..Limits::default()
    };
    World::new(Config {
        limits,
        slow_consumer,
        ..Config::default()
    })
}

/// Returns a callback that logs what became of a message.
fn told(
    log: &Log,
    name: &str,
) -> impl FnOnce(&mut Connection<'_>, Result<(), SendError>) + use<> + 'static {
    let (log, name) = (log.clone(), name.to_owned());
    move |_, result| {
        log.borrow_mut().push(match result {
            Ok(()) => format!("sent {name}"),
            Err(error) => format!("{name}: {error}"),
        });
    }
}

/// Has the client take all data, and returns it.
fn take_all(world: &mut World, client: &Client) -> Vec<u8> {
    client.set_room(None);
    world.news(client, false, false);
    while world.reactor.next_deadline() == Some(0) {
        world.turn();
    }
    client.take()
}

#[test]
fn who_waits_is_told_in_order_after_the_handler_returned() {
    let mut world = World::new(Config::default());
    let log = world.log.clone();
    world.reactor.handlers.set::<Utf8, _>(move |conn, text| {
        conn.send_message(Outgoing::text(text).then(told(&log, "text")))?;
        conn.send_utf8("between")?;
        conn.send_message(Outgoing::binary(&[7; 20_000]).then(told(&log, "large")))?;
        conn.send_message(Outgoing::prepared(&Prepared::text("p")).then(told(&log, "prepared")))?;
        conn.ping(b"")?;
        conn.when_sent(told(&log, "ping"))?;
        conn.when_sent(told(&log, "nothing more"))?;
        log.borrow_mut().push("returned".into());
        Ok::<_, SendError>(())
    });
    let client = world.ready();
    let writes = client.calls().1;
    world.send(&client, &frame(0x81, b"hi"));
    let expected = [
        "returned",
        "sent text",
        "sent large",
        "sent prepared",
        "sent ping",
        "sent nothing more",
    ];
    assert_eq!(world.take_log(), expected);
    assert_eq!(client.calls().1 - writes, 1);
    let sent = client.take();
    assert!(sent.starts_with(b"\x81\x02hi\x81\x07between\x82"));
    assert!(sent.ends_with(b"\x81\x01p\x89\x00"));
    // The connection is on the fast path again.
    assert!(world.reactor.core.peers[client.tag & SLOTS].is_quiet());
}

#[test]
fn who_waits_is_told_when_the_kernel_took_the_last_byte() {
    let mut world = World::new(Config::default());
    let log = world.log.clone();
    let client = world.ready();
    client.set_room(Some(3));
    let mut conn = at(&mut world, &client);
    assert_eq!(
        conn.send_message(Outgoing::text("12345678").then(told(&log, "a")))
            .map(Sent::bytes),
        Ok(10)
    );
    assert_eq!(
        conn.send_message(Outgoing::text("12345678").then(told(&log, "b")))
            .map(Sent::bytes),
        Ok(10)
    );
    assert_eq!(conn.send_utf8("12345678").map(Sent::bytes), Ok(10));
    world.turn();
    for (room, expected) in [
        (6, &[][..]),
        (1, &["sent a"]),
        (9, &[]),
        (2, &["sent b"]),
        (8, &[]),
        (1, &["drain"]),
    ] {
        client.set_room(Some(room));
        world.news(&client, false, false);
        assert_eq!(world.take_log(), expected, "room for {room}");
    }
    assert_eq!(client.take().len(), 30);
}

#[test]
fn who_waits_may_send_and_wait_again_once_in_a_turn() {
    fn stream(conn: &mut Connection<'_>) -> Result<(), SendError> {
        *conn.shared::<usize>() += 1;
        conn.send_message(Outgoing::binary(&[7; 10_000]).then(|conn, result| {
            result?;
            stream(conn)
        }))?;
        Ok(())
    }
    let mut world = World::new(Config::default());
    world
        .reactor
        .handlers
        .set::<Ready, _>(|conn, ()| stream(conn));
    let client = world.connect();
    world.send(&client, REQUEST);
    let count = |world: &mut World| *Hub::new(&mut world.reactor.core).shared::<usize>();
    for _ in 0..50 {
        let before = count(&mut world);
        assert_eq!(
            world.reactor.next_deadline(),
            Some(0),
            "it goes on by itself"
        );
        world.turn();
        let more = count(&mut world) - before;
        assert!((1..=2).contains(&more), "{more} in one turn");
    }
}

#[test]
fn two_whose_completions_send_to_each_other_do_not_hold_up_the_turn() {
    fn play(conn: &mut Connection<'_>) -> Result<(), SendError> {
        *conn.shared::<usize>() += 1;
        conn.send_message(Outgoing::binary(&[7; 100]).then(|conn, result| {
            result?;
            let (me, hub) = (conn.id(), &mut conn.server());
            let mut others = Vec::new();
            hub.for_each(|conn| others.push(conn.id()));
            others.retain(|id| *id != me);
            others
                .first()
                .and_then(|id| hub.get(*id))
                .map_or(Ok(()), |mut other| play(&mut other))
        }))?;
        Ok(())
    }
    let mut world = World::new(Config::default());
    let clients = [world.ready(), world.ready()];
    world.reactor.handlers.set::<Utf8, _>(|conn, _| play(conn));
    let third = world.ready();
    world.send(&clients[0], &frame(0x81, b"begin"));
    let mut before = 0;
    for _ in 0..50 {
        // The exchange continues from turn to turn, and others are served.
        world.send(&third, &frame(0x89, b""));
        let count = *Hub::new(&mut world.reactor.core).shared::<usize>();
        assert!(
            (1..100).contains(&(count - before)),
            "{count} after {before}"
        );
        assert_eq!(third.take(), b"\x8a\x00");
        before = count;
    }
}

#[test]
fn what_is_cut_when_a_message_was_sent_sends_nothing_more() {
    // By a completion callback, or at `Drain`.
    for at_drain in [false, true] {
        let mut world = World::new(Config::default());
        if at_drain {
            world.reactor.handlers.set::<Drain, _>(|conn, ()| {
                conn.send_utf8("never")?;
                conn.abort();
                Ok::<_, SendError>(())
            });
        }
        let client = world.ready();
        client.set_room(Some(3));
        let mut conn = at(&mut world, &client);
        if at_drain {
            assert!(conn.send_utf8("hi").is_ok());
        } else {
            let cut = |conn: &mut Connection<'_>, _| {
                conn.send_utf8("never")?;
                conn.abort();
                Ok::<_, SendError>(())
            };
            assert!(conn.send_message(Outgoing::text("hi").then(cut)).is_ok());
        }
        world.turn();
        assert_eq!(take_all(&mut world, &client), b"\x81\x02hi");
        assert_eq!(
            world.take_log(),
            ["disconnect 1006 (cut by the server), 7 bytes unsent"]
        );
        assert!(world.is_empty());
    }
}

#[test]
fn who_waits_is_told_of_the_end_before_the_disconnect() {
    // Whatever ends the connection.
    type End = fn(&mut World, &Client);
    let ends: [(End, &str); 5] = [
        (|world, client| at(world, client).abort(), "cut"),
        (
            |world, client| {
                client.fail_next(io::ErrorKind::BrokenPipe);
                world.news(client, false, false);
            },
            "network error",
        ),
        (
            |world, client| world.send(client, b"\x81\x00"),
            "client frame is not masked",
        ),
        (
            |world, client| {
                client.arrive_fin();
                world.news(client, true, true);
            },
            "connection ended without a Close frame",
        ),
        (|world, _| world.reactor.cut_all(), "the server shut down"),
    ];
    for (end, why) in ends {
        let mut world = World::new(Config::default());
        let log = world.log.clone();
        let client = world.ready();
        client.set_room(Some(4));
        let mut conn = at(&mut world, &client);
        assert!(
            conn.send_message(Outgoing::text("hi").then(told(&log, "first")))
                .is_ok()
        );
        assert!(
            conn.send_message(Outgoing::text("never").then(told(&log, "second")))
                .is_ok()
        );
        let again = move |conn: &mut Connection<'_>, result: Result<(), SendError>| {
            assert_eq!(result, Err(SendError::Gone));
            assert_eq!(conn.send_utf8("late"), Err(SendError::Closing));
            assert_eq!(conn.when_sent(|_, _| ()), Err(SendError::Closing));
        };
        assert!(conn.when_sent(again).is_ok());
        world.turn();
        end(&mut world, &client);
        world.turn();
        let log = world.take_log();
        let log: Vec<&str> = log
            .iter()
            .map(String::as_str)
            .filter(|entry| !entry.starts_with("error") && !entry.starts_with("peer close"))
            .collect();
        assert_eq!(
            log[..2],
            [
                "sent first",
                "second: the connection or the server has ended"
            ]
        );
        assert!(log.len() == 3 && log[2].contains(why), "{log:?}");
    }
}

#[test]
fn the_last_reply_counts_as_sent_when_the_peer_closes_right_behind() {
    let mut world = World::new(Config::default());
    let log = world.log.clone();
    world.reactor.handlers.set::<Utf8, _>(move |conn, text| {
        conn.send_message(Outgoing::text(text).then(told(&log, "reply")))
    });
    let client = world.ready();
    let both = [frame(0x81, b"hi"), frame(0x88, b"\x03\xe8")].concat();
    world.send(&client, &both);
    assert_eq!(client.take(), b"\x81\x02hi\x88\x02\x03\xe8");
    let log = world.take_log();
    assert_eq!(log[1], "sent reply");
    assert!(log[2].starts_with("disconnect 1000"), "{log:?}");
}

#[test]
fn an_error_or_a_panic_of_who_was_told_closes_that_connection() {
    for panics in [false, true] {
        let mut world = World::new(Config::default());
        let client = world.ready();
        let fails = move |_: &mut Connection<'_>, _| {
            assert!(!panics, "a bug");
            Err::<(), _>("no")
        };
        let log = world.log.clone();
        let mut conn = at(&mut world, &client);
        assert!(conn.send_message(Outgoing::text("a").then(fails)).is_ok());
        assert!(
            conn.send_message(Outgoing::text("b").then(told(&log, "b")))
                .is_ok()
        );
        world.turn();
        assert_eq!(client.take(), b"\x81\x01a\x81\x01b\x88\x02\x03\xf3");
        let log = world.take_log();
        assert!(log[0].starts_with("error: handler failed"), "{log:?}");
        assert_eq!(log[1..], ["sent b"]);
    }
}

#[test]
fn drain_comes_once_at_the_mark() {
    let mut world = World::new(Config {
        drain_at: 1_000,
        ..Config::default()
    });
    let client = world.ready();
    for _ in 0..3 {
        client.set_room(Some(0));
        assert!(at(&mut world, &client).send_binary(&[7; 5_000]).is_ok());
        world.turn();
        for (room, expected) in [(4_003, &[][..]), (1, &["drain"]), (500, &[]), (500, &[])] {
            client.set_room(Some(room));
            world.news(&client, false, false);
            assert_eq!(world.take_log(), expected, "room for {room}");
        }
        assert_eq!(at(&mut world, &client).backlog(), 0);
    }
    // Less than the mark was left, so no `Drain` is due.
    client.set_room(Some(0));
    assert!(at(&mut world, &client).send_binary(&[7; 500]).is_ok());
    world.turn();
    take_all(&mut world, &client);
    assert_eq!(world.take_log(), [""; 0]);
    // The backlog rises again before it is empty.
    client.set_room(Some(0));
    at(&mut world, &client).set_drain_at(100);
    assert!(at(&mut world, &client).send_binary(&[7; 500]).is_ok());
    world.turn();
    client.set_room(Some(450));
    world.news(&client, false, false);
    assert_eq!(world.take_log(), ["drain"]);
    client.set_room(Some(0));
    assert!(at(&mut world, &client).send_binary(&[7; 500]).is_ok());
    world.turn();
    take_all(&mut world, &client);
    assert_eq!(world.take_log(), ["drain"]);
}

#[test]
fn drain_is_due_though_all_left_before_the_handler_returned() {
    let mut world = World::new(Config {
        drain_at: 1_000,
        ..Config::default()
    });
    let client = world.ready();
    let peer = client.clone();
    world.reactor.handlers.set::<Utf8, ()>(move |conn, _| {
        peer.set_room(Some(0));
        assert!(conn.send_binary(&[7; 20_000]).is_ok());
        assert_eq!(conn.backlog(), 20_004);
        // The peer reads meanwhile.
        peer.set_room(None);
    });
    world.send(&client, &frame(0x81, b"go"));
    assert_eq!(world.take_log(), ["drain"]);
}

#[test]
fn what_is_buffered_is_known_to_the_byte() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Utf8, ()>(|conn, _| {
        assert_eq!(conn.buffered_amount(), 0);
        assert!(conn.send_utf8("12345").is_ok());
        assert_eq!((conn.buffered_amount(), conn.backlog()), (7, 0));
        assert!(conn.send_binary(&[0; 200]).is_ok());
        assert_eq!((conn.buffered_amount(), conn.backlog()), (211, 0));
        assert!(
            conn.when_sent(|conn, _| assert_eq!(conn.buffered_amount(), 0))
                .is_ok()
        );
        assert_eq!(conn.buffered_amount(), 211);
        assert!(conn.ping(b"").is_ok());
        assert_eq!(conn.buffered_amount(), 213);
    });
    let client = world.ready();
    let other = world.ready();
    world.send(&client, &frame(0x81, b"go"));
    assert_eq!(at(&mut world, &client).buffered_amount(), 0);
    other.set_room(Some(3));
    assert!(at(&mut world, &other).send_utf8("12345").is_ok());
    assert_eq!(at(&mut world, &other).buffered_amount(), 7);
    world.turn();
    assert_eq!(at(&mut world, &other).buffered_amount(), 4);
}

/// Returns the payload of a numbered message, which takes 100 bytes on the wire.
fn numbered(number: u8) -> [u8; 98] {
    [number; 98]
}

#[test]
fn the_oldest_are_dropped_whole_and_not_what_has_begun() {
    let mut world = limited(1_000, SlowConsumer::DropOldest);
    let log = world.log.clone();
    let client = world.ready();
    client.set_room(Some(130));
    let mut conn = at(&mut world, &client);
    for number in 0..10 {
        let name = format!("{number}");
        let sent = conn.send_message(Outgoing::binary(&numbered(number)).then(told(&log, &name)));
        assert_eq!(sent.map(Sent::bytes), Ok(100));
    }
    world.turn();
    // The first message was sent, the second in part.
    assert_eq!(at(&mut world, &client).backlog(), 870);
    let mut conn = at(&mut world, &client);
    assert_eq!(conn.ping(b"a").map(Sent::bytes), Ok(3));
    for number in 10..15 {
        let name = format!("{number}");
        let sent = conn.send_message(Outgoing::binary(&numbered(number)).then(told(&log, &name)));
        assert_eq!(sent.map(Sent::bytes), Ok(100));
        assert!(conn.backlog() <= 1_000);
    }
    world.turn();
    let dropped = |number| format!("{number}: {}", SendError::Dropped);
    let expected = [
        "sent 0".into(),
        dropped(2),
        dropped(3),
        dropped(4),
        dropped(5),
    ];
    assert_eq!(world.take_log(), expected);
    assert_eq!(world.reactor.core.shared.stats.dropped_messages, 4);
    let mut expected = Vec::new();
    for number in [0, 1, 6, 7, 8, 9, 100, 10, 11, 12, 13, 14] {
        if number == 100 {
            expected.extend(b"\x89\x01a");
        } else {
            expected.extend([&[0x82, 98], &numbered(number)[..]].concat());
        }
    }
    assert_eq!(take_all(&mut world, &client), expected);
    let log = world.take_log();
    let sent = [1, 6, 7, 8, 9, 10, 11, 12, 13, 14].map(|number| format!("sent {number}"));
    assert_eq!(log, [&sent[..], &["drain".into()]].concat());
}

#[test]
fn room_for_a_large_one_is_made_of_many_and_shared_ones() {
    let mut world = limited(100_000, SlowConsumer::DropOldest);
    let client = world.ready();
    client.set_room(Some(0));
    let large = Prepared::binary(&[1; 20_000]);
    for _ in 0..4 {
        let mut hub = Hub::new(&mut world.reactor.core);
        assert_eq!(hub.broadcast_prepared(&large).map(Sent::receivers), Ok(1));
        assert_eq!(
            hub.broadcast_binary(&[2; 1_000]).map(Sent::receivers),
            Ok(1)
        );
    }
    world.turn();
    assert_eq!(at(&mut world, &client).backlog(), 4 * 21_008);
    let sent = at(&mut world, &client).send_binary(&[3; 60_000]);
    assert_eq!(sent.map(Sent::bytes), Ok(60_004));
    // Half of the limit, plus one message.
    assert_eq!(at(&mut world, &client).backlog(), 43_020 + 60_004);
    assert_eq!(world.reactor.core.shared.stats.dropped_messages, 3);
    let bytes = take_all(&mut world, &client);
    let pair: [(u8, usize); 2] = [(2, 1_000), (1, 20_000)];
    let frames = [&pair[..], &pair, &[(2, 1_000), (3, 60_000)]].concat();
    let mut at = 0;
    for (fill, size) in frames {
        assert_eq!(bytes[at + 4..at + 4 + size], vec![fill; size]);
        at += 4 + size;
    }
    assert_eq!(at, bytes.len());
}

#[test]
fn queues_share_the_bytes_of_a_large_broadcast() {
    let mut world = World::new(Config::default());
    let clients = [world.ready(), world.ready(), world.ready()];
    for client in &clients {
        client.set_room(Some(0));
    }
    let large = Prepared::binary(&[7; 50_000]);
    let sent = Hub::new(&mut world.reactor.core).broadcast_prepared(&large);
    assert_eq!(sent.map(Sent::receivers), Ok(3));
    assert_eq!(Arc::strong_count(large.shared_frame()), 1 + 3);
}

#[test]
fn the_kernel_is_asked_before_anything_is_dropped() {
    for policy in [
        SlowConsumer::DropOldest,
        SlowConsumer::DropNewest,
        SlowConsumer::Error,
    ] {
        let mut world = limited(10_000, policy);
        let log = world.log.clone();
        world.reactor.handlers.set::<Utf8, _>(move |conn, _| {
            for _ in 0..1_000 {
                let sent =
                    conn.send_message(Outgoing::binary(&[7; 1_000]).then(told(&log, "one")))?;
                assert_eq!(sent.bytes(), 1_004);
            }
            Ok::<_, SendError>(())
        });
        let client = world.ready();
        world.send(&client, &frame(0x81, b"go"));
        assert_eq!(client.take().len(), 1_004_000);
        assert_eq!(world.take_log(), ["sent one"; 1_000]);
    }
}

#[test]
fn control_frames_have_room_of_their_own_whatever_the_policy() {
    for policy in [
        SlowConsumer::Error,
        SlowConsumer::Close,
        SlowConsumer::DropNewest,
        SlowConsumer::DropOldest,
    ] {
        let mut world = limited(1_000, SlowConsumer::Error);
        let client = world.ready();
        let mut conn = at(&mut world, &client);
        conn.set_slow_consumer(policy);
        assert_eq!(conn.slow_consumer(), policy);
        client.set_room(Some(0));
        for number in 0..10 {
            assert_eq!(
                conn.send_binary(&numbered(number)).map(Sent::bytes),
                Ok(100)
            );
        }
        // Pings of the peer can still be answered, and the connection closed.
        assert_eq!(conn.pong(b"answer").map(Sent::bytes), Ok(8));
        assert_eq!(conn.ping(b"").map(Sent::bytes), Ok(2));
        assert_eq!(conn.backlog(), 1_010);
        let stats = world.reactor.core.shared.stats;
        let counted = (
            stats.dropped_messages,
            stats.refused_messages,
            stats.slow_closes,
        );
        assert_eq!(counted, (0, 0, 0));
        assert!(at(&mut world, &client).disconnect(4000, "").is_ok());
        let bytes = take_all(&mut world, &client);
        assert!(bytes.ends_with(b"\x8a\x06answer\x89\x00\x88\x02\x0f\xa0"));
        assert_eq!(bytes.len(), 1_014);
    }
}

#[test]
fn what_is_refused_dropped_or_closed_is_counted() {
    for (policy, sent, expected) in [
        (SlowConsumer::Error, None, (0, 1, 0)),
        (SlowConsumer::Close, None, (0, 1, 1)),
        (SlowConsumer::DropNewest, Some(0), (1, 0, 0)),
        (SlowConsumer::DropOldest, Some(100), (1, 0, 0)),
    ] {
        let mut world = limited(1_000, policy);
        let client = world.ready();
        let log = world.log.clone();
        client.set_room(Some(0));
        let mut conn = at(&mut world, &client);
        for number in 0..10 {
            assert_eq!(
                conn.send_binary(&numbered(number)).map(Sent::bytes),
                Ok(100)
            );
        }
        let result = conn.send_message(Outgoing::binary(&numbered(11)).then(told(&log, "last")));
        let full = SendError::BacklogFull {
            queued: 1_000,
            limit: 1_000,
        };
        assert_eq!(result.map(Sent::bytes), sent.ok_or(full));
        let stats = world.reactor.core.shared.stats;
        let counted = (
            stats.dropped_messages,
            stats.refused_messages,
            stats.slow_closes,
        );
        assert_eq!(counted, expected);
        world.turn();
        let dropped = format!("last: {}", SendError::Dropped);
        let expected: &[&str] = match policy {
            SlowConsumer::Close => &["error: max_backlog exceeded"],
            SlowConsumer::DropNewest => &[&dropped],
            _ => &[],
        };
        assert_eq!(world.take_log(), expected);
    }
}

#[test]
fn parts_are_never_dropped_and_can_be_sent_again() {
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
        let mut world = limited(1_000, policy);
        let client = world.ready();
        client.set_room(Some(0));
        let mut conn = at(&mut world, &client);
        assert_eq!(conn.start_message(OpCode::Binary, Compress::Auto), Ok(()));
        for number in 0..10 {
            assert_eq!(conn.send_part(numbered(number)).map(Sent::bytes), Ok(100));
        }
        let full = SendError::BacklogFull {
            queued: 1_000,
            limit: 1_000,
        };
        assert_eq!(conn.send_part(numbered(10)), Err(full));
        assert_eq!(conn.end_message(numbered(10)), Err(full));
        assert!(conn.is_message_under_way());
        assert_eq!(take_all(&mut world, &client).len(), 1_000);
        let mut conn = at(&mut world, &client);
        assert_eq!(conn.end_message(numbered(10)).map(Sent::bytes), Ok(100));
        assert!(!conn.is_message_under_way());
        let end = take_all(&mut world, &client);
        assert_eq!(end, [&[0x80, 98], &numbered(10)[..]].concat());
        assert_eq!(world.reactor.core.shared.stats.dropped_messages, 0);
    }
}

#[test]
fn gathered_parts_leave_in_one_write_and_in_order_however_taken() {
    let parts: Vec<Vec<u8>> = (0..40).map(|at| vec![at; usize::from(at) * 100]).collect();
    let payload = parts.concat();
    for write_max in [usize::MAX, 10_000, 1_234] {
        let mut world = World::new(Config {
            limits: Limits {
                max_send_size: 1 << 20,
                ..Limits::default()
            },
            ..Config::default()
        });
        let (many, few) = (parts.clone(), parts[35..40].to_vec());
        world.reactor.handlers.set::<Utf8, _>(move |conn, text| {
            conn.send_utf8("before")?;
            match text {
                "few" => conn.send_message(Outgoing::parts(OpCode::Binary, &few))?,
                _ => conn.send_message(Outgoing::parts(OpCode::Binary, &many))?,
            };
            conn.send_utf8("behind")
        });
        let client = world.ready();
        client.set_write_max(write_max);
        let writes = client.calls().1;
        world.send(&client, &frame(0x81, b"few"));
        if write_max == usize::MAX {
            // One write for the collected replies, the header and all parts; one for the message
            // behind them.
            assert_eq!(client.calls().1 - writes, 2);
        }
        let bytes = [&client.take()[..], &take_until_quiet(&mut world, &client)].concat();
        let few = server_frame(0x82, &parts[35..40].concat());
        let expected = [b"\x81\x06before", &few[..], b"\x81\x06behind"].concat();
        assert!(bytes == expected, "few, {write_max} at a time");
        world.send(&client, &frame(0x81, b"many"));
        let bytes = [&client.take()[..], &take_until_quiet(&mut world, &client)].concat();
        let many = server_frame(0x82, &payload);
        let expected = [b"\x81\x06before", &many[..], b"\x81\x06behind"].concat();
        assert!(bytes == expected, "many, {write_max} at a time");
    }
}

fn take_until_quiet(world: &mut World, client: &Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        world.news(client, false, false);
        let more = client.take();
        if more.is_empty() {
            return bytes;
        }
        bytes.extend(more);
    }
}
