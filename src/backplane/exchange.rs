//! The backplane of the loops of a process.
//!
//! Each loop has a port. A table that all ports share tells which loops want a topic; a port puts
//! messages into their inboxes when its turn ends.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use super::{Backplane, Inbox, Publish, TopicMessage};
use crate::topics::Sequences;

/// What the loops of a process share.
pub(crate) struct Exchange {
    inboxes: Box<[OnceLock<Inbox>]>,
    interest: RwLock<Interest>,
    /// The order of the messages of topics with a history.
    sequences: Arc<Sequences>,
}

/// The numbers of the loops that have subscribers of a topic.
type Interest = HashMap<Arc<str>, Vec<u16>>;

/// The place of a loop in its exchange.
pub(crate) struct Port {
    exchange: Arc<Exchange>,
    number: u16,
    /// Messages of this turn for each loop.
    outgoing: Vec<Vec<TopicMessage>>,
}

impl Exchange {
    /// Creates an exchange for so many loops.
    pub(crate) fn new(loops: u16) -> Arc<Self> {
        Arc::new(Self {
            inboxes: (0..loops).map(|_| OnceLock::new()).collect(),
            interest: RwLock::default(),
            sequences: Arc::default(),
        })
    }

    /// Returns the port of a loop.
    pub(crate) fn port(self: &Arc<Self>, number: u16) -> Port {
        Port {
            exchange: self.clone(),
            number,
            outgoing: vec![Vec::new(); self.inboxes.len()],
        }
    }

    /// Returns how many topics have subscribers, and how many have a sequence.
    #[cfg(test)]
    pub(crate) fn held(&self) -> [usize; 2] {
        [self.interest().len(), self.sequences.len()]
    }

    fn interest(&self) -> RwLockReadGuard<'_, Interest> {
        self.interest.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_interest(&self) -> RwLockWriteGuard<'_, Interest> {
        self.interest
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    pub(crate) fn sequences(&self) -> &Arc<Sequences> {
        &self.exchange.sequences
    }

    /// Puts a message of a topic with a history into the inboxes of all other loops at once, while
    /// the caller has the turn of the topic.
    pub(super) fn publish_in_turn(&self, publish: &mut Publish<'_>, now: Option<Instant>) {
        let exchange = &*self.exchange;
        let interest = exchange.interest();
        let interested = interest.get(publish.topic()).map_or(&[][..], Vec::as_slice);
        let inboxes = exchange.inboxes.iter().enumerate();
        for (number, inbox) in inboxes.filter(|(number, _)| *number != usize::from(self.number)) {
            let Some(inbox) = inbox.get() else {
                continue;
            };
            let message = publish.share().published_at(now);
            match interested.iter().any(|other| usize::from(*other) == number) {
                true => inbox.deliver([message]),
                // It only keeps the message.
                false => inbox.deliver_later(message),
            }
        }
    }
}

impl Backplane for Port {
    fn start(&mut self, inbox: Inbox) -> io::Result<()> {
        let own = self.exchange.inboxes.get(usize::from(self.number));
        let is_new = own.is_some_and(|own| own.set(inbox).is_ok());
        debug_assert!(is_new, "a loop has one port");
        Ok(())
    }

    fn occupied(&mut self, topic: &str) {
        let mut interest = self.exchange.change_interest();
        match interest.get_mut(topic) {
            Some(loops) if loops.contains(&self.number) => {}
            Some(loops) => loops.push(self.number),
            None => _ = interest.insert(topic.into(), vec![self.number]),
        }
    }

    fn vacated(&mut self, topic: &str) {
        let mut interest = self.exchange.change_interest();
        if let Some(loops) = interest.get_mut(topic) {
            loops.retain(|number| *number != self.number);
            if loops.is_empty() {
                interest.remove(topic);
            }
        }
        if interest.capacity() > SHRINK_MIN && interest.len() < interest.capacity() / 4 {
            let room = interest.capacity() / 2;
            interest.shrink_to(room);
        }
    }

    fn publish(&mut self, publish: &mut Publish<'_>) {
        let interest = self.exchange.interest();
        let Some(loops) = interest.get(publish.topic()) else {
            return;
        };
        for number in loops.iter().filter(|number| **number != self.number) {
            self.outgoing[usize::from(*number)].push(publish.share());
        }
    }

    fn flush(&mut self) {
        for (messages, inbox) in self.outgoing.iter_mut().zip(&self.exchange.inboxes) {
            if messages.is_empty() {
                continue;
            }
            match inbox.get() {
                Some(inbox) => inbox.deliver(messages.drain(..)),
                None => messages.clear(),
            }
            messages.shrink_to(OUTGOING_KEPT);
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut interest = self.exchange.change_interest();
        interest.retain(|_, loops| {
            loops.retain(|number| *number != self.number);
            !loops.is_empty()
        });
    }
}

/// The table of interest is shrunk only above this capacity.
const SHRINK_MIN: usize = 1024;

/// How many places for messages of a turn are kept for the next one.
const OUTGOING_KEPT: usize = 1024;
