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

mod logger;
mod signals;

use std::collections::{HashMap, VecDeque};
use std::env;
use std::time::SystemTime;

use serde_json::{Value, json};
use wsloop::event::{Disconnect, Handshake, Ready, Request, Utf8};
use wsloop::handshake::{self, Refusal};
use wsloop::plain_http::Response;
use wsloop::{Connection, ConnectionId, Prepared, Sent, Server, SlowConsumer};

/// Longest name of a room or a guest, in characters.
const NAME_MAX: usize = 30;
/// Longest message of a guest, in bytes. The page's longest text takes no more, whatever is in it.
const MESSAGE_MAX: usize = 4000;
/// How many messages of a room are kept for those who come later.
const SAID_MAX: usize = 50;
/// Most guests at once. All their names fit into one message of the default `max_send_size`.
const GUESTS_MAX: usize = 500;

/// The server has one, under `shared`. A room is gone when its last guest leaves.
#[derive(Default)]
struct Rooms(HashMap<String, Room>);

#[derive(Default)]
struct Room {
    members: Vec<(ConnectionId, String)>,
    said: VecDeque<Prepared>,
}

/// A guest. Each connection has one, under `data`.
#[derive(Clone, Default)]
struct Guest {
    room: String,
    nick: String,
}

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
        .on(Request, |conn, request| match guest(conn.id(), request) {
            Ok(_) if matches!(request.method().as_str(), "GET" | "HEAD") => Response::new(200)
                .header("Content-Type", "text/html; charset=utf-8")
                .header("Referrer-Policy", "no-referrer")
                .body(include_str!("chat.html")),
            Ok(_) => Response::new(405).header("Allow", "GET, HEAD"),
            Err((status, why)) => Response::new(status).body(why),
        })
        .on(Handshake, |conn, upgrade| {
            match guest(conn.id(), upgrade.request()) {
                Ok(guest) => {
                    *conn.data() = guest;
                    upgrade.accept()
                }
                Err((status, why)) => upgrade.refuse(Refusal::new(status).body(why)),
            }
        })
        .on(Ready, |conn, ()| {
            let Guest { room, nick } = conn.data::<Guest>().clone();
            tell(conn, &room, &json!({"type": "join", "nick": nick}));
            let id = conn.id();
            let here = conn.shared::<Rooms>().0.entry(room.clone()).or_default();
            here.members.push((id, nick.clone()));
            let members: Vec<_> = here.members.iter().map(|member| &member.1).collect();
            let welcome =
                json!({"type": "welcome", "room": room, "nick": nick, "members": members});
            for message in here.said.clone() {
                conn.send_prepared(&message)?;
            }
            conn.send_utf8(&welcome.to_string())
        })
        .on(Utf8, |conn, message| {
            let message: Value = serde_json::from_str(message).unwrap_or_default();
            let Some(text) = message["text"].as_str().filter(|text| !text.is_empty()) else {
                let error = json!({"type": "error", "text": r#"Send {"text": "..."}."#});
                return conn.send_utf8(&error.to_string());
            };
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            let id = match message["id"].as_str() {
                Some(id) => id.to_owned(),
                None => now.as_nanos().to_string(),
            };
            let Guest { room, nick } = conn.data::<Guest>().clone();
            let at = now.as_secs();
            let said = json!({"type": "say", "nick": nick, "text": text, "id": id, "at": at});
            let said = tell(conn, &room, &said);
            if let Some(here) = conn.shared::<Rooms>().0.get_mut(&room) {
                here.said.push_back(said);
                if here.said.len() > SAID_MAX {
                    here.said.pop_front();
                }
            }
            Ok(Sent::NOTHING)
        })
        .on(Disconnect, |conn, _| {
            let Guest { room, nick } = conn.data::<Guest>().clone();
            if leave(conn, &room) {
                tell(conn, &room, &json!({"type": "leave", "nick": nick}));
            }
        })
        .build()?;
    signals::wind_down_on_signals(server.handle())?;
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}

/// The guest that a request is about; else the status of the answer, and what is wrong.
fn guest(id: ConnectionId, request: &handshake::Request) -> Result<Guest, (u16, String)> {
    if request.path() != "/" {
        return Err((404, "There is nothing here. The chat is at /\n".into()));
    }
    let name = |key, default: &str| {
        let given = request.query_param(key).unwrap_or_else(|| default.into());
        let name = given.trim();
        let fits = (1..=NAME_MAX).contains(&name.chars().count());
        if fits && !name.contains(char::is_control) {
            Ok(name.to_owned())
        } else {
            let rule = format!("1 to {NAME_MAX} characters, none of them a control character");
            Err((
                400,
                format!("This is no name for a {key}. It takes {rule}.\n"),
            ))
        }
    };
    Ok(Guest {
        room: name("room", "lobby")?,
        nick: name("nick", &format!("guest{id}"))?,
    })
}

/// Sends a message to everybody in a room, and returns it as it was sent.
fn tell(conn: &mut Connection<'_>, room: &str, message: &Value) -> Prepared {
    let message = Prepared::text(&message.to_string()); // framed once for all of them
    let rooms = &conn.shared::<Rooms>().0;
    let members: Vec<_> = match rooms.get(room) {
        Some(here) => here.members.iter().map(|member| member.0).collect(),
        None => Vec::new(),
    };
    // One that is closing is passed over: its own `Disconnect` follows.
    let _ = conn.server().send_to(members, &message);
    message
}

/// Takes a guest out of a room; returns whether it was there. A refused request never was.
fn leave(conn: &mut Connection<'_>, room: &str) -> bool {
    let id = conn.id();
    let rooms = &mut conn.shared::<Rooms>().0;
    let Some(here) = rooms.get_mut(room) else {
        return false;
    };
    let before = here.members.len();
    here.members.retain(|member| member.0 != id);
    let left = here.members.len() < before;
    if here.members.is_empty() {
        rooms.remove(room);
    }
    left
}
