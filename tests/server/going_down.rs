//! A drain loses nothing: waiting clients are accepted, queued messages arrive, clients are closed
//! one after the other, and connections that had to be cut are counted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support;
use crate::support::temp::TempDir;
use crate::support::{Client, PATIENCE, Running};
use wsloop::event::*;
use wsloop::{CloseCode, Handle, Listening, SendError, Server, WindDown};

const LONG: Duration = Duration::from_secs(3600);

/// Blocks the event loop until a message is sent to the returned channel; then the server drains
/// first.
fn hold_and_drain(handle: &Handle) -> mpsc::Sender<()> {
    let (held, holds) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let hold = move |hub: &mut wsloop::Hub<'_>| {
        held.send(()).unwrap();
        released.recv_timeout(PATIENCE).unwrap();
        hub.wind_down(
            WindDown::within(LONG)
                .spread(Duration::ZERO)
                .code(CloseCode::SERVICE_RESTART),
        )
        .unwrap();
    };
    handle.run(hold).unwrap();
    holds.recv_timeout(PATIENCE).unwrap();
    release
}

/// Expects a Close frame next, and answers it.
fn answer_close(client: &mut Client, code: u16) {
    client.answer_close(code);
}

/// Checks that no socket listens on an address.
fn expect_refused(addr: SocketAddr) {
    // A process that another test is just starting may hold the socket for a moment.
    if let Ok(mut stream) = TcpStream::connect(addr) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let read = stream.read(&mut [0]).map_err(|error| error.kind());
        assert!(
            matches!(read, Ok(0) | Err(ErrorKind::ConnectionReset)),
            "{read:?}"
        );
    }
}

#[test]
fn every_client_is_closed_and_the_server_ends_with_the_last() {
    let (sender, log) = support::log();
    let (stopped, shutdown) = (sender.clone(), sender.clone());
    let mut server = Running::start(move |builder| {
        builder
            .close_timeout(LONG)
            .on(Shutdown, move |hub, ()| {
                shutdown.send("shutdown".into()).unwrap();
                hub.broadcast_utf8("farewell")
            })
            .on(Disconnect, move |_, why| sender.send(why.to_string()))
            .on(Stopped, move |hub, stats| {
                assert_eq!(hub.stats(), stats);
                let (drained, cut) = (stats.ended_in_order, stats.cut);
                stopped.send(format!("stopped: {drained}, {cut}"))
            })
    });
    let mut clients: Vec<_> = (0..10).map(|_| server.ready()).collect();
    server
        .handle
        .wind_down(
            WindDown::within(LONG)
                .spread(Duration::from_millis(50))
                .code(1012),
        )
        .unwrap();
    for client in &mut clients {
        client.expect_text("farewell");
        answer_close(client, 1012);
    }
    let stats = server.join();
    assert_eq!(
        (stats.ended_in_order, stats.cut, stats.cut_bytes),
        (10, 0, 0)
    );
    let expected = std::iter::once("shutdown")
        .chain(["1012 (the server shut down)"; 10])
        .chain(["stopped: 10, 0"]);
    assert_eq!(log.rest(), expected.collect::<Vec<_>>());
    expect_refused(server.addr);
}

#[test]
fn who_waits_in_the_kernels_queue_is_let_in() {
    // More clients than the server accepts in a turn.
    const CLIENTS: usize = 100;
    let mut server = Running::start(|builder| support::echo(builder).turn_accepts(7));
    let release = hold_and_drain(&server.handle);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    release.send(()).unwrap();
    for client in &mut clients {
        client.upgrade();
        answer_close(client, 1012);
    }
    let stats = server.join();
    assert_eq!((stats.ended_in_order, stats.cut), (CLIENTS as u64, 0));
}

#[test]
fn max_connections_holds_then_too() {
    let mut server = Running::start(|builder| support::echo(builder).max_connections(2));
    let mut first = server.ready();
    let release = hold_and_drain(&server.handle);
    let mut second = server.client();
    let mut third = server.client();
    release.send(()).unwrap();
    answer_close(&mut first, 1012);
    second.upgrade();
    answer_close(&mut second, 1012);
    assert_eq!(third.read_to_end(), b"", "there was no place for it");
    assert_eq!(server.join().ended_in_order, 2);
}

#[test]
fn the_queue_of_a_socket_that_was_given_is_left_to_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let copy = listener.try_clone().unwrap();
    let mut server = Running::start_on(|| support::echo(Server::builder().listener(listener)));
    let release = hold_and_drain(&server.handle);
    let mut early = server.client();
    release.send(()).unwrap();
    assert_eq!(server.join().accepted, 0);
    let mut late = server.client();
    let next = Running::start_on(|| support::echo(Server::builder().listener(copy)));
    for client in [&mut early, &mut late] {
        client.upgrade();
        client.expect_alive();
    }
    drop(next);
}

#[test]
fn messages_come_as_ever_until_the_close() {
    let mut server = Running::start(|builder| {
        support::echo(builder)
            .tick_period(Duration::from_millis(1))
            .on(Tick, |hub, _| hub.broadcast_binary(b"tick"))
    });
    let (mut first, mut second) = (server.ready(), server.ready());
    server
        .handle
        .wind_down(WindDown::within(LONG).spread(LONG).code(1001))
        .unwrap();
    let closed = |client: &mut Client| loop {
        let frame = client.read_frame();
        if frame.first != 0x82 {
            break frame.first == 0x88;
        }
    };
    assert!(closed(&mut first));
    first.send_close(1001, "");
    first.expect_eof();
    // Ticks and echoes continue.
    second.expect_frame(0x82, b"tick");
    second.send_text("still here?");
    assert!(!closed(&mut second));
    second.expect_frame(0x82, b"tick");
    // `shutdown` ends the drain early.
    server.handle.shutdown().unwrap();
    assert!(closed(&mut second));
    second.send_close(1001, "");
    second.expect_eof();
    assert_eq!(server.join().ended_in_order, 2);
}

#[test]
fn a_slow_reader_gets_everything() {
    const SIZE: usize = 16 << 20;
    const TIMEOUT: Duration = Duration::from_millis(50);
    let mut server = Running::start(|builder| {
        builder
            .max_send_size(SIZE)
            .close_timeout(TIMEOUT)
            .on(Utf8, |conn, _| {
                conn.send_binary(&vec![7; SIZE])?;
                conn.server()
                    .wind_down(WindDown::within(LONG).spread(Duration::ZERO).code(1012))
            })
    });
    let mut client = server.ready();
    client.send_text("go");
    thread::sleep(4 * TIMEOUT);
    client.expect_frame(0x82, vec![7; SIZE]);
    client.expect_close(1012);
    let _ = client.stream.write(&support::frame(0x88, b""));
    assert_eq!(server.join().cut_bytes, 0);
}

#[test]
fn what_the_deadline_cuts_is_counted() {
    const SIZE: usize = 16 << 20;
    let (sender, log) = support::log();
    let sent = sender.clone();
    let mut server = Running::start(move |builder| {
        builder
            .max_send_size(SIZE)
            .on(Utf8, move |conn, _| {
                sent.send("sent".into()).unwrap();
                conn.send_binary(&vec![7; SIZE])
            })
            .on(Disconnect, move |_, why| sender.send(why.to_string()))
    });
    let mut stuck = server.ready();
    stuck.send_text("go");
    log.expect(&["sent"]);
    server
        .handle
        .wind_down(
            WindDown::within(Duration::from_millis(100))
                .spread(Duration::ZERO)
                .code(1012),
        )
        .unwrap();
    let stats = server.join();
    assert_eq!((stats.ended_in_order, stats.cut), (0, 1));
    // The other bytes are in the kernel or have arrived, together with a frame header and a Close
    // frame.
    let came = stuck.read_to_end().len() as u64;
    assert!(stats.cut_bytes > 0, "the kernel cannot take so much");
    assert!(
        came + stats.cut_bytes <= SIZE as u64 + 14,
        "{came}, {stats:?}"
    );
    let unsent = format!(
        "1006 (the server shut down), {} bytes unsent",
        stats.cut_bytes
    );
    assert_eq!(log.rest(), [unsent]);
}

#[test]
fn a_code_that_must_not_be_sent_is_refused() {
    let server = Running::echo();
    for code in [999, 1005, 1006, 5000] {
        let refused = server
            .handle
            .wind_down(WindDown::within(LONG).spread(LONG).code(code));
        assert_eq!(refused, Err(SendError::BadCloseCode(code)));
    }
    let asked =
        |hub: &mut wsloop::Hub<'_>| hub.wind_down(WindDown::within(LONG).spread(LONG).code(1006));
    let answer = server.handle.ask(asked).unwrap().recv().unwrap();
    assert_eq!(answer, Err(SendError::BadCloseCode(1006)));
    server.ready().expect_alive();
}

#[test]
fn without_clients_it_ends_at_once() {
    let mut server = Running::echo();
    server
        .handle
        .wind_down(WindDown::within(LONG).spread(LONG).code(1001))
        .unwrap();
    // Later calls find a server that is shutting down or has ended.
    let _ = server
        .handle
        .wind_down(WindDown::within(LONG).spread(LONG).code(1001));
    let _ = server.handle.shutdown();
    server.join();
}

#[test]
fn a_program_with_a_loop_of_its_own_drains() {
    let mut server = support::echo(Server::builder().listen("127.0.0.1:0"))
        .build()
        .unwrap();
    let addr = server.local_addr().unwrap();
    let client = thread::spawn(move || {
        let mut client = Client::connect(addr);
        client.upgrade();
        client.expect_alive();
        answer_close(&mut client, 1001);
    });
    while server.stats().messages_out == 0 {
        assert!(server.turn(None).unwrap());
    }
    server
        .hub()
        .wind_down(WindDown::within(LONG).spread(LONG).code(1001))
        .unwrap();
    while server.turn(None).unwrap() {}
    assert_eq!(server.stats().ended_in_order, 1);
    client.join().unwrap();
}

#[test]
fn listeners_are_handed_over() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let (sender, receiver) = mpsc::channel();
    let place = path.clone();
    let thread = thread::spawn(move || {
        let builder = Server::builder().listen("127.0.0.1:0").listen_unix(place);
        let mut server = support::echo(builder).build().unwrap();
        let copy = |listener: Listening<'_>| listener.socket().try_clone_to_owned().unwrap();
        let sockets: Vec<OwnedFd> = server.listeners().map(copy).collect();
        let addr = server.local_addr().unwrap();
        sender.send((server.handle(), addr, sockets)).unwrap();
        server.start().unwrap();
        server.stats()
    });
    let (handle, addr, sockets) = receiver.recv_timeout(PATIENCE).unwrap();
    let mut old = Client::connect(addr);
    old.upgrade();

    // Both processes listen; then only the successor does.
    let [tcp, unix] = sockets.try_into().unwrap();
    let next = Running::start_on(|| {
        let builder = Server::builder().listener(TcpListener::from(tcp));
        support::echo(builder.listener(UnixListener::from(unix)))
    });
    handle.hand_over_listeners().unwrap();
    // The old server cannot take the listeners back.
    handle.start_listening().unwrap();
    let listeners = handle.ask(|hub| hub.local_addrs().len()).unwrap();
    assert_eq!(listeners.recv().unwrap(), 0);
    old.expect_alive();
    let over_unix = || {
        let mut client = Client::connect_unix(&path);
        client.upgrade();
        client.expect_alive();
    };
    for _ in 0..20 {
        let mut client = next.ready();
        client.expect_alive();
        over_unix();
    }
    handle
        .wind_down(WindDown::within(LONG).spread(Duration::ZERO).code(1012))
        .unwrap();
    answer_close(&mut old, 1012);
    assert_eq!(thread.join().unwrap().accepted, 1);
    // The file now belongs to the successor.
    over_unix();
    assert_eq!(next.stop().accepted, 41);
}

#[test]
fn sockets_that_nobody_has_are_gone() {
    let server = Running::echo();
    let mut client = server.ready();
    server.handle.hand_over_listeners().unwrap();
    let answer = server.handle.ask(|hub| hub.local_addr()).unwrap();
    assert_eq!(answer.recv().unwrap(), None);
    client.expect_alive();
    expect_refused(server.addr);
}

#[test]
fn listeners_are_left_to_the_successor_whichever_was_asked_for_first() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let own = path.clone();
    let mut server = Running::start_on(move || Server::builder().listen_unix(own));
    let restart = |hub: &mut wsloop::Hub<'_>| {
        hub.wind_down(
            WindDown::within(LONG)
                .spread(Duration::ZERO)
                .code(CloseCode::SERVICE_RESTART),
        )
        .unwrap();
        hub.hand_over_listeners();
    };
    server.handle.run(restart).unwrap();
    server.join();
    assert!(path.exists(), "the file is the successor's");
}

#[cfg(feature = "tls")]
#[test]
fn what_tls_holds_back_is_owed_as_well() {
    // More than both kernels can buffer, but no more than they and TLS together.
    const SIZE: usize = 170 << 10;
    let identity = support::tls::Identity::new();
    let tls = identity.server.clone();
    let (sender, log) = support::log();
    let mut server = Running::start_on(move || {
        Server::builder()
            .listen_tls("127.0.0.1:0", tls)
            .send_buffer_size(4 << 10)
            .recv_buffer_size(4 << 10)
            .max_send_size(SIZE)
            .close_timeout(Duration::from_secs(2))
            .on(Utf8, move |conn, _| {
                conn.send_binary(&vec![7; SIZE])?;
                sender.send("sent".into()).unwrap();
                Ok::<_, SendError>(())
            })
    });
    let mut client = identity.connect(server.addr);
    socket2::SockRef::from(&client.stream.sock)
        .set_recv_buffer_size(4 << 10)
        .unwrap();
    client.upgrade();
    client.send_text("much");
    log.expect(&["sent"]);
    server
        .handle
        .wind_down(
            WindDown::within(LONG)
                .spread(Duration::ZERO)
                .code(CloseCode::SERVICE_RESTART),
        )
        .unwrap();
    // Longer than `close_timeout`, which only limits the wait for an answer to a Close frame that
    // was written.
    thread::sleep(Duration::from_secs(5));
    let frame = client.read_frame();
    assert!(frame.payload.len() == SIZE && frame.payload.iter().all(|byte| *byte == 7));
    client.expect_close(1012);
    client.send_close(1012, "");
    drop(client);
    let stats = server.join();
    assert_eq!(
        (stats.ended_in_order, stats.cut, stats.cut_bytes),
        (1, 0, 0)
    );
}
