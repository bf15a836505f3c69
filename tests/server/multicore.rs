//! Several servers, each on its own thread, share an address if all of them allow it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use crate::support;
use crate::support::{Client, Running};
use wsloop::event::*;
use wsloop::{BuildError, Server};

/// This number of clients usually reaches both servers.
const CLIENTS: usize = 64;

/// With this number of clients on one server, the kernel does not distribute them.
const CLIENTS_MAX: usize = 1000;

/// Starts an echo server that shares its address, and logs its name for each client.
fn sharing(addr: SocketAddr, name: &'static str, log: &Sender<String>) -> Running {
    let log = log.clone();
    Running::start_on(move || {
        support::echo(Server::builder().listen(addr).reuse_port(true))
            .on(Ready, move |_, ()| log.send(name.to_owned()))
    })
}

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[track_caller]
fn in_use(addr: SocketAddr, reuse: bool) {
    let built = Server::builder().listen(addr).reuse_port(reuse).build();
    let Err(BuildError::Listen { source, .. }) = built else {
        panic!("{built:?}");
    };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
}

#[test]
fn two_loops_share_the_clients() {
    let (sender, log) = support::log();
    let one = sharing(any_port(), "one", &sender);
    let other = sharing(one.addr, "other", &sender);
    assert_eq!(one.addr, other.addr);

    let (mut clients, mut ones, mut others) = (Vec::new(), 0, 0);
    while clients.len() < CLIENTS || ones == 0 || others == 0 {
        assert!(clients.len() < CLIENTS_MAX, "{ones} and {others}");
        clients.push(one.ready());
        match log.next().as_str() {
            "one" => ones += 1,
            _ => others += 1,
        }
    }
    for client in &mut clients {
        client.send_text("alive?");
    }
    for client in &mut clients {
        client.expect_text("alive?");
    }
    for server in [&one, &other] {
        server.handle.broadcast_utf8("to all of yours").unwrap();
    }
    for client in &mut clients {
        client.expect_text("to all of yours");
        // No message arrived twice.
        client.expect_alive();
    }
    drop(clients);
    assert_eq!((one.stop().accepted, other.stop().accepted), (ones, others));
}

#[test]
fn who_stays_serves_all() {
    let (sender, log) = support::log();
    let one = sharing(any_port(), "one", &sender);
    let other = sharing(one.addr, "other", &sender);
    one.stop();
    for _ in 0..10 {
        other.ready().expect_alive();
        log.expect(&["other"]);
    }
}

#[test]
fn an_address_is_shared_only_if_both_allow_it() {
    let keeping = Running::echo();
    in_use(keeping.addr, false);
    in_use(keeping.addr, true);
    let (sender, _log) = support::log();
    let sharing = sharing(any_port(), "sharing", &sender);
    in_use(sharing.addr, false);
    for server in [&keeping, &sharing] {
        let mut client: Client = server.ready();
        client.expect_alive();
    }
}
