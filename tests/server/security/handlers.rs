//! A handler may close its connection, all others or the server, in any event. The call takes
//! effect after the handler has returned, and each connection ends once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wsloop::event::*;
use wsloop::{Builder, Connection};

use crate::support::{REQUEST, Running, echo, frame, log};

/// An action of a handler.
type Act = fn(&mut Connection<'_>);

/// The actions, and whether each ends the server.
const ACTS: [(&str, Act, bool); 9] = [
    ("closes", |conn| _ = conn.disconnect(4000, "told to"), false),
    ("cuts", |conn| conn.abort(), false),
    ("answers", |conn| _ = conn.http_error(418), false),
    ("panics", |_| panic!("told to"), false),
    (
        "closes, cuts and panics",
        |conn| {
            let _ = conn.disconnect(4000, "told to");
            conn.abort();
            panic!("told to");
        },
        false,
    ),
    (
        "replaces every handler",
        |conn| {
            conn.on(Connect, |_, ()| ());
            conn.on(Handshake, |_, _| ());
            conn.on(Ready, |_, ()| ());
            conn.on(Utf8, |_, _| ());
            conn.on(Binary, |_, _| ());
            conn.on(Ping, |_, _| ());
            conn.on(Pong, |_, _| ());
            conn.on(PeerClose, |_, _| ());
            conn.on(Error, |_, _| ());
        },
        false,
    ),
    (
        "closes and cuts all others",
        |conn| {
            let me = conn.id();
            let mut hub = conn.server();
            for id in hub.all_ids() {
                if let Some(mut other) = hub.get(id)
                    && id != me
                {
                    let _ = other.disconnect(4001, "");
                    other.abort();
                }
            }
        },
        false,
    ),
    ("ends the server", |conn| conn.server().shutdown(), true),
    (
        "ends the server and panics",
        |conn| {
            conn.server().shutdown();
            conn.abort();
            panic!("told to");
        },
        true,
    ),
];

/// The number of events in `acting`.
const EVENTS: usize = 12;

/// Registers a handler for one event, which performs the action while it is armed.
fn acting(builder: Builder, event: usize, act: Act, armed: &Arc<AtomicBool>) -> Builder {
    let armed = armed.clone();
    let act = move |conn: &mut Connection<'_>| {
        if armed.load(Ordering::Relaxed) {
            act(conn);
        }
    };
    match event {
        0 => builder.add_on(Connect, move |conn, ()| act(conn)),
        1 => builder.on(Origin, move |conn, _| act(conn)),
        2 => builder.on(Handshake, move |conn, _| act(conn)),
        3 => builder.on(Ready, move |conn, ()| act(conn)),
        4 => builder.add_on(Utf8, move |conn, _| act(conn)),
        5 => builder.add_on(Binary, move |conn, _| act(conn)),
        6 => builder.on(Ping, move |conn, _| act(conn)),
        7 => builder.on(Pong, move |conn, _| act(conn)),
        8 => builder.on(PeerClose, move |conn, _| act(conn)),
        9 => builder.on(Error, move |conn, _| act(conn)),
        10 => builder.add_on(Disconnect, move |conn, _| act(conn)),
        _ => builder.on(Fragment, move |conn, _| act(conn)),
    }
}

#[test]
fn whatever_a_handler_does_in_whatever_event_each_connection_ends_once() {
    for (name, act, ends) in ACTS {
        for event in 0..EVENTS {
            for breach in [false, true] {
                let (sender, log) = log();
                let armed = Arc::new(AtomicBool::new(false));
                let arm = armed.clone();
                let mut server = Running::start(move |builder| {
                    let (begins, ends) = (sender.clone(), sender);
                    let builder = echo(builder)
                        .on(Connect, move |conn, ()| {
                            begins.send(format!("connect {}", conn.id())).is_ok()
                        })
                        .on(Disconnect, move |conn, _| {
                            ends.send(format!("disconnect {}", conn.id()))
                        });
                    acting(builder, event, act, &arm)
                });
                let bystander = server.ready();
                armed.store(true, Ordering::Relaxed);
                // Bytes in one segment that cause every event.
                let last = match breach {
                    true => vec![0xff; 20],
                    false => frame(0x88, b"\x03\xe8bye"),
                };
                let bytes = [
                    REQUEST.as_bytes(),
                    &frame(0x81, b"text"),
                    &frame(0x82, b"binary"),
                    &frame(0x89, b"ping"),
                    &frame(0x8a, b"pong"),
                    &frame(0x01, b"a"),
                    &frame(0x80, b"b"),
                    &last,
                ]
                .concat();
                let mut client = server.client();
                let _ = std::io::Write::write_all(&mut client.stream, &bytes);
                client.shutdown_write();
                client.read_to_end();
                let happens = match event {
                    8 => !breach,
                    9 => breach,
                    _ => true,
                };
                armed.store(false, Ordering::Relaxed);
                drop((client, bystander));
                if ends && happens {
                    server.join();
                } else {
                    server.ready().expect_alive();
                    server.stop();
                }
                let mut lives: HashMap<String, Vec<String>> = HashMap::new();
                for entry in log.rest() {
                    let (what, id) = entry.split_once(' ').unwrap_or_default();
                    lives.entry(id.into()).or_default().push(what.into());
                }
                assert!(lives.len() >= 2, "{name} in {event}");
                for life in lives.values() {
                    assert_eq!(life, &["connect", "disconnect"], "{name} in {event}");
                }
            }
        }
    }
}
