//! Other threads reach the server through a `Handle`. Commands stay in order, wake the loop, and
//! are harmless when the server has ended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::support;
use crate::support::{Client, PATIENCE, Running};
use wsloop::event::*;
use wsloop::{CloseCode, ConnectionId, SendError, Server};

/// Starts a server whose loop sleeps while nothing happens; returns the ids of its clients as well.
fn sleeping() -> (Running, mpsc::Receiver<ConnectionId>) {
    let (sender, ids) = mpsc::channel();
    let server = Running::start(move |builder| {
        support::echo(builder)
            .silence_max(Duration::ZERO)
            .on(Ready, move |conn, ()| sender.send(conn.id()))
    });
    (server, ids)
}

fn ready(server: &Running, ids: &mpsc::Receiver<ConnectionId>) -> (Client, ConnectionId) {
    let client = server.ready();
    (client, ids.recv_timeout(PATIENCE).unwrap())
}

#[test]
fn every_command_is_carried_out() {
    let (server, ids) = sleeping();
    let (mut one, first) = ready(&server, &ids);
    let (mut other, second) = ready(&server, &ids);
    let handle = server.handle.clone();
    // Each command wakes a sleeping loop, because the reply to the previous one has arrived.
    handle.send_utf8(first, "to one").unwrap();
    one.expect_text("to one");
    handle.send_binary(second, b"to the other").unwrap();
    other.expect_frame(0x82, "to the other");
    handle.broadcast_utf8("to all").unwrap();
    one.expect_text("to all");
    other.expect_text("to all");
    handle.broadcast_binary(b"to all").unwrap();
    one.expect_frame(0x82, "to all");
    other.expect_frame(0x82, "to all");
    let (sender, answer) = mpsc::channel();
    handle
        .run(move |hub| {
            hub.get(first).unwrap().send_utf8("from a closure").unwrap();
            // A handle from the hub belongs to the same server.
            hub.handle().send_utf8(second, "from within").unwrap();
            sender.send((hub.len(), hub.stats().accepted)).unwrap();
        })
        .unwrap();
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), (2, 2));
    one.expect_text("from a closure");
    other.expect_text("from within");
    handle
        .disconnect(first, CloseCode::from(4000), "closed by a thread")
        .unwrap();
    assert_eq!(one.expect_close(4000), "closed by a thread");
    other.expect_alive();
    server.handle.shutdown().unwrap();
    other.expect_close(1001);
}

#[test]
fn commands_of_one_thread_keep_their_order() {
    // More commands than one turn executes.
    const COUNT: usize = 10_000;
    let (server, ids) = sleeping();
    let (mut client, id) = ready(&server, &ids);
    let handle = server.handle.clone();
    let thread = std::thread::spawn(move || {
        for at in 0..COUNT {
            let text = at.to_string();
            match at % 3 {
                0 => handle.send_utf8(id, &text).unwrap(),
                1 => handle.broadcast_utf8(&text).unwrap(),
                _ => handle
                    .run(move |hub| _ = hub.get(id).unwrap().send_utf8(&text).unwrap())
                    .unwrap(),
            }
        }
        handle.disconnect(id, 1000, "").unwrap();
    });
    for at in 0..COUNT {
        client.expect_text(&at.to_string());
    }
    client.expect_close(1000);
    thread.join().unwrap();
}

#[test]
fn many_threads_lose_nothing() {
    const THREADS: u32 = 8;
    const EACH: u32 = 2000;
    let (server, ids) = sleeping();
    let (mut client, id) = ready(&server, &ids);
    let ran = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (handle, ran) = (server.handle.clone(), ran.clone());
            std::thread::spawn(move || {
                for at in 0..EACH {
                    let bytes = [thread.to_be_bytes(), at.to_be_bytes()].concat();
                    handle.send_binary(id, &bytes).unwrap();
                    let ran = ran.clone();
                    handle
                        .run(move |_| _ = ran.fetch_add(1, Ordering::Relaxed))
                        .unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; THREADS as usize];
    for _ in 0..THREADS * EACH {
        let payload = client.read_frame().payload;
        let [thread, at] = [&payload[..4], &payload[4..]]
            .map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
        let next = &mut next[thread as usize];
        assert_eq!(at, *next, "of thread {thread}");
        *next += 1;
    }
    assert_eq!(next, [EACH; THREADS as usize]);
    for thread in threads {
        thread.join().unwrap();
    }
    drop(client);
    server.stop();
    assert_eq!(ran.load(Ordering::Relaxed), THREADS * EACH);
}

#[test]
fn what_cannot_be_done_harms_nobody() {
    let (server, ids) = sleeping();
    let (mut client, id) = ready(&server, &ids);
    let handle = server.handle.clone();
    // A message that is too large, an invalid close code, and a reason that is too long.
    handle.send_utf8(id, &"x".repeat(65_537)).unwrap();
    handle.broadcast_binary(&[0; 65_537]).unwrap();
    let bad_code = handle.disconnect(id, 1006, "");
    assert_eq!(bad_code, Err(SendError::BadCloseCode(1006)));
    let too_long = handle.disconnect(id, 1000, &"x".repeat(124));
    assert_eq!(too_long, Err(SendError::ControlTooLong { size: 126 }));
    client.expect_alive();
    // While the connection closes, a second close changes nothing, and nothing more is sent.
    handle.disconnect(id, 4000, "").unwrap();
    handle.disconnect(id, 4001, "").unwrap();
    handle.send_utf8(id, "too late").unwrap();
    handle.broadcast_utf8("too late").unwrap();
    client.answer_close(4000);
}

#[test]
fn one_that_is_not_ready_cannot_be_sent_to_but_refused() {
    let (sender, ids) = mpsc::channel();
    let server = Running::start(move |builder| {
        builder.on(Connect, move |conn, ()| sender.send(conn.id()).is_ok())
    });
    let mut client = server.client();
    let id = ids.recv_timeout(PATIENCE).unwrap();
    server.handle.send_utf8(id, "too early").unwrap();
    server.handle.broadcast_utf8("too early").unwrap();
    server.handle.disconnect(id, 4000, "no").unwrap();
    assert_eq!(client.response().status, 403);
    client.expect_eof();
}

#[test]
fn it_is_harmless_when_the_server_is_gone() {
    let (sender, ids) = mpsc::channel();
    let mut server =
        Running::start(move |builder| builder.on(Ready, move |conn, ()| sender.send(conn.id())));
    let client = server.ready();
    let id = ids.recv_timeout(PATIENCE).unwrap();
    drop(client);
    let handle = server.handle.clone();
    handle.shutdown().unwrap();
    server.join();
    let dropped = Arc::new(());
    let held = dropped.clone();
    assert_eq!(handle.send_utf8(id, ""), Err(SendError::Gone));
    assert_eq!(handle.send_binary(id, b""), Err(SendError::Gone));
    assert_eq!(handle.broadcast_utf8(""), Err(SendError::Gone));
    assert_eq!(handle.broadcast_binary(b""), Err(SendError::Gone));
    assert_eq!(handle.disconnect(id, 1000, ""), Err(SendError::Gone));
    assert_eq!(handle.run(move |_| drop(held)), Err(SendError::Gone));
    assert_eq!(handle.shutdown(), Err(SendError::Gone));
    assert_eq!(Arc::strong_count(&dropped), 1, "the closure was dropped");
}

#[test]
fn commands_given_before_the_start_are_carried_out() {
    let (sender, log) = support::log();
    let starts = sender.clone();
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .on(Start, move |_, ()| starts.send("start".into()))
        .build()
        .unwrap();
    let handle = server.handle();
    let inner = handle.clone();
    handle
        .run(move |_| {
            sender.send("run".into()).unwrap();
            inner.shutdown().unwrap();
        })
        .unwrap();
    server.start().unwrap();
    log.expect(&["start", "run"]);
}

#[test]
fn threads_that_outlive_the_server_end() {
    let (mut server, _ids) = {
        let (server, ids) = sleeping();
        (server, ids)
    };
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let handle = server.handle.clone();
            std::thread::spawn(move || while handle.broadcast_utf8("again").is_ok() {})
        })
        .collect();
    server.handle.shutdown().unwrap();
    server.join();
    for thread in threads {
        thread.join().unwrap();
    }
}
