//! Broadcasts the time every second, and answers questions on another thread.
//!
//! ```text
//! cargo run --release --example tick [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9003` unless given. To try it, open the console of a browser:
//!
//! ```text
//! ws = new WebSocket("ws://127.0.0.1:9003/")
//! ws.onmessage = event => console.log(event.data)
//! ws.send("hello")
//! ```
//!
//! A handler must not block, because all clients would wait for it. Texts go to a worker thread,
//! which may take its time and replies through a [`Handle`](wsloop::Handle). Meanwhile the clock
//! continues.

mod logger;
mod signals;

use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use wsloop::event::{Tick, Utf8};
use wsloop::{ConnectionId, Sent, Server};

/// The number of questions that may wait for the worker. Input from peers needs a limit.
const QUESTIONS_MAX: usize = 100;

fn main() -> wsloop::Result<()> {
    logger::init();
    let address = env::args().nth(1);
    let (questions, work) = mpsc::sync_channel::<(ConnectionId, String)>(QUESTIONS_MAX);
    let mut server = Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9003"))
        .tick_period(Duration::from_secs(1))
        .max_recv_size(1000)
        .on(Tick, |hub, _| hub.broadcast_utf8(&clock()))
        .on(Utf8, move |conn, text| {
            match questions.try_send((conn.id(), text.to_owned())) {
                Ok(()) => Ok(Sent::NOTHING),
                Err(_) => conn.send_utf8("too many questions, try again later"),
            }
        })
        .build()?;

    let handle = server.handle();
    thread::spawn(move || {
        for (id, question) in work {
            thread::sleep(Duration::from_millis(300)); // a database, a disk, a long computation
            let answer = format!("about {question:?} I know nothing");
            // The client may have disconnected, which is not an error. An error means that the
            // server has ended.
            if handle.send_utf8(id, &answer).is_err() {
                return;
            }
        }
    });

    signals::wind_down_on_signals(server.handle())?;
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}

/// Returns the time of day in UTC.
fn clock() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02} UTC", seconds % 60)
}
