//! At `max_connections` accepting pauses. Further clients wait in the kernel, and none is lost.

use std::time::Duration;

use crate::support;
use crate::support::{Client, REQUEST, Running, settle};

/// Returns whether the server has sent nothing.
fn is_silent(client: &mut Client) -> bool {
    let mut byte = [0];
    client
        .stream
        .set_nonblocking(true)
        .expect("a socket option");
    let peeked = client.stream.peek(&mut byte);
    client
        .stream
        .set_nonblocking(false)
        .expect("a socket option");
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn further_clients_wait_for_their_turn() {
    let server = Running::start(|builder| support::echo(builder).max_connections(2));
    let mut first = server.ready();
    let mut second = server.ready();
    let mut waiting: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for client in &mut waiting {
        client.send_raw(REQUEST);
    }
    settle(&mut first);
    settle(&mut second);
    assert!(waiting.iter_mut().all(is_silent));
    drop(first);
    // Clients are accepted in the order in which they connected, one for each that disconnects.
    let mut waiting = waiting.into_iter();
    let mut last = waiting.next().expect("five wait");
    assert_eq!(last.response().status, 101);
    for mut next in waiting {
        settle(&mut last);
        settle(&mut second);
        assert!(is_silent(&mut next));
        last.send_close(1000, "");
        last.expect_close(1000);
        last.expect_eof();
        last = next;
        assert_eq!(last.response().status, 101);
    }
    last.expect_alive();
    second.expect_alive();
    drop((last, second));
    let stats = server.stop();
    assert_eq!(stats.accepted, 7);
    // Pauses are counted once each time the server is full, and not for every check.
    assert!((1..=7).contains(&stats.accept_pauses), "{stats:?}");
    assert_eq!(stats.accept_failures, 0);
}

#[test]
fn below_it_nothing_pauses() {
    let server = Running::start(|builder| support::echo(builder).max_connections(3));
    for _ in 0..10 {
        let (mut first, mut second) = (server.ready(), server.ready());
        first.send_close(1000, "");
        second.send_close(1000, "");
        first.expect_close(1000);
        second.expect_close(1000);
        first.expect_eof();
        second.expect_eof();
        drop((first, second));
        // The connections are over when the server has read the end of both.
        settle(&mut server.ready());
    }
    drop(server.ready());
    assert_eq!(server.stop().accepted, 31);
}

#[test]
fn whoever_holds_a_place_without_a_handshake_loses_it_in_time() {
    let server = Running::start(|builder| {
        support::echo(builder)
            .max_connections(1)
            .handshake_timeout(Duration::from_millis(60))
            .close_timeout(Duration::from_millis(60))
    });
    // One client sends nothing, one is refused and stays, and one does not answer the Close frame.
    let silent = server.client();
    let mut refused = server.client();
    refused.send_raw(REQUEST.replace("GET", "PUT"));
    let mut next = server.client();
    next.send_raw(REQUEST);
    assert_eq!(refused.response().status, 405);
    assert_eq!(next.response().status, 101);
    next.expect_alive();
    drop((silent, refused, next));
    server.ready().expect_alive();
}
