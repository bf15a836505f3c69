//! Listeners close and open again while connections stay open. The server can stop with any close
//! code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support;
use crate::support::temp::TempDir;
use crate::support::{Client, PATIENCE, REQUEST, Running};
use wsloop::event::*;
use wsloop::{BuildError, Place, SendError, Server};

/// Returns the addresses on which the loop listens, after it has executed earlier commands.
fn addrs(server: &Running) -> Vec<SocketAddr> {
    let answer = server.handle.ask(|hub| {
        assert_eq!(hub.local_addr(), hub.local_addrs().first().copied());
        hub.local_addrs().to_vec()
    });
    answer.unwrap().recv_timeout(PATIENCE).unwrap()
}

#[track_caller]
fn refused(addr: SocketAddr) {
    let error = TcpStream::connect(addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn listening_stops_and_starts_again() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let given = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = path.clone();
    let server = Running::start_on(move || {
        support::echo(Server::builder())
            .listen("127.0.0.1:0")
            .listener(given)
            .listener(Place::unix(listen).mode(0o600))
    });
    let before = addrs(&server);
    assert_eq!(before, server.addrs);
    let mut old = server.ready();
    for _ in 0..2 {
        server.handle.stop_listening().unwrap();
        server.handle.stop_listening().unwrap();
        assert_eq!(addrs(&server), []);
        refused(before[0]);
        // The server did not open this listener, and so does not close it: clients wait in its
        // queue.
        let mut early = Client::connect(before[1]);
        early.send_raw(REQUEST);
        assert!(!path.exists());
        old.expect_alive();

        server.handle.start_listening().unwrap();
        server.handle.start_listening().unwrap();
        assert_eq!(addrs(&server), before);
        assert_eq!(early.response().status, 101);
        for addr in &before {
            let mut client = Client::connect(*addr);
            client.upgrade();
            client.expect_alive();
        }
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = Client::connect_unix(&path);
        client.upgrade();
        client.expect_alive();
        old.expect_alive();
    }
    server.stop();
}

#[test]
fn handlers_order_it_too_and_nobody_is_lost() {
    let server = Running::start(|builder| {
        builder
            .on(Ready, |conn, ()| conn.server().stop_listening())
            .on(Utf8, |conn, text| {
                conn.server().start_listening();
                conn.send_utf8(text)
            })
            .on(Disconnect, |conn, _| conn.server().start_listening())
    });
    let mut first = server.ready();
    assert_eq!(addrs(&server), []);
    refused(server.addr);
    first.send_text("open");
    first.expect_text("open");
    assert_eq!(addrs(&server), [server.addr]);
    let second = server.ready();
    assert_eq!(addrs(&server), []);
    // The server continues without listeners and connections.
    drop((first, second));
    while addrs(&server).is_empty() {}
    server.ready();
}

#[test]
fn an_address_that_is_lost_is_an_error_and_can_be_tried_again() {
    let mut server = support::echo(Server::builder())
        .listen("127.0.0.1:0")
        .listen("127.0.0.1:0")
        .build()
        .unwrap();
    let addrs = server.local_addrs();
    server.start_listening().unwrap();
    assert_eq!(server.local_addrs(), addrs, "it listens already");
    server.stop_listening();
    assert_eq!(
        (server.local_addr(), server.hub().local_addr()),
        (None, None)
    );
    let other = TcpListener::bind(addrs[1]).unwrap();
    let error = server.start_listening().unwrap_err();
    let BuildError::Listen { address, source } = error else {
        panic!("{error}");
    };
    assert_eq!(address, addrs[1].to_string());
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
    assert_eq!(server.local_addrs(), []);
    refused(addrs[0]);
    // The same failure in the loop is only logged.
    server.hub().start_listening();
    assert!(server.turn(Some(Duration::ZERO)).unwrap());
    assert_eq!(server.local_addrs(), []);
    drop(other);
    server.start_listening().unwrap();
    assert_eq!(server.local_addrs(), addrs);
    // Listeners do not open again during a shutdown.
    server.hub().shutdown();
    server.hub().start_listening();
    assert!(!server.turn(Some(Duration::ZERO)).unwrap());
    assert_eq!(server.local_addrs(), []);
}

#[test]
fn the_server_stops_with_a_code() {
    let (sender, log) = support::log();
    let mut server = Running::start(move |builder| {
        builder
            .on(Utf8, |conn, text| {
                let code: u16 = text.parse().unwrap();
                conn.server().stop(code)
            })
            .on(Shutdown, |hub, ()| {
                // This has no effect, because the server is already shutting down.
                hub.stop(4000).unwrap();
                hub.broadcast_utf8("farewell")
            })
            .on(Disconnect, move |_, why| sender.send(format!("{why}")))
    });
    assert_eq!(server.handle.stop(1005), Err(SendError::BadCloseCode(1005)));
    let mut wrong = server.ready();
    wrong.send_text("1006");
    wrong.expect_close(1011);
    drop(wrong);
    log.expect(&["1011 (a handler failed)"]);
    let mut client = server.ready();
    client.send_text("1012");
    client.expect_text("farewell");
    client.answer_close(1012);
    server.join();
    assert_eq!(log.rest(), ["1012 (the server shut down)"]);
}

#[test]
fn a_handle_stops_with_a_code() {
    let mut server = Running::echo();
    let mut client = server.ready();
    server.handle.stop(4321).unwrap();
    client.expect_close(4321);
    drop(client);
    server.join();
    assert_eq!(server.handle.stop(4321), Err(SendError::Gone));
    assert!(server.handle.ask(|hub| hub.len()).is_err());
}

#[test]
fn a_question_that_panics_has_no_answer() {
    let server = Running::echo();
    let answer = server.handle.ask(|_| -> u32 { panic!("a test") }).unwrap();
    assert!(answer.recv_timeout(PATIENCE).is_err());
    server.ready().expect_alive();
}
