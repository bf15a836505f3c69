//! A graceful shutdown closes clients one after the other, waits for those that read, and cuts the
//! others in time.

use super::*;
use crate::connection::Plan;
use crate::connection::event::Request;
use crate::plain_http::Response;
use crate::protocol::CloseCode;
use crate::stats::Stats;

/// A Close frame with 1012.
const CLOSE: &[u8] = b"\x88\x02\x03\xf4";

impl World {
    fn drain(&mut self, deadline: u64, spread: u64) {
        self.reactor.wind_down(plan(deadline, spread));
        self.turn();
    }

    fn hasten(&mut self, deadline: u64, spread: u64) {
        self.reactor.hasten(plan(deadline, spread));
        self.turn();
    }

    /// Returns how many connections ended in order, how many did not, and how many bytes were lost.
    fn report(&self) -> (u64, u64, u64) {
        let Stats {
            ended_in_order,
            cut,
            cut_bytes,
            ..
        } = self.reactor.core.shared.stats();
        (ended_in_order, cut, cut_bytes)
    }

    /// Has the client answer the Close frame that it was sent.
    fn answer(&mut self, client: &Client) {
        assert_eq!(client.take(), CLOSE);
        self.send(client, &frame(0x88, b"\x03\xf4"));
    }
}

fn plan(deadline: u64, spread: u64) -> Plan {
    Plan {
        deadline: Duration::from_millis(deadline),
        code: CloseCode::SERVICE_RESTART,
        spread: Duration::from_millis(spread),
    }
}

#[test]
fn clients_are_closed_one_after_the_other_the_oldest_first() {
    let mut world = World::echo(Config::default());
    // The first two slots are used again: the order is by age, not by slot.
    let gone = [world.ready(), world.ready()];
    let oldest = world.ready();
    for client in gone {
        client.arrive_fin();
        world.news(&client, true, true);
    }
    let clients = [oldest, world.ready(), world.ready(), world.ready()];
    world.take_log();
    world.drain(60_000, 8_000);
    for at in 0..clients.len() {
        // Until its turn, a client is served.
        for later in &clients[at + 1..] {
            world.send(later, &frame(0x81, b"still here?"));
            assert_eq!(later.take(), b"\x81\x0bstill here?");
        }
        world.answer(&clients[at]);
        assert_eq!(
            world.take_log(),
            ["disconnect 1012 (the server shut down)"],
            "{at}"
        );
        world.pass(1_999);
        let early = clients.iter().any(|client| !client.take().is_empty());
        assert!(!early, "a turn before its time, after {at}");
        world.pass(1);
    }
    assert!(world.is_empty());
    assert_eq!(world.report(), (4, 0, 0));
}

#[test]
fn without_a_spread_all_are_closed_at_once() {
    for spread in [0, 10] {
        let mut world = World::new(Config::default());
        let clients = [world.ready(), world.ready(), world.ready()];
        // The deadline limits the spread.
        world.drain(if spread > 0 { 0 } else { 60_000 }, spread);
        for client in clients {
            assert_eq!(client.take(), CLOSE);
        }
    }
}

#[test]
fn a_loop_that_stalls_catches_up() {
    let mut world = World::new(Config::default());
    let clients: Vec<_> = (0..10).map(|_| world.ready()).collect();
    world.drain(60_000, 1_000);
    world.at += 450;
    world.pass(0);
    let closed = clients.iter().filter(|client| client.take() == CLOSE);
    assert_eq!(closed.count(), 5, "at 0, 100, 200, 300, 400");
}

#[test]
fn many_clients_do_not_keep_the_loop_busy() {
    let mut world = World::new(Config {
        silence_max: Duration::ZERO,
        ..Config::default()
    });
    let clients: Vec<_> = (0..5_000).map(|_| world.ready()).collect();
    world.drain(60_000, 1_000);
    let turns = world.pass(1_000);
    assert!(turns <= 1_001, "{turns}");
    assert!(clients.iter().all(|client| client.take() == CLOSE));
}

#[test]
fn who_does_not_answer_is_cut_after_close_timeout() {
    let mut world = World::new(Config::default());
    let (silent, resets) = (world.ready(), world.ready());
    world.drain(60_000, 0);
    assert_eq!(silent.take(), CLOSE);
    let reset = io::ErrorKind::ConnectionReset;
    resets.fail_next(reset);
    // The client has received everything, and ends the connection with a reset.
    world.news(&resets, true, true);
    assert_eq!(world.report(), (1, 0, 0));
    world.pass(5_017);
    assert!(world.is_empty());
    assert_eq!(world.report(), (1, 1, 0));
    assert_eq!(
        world.take_log(),
        ["disconnect 1012 (the server shut down)"; 2]
    );
}

#[test]
fn resuming_who_was_closed_in_a_pause_does_not_put_its_end_off() {
    let mut world = World::echo(Config {
        close_timeout: Duration::from_millis(500),
        ..Config::default()
    });
    let client = world.ready();
    let slot = client.tag & SLOTS;
    Connection::new(&mut world.reactor.core, slot).pause();
    world.drain(10_000, 0);
    assert_eq!(client.take(), CLOSE);
    world.pass(400);
    Connection::new(&mut world.reactor.core, slot).resume();
    world.turn();
    world.pass(120);
    assert_eq!(world.take_log(), ["disconnect 1012 (the server shut down)"]);
    assert!(world.is_empty());
}

#[test]
fn a_slow_reader_has_until_the_deadline_and_then_close_timeout() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(0));
    world.send(&client, &frame(0x82, &[7; 40_000]));
    world.drain(60_000, 0);
    // Longer than close_timeout and than silence_max, 1,000 bytes at a time.
    let mut came = Vec::new();
    for _ in 0..40 {
        world.pass(1_000);
        client.set_room(Some(1_000));
        world.news(&client, false, false);
        came.extend(client.take());
    }
    assert_eq!(
        came.len(),
        40_000,
        "four of the header, and the Close are left"
    );
    assert_eq!(world.take_log(), [""; 0]);
    client.set_room(None);
    world.news(&client, false, false);
    came.extend(client.take());
    assert_eq!(came.len(), 40_008);
    assert!(came.ends_with(CLOSE));
    // Now the client owes the answer.
    world.pass(4_900);
    assert!(!world.is_empty());
    world.send(&client, &frame(0x88, b"\x03\xf4"));
    assert!(world.is_empty());
    // No `Drain` is delivered once the close has begun.
    let log = world.take_log();
    assert_eq!(log, ["disconnect 1012 (the server shut down)"]);
    assert_eq!(world.report(), (1, 0, 0));
}

#[test]
fn one_that_has_read_everything_and_does_not_answer_is_cut_in_time() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(0));
    world.send(&client, &frame(0x82, &[7; 40_000]));
    world.drain(3_600_000, 0);
    world.pass(100_000);
    client.set_room(None);
    world.news(&client, false, false);
    assert_eq!(client.take().len(), 40_008);
    world.pass(4_900);
    assert!(!world.is_empty());
    world.pass(200);
    assert!(world.is_empty());
    assert_eq!(world.report(), (0, 1, 0));
}

#[test]
fn the_deadline_cuts_who_is_left_and_counts_what_is_lost() {
    let mut world = World::echo(Config::default());
    let (reads, stuck, closes) = (world.ready(), world.ready(), world.ready());
    let opening = world.connect();
    world.send(&opening, &REQUEST[..50]);
    let silent = world.connect();
    for client in [&stuck, &closes] {
        client.set_room(Some(100));
        world.send(client, &frame(0x82, &[7; 1_000]));
    }
    // The peer has closed, but not all data that was sent to it before has left.
    world.send(&closes, &frame(0x88, b"\x03\xe8"));
    world.take_log();
    world.drain(4_000, 0);
    world.answer(&reads);
    assert_eq!(world.report(), (1, 0, 0));
    world.pass(3_999);
    assert_eq!(world.report(), (1, 0, 0));
    world.pass(1);
    assert!(world.is_empty());
    // 904 bytes for each of the two, and four for the Close frame.
    assert_eq!(world.report(), (3, 2, 2 * 908));
    let mut log = world.take_log();
    log.sort();
    let expected = [
        "disconnect 1006 (refused with 503 Service Unavailable)",
        "disconnect 1006 (refused with 503 Service Unavailable)",
        "disconnect 1006 (the server shut down), 908 bytes unsent",
        "disconnect 1012 (the server shut down)",
    ];
    assert_eq!(log, expected);
    for client in [opening, silent] {
        assert!(client.take().starts_with(b"HTTP/1.1 503 "));
    }
}

#[test]
fn an_opening_handshake_under_way_is_done_and_then_closed() {
    let mut world = World::new(Config::default());
    let (begun, silent) = (world.connect(), world.connect());
    world.send(&begun, &REQUEST[..50]);
    let later = world.connect();
    world.drain(60_000, 3_000);
    world.pass(1_000);
    world.take_log();
    // Its turn has passed, so the Close frame follows at once.
    world.send(&begun, &REQUEST[50..]);
    let sent = begun.take();
    assert!(sent.starts_with(b"HTTP/1.1 101 ") && sent.ends_with(CLOSE));
    assert_eq!(world.take_log(), ["ready"]);
    world.send(&begun, &frame(0x88, b"\x03\xf4"));
    assert_eq!(world.take_log(), ["disconnect 1012 (the server shut down)"]);
    // The turn of this client is still to come.
    world.send(&later, REQUEST);
    assert!(later.take().starts_with(b"HTTP/1.1 101 "));
    assert_eq!(later.take(), b"");
    world.pass(1_000);
    world.answer(&later);
    // A client that sends nothing is closed after handshake_timeout.
    world.pass(7_900);
    assert!(!world.is_empty());
    world.pass(200);
    assert!(world.is_empty());
    assert_eq!(world.report(), (3, 0, 0));
    drop(silent);
}

#[test]
fn plain_requests_are_answered_for_the_last_time() {
    let mut world = World::new(Config::default());
    world
        .reactor
        .handlers
        .set::<Request, _>(|_, _| Response::new(200).body("fine"));
    let get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let (idle, begun, asks, slow) = (
        world.connect(),
        world.connect(),
        world.connect(),
        world.connect(),
    );
    world.send(&idle, get);
    world.send(&asks, get);
    world.send(&begun, &get[..20]);
    slow.set_room(Some(0));
    world.send(&slow, get);
    idle.take();
    asks.take();
    world.drain(60_000, 4_000);
    assert!(idle.has_fin(), "it waited for nothing");
    let is_last = |client: &Client| {
        let answer = String::from_utf8(client.take()).expect("text");
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close\r\n")
    };
    // A request before the client's turn, and one after it.
    world.send(&asks, get);
    assert!(is_last(&asks) && asks.has_fin());
    world.pass(4_000);
    assert!(!begun.has_fin());
    world.send(&begun, &get[20..]);
    assert!(is_last(&begun) && begun.has_fin());
    // The earlier answer is sent before the end.
    assert!(!slow.has_fin());
    slow.set_room(None);
    world.news(&slow, false, false);
    assert!(slow.take().ends_with(b"fine") && slow.has_fin());
    for client in [&idle, &asks, &begun, &slow] {
        client.arrive_fin();
        world.news(client, true, true);
    }
    assert!(world.is_empty());
    assert_eq!(world.report(), (4, 0, 0));
}

#[test]
fn what_had_come_before_the_close_is_delivered() {
    let mut world = World::echo(Config {
        turn_messages: 10,
        ..Config::default()
    });
    let client = world.ready();
    let messages = frame(0x81, b"x").repeat(100);
    client.arrive(&messages);
    world.tell(client.tag, true, false);
    // The rest of the messages waits for later turns.
    world.drain(60_000, 0);
    world.pass(100);
    let expected = [b"\x81\x01x".repeat(100), CLOSE.to_vec()].concat();
    assert_eq!(client.take(), expected);
}

#[test]
fn a_flood_does_not_put_the_close_off_for_ever() {
    let mut world = World::echo(Config {
        turn_messages: 1,
        ..Config::default()
    });
    let client = world.ready();
    let messages = frame(0x8a, b"").repeat(20_000);
    client.arrive(&messages);
    world.tell(client.tag, true, false);
    world.drain(60_000, 0);
    for at in 1..=5_000 {
        assert_eq!(client.take(), b"", "{at}");
        let now = world.start + Duration::from_millis(at);
        world.reactor.set_now(now);
        world.turn();
    }
    assert_eq!(client.take(), CLOSE);
}

#[test]
fn a_second_drain_is_never_later() {
    let mut world = World::new(Config::default());
    let clients: Vec<_> = (0..4).map(|_| world.ready()).collect();
    world.drain(60_000, 40_000);
    let closed = || {
        clients
            .iter()
            .filter(|client| client.take() == CLOSE)
            .count()
    };
    assert_eq!(closed(), 1);
    world.hasten(3_600_000, 3_600_000);
    world.pass(9_000);
    assert_eq!(closed(), 0);
    world.pass(1_000);
    assert_eq!(closed(), 1);
    // Of the two that are left, one is closed now and one in half of the spread.
    world.hasten(6_000, 4_000);
    assert_eq!(closed(), 1);
    world.pass(2_000);
    assert_eq!(closed(), 1);
    world.pass(3_999);
    assert!(!world.is_empty());
    world.pass(1);
    assert!(world.is_empty());
    // Two were cut by close_timeout before.
    assert_eq!(world.report(), (0, 4, 0));
}

#[test]
fn the_end_of_the_spread_closes_all_and_keeps_deadline_and_code() {
    let mut world = World::new(Config::default());
    let (first, second, opening) = (world.ready(), world.ready(), world.connect());
    world.drain(3_000, 3_000);
    assert_eq!(first.take(), CLOSE);
    let code = world.reactor.end_spread();
    assert_eq!(code, Some(CloseCode::SERVICE_RESTART));
    assert_eq!(world.reactor.end_spread(), None);
    // The server calls this next.
    world.reactor.close_all(CloseCode::SERVICE_RESTART);
    world.turn();
    assert_eq!(first.take(), b"");
    assert_eq!(second.take(), CLOSE);
    assert!(opening.take().starts_with(b"HTTP/1.1 503 "));
    world.pass(3_000);
    assert!(world.is_empty());
    assert_eq!(world.report(), (1, 2, 0));
}

#[test]
fn the_longest_times_are_no_trouble() {
    let mut world = World::new(Config::default());
    let clients = [world.ready(), world.ready()];
    let plan = Plan {
        deadline: Duration::MAX,
        code: CloseCode::GOING_AWAY,
        spread: Duration::MAX,
    };
    world.reactor.wind_down(plan);
    world.turn();
    assert_eq!(clients[0].take(), b"\x88\x02\x03\xe9");
    world.pass(10_000);
    assert_eq!(clients[1].take(), b"");
    world.hasten(0, 0);
    assert_eq!(clients[1].take(), b"\x88\x02\x03\xe9");
    world.pass(0);
    assert!(world.is_empty());
}
