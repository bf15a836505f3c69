//! A handler is never called while another one runs. Events that it causes are delivered once,
//! after it has returned.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::support;
use crate::support::{Client, Running};
use wsloop::event::*;
use wsloop::{Builder, Connection, Phase, Sent};

/// Records whether a handler is running.
#[derive(Clone)]
struct Guard {
    running: Rc<Cell<bool>>,
    log: Sender<String>,
}

impl Guard {
    fn run<T>(&self, name: &str, handler: impl FnOnce() -> T) -> T {
        if self.running.replace(true) {
            self.log.send(format!("{name} nests")).unwrap();
        }
        let result = handler();
        self.running.set(false);
        result
    }
}

/// Ends the other connections: every second one is cut, and the rest are closed.
fn end_the_others(conn: &mut Connection<'_>) {
    let own = conn.id();
    let mut cut = false;
    conn.server().for_each(|other| {
        if other.id() != own {
            cut = !cut;
            match cut {
                true => other.abort(),
                false => drop(other.disconnect(4000, "you too").unwrap()),
            }
        }
    });
}

fn chaotic(builder: Builder, log: Sender<String>) -> Builder {
    let guard = Guard {
        running: Rc::default(),
        log: log.clone(),
    };
    let guards: [Guard; 10] = std::array::from_fn(|_| guard.clone());
    let [
        accept,
        connect,
        origin,
        handshake,
        ready,
        utf8,
        error,
        peer,
        end,
        tick,
    ] = guards;
    builder
        .tick_period(Duration::from_millis(1))
        .close_timeout(Duration::from_millis(200))
        .on(Accept, move |_, _| accept.run("accept", || ()))
        .on(Connect, move |_, ()| connect.run("connect", || ()))
        .on(Origin, move |_, _| origin.run("origin", || ()))
        .on(Handshake, move |_, _| handshake.run("handshake", || ()))
        .on(Ready, move |conn, ()| {
            ready.run("ready", || conn.server().broadcast_utf8("joined"))
        })
        .on(Utf8, move |conn, text| {
            utf8.run("utf8", || match text {
                "end the others" => end_the_others(conn),
                "end all" => {
                    end_the_others(conn);
                    conn.disconnect(4001, "me too").unwrap();
                }
                "cut all" => conn.server().for_each(|conn| {
                    conn.abort();
                    conn.abort();
                }),
                text => _ = conn.send_utf8(text).unwrap(),
            })
        })
        .on(Error, move |_, _| error.run("error", || ()))
        .on(PeerClose, move |conn, _| {
            peer.run("peer close", || conn.server().broadcast_utf8("leaving"))
        })
        .on(Disconnect, move |conn, why| {
            end.run("disconnect", || {
                let id = conn.id();
                log.send(format!("gone {id} {}", why.cause)).unwrap();
                assert!(conn.phase() >= Phase::Lingering && !conn.is_ready());
                assert!(conn.server().get(id).is_none(), "it is over");
                conn.server().broadcast_utf8("left").unwrap();
            })
        })
        .on(Tick, move |hub, _| {
            tick.run("tick", || {
                hub.for_each(|conn| _ = conn.send_binary(b"tick"));
            })
        })
}

/// Waits for the `Disconnect` of `count` connections; checks that each comes once and that no
/// handlers nest.
fn expect_gone(log: &support::Log, count: usize) -> Vec<String> {
    let mut gone: Vec<_> = (0..count).map(|_| log.next()).collect();
    gone.sort();
    let ids = gone.iter().map(|entry| entry.split(' ').nth(1).unwrap());
    let mut ids: Vec<_> = ids.collect();
    ids.dedup();
    assert_eq!(ids.len(), count, "{gone:?}");
    gone
}

/// Reads frames until a text arrives.
fn read_until(client: &mut Client, text: &str) {
    while client.read_frame().payload != text.as_bytes() {}
}

#[test]
fn one_ends_all_others_at_once() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| chaotic(builder, sender));
    let mut clients: Vec<_> = (0..9).map(|_| server.ready()).collect();
    let mut one = clients.pop().unwrap();
    one.send_text("end the others");
    // The closed clients do not answer, so `close_timeout` ends their connections.
    let gone = expect_gone(&log, 8);
    drop(clients);
    let cut = gone
        .iter()
        .filter(|entry| entry.ends_with(" cut by the server"));
    assert_eq!(cut.count(), 4, "{gone:?}");
    one.send_text("alive?");
    read_until(&mut one, "alive?");
    drop(one);
    expect_gone(&log, 1);
    server.stop();
    assert_eq!(log.rest(), [""; 0], "each went once");
}

#[test]
fn one_ends_all_and_itself() {
    for text in ["end all", "cut all"] {
        let (sender, log) = support::log();
        let server = Running::start(move |builder| chaotic(builder, sender));
        let mut clients: Vec<_> = (0..9).map(|_| server.ready()).collect();
        clients[4].send_text(text);
        expect_gone(&log, 9);
        let mut next = server.ready();
        next.send_text("alive?");
        read_until(&mut next, "alive?");
        drop(next);
        expect_gone(&log, 1);
        drop(clients);
        server.stop();
        assert_eq!(log.rest(), [""; 0]);
    }
}

#[test]
fn a_chain_of_disconnects_runs_to_its_end() {
    // Each `Disconnect` cuts one more connection.
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let inside = Rc::new(Cell::new(false));
        support::echo(builder).on(Disconnect, move |conn, _| {
            assert!(!inside.replace(true), "nested");
            let next = conn.server().ids().into_iter().min();
            if let Some(next) = next {
                conn.server().get(next).unwrap().abort();
            }
            inside.set(false);
            sender.send(conn.id().to_string())
        })
    });
    let mut clients: Vec<_> = (0..30).map(|_| server.ready()).collect();
    drop(clients.remove(0));
    let mut gone: Vec<u64> = (0..30).map(|_| log.next().parse().unwrap()).collect();
    assert!(gone.is_sorted(), "{gone:?}");
    gone.dedup();
    assert_eq!(gone.len(), 30);
    for client in &mut clients {
        assert_eq!(client.read_to_end(), b"");
    }
    server.ready().expect_alive();
}

#[test]
fn disconnect_comes_after_the_handler_that_caused_it() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let ends = sender.clone();
        builder
            .on(Utf8, move |conn, text| {
                let own = conn.id();
                match text {
                    "cut" => conn.abort(),
                    "cut the other" => conn.server().for_each(|conn| {
                        if conn.id() != own {
                            conn.abort();
                        }
                    }),
                    _ => drop(conn.disconnect(4000, "").unwrap()),
                }
                sender.send(format!("{text} done")).unwrap();
            })
            .on(Disconnect, move |_, why| ends.send(why.cause.to_string()))
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    one.send_text("cut the other");
    log.expect(&["cut the other done", "cut by the server"]);
    assert_eq!(other.read_to_end(), b"");
    one.send_text("cut");
    log.expect(&["cut done", "cut by the server"]);
    let mut one = server.ready();
    one.send_text("close");
    one.send_close(4000, "");
    log.expect(&["close done", "closed by the server"]);
}

#[test]
fn sending_from_disconnect_reaches_the_others_and_not_itself() {
    let server = Running::start(|builder| {
        builder.on(Disconnect, |conn, _| {
            let id = conn.id();
            assert!(conn.send_utf8("to a dead one").is_err());
            conn.server().broadcast_utf8(&format!("{id} left"))
        })
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    one.send_close(1000, "");
    one.expect_close(1000);
    one.expect_eof();
    let frame = other.read_frame();
    assert!(frame.payload.ends_with(b" left"), "{frame:?}");
}

#[test]
fn a_broadcast_passes_over_those_that_it_closes() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, _| {
            let own = conn.id();
            let mut hub = conn.server();
            assert_eq!(hub.broadcast_utf8("before").map(Sent::receivers), Ok(3));
            hub.for_each(|conn| {
                if conn.id() != own {
                    conn.disconnect(4000, "").unwrap();
                }
            });
            assert_eq!((hub.len(), hub.ids().len()), (1, 1));
            assert_eq!(hub.broadcast_utf8("after").map(Sent::receivers), Ok(1));
            conn.send_utf8("end")
        })
    });
    let (mut one, mut two, mut three) = (server.ready(), server.ready(), server.ready());
    one.send_text("go");
    for text in ["before", "after", "end"] {
        one.expect_text(text);
    }
    for client in [&mut two, &mut three] {
        client.expect_text("before");
        client.expect_close(4000);
    }
}
