//! An opening handshake that is not completed in time ends: with 408 if the client has started a
//! request, otherwise without a response.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::{PATIENCE, REQUEST, Running, log, recorded};

const SHORT: Duration = Duration::from_millis(80);

#[test]
fn a_begun_request_is_answered_with_408() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender).handshake_timeout(SHORT));
    for part in ["G", "GET / HTTP/1.1\r\n", &REQUEST[..REQUEST.len() - 1]] {
        let mut client = server.client();
        client.send_raw(part);
        let response = client.response();
        assert_eq!(response.status, 408, "{part:?}");
        assert_eq!(response.header("connection"), Some("close"));
        client.expect_eof();
        log.expect(&["connect"]);
        assert!(log.next().starts_with("error: "));
        assert!(log.next().starts_with("disconnect 1006 ("));
    }
    server.ready().expect_alive();
}

#[test]
fn a_client_that_says_nothing_is_told_nothing() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender).handshake_timeout(SHORT));
    let mut client = server.client();
    client.expect_eof();
    log.expect(&["connect"]);
    let mut entry = log.next();
    if entry.starts_with("error: ") {
        entry = log.next();
    }
    assert!(entry.starts_with("disconnect 1006 ("), "{entry}");
    server.ready().expect_alive();
}

#[test]
fn a_request_that_drips_does_not_put_it_off() {
    let server = Running::start(|builder| builder.handshake_timeout(SHORT).close_timeout(SHORT));
    let mut client = server.client();
    client.send_raw("GET / HTTP/1.1\r\nX: ");
    // The thread ends when the server closes the socket: it reads the data after the 408 only for a
    // short time.
    let mut dripping = client.stream.try_clone().expect("a second descriptor");
    let drip = std::thread::spawn(move || {
        let started = Instant::now();
        while dripping.write_all(b"x").is_ok() {
            assert!(started.elapsed() < PATIENCE, "it is never cut");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(client.response().status, 408);
    client.expect_eof();
    drip.join().expect("the drip ends");
}

#[test]
fn a_client_that_is_ready_is_not_meant() {
    let server = Running::start(|builder| support::echo(builder).handshake_timeout(SHORT));
    let mut client = server.ready();
    // A later client times out.
    let mut late = server.client();
    late.expect_eof();
    client.expect_alive();
}

#[test]
fn a_refused_client_that_stays_is_cut_after_the_close_timeout() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender).close_timeout(SHORT));
    let mut client = server.client();
    assert_eq!(client.request(REQUEST.replace("GET", "PUT")).status, 405);
    client.expect_eof();
    // The server eventually closes the socket, and answers further data with RST.
    let started = Instant::now();
    while client.stream.write_all(b"x").is_ok() {
        assert!(started.elapsed() < PATIENCE, "it is never cut");
        std::thread::sleep(Duration::from_millis(1));
    }
    log.expect(&["connect"]);
    assert!(log.next().starts_with("error: "));
    assert!(log.next().starts_with("disconnect 1006 ("));
    server.ready().expect_alive();
    // There is no second `Disconnect`.
    log.expect(&["connect", "ready", "utf8 alive?"]);
}
