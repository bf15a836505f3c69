//! Sources of the program in the server's loop: handlers are called while a source is ready, and
//! sources are returned at the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket as StdUdpSocket;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::mpsc;
use std::time::Duration;

use crate::support;
use crate::support::{PATIENCE, Running};
use mio::Interest;
use mio::net::{UdpSocket, UnixStream};
use wsloop::event::{Start, Utf8};
use wsloop::{BuildError, Descriptor, Hub, Server, WatchId};

/// Returns both ends of a stream; the first one is for the loop.
fn pair() -> (UnixStream, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (UnixStream::from_std(ours), theirs)
}

#[test]
fn datagrams_reach_the_clients() {
    let (sender, ports) = mpsc::channel();
    let server = Running::start(move |builder| {
        let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
        sender.send(socket.local_addr().unwrap()).unwrap();
        support::echo(builder).watch_readable(socket, |hub, watched| {
            assert!(watched.readable && !watched.hangup);
            let mut datagram = [0; 100];
            match watched.source.recv(&mut datagram) {
                Ok(size) => hub.broadcast_binary(&datagram[..size]).map(drop),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
                Err(error) => panic!("{error}"),
            }
        })
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    let to = ports.recv_timeout(PATIENCE).unwrap();
    let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    // There is one call per datagram, even if all of them have arrived before the first call.
    for text in ["a", "b", "c"] {
        socket.send_to(text.as_bytes(), to).unwrap();
    }
    for text in ["a", "b", "c"] {
        one.expect_frame(0x82, text);
        other.expect_frame(0x82, text);
    }
    one.expect_alive();
}

#[test]
fn a_handler_need_not_use_up_what_is_there() {
    let (sender, log) = support::log();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"abc").unwrap();
    let server = Running::start(move |builder| {
        builder.watch_readable(ours, move |hub, watched| {
            let mut byte = [0];
            let entry = match watched.source.read(&mut byte).unwrap() {
                0 => {
                    assert!(watched.hangup);
                    assert!(hub.unwatch(watched.id).is_none(), "its handler holds it");
                    assert!(!hub.is_watched(watched.id));
                    "end".into()
                }
                _ => char::from(byte[0]).to_string(),
            };
            sender.send(entry).unwrap();
        })
    });
    log.expect(&["a", "b", "c"]);
    theirs.write_all(b"d").unwrap();
    log.expect(&["d"]);
    drop(theirs);
    log.expect(&["end"]);
    // The source was dropped with its handler, which held the log's sender.
    assert_eq!(log.rest(), [""; 0]);
    server.stop();
}

#[test]
fn a_source_is_given_back() {
    #[derive(Default)]
    struct Kept(Option<WatchId<UnixStream>>);

    let (ours, mut theirs) = pair();
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        builder
            .on(Start, move |hub, ()| {
                let sender = sender.clone();
                let (stream, _) = StdUnixStream::pair()?;
                stream.set_nonblocking(true)?;
                // An id is not valid after `unwatch`.
                let id = hub.watch_readable(UnixStream::from_std(stream), |_, _| ())?;
                assert!(hub.is_watched(id));
                assert!(hub.unwatch(id).is_some());
                assert!(hub.unwatch(id).is_none());
                assert!(hub.rewatch(id, Interest::WRITABLE).is_err());
                hub.shared::<Kept>().0 = None;
                sender.send("started".into()).unwrap();
                std::io::Result::Ok(())
            })
            .on(Utf8, |conn, text| {
                let id = conn.shared::<Kept>().0.unwrap();
                let mut stream = conn.server().unwatch(id).unwrap();
                stream.write_all(text.as_bytes()).unwrap();
                // The same stream is watched again in the same handler.
                let again = conn.server().watch_readable(stream, |hub, watched| {
                    let mut bytes = [0; 10];
                    let size = watched.source.read(&mut bytes).unwrap();
                    hub.unwatch(watched.id);
                    hub.broadcast_binary(&bytes[..size])
                });
                let again = again.unwrap();
                assert!(again != id && conn.server().watched() == 1);
            })
    });
    log.expect(&["started"]);
    let ours = std::sync::Mutex::new(Some(ours));
    let watching = server.handle.ask(move |hub| {
        let ours = ours.lock().unwrap().take().unwrap();
        let id = hub.watch_readable(ours, |_, _| -> () { unreachable!("nothing came") });
        hub.shared::<Kept>().0 = Some(id.unwrap());
        hub.watched()
    });
    assert_eq!(watching.unwrap().recv_timeout(PATIENCE), Ok(1));
    let mut client = server.ready();
    client.send_text("out");
    let mut bytes = [0; 3];
    theirs.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"out");
    theirs.write_all(b"in").unwrap();
    client.expect_frame(0x82, "in");
    // The stream was dropped.
    assert_eq!(theirs.read(&mut bytes).unwrap(), 0);
    let left = server.handle.ask(|hub| hub.watched()).unwrap();
    assert_eq!(left.recv_timeout(PATIENCE), Ok(0));
}

#[test]
fn what_is_watched_for_can_change() {
    let (ours, mut theirs) = pair();
    let server = Running::start(move |builder| {
        let mut answer = Vec::new();
        builder.watch(ours, Interest::READABLE, move |hub, watched| {
            if watched.readable {
                let mut bytes = [0; 10];
                let size = watched.source.read(&mut bytes).unwrap();
                answer.extend_from_slice(&bytes[..size]);
            } else {
                assert!(watched.writable);
                watched.source.write_all(&answer).unwrap();
                answer.clear();
            }
            let interest = match answer.is_empty() {
                true => Interest::READABLE,
                false => Interest::WRITABLE,
            };
            hub.rewatch(watched.id, interest)
        })
    });
    for text in [b"one", b"two"] {
        theirs.write_all(text).unwrap();
        let mut bytes = [0; 3];
        theirs.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, text);
    }
    server.stop();
}

#[test]
fn writable_is_level_triggered_too() {
    let (ours, mut theirs) = pair();
    let server = Running::start(move |builder| {
        let mut count = 0;
        builder.watch_writable(ours, move |hub, watched| {
            count += 1;
            watched.source.write_all(&[count]).unwrap();
            if count == 5 {
                hub.unwatch(watched.id);
            }
        })
    });
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).unwrap();
    assert_eq!(all, [1, 2, 3, 4, 5]);
    server.stop();
}

#[test]
fn a_handler_that_fails_ends_its_watch_alone() {
    let (sender, log) = support::log();
    let mut ends = Vec::new();
    let mut sources = Vec::new();
    for _ in 0..3 {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        sources.push(ours);
        ends.push(theirs);
    }
    let server = Running::start(move |builder| {
        let mut sources = sources.into_iter();
        let (one, two, three) = (sources.next(), sources.next(), sources.next());
        support::echo(builder)
            .watch_readable(one.unwrap(), |_, _| Err::<(), _>("a test"))
            .watch_readable(two.unwrap(), |_, _| -> () { panic!("a test") })
            .watch_readable(three.unwrap(), move |_, watched| {
                let size = watched.source.read(&mut [0; 10])?;
                sender.send(format!("read {size}")).unwrap();
                std::io::Result::Ok(())
            })
    });
    log.expect(&["read 1"]);
    for end in &mut ends[..2] {
        // The stream was closed with unread data.
        let read = end.read(&mut [0; 10]);
        assert!(
            matches!(&read, Ok(0)) || read.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
        );
    }
    ends[2].write_all(b"yz").unwrap();
    log.expect(&["read 2"]);
    server.ready().expect_alive();
    let left = server.handle.ask(|hub| hub.watched()).unwrap();
    assert_eq!(left.recv_timeout(PATIENCE), Ok(1));
}

#[test]
fn anything_with_a_descriptor() {
    let (sender, log) = support::log();
    let (ours, mut theirs) = StdUnixStream::pair().unwrap();
    let server = Running::start(move |builder| {
        builder.watch_readable(Descriptor(ours), move |hub, watched| {
            let mut bytes = [0; 10];
            // The descriptor is blocking, but the read does not block, because there is data.
            let size = watched.source.0.read(&mut bytes).unwrap();
            sender.send(format!("{size}")).unwrap();
            if size == 0 {
                hub.unwatch(watched.id);
            }
        })
    });
    theirs.write_all(b"abc").unwrap();
    log.expect(&["3"]);
    drop(theirs);
    log.expect(&["0"]);
    server.stop();
}

#[test]
fn what_cannot_be_watched_is_an_error() {
    let file = || Descriptor(std::fs::File::open(std::env::current_exe().unwrap()).unwrap());
    let built = Server::builder()
        .listen("127.0.0.1:0")
        .watch_readable(file(), |_, _| ())
        .build();
    assert!(matches!(&built, Err(BuildError::Watch(_))), "{built:?}");
    let mut server = Server::builder().listen("127.0.0.1:0").build().unwrap();
    let mut hub = server.hub();
    assert!(hub.watch_readable(file(), |_, _| ()).is_err());
    // The same descriptor cannot be watched twice.
    let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    let same = std::sync::Arc::new(socket);
    let first = hub.watch_readable(Descriptor(same.clone()), |_, _| ());
    let second = hub.watch_writable(Descriptor(same), |_, _| ());
    assert_eq!(second.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(hub.is_watched(first.unwrap()));
    assert_eq!(hub.watched(), 1);
}

#[test]
fn two_that_are_ready_at_once_may_end_each_other() {
    #[derive(Default)]
    struct Both(Vec<WatchId<UnixStream>>);

    fn end_both(hub: &mut Hub<'_>) {
        for id in std::mem::take(&mut hub.shared::<Both>().0) {
            hub.unwatch(id);
        }
    }

    let mut server = Server::builder().listen("127.0.0.1:0").build().unwrap();
    let mut ends = Vec::new();
    let (sender, log) = support::log();
    for _ in 0..2 {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        let (mut hub, sender) = (server.hub(), sender.clone());
        let id = hub.watch_readable(ours, move |hub, _| {
            sender.send("called".into()).unwrap();
            end_both(hub);
        });
        hub.shared::<Both>().0.push(id.unwrap());
        ends.push(theirs);
    }
    drop(sender);
    server.turn(Some(PATIENCE)).unwrap();
    server.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(log.rest(), ["called"]);
    assert_eq!(server.hub().watched(), 0);
}
