//! Timers, intervals and lifetimes, to the millisecond.

use super::*;
use crate::connection::TimerId;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl World {
    fn hub(&mut self) -> Hub<'_> {
        Hub::new(&mut self.reactor.core)
    }

    /// Returns a closure that logs when it is called, in milliseconds.
    fn clock(&self) -> impl Fn(&str, Instant) + Clone + 'static {
        let (log, start) = (self.log.clone(), self.start);
        move |what, now| {
            let at = (now - start).as_millis();
            log.borrow_mut().push(format!("{what} {at}"));
        }
    }
}

/// A world without pings, so that nothing else wakes the loop.
fn quiet() -> World {
    World::new(Config {
        silence_max: Duration::ZERO,
        ..Config::default()
    })
}

#[test]
fn timers_come_in_order_and_on_time() {
    let mut world = quiet();
    for (after, name) in [(30, "c"), (10, "a"), (30, "d"), (10, "b"), (0, "first")] {
        let log = world.log.clone();
        world
            .hub()
            .set_timer(ms(after), move |_| log.borrow_mut().push(name.into()));
    }
    world.pass(9);
    assert_eq!(world.take_log(), ["first"]);
    world.pass(1);
    assert_eq!(world.take_log(), ["a", "b"]);
    world.pass(19);
    assert_eq!(world.take_log(), [""; 0]);
    assert_eq!(world.pass(1), 1);
    assert_eq!(world.take_log(), ["c", "d"]);
    assert_eq!(world.reactor.next_deadline(), None);
}

#[test]
fn a_timer_sets_and_clears_others() {
    let mut world = quiet();
    let log = world.log.clone();
    let doomed = world.hub().set_timer(ms(10), {
        let log = log.clone();
        move |_| log.borrow_mut().push("doomed".into())
    });
    world.hub().set_timer(ms(5), move |hub| {
        assert!(hub.clear_timer(doomed));
        assert!(!hub.clear_timer(doomed), "once");
        let (again, log) = (log.clone(), log);
        // In the next turn, not in this one.
        hub.set_timer(Duration::ZERO, move |hub| {
            log.borrow_mut().push("next".into());
            hub.set_timer(ms(1), move |_| again.borrow_mut().push("last".into()));
        });
    });
    assert_eq!(world.pass(5), 2);
    assert_eq!(world.take_log(), ["next"]);
    world.pass(100);
    assert_eq!(world.take_log(), ["last"]);
}

#[test]
fn of_two_that_are_due_the_first_can_clear_the_second() {
    let mut world = quiet();
    let second: Rc<RefCell<Option<TimerId>>> = Rc::default();
    let log = world.log.clone();
    let known = second.clone();
    world.hub().set_timer(ms(10), move |hub| {
        let id = known.borrow().expect("set below");
        assert!(hub.clear_timer(id));
    });
    let id = world
        .hub()
        .set_timer(ms(10), move |_| log.borrow_mut().push("second".into()));
    *second.borrow_mut() = Some(id);
    world.pass(20);
    assert_eq!(world.take_log(), [""; 0]);
}

#[test]
fn an_interval_counts_what_it_missed() {
    let mut world = quiet();
    let say = world.clock();
    let mut firings = 0;
    let own: Rc<RefCell<Option<TimerId>>> = Rc::default();
    let known = own.clone();
    let id = world.hub().set_interval(ms(10), move |hub, ticks| {
        say(&format!("missed {} at", ticks.missed), ticks.now);
        firings += 1;
        if firings == 4 {
            let id = known.borrow().expect("set below");
            assert!(hub.clear_timer(id), "it may clear itself");
        }
    });
    *own.borrow_mut() = Some(id);
    world.pass(25);
    assert_eq!(world.take_log(), ["missed 0 at 10", "missed 0 at 20"]);
    // The loop stalls, and then the interval keeps to its grid.
    world.at += 40;
    world.pass(0);
    assert_eq!(world.take_log(), ["missed 3 at 65"]);
    world.pass(100);
    assert_eq!(world.take_log(), ["missed 0 at 70"]);
    assert_eq!(world.reactor.next_deadline(), None);
}

#[test]
fn an_interval_of_nothing_is_a_millisecond() {
    let mut world = quiet();
    world.hub().set_interval(Duration::ZERO, |_, _| ());
    assert_eq!(world.pass(10), 10);
}

#[test]
fn a_failing_interval_ends_and_the_others_go_on() {
    let mut world = quiet();
    let say = world.clock();
    world.hub().set_interval(ms(10), |_, _| Err::<(), _>("no"));
    world
        .hub()
        .set_interval(ms(10), |_, _| -> () { panic!("a test") });
    world.hub().set_timer(ms(10), |_| Err::<(), _>("no"));
    world
        .hub()
        .set_interval(ms(10), move |_, ticks| say("at", ticks.now));
    world.pass(30);
    assert_eq!(world.take_log(), ["at 10", "at 20", "at 30"]);
    assert_eq!(world.reactor.core.shared.timers.due(ms(1000)).len(), 1);
}

#[test]
fn a_connections_timer_acts_as_its_handler() {
    let mut world = quiet();
    world.reactor.handlers.set::<Ready, _>(|conn, ()| {
        conn.set_timer(ms(20), |conn| {
            conn.send_utf8("one")?;
            conn.send_utf8("two")
        });
        conn.set_interval(ms(15), |conn, _| conn.ping(b""));
    });
    let client = world.ready();
    world.pass(19);
    assert_eq!(client.take(), b"\x89\x00");
    let writes = client.calls().1;
    world.pass(1);
    assert_eq!(client.take(), b"\x81\x03one\x81\x03two");
    assert_eq!(client.calls().1, writes + 1, "in one write");
    world.pass(10);
    assert_eq!(client.take(), b"\x89\x00");
}

#[test]
fn a_connections_timer_that_fails_closes_it_alone() {
    for panics in [false, true] {
        let mut world = quiet();
        let other = world.ready();
        world.reactor.handlers.set::<Ready, _>(move |conn, ()| {
            conn.set_interval(ms(10), move |_, _| {
                assert!(!panics, "a test");
                Err::<(), _>("no")
            });
        });
        let client = world.ready();
        world.pass(10);
        assert_eq!(client.take(), b"\x88\x02\x03\xf3");
        assert_eq!(world.take_log().len(), 1, "the error");
        world.pass(5_100);
        assert_eq!(
            world.take_log(),
            ["disconnect 1011 (a handler failed)"],
            "the interval has ended"
        );
        world.send(&other, &frame(0x8a, b""));
        assert_eq!(world.take_log(), ["pong"]);
    }
}

#[test]
fn timers_die_with_their_connection() {
    let mut world = quiet();
    let alive = Rc::new(());
    let held = alive.clone();
    world.reactor.handlers.set::<Connect, _>(move |conn, ()| {
        let held = held.clone();
        conn.set_timer(ms(100), move |_| drop(held));
        conn.set_lifetime(Some(ms(100)));
    });
    world.reactor.handlers.set::<Disconnect, _>(|conn, _| {
        // Timers that are set now never fire.
        let id = conn.set_timer(ms(1), |_| -> () { unreachable!("it is over") });
        conn.set_lifetime(Some(ms(1)));
        assert!(!conn.clear_timer(id));
    });
    let client = world.ready();
    assert_eq!(Rc::strong_count(&alive), 3);
    world.send(&client, &frame(0x88, b""));
    assert!(world.is_empty());
    assert_eq!(Rc::strong_count(&alive), 2, "what it held is freed at once");
    // The next connection in the slot inherits nothing.
    world.reactor.handlers.set::<Connect, _>(|_, ()| ());
    let next = world.ready();
    world.pass(1_000);
    assert_eq!(next.take(), b"");
}

#[test]
fn a_timer_may_cut_its_connection_and_clear_itself() {
    let mut world = quiet();
    world.reactor.handlers.set::<Connect, _>(|conn, ()| {
        conn.set_interval(ms(10), |conn, _| conn.abort());
    });
    let client = world.connect();
    world.pass(10);
    assert_eq!(client.take(), b"");
    assert!(world.is_empty());
    assert_eq!(world.reactor.core.shared.timers.next(), u64::MAX);
}

#[test]
fn an_old_connection_is_closed() {
    let mut world = World::new(Config {
        max_lifetime: Some(Duration::from_secs(60)),
        ..Config::default()
    });
    let client = world.ready();
    for _ in 0..5 {
        world.pass(10_000);
        // Traffic does not postpone the end.
        world.send(&client, &frame(0x8a, b""));
    }
    world.take_log();
    world.pass(9_999);
    assert_eq!(client.take(), b"");
    world.pass(1);
    assert_eq!(client.take(), b"\x88\x02\x03\xe9");
    world.send(&client, &frame(0x88, b"\x03\xe9"));
    assert_eq!(
        world.take_log(),
        ["disconnect 1001 (older than max_lifetime)"]
    );
}

#[test]
fn a_lifetime_of_ones_own() {
    let mut world = quiet();
    world.reactor.core.shared.config.max_lifetime = Some(ms(500));
    world.reactor.handlers.set::<Utf8, _>(|conn, text| {
        conn.set_lifetime(text.parse().ok().map(ms));
    });
    let (long, short, for_ever) = (world.ready(), world.ready(), world.ready());
    world.pass(100);
    world.send(&long, &frame(0x81, b"1000"));
    world.send(&short, &frame(0x81, b"10"));
    world.send(&for_ever, &frame(0x81, b"none"));
    world.pass(10);
    assert_eq!(short.take(), b"\x88\x02\x03\xe9");
    world.pass(989);
    assert_eq!(long.take(), b"");
    world.pass(1);
    assert_eq!(long.take(), b"\x88\x02\x03\xe9");
    world.pass(1_000_000);
    assert_eq!(for_ever.take(), b"");
}

#[test]
fn one_that_is_too_old_in_its_handshake_is_refused() {
    let mut world = World::new(Config {
        max_lifetime: Some(Duration::from_secs(5)),
        ..Config::default()
    });
    let client = world.connect();
    world.pass(5_000);
    assert!(client.take().starts_with(b"HTTP/1.1 503 "));
    let expected = ["connect", "disconnect 1006 (older than max_lifetime)"];
    assert_eq!(world.take_log(), expected);
}
