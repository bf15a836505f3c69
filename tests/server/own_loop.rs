//! A program with its own loop runs the server turn by turn.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use crate::support;
use crate::support::{Client, PATIENCE};
use wsloop::event::*;
use wsloop::{Sent, Server};

/// Runs turns until `done` returns true.
fn turns(server: &mut Server, mut done: impl FnMut(&mut Server) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(server) {
        assert!(Instant::now() < deadline, "it goes on");
        assert!(server.turn(Some(Duration::from_millis(20))).unwrap());
    }
}

/// Runs a client on another thread, and the server's turns in the meantime.
fn play<T: Send + 'static>(
    server: &mut Server,
    client: impl FnOnce(Client) -> T + Send + 'static,
) -> T {
    let addr = server.local_addr().unwrap();
    let thread = std::thread::spawn(move || client(Client::connect(addr)));
    turns(server, |_| thread.is_finished());
    thread.join().unwrap()
}

#[test]
fn a_turn_waits_for_as_long_as_it_is_told() {
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .silence_max(Duration::ZERO)
        .build()
        .unwrap();
    assert!(server.turn(Some(Duration::ZERO)).unwrap());
    let begun = Instant::now();
    assert!(server.turn(Some(Duration::from_millis(30))).unwrap());
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_turn_does_not_sleep_through_a_tick() {
    let (sender, log) = support::log();
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .tick_period(Duration::from_millis(10))
        .on(Tick, move |_, _| sender.send("tick".into()))
        .build()
        .unwrap();
    // These turns have no timeout, so only the tick can end them.
    for _ in 0..4 {
        assert!(server.turn(None).unwrap());
    }
    log.expect(&["tick", "tick", "tick"]);
}

#[test]
fn clients_are_served_turn_by_turn() {
    let mut server = support::echo(Server::builder().listen("127.0.0.1:0"))
        .build()
        .unwrap();
    play(&mut server, |mut client| {
        client.upgrade();
        for _ in 0..10 {
            client.expect_alive();
        }
        client.send_close(1000, "");
        client.expect_close(1000);
        client.expect_eof();
    });
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn between_turns_the_hub_reaches_everybody() {
    let mut server = support::echo(Server::builder().listen("127.0.0.1:0"))
        .silence_max(Duration::ZERO)
        .build()
        .unwrap();
    let mut client = play(&mut server, |mut client| {
        client.upgrade();
        client
    });
    turns(&mut server, |server| server.hub().len() == 1);
    assert!(server.turn(Some(Duration::ZERO)).unwrap());
    assert_eq!(
        server
            .hub()
            .broadcast_utf8("from between")
            .map(Sent::receivers),
        Ok(1)
    );
    *server.hub().shared::<u32>() = 7;
    // The queued message is sent in the next turn, which does not sleep first.
    assert!(server.turn(None).unwrap());
    client.expect_text("from between");
    assert_eq!(*server.hub().shared::<u32>(), 7);

    let id = server.hub().ids()[0];
    let mut hub = server.hub();
    hub.get(id)
        .unwrap()
        .disconnect(4000, "that was it")
        .unwrap();
    assert!(server.turn(None).unwrap());
    assert_eq!(client.expect_close(4000), "that was it");
    client.send_close(4000, "");
    turns(&mut server, |server| server.hub().get(id).is_none());
    drop(client);

    server.hub().shutdown();
    let mut count = 0;
    while server.turn(None).unwrap() {
        count += 1;
        assert!(count < 100, "it ends");
    }
    assert!(!server.turn(None).unwrap());
}

#[test]
fn a_cut_between_turns_is_told_in_the_next() {
    let (sender, log) = support::log();
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .on(Disconnect, move |_, why| sender.send(why.to_string()))
        .build()
        .unwrap();
    let mut client = play(&mut server, |mut client| {
        client.upgrade();
        client
    });
    server.hub().for_each(|conn| conn.abort());
    assert!(server.turn(None).unwrap());
    log.expect(&["1006 (cut by the server)"]);
    assert_eq!(client.read_to_end(), b"");
}
