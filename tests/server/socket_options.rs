//! Socket options, set by the builder for all sockets or by a place for one listener.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::support;
use crate::support::temp::TempDir;
use crate::support::{Client, Running};
use socket2::{Domain, SockRef, Type};
use wsloop::event::*;
use wsloop::{BuildError, Builder, Place, Server};

/// Starts a server that logs the result of `ask` for the socket of each connection.
fn asking(
    configure: impl FnOnce() -> Builder + Send + 'static,
    ask: impl Fn(&SockRef<'_>) -> String + Send + 'static,
) -> (Running, support::Log) {
    let (sender, log) = support::log();
    let server = Running::start_on(move || {
        configure().on(Connect, move |conn, ()| {
            let socket = conn.socket().unwrap();
            sender.send(ask(&SockRef::from(&socket))).is_ok()
        })
    });
    (server, log)
}

fn listen() -> Builder {
    Server::builder().listen("127.0.0.1:0")
}

#[test]
fn keepalive_is_off_unless_set() {
    for (time, expected) in [
        (None, "false"),
        (Some(Duration::ZERO), "false"),
        (Some(Duration::from_secs(77)), "true 77s"),
        (Some(Duration::from_millis(1)), "true 1s"),
        (Some(Duration::MAX), "true 32767s"),
    ] {
        let (server, log) = asking(
            move || match time {
                None => listen(),
                Some(time) => listen().tcp_keepalive(time),
            },
            |socket| match socket.keepalive().unwrap() {
                true => format!("true {:?}", socket.tcp_keepalive_time().unwrap()),
                false => "false".into(),
            },
        );
        let _client = server.client();
        log.expect(&[expected]);
    }
}

#[test]
fn a_socket_that_listens_already_is_set_as_well() {
    let ready = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, log) = asking(
        || {
            let builder = Server::builder().listener(ready);
            builder
                .tcp_keepalive(Duration::from_secs(60))
                .recv_buffer_size(30_000)
        },
        |socket| {
            let size = socket.recv_buffer_size().unwrap();
            format!("{} {}", socket.keepalive().unwrap(), size)
        },
    );
    let _client = server.client();
    log.expect(&["true 60000"]);
}

#[test]
fn the_kernels_buffers() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let listen = path.clone();
    let (server, log) = asking(
        || {
            Server::builder()
                .listen("127.0.0.1:0")
                .listen_unix(listen)
                .recv_buffer_size(20_000)
                .send_buffer_size(40_000)
        },
        |socket| {
            let sizes = (socket.recv_buffer_size(), socket.send_buffer_size());
            format!("{} {}", sizes.0.unwrap(), sizes.1.unwrap())
        },
    );
    let _client = server.client();
    // socket(7): "The kernel doubles this value".
    let expected = match cfg!(target_os = "linux") {
        true => "40000 80000",
        false => "20000 40000",
    };
    log.expect(&[expected]);
    let _client = UnixStream::connect(&path).unwrap();
    log.expect(&[expected]);
}

#[test]
fn any_size_can_be_asked_for() {
    for size in [1, usize::MAX] {
        let server = Running::start_on(move || {
            support::echo(listen().recv_buffer_size(size).send_buffer_size(size))
        });
        server.ready().expect_alive();
    }
}

#[test]
fn a_small_send_buffer_leaves_the_rest_in_the_backlog() {
    const SIZE: usize = 8 << 20;
    let (sender, log) = support::log();
    let server = Running::start_on(move || {
        listen()
            .send_buffer_size(16 << 10)
            .max_send_size(SIZE)
            .max_backlog(2 * SIZE)
            .on(Ready, |conn, ()| conn.send_binary(&vec![7; SIZE]))
            .on(Utf8, move |conn, _| sender.send(conn.backlog().to_string()))
    });
    let mut client = server.ready();
    client.send_text("how much?");
    let backlog: usize = log.next().parse().unwrap();
    assert!(backlog > SIZE / 8, "{backlog}");
    client.expect_frame(0x82, vec![7; SIZE]);
}

fn mode(path: &Path) -> u32 {
    let file = std::fs::symlink_metadata(path).unwrap();
    file.permissions().mode() & 0o777
}

#[test]
fn the_permissions_of_a_unix_socket() {
    let dir = TempDir::new();
    // Fewer and more permissions than a typical umask leaves.
    for wanted in [0o600, 0o660, 0o777] {
        let path = dir.path("socket");
        let listen = path.clone();
        let server = Running::start_on(move || {
            support::echo(Server::builder().listener(Place::unix(listen).mode(wanted)))
        });
        assert_eq!(mode(&path), wanted);
        let mut client = Client::connect_unix(&path);
        client.upgrade();
        client.expect_alive();
        drop(client);
        server.stop();
        assert!(!path.exists());
    }
}

#[test]
fn a_unix_socket_that_listens_already_keeps_its_file() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let ready = UnixListener::bind(&path).unwrap();
    let server = Running::start_on(move || support::echo(Server::builder().listener(ready)));
    let mut client = Client::connect_unix(&path);
    client.upgrade();
    client.expect_alive();
    drop(client);
    server.stop();
    assert!(path.exists());
}

#[track_caller]
fn refused(place: impl Into<Place>, named: &str) -> BuildError {
    let Err(error) = Server::builder().listener(place).build() else {
        panic!("it was built");
    };
    assert!(error.to_string().contains(named), "{error}");
    error
}

#[test]
fn what_a_place_has_no_use_for_is_a_conflict() {
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
    for (place, named) in [
        (Place::tcp("127.0.0.1:0").mode(0o600), "mode"),
        (Place::from(socket()).mode(0o600), "mode"),
        (Place::all_inherited().mode(0o600), "mode"),
        (Place::from(socket()).only_v6(true), "only_v6"),
        (Place::unix("socket").only_v6(false), "only_v6"),
    ] {
        let error = refused(place, named);
        assert!(matches!(error, BuildError::Conflict(_)), "{error:?}");
    }
    assert!(!Path::new("socket").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_socket_that_does_not_listen_is_refused() {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    refused(TcpListener::from(socket), "is not listening");
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    refused(UnixListener::from(socket), "is not listening");
}

#[test]
fn ipv6_alone_leaves_ipv4_to_others() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // a machine without IPv6
    }
    // Another program may use the same port with IPv4; then another port is tried.
    let found = (0..10).any(|_| {
        let (sender, log) = support::log();
        let server = Running::start_on(move || {
            support::echo(
                Server::builder().listener(Place::tcp((Ipv6Addr::UNSPECIFIED, 0)).only_v6(true)),
            )
            .on(Connect, move |conn, ()| {
                sender.send(conn.ip().unwrap().to_string()).is_ok()
            })
        });
        let port = server.addr.port();
        let mut client = Client::connect((Ipv6Addr::LOCALHOST, port).into());
        client.upgrade();
        log.expect(&["::1"]);
        // Both can listen side by side, on one server or two.
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err();
        let both = Server::builder()
            .listen((Ipv4Addr::UNSPECIFIED, port))
            .build();
        refused && both.is_ok()
    });
    assert!(found, "IPv4 is taken as well");
}

#[test]
fn ipv6_takes_ipv4_too_if_told_so() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // a machine without IPv6
    }
    let server = Running::start_on(|| {
        support::echo(
            Server::builder().listener(Place::tcp((Ipv6Addr::UNSPECIFIED, 0)).only_v6(false)),
        )
    });
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, server.addr.port()).into());
    client.upgrade();
    client.expect_alive();
}

#[test]
fn a_server_tells_where_it_listens() {
    let dir = TempDir::new();
    let (path, ready_path) = (dir.path("socket"), dir.path("ready"));
    let mut server = Server::builder()
        .listen_unix(&path)
        .listen("127.0.0.1:0")
        .listener(UnixListener::bind(&ready_path).unwrap())
        .build()
        .unwrap();
    let listeners: Vec<_> = server.listeners().collect();
    let addr = server.local_addr().unwrap();
    assert_ne!(addr.port(), 0);
    assert_eq!(
        listeners.iter().map(|one| one.addr()).collect::<Vec<_>>(),
        [None, Some(addr), None]
    );
    assert_eq!(
        listeners.iter().map(|one| one.path()).collect::<Vec<_>>(),
        [Some(&*path), None, Some(&*ready_path)]
    );
    let shown: Vec<_> = listeners.iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], format!("unix:{}", path.display()));
    assert_eq!(shown[1], addr.to_string());
    assert!(listeners.iter().all(|one| !one.is_tls()));
    // Socket options can be read.
    let socket = listeners[1].socket();
    assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
    drop(listeners);
    server.hub().shutdown();
    while server.turn(None).unwrap() {}
    assert_eq!(server.listeners().len(), 0);
}
