//! `Drain` comes once each time that the kernel did not accept all data, when the rest has been
//! written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpStream;
use std::sync::mpsc;

use crate::support;
use crate::support::{Client, PATIENCE, Running};
use socket2::{Domain, SockRef, Socket, Type};
use wsloop::event::{Connect, Drain, Ready, Utf8};
use wsloop::{Builder, Connection, Phase, SendError, Sent, SlowConsumer};

/// The size of a message that the kernels cannot buffer between `narrow` and a `slow_reader`.
const FLOOD: usize = 2 << 20;

/// Configures small socket buffers, and large limits for messages.
fn narrow(builder: Builder) -> Builder {
    builder
        .max_send_size(FLOOD)
        .max_backlog(2 * FLOOD)
        .on(Connect, |conn, ()| {
            let socket = conn.socket().unwrap();
            SockRef::from(&socket).set_send_buffer_size(16 << 10)
        })
}

/// Connects a client with a small receive buffer, and performs the opening handshake.
fn slow_reader(server: &Running) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&server.addr.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(stream);
    client.upgrade();
    client
}

fn flood(conn: &mut Connection<'_>) -> Result<Sent, SendError> {
    conn.send_binary(&vec![7; FLOOD])
}

#[test]
fn each_time_something_was_left_over() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let drains = sender.clone();
        narrow(builder)
            .on(Utf8, move |conn, text| {
                sender.send(format!("{text} {}", conn.backlog())).unwrap();
                match text {
                    "flood" => {
                        flood(conn)?;
                        // Such a large message is written to the kernel immediately.
                        assert!(conn.backlog() > 0 && conn.backlog() < FLOOD);
                        Ok(Sent::NOTHING)
                    }
                    _ => conn.send_utf8(text),
                }
            })
            .on(Drain, move |conn, ()| {
                assert!(conn.is_ready());
                drains.send(format!("drain {}", conn.backlog()))
            })
    });
    let mut client = slow_reader(&server);
    client.send_text("small");
    client.expect_text("small");
    log.expect(&["small 0"]);
    for _ in 0..2 {
        client.send_text("flood");
        log.expect(&["flood 0"]);
        let flood = client.read_frame();
        assert!(flood.payload.len() == FLOOD && flood.payload.iter().all(|byte| *byte == 7));
        // The event comes once, when the backlog is empty.
        client.send_text("then");
        client.expect_text("then");
        log.expect(&["drain 0", "then 0"]);
    }
    drop(client);
    server.stop();
    assert_eq!(log.rest(), [""; 0]);
}

#[test]
fn a_stream_that_goes_on_when_drained_arrives_whole() {
    const CHUNKS: u32 = 600;
    fn go_on(conn: &mut Connection<'_>) -> Result<(), SendError> {
        while *conn.data::<u32>() < CHUNKS && conn.backlog() == 0 {
            let chunk = conn.data::<u32>().to_be_bytes().repeat(4096);
            conn.send_binary(&chunk)?;
            *conn.data::<u32>() += 1;
        }
        Ok(())
    }
    let server = Running::start(move |builder| {
        narrow(builder)
            .on(Ready, |conn, ()| go_on(conn))
            .on(Drain, |conn, ()| go_on(conn))
    });
    let mut client = slow_reader(&server);
    for chunk in 0..CHUNKS {
        client.expect_frame(0x82, chunk.to_be_bytes().repeat(4096));
    }
}

#[test]
fn what_is_queued_leaves_before_a_close_and_no_drain_comes() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let drains = sender.clone();
        narrow(builder)
            .on(Ready, |conn, ()| {
                flood(conn)?;
                assert!(conn.backlog() > 0);
                conn.disconnect(4000, "that was all")
            })
            .on(Drain, move |_, ()| drains.send("drain".into()))
            .on(wsloop::event::Disconnect, move |_, why| {
                sender.send(why.to_string())
            })
    });
    let mut client = slow_reader(&server);
    assert_eq!(client.read_frame().payload.len(), FLOOD);
    assert_eq!(client.expect_close(4000), "that was all");
    client.send_close(4000, "");
    client.expect_eof();
    log.expect(&["4000 (closed by the server) that was all"]);
}

#[test]
fn policy_error_tells_the_sender_and_keeps_the_connection() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        narrow(builder).on(Utf8, move |conn, text| {
            if text == "flood" {
                flood(conn)?;
                flood(conn)?;
                let full = flood(conn).expect_err("more than max_backlog");
                let queued = conn.backlog();
                let limit = 2 * FLOOD;
                assert_eq!(full, SendError::BacklogFull { queued, limit });
                // Control frames have extra room beyond the limit.
                conn.ping(b"still there?")?;
                sender.send("flooded".into()).unwrap();
            }
            match conn.send_utf8("end") {
                Err(SendError::BacklogFull { .. }) => Ok(()),
                sent => sent.map(drop),
            }
        })
    });
    let mut client = slow_reader(&server);
    client.send_text("flood");
    log.expect(&["flooded"]);
    assert_eq!(client.read_frame().payload.len(), FLOOD);
    assert_eq!(client.read_frame().payload.len(), FLOOD);
    client.expect_frame(0x89, "still there?");
    client.send_text("small");
    while client.read_frame().payload != b"end" {}
}

#[test]
fn policy_drop_says_that_nothing_was_queued() {
    let server = Running::start(move |builder| {
        narrow(builder)
            .slow_consumer(SlowConsumer::DropNewest)
            .on(Ready, |conn, ()| {
                flood(conn)?;
                flood(conn)?;
                assert_eq!(flood(conn), Ok(Sent::NOTHING));
                Ok::<_, SendError>(())
            })
            .on(Utf8, |conn, text| conn.send_utf8(text))
    });
    let mut client = slow_reader(&server);
    for _ in 0..2 {
        assert_eq!(client.read_frame().payload.len(), FLOOD);
    }
    client.expect_alive();
}

#[test]
fn policy_close_closes_with_1008_behind_what_is_queued() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        // `Ready` is a handler of the connection; `record` registers handlers of the server.
        let builder = narrow(support::events::record(builder, &sender));
        builder
            .slow_consumer(SlowConsumer::Close)
            .on(Ready, |conn, ()| {
                flood(conn)?;
                flood(conn)?;
                let full = flood(conn);
                assert!(matches!(full, Err(SendError::BacklogFull { .. })));
                assert_eq!(conn.phase(), Phase::Closing);
                Ok::<_, SendError>(())
            })
    });
    let mut client = slow_reader(&server);
    for _ in 0..2 {
        assert_eq!(client.read_frame().payload.len(), FLOOD);
    }
    assert_eq!(client.expect_close(1008), "max_backlog exceeded");
    client.send_close(1008, "");
    client.expect_eof();
    log.expect(&[
        "start",
        "accept",
        "origin none",
        "handshake /chat",
        "error max_backlog exceeded",
        "disconnect 1008 (max_backlog exceeded) max_backlog exceeded",
    ]);
}

#[test]
fn a_client_that_does_not_read_is_not_read_either_and_loses_nothing() {
    // Replies of 4 KiB each to 3,000 requests sent at once: more than `max_backlog`, unless the
    // server stops reading in time.
    const COUNT: usize = 3000;
    let (sender, served) = mpsc::channel();
    let server = Running::start(move |builder| {
        narrow(builder)
            .max_backlog(256 << 10)
            .on(Utf8, move |conn, text| {
                let sent = conn.send_utf8(&format!("{text:4096}"));
                _ = sender.send(sent.is_ok());
                sent
            })
    });
    let client = slow_reader(&server);
    let mut writer = Client::over(client.stream.try_clone().unwrap());
    let writing = std::thread::spawn(move || {
        for at in 0..COUNT {
            writer.send_text(&at.to_string());
        }
    });
    let mut client = client;
    for at in 0..COUNT {
        client.expect_text(&format!("{:4096}", at.to_string()));
    }
    writing.join().unwrap();
    drop(client);
    server.stop();
    assert_eq!(served.iter().filter(|ok| *ok).count(), COUNT);
}
