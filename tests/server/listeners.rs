//! One server listens in several places of different kinds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

use crate::support;
use crate::support::temp::TempDir;
use crate::support::{Client, Running};
use wsloop::event::*;
use wsloop::{BuildError, Server};

#[test]
fn every_kind_on_one_server() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let ready = TcpListener::bind("127.0.0.1:0").unwrap();
    let ready_addr = ready.local_addr().unwrap();
    let ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let listen = path.clone();
    let server = Running::start_on(move || {
        let builder = Server::builder()
            .listen("127.0.0.1:0")
            .listen((Ipv4Addr::LOCALHOST, 0))
            .listen_unix(listen)
            .listener(ready);
        let builder = match ipv6 {
            true => builder.listen("[::1]:0"),
            false => builder,
        };
        support::echo(builder).on(Ready, |conn, ()| {
            let reached = conn.server().broadcast_utf8("one more")?;
            assert_eq!(reached.receivers(), conn.server().len());
            Ok::<_, wsloop::SendError>(())
        })
    });
    // The addresses have the order of the places; the Unix socket has none.
    assert_eq!(server.addrs.len(), 3 + usize::from(ipv6));
    assert_eq!(server.addr, server.addrs[0]);
    assert_eq!(server.addrs[2], ready_addr);
    let mut clients: Vec<_> = server
        .addrs
        .iter()
        .map(|addr| {
            let mut client = Client::connect(*addr);
            client.upgrade();
            client.expect_text("one more");
            client
        })
        .collect();
    let mut unix = Client::connect_unix(&path);
    unix.upgrade();
    unix.expect_text("one more");
    // All clients are connections of one server.
    let count = clients.len();
    for (at, client) in clients.iter_mut().enumerate() {
        for _ in at + 1..=count {
            client.expect_text("one more");
        }
        client.expect_alive();
    }
    unix.expect_alive();
    drop((clients, unix));
    assert_eq!(server.stop().accepted, count as u64 + 1);
}

#[test]
fn a_ready_listener_may_be_blocking() {
    let ready = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Running::start_on(move || support::echo(Server::builder().listener(ready)));
    // A blocking listener would block the loop after the first client.
    let (mut one, mut other) = (server.ready(), server.ready());
    one.expect_alive();
    other.expect_alive();
}

#[test]
fn a_client_that_came_before_the_start_is_served() {
    let ready = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::connect(ready.local_addr().unwrap());
    client.send_raw(support::REQUEST);
    let _server = Running::start_on(move || support::echo(Server::builder().listener(ready)));
    assert_eq!(client.response().status, 101);
    client.expect_alive();
    drop(client);
}

#[test]
fn more_clients_at_once_than_are_accepted_in_a_turn() {
    let server = Running::start(|builder| support::echo(builder.turn_accepts(3)));
    let mut clients: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut clients {
        client.upgrade();
        client.expect_alive();
    }
}

#[test]
fn at_max_connections_the_next_ones_wait() {
    let server = Running::start(|builder| support::echo(builder.max_connections(2)));
    let (mut one, mut two) = (server.ready(), server.ready());
    // These clients wait in the accept queue.
    let mut three = server.client();
    three.send_raw(support::REQUEST);
    let mut four = server.client();
    four.send_raw(support::REQUEST);
    one.expect_alive();
    two.expect_alive();
    drop(one);
    assert_eq!(three.response().status, 101);
    three.expect_alive();
    drop(two);
    assert_eq!(four.response().status, 101);
    four.expect_alive();
    drop((three, four));
    let stats = server.stop();
    assert_eq!(stats.accepted, 4);
    assert!((1..=3).contains(&stats.accept_pauses), "{stats:?}");
}

#[test]
fn a_stale_unix_socket_is_replaced_and_removed_at_the_end() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    // A server that ended abnormally has left the file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listen = path.clone();
    let server = Running::start_on(move || support::echo(Server::builder().listen_unix(listen)));
    let mut client = Client::connect_unix(&path);
    client.upgrade();
    client.expect_alive();
    drop(client);
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_in_use_is_refused_and_left_alone() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let listen = path.clone();
    let _server = Running::start_on(move || support::echo(Server::builder().listen_unix(listen)));
    let error = Server::builder().listen_unix(&path).build().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    let BuildError::Listen { source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
    let mut client = Client::connect_unix(&path);
    client.upgrade();
    client.expect_alive();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = TempDir::new();
    let path = dir.path("notes.txt");
    std::fs::write(&path, "worth keeping").unwrap();
    let error = Server::builder().listen_unix(&path).build().unwrap_err();
    assert!(matches!(error, BuildError::Listen { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "worth keeping");
}

#[test]
fn the_unix_socket_of_a_successor_is_left_alone() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let old = Server::builder().listen_unix(&path).build().unwrap();
    // As in a deployment: the new server takes over the path, and then the old one ends.
    std::fs::remove_file(&path).unwrap();
    let listen = path.clone();
    let _new = Running::start_on(move || support::echo(Server::builder().listen_unix(listen)));
    drop(old);
    let mut client = Client::connect_unix(&path);
    client.upgrade();
    client.expect_alive();
}

#[test]
fn a_directory_that_is_not_there_is_refused() {
    let dir = TempDir::new();
    let path = dir.path("nowhere").join("socket");
    let error = Server::builder().listen_unix(&path).build().unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_failed_build_leaves_nothing_behind() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let built = Server::builder().listen_unix(&path).listen(addr).build();
    assert!(built.is_err());
    assert!(!path.exists());
}

#[test]
fn a_port_is_free_again_when_the_server_is_gone() {
    let server = Running::echo();
    let addr = server.addr;
    // Connections that the server closed first are in TIME-WAIT on its side.
    let mut client = server.ready();
    server.handle.shutdown().unwrap();
    client.answer_close(1001);
    drop(client);
    drop(server);
    let error = TcpStream::connect(addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let again = Running::start_on(move || support::echo(Server::builder().listen(addr)));
    assert_eq!(again.addr, addr);
    again.ready().expect_alive();
}

#[test]
fn a_server_of_unix_sockets_alone_has_no_address() {
    let dir = TempDir::new();
    let server = Server::builder()
        .listen_unix(dir.path("socket"))
        .build()
        .unwrap();
    assert_eq!(server.local_addr(), None::<SocketAddr>);
    assert!(server.local_addrs().is_empty());
}
