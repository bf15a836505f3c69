//! A loop that spins before it sleeps does everything that a loop without busy polling does.
//!
//! Most servers in these tests may spin for an hour, so everything happens while they spin. No test
//! depends on timing, except for the time limit of a test that hangs. Where it matters how the loop
//! waited, the test counts polls.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::{Client, PATIENCE, REQUEST, Running};
use wsloop::event::*;
use wsloop::{Builder, Server};

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

/// Starts a server that never sleeps after its first event.
fn spinning(configure: impl FnOnce(Builder) -> Builder + Send + 'static) -> Running {
    Running::start(|builder| configure(builder.busy_poll(HOUR).silence_max(Duration::ZERO)))
}

/// Returns a server that the test runs turn by turn, after its first event: a client that sends
/// nothing.
fn heard(busy: Duration) -> (Server, Client) {
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .busy_poll(busy)
        .silence_max(Duration::ZERO)
        .handshake_timeout(HOUR)
        .build()
        .unwrap();
    let client = Client::connect(server.local_addr().unwrap());
    // The event of the listener, and then the one that the connection is writable.
    while server.stats().accepted == 0 {
        turn(&mut server, Some(Duration::from_millis(20)));
    }
    turn(&mut server, Some(Duration::from_millis(20)));
    (server, client)
}

/// Runs a turn; returns the number of polls.
fn turn(server: &mut Server, timeout: Option<Duration>) -> u64 {
    let before = server.stats().polls;
    assert!(server.turn(timeout).unwrap());
    server.stats().polls - before
}

#[test]
fn echoes_of_many_clients() {
    let server = spinning(support::echo);
    let mut clients: Vec<_> = (0..20).map(|_| server.ready()).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.send_text("alive?");
        }
        for client in &mut clients {
            client.expect_text("alive?");
        }
    }
    clients[0].send_close(1000, "");
    clients[0].expect_close(1000);
    clients[0].expect_eof();
    drop(clients);
    assert_eq!(server.stop().accepted, 20);
}

#[test]
fn ticks_come_while_it_spins() {
    let (sender, log) = support::log();
    let server = spinning(move |builder| {
        builder
            .tick_period(Duration::from_millis(5))
            .on(Tick, move |_, _| sender.send("tick".into()))
    });
    let client = server.ready();
    log.expect(&["tick"; 10]);
    drop(client);
    assert!(server.stop().polls > 10);
}

#[test]
fn a_deadline_is_met_while_it_spins() {
    let server = spinning(|builder| builder.handshake_timeout(Duration::from_millis(50)));
    let mut client = server.client();
    client.send_raw(&REQUEST[..REQUEST.len() - 1]);
    assert_eq!(client.response().status, 408);
    client.expect_eof();
}

#[test]
fn other_threads_are_heard_while_it_spins() {
    let server = spinning(support::echo);
    let mut client = server.ready();
    for _ in 0..10 {
        server.handle.broadcast_utf8("from a thread").unwrap();
        client.expect_text("from a thread");
    }
    let (sender, answer) = mpsc::channel();
    server
        .handle
        .run(move |hub| sender.send(hub.len()).unwrap())
        .unwrap();
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), 1);
    server.handle.shutdown().unwrap();
    client.answer_close(1001);
}

#[test]
fn other_threads_wake_it_when_it_has_gone_to_sleep() {
    let server = Running::start(|builder| {
        support::echo(builder)
            .busy_poll(Duration::from_millis(1))
            .silence_max(Duration::ZERO)
    });
    let mut client = server.ready();
    for pause in [0, 30, 0, 30] {
        std::thread::sleep(Duration::from_millis(pause));
        server.handle.broadcast_utf8("good morning").unwrap();
        client.expect_text("good morning");
        client.expect_alive();
    }
}

#[test]
fn it_sleeps_when_the_time_is_over() {
    let busy = Duration::from_millis(2);
    let (mut server, _client) = heard(busy);
    let timeout = Some(Duration::from_millis(20));
    // At least one poll that does not wait, and then the one that sleeps.
    assert!(turn(&mut server, timeout) >= 2);
    // Now nothing has happened for ten times the spinning time.
    for _ in 0..5 {
        assert_eq!(turn(&mut server, timeout), 1);
    }
    // An event starts the spinning again.
    server.handle().run(|_| ()).unwrap();
    assert_eq!(turn(&mut server, None), 1);
    assert!(turn(&mut server, timeout) >= 2);
    assert_eq!(turn(&mut server, timeout), 1);
}

#[test]
fn a_turn_ends_when_it_is_told_to() {
    let (mut server, _client) = heard(HOUR);
    let begun = Instant::now();
    turn(&mut server, Some(Duration::from_millis(30)));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    turn(&mut server, Some(Duration::from_nanos(1)));
}

#[test]
fn a_turn_that_must_not_wait_does_not_spin() {
    let (mut server, _client) = heard(HOUR);
    for _ in 0..5 {
        assert_eq!(turn(&mut server, Some(Duration::ZERO)), 1);
    }
}

#[test]
fn without_busy_poll_each_turn_is_one_poll() {
    let (mut server, mut client) = heard(Duration::ZERO);
    for timeout in [0, 1, 5, 0, 20] {
        assert_eq!(turn(&mut server, Some(Duration::from_millis(timeout))), 1);
    }
    client.send_raw("GET");
    assert_eq!(turn(&mut server, None), 1);
    assert_eq!(turn(&mut server, Some(Duration::from_millis(1))), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn connections_inherit_the_socket_option() {
    use socket2::SockRef;

    let inherited = |busy: Duration| {
        let (sender, options) = mpsc::channel();
        let server = Running::start(move |builder| {
            support::echo(builder.busy_poll(busy)).on(Accept, move |_, accepted| {
                let socket = accepted.socket.unwrap();
                sender.send(SockRef::from(&socket).busy_poll().unwrap())
            })
        });
        server.ready().expect_alive();
        options.recv_timeout(PATIENCE).unwrap()
    };
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let default = SockRef::from(&probe).busy_poll().unwrap();
    let allowed = SockRef::from(&probe).set_busy_poll(i32::MAX as u32).is_ok();
    assert_eq!(inherited(Duration::ZERO), default);
    for (busy, micros) in [
        (Duration::from_nanos(1), 1),
        (Duration::from_micros(50), 50),
        (Duration::MAX, i32::MAX as u32),
    ] {
        // Without the privilege to set the option, the server still works.
        let expected = if allowed { micros } else { default.min(micros) };
        assert_eq!(inherited(busy), expected);
    }
}
