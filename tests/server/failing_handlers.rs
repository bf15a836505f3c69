//! A handler that fails, with an error or a panic, ends its own connection and nothing else. A
//! failure of a server handler is only logged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::support;
use crate::support::{Client, REQUEST, Running};
use wsloop::event::*;
use wsloop::{Builder, Connection};

#[derive(Clone, Copy)]
enum How {
    Error,
    Panic,
}

fn fail(how: How) -> Result<(), String> {
    match how {
        How::Error => Err("on purpose".into()),
        How::Panic => panic!("on purpose"),
    }
}

/// Whether a connection is the victim. The second connection is.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
struct Victim(bool);

fn fail_victim(conn: &mut Connection<'_>, how: How) -> Result<(), String> {
    match conn.data::<Victim>().0 {
        true => fail(how),
        false => Ok(()),
    }
}

/// Configures an echo server whose handler for `event` fails for the second connection.
fn breaking(builder: Builder, event: &str, how: How, log: Sender<String>) -> Builder {
    let broken_connect = event == "connect";
    let broken_end = event == "disconnect";
    let mut count = 0;
    let errors = log.clone();
    let builder = support::echo(builder)
        .max_send_size(32 << 20)
        .on(Connect, move |conn, ()| {
            count += 1;
            conn.data::<Victim>().0 = count == 2;
            match broken_connect {
                true => fail_victim(conn, how),
                false => Ok(()),
            }
        })
        .on(Error, move |conn, fault| {
            if conn.data::<Victim>().0 {
                errors.send(format!("error {fault}")).unwrap();
            }
        })
        .on(Disconnect, move |conn, why| {
            if conn.data::<Victim>().0 {
                log.send(format!("disconnect {why}")).unwrap();
            }
            match broken_end {
                true => fail_victim(conn, how),
                false => Ok(()),
            }
        });
    match event {
        "origin" => builder.on(Origin, move |conn, _| fail_victim(conn, how)),
        "handshake" => builder.on(Handshake, move |conn, _| fail_victim(conn, how)),
        "ready" => builder.on(Ready, move |conn, ()| fail_victim(conn, how)),
        "utf8" => builder.on(Utf8, move |conn, text| {
            conn.send_utf8(text).map_err(|error| error.to_string())?;
            fail_victim(conn, how)
        }),
        "binary" => builder.on(Binary, move |conn, _| fail_victim(conn, how)),
        "ping" => builder.on(Ping, move |conn, _| fail_victim(conn, how)),
        "pong" => builder.on(Pong, move |conn, _| fail_victim(conn, how)),
        "peer close" => builder.on(PeerClose, move |conn, _| fail_victim(conn, how)),
        "drain" => builder
            .on(Binary, |conn, _| conn.send_binary(&vec![0; 32 << 20]))
            .on(Drain, move |conn, ()| fail_victim(conn, how)),
        "error" => builder.on(Error, move |conn, _| fail_victim(conn, how)),
        _ => builder,
    }
}

/// Makes the handler for `event` fail for the second of three connections. `provoke` plays this
/// connection to its end. Then the log must equal `expected`, and the other connections must still
/// be open.
fn check(event: &'static str, provoke: impl Fn(&mut Client), expected: &[&str]) {
    for how in [How::Error, How::Panic] {
        let (sender, log) = support::log();
        let server = Running::start(move |builder| breaking(builder, event, how, sender));
        let mut before = server.ready();
        let mut victim = server.client();
        provoke(&mut victim);
        drop(victim);
        let mut after = server.ready();
        after.expect_alive();
        before.expect_alive();
        drop((before, after));
        server.stop();
        let text = match how {
            How::Error => "on purpose",
            How::Panic => "panicked: on purpose",
        };
        let entries = log.rest();
        // One `Error` reports the failed handler; another may report the refused request.
        let told = format!("error handler failed: {text}");
        let count = entries.iter().filter(|entry| **entry == told).count();
        let at_the_end = ["disconnect", "error"].contains(&event);
        assert_eq!(count, usize::from(!at_the_end), "{event}: {entries:?}");
        let ends: Vec<_> = entries
            .iter()
            .filter(|entry| entry.starts_with("disconnect"))
            .collect();
        assert_eq!(ends, expected, "{event}");
        assert!(entries.last().unwrap().starts_with("disconnect"));
    }
}

const FAILED: &[&str] = &["disconnect 1011 (a handler failed)"];

fn expect_1011(client: &mut Client) {
    client.answer_close(1011);
}

#[test]
fn before_the_handshake_it_is_a_500() {
    for event in ["connect", "origin", "handshake"] {
        check(
            event,
            |client| {
                assert_eq!(client.request(REQUEST).status, 500);
                client.expect_eof();
            },
            &["disconnect 1006 (a handler failed)"],
        );
    }
}

#[test]
fn in_ready() {
    let provoke = |client: &mut Client| {
        client.upgrade();
        expect_1011(client);
    };
    check("ready", provoke, FAILED);
}

#[test]
fn in_messages_and_control_frames() {
    for (event, first) in [("binary", 0x82), ("ping", 0x89), ("pong", 0x8a)] {
        let provoke = |client: &mut Client| {
            client.upgrade();
            client.send_frame(first, "x");
            // Frames after that one are not served, in the same segment or later.
            client.send_text("never answered");
            expect_1011(client);
        };
        check(event, provoke, FAILED);
    }
}

#[test]
fn what_the_handler_sent_before_is_sent() {
    let provoke = |client: &mut Client| {
        client.upgrade();
        client.send_text("sent");
        client.expect_text("sent");
        expect_1011(client);
    };
    check("utf8", provoke, FAILED);
}

#[test]
fn in_peer_close() {
    // The cause of the end is the peer's code; the Close frame of the server reports the failure.
    let provoke = |client: &mut Client| {
        client.upgrade();
        client.send_close(4000, "bye");
        client.expect_close(1011);
        client.expect_eof();
    };
    check(
        "peer close",
        provoke,
        &["disconnect 4000 (closed by the peer) bye"],
    );
}

#[test]
fn in_drain() {
    let provoke = |client: &mut Client| {
        client.upgrade();
        client.send_frame(0x82, "flood");
        assert_eq!(client.read_frame().payload.len(), 32 << 20);
        expect_1011(client);
    };
    check("drain", provoke, FAILED);
}

#[test]
fn in_disconnect_and_error_it_is_only_logged() {
    let provoke = |client: &mut Client| {
        client.upgrade();
        client.send_close(1000, "");
        client.expect_close(1000);
        client.expect_eof();
    };
    check(
        "disconnect",
        provoke,
        &["disconnect 1000 (closed by the peer)"],
    );
    let provoke = |client: &mut Client| {
        client.upgrade();
        client.send_raw([0x83, 0x80, 0, 0, 0, 0]);
        client.expect_close(1002);
        client.expect_eof();
    };
    let text = "disconnect 1002 (reserved opcode 0x3) reserved opcode 0x3";
    check("error", provoke, &[text]);
}

#[test]
fn handlers_of_the_server_are_only_logged() {
    for how in [How::Error, How::Panic] {
        let (sender, log) = support::log();
        let server = Running::start(move |builder| {
            let say = |entry: &'static str| {
                let log = sender.clone();
                move || {
                    log.send(entry.to_owned()).unwrap();
                    fail(how)
                }
            };
            let (start, accept, tick) = (say("start"), say("accept"), say("tick"));
            let (shutdown, stopped) = (say("shutdown"), say("stopped"));
            support::echo(builder)
                .tick_period(Duration::from_millis(5))
                .on(Start, move |_, ()| start())
                .on(Accept, move |_, _| accept())
                .on(Tick, move |_, _| tick())
                .on(Shutdown, move |_, ()| shutdown())
                .on(Stopped, move |_, _| stopped())
        });
        let mut client = server.ready();
        client.expect_alive();
        while log.next() != "tick" {}
        while log.next() != "tick" {}
        client.expect_alive();
        server.handle.shutdown().unwrap();
        client.answer_close(1001);
        drop(client);
        drop(server);
        assert_eq!(log.rest().last().map(String::as_str), Some("stopped"));
    }
}

#[test]
fn a_panic_in_a_closure_of_another_thread_is_only_logged() {
    let server = Running::echo();
    let mut client = server.ready();
    server.handle.run(|_| panic!("on purpose")).unwrap();
    server
        .handle
        .run(|hub| hub.for_each(|_| panic!("on purpose")))
        .unwrap();
    client.expect_alive();
    server.ready().expect_alive();
}

#[test]
fn many_failures_do_not_wear_the_server_out() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |_, _| -> Result<(), String> { fail(How::Panic) })
    });
    for _ in 0..100 {
        let mut client = server.ready();
        client.send_text("");
        client.expect_close(1011);
    }
    let stats = server.stop();
    assert_eq!(stats.accepted, 100);
}
