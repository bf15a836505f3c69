//! Authentication in the opening handshake: by a token in the query, or by a cookie that another
//! thread looks up.
//!
//! ```text
//! cargo run --release --example auth [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9011` unless given. The token `a1` is Ada's, and the cookie `session`
//! with the value `b2` is Bob's. Everybody else is refused with 401. To try it:
//!
//! ```text
//! python3 -m websockets 'ws://127.0.0.1:9011/?token=a1'
//! curl -i -N -H 'Cookie: session=b2' -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
//!     -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
//!     http://127.0.0.1:9011/ --output -
//! ```
//!
//! A handler must not block, because all clients would wait for it. So it defers the answer and
//! gives the session to a worker thread, which answers through a [`Handle`](wsloop::Handle).
//!
//! Scripts in a browser cannot set headers such as `Authorization` for a WebSocket. They can set
//! the query, which ends up in the logs of proxies, so a token in it should be valid for a moment
//! only. A browser sends cookies for pages of every origin, so the origin has to be checked.

mod logger;

use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use wsloop::event::{Handshake, Ready, Utf8};
use wsloop::handshake::Refusal;
use wsloop::{ConnectionId, Server};

/// The number of sessions that may wait for the worker. Input from peers needs a limit.
const LOOKUPS_MAX: usize = 100;

/// The user of a connection.
#[derive(Default)]
struct User(String);

fn main() -> wsloop::Result<()> {
    logger::init();
    let address = env::args().nth(1);
    let (lookups, work) = mpsc::sync_channel::<(ConnectionId, String)>(LOOKUPS_MAX);
    let mut server = Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9011"))
        // Pages of this host, and clients that are not browsers.
        .origins(["self", "none"])
        .on(Handshake, move |conn, upgrade| {
            let request = upgrade.request();
            if let Some(token) = request.query_param("token") {
                return match user_of_token(&token) {
                    Some(name) => {
                        conn.data::<User>().0 = name.to_owned();
                        upgrade.accept()
                    }
                    None => upgrade.refuse(unknown()),
                };
            }
            let Some(session) = request.cookie("session") else {
                return upgrade.refuse(unknown());
            };
            match lookups.try_send((conn.id(), session.to_owned())) {
                Ok(()) => upgrade.defer(),
                Err(_) => upgrade.refuse(503),
            }
        })
        .on(Ready, |conn, ()| {
            let hello = format!("hello {}", conn.data::<User>().0);
            conn.send_utf8(&hello)
        })
        .on(Utf8, |conn, text| {
            let line = format!("{}: {text}", conn.data::<User>().0);
            conn.server().broadcast_utf8(&line)
        })
        .build()?;

    let handle = server.handle();
    thread::spawn(move || {
        for (id, session) in work {
            let user = user_of_session(&session);
            // The client may have left, which is not an error. An error means that the server has
            // ended.
            let answered = handle.answer(id, move |conn, upgrade| match user {
                Some(name) => {
                    conn.data::<User>().0 = name;
                    upgrade.accept()
                }
                None => upgrade.refuse(unknown()),
            });
            if answered.is_err() {
                return;
            }
        }
    });
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}

/// Looks a token up in memory, at once.
fn user_of_token(token: &str) -> Option<&'static str> {
    (token == "a1").then_some("ada")
}

/// Looks a session up in a database, which takes some time.
fn user_of_session(session: &str) -> Option<String> {
    thread::sleep(Duration::from_millis(300));
    (session == "b2").then(|| "bob".to_owned())
}

/// The answer to a client that nobody knows. A 401 names the way to authenticate (RFC 9110,
/// 15.5.2).
fn unknown() -> Refusal {
    Refusal::new(401)
        .header("WWW-Authenticate", "Cookie")
        .body("who are you?\n")
}
