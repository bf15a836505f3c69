//! Several loops as one server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ends;
mod handle;
mod history;
mod sockets;
mod topics;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use wsloop::event::*;
use wsloop::{
    Builder, Connection, Handle, LoopThreads, Loops, Prepared, Recovery, SendError, Sent, Server,
    Topic,
};

use crate::support::{Client, settle_with};

/// With this number of clients on one loop, the kernel does not distribute them.
const CLIENTS_MAX: usize = 1000;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// Adds handlers that greet with the number of the loop, and obey their clients.
fn obeying(number: usize, builder: Builder) -> Builder {
    builder
        .topics("kept.", Topic::new().history(100_000, LONG))
        .on(Ready, move |conn, ()| {
            conn.send_utf8(&format!("loop {number}"))
        })
        .on(Utf8, obey)
}

/// Carries out a command: a verb, a topic, and the rest.
fn obey(conn: &mut Connection<'_>, text: &str) -> Result<Sent, SendError> {
    let mut words = text.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default();
    let (verb, topic, rest) = (next(), next(), next());
    match verb {
        "subscribe" => {
            conn.subscribe(topic)?;
            conn.send_utf8("subscribed")
        }
        "unsubscribe" => {
            conn.unsubscribe(topic);
            conn.send_utf8("unsubscribed")
        }
        "publish" => conn.server().publish(topic, rest).map(Sent::from),
        "publish-many" => {
            for number in 0..rest.parse().unwrap() {
                conn.server().publish(topic, &*format!("{number}"))?;
            }
            conn.send_utf8("published")
        }
        "keep" => {
            let message = |position: Option<wsloop::Position>| {
                Prepared::text(&format!("{} {rest}", position.unwrap()))
            };
            conn.server().publish_with(topic, message).map(Sent::from)
        }
        "from" => match conn.subscribe_from(topic, rest.parse().unwrap())? {
            Recovery::Recovered(count) => conn.send_utf8(&format!("recovered {count}")),
            _ => conn.send_utf8("gap"),
        },
        "recent" => {
            let count = conn.subscribe_recent(topic, rest.parse().unwrap())?;
            conn.send_utf8(&format!("recent {count}"))
        }
        "position" => {
            let position = conn.server().position(topic).unwrap();
            conn.send_utf8(&position.to_string())
        }
        "id" => conn.send_utf8(&format!("{}", u64::from(conn.id()))),
        "shutdown" => {
            conn.server().shutdown();
            Ok(Sent::NOTHING)
        }
        "wind_down" => {
            let how = wsloop::WindDown::within(LONG).code(1012);
            conn.server().wind_down(how)?;
            Ok(Sent::NOTHING)
        }
        "stop_listening" => {
            conn.server().stop_listening();
            Ok(Sent::NOTHING)
        }
        "panic" => panic!("in a handler"),
        _ => conn.send_utf8(text),
    }
}

/// Starts two loops on one port.
fn two_loops() -> LoopThreads {
    two_loops_with(|_, builder| builder)
}

fn two_loops_with(
    configure: impl Fn(usize, Builder) -> Builder + Send + Sync + 'static,
) -> LoopThreads {
    let make = move |number| {
        let builder = Server::builder().listen("127.0.0.1:0");
        configure(number, obeying(number, builder))
    };
    Loops::new(2, make).spawn().unwrap()
}

fn next_text<S: Read + Write>(client: &mut Client<S>) -> String {
    let frame = client.read_frame();
    assert_eq!(frame.first, 0x81, "{frame:?}");
    String::from_utf8(frame.payload).unwrap()
}

/// Performs the handshake; returns the number of the client's loop.
fn greeted<S: Read + Write>(client: &mut Client<S>) -> usize {
    client.upgrade();
    let text = next_text(client);
    text.strip_prefix("loop ").unwrap().parse().unwrap()
}

/// Connects a client to the loop with this number.
fn client_of(addr: SocketAddr, wanted: usize) -> Client {
    for _ in 0..CLIENTS_MAX {
        let mut client = Client::connect(addr);
        if greeted(&mut client) == wanted {
            return client;
        }
        leave(client);
    }
    panic!("no client is on loop {wanted}");
}

/// Connects clients until each of two loops has so many.
fn crowd(addr: SocketAddr, each: usize) -> [Vec<Client>; 2] {
    [0, 1].map(|number| (0..each).map(|_| client_of(addr, number)).collect())
}

fn one_of_each(addr: SocketAddr) -> [Client; 2] {
    [client_of(addr, 0), client_of(addr, 1)]
}

/// Closes a client, and waits until the server has removed its connection.
fn leave(mut client: Client) {
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
}

fn subscribe(client: &mut Client, topic: &str) {
    client.send_text(&format!("subscribe {topic}"));
    client.expect_text("subscribed");
}

/// Waits until the loop of this client has ended the turn that served it.
fn settle(client: &mut Client) {
    settle_with(client, "echo", "echo");
}

/// A loop that is held in a closure until this is dropped.
struct Held(#[allow(dead_code, reason = "it is dropped")] Sender<()>);

impl Held {
    fn hold(handle: &Handle) -> Self {
        let (inside, entered) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let wait = move |_: &mut wsloop::Hub<'_>| {
            inside.send(()).unwrap();
            // It fails when the other end is dropped.
            let _ = released.recv();
        };
        handle.run(wait).unwrap();
        entered.recv().unwrap();
        Self(release)
    }
}
