//! A handler that is set for one connection replaces the server's handler for that connection, from
//! the next event on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::rc::Rc;

use crate::support;
use crate::support::{REQUEST, Running};
use wsloop::event::*;

#[test]
fn set_in_connect_they_serve_every_event() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let server_wide = support::log().0;
        support::events::record(builder, &server_wide).on(Connect, move |conn, ()| {
            let say = |entry: &'static str| {
                let log = sender.clone();
                move || log.send(entry.to_owned())
            };
            let (origin, handshake, ready, utf8) =
                (say("origin"), say("handshake"), say("ready"), say("utf8"));
            let (binary, ping, pong, peer_close) =
                (say("binary"), say("ping"), say("pong"), say("peer close"));
            let (error, disconnect) = (say("error"), say("disconnect"));
            conn.on(Origin, move |_, _| origin().is_ok());
            conn.on(Handshake, move |_, _| handshake().is_ok());
            conn.on(Ready, move |_, ()| ready());
            conn.on(Utf8, move |_, _| utf8());
            conn.on(Binary, move |_, _| binary());
            conn.on(Ping, move |_, _| ping().is_ok());
            conn.on(Pong, move |_, _| pong());
            conn.on(PeerClose, move |_, _| {
                peer_close().unwrap();
                Err::<(), _>("for `Error`")
            });
            conn.on(Error, move |_, _| error());
            conn.on(Disconnect, move |_, _| disconnect());
        })
    });
    let mut client = server.ready();
    client.send_text("");
    client.send_frame(0x82, "");
    client.send_frame(0x89, "");
    client.send_frame(0x8a, "");
    client.send_close(1000, "");
    client.expect_frame(0x8a, "");
    client.expect_close(1011);
    client.expect_eof();
    log.expect(&[
        "origin",
        "handshake",
        "ready",
        "utf8",
        "binary",
        "ping",
        "pong",
        "peer close",
        "error",
        "disconnect",
    ]);
}

#[test]
fn set_in_ready_they_leave_the_other_connections_and_events_alone() {
    let server = Running::start(|builder| {
        let mut first = true;
        support::echo(builder).on(Ready, move |conn, ()| {
            if std::mem::take(&mut first) {
                conn.on(Utf8, |conn, text| conn.send_utf8(&format!("mine: {text}")));
            }
        })
    });
    let (mut first, mut second) = (server.ready(), server.ready());
    first.send_text("a");
    first.expect_text("mine: a");
    first.send_frame(0x82, "b");
    first.expect_frame(0x82, "b");
    second.expect_alive();
}

#[test]
fn set_inside_itself_they_serve_from_the_next_event_on() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, text| {
            conn.on(Utf8, |conn, text| {
                conn.on(Utf8, |conn, text| conn.send_utf8(&format!("third: {text}")));
                conn.send_utf8(&format!("second: {text}"))
            });
            conn.send_utf8(&format!("first: {text}"))
        })
    });
    let mut client = server.ready();
    // In one segment: the next event is the next message, not the next read.
    let bytes: Vec<u8> = ["a", "b", "c", "d"]
        .iter()
        .flat_map(|text| support::frame(0x81, text.as_bytes()))
        .collect();
    client.send_raw(bytes);
    for text in ["first: a", "second: b", "third: c", "third: d"] {
        client.expect_text(text);
    }
    let mut other = server.ready();
    other.send_text("x");
    other.expect_text("first: x");
}

#[test]
fn set_on_another_connection_they_serve_its_next_event() {
    let server = Running::start(|builder| {
        support::echo(builder).on(Utf8, |conn, text| {
            let own = conn.id();
            if text == "take over" {
                conn.server().for_each(|other| {
                    if other.id() != own {
                        other.on(Utf8, |conn, _| conn.send_utf8("taken over"));
                    }
                });
            }
            conn.send_utf8(text)
        })
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    other.expect_alive();
    one.send_text("take over");
    one.expect_text("take over");
    other.send_text("hello?");
    other.expect_text("taken over");
    one.expect_alive();
}

#[test]
fn the_later_of_two_counts() {
    let server = Running::start(|builder| {
        builder.on(Connect, |conn, ()| {
            conn.on(Utf8, |conn, _| conn.send_utf8("first"));
            conn.on(Utf8, |conn, _| conn.send_utf8("second"));
        })
    });
    let mut client = server.ready();
    client.send_text("who?");
    client.expect_text("second");
}

#[test]
fn set_in_connect_they_can_refuse() {
    let server = Running::start(|builder| {
        builder.on(Connect, |conn, ()| {
            conn.on(Origin, |_, origin| origin.is_some());
            conn.on(Handshake, |_, upgrade| upgrade.refuse(404));
        })
    });
    assert_eq!(server.client().request(REQUEST).status, 403);
    let request = support::request_with("Origin: x\r\n");
    assert_eq!(server.client().request(request).status, 404);
}

#[test]
fn what_they_hold_is_freed_when_the_connection_is_over() {
    // The handlers of the connections hold clones of a value. A `Tick` handler reports the number
    // of clones.
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let held = Rc::new(Cell::new(0));
        let alive = Rc::downgrade(&held);
        let log = sender;
        builder
            .on(Connect, move |conn, ()| {
                let held = held.clone();
                conn.on(Utf8, move |conn, _| {
                    held.set(held.get() + 1);
                    // The server's handler and each connection's handler hold a clone.
                    let count = Rc::strong_count(&held) - 1;
                    conn.send_utf8(&format!("{} {count}", held.get()))
                });
            })
            .on(Tick, move |_, _| {
                log.send((alive.strong_count() - 1).to_string())
            })
            .tick_period(std::time::Duration::from_millis(2))
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    one.send_text("");
    one.expect_text("1 2");
    other.send_text("");
    other.expect_text("2 2");
    while log.next() != "2" {}
    drop(one);
    while log.next() != "1" {}
    other.send_text("");
    other.expect_text("3 1");
    drop(other);
    while log.next() != "0" {}
}
