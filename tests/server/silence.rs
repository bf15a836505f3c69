//! The server pings a silent client, and closes a client that gives no sign of life with 1001.

use std::time::{Duration, Instant};

use crate::support;
use crate::support::{Client, PATIENCE, Running, log, recorded};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Reads pings until a Close frame with 1001 arrives; returns their number.
#[track_caller]
fn pings_before_the_close(client: &mut Client) -> usize {
    let mut count = 0;
    loop {
        let frame = client.read_frame();
        match frame.first {
            0x89 => count += 1,
            0x88 => {
                assert_eq!(frame.payload.get(..2), Some(&1001u16.to_be_bytes()[..]));
                return count;
            }
            _ => panic!("{frame:?}"),
        }
    }
}

const END: &str = "disconnect 1001 (silent for longer than idle_timeout)";

#[test]
fn one_that_does_not_answer_is_closed() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender)
            .silence_max(ms(40))
            .idle_timeout(ms(150))
            .close_timeout(ms(500))
    });
    for answers in [true, false] {
        let mut client = server.ready();
        assert!(pings_before_the_close(&mut client) >= 1);
        if answers {
            client.send_close(1001, "");
            client.expect_eof();
        } else {
            // The server eventually cuts the connection.
            assert_eq!(client.read_to_end(), b"");
        }
        log.expect(&["connect", "ready", END]);
    }
}

#[test]
fn one_that_answers_lives() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender)
            .silence_max(ms(100))
            .idle_timeout(PATIENCE)
    });
    let mut client = server.ready();
    log.expect(&["connect", "ready"]);
    for _ in 0..10 {
        let ping = client.read_frame();
        assert_eq!(ping.first, 0x89, "{ping:?}");
        client.send_frame(0x8a, &ping.payload);
        assert!(log.next().starts_with("pong "));
    }
    client.send_text("well");
    log.expect(&["utf8 well"]);
}

#[test]
fn pings_are_repeated_and_silence_is_twice_its_maximum_by_default() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender)
            .silence_max(ms(60))
            .close_timeout(ms(40))
    });
    let mut client = server.ready();
    let started = Instant::now();
    let pings = pings_before_the_close(&mut client);
    assert!(pings >= 1);
    assert!(started.elapsed() >= ms(100), "not before its time");
    log.expect(&["connect", "ready", END]);
}

#[test]
fn without_silence_max_nobody_is_pinged() {
    let server = Running::start(|builder| {
        support::echo(builder)
            .silence_max(Duration::ZERO)
            .idle_timeout(ms(100))
    });
    let mut client = server.ready();
    assert_eq!(pings_before_the_close(&mut client), 0);
}

#[test]
fn without_idle_timeout_nobody_is_closed() {
    let server = Running::start(|builder| {
        support::echo(builder)
            .silence_max(ms(20))
            .idle_timeout(Duration::ZERO)
    });
    let mut client = server.ready();
    for _ in 0..20 {
        assert_eq!(client.read_frame().first, 0x89);
    }
    client.send_text("alive");
    let mut frame = client.read_frame();
    while frame.first == 0x89 {
        frame = client.read_frame();
    }
    assert_eq!(frame.payload, b"alive");
}

#[test]
fn with_neither_a_silent_client_stays() {
    let server = Running::start(|builder| {
        support::echo(builder)
            .silence_max(Duration::ZERO)
            .handshake_timeout(ms(50))
            .close_timeout(ms(50))
    });
    let mut client = server.ready();
    // Other deadlines still expire.
    server.client().expect_eof();
    client.expect_alive();
}

#[test]
fn one_that_is_closing_is_neither_pinged_nor_closed_again() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        use wsloop::event::Utf8;
        recorded(builder, &sender)
            .silence_max(ms(20))
            .idle_timeout(ms(60))
            .close_timeout(ms(200))
            .on(Utf8, |conn, _| conn.disconnect(4000, ""))
    });
    let mut client = server.ready();
    client.send_text("close");
    let mut frame = client.read_frame();
    while frame.first == 0x89 {
        frame = client.read_frame();
    }
    assert_eq!(frame.payload, 4000u16.to_be_bytes());
    assert_eq!(client.read_to_end(), b"");
    log.expect(&["connect", "ready", "disconnect 4000 (closed by the server)"]);
}
