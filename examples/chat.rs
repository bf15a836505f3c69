//! A chat with rooms: whoever connects to `/garden` talks to the others there.
//!
//! ```text
//! cargo run --release --example chat [ADDRESS] [ORIGIN]...
//! ```
//!
//! The address is `127.0.0.1:9002` unless given. To try it, open
//! `http://127.0.0.1:9002/garden?nick=ada` in a browser, and again with another name: the page comes
//! from here, too. Or run this in two terminals:
//!
//! ```text
//! python3 -m websockets 'ws://127.0.0.1:9002/garden?nick=bob'
//! ```
//!
//! The path is the room, `lobby` if empty; `nick` is the name, `guest` and a number if not given.
//! Pages of the same host, port included, may connect, and those of each ORIGIN that is given, for
//! instance `http://127.0.0.1:8000`. Clients that are no browsers send no origin and may as well.

mod signals;

use std::collections::HashMap;
use std::env;

use wsloop::event::{Disconnect, Handshake, Ready, Request, Utf8};
use wsloop::http::Response;
use wsloop::{Connection, ConnectionId, Prepared, Server, SlowConsumer};

/// Longest name of a room or a guest, in bytes.
const NAME_MAX: usize = 30;
/// Longest text of a guest, in bytes.
const TEXT_MAX: usize = 2000;
/// Most guests at once, and with that most rooms: a room is gone when its last guest leaves.
const GUESTS_MAX: usize = 10_000;

/// Who is in which room. The server has one, under `shared`.
#[derive(Default)]
struct Rooms(HashMap<String, Vec<ConnectionId>>);

/// A guest. Each connection has one, under `data`.
#[derive(Clone, Default)]
struct Guest {
    room: String,
    nick: String,
}

fn main() -> wsloop::Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9002".into());
    // A browser lets any page open a WebSocket to any server, with that server's cookies, and only
    // the server can object. Clients that are no browsers send no origin.
    let origins = ["self".into(), "none".into()].into_iter().chain(args);
    let mut server = Server::builder()
        .listen(address.as_str())
        .max_connections(GUESTS_MAX)
        .max_recv_size(TEXT_MAX)
        // Who does not read what the others say has to go.
        .slow_consumer(SlowConsumer::Close)
        .origins(origins)
        .on(Request, |conn, request| {
            let known = guest(conn.id(), request.path(), request.query()).is_some();
            (known && matches!(request.method().as_str(), "GET" | "HEAD")).then(|| {
                Response::new(200)
                    .header("Content-Type", "text/html; charset=utf-8")
                    .header("Referrer-Policy", "no-referrer")
                    .body(include_str!("chat.html"))
            })
        })
        .on(Handshake, |conn, upgrade| {
            let request = upgrade.request();
            match guest(conn.id(), request.path(), request.query()) {
                Some(guest) => *conn.data() = guest,
                None => return upgrade.refuse(404),
            }
            Ok(())
        })
        .on(Ready, |conn, ()| {
            let id = conn.id();
            let Guest { room, nick } = conn.data::<Guest>().clone();
            let rooms = &mut conn.shared::<Rooms>().0;
            rooms.entry(room.clone()).or_default().push(id);
            tell(conn, &room, &format!("* {nick} is here"));
        })
        .on(Utf8, |conn, text| {
            let Guest { room, nick } = conn.data::<Guest>().clone();
            tell(conn, &room, &format!("{nick}: {text}"));
        })
        .on(Disconnect, |conn, _| {
            let Guest { room, nick } = conn.data::<Guest>().clone();
            if leave(conn, &room) {
                tell(conn, &room, &format!("* {nick} has left"));
            }
        })
        .build()?;
    signals::drain_on_signals(server.handle())?;
    if let Some(addr) = server.local_addr() {
        eprintln!("listening on {addr}");
    }
    server.start()
}

/// The guest that a request is about; `None` if it names a room or a guest that cannot be.
fn guest(id: ConnectionId, path: &str, query: Option<&str>) -> Option<Guest> {
    let room = match path.trim_start_matches('/') {
        "" => "lobby",
        room => room,
    };
    let mut fields = query.unwrap_or_default().split('&');
    let nick = match fields.find_map(|field| field.strip_prefix("nick=")) {
        Some(nick) => nick.to_owned(),
        None => format!("guest{id}"),
    };
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed)
    };
    (is_name(room) && is_name(&nick)).then(|| Guest {
        room: room.to_owned(),
        nick,
    })
}

/// Sends a text to everybody in a room.
fn tell(conn: &mut Connection<'_>, room: &str, text: &str) {
    let rooms = &conn.shared::<Rooms>().0;
    let members = rooms.get(room).cloned().unwrap_or_default();
    let message = Prepared::utf8(text); // framed once for all of them
    let mut hub = conn.server();
    for id in members {
        if let Some(mut member) = hub.get(id) {
            // One that is closing cannot be sent to: its own `Disconnect` follows.
            let _ = member.send_prepared(&message);
        }
    }
}

/// Takes a guest out of a room; returns whether it was there. A refused request never was.
fn leave(conn: &mut Connection<'_>, room: &str) -> bool {
    let id = conn.id();
    let rooms = &mut conn.shared::<Rooms>().0;
    let Some(members) = rooms.get_mut(room) else {
        return false;
    };
    let before = members.len();
    members.retain(|member| *member != id);
    let left = members.len() < before;
    if members.is_empty() {
        rooms.remove(room);
    }
    left
}
