//! Settings that can be read and changed while the server runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc;
use std::time::Duration;

use crate::support;
use crate::support::{PATIENCE, Running};
use wsloop::Phase;
use wsloop::event::*;

#[test]
fn ticks_are_switched_on_and_off() {
    let (sender, ticks) = mpsc::channel();
    let server = Running::start(move |builder| {
        support::echo(builder).on(Tick, move |hub, tick| {
            let period = hub.tick_period();
            // The handler switches ticks off, so the next one does not come.
            if tick.missed == 0 && hub.shared::<u32>() == &3 {
                hub.set_tick_period(Duration::ZERO);
            }
            *hub.shared::<u32>() += 1;
            sender.send(period)
        })
    });
    let set = |period| {
        let done = server.handle.ask(move |hub| {
            *hub.shared::<u32>() = 0;
            hub.set_tick_period(period);
            hub.tick_period()
        });
        assert_eq!(done.unwrap().recv_timeout(PATIENCE), Ok(period));
    };
    for _ in 0..2 {
        let period = Duration::from_millis(5);
        set(period);
        for _ in 0..2 {
            assert_eq!(ticks.recv_timeout(PATIENCE), Ok(period));
        }
        set(Duration::ZERO);
        server.ready().expect_alive();
        server.ready().expect_alive();
        while ticks.try_recv().is_ok() {}
    }
    set(Duration::from_secs(3600));
    set(Duration::from_millis(1));
    assert_eq!(ticks.recv_timeout(PATIENCE), Ok(Duration::from_millis(1)));
    server.stop();
}

#[test]
fn pings_follow_a_silence_that_is_set_late() {
    let server = Running::echo();
    let mut client = server.ready();
    let done = server.handle.ask(|hub| {
        assert_eq!(hub.silence_max(), Duration::from_secs(20));
        hub.set_silence_max(Duration::from_millis(10));
        hub.set_idle_timeout(Duration::ZERO);
        (hub.idle_timeout(), hub.silence_checkinterval())
    });
    let expected = (Duration::ZERO, Duration::from_millis(5));
    assert_eq!(done.unwrap().recv_timeout(PATIENCE), Ok(expected));
    client.expect_frame(0x89, "");
    client.expect_frame(0x89, "");
}

#[test]
fn what_the_server_was_built_with() {
    let server = Running::start(|builder| {
        builder
            .max_send_size(1234)
            .subprotocols(["a", "b"])
            .silence_checkinterval(Duration::from_secs(3))
    });
    let told = server.handle.ask(|hub| {
        let limits = hub.limits();
        let names = hub.subprotocols().join(" ");
        (limits.max_send_size, names, hub.silence_checkinterval())
    });
    let expected = (1234, "a b".to_owned(), Duration::from_secs(3));
    assert_eq!(told.unwrap().recv_timeout(PATIENCE), Ok(expected));
}

#[test]
fn a_connection_knows_where_it_is() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let later = sender.clone();
        builder
            .on(Connect, move |conn, ()| {
                assert!(conn.phase() == Phase::Opening && !conn.is_ready());
                let id = conn.id();
                assert!(conn.server().ids().is_empty());
                assert_eq!(conn.server().all_ids(), [id]);
                let local = conn.local_addr().unwrap().unwrap();
                sender
                    .send(format!("{} {local}", conn.peer_addr().unwrap()))
                    .unwrap();
            })
            .on(Ready, move |conn, ()| {
                assert!(conn.phase() != Phase::Opening && conn.is_ready());
                let id = conn.id();
                assert_eq!(conn.server().ids(), [id]);
                conn.disconnect(1000, "").unwrap();
                assert!(conn.server().ids().is_empty());
                assert_eq!(conn.server().all_ids(), [id]);
            })
            .on(Disconnect, move |conn, _| {
                assert!(conn.server().all_ids().is_empty());
                later.send(conn.peer_addr().unwrap().to_string())
            })
    });
    let mut client = server.client();
    let addr = client.stream.local_addr().unwrap();
    client.upgrade();
    client.answer_close(1000);
    log.expect(&[&format!("{addr} {}", server.addr), &addr.to_string()]);
}
