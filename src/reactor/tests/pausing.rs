//! A paused connection is not read, and loses nothing.

use super::*;
use crate::protocol::CloseCode;

/// A world whose connections pause at the text "pause", and after each text from "one by one" on.
fn pausing() -> World {
    let mut world = World::new(Config::default());
    let log = world.log.clone();
    world.reactor.handlers.set::<Utf8, ()>(move |conn, text| {
        let shown = &text[..text.len().min(12)];
        log.borrow_mut().push(format!("{shown} {}", text.len()));
        let step = conn.data::<bool>();
        *step |= text == "one by one";
        if *step || text == "pause" {
            conn.pause();
            assert!(conn.is_paused());
        }
        if text == "for a moment" {
            conn.pause();
            conn.resume();
        }
    });
    world
}

fn at<'w>(world: &'w mut World, client: &Client) -> Connection<'w> {
    Connection::new(&mut world.reactor.core, client.tag & SLOTS)
}

fn resume(world: &mut World, client: &Client) {
    at(world, client).resume();
    world.turn();
    // Pending data does not wait for an event.
    while world.reactor.next_deadline() == Some(0) {
        world.turn();
    }
}

#[test]
fn what_was_read_waits_and_what_was_not_stays_in_the_kernel() {
    let mut world = pausing();
    let client = world.ready();
    let texts = ["a", "pause", "b", "for a moment", "c"].map(|text| frame(0x81, text.as_bytes()));
    world.send(&client, &texts.concat());
    assert_eq!(world.take_log(), ["a 1", "pause 5"]);
    let reads = client.calls().0;
    for _ in 0..3 {
        world.send(&client, &frame(0x81, b"later"));
        world.send(&client, &frame(0x8a, b""));
        assert_eq!(world.pass(1_000), 0, "nothing to do but wait");
    }
    assert_eq!(client.calls().0, reads);
    assert_eq!(world.take_log(), [""; 0]);
    resume(&mut world, &client);
    let later = ["later 5", "pong"];
    let expected = [
        &["b 1", "for a moment 12", "c 1"][..],
        &later,
        &later,
        &later,
    ];
    assert_eq!(world.take_log(), expected.concat());
    world.send(&client, &frame(0x81, b"on"));
    assert_eq!(world.take_log(), ["on 2"]);
}

#[test]
fn one_message_at_a_time_of_every_size_and_however_cut() {
    let sizes = [1, 125, 126, 70_000, 2, 65_535, 300_000, 300_000, 0, 5];
    for cut in [1, 7, 1_000, 65_536, usize::MAX] {
        let mut world = pausing();
        let client = world.ready();
        at(&mut world, &client).set_max_recv_size(1 << 20);
        let mut bytes = frame(0x81, b"one by one");
        let mut expected = vec!["one by one 10".to_owned()];
        for size in sizes {
            let text = vec![b'x'; size];
            if size == 5 {
                // In fragments, with a pong between them.
                bytes.extend(frame(0x01, &text[..2]));
                bytes.extend(frame(0x8a, b""));
                bytes.extend(frame(0x80, &text[2..]));
                expected.push("pong".into());
            } else {
                bytes.extend(frame(0x81, &text));
            }
            let shown = "x".repeat(size.min(12));
            expected.push(format!("{shown} {size}"));
        }
        let step = if cut < 1_000 {
            bytes.len() / 500 * cut
        } else {
            cut
        };
        for part in bytes.chunks(step.max(1)) {
            world.send(&client, part);
        }
        for message in expected {
            let log = world.take_log();
            // A pong does not pause the connection.
            let got = log.last().cloned().unwrap_or_default();
            if message == "pong" {
                world.log.borrow_mut().extend(log);
                continue;
            }
            assert_eq!(got, message, "cut at {cut}");
            resume(&mut world, &client);
        }
        assert_eq!(world.take_log(), [""; 0]);
        assert!(!at(&mut world, &client).is_paused());
    }
}

#[test]
fn before_ready_it_takes_effect_then() {
    let mut world = pausing();
    world
        .reactor
        .handlers
        .set::<Connect, ()>(|conn, ()| conn.pause());
    let client = world.connect();
    world.send(&client, &[REQUEST, &frame(0x81, b"early")].concat());
    assert_eq!(world.take_log(), ["ready"]);
    assert!(client.take().starts_with(b"HTTP/1.1 101 "));
    resume(&mut world, &client);
    assert_eq!(world.take_log(), ["early 5"]);
}

#[test]
fn it_can_be_sent_to_and_drains() {
    let mut world = pausing();
    let client = world.ready();
    world.send(&client, &frame(0x81, b"pause"));
    client.set_room(Some(10));
    assert_eq!(
        at(&mut world, &client)
            .send_utf8("a longer text")
            .map(Sent::bytes),
        Ok(15)
    );
    world.turn();
    assert_eq!(client.take().len(), 10);
    client.set_room(None);
    world.news(&client, false, false);
    assert_eq!(client.take().len(), 5);
    assert_eq!(world.take_log(), ["pause 5", "drain"]);
    // The backlog is full and the connection paused: both have to end.
    client.set_room(Some(0));
    assert!(
        at(&mut world, &client)
            .send_utf8(&"x".repeat(60_000))
            .is_ok()
    );
    for _ in 0..9 {
        assert!(
            at(&mut world, &client)
                .send_utf8(&"x".repeat(60_000))
                .is_ok()
        );
    }
    world.send(&client, &frame(0x81, b"heard"));
    resume(&mut world, &client);
    assert_eq!(world.take_log(), ["pause 5"; 0]);
    client.set_room(None);
    world.news(&client, false, false);
    world.turn();
    assert_eq!(world.take_log(), ["drain", "heard 5"]);
}

#[test]
fn silence_is_not_held_against_who_is_not_listened_to() {
    let mut world = pausing();
    let client = world.ready();
    world.send(&client, &frame(0x81, b"pause"));
    world.pass(3_600_000);
    assert_eq!(client.take(), b"", "no ping, no close");
    resume(&mut world, &client);
    world.pass(19_900);
    assert_eq!(client.take(), b"");
    world.pass(200);
    assert_eq!(client.take(), b"\x89\x00");
    world.pass(20_100);
    assert_eq!(client.take(), b"\x89\x00\x88\x02\x03\xe9");
}

#[test]
fn a_close_from_here_ends_the_pause() {
    for shutdown in [false, true] {
        let mut world = pausing();
        let client = world.ready();
        let unread = [frame(0x81, b"pause"), frame(0x81, b"never")].concat();
        world.send(&client, &unread);
        world.send(&client, &frame(0x81, b"never"));
        if shutdown {
            world.reactor.close_all(CloseCode::GOING_AWAY);
        } else {
            assert!(at(&mut world, &client).disconnect(1001, "").is_ok());
        }
        world.turn();
        world.turn();
        assert!(!at(&mut world, &client).is_paused());
        assert_eq!(client.take(), b"\x88\x02\x03\xe9");
        world.pass(4_000);
        assert_eq!(world.take_log(), ["pause 5"]);
        world.send(&client, &frame(0x88, b"\x03\xe9"));
        let log = world.take_log();
        assert!(
            log.len() == 1 && log[0].starts_with("disconnect 1001"),
            "{log:?}"
        );
        assert!(world.is_empty());
    }
}

#[test]
fn an_answer_that_came_during_the_pause_is_found() {
    let mut world = pausing();
    let client = world.ready();
    world.send(&client, &frame(0x81, b"pause"));
    world.send(&client, &frame(0x88, b"\x0f\xa0"));
    assert_eq!(world.take_log(), ["pause 5"]);
    assert!(at(&mut world, &client).disconnect(4001, "").is_ok());
    world.turn();
    world.turn();
    assert_eq!(world.take_log(), ["disconnect 4001 (closed by the server)"]);
    assert!(world.is_empty());
}

#[test]
fn a_hangup_is_noticed_when_it_is_resumed() {
    let mut world = pausing();
    let client = world.ready();
    world.send(&client, &frame(0x81, b"pause"));
    client.arrive_fin();
    world.send(&client, &frame(0x81, b"last"));
    world.news(&client, true, true);
    assert_eq!(world.take_log(), ["pause 5"]);
    resume(&mut world, &client);
    let end = "disconnect 1006 (connection ended without a Close frame)";
    assert_eq!(world.take_log(), ["last 4", "peer close None", end]);
    assert!(world.is_empty());
}

#[test]
fn a_lost_connection_is_noticed_when_it_is_sent_to() {
    let mut world = pausing();
    let client = world.ready();
    world.send(&client, &frame(0x81, b"pause"));
    world.send(&client, &frame(0x81, b"never"));
    client.fail_next(io::ErrorKind::BrokenPipe);
    assert!(at(&mut world, &client).ping(b"").is_ok());
    world.turn();
    let expected = [
        "pause 5",
        "error: broken pipe",
        "disconnect 1006 (network error), 2 bytes unsent",
    ];
    assert_eq!(world.take_log(), expected);
    assert!(world.is_empty());
}
