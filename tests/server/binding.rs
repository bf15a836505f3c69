//! A name with several addresses listens on each address that can be bound.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support;
use crate::support::{Client, Running};
use wsloop::{BuildError, Place, Server};

/// Addresses of TEST-NET-1 and TEST-NET-3 (RFC 5737), which no machine has.
const FOREIGN: [&str; 2] = ["192.0.2.1:0", "203.0.113.1:0"];

fn parse(addrs: &[&str]) -> Vec<SocketAddr> {
    addrs.iter().map(|addr| addr.parse().unwrap()).collect()
}

/// Builds a server that listens on all addresses of a list.
fn build(addrs: &[&str]) -> Result<Server, BuildError> {
    support::echo(Server::builder())
        .listen(&parse(addrs)[..])
        .build()
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// Returns the port that all addresses share.
#[track_caller]
fn one_port(addrs: &[SocketAddr]) -> u16 {
    let ports: HashSet<u16> = addrs.iter().map(SocketAddr::port).collect();
    assert_eq!(ports.len(), 1, "{addrs:?}");
    addrs[0].port()
}

#[track_caller]
fn listen_error(error: BuildError) -> (String, std::io::Error) {
    match error {
        BuildError::Listen { address, source } => (address, source),
        other => panic!("{other}"),
    }
}

#[test]
fn localhost_is_listened_on_wherever_it_can_be() {
    let server = Running::start_on(|| support::echo(Server::builder().listen("localhost:0")));
    one_port(&server.addrs);
    for addr in &server.addrs {
        let mut client = Client::connect(*addr);
        client.upgrade();
        client.expect_alive();
    }
}

#[test]
fn port_0_is_one_port_for_all_addresses() {
    let mut wanted = vec!["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"];
    if has_ipv6() {
        wanted.push("[::1]:0");
    }
    let addrs = build(&wanted).unwrap().local_addrs();
    assert_eq!(addrs.len(), wanted.len());
    one_port(&addrs);
    let ips = |addrs: &[SocketAddr]| addrs.iter().map(SocketAddr::ip).collect::<Vec<_>>();
    assert_eq!(ips(&addrs), ips(&parse(&wanted)));
}

#[test]
fn all_addresses_of_both_families_share_a_port() {
    if !has_ipv6() {
        return;
    }
    for wanted in [["[::]:0", "0.0.0.0:0"], ["0.0.0.0:0", "[::]:0"]] {
        let mut server = build(&wanted).unwrap();
        let addrs = server.local_addrs();
        assert_eq!(addrs.len(), 2);
        let port = one_port(&addrs);
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        TcpStream::connect(("::1", port)).unwrap();
        server.stop_listening();
        server.start_listening().unwrap();
        assert_eq!(server.local_addrs(), addrs);
    }
}

#[test]
fn an_address_that_is_given_twice_is_bound_once() {
    let addrs = build(&["127.0.0.1:0", "127.0.0.1:0"])
        .unwrap()
        .local_addrs();
    assert_eq!(addrs.len(), 1);
}

#[test]
fn an_address_that_cannot_be_bound_is_left_out() {
    for wanted in [
        ["127.0.0.1:0", FOREIGN[0], "127.0.0.2:0"],
        [FOREIGN[0], "127.0.0.1:0", "127.0.0.2:0"],
    ] {
        let addrs = build(&wanted).unwrap().local_addrs();
        assert_eq!(addrs.len(), 2);
        one_port(&addrs);
    }
    // Another socket already uses the address.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let free = SocketAddr::new([127, 0, 0, 2].into(), taken.port());
    let server = Server::builder().listen(&[taken, free][..]).build();
    assert_eq!(server.unwrap().local_addrs(), [free]);
}

#[test]
fn if_none_can_be_bound_the_error_names_all() {
    let error = build(&FOREIGN).unwrap_err();
    let text = error.to_string();
    for addr in FOREIGN {
        assert!(text.contains(&format!("{addr}: ")), "{text}");
    }
    let (_, source) = listen_error(error);
    assert_eq!(source.kind(), ErrorKind::AddrNotAvailable);
    // A single address yields the error of the operating system.
    let (address, source) = listen_error(build(&FOREIGN[..1]).unwrap_err());
    assert!(address.contains("192.0.2.1:0"), "{address}");
    assert!(source.raw_os_error().is_some());
    let (_, source) = listen_error(build(&[]).unwrap_err());
    assert!(source.to_string().contains("no address"), "{source}");
}

#[test]
fn listening_starts_again_where_it_can() {
    let mut server = build(&["127.0.0.1:0", "127.0.0.2:0"]).unwrap();
    let addrs = server.local_addrs();
    server.stop_listening();
    let others: Vec<_> = addrs
        .iter()
        .map(|addr| TcpListener::bind(addr).unwrap())
        .collect();
    let (address, source) = listen_error(server.start_listening().unwrap_err());
    // The error contains the place as it was given, and each of its addresses.
    assert!(address.contains("127.0.0.1:0, 127.0.0.2:0"), "{address}");
    for addr in &addrs {
        assert!(
            source.to_string().contains(&format!("{addr}: ")),
            "{source}"
        );
    }
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
    assert_eq!(server.local_addrs(), []);

    let [first, second] = <[TcpListener; 2]>::try_from(others).unwrap();
    drop(second);
    server.start_listening().unwrap();
    assert_eq!(server.local_addrs(), addrs[1..]);
    // The taken address is tried again while the other one listens. A failure does not affect the
    // other.
    server.start_listening().unwrap();
    assert_eq!(server.local_addrs(), addrs[1..]);
    drop(first);
    server.start_listening().unwrap();
    let all: HashSet<SocketAddr> = server.local_addrs().into_iter().collect();
    assert_eq!(all, addrs.iter().copied().collect());
    for addr in addrs {
        TcpStream::connect(addr).unwrap();
    }
}

#[test]
fn an_address_that_was_missing_from_the_start_is_tried_again() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let free = SocketAddr::new([127, 0, 0, 2].into(), taken.port());
    let mut server = Server::builder()
        .listen(&[taken, free][..])
        .build()
        .unwrap();
    server.start_listening().unwrap();
    assert_eq!(server.local_addrs(), [free]);
    server.stop_listening();
    drop(other);
    server.start_listening().unwrap();
    assert_eq!(server.local_addrs(), [free, taken]);
    // Listeners that were handed over are not tried again.
    let other = TcpListener::bind("127.0.0.3:0").unwrap();
    let taken = other.local_addr().unwrap();
    let free = SocketAddr::new([127, 0, 0, 4].into(), taken.port());
    let mut server = Server::builder()
        .listen(&[taken, free][..])
        .build()
        .unwrap();
    server.hand_over_listeners();
    drop(other);
    server.start_listening().unwrap();
    assert_eq!(server.local_addrs(), []);
}

#[test]
fn a_listener_is_shown_with_its_origin() {
    let given = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = given.local_addr().unwrap();
    let server = Server::builder()
        .listener(Place::tcp("127.0.0.1:0"))
        .listener(given)
        .build()
        .unwrap();
    let bound = server.local_addr().unwrap();
    let shown: Vec<_> = server
        .listeners()
        .map(|one| format!("{one:#} {one}"))
        .collect();
    assert_eq!(
        shown,
        [format!("{bound} {bound}"), format!("{addr} (given) {addr}")]
    );
}
