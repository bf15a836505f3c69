//! The queue for a client that does not read stays within `max_backlog`, and accepted messages are
//! neither lost nor reordered.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support;
use crate::support::{Client, PATIENCE, Running, frame, log};
use socket2::{Domain, SockRef, Socket, Type};
use wsloop::event::{Binary, Connect, Disconnect, Drain, Error, Utf8};
use wsloop::{Builder, Connection, ConnectionId, Hub, SendError, Sent, SlowConsumer};

/// Configures small socket buffers, so that a client soon becomes slow.
fn narrow(builder: Builder) -> Builder {
    builder.on(Connect, |conn, ()| {
        if let Some(socket) = conn.socket() {
            let socket = SockRef::from(&socket);
            socket
                .set_send_buffer_size(NARROW)
                .expect("a socket option");
            socket
                .set_recv_buffer_size(NARROW)
                .expect("a socket option");
        }
    })
}

const NARROW: usize = 16 << 10;

/// Connects a client with small socket buffers, and performs the opening handshake.
fn narrow_client(server: &Running) -> Client {
    fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_recv_buffer_size(NARROW)?;
        socket.set_send_buffer_size(NARROW)?;
        socket.connect(&addr.into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    }
    let mut client = Client::over(connect(server.addr).expect("the server listens"));
    client.upgrade();
    client
}

/// Sends on another thread, and counts the frames that the kernel has accepted.
fn send_all(client: &Client, frames: Vec<Vec<u8>>) -> (JoinHandle<()>, Arc<AtomicUsize>) {
    let stream = client.stream.try_clone().expect("a second descriptor");
    let mut writer = Client::over(stream);
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let thread = std::thread::spawn(move || {
        for frame in frames {
            writer.send_raw(frame);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (thread, sent)
}

/// Waits until the count no longer changes, and returns it.
fn standstill(sent: &AtomicUsize) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if now == before && now > 0 {
            return now;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a closure in the server, and returns its result.
fn ask<T: Send + 'static>(
    server: &Running,
    action: impl FnOnce(&mut Hub<'_>) -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let run = move |hub: &mut Hub<'_>| sender.send(action(hub)).unwrap_or_default();
    server.handle.run(run).expect("the server runs");
    receiver.recv_timeout(PATIENCE).expect("the server runs it")
}

/// Sends numbered messages of 1,000 bytes until one is not accepted; returns the number of accepted
/// messages, and the result of the next one.
fn fill(conn: &mut Connection<'_>) -> (u32, Result<Sent, SendError>) {
    for number in 0.. {
        match conn.send_binary(&numbered(number)) {
            Ok(sent) if !sent.is_dropped() => assert_eq!(sent.bytes(), 1004),
            result => return (number, result),
        }
    }
    unreachable!("the backlog is full before")
}

fn numbered(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(250)
}

/// Fills all open connections from outside of handlers, so that no message is held back.
fn fill_all(server: &Running) -> Vec<(ConnectionId, u32, Result<Sent, SendError>, usize)> {
    ask(server, |hub| {
        let mut all = Vec::new();
        for id in hub.ids() {
            if let Some(mut conn) = hub.get(id) {
                let (count, result) = fill(&mut conn);
                all.push((id, count, result, conn.backlog()));
            }
        }
        all
    })
}

const LIMIT: usize = 100_000;

#[test]
fn error_is_told_to_the_sender_and_the_connection_lives() {
    let server = Running::start(|builder| support::echo(narrow(builder)).max_backlog(LIMIT));
    let mut client = narrow_client(&server);
    for _ in 0..3 {
        let [(_, count, result, backlog)] = fill_all(&server)[..] else {
            panic!("one connection");
        };
        assert!(backlog <= LIMIT, "{backlog}");
        assert!(backlog > LIMIT - 1004, "no less is allowed: {backlog}");
        let expected = SendError::BacklogFull {
            queued: backlog,
            limit: LIMIT,
        };
        assert_eq!(result, Err(expected));
        for number in 0..count {
            client.expect_frame(0x82, numbered(number));
        }
        client.expect_alive();
    }
}

#[test]
fn close_ends_the_connection_behind_what_was_taken() {
    let (sender, log) = log();
    let server = Running::start(|builder| {
        let errors = sender.clone();
        support::echo(narrow(builder))
            .max_backlog(LIMIT)
            .slow_consumer(SlowConsumer::Close)
            .on(Error, move |_, fault| {
                errors.send(format!("error: {fault}"))
            })
            .on(Disconnect, move |_, why| {
                sender.send(format!("disconnect {why}"))
            })
    });
    let mut client = narrow_client(&server);
    let [(_, count, result, _)] = fill_all(&server)[..] else {
        panic!("one connection");
    };
    assert!(matches!(result, Err(SendError::BacklogFull { .. })));
    for number in 0..count {
        client.expect_frame(0x82, numbered(number));
    }
    client.answer_close(1008);
    // The text of `Fault`.
    log.expect(&["error: max_backlog exceeded"]);
    let end = log.next();
    assert!(
        end.starts_with("disconnect 1008 (max_backlog exceeded)"),
        "{end}"
    );
    server.ready().expect_alive();
}

#[test]
fn close_cuts_a_client_that_reads_nothing_at_all() {
    let (sender, log) = log();
    let server = Running::start(|builder| {
        support::echo(narrow(builder))
            .max_backlog(LIMIT)
            .slow_consumer(SlowConsumer::Close)
            .close_timeout(Duration::from_millis(60))
            .on(Disconnect, move |_, why| {
                sender.send(format!("disconnect {why}"))
            })
    });
    let _client = narrow_client(&server);
    fill_all(&server);
    let end = log.next();
    assert!(
        end.starts_with("disconnect 1006 (max_backlog exceeded), ") && end.ends_with(" unsent"),
        "{end}"
    );
    server.ready().expect_alive();
}

#[test]
fn drop_leaves_out_whole_messages_and_tells_the_sender() {
    let server = Running::start(|builder| {
        support::echo(narrow(builder))
            .max_backlog(LIMIT)
            .slow_consumer(SlowConsumer::DropNewest)
    });
    let mut client = narrow_client(&server);
    let mut counts = Vec::new();
    for _ in 0..3 {
        let [(_, count, result, backlog)] = fill_all(&server)[..] else {
            panic!("one connection");
        };
        assert_eq!(result, Ok(Sent::NOTHING));
        assert!(backlog <= LIMIT, "{backlog}");
        counts.push(count);
    }
    for count in counts {
        for number in 0..count {
            client.expect_frame(0x82, numbered(number));
        }
    }
    client.expect_alive();
}

#[test]
fn a_message_is_always_taken_if_nothing_is_queued() {
    let server = Running::start(|builder| {
        narrow(builder)
            .max_backlog(10)
            .max_send_size(1 << 20)
            .on(Utf8, |conn, _| {
                let large = vec![7; 1 << 20];
                assert!(conn.send_binary(&large).is_ok());
                // Now a message is queued.
                let next = conn.send_utf8("never");
                assert!(
                    matches!(next, Err(SendError::BacklogFull { limit: 10, .. })),
                    "{next:?}"
                );
            })
            .on(Binary, |conn, _| conn.send_utf8("ok"))
    });
    let mut client = narrow_client(&server);
    client.send_text("x");
    assert!(client.read_frame().payload == vec![7; 1 << 20]);
    client.send_frame(0x82, "");
    client.expect_text("ok");
}

#[test]
fn drain_comes_once_for_each_overflow() {
    let (sender, log) = log();
    let server = Running::start(|builder| {
        let drains = sender.clone();
        support::echo(narrow(builder))
            .max_backlog(LIMIT)
            .on(Drain, move |conn, ()| {
                assert_eq!(conn.backlog(), 0);
                drains.send("drain".into())
            })
            .on(Utf8, move |conn, text| {
                sender.send(text.into()).unwrap_or_default();
                conn.send_utf8(text)
            })
    });
    let mut client = narrow_client(&server);
    // A message that the kernel accepts at once causes no `Drain`.
    client.expect_alive();
    log.expect(&["alive?"]);
    for _ in 0..5 {
        let count = fill_all(&server)[0].1;
        for number in 0..count {
            client.expect_frame(0x82, numbered(number));
        }
        log.expect(&["drain"]);
        client.expect_alive();
        client.expect_alive();
        log.expect(&["alive?", "alive?"]);
    }
}

#[test]
fn drain_can_send_the_next_part() {
    // A large reply in parts; each part is sent when the previous one has left.
    const PARTS: u32 = 300;
    #[derive(Default)]
    struct Next(u32);
    fn go_on(conn: &mut Connection<'_>) -> Result<(), SendError> {
        while conn.data::<Next>().0 < PARTS {
            let number = conn.data::<Next>().0;
            match conn.send_binary(&numbered(number).repeat(10)) {
                Ok(_) => conn.data::<Next>().0 += 1,
                Err(SendError::BacklogFull { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        conn.data::<Next>().0 = 0;
        conn.send_utf8("done").map(drop)
    }
    let server = Running::start(|builder| {
        narrow(builder)
            .max_backlog(LIMIT)
            .on(Utf8, |conn, _| go_on(conn))
            .on(Drain, |conn, ()| {
                if conn.data::<Next>().0 > 0 {
                    go_on(conn)
                } else {
                    Ok(())
                }
            })
    });
    let mut client = narrow_client(&server);
    for _ in 0..2 {
        client.send_text("go");
        for number in 0..PARTS {
            assert!(
                client.read_frame().payload == numbered(number).repeat(10),
                "{number}"
            );
        }
        // If a full backlog refused "done", the last drain sent it.
        client.expect_text("done");
    }
}

#[test]
fn ten_megabytes_of_echo_for_a_client_that_reads_last() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let server = Running::start(move |builder| {
        narrow(builder).on(Binary, move |conn, data| {
            seen.fetch_max(conn.backlog(), Ordering::Relaxed);
            conn.send_binary(data)
        })
    });
    let mut other = server.ready();
    let mut client = narrow_client(&server);
    let count = 10_500;
    let frames = (0..count)
        .map(|number| frame(0x82, &numbered(number)))
        .collect();
    let (writing, sent) = send_all(&client, frames);
    // The server has stopped reading, so the client can no longer send.
    let taken = standstill(&sent);
    assert!(taken < count as usize, "the server holds it all");
    other.send_frame(0x82, "others are served");
    other.expect_frame(0x82, "others are served");
    let backlog = ask(&server, |hub| {
        let ids = hub.ids();
        ids.into_iter()
            .filter_map(|id| hub.get(id).map(|conn| conn.backlog()))
            .max()
    });
    assert!(
        backlog.is_some_and(|backlog| backlog <= 1 << 20),
        "{backlog:?}"
    );
    for number in 0..count {
        client.expect_frame(0x82, numbered(number));
    }
    writing.join().expect("everything was taken in the end");
    assert!(most.load(Ordering::Relaxed) <= 1 << 20);
    client.send_frame(0x82, "and on");
    client.expect_frame(0x82, "and on");
}

#[test]
fn a_client_that_only_sends_never_overflows_its_backlog_by_its_echoes() {
    // Messages of every size up to the backlog, each of the largest allowed size.
    for size in [
        1000,
        LIMIT / 2 - 10,
        LIMIT / 2 + 10_000,
        LIMIT * 4 / 5,
        LIMIT,
    ] {
        let (sender, log) = log();
        let server = Running::start(move |builder| {
            support::echo(narrow(builder))
                .max_backlog(LIMIT)
                .max_recv_size(size)
                .max_send_size(size)
                .on(Error, move |_, fault| sender.send(fault.to_string()))
        });
        let mut client = narrow_client(&server);
        let count = 30.max(2_000_000 / size);
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let (writing, sent) = send_all(&client, vec![frame(0x82, &payload); count]);
        standstill(&sent);
        for number in 0..count {
            let echo = client.read_frame();
            let shown = &echo.payload[..echo.payload.len().min(10)];
            assert_eq!(echo.first, 0x82, "echo {number} of {size} bytes: {shown:?}");
            assert!(echo.payload == payload, "echo {number} of {size} bytes");
        }
        writing.join().expect("everything was taken in the end");
        drop(client);
        drop(server);
        assert_eq!(log.rest(), [""; 0]);
    }
}

#[test]
fn a_small_backlog_holds_as_well() {
    const SMALL: usize = 5000;
    let server = Running::start(|builder| {
        support::echo(narrow(builder))
            .max_backlog(SMALL)
            .max_recv_size(1000)
            .max_send_size(1000)
    });
    let mut client = narrow_client(&server);
    let count = 500;
    // In large segments, so that many replies are sent at once.
    let frames = (0..count / 50).map(|part| {
        (0..50)
            .flat_map(|at| frame(0x82, &numbered(part * 50 + at)))
            .collect()
    });
    let (writing, sent) = send_all(&client, frames.collect());
    standstill(&sent);
    let backlog = ask(&server, |hub| {
        let ids = hub.ids();
        ids.into_iter()
            .filter_map(|id| hub.get(id).map(|conn| conn.backlog()))
            .max()
    });
    // If nothing else is queued, one message may exceed the limit.
    assert!(
        backlog.is_some_and(|backlog| backlog <= SMALL + 1004),
        "{backlog:?}"
    );
    for number in 0..count {
        client.expect_frame(0x82, numbered(number));
    }
    writing.join().expect("everything was taken in the end");
}

#[test]
fn a_flood_of_pings_by_a_client_that_never_reads() {
    let server = Running::start(|builder| support::echo(narrow(builder)).max_backlog(LIMIT));
    let mut other = server.ready();
    let mut client = narrow_client(&server);
    let count = 20_000u32;
    let ping = |number: u32| number.to_be_bytes().repeat(30);
    let frames = (0..count)
        .map(|number| frame(0x89, &ping(number)))
        .collect();
    let (writing, sent) = send_all(&client, frames);
    let taken = standstill(&sent);
    assert!(taken < count as usize, "the server holds it all");
    other.expect_alive();
    let backlogs = ask(&server, |hub| {
        let ids = hub.ids();
        let backlog = |id| hub.get(id).map(|conn| conn.backlog());
        ids.into_iter().filter_map(backlog).collect::<Vec<_>>()
    });
    assert!(
        backlogs.iter().all(|backlog| *backlog <= LIMIT),
        "{backlogs:?}"
    );
    // The client now reads: each ping has its pong, in order.
    for number in 0..count {
        client.expect_frame(0x8a, ping(number));
    }
    writing.join().expect("everything was taken in the end");
    client.expect_alive();
    drop((client, other));
    assert_eq!(server.stop().dropped_pongs, 0);
}

#[test]
fn a_flood_of_pings_that_is_never_read_ends_with_its_client() {
    let server = Running::start(|builder| support::echo(narrow(builder)).max_backlog(LIMIT));
    let mut other = server.ready();
    for _ in 0..10 {
        let client = narrow_client(&server);
        let mut writer = Client::over(client.stream.try_clone().expect("a second descriptor"));
        let pings = frame(0x89, &[7; 125]).repeat(100);
        writer
            .stream
            .set_nonblocking(true)
            .expect("a socket option");
        // As many bytes as the kernel accepts.
        while std::io::Write::write_all(&mut writer.stream, &pings).is_ok() {}
        other.expect_alive();
        drop(writer);
        client.reset();
    }
    other.expect_alive();
    let left = ask(&server, |hub| hub.len());
    assert!(left >= 1);
}

#[test]
fn what_exceeds_the_backlog_is_offered_to_the_kernel_first() {
    // What is sent to another connection waits until the end of the turn.
    let server = Running::start(|builder| {
        builder.max_backlog(64 << 10).on(Utf8, |conn, _| {
            let own = conn.id();
            let mut hub = conn.server();
            let other = hub.ids().into_iter().find(|id| *id != own);
            let mut other = other.and_then(|id| hub.get(id)).expect("a reader");
            for number in 0..65 {
                let sent = other.send_binary(&[number; 1 << 10]);
                assert_eq!(sent.map(Sent::bytes), Ok(1028), "message {number}");
            }
        })
    });
    let (mut sender, mut reader) = (server.ready(), server.ready());
    sender.send_text("go");
    for number in 0..65 {
        reader.expect_frame(0x82, [number; 1 << 10]);
    }
    assert_eq!(server.stop().refused_messages, 0);
}

#[test]
fn a_full_backlog_means_that_a_drain_follows() {
    let (sender, log) = log();
    let server = Running::start(|builder| {
        support::echo(narrow(builder))
            .max_backlog(LIMIT)
            .on(Drain, move |conn, ()| {
                assert!(!conn.is_congested());
                sender.send("drain".into())
            })
    });
    let mut client = narrow_client(&server);
    let [(id, count, result, _)] = fill_all(&server)[..] else {
        panic!("one connection");
    };
    assert!(matches!(result, Err(SendError::BacklogFull { .. })));
    let congested = move |hub: &mut Hub<'_>| hub.get(id).is_some_and(|conn| conn.is_congested());
    assert!(ask(&server, congested));
    for number in 0..count {
        client.expect_frame(0x82, numbered(number));
    }
    log.expect(&["drain"]);
}

#[test]
fn one_slow_reader_does_not_hold_up_a_broadcast() {
    let server = Running::start(|builder| support::echo(narrow(builder)).max_backlog(LIMIT));
    let mut slow = narrow_client(&server);
    let mut readers = [server.ready(), server.ready()];
    let mut reached = Vec::new();
    for number in 0..500u32 {
        let count = ask(&server, move |hub| hub.broadcast_binary(&numbered(number)));
        reached.push(count.expect("it can be sent").receivers());
        for reader in &mut readers {
            reader.expect_frame(0x82, numbered(number));
        }
    }
    // Broadcasts skipped the client while its backlog was full; the messages that it receives are
    // complete and in order.
    assert_eq!(reached.first(), Some(&3));
    assert!(reached.contains(&2));
    for number in (0..)
        .zip(&reached)
        .filter(|(_, count)| **count == 3)
        .map(|(at, _)| at)
    {
        slow.expect_frame(0x82, numbered(number));
    }
    slow.expect_alive();
}
