//! The listening sockets of several loops.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use wsloop::{BuildError, Error};

use super::*;
use crate::support::temp::TempDir;

#[track_caller]
fn in_use(result: Result<LoopThreads, Error>) {
    let Err(Error::Build(BuildError::Listen { source, .. })) = result else {
        panic!("{result:?}");
    };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
}

#[test]
fn an_address_of_another_program_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let on = |addr: SocketAddr| Loops::new(2, move |_| Server::builder().listen(addr)).spawn();
    in_use(on(addr));
    // Other loops have it, too, although they share it among themselves.
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    in_use(on(addr));
    let server = Server::builder().listen(addr).build();
    assert!(
        matches!(server, Err(BuildError::Listen { .. })),
        "{server:?}"
    );
    one_of_each(addr);
    drop(loops);
    drop(on(addr).unwrap());
}

#[test]
#[cfg(target_os = "linux")] // all of 127.0.0.0/8 is local
fn of_several_addresses_those_that_are_free_are_taken() {
    let loops = two_loops();
    let taken = loops.local_addrs()[0];
    let free = SocketAddr::from(([127, 0, 0, 2], taken.port()));
    for addrs in [[taken, free], [free, taken]] {
        let others = Loops::new(2, move |number| {
            obeying(number, Server::builder().listen(&addrs[..]))
        });
        let others = others.spawn().unwrap();
        assert_eq!(others.local_addrs(), [free]);
        one_of_each(free);
    }
}

#[test]
fn several_addresses_are_listened_on_by_all_loops() {
    let make = |number| {
        let builder = Server::builder()
            .listen("127.0.0.1:0")
            .listen("127.0.0.1:0");
        obeying(number, builder)
    };
    let loops = Loops::new(2, make).spawn().unwrap();
    let addrs = loops.local_addrs();
    assert_eq!(addrs.len(), 2);
    for addr in addrs {
        one_of_each(*addr);
    }
    let same = loops.handle().ask(|_, hub| hub.local_addrs().to_vec());
    assert!(same.iter().all(|own| own == addrs), "{same:?}");
}

/// Checks that each loop accepts clients of a socket that the loops share: the other is held.
fn expect_shared<S: Read + Write>(loops: &LoopThreads, connect: impl Fn() -> Client<S>) {
    for number in [0, 1] {
        let _held = Held::hold(&loops.handle().each()[1 - number]);
        assert_eq!(greeted(&mut connect()), number);
    }
}

#[test]
fn a_unix_socket_is_shared() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let make = {
        let path = path.clone();
        move |number| obeying(number, Server::builder().listen_unix(&path))
    };
    let loops = Loops::new(2, make).spawn().unwrap();
    assert!(loops.local_addrs().is_empty());
    expect_shared(&loops, || Client::connect_unix(&path));
    assert_eq!(loops.handle().listeners().unwrap().len(), 1);
    // Clients wait while the loops do not listen.
    loops.handle().stop_listening().unwrap();
    let mut waiting = Client::connect_unix(&path);
    assert!(loops.handle().listeners().unwrap().is_empty());
    loops.handle().start_listening().unwrap();
    greeted(&mut waiting);
    expect_shared(&loops, || Client::connect_unix(&path));
    drop(waiting);
    loops.shutdown().unwrap();
    assert!(!path.exists());
}

#[test]
fn given_sockets_are_shared() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let addr = tcp.local_addr().unwrap();
    let make = move |number| {
        let builder = Server::builder()
            .listener(tcp.try_clone().unwrap())
            .listener(unix.try_clone().unwrap());
        obeying(number, builder)
    };
    let loops = Loops::new(2, make).spawn().unwrap();
    assert_eq!(loops.local_addrs(), [addr]);
    expect_shared(&loops, || Client::connect(addr));
    expect_shared(&loops, || Client::connect_unix(&path));
    assert_eq!(loops.handle().listeners().unwrap().len(), 2);
    loops.shutdown().unwrap();
    assert!(path.exists(), "its creator removes it");
}

#[test]
#[cfg(feature = "tls")]
fn a_listener_with_tls_has_it_on_all_loops() {
    use wsloop::Place;

    let dir = TempDir::new();
    let identity = crate::support::tls::Identity::in_files(&dir);
    let files = ["chain.pem", "key.pem"].map(|name| dir.path(name));
    let loops = Loops::new(2, move |number| {
        let tls = wsloop::config_from_pem(&files[0], &files[1]).unwrap();
        obeying(
            number,
            Server::builder().listener(Place::tcp("127.0.0.1:0").tls(tls)),
        )
    });
    let loops = loops.spawn().unwrap();
    let addr = loops.local_addrs()[0];
    let mut found = [false; 2];
    for _ in 0..CLIENTS_MAX {
        found[greeted(&mut identity.connect(addr))] = true;
        if found == [true; 2] {
            return;
        }
    }
    panic!("all clients are on one loop");
}
