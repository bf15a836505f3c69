//! Connections that wait for the messages that they missed, from a backplane that keeps the
//! histories of topics. Newer messages of the topic are held until the answer comes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::backplane::Since;
use crate::protocol::Prepared;
use crate::topics::{Position, Recovery};

#[derive(Default)]
pub(crate) struct Recoveries {
    /// The connections that wait, by topic.
    waiting: HashMap<Box<str>, Vec<Waiting>>,
    /// The topic of each request.
    requests: HashMap<u64, Box<str>>,
    /// Outcomes that no handler has been told yet.
    told: VecDeque<Outcome>,
    /// Bytes of all held frames.
    bytes: usize,
}

struct Waiting {
    request: u64,
    slot: usize,
    serial: u64,
    since: Since,
    held: Vec<Held>,
    /// Bytes of the held frames.
    bytes: usize,
}

/// A message that was held.
pub(crate) struct Held {
    pub(crate) message: Prepared,
    pub(crate) key: Option<Arc<[u8]>>,
    /// Its position in the history, unless this loop has published it.
    pub(crate) position: Option<Position>,
}

/// The end of a recovery.
pub(crate) struct Outcome {
    pub(crate) slot: usize,
    pub(crate) serial: u64,
    pub(crate) topic: Box<str>,
    pub(crate) recovery: Recovery,
}

/// A connection whose answer has come, and the newer messages that were held.
pub(crate) struct Answered {
    pub(crate) slot: usize,
    pub(crate) serial: u64,
    pub(crate) topic: Box<str>,
    pub(crate) since: Since,
    pub(crate) held: Vec<Held>,
}

impl Recoveries {
    /// Returns whether a connection waits for messages of this topic.
    #[inline(always)]
    pub(crate) fn waits_for(&self, topic: &str) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(topic)
    }

    /// Notes that a connection waits for the answer to a request.
    pub(crate) fn wait(
        &mut self,
        request: u64,
        slot: usize,
        serial: u64,
        topic: &str,
        since: Since,
    ) {
        self.requests.insert(request, topic.into());
        let waiting = self.waiting.entry(topic.into()).or_default();
        waiting.push(Waiting {
            request,
            slot,
            serial,
            since,
            held: Vec::new(),
            bytes: 0,
        });
    }

    /// Returns how many bytes are held for a connection; `None` if it does not wait for this topic.
    pub(crate) fn held(&self, slot: usize, topic: &str) -> Option<usize> {
        let waiting = self.waiting.get(topic)?;
        let own = waiting.iter().find(|waiting| waiting.slot == slot)?;
        Some(own.bytes)
    }

    /// Holds a message for a connection that waits.
    pub(crate) fn hold(&mut self, slot: usize, topic: &str, held: Held) {
        let waiting = self.waiting.get_mut(topic);
        let own = waiting.and_then(|all| all.iter_mut().find(|waiting| waiting.slot == slot));
        if let Some(own) = own {
            let size = held.message.frame().len();
            own.bytes += size;
            self.bytes += size;
            own.held.push(held);
        }
    }

    /// Ends the wait of a connection before the answer; returns the messages that were held.
    pub(crate) fn cancel(&mut self, slot: usize, topic: &str) -> Vec<Held> {
        let Some(waiting) = self.waiting.get_mut(topic) else {
            return Vec::new();
        };
        let Some(at) = waiting.iter().position(|waiting| waiting.slot == slot) else {
            return Vec::new();
        };
        let own = waiting.swap_remove(at);
        if waiting.is_empty() {
            self.waiting.remove(topic);
        }
        self.requests.remove(&own.request);
        self.bytes -= own.bytes;
        own.held
    }

    /// Forgets a connection that has ended.
    pub(crate) fn forget(&mut self, slot: usize) {
        let Self {
            requests, bytes, ..
        } = self;
        self.waiting.retain(|_, waiting| {
            waiting.retain(|one| {
                let stays = one.slot != slot;
                if !stays {
                    requests.remove(&one.request);
                    *bytes -= one.bytes;
                }
                stays
            });
            !waiting.is_empty()
        });
    }

    /// Takes the answer to a request; `None` if nobody waits for it any more.
    pub(crate) fn answer(&mut self, request: u64) -> Option<Answered> {
        let topic = self.requests.remove(&request)?;
        let waiting = self.waiting.get_mut(&topic)?;
        let at = waiting
            .iter()
            .position(|waiting| waiting.request == request)?;
        let Waiting {
            slot,
            serial,
            since,
            held,
            bytes,
            ..
        } = waiting.swap_remove(at);
        self.bytes -= bytes;
        if waiting.is_empty() {
            self.waiting.remove(&topic);
        }
        Some(Answered {
            slot,
            serial,
            topic,
            since,
            held,
        })
    }

    /// Returns how many bytes of messages are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether no connection waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notes an outcome, which the connection's handler is told at the end of the turn.
    pub(crate) fn tell(&mut self, outcome: Outcome) {
        self.told.push_back(outcome);
    }

    pub(crate) fn has_outcomes(&self) -> bool {
        !self.told.is_empty()
    }

    /// Returns how many outcomes handlers have to be told.
    pub(crate) fn outcomes(&self) -> usize {
        self.told.len()
    }

    /// Returns the next outcome that a handler has to be told.
    pub(crate) fn next_outcome(&mut self) -> Option<Outcome> {
        self.told.pop_front()
    }

    /// Forgets the outcome of a recovery whose connection has unsubscribed, so that it is not taken
    /// for that of the next subscription.
    pub(crate) fn forget_outcome(&mut self, slot: usize, topic: &str) {
        self.told
            .retain(|told| told.slot != slot || *told.topic != *topic);
    }
}
