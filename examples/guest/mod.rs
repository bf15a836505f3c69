//! The guests of a chat, and its page: shared by the examples `chat` and `cluster`.

use std::time::SystemTime;

use serde_json::{Value, json};
use wsloop::handshake::{self, Refusal, Upgrade};
use wsloop::plain_http::Response;
use wsloop::{AnswerError, Connection, ConnectionId, Prepared};

/// Longest name of a room or a guest, in characters.
const NAME_MAX: usize = 30;

/// A guest. Each connection has one, under `data`.
#[derive(Clone, Default)]
pub(crate) struct Guest {
    pub(crate) room: String,
    pub(crate) nick: String,
}

impl Guest {
    /// Returns what the room hears of a message of the guest; `None` if the message is malformed.
    pub(crate) fn say(&self, message: &str) -> Option<Prepared> {
        let message: Value = serde_json::from_str(message).unwrap_or_default();
        let text = message["text"].as_str().filter(|text| !text.is_empty())?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let id = match message["id"].as_str() {
            Some(id) => id.to_owned(),
            None => now.as_nanos().to_string(),
        };
        let (nick, at) = (&self.nick, now.as_secs());
        let said = json!({"type": "say", "nick": nick, "text": text, "id": id, "at": at});
        Some(Prepared::text(&said.to_string()))
    }
}

/// What a guest is told about a malformed message.
pub(crate) const MALFORMED: &str = r#"Send {"text": "..."}."#;

/// Answers a request that is not a handshake: with the page.
pub(crate) fn page(id: ConnectionId, request: &handshake::Request) -> Response {
    match guest(id, request) {
        Ok(_) if matches!(request.method().as_str(), "GET" | "HEAD") => Response::new(200)
            .header("Content-Type", "text/html; charset=utf-8")
            .header("Referrer-Policy", "no-referrer")
            .body(include_str!("../chat.html")),
        Ok(_) => Response::new(405).header("Allow", "GET, HEAD"),
        Err((status, why)) => Response::new(status).body(why),
    }
}

/// Lets a guest in, or refuses it.
pub(crate) fn enter(conn: &mut Connection<'_>, upgrade: &mut Upgrade) -> Result<(), AnswerError> {
    match guest(conn.id(), upgrade.request()) {
        Ok(guest) => {
            *conn.data() = guest;
            upgrade.accept()
        }
        Err((status, why)) => upgrade.refuse(Refusal::new(status).body(why)),
    }
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
