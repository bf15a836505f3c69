//! `build` reports wrong settings and unavailable addresses, and the error names them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use wsloop::{BuildError, Builder, Server};

#[track_caller]
fn conflict(configure: impl FnOnce(Builder) -> Builder, named: &str) {
    let builder = configure(Server::builder().listen("127.0.0.1:0"));
    let error = builder.build().unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
    let is_conflict = matches!(error, BuildError::Conflict(_));
    assert!(is_conflict, "{error:?}");
}

#[test]
fn settings_that_nothing_could_be_served_with() {
    conflict(|builder| builder.read_buffer(32_767), "read_buffer");
    conflict(|builder| builder.turn_bytes(0), "turn_bytes");
    conflict(|builder| builder.turn_messages(0), "turn_messages");
    conflict(|builder| builder.turn_accepts(0), "turn_accepts");
    conflict(|builder| builder.max_connections(0), "max_connections");
    conflict(|builder| builder.max_fragments(0), "max_fragments");
    conflict(|builder| builder.memory_budget(65_535), "memory_budget");
    conflict(|builder| builder.max_half_open(0), "max_half_open");
    conflict(
        |builder| builder.max_connections_per_address(0),
        "max_connections_per_address",
    );
    conflict(
        |builder| builder.max_ping_rate(wsloop::Rate::per_second(0)),
        "rate",
    );
    conflict(
        |builder| builder.max_handshake_rate(wsloop::Rate::per_second(1).burst(0)),
        "rate",
    );
    let zero = Duration::ZERO;
    conflict(
        |builder| builder.handshake_timeout(zero),
        "handshake_timeout",
    );
    conflict(|builder| builder.close_timeout(zero), "close_timeout");
    for name in ["", "two words", "a,b", "é", "a\r\nb"] {
        conflict(
            |builder| builder.subprotocols(["good", name]),
            "subprotocol",
        );
    }
}

#[test]
fn the_least_and_the_most_of_every_setting_can_be_served_with() {
    let least = Server::builder()
        .listen("127.0.0.1:0")
        .max_recv_size(0)
        .max_send_size(0)
        .max_fragments(1)
        .max_backlog(0)
        .max_connections(1)
        .turn_bytes(1)
        .turn_messages(1)
        .turn_accepts(1)
        .read_buffer(32_768)
        .listen_backlog(0)
        .silence_max(Duration::ZERO)
        .idle_timeout(Duration::ZERO)
        .tick_period(Duration::ZERO)
        .subprotocols([""; 0]);
    assert!(least.build().is_ok());
    let most = Server::builder()
        .listen("127.0.0.1:0")
        .max_recv_size(usize::MAX)
        .max_send_size(usize::MAX)
        .max_fragments(usize::MAX)
        .max_backlog(usize::MAX)
        .max_handshake_size(usize::MAX)
        .max_headers(usize::MAX)
        .max_connections(usize::MAX)
        .turn_bytes(usize::MAX)
        .turn_messages(usize::MAX)
        .turn_accepts(usize::MAX)
        .listen_backlog(u32::MAX)
        .handshake_timeout(Duration::MAX)
        .silence_max(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .close_timeout(Duration::MAX)
        .tick_period(Duration::MAX);
    assert!(most.build().is_ok());
}

#[test]
fn no_listener() {
    let error = Server::builder().build().unwrap_err();
    assert!(matches!(error, BuildError::NoListener));
    assert!(error.to_string().contains("no listener"), "{error}");
}

#[test]
fn an_address_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = Server::builder().listen(addr).build().unwrap_err();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    // The text contains the cause, so `source` must not return the cause again.
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(error.source().is_none());
    assert_eq!(format!("{error:?}"), error.to_string());
    let BuildError::Listen { address, source } = error else {
        panic!("{error:?}");
    };
    assert_eq!(address, addr.to_string());
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
}

#[test]
fn an_address_that_is_none_or_not_ours() {
    for (addr, named) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:65536", "65536"),
        ("", "listen on"),
        // No machine has an address of TEST-NET-1 (RFC 5737).
        ("192.0.2.1:0", "192.0.2.1:0"),
    ] {
        let error = Server::builder().listen(addr).build().unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(matches!(error, BuildError::Listen { .. }), "{error:?}");
    }
}
