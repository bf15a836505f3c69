//! Timers in the real loop: it wakes for them, and never early. Tests with a simulated clock check
//! what timers do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use crate::support;
use crate::support::{PATIENCE, Running};
use wsloop::Server;
use wsloop::event::*;

#[test]
fn the_loop_wakes_up_for_timers_and_not_early() {
    const AFTER: Duration = Duration::from_millis(20);
    let (sender, log) = support::log();
    let mut server = Server::builder().listen("127.0.0.1:0").build().unwrap();
    assert!(server.turn(Some(Duration::ZERO)).unwrap());
    assert_eq!(server.poll_timeout(Instant::now()), None);
    let set = Instant::now();
    server
        .hub()
        .set_timer(AFTER, move |_| sender.send("now".into()));
    let wait = server.poll_timeout(set).unwrap();
    assert!(wait >= AFTER, "{wait:?}");
    assert!(wait < AFTER + PATIENCE, "{wait:?}");
    while server.poll_timeout(Instant::now()).is_some() {
        server.turn(None).unwrap();
    }
    assert!(set.elapsed() >= AFTER);
    assert_eq!(log.rest(), ["now"]);
}

#[test]
fn clients_hear_of_timers() {
    let server = Running::start(|builder| {
        builder
            .on(Start, |hub, ()| {
                hub.set_interval(Duration::from_millis(2), |hub, _| {
                    hub.broadcast_utf8("to all")
                });
            })
            .on(Ready, |conn, ()| {
                conn.set_timer(Duration::from_millis(5), |conn| {
                    conn.disconnect(4000, "time is up")
                });
            })
    });
    for _ in 0..2 {
        let mut client = server.ready();
        let mut frame = client.read_frame();
        while frame.first == 0x81 {
            assert_eq!(frame.payload, b"to all");
            frame = client.read_frame();
        }
        assert_eq!(
            (frame.first, &frame.payload[2..]),
            (0x88, &b"time is up"[..])
        );
    }
}

#[test]
fn timers_do_not_keep_the_server_alive() {
    let (sender, log) = support::log();
    let mut server = Running::start(move |builder| {
        builder
            .on(Start, move |hub, ()| {
                let never = sender.clone();
                hub.set_timer(Duration::from_secs(3600), move |_| {
                    never.send("never".into())
                });
                hub.set_interval(Duration::from_secs(3600), |_, _| ());
                hub.set_timer(Duration::from_millis(1), |hub| hub.shutdown());
            })
            .on(Shutdown, |hub, ()| {
                // Timers still run during a shutdown, but this one is too late.
                hub.set_timer(Duration::from_secs(3600), |_| ());
            })
    });
    server.join();
    assert_eq!(log.rest(), [""; 0]);
}

#[test]
fn while_the_server_goes_down_timers_go_on() {
    let mut server = Running::start(|builder| {
        builder.close_timeout(PATIENCE).on(Shutdown, |hub, ()| {
            // Clients that do not answer are cut before `close_timeout`.
            hub.set_timer(Duration::from_millis(5), |hub| {
                for id in hub.all_ids() {
                    if let Some(mut conn) = hub.get(id) {
                        conn.abort();
                    }
                }
            });
        })
    });
    let mut client = server.ready();
    let begun = Instant::now();
    server.handle.shutdown().unwrap();
    client.expect_close(1001);
    server.join();
    assert!(begun.elapsed() < PATIENCE);
}
