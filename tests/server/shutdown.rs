//! A shutdown closes the listeners, sends each client a Close frame, and ends when all clients have
//! gone or the time is up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::{Client, Running};
use wsloop::Server;
use wsloop::event::*;

#[test]
fn every_client_is_told_and_the_server_ends_with_the_last() {
    let (sender, log) = support::log();
    let mut server = Running::start(move |builder| {
        support::echo(builder)
            .close_timeout(Duration::from_secs(3600))
            .on(Disconnect, move |_, why| sender.send(why.to_string()))
    });
    let mut clients: Vec<_> = (0..10).map(|_| server.ready()).collect();
    server.handle.shutdown().unwrap();
    for client in &mut clients {
        assert_eq!(client.expect_close(1001), "");
    }
    for client in &mut clients {
        client.send_close(1001, "");
        client.expect_eof();
    }
    drop(clients);
    server.join();
    assert_eq!(log.rest(), ["1001 (the server shut down)"; 10]);
}

#[test]
fn nobody_new_comes_in() {
    let (sender, log) = support::log();
    let mut server = Running::start(move |builder| {
        builder
            .on(Connect, move |_, ()| sender.send("connect".into()).is_ok())
            .on(Shutdown, |hub, ()| hub.broadcast_utf8("farewell"))
    });
    let mut client = server.ready();
    server.handle.shutdown().unwrap();
    client.expect_text("farewell");
    client.expect_close(1001);
    // The listeners had been closed before the Close frame was sent.
    let refused = TcpStream::connect(server.addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    client.send_close(1001, "");
    client.expect_eof();
    drop(client);
    server.join();
    assert_eq!(log.rest(), ["connect"]);
}

#[test]
fn a_client_that_ignores_it_is_cut_after_close_timeout() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let (sender, log) = support::log();
    let mut server = Running::start(move |builder| {
        builder
            .close_timeout(TIMEOUT)
            .on(Disconnect, move |_, why| sender.send(why.to_string()))
    });
    let mut client = server.ready();
    let begun = Instant::now();
    server.handle.shutdown().unwrap();
    server.join();
    assert!(begun.elapsed() >= TIMEOUT, "it waited");
    client.expect_close(1001);
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(log.rest(), ["1001 (the server shut down)"]);
}

#[test]
fn one_that_closed_and_does_not_go_is_cut_too() {
    let mut server = Running::start(|builder| builder.close_timeout(Duration::from_millis(200)));
    let mut client = server.ready();
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
    // The client never sends its FIN.
    server.handle.shutdown().unwrap();
    server.join();
    drop(client);
}

#[test]
fn a_client_that_has_not_asked_yet_is_answered_503() {
    let (sender, log) = support::log();
    let mut server = Running::start(move |builder| {
        let ends = sender.clone();
        builder
            .on(Connect, move |_, ()| sender.send("connect".into()).is_ok())
            .on(Disconnect, move |_, why| ends.send(why.to_string()))
    });
    let mut client = server.client();
    client.send_raw("GET / HTTP/1.1\r\n");
    log.expect(&["connect"]);
    server.handle.shutdown().unwrap();
    assert_eq!(client.response().status, 503);
    client.expect_eof();
    drop(client);
    server.join();
    let rest = log.rest();
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].contains("503"), "{rest:?}");
}

#[test]
fn what_was_sent_before_arrives_first() {
    const SIZE: usize = 4 << 20;
    let mut server = Running::start(|builder| {
        builder
            .max_send_size(SIZE)
            .on(Utf8, |conn, _| {
                conn.send_binary(&vec![7; SIZE])?;
                conn.server().shutdown();
                Ok::<_, wsloop::SendError>(())
            })
            .on(Shutdown, |hub, ()| hub.broadcast_utf8("farewell"))
    });
    let mut client = server.ready();
    client.send_text("go");
    client.expect_frame(0x82, vec![7; SIZE]);
    client.expect_text("farewell");
    client.answer_close(1001);
    drop(client);
    server.join();
}

#[test]
fn without_clients_it_ends_at_once() {
    let mut server = Running::start(|builder| builder.close_timeout(Duration::from_secs(3600)));
    server.handle.shutdown().unwrap();
    // The server is already shutting down, or has ended.
    let _ = server.handle.shutdown();
    server.join();
}

#[test]
fn the_longest_deadlines_are_no_trouble() {
    let mut server = Running::start(|builder| {
        support::echo(builder)
            .handshake_timeout(Duration::MAX)
            .silence_max(Duration::MAX)
            .idle_timeout(Duration::MAX)
            .close_timeout(Duration::MAX)
            .tick_period(Duration::MAX)
    });
    let mut client = server.ready();
    client.expect_alive();
    server.handle.shutdown().unwrap();
    client.answer_close(1001);
    drop(client);
    server.join();
}

#[test]
fn a_dropped_server_tells_each_connection_once() {
    let (sender, log) = support::log();
    let ends = sender.clone();
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .on(Connect, move |_, ()| sender.send("connect".into()).is_ok())
        .on(Disconnect, move |conn, why| {
            // Handlers may still use the hub.
            conn.server().broadcast_utf8("left")?;
            ends.send(why.to_string()).unwrap_or_default();
            Ok::<_, wsloop::SendError>(())
        })
        .build()
        .unwrap();
    let addr = server.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        // The clients are in three phases: connected, ready, and closed.
        let waiting = Client::connect(addr);
        let mut ready = Client::connect(addr);
        ready.upgrade();
        let mut closed = Client::connect(addr);
        closed.upgrade();
        closed.send_close(1000, "");
        closed.expect_close(1000);
        closed.expect_eof();
        (waiting, ready, closed)
    });
    while !thread.is_finished() || server.stats().accepted < 3 {
        assert!(server.turn(Some(Duration::from_millis(10))).unwrap());
    }
    drop(server);
    let (mut waiting, mut ready, closed) = thread.join().unwrap();
    assert_eq!(waiting.read_to_end(), b"");
    // Only the messages that handlers sent before arrive.
    let farewells = ready.read_to_end();
    assert!(farewells.chunks(6).all(|frame| frame == b"\x81\x04left"));
    drop(closed);
    let mut entries = log.rest();
    entries.sort();
    assert_eq!(
        entries,
        [
            "1000 (closed by the peer)",
            "1006 (the server shut down)",
            "1006 (the server shut down), 6 bytes unsent",
            "connect",
            "connect",
            "connect",
        ]
    );
}

#[test]
fn a_server_that_never_ran_can_be_dropped() {
    let server = Server::builder().listen("127.0.0.1:0").build().unwrap();
    let handle = server.handle();
    drop(server);
    assert!(handle.shutdown().is_err());
}
