//! The events of the server: `Start` comes first, `Tick` every period with a count of missed ticks,
//! and `Shutdown` last, while messages can still be sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::{PATIENCE, Running};
use wsloop::Server;
use wsloop::event::{Disconnect, Shutdown, Start, Tick, Utf8};

#[test]
fn start_comes_once_and_first() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let ticks = sender.clone();
        builder
            .tick_period(Duration::from_millis(1))
            .on(Start, move |hub, ()| {
                assert!(hub.is_empty());
                *hub.shared::<u32>() += 1;
                sender.send("start".into())
            })
            .on(Tick, move |hub, _| {
                ticks.send(format!("tick after {}", hub.shared::<u32>()))
            })
    });
    log.expect(&["start", "tick after 1", "tick after 1"]);
    server.stop();
    assert!(log.rest().iter().all(|entry| entry == "tick after 1"));
}

#[test]
fn ticks_come_without_traffic_and_never_early() {
    const PERIOD: Duration = Duration::from_millis(20);
    let (sender, ticks) = mpsc::channel();
    let begun = Instant::now();
    let server = Running::start(move |builder| {
        builder
            .tick_period(PERIOD)
            .on(Tick, move |_, tick| sender.send((tick.now, tick.missed)))
    });
    let mut due = 0;
    for _ in 0..8 {
        let (now, missed) = ticks.recv_timeout(PATIENCE).unwrap();
        due += 1 + missed as u32;
        assert!(now - begun >= PERIOD * due, "tick {due} came early");
    }
    server.stop();
}

#[test]
fn missed_ticks_come_as_one_and_are_counted() {
    const PERIOD: Duration = Duration::from_millis(10);
    let (sender, ticks) = mpsc::channel();
    let server = Running::start(move |builder| {
        support::echo(builder)
            .tick_period(PERIOD)
            .on(Utf8, |conn, text| {
                if text == "block" {
                    std::thread::sleep(PERIOD * 12);
                }
                conn.send_utf8(text)
            })
            .on(Tick, move |hub, tick| {
                let counted = hub.stats().missed_ticks;
                sender.send((tick.now, tick.missed, counted))
            })
    });
    let mut client = server.ready();
    client.send_text("block");
    client.expect_text("block");
    let mut all = Vec::new();
    while all.last().is_none_or(|(_, missed, _)| *missed < 10) {
        all.push(ticks.recv_timeout(PATIENCE).unwrap());
    }
    drop(client);
    let stats = server.stop();
    all.extend(ticks);

    let mut counted = 0;
    for (_, missed, stats) in &all {
        counted += missed;
        assert_eq!(*stats, counted, "counted before the event");
    }
    assert_eq!(stats.missed_ticks, counted);
    // Together with the missed ones there are as many ticks as periods: none is lost or repeated.
    let (first, last) = (all[0], all[all.len() - 1]);
    let delivered = all.len() as u32 - 1;
    let missed = (counted - first.1) as u32;
    let periods = (last.0 - first.0).div_duration_f64(PERIOD);
    let difference = f64::from(delivered + missed) - periods;
    assert!(difference.abs() < 1.0 + 1e-6, "off by {difference} ticks");
}

#[test]
fn ticks_reach_clients() {
    let server = Running::start(|builder| {
        builder
            .tick_period(Duration::from_millis(5))
            .on(Tick, |hub, _| hub.broadcast_utf8("tick"))
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    for _ in 0..3 {
        one.expect_text("tick");
        other.expect_text("tick");
    }
}

#[test]
fn no_period_is_no_tick() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        support::echo(builder).on(Tick, move |_, _| sender.send("tick".into()))
    });
    server.ready().expect_alive();
    assert_eq!(server.stop().missed_ticks, 0);
    assert_eq!(log.rest(), [""; 0]);
}

#[test]
fn shutdown_comes_once_while_clients_can_be_sent_to() {
    let (sender, log) = support::log();
    let mut server = Running::start(move |builder| {
        let left = sender.clone();
        builder
            .tick_period(Duration::from_millis(1))
            .on(Utf8, |conn, _| {
                conn.server().shutdown();
                conn.server().shutdown();
                conn.send_utf8("as you wish")
            })
            .on(Shutdown, move |hub, ()| {
                sender.send(format!("shutdown {}", hub.len())).unwrap();
                // This changes nothing, because the server is already shutting down.
                hub.shutdown();
                hub.broadcast_utf8("farewell")
            })
            .on(Disconnect, move |_, why| left.send(format!("left {why}")))
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    one.send_text("go");
    one.expect_text("as you wish");
    for client in [&mut one, &mut other] {
        client.expect_text("farewell");
        client.answer_close(1001);
    }
    drop((one, other));
    server.join();
    assert_eq!(
        log.rest(),
        [
            "shutdown 2",
            "left 1001 (the server shut down)",
            "left 1001 (the server shut down)"
        ]
    );
}

#[test]
fn shutdown_at_the_start_ends_at_once() {
    let (sender, log) = support::log();
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .on(Start, |hub, ()| hub.shutdown())
        .on(Shutdown, move |_, ()| sender.send("shutdown".into()))
        .build()
        .unwrap();
    server.start().unwrap();
    log.expect(&["shutdown"]);
    assert!(!server.turn(None).unwrap(), "it has ended");
    drop(server);
    assert_eq!(log.rest(), [""; 0]);
}
