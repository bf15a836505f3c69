//! Deadlines of plain requests, with a clock that the test sets.

use super::super::SLOTS;
use super::*;
use crate::connection::event::Request;
use crate::plain_http::Response;

/// A server that answers plain requests with their bodies.
fn mirror(config: Config) -> World {
    let mut world = World::echo(config);
    world.reactor.core.shared.wall_clock = || std::time::UNIX_EPOCH;
    world
        .reactor
        .handlers
        .set::<Request, _>(|_, request| Response::new(200).body(request.body()));
    world
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n";

#[test]
fn an_idle_connection_ends_in_time_and_without_a_word() {
    let mut world = mirror(Config::default());
    let client = world.connect();
    world.pass(9_000);
    world.send(&client, GET);
    assert_eq!(client.take(), OK);
    // A later request postpones the deadline.
    world.pass(14_900);
    world.send(&client, GET);
    assert_eq!(client.take(), OK);
    world.pass(14_900);
    assert_eq!(world.take_log(), ["connect"]);
    world.pass(200);
    assert_eq!(
        world.take_log(),
        ["disconnect 1006 (plain requests were answered)"]
    );
    assert!(client.has_fin());
    assert_eq!(client.take(), b"");
    world.pass(5_100);
    assert!(world.is_empty());
}

#[test]
fn each_request_has_the_time_of_a_handshake() {
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n";
    // The time of the first request counts from the accept, that of a later one from its first
    // byte. Trickling gains nothing.
    for before in [false, true] {
        let mut world = mirror(Config::default());
        let client = world.connect();
        if before {
            world.send(&client, GET);
            assert_eq!(client.take(), OK);
            world.pass(5_000);
        }
        world.send(&client, head);
        for _ in 0..99 {
            world.send(&client, b"x");
            world.pass(100);
        }
        assert_eq!(client.take(), b"");
        // Each byte postpones the deadline by the time that it takes at min_rate.
        world.pass(400);
        assert!(client.take().starts_with(b"HTTP/1.1 408 "));
        assert!(client.has_fin());
        let log = world.take_log();
        assert_eq!(log.len(), 3, "{log:?}");
        assert_eq!(
            log[2],
            "disconnect 1006 (request not complete within handshake_timeout)"
        );
    }
}

#[test]
fn a_body_that_comes_steadily_has_the_time_that_it_takes() {
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n";
    let mut world = mirror(Config::default());
    let client = world.connect();
    world.send(&client, head);
    // 1,000 B/s: a minute.
    for _ in 0..60 {
        world.pass(1_000);
        assert_eq!(client.take(), b"");
        world.send(&client, &[b'x'; 1_000]);
    }
    assert!(client.take().starts_with(b"HTTP/1.1 200 "));
    // Data that came faster before gains no time.
    world.send(&client, head);
    world.send(&client, &[b'x'; 59_000]);
    world.pass(10_100);
    assert!(client.take().starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn a_later_upgrade_ends_all_that() {
    let mut world = mirror(Config::default());
    let client = world.connect();
    world.send(&client, GET);
    client.take();
    world.send(&client, REQUEST);
    assert!(client.take().starts_with(b"HTTP/1.1 101 "));
    world.pass(15_500);
    world.send(&client, &frame(0x81, b"hi"));
    assert_eq!(client.take(), b"\x81\x02hi");
    assert_eq!(world.take_log(), ["connect", "ready"]);
}

#[test]
fn a_slow_reader_gets_its_answer_as_long_as_it_reads() {
    for lines in ["", "Connection: close\r\n"] {
        let mut world = mirror(Config {
            limits: crate::Limits {
                max_body_size: 1 << 20,
                ..Default::default()
            },
            ..Config::default()
        });
        let client = world.connect();
        client.set_room(Some(0));
        let size = 1 << 20;
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {size}\r\n\r\n");
        world.send(&client, head.as_bytes());
        world.send(&client, &vec![b'x'; size]);
        let mut came = 0;
        while came < size {
            world.pass(4_000);
            client.set_room(Some(100_000));
            world.news(&client, false, false);
            came += client.take().len();
        }
        assert_eq!(client.has_fin(), !lines.is_empty());
        world.pass(30_000);
        assert!(client.has_fin());
        assert_eq!(
            world.take_log(),
            ["connect", "disconnect 1006 (plain requests were answered)"]
        );
        // A client that does not read is closed.
        let mut world = mirror(Config::default());
        let client = world.connect();
        client.set_room(Some(0));
        world.send(&client, &GET.repeat(30_000));
        world.pass(60_000);
        assert!(world.is_empty());
    }
}

#[test]
fn a_flood_of_requests_is_held_to_the_backlog_and_the_share() {
    let mut world = mirror(Config {
        turn_messages: 7,
        max_requests: usize::MAX,
        limits: crate::Limits {
            max_backlog: 64 << 10,
            ..Default::default()
        },
        ..Config::default()
    });
    let (flood, other) = (world.connect(), world.connect());
    flood.set_room(Some(0));
    world.send(&flood, &GET.repeat(1_000));
    world.send(&other, GET);
    assert_eq!(other.take(), OK, "the others have their turn");
    assert!(world.reactor.core.shared.stats.requests <= 30);
    for _ in 0..500 {
        world.turn();
    }
    let most = world.reactor.core.shared.config.limits.max_backlog / 2 / OK.len() + 2;
    let answered = world.reactor.core.shared.stats.requests as usize;
    assert!(answered <= most + 1, "{answered}");
    // When the client reads, it gets all answers.
    flood.set_room(None);
    world.news(&flood, false, false);
    for _ in 0..500 {
        world.turn();
    }
    assert_eq!(flood.take(), OK.repeat(1_000));
}

/// A server that postpones every answer.
fn postponing() -> World {
    let mut world = World::echo(Config::default());
    world
        .reactor
        .handlers
        .set::<crate::connection::event::Handshake, _>(|_, upgrade| upgrade.defer());
    world
}

#[test]
fn an_answer_that_does_not_come_is_a_503() {
    let mut world = postponing();
    let client = world.connect();
    world.send(&client, REQUEST);
    assert!(world.pass(9_900) <= 2, "the loop sleeps");
    assert_eq!(client.take(), b"");
    world.pass(200);
    assert!(client.take().starts_with(b"HTTP/1.1 503 "));
    let why = "the deferred handshake was not answered within handshake_timeout";
    assert_eq!(
        world.take_log(),
        [
            "connect".into(),
            format!("error: handshake refused: {why}"),
            format!("disconnect 1006 ({why})"),
        ]
    );
    world.pass(5_100);
    assert!(world.is_empty());
}

#[test]
fn nothing_is_read_until_the_answer_is_given() {
    let mut world = postponing();
    let client = world.connect();
    let flood = frame(0x82, &[7; 1000]).repeat(2_000);
    world.send(&client, &[REQUEST, &flood].concat());
    let left = client.unread();
    assert!(left > flood.len() / 2, "one read at most was made");
    for _ in 0..100 {
        world.news(&client, true, false);
    }
    assert!(world.pass(5_000) <= 2, "the loop sleeps");
    assert_eq!(client.unread(), left);
    assert_eq!(client.take(), b"");
    let id = Hub::new(&mut world.reactor.core).ids();
    assert!(id.is_empty());
    let slot = client.tag & SLOTS;
    let mut conn = Connection::new(&mut world.reactor.core, slot);
    assert_eq!(conn.answer(|_, _| true), Ok(()));
    for _ in 0..10 {
        world.turn();
    }
    let answer = client.take();
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    assert!(answer.len() > 2_000 * 1_004, "every message was echoed");
    assert_eq!(world.take_log()[..2], ["connect", "ready"]);
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    let config = Config::default();
    let limit = config.limits.max_backlog;
    let mut world = mirror(config);
    let page = "x".repeat(50_000);
    world
        .reactor
        .handlers
        .set::<Request, _>(move |_, _| Response::new(200).body(page.clone()));
    let client = world.connect();
    client.set_room(Some(0));
    // One read returns requests for more answers than may be kept.
    world.send(&client, &GET.repeat(900));
    for _ in 0..10 {
        world.turn();
    }
    let peer = &world.reactor.core.peers[client.tag & SLOTS];
    assert!(peer.backlog() <= limit, "{} bytes", peer.backlog());
    assert!(world.reactor.core.shared.stats.requests < 30);
    // When the client reads again, it gets all answers.
    client.set_room(None);
    for _ in 0..200 {
        world.news(&client, true, false);
    }
    assert_eq!(world.reactor.core.shared.stats.requests, 900);
}

#[test]
fn trickling_does_not_put_off_the_end_behind_a_last_answer() {
    let mut world = mirror(Config::default());
    let page = "x".repeat(100_000);
    world
        .reactor
        .handlers
        .set::<Request, _>(move |_, _| Response::new(200).body(page.clone()));
    let client = world.connect();
    client.set_room(Some(10));
    world.send(
        &client,
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    for _ in 0..4 {
        world.pass(2_000);
        world.send(&client, b"x");
    }
    world.pass(6_000);
    assert!(world.is_empty());
}

#[test]
fn a_pause_before_the_handshake_keeps_no_plain_connection() {
    let mut world = mirror(Config::default());
    world
        .reactor
        .handlers
        .set::<Connect, ()>(|conn, ()| conn.pause());
    let client = world.connect();
    world.send(&client, GET);
    assert_eq!(client.take(), OK);
    world.pass(30_000);
    assert!(world.is_empty());
}

#[test]
fn no_error_follows_the_disconnect_of_one_that_left_while_its_answer_failed() {
    let mut world = postponing();
    let client = world.connect();
    client.arrive(REQUEST);
    world.news(&client, true, false);
    let mut conn = Connection::new(&mut world.reactor.core, client.tag & SLOTS);
    let failed = conn.answer(|_, _| -> Result<(), io::Error> { Err(io::ErrorKind::Other.into()) });
    assert_eq!(failed, Ok(()));
    assert!(conn.http_error(503).is_ok());
    world.turn();
    world.pass(60_000);
    let log = world.take_log();
    let disconnects = log.iter().position(|entry| entry.starts_with("disconnect"));
    assert_eq!(disconnects, Some(log.len() - 1), "{log:?}");
    assert!(world.is_empty());
}
