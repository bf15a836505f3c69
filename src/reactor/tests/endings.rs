//! Every connection ends once, with a reason, after all data was sent that should be.

use super::*;
use crate::client_frames::Form;
use crate::connection::event::Ping;
use crate::protocol::CloseCode;

#[test]
fn a_reset_is_one_error_and_one_disconnect() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.fail_next(io::ErrorKind::ConnectionReset);
    world.news(&client, true, true);
    let log = world.take_log();
    assert_eq!(
        log,
        ["error: connection reset", "disconnect 1006 (network error)"]
    );
    assert!(world.is_empty());
}

#[test]
fn a_write_that_fails_ends_the_connection_once() {
    for (size, unsent) in [(5, 14), (20_000, 40_008)] {
        let mut world = World::new(Config::default());
        world.reactor.handlers.set::<Binary, _>(|conn, data| {
            // The network fails during the first send, and the handler continues.
            conn.send_binary(data)?;
            conn.send_binary(data)
        });
        let client = world.ready();
        client.arrive(&frame(0x82, &vec![7; size]));
        world.reactor.halves[client.tag & SLOTS]
            .flags
            .set(Flags::READABLE);
        world.reactor.handlers.set::<Ready, ()>(|_, ()| ());
        // The read succeeds, then every write fails.
        client.set_room(Some(0));
        world.tell(client.tag, true, false);
        client.fail_next(io::ErrorKind::BrokenPipe);
        world.news(&client, false, false);
        let log = world.take_log();
        assert_eq!(
            log,
            [
                "error: broken pipe".to_owned(),
                format!("disconnect 1006 (network error), {} bytes unsent", unsent),
            ],
            "{size}"
        );
        assert!(world.is_empty());
    }
}

#[test]
fn a_hangup_behind_a_short_read_is_seen() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.arrive_fin();
    client.arrive(&frame(0x81, b"last words"));
    // One edge for the bytes and the FIN.
    world.news(&client, true, true);
    assert_eq!(client.take(), b"\x81\x0alast words");
    let expected = [
        "peer close None",
        "disconnect 1006 (connection ended without a Close frame)",
    ];
    assert_eq!(world.take_log(), expected);
    assert!(client.has_fin() && world.is_empty());
}

#[test]
fn a_half_closed_client_gets_the_rest() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(10));
    client.arrive_fin();
    client.arrive(&frame(0x82, &[7; 40_000]));
    world.news(&client, true, true);
    assert!(!world.is_empty() && !client.has_fin());
    client.set_room(None);
    world.news(&client, false, true);
    assert_eq!(client.take().len(), 40_004);
    assert!(client.has_fin() && world.is_empty());
}

#[test]
fn a_refusal_in_connect_is_answered_at_once() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Connect, _>(|_, ()| false);
    let client = world.connect();
    assert!(client.take().starts_with(b"HTTP/1.1 403 "));
    assert!(client.has_fin());
    // A request that comes later is ignored.
    world.send(&client, REQUEST);
    assert_eq!(client.take(), b"");
    let log = world.take_log();
    assert_eq!(log, ["disconnect 1006 (refused with 403 Forbidden)"]);
}

#[test]
fn a_cut_sends_nothing_more() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Utf8, _>(|conn, text| {
        let sent = conn.send_utf8(text);
        conn.abort();
        sent
    });
    let client = world.ready();
    world.send(&client, &frame(0x81, b"never").repeat(3));
    assert_eq!(
        world.take_log(),
        ["disconnect 1006 (cut by the server), 7 bytes unsent"]
    );
    assert!(world.is_empty() && !client.has_fin());
    assert_eq!(client.take(), b"");
}

#[test]
fn everyone_is_told_when_the_server_goes_down() {
    let mut world = World::new(Config::default());
    let ready = world.ready();
    let opening = world.connect();
    world.take_log();
    world.reactor.close_all(CloseCode::GOING_AWAY);
    world.turn();
    assert_eq!(ready.take(), b"\x88\x02\x03\xe9");
    assert!(opening.take().starts_with(b"HTTP/1.1 503 "));
    world.reactor.cut_all();
    let mut log = world.take_log();
    log.sort();
    let expected = [
        "disconnect 1001 (the server shut down)",
        "disconnect 1006 (refused with 503 Service Unavailable)",
    ];
    assert_eq!(log, expected);
    assert!(world.is_empty());
}

#[test]
fn an_answer_of_the_origin_handler_comes_before_its_verdict() {
    let mut world = World::new(Config::default());
    world
        .reactor
        .handlers
        .set::<Origin, _>(|conn, _| conn.http_error(451).map(|()| false));
    let client = world.connect();
    world.send(&client, REQUEST);
    assert!(client.take().starts_with(b"HTTP/1.1 451 "));
}

#[test]
fn nothing_lands_in_a_message_that_failed() {
    let limits = crate::limits::Limits {
        max_recv_size: 1 << 20,
        ..Default::default()
    };
    let mut world = World::new(Config {
        limits,
        ..Config::default()
    });
    let client = world.ready();
    // A large text is read directly into its message. Its incomplete character is detected when the
    // text is complete.
    let mut head = Vec::new();
    client_frames::append_header(&mut head, 0x81, Form::of(300_000), 300_000, Some([0; 4]));
    world.send(&client, &[&head[..], b"\xe2"].concat());
    for _ in 0..6 {
        world.send(&client, b"a");
    }
    assert_eq!(world.take_log(), [""; 0]);
    world.send(&client, &vec![b'a'; 300_000 - 7]);
    let expected = [
        "error: text is not UTF-8",
        "disconnect 1007 (text is not UTF-8) text is not UTF-8",
    ];
    assert_eq!(world.take_log(), expected);
    let slot = client.tag & SLOTS;
    assert!(!world.reactor.halves[slot].decoder.is_partial());
}

#[test]
fn a_connection_that_another_refused_has_no_events_but_its_end() {
    let mut world = World::new(Config::default());
    world.note(Origin, |_| "origin".into());
    let client = world.connect();
    world.take_log();
    let slot = client.tag & SLOTS;
    let refused = Connection::new(&mut world.reactor.core, slot).disconnect(1000, "");
    assert!(refused.is_ok());
    world.send(&client, REQUEST);
    assert_eq!(world.take_log(), ["disconnect 1000 (closed by the server)"]);
    assert!(client.take().starts_with(b"HTTP/1.1 403 "));
}

#[test]
fn a_value_that_panics_when_it_is_dropped_hurts_nobody_else() {
    #[derive(Default)]
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a bomb");
        }
    }
    let mut world = World::echo(Config::default());
    world.reactor.handlers.set::<Ready, _>(|conn, ()| {
        if std::mem::replace(conn.shared::<bool>(), true) {
            let (first, second) = (Bomb, Bomb);
            conn.on(Pong, move |_, _| _ = &first);
            conn.on(Drain, move |_, ()| _ = &second);
            conn.data::<Bomb>();
        }
    });
    world
        .reactor
        .handlers
        .set::<Ping, _>(|conn, _| conn.on(Drain, |_, ()| ()));
    let bystander = world.ready();
    let client = world.ready();
    // One handler is replaced, all are dropped at the end, and the data with the connection.
    world.send(&client, &[frame(0x89, b""), frame(0x8a, b"")].concat());
    world.send(&client, &frame(0x88, b""));
    client.arrive_fin();
    world.news(&client, true, true);
    assert_eq!(world.reactor.core.peers.len(), 1);
    world.send(&bystander, &frame(0x81, b"still here"));
    assert_eq!(bystander.take(), b"\x81\x0astill here");
}

#[test]
fn when_nobody_is_left_no_buffers_for_large_messages_are() {
    let mut config = Config::default();
    config.limits.max_recv_size = 1 << 20;
    let mut world = World::new(config);
    let clients = [world.ready(), world.ready()];
    let message = frame(0x82, &vec![7; 600_000]);
    for client in &clients {
        world.send(client, &message[..200_000]);
        world.send(client, &message[200_000..]);
    }
    let kept = |world: &World| format!("{:?}", world.reactor.pool);
    let none = format!("{:?}", Pool::default());
    assert_ne!(kept(&world), none, "the next messages may be as large");
    for (client, is_last) in clients.iter().zip([false, true]) {
        client.arrive_fin();
        world.news(client, true, true);
        assert_eq!(kept(&world) == none, is_last);
    }
    assert!(world.is_empty());
}
