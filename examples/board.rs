//! A notice board: clients post notes by HTTP or WebSocket, and every open WebSocket receives them.
//! This is a program for UniEvent::WebSocket, ported callback by callback; the Perl original is
//! perl/board.pl.
//!
//! ```text
//! cargo run --release --example board [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9008` unless given. To try it, open the board and post a note:
//!
//! ```text
//! python3 -m websockets 'ws://127.0.0.1:9008/board?name=ada'
//! curl --data 'dinner is at eight' http://127.0.0.1:9008/notes
//! curl http://127.0.0.1:9008/stats
//! ```
//!
//! Over the WebSocket, `all` requests all notes in one message with a frame for each note, and
//! `archive` requests them compressed. `POST /stop` ends the server with 1012. Differences from the
//! Perl:
//!
//! - `run` and the loop's own `run` are one call, `start`. `Request` handlers receive only plain
//!   requests.
//! - The callbacks are handlers of the server, so all connections share them. The user data of a
//!   connection is a typed value, which `Default` creates on first use.
//! - `Ping` comes before the pong, and its handler can suppress the pong.
//! - Refused connections cause `Error` and `Disconnect` as well. `Disconnect` comes after the
//!   closing handshake; its code is the peer's if the peer closed first.
//! - `send_multiframe` is a message in parts, `in_frames`; its parts may be compressed as well.
//! - The statistics count messages, not reads.

mod logger;
mod signals;

use std::collections::VecDeque;
use std::env;
use std::str;
use std::time::Duration;

use wsloop::event::{
    Binary, Disconnect, Error, Handshake, PeerClose, Ping, Ready, Request, Start, Utf8,
};
use wsloop::handshake::{self, Refusal};
use wsloop::plain_http::Response;
use wsloop::{
    CloseCode, Compress, Connection, DeflateConfig, Hub, OpCode, Outgoing, SendError, Sent, Server,
    Stats,
};

/// The largest number of notes on the board.
const NOTES_MAX: usize = 100;
/// The largest size of a note, in bytes.
const NOTE_MAX: usize = 4096;
/// The largest size of a reader's name, in bytes.
const NAME_MAX: usize = 30;

/// The notes. The server has one such value, in `shared`.
#[derive(Default)]
struct Notes(VecDeque<String>);

/// A reader. Each connection has one such value, in `data`.
#[derive(Clone, Default)]
struct Reader {
    name: String,
    posted: u64,
}

fn main() -> wsloop::Result<()> {
    logger::init();
    let address = env::args().nth(1);
    let mut server = Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9008"))
        .max_body_size(NOTE_MAX)
        .max_recv_size(NOTE_MAX)
        .max_send_size(NOTES_MAX * (NOTE_MAX + NAME_MAX + 3))
        .close_timeout(Duration::from_secs(2))
        .deflate(DeflateConfig::default().threshold(512))
        // A page of another host must not read the board on behalf of its visitor.
        .origins(["self", "none"])
        .bad_handshakes(true)
        .on(Request, answer)
        // With `bad_handshakes` this handler receives invalid requests as well.
        .on(Handshake, |conn, upgrade| {
            if let Some(error) = upgrade.error() {
                println!("bad request: {error}");
                return upgrade.accept(); // the default response follows
            }
            let request = upgrade.request();
            if request.path() != "/board" {
                return upgrade.refuse(Refusal::new(404).body("no such board"));
            }
            let mut fields = request.query().unwrap_or_default().split('&');
            let name = fields.find_map(|field| field.strip_prefix("name="));
            let name = name.unwrap_or_default().to_owned();
            if !(1..=NAME_MAX).contains(&name.len()) {
                return upgrade.refuse(Refusal::new(400).reason("No Name").body("who are you?"));
            }
            conn.data::<Reader>().name = name;
            let notes = conn.shared::<Notes>().0.len();
            upgrade.header("X-Notes", &notes.to_string())
        })
        .on(Ready, |conn, ()| {
            let hello = format!("hello {}", conn.data::<Reader>().name);
            conn.send_utf8(&hello)
        })
        .on(Utf8, |conn, text| match text {
            "all" => {
                // Sends one message, with a frame for each note.
                let lines = lines(&mut conn.server());
                conn.send_message(Outgoing::parts(OpCode::Text, &lines).in_frames())
            }
            "archive" => {
                // Compresses regardless of the size, and reports when the kernel has accepted all
                // bytes.
                let all = lines(&mut conn.server()).concat();
                let all = Outgoing::text(&all).compress(Compress::Yes);
                conn.send_message(all.then(|conn, result| {
                    if result.is_ok() {
                        println!("{} has the archive", conn.data::<Reader>().name);
                    }
                }))
            }
            note => {
                let reader = conn.data::<Reader>();
                reader.posted += 1;
                let note = format!("{}: {note}", reader.name);
                post(&mut conn.server(), note)
            }
        })
        .on(Binary, |conn, _| {
            conn.disconnect(CloseCode::UNSUPPORTED_DATA, "text only")
        })
        .on(Ping, |conn, _| {
            println!("{} asks", conn.data::<Reader>().name);
        })
        // The server echoes the peer's code and reason, unless this handler closes with others.
        .on(PeerClose, |conn, frame| match frame {
            Some(frame) if frame.code == CloseCode::from(4001) => {
                conn.disconnect(4002, "come back")
            }
            _ => Ok(Sent::NOTHING),
        })
        .on(Error, |conn, fault| {
            let name = &conn.data::<Reader>().name;
            if !name.is_empty() {
                println!("{name}: {fault}");
            }
        })
        .on(Disconnect, |conn, why| {
            let Reader { name, posted } = conn.data::<Reader>().clone();
            if !name.is_empty() {
                println!("{name} put up {posted} and left: {}", why.code);
            }
        })
        .on(Start, |hub, ()| {
            hub.set_interval(Duration::from_secs(60), |hub, _| {
                let rates = hub.fetch_stats().rates();
                let (into, out) = (rates.messages_in, rates.messages_out);
                println!("{into:.1} messages/s in, {out:.1} out");
            });
        })
        .build()?;
    signals::wind_down_on_signals(server.handle())?;
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}

/// Answers a plain request.
fn answer(conn: &mut Connection<'_>, request: &handshake::Request) -> Option<Response> {
    let mut hub = conn.server();
    let response = match (request.method().as_str(), request.path()) {
        ("GET", "/notes") => Response::new(200).body(lines(&mut hub).concat()),
        ("GET", "/stats") => Response::new(200)
            .header("Content-Type", "application/json")
            .body(stats(&mut hub)),
        // Pages of any origin could send these requests. Browsers send the origin of the page.
        ("POST", _) if request.origin().is_some() => Response::new(403),
        ("POST", "/notes") => match str::from_utf8(request.body()) {
            Ok(note) => match post(&mut hub, note.to_owned()) {
                Ok(_) => Response::new(201),
                Err(_) => Response::new(500),
            },
            Err(_) => Response::new(400),
        },
        ("POST", "/stop") => match hub.stop(CloseCode::SERVICE_RESTART) {
            Ok(()) => Response::new(202),
            Err(_) => Response::new(500),
        },
        _ => return None, // 404
    };
    Some(response)
}

/// Posts a note, and sends it to everyone who has the board open.
fn post(hub: &mut Hub<'_>, note: String) -> Result<Sent, SendError> {
    let sent = hub.broadcast_utf8(&note)?;
    let notes = &mut hub.shared::<Notes>().0;
    if notes.len() == NOTES_MAX {
        notes.pop_front();
    }
    notes.push_back(note);
    Ok(sent)
}

/// Returns all notes, each with a line feed.
fn lines(hub: &mut Hub<'_>) -> Vec<String> {
    let notes = hub.shared::<Notes>().0.iter();
    notes.map(|note| format!("{note}\n")).collect()
}

/// Returns the number of readers and notes, and the counters, as JSON.
fn stats(hub: &mut Hub<'_>) -> String {
    let notes = hub.shared::<Notes>().0.len();
    let Stats {
        messages_in,
        messages_out,
        ..
    } = hub.stats();
    format!(
        "{{\"readers\":{},\"notes\":{notes},\"messages_in\":{messages_in},\
         \"messages_out\":{messages_out}}}",
        hub.len()
    )
}
