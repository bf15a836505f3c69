//! The chat over several processes: guests of the same room talk to each other, wherever they are
//! connected.
//!
//! ```text
//! cargo run -p wsloop-example-cluster -- 127.0.0.1:9002 redis://127.0.0.1:6379
//! cargo run -p wsloop-example-cluster -- 127.0.0.1:9003 redis://127.0.0.1:6379
//! ```
//!
//! or, with a `nats-server -js`, `nats://127.0.0.1:4222`. Then open <http://127.0.0.1:9002> and
//! <http://127.0.0.1:9003>. The page and the messages are those of the example `chat`.
//!
//! Each process has two loops, and one connection to the engine for both. Each room has two topics:
//! `said.ROOM` has the messages, the last of which the engine keeps for those who come later, and
//! `here.ROOM` tells who comes and who leaves.
//!
//! Who is in a room is known per process. A guest who comes is told the guests of its own process,
//! and from then on hears who comes and leaves everywhere. A list of all guests of all processes
//! would need a place that forgets the guests of a process that has died; this example has none.
//!
//! If the engine is away, guests of the same process still hear each other. When it is back, or
//! when messages were lost for another reason, the guests are told that something may be missing. A
//! guest that comes again gets what the engine has kept.

#[path = "../guest/mod.rs"]
mod guest;
#[path = "../logger/mod.rs"]
mod logger;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsloop::backplane::node::NodeStats;
use wsloop::event::{Disconnect, Gap, Handshake, Ready, Recovered, Request, Utf8};
use wsloop::{
    Builder, Connection, Loops, Recovery, SendError, Server, SlowConsumer, Topic, WindDown,
};
use wsloop_nats::Nats;
use wsloop_redis::Redis;

use crate::guest::{Guest, MALFORMED};

/// Longest message of a guest, in bytes.
const MESSAGE_MAX: usize = 4000;
/// How many messages of a room are kept, and for how long.
const SAID_MAX: usize = 50;
const SAID_FOR: Duration = Duration::from_secs(3600);
/// Most guests of a loop.
const GUESTS_MAX: usize = 500;
const LOOPS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    logger::init();
    let mut args = env::args().skip(1);
    let usage = "usage: wsloop-example-cluster ADDRESS redis://... | nats://...";
    let (Some(address), Some(url)) = (args.next(), args.next()) else {
        return Err(usage.into());
    };
    let engine = match url.split_once("://") {
        Some(("redis" | "rediss", _)) => Engine::Redis(Redis::new(&url)?),
        Some(("nats" | "tls", _)) => Engine::Nats(Nats::new(&url)?),
        _ => return Err(usage.into()),
    };
    let members = Members::default();
    let backplane = engine.clone();
    let running = Loops::new(LOOPS, move |_| {
        backplane.connect(chat(&members).listen(address.as_str()))
    })
    .spawn()?;
    for address in running.local_addrs() {
        println!("listening on {address}");
    }

    let handle = running.handle().clone();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            // An error means that the loops have ended.
            let _ = handle.wind_down(WindDown::within(Duration::from_secs(8)));
        }
    });
    let watched = engine.clone();
    thread::spawn(move || watch(&watched));
    running.join()?;
    if !engine.close(Duration::from_secs(5)) {
        println!("the last messages have not reached the engine");
    }
    Ok(())
}

/// What connects the processes.
#[derive(Clone)]
enum Engine {
    Nats(Nats),
    Redis(Redis),
}

impl Engine {
    fn connect(&self, builder: Builder) -> Builder {
        match self {
            Self::Nats(nats) => builder.backplane(nats.clone()),
            Self::Redis(redis) => builder.backplane(redis.clone()),
        }
    }

    fn stats(&self) -> NodeStats {
        match self {
            Self::Nats(nats) => nats.stats(),
            Self::Redis(redis) => redis.stats(),
        }
    }

    fn close(&self, timeout: Duration) -> bool {
        match self {
            Self::Nats(nats) => nats.close(timeout),
            Self::Redis(redis) => redis.close(timeout),
        }
    }
}

/// Prints when the engine is there and when it is away.
fn watch(engine: &Engine) {
    let mut before = NodeStats::default();
    loop {
        let stats = engine.stats();
        if stats.is_connected != before.is_connected || stats.connects != before.connects {
            match stats.is_connected {
                true => println!("the engine is there"),
                false => println!("the engine is away"),
            }
        }
        if stats.dropped > before.dropped {
            let count = stats.dropped - before.dropped;
            println!("{count} messages were dropped, because too much waits for the engine");
        }
        before = stats;
        thread::sleep(Duration::from_millis(100));
    }
}

/// The guests of this process by room, which its loops share.
#[derive(Clone, Default)]
struct Members(Arc<Mutex<HashMap<String, Vec<String>>>>);

impl Members {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<String>>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, guest: &Guest) {
        let mut rooms = self.lock();
        let nicks = rooms.entry(guest.room.clone()).or_default();
        nicks.push(guest.nick.clone());
    }

    fn remove(&self, guest: &Guest) {
        let mut rooms = self.lock();
        if let Some(nicks) = rooms.get_mut(&guest.room) {
            if let Some(at) = nicks.iter().position(|nick| *nick == guest.nick) {
                nicks.swap_remove(at);
            }
            if nicks.is_empty() {
                rooms.remove(&guest.room);
            }
        }
    }

    fn list(&self, room: &str) -> Vec<String> {
        let mut nicks = self.lock().get(room).cloned().unwrap_or_default();
        nicks.sort();
        nicks
    }
}

/// The handlers of one loop.
fn chat(members: &Members) -> Builder {
    let (on_ready, on_recovered, on_disconnect) =
        (members.clone(), members.clone(), members.clone());
    Server::builder()
        .max_connections(GUESTS_MAX)
        .max_recv_size(MESSAGE_MAX)
        .slow_consumer(SlowConsumer::Close)
        .topics("said.", Topic::new().history(SAID_MAX, SAID_FOR))
        .on(Request, |conn, request| guest::page(conn.id(), request))
        .on(Handshake, guest::enter)
        .on(Ready, move |conn, ()| {
            let guest = conn.data::<Guest>().clone();
            let join = json!({"type": "join", "nick": guest.nick}).to_string();
            conn.publish(&here(&guest.room), join.as_str())?;
            conn.subscribe(&here(&guest.room))?;
            on_ready.add(&guest);
            // What was said last comes from the engine, and then the event `Recovered`.
            conn.subscribe_recent(&said(&guest.room), SAID_MAX)?;
            Ok::<_, SendError>(())
        })
        .on(Recovered, move |conn, (_, recovery)| {
            if recovery == Recovery::Gap {
                notice(conn, "What was said before cannot be loaded at the moment.")?;
            }
            let Guest { room, nick } = conn.data::<Guest>().clone();
            let members = on_recovered.list(&room);
            let welcome =
                json!({"type": "welcome", "room": room, "nick": nick, "members": members});
            conn.send_utf8(&welcome.to_string())?;
            notice(
                conn,
                "The list shows the guests of this server and those who come later.",
            )
        })
        .on(Utf8, |conn, message| {
            let guest = conn.data::<Guest>().clone();
            let Some(text) = guest.say(message) else {
                return notice(conn, MALFORMED);
            };
            conn.server().publish(&said(&guest.room), &text).map(drop)
        })
        .on(Disconnect, move |conn, _| {
            let guest = conn.data::<Guest>().clone();
            // False if the handshake failed.
            if conn.is_subscribed(&here(&guest.room)) {
                on_disconnect.remove(&guest);
                let leave = json!({"type": "leave", "nick": guest.nick}).to_string();
                conn.publish(&here(&guest.room), leave.as_str())?;
            }
            Ok::<_, SendError>(())
        })
        .on(Gap, |hub, lost| {
            match lost.count {
                Some(count) => println!("{count} messages of {} were lost", lost.topic),
                None => println!("messages of {} may have been lost", lost.topic),
            }
            hub.for_each_subscriber(lost.topic, |conn| {
                // The connection may be about to close.
                let _ = notice(
                    conn,
                    "Something may be missing: the servers were not connected.",
                );
            });
        })
}

/// Tells one guest something. The page shows it as a line of its own.
fn notice(conn: &mut Connection<'_>, text: &str) -> Result<(), SendError> {
    let notice = json!({"type": "error", "text": text}).to_string();
    conn.send_utf8(&notice).map(drop)
}

/// The topic with the messages of a room.
fn said(room: &str) -> String {
    format!("said.{room}")
}

/// The topic with the comings and goings of a room.
fn here(room: &str) -> String {
    format!("here.{room}")
}
