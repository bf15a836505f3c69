//! Bytes are read and written once, in order, in fair shares, however the kernel takes them.

use super::*;

#[test]
fn replies_leave_in_one_write_and_are_read_once() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let (reads, writes) = client.calls();
    let batch: Vec<u8> = (0..16)
        .flat_map(|at| frame(0x81, format!("{at}").as_bytes()))
        .collect();
    world.send(&client, &batch);
    assert_eq!(client.calls(), (reads + 1, writes + 1));
    assert!(client.take().starts_with(b"\x81\x010\x81\x011\x81\x012"));
}

#[test]
fn a_large_reply_is_one_write_too() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let writes = client.calls().1;
    world.send(&client, &frame(0x82, &[7; 60_000]));
    assert_eq!(client.calls().1 - writes, 1);
    assert_eq!(client.take().len(), 60_004);
}

#[test]
fn partial_writes_keep_the_order_and_drain_once() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(3));
    let mut expected = Vec::new();
    for size in [5, 9_000, 20, 30_000] {
        let payload = vec![size as u8; size];
        world.send(&client, &frame(0x82, &payload));
        expected.extend(server_frame(0x82, &payload));
    }
    assert_eq!(client.take(), expected[..3]);
    client.set_write_max(1_000);
    let mut got = expected[..3].to_vec();
    while got.len() < expected.len() {
        assert_eq!(world.take_log(), [""; 0]);
        client.set_room(Some(7_777));
        world.news(&client, false, false);
        let more = client.take();
        assert!(!more.is_empty(), "a partial write is no reason to stop");
        got.extend(more);
    }
    assert!(got == expected);
    assert_eq!(world.take_log(), ["drain"]);
    world.news(&client, false, false);
    assert_eq!(world.take_log(), [""; 0]);
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(0));
    let message = frame(0x82, &[7; 50_000]);
    let count = 100;
    for _ in 0..count {
        world.send(&client, &message);
        world.pass(100);
    }
    let slot = client.tag & SLOTS;
    let backlog = world.reactor.core.peers[slot].backlog();
    assert!(backlog > 512 << 10 && backlog < 600 << 10, "{backlog}");
    assert!(client.unread() > 3_000_000, "TCP holds the rest back");
    assert_eq!(world.pass(1_000), 0, "nothing to do but wait");

    // When it reads again, everything arrives.
    let mut got = 0;
    while got < count * 50_004 {
        client.set_room(Some(200_000));
        world.news(&client, false, false);
        while world.reactor.next_deadline() == Some(0) {
            world.turn();
        }
        let more = client.take().len();
        assert!(more > 0);
        got += more;
    }
    assert_eq!(got, count * 50_004);
    assert!(world.take_log().iter().all(|entry| entry == "drain"));
}

#[test]
fn a_flood_is_served_in_shares() {
    let config = Config {
        turn_messages: 10,
        ..Config::default()
    };
    let mut world = World::new(config);
    world
        .reactor
        .handlers
        .set::<Utf8, _>(|conn, _| *conn.data::<usize>() += 1);
    let client = world.ready();
    let slot = client.tag & SLOTS;
    let heard = |world: &mut World| *Connection::new(&mut world.reactor.core, slot).data::<usize>();
    let flood = frame(0x81, b"x").repeat(95);
    client.arrive(&flood);
    world.tell(client.tag, true, false);
    world.reactor.end_turn();
    assert_eq!(heard(&mut world), 10);
    for turn in 2..=10 {
        assert_eq!(
            world.reactor.next_deadline(),
            Some(0),
            "the loop does not sleep"
        );
        world.turn();
        assert_eq!(heard(&mut world), (turn * 10).min(95));
    }
    assert_ne!(world.reactor.next_deadline(), Some(0));
}

#[test]
fn a_full_read_is_followed_by_another_in_its_share() {
    let config = Config {
        read_buffer: 32 << 10,
        turn_bytes: 64 << 10,
        limits: crate::limits::Limits {
            max_recv_size: 1 << 20,
            ..Default::default()
        },
        ..Config::default()
    };
    let mut world = World::new(config);
    world.note(Binary, |data| format!("{} bytes", data.len()));
    let client = world.ready();
    client.arrive(&frame(0x82, &[7; 300_000]));
    world.tell(client.tag, true, false);
    assert_eq!(world.take_log(), [""; 0]);
    assert!(
        client.unread() >= 300_000 - (160 << 10),
        "others come first"
    );
    while world.reactor.next_deadline() == Some(0) {
        world.turn();
    }
    assert_eq!(world.take_log(), ["300000 bytes"]);
}

#[test]
fn interrupted_calls_are_made_again() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    for _ in 0..3 {
        client.fail_next(io::ErrorKind::Interrupted);
    }
    world.send(&client, &frame(0x81, b"again"));
    assert_eq!(client.take(), b"\x81\x05again");
}

#[test]
fn a_false_hangup_does_not_spin() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let reads = client.calls().0;
    world.news(&client, true, true);
    assert_eq!(client.calls().0 - reads, 1);
    assert_ne!(world.reactor.next_deadline(), Some(0));
    world.send(&client, &frame(0x81, b"still here"));
    assert_eq!(client.take(), b"\x81\x0astill here");
}

#[test]
fn news_of_a_connection_that_is_gone_are_ignored() {
    let mut world = World::echo(Config::default());
    let old = world.ready();
    old.arrive_fin();
    world.news(&old, true, true);
    assert!(world.is_empty());
    let new = world.ready();
    assert_eq!(old.tag & SLOTS, new.tag & SLOTS, "the slot is used again");
    let reads = new.calls().0;
    world.news(&old, true, true);
    assert_eq!(new.calls().0, reads);
    world.send(&new, &frame(0x81, b"still here"));
    assert_eq!(new.take(), b"\x81\x0astill here");
}

#[test]
fn a_handler_that_streams_has_one_drain_in_a_turn() {
    let mut world = World::new(Config::default());
    // Whenever everything is sent, the handler sends more than the kernel takes at once.
    world.reactor.handlers.set::<Drain, _>(|conn, ()| {
        *conn.shared::<usize>() += 1;
        conn.send_binary(&[7; 60_000])
    });
    world
        .reactor
        .handlers
        .set::<Ready, _>(|conn, ()| conn.send_binary(&[7; 60_000]));
    let client = world.connect();
    client.set_write_max(10_000);
    world.send(&client, REQUEST);
    let drains = |world: &mut World| *Hub::new(&mut world.reactor.core).shared::<usize>();
    for _ in 0..200 {
        let before = drains(&mut world);
        world.news(&client, false, false);
        assert!(
            drains(&mut world) <= before + 2,
            "news and a turn: one each at most"
        );
        client.take();
    }
    assert!(drains(&mut world) > 10);
}

#[test]
fn a_paused_connection_is_read_again_when_it_is_closed() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(0));
    for _ in 0..12 {
        world.send(&client, &frame(0x82, &[7; 50_000]));
    }
    // The peer sends Close and FIN, but the server does not read it now.
    client.arrive_fin();
    world.send(&client, &frame(0x88, b"\x03\xe8"));
    world.news(&client, true, true);
    assert_eq!(world.take_log(), [""; 0]);
    // The server closes, too, and the kernel takes everything.
    client.set_room(None);
    let slot = client.tag & SLOTS;
    let closed = Connection::new(&mut world.reactor.core, slot).disconnect(4000, "");
    assert!(closed.is_ok());
    world.turn();
    world.turn();
    assert_eq!(world.take_log(), ["disconnect 4000 (closed by the server)"]);
    assert!(world.is_empty());
}

/// Messages that are UTF-8 only when joined are invalid, although they are validated together.
#[test]
fn a_character_does_not_reach_over_messages() {
    let mut world = World::new(Config::default());
    world.note(Utf8, |text| format!("text {text}"));
    let client = world.ready();
    let frames = [
        frame(0x81, b"first"),
        frame(0x81, b"second"),
        frame(0x81, b"\xc3"),
        frame(0x81, b"\xa9"),
    ];
    world.send(&client, &frames.concat());
    let expected = [
        "text first",
        "text second",
        "error: text is not UTF-8",
        "disconnect 1007 (text is not UTF-8) text is not UTF-8",
    ];
    assert_eq!(world.take_log(), expected);
}

#[test]
fn who_takes_pieces_gets_them_also_where_a_large_message_was_expected() {
    use crate::connection::event::Fragment;
    let limits = crate::limits::Limits {
        max_recv_size: 200_000,
        ..Default::default()
    };
    let mut world = World::new(Config {
        limits,
        ..Config::default()
    });
    world.note(Binary, |data| format!("{} bytes", data.len()));
    let size = Rc::new(RefCell::new(0));
    let seen = size.clone();
    let log = world.log.clone();
    world.reactor.handlers.set::<Fragment, _>(move |_, piece| {
        *seen.borrow_mut() += piece.payload.len();
        if piece.last {
            log.borrow_mut().push("end".into());
        }
    });
    let client = world.ready();
    // In two reads, so that another large message is expected.
    let whole = frame(0x82, &[7; 150_000]);
    world.send(&client, &whole[..100_000]);
    world.send(&client, &whole[100_000..]);
    for first in [0x02, 0, 0, 0x80] {
        world.send(&client, &frame(first, &[7; 90_000]));
    }
    assert_eq!(world.take_log(), ["150000 bytes", "end"]);
    assert_eq!(size.take(), 360_000);
    // The same for a message above the limit in one frame.
    world.send(&client, &whole[..100_000]);
    world.send(&client, &whole[100_000..]);
    world.send(&client, &frame(0x82, &[7; 300_000]));
    assert_eq!(world.take_log(), ["150000 bytes", "end"]);
    assert_eq!(size.take(), 300_000);
}

#[test]
fn without_a_handler_every_message_is_looked_at_and_counted_all_the_same() {
    let mut world = World::new(Config::default());
    let client = world.ready();
    let fine = frame(0x81, b"a").repeat(5);
    world.send(&client, &fine);
    assert_eq!(world.reactor.core.shared.stats.messages_in, 5);
    assert_eq!(world.take_log(), [""; 0]);
    // Halves of a character are not text, although they are when joined.
    let halves = [frame(0x81, b"\xe2\x82"), frame(0x81, b"\xac")].concat();
    world.send(&client, &[fine, halves].concat());
    assert_eq!(
        world.take_log(),
        [
            "error: text is not UTF-8",
            "disconnect 1007 (text is not UTF-8) text is not UTF-8"
        ]
    );
    assert_eq!(world.reactor.core.shared.stats.messages_in, 10);
}
