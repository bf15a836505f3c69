//! Another thread of the server's program, which sends through a `Handle`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wsloop::{ConnectionId, Handle, SendError};

use super::Flavour;
use super::desk::push;
use super::tally::{self, Tally};
use crate::message::{Message, Name};
use crate::topics::{Head, THREAD, TOPICS};

/// Sends until the server has ended.
pub(super) fn run(flavour: Flavour, handle: &Handle, active: &AtomicBool) {
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut ids, mut looked, mut news) = (Vec::new(), Instant::now(), 0);
    let (mut turn, mut published) = (0_u64, 0);
    loop {
        thread::sleep(PAUSE);
        turn += 1;
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            // The server may have ended in the meantime.
            let answer = handle.ask(|hub| hub.ids()).ok();
            let Some(found) = answer.and_then(|answer| answer.recv().ok()) else {
                return;
            };
            ids = found;
        }
        if ids.is_empty() || !active.load(Ordering::Relaxed) {
            continue;
        }
        let id = ids[rng.usize(..ids.len())];
        let sent = match flavour {
            Flavour::Shared => handle.run(move |hub| {
                if let Some(mut conn) = hub.get(id) {
                    push(&mut conn, &mut Vec::new());
                }
            }),
            Flavour::Dedicated => {
                news += 1;
                send(handle, news, turn.is_multiple_of(BROADCAST_TURNS), id)
            }
        };
        if sent.is_err() {
            return;
        }
        if turn.is_multiple_of(PUBLISH_TURNS) {
            published += 1;
            if publish(handle, published).is_err() {
                return;
            }
        }
    }
}

/// Sends news to one client or to all, with each of the methods in turn.
fn send(handle: &Handle, number: u64, to_all: bool, id: ConnectionId) -> Result<(), SendError> {
    let message = Message::of(Name::News { number });
    let mut payload = Vec::new();
    message.write(&mut payload);
    let text = String::from_utf8(payload.clone()).ok();
    let text = text.filter(|_| message.is_text());
    // Messages that a slow or closed connection does not get are not counted either.
    match (to_all, text) {
        (false, Some(text)) => handle.send_utf8(id, &text),
        (false, None) => handle.send_binary(id, &payload),
        (true, Some(text)) if number.is_multiple_of(2) => handle.broadcast_utf8(&text),
        (true, None) if number.is_multiple_of(2) => handle.broadcast_binary(&payload),
        (true, Some(text)) => handle.run(move |hub| _ = hub.broadcast_utf8(&text)),
        (true, None) => handle.run(move |hub| _ = hub.broadcast_binary(&payload)),
    }
}

/// Publishes a message, and has the server count its outcome. No other message is published by a
/// thread in between.
fn publish(handle: &Handle, number: u64) -> Result<(), SendError> {
    let head = Head {
        topic: THREAD as u8,
        key: 0,
        epoch: 0,
        number,
    };
    handle.publish(TOPICS[THREAD].name, tally::message(&head, &mut Vec::new()))?;
    handle.run(|hub| {
        let stats = hub.stats();
        hub.shared::<Tally>().count_from_thread(&stats);
    })
}

const PAUSE: Duration = Duration::from_millis(47);

/// How often the list of connections is updated.
const LOOK: Duration = Duration::from_secs(1);

/// Messages to one client per message to all; odd, so that each way to broadcast has its turn.
const BROADCAST_TURNS: u64 = 101;

const PUBLISH_TURNS: u64 = 4;
