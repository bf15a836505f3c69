//! A connection, other connections and other threads can pause and resume reading.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::Sender;

use crate::support::{self, Client, Running};
use wsloop::event::{Disconnect, Ready, Utf8};
use wsloop::{Builder, ConnectionId};

/// Logs received texts, and pauses after each.
fn one_by_one(builder: Builder, log: &Sender<String>) -> Builder {
    let (texts, ends) = (log.clone(), log.clone());
    builder
        .on(Utf8, move |conn, text| {
            conn.pause();
            texts.send(text.to_owned())
        })
        .on(Disconnect, move |_, why| ends.send(why.to_string()))
}

fn resume_all(server: &Running) {
    server
        .handle
        .run(|hub| hub.for_each(|conn| conn.resume()))
        .unwrap();
}

#[test]
fn by_another_thread_message_by_message() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| one_by_one(builder, &sender));
    let mut client = server.ready();
    for round in 0..20 {
        client.send_text(&format!("a {round}"));
        client.send_raw([b"b", b"c"].map(|text| support::frame(0x81, text)).concat());
        log.expect(&[&format!("a {round}")]);
        resume_all(&server);
        log.expect(&["b"]);
        resume_all(&server);
        log.expect(&["c"]);
        resume_all(&server);
    }
    client.send_close(1000, "");
    client.expect_close(1000);
    log.expect(&["1000 (closed by the peer)"]);
}

#[test]
fn tcp_holds_the_peer_back_and_nothing_is_lost() {
    #[derive(Default)]
    struct Seen(u32);
    let server = Running::start(|builder| {
        builder
            .on(Ready, |conn, ()| conn.pause())
            .on(Utf8, |conn, text| {
                let seen = conn.data::<Seen>();
                assert!(text.starts_with(&format!("{} ", seen.0)));
                seen.0 += 1;
                if seen.0 == 2_500 {
                    conn.send_utf8("all of them")?;
                }
                Ok::<_, wsloop::SendError>(())
            })
    });
    let mut client = server.ready();
    let mut writer = Client::over(client.stream.try_clone().unwrap());
    // 20 MB are more than the buffers of two sockets.
    let writing = std::thread::spawn(move || {
        for number in 0..2_500 {
            writer.send_text(&format!("{number} {}", "x".repeat(8_000)));
        }
    });
    let mut other = server.ready();
    other.send_frame(0x89, "nobody answers");
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!writing.is_finished(), "the server reads and reads");
    resume_all(&server);
    other.expect_frame(0x8a, "nobody answers");
    client.expect_text("all of them");
    writing.join().unwrap();
}

#[test]
fn by_the_handlers_of_another_connection() {
    #[derive(Default)]
    struct First(Option<ConnectionId>);
    let server = Running::start(|builder| {
        builder
            .on(Ready, |conn, ()| {
                let id = conn.id();
                conn.shared::<First>().0.get_or_insert(id);
            })
            .on(Utf8, |conn, text| {
                let first = conn.shared::<First>().0.unwrap();
                let mut hub = conn.server();
                let mut first = hub.get(first).unwrap();
                match text {
                    "pause" => first.pause(),
                    "resume" => first.resume(),
                    _ => {}
                }
                let state = format!("{text}, paused {}", first.is_paused());
                conn.send_utf8(&state)
            })
    });
    let mut first = server.ready();
    let mut second = server.ready();
    first.send_text("hello");
    first.expect_text("hello, paused false");
    for _ in 0..10 {
        second.send_text("pause");
        second.expect_text("pause, paused true");
        first.send_text("hello");
        support::settle_with(&mut second, "still", "still, paused true");
        second.send_text("resume");
        second.expect_text("resume, paused false");
        first.expect_text("hello, paused false");
    }
}

#[test]
fn a_client_that_left_meanwhile_is_noticed() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| one_by_one(builder, &sender));
    let mut client = server.ready();
    client.send_text("first");
    log.expect(&["first"]);
    client.send_text("last");
    drop(client);
    let mut reset = server.ready();
    reset.send_text("reset");
    log.expect(&["reset"]);
    reset.reset();
    resume_all(&server);
    let mut entries = [log.next(), log.next()];
    entries.sort();
    assert_eq!(entries[1], "last");
    assert!(entries[0].starts_with("1006 ("), "{entries:?}");
    resume_all(&server);
    log.expect(&["1006 (connection ended without a Close frame)"]);
}

#[test]
fn a_server_that_goes_down_closes_who_is_paused() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| one_by_one(builder, &sender));
    let mut client = server.ready();
    client.send_text("first");
    client.send_text("never");
    log.expect(&["first"]);
    server.handle.shutdown().unwrap();
    client.answer_close(1001);
    log.expect(&["1001 (the server shut down)"]);
    drop(server);
    assert_eq!(log.rest(), [""; 0]);
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_what_was_decrypted_waits() {
    use support::tls::Identity;
    use wsloop::Server;

    let (sender, log) = support::log();
    let identity = Identity::new();
    let tls = identity.server.clone();
    let server = Running::start_on(move || {
        one_by_one(Server::builder().listen_tls("127.0.0.1:0", tls), &sender)
    });
    let mut client = identity.ready(server.addr);
    // Several messages in one record, one message in several records, and everything at once.
    let large = "x".repeat(40_000);
    let texts = ["a", "b", &large, "c"].map(|text| support::frame(0x81, text.as_bytes()));
    client.send_raw(texts.concat());
    client.stream.conn.send_close_notify();
    client
        .stream
        .conn
        .write_tls(&mut client.stream.sock)
        .unwrap();
    for text in ["a", "b", &large, "c"] {
        assert!(log.next() == text);
        resume_all(&server);
    }
    log.expect(&["1006 (connection ended without a Close frame)"]);
}
