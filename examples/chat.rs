//! A chat with rooms: whoever connects to `/?room=garden` talks to the others there.
//!
//! ```text
//! cargo run --release --example chat [ADDRESS] [ORIGIN]...
//! ```
//!
//! The address is `127.0.0.1:9002` unless given. To try it, open
//! `http://127.0.0.1:9002/?room=garden` in two tabs of a browser: the page comes from here, too. Or
//! talk from a terminal, where each line is a message:
//!
//! ```text
//! python3 -m websockets 'ws://127.0.0.1:9002/?room=garden&nick=bob'
//! {"text": "hello"}
//! ```
//!
//! `room` is the name of the room, `lobby` if not given; `nick` is the name of the guest, `guest`
//! and a number if not given. Any script will do: the query is percent-encoded UTF-8.
//!
//! Messages are JSON. A guest sends a `text`, and may add an `id` of its own choice. The server
//! sends, each with its `type`: `welcome` with the `members`, `join` and `leave` with a `nick`,
//! `say` with `nick`, `text`, `id` and `at`, the time in seconds since 1970, and `error`. Who comes
//! gets what was said last, then `welcome`. A guest that sends its message again after a lost
//! connection keeps the `id`, so that whoever has it already can tell.
//!
//! Pages of the same host, port included, may connect, and those of each ORIGIN that is given, for
//! instance `http://127.0.0.1:8000`. Clients that are no browsers send no origin and may as well.

mod guest;
mod logger;
mod signals;

use std::collections::{HashMap, VecDeque};
use std::env;

use serde_json::json;
use wsloop::event::{Disconnect, Handshake, Ready, Request, Utf8, Vacated};
use wsloop::{Hub, Prepared, SendError, Server, SlowConsumer};

use crate::guest::{Guest, MALFORMED};

/// Longest message of a guest, in bytes. The page's longest text takes no more, whatever is in it.
const MESSAGE_MAX: usize = 4000;
/// How many messages of a room are kept for those who come later.
const SAID_MAX: usize = 50;
/// Most guests at once. All their names fit into one message of the default `max_send_size`.
const GUESTS_MAX: usize = 500;

/// The last messages of each room. The server has one such value, in `shared`.
#[derive(Default)]
struct Said(HashMap<String, VecDeque<Prepared>>);

fn main() -> wsloop::Result<()> {
    logger::init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9002".into());
    // A browser lets any page open a WebSocket to any server, with that server's cookies, and only
    // the server can object. Clients that are no browsers send no origin.
    let origins = ["self".into(), "none".into()].into_iter().chain(args);
    let mut server = Server::builder()
        .listen(address.as_str())
        .max_connections(GUESTS_MAX)
        .max_recv_size(MESSAGE_MAX)
        // Who does not read what the others say has to go.
        .slow_consumer(SlowConsumer::Close)
        .origins(origins)
        .on(Request, |conn, request| guest::page(conn.id(), request))
        .on(Handshake, guest::enter)
        // The name of a room is its topic as well: every guest may enter any room.
        .on(Ready, |conn, ()| {
            let Guest { room, nick } = conn.data::<Guest>().clone();
            let join = json!({"type": "join", "nick": nick}).to_string();
            conn.publish(&room, join.as_str())?;
            conn.subscribe(&room)?;
            let said = conn.shared::<Said>().0.get(&room).cloned();
            for message in said.iter().flatten() {
                conn.send_prepared(message)?;
            }
            let members = members(&mut conn.server(), &room);
            let welcome =
                json!({"type": "welcome", "room": room, "nick": nick, "members": members});
            conn.send_utf8(&welcome.to_string())
        })
        .on(Utf8, |conn, message| {
            let guest = conn.data::<Guest>().clone();
            let Some(said) = guest.say(message) else {
                let error = json!({"type": "error", "text": MALFORMED});
                return conn.send_utf8(&error.to_string()).map(drop);
            };
            let room = guest.room;
            conn.server().publish(&room, &said)?;
            let last = conn.shared::<Said>().0.entry(room).or_default();
            if last.len() == SAID_MAX {
                last.pop_front();
            }
            last.push_back(said);
            Ok(())
        })
        .on(Disconnect, |conn, _| {
            let Guest { room, nick } = conn.data::<Guest>().clone();
            // False if the handshake failed.
            if conn.is_subscribed(&room) {
                let leave = json!({"type": "leave", "nick": nick}).to_string();
                conn.publish(&room, leave.as_str())?;
            }
            Ok::<_, SendError>(())
        })
        .on(Vacated, |hub, room| {
            hub.shared::<Said>().0.remove(room);
        })
        .build()?;
    signals::wind_down_on_signals(server.handle())?;
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}

/// The names of the guests in a room.
fn members(hub: &mut Hub<'_>, room: &str) -> Vec<String> {
    let ids: Vec<_> = hub.subscribers(room).collect();
    let nick_of = |id| Some(hub.get(id)?.data::<Guest>().nick.clone());
    let mut members: Vec<_> = ids.into_iter().filter_map(nick_of).collect();
    members.sort();
    members
}
