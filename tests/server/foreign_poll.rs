//! A program can wait for the server in its own poll.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::{Client, PATIENCE};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use wsloop::Server;
use wsloop::event::Tick;

#[test]
fn a_foreign_poll_waits_for_events_and_deadlines() {
    let mut server = support::echo(Server::builder().listen("127.0.0.1:0"))
        .tick_period(Duration::from_millis(30))
        // Leaves work to do at the end of a turn.
        .turn_bytes(1 << 20)
        .turn_messages(2)
        .on(Tick, |hub, _| *hub.shared::<u32>() += 1)
        .build()
        .unwrap();
    let handle = server.handle();
    let mut poll = Poll::new().unwrap();
    let fd = server.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
        .unwrap();
    // Another event source of the program.
    let waker = Arc::new(mio::Waker::new(poll.registry(), Token(1)).unwrap());
    let wakes = waker.clone();
    let addr = server.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut client = Client::connect(addr);
        client.upgrade();
        client.send_raw(support::frame(0x81, b"alive?").repeat(99));
        for _ in 0..99 {
            client.expect_text("alive?");
        }
        handle.broadcast_utf8("from a thread").unwrap();
        client.expect_text("from a thread");
        wakes.wake().unwrap();
        client
    });
    let mut events = Events::with_capacity(8);
    let mut woken = false;
    let began = Instant::now();
    while !woken || *server.hub().shared::<u32>() < 3 {
        assert!(began.elapsed() < PATIENCE, "it goes on");
        let timeout = server.poll_timeout(Instant::now()).unwrap_or(PATIENCE);
        poll.poll(&mut events, Some(timeout)).unwrap();
        woken |= events.iter().any(|event| event.token() == Token(1));
        assert!(server.turn(Some(Duration::ZERO)).unwrap());
    }
    drop(client.join().unwrap());
    // Dropping the waker earlier could lose its event.
    drop(waker);
}
