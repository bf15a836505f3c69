//! Messages from backplanes: for the subscribers of this loop, and for clients that came back.

use super::PeerMut;
use crate::backplane::{Item, Since, TopicMessage};
use crate::connection::core::{Core, NOBODY};
use crate::connection::recoveries::{Answered, Outcome};
use crate::connection::shared::Shared;
use crate::error::SendError;
use crate::protocol::Prepared;
use crate::topics::{Publication, Recovery};

impl Core {
    /// Handles what backplanes have delivered. It calls no handlers.
    pub(crate) fn empty_inbox(&mut self) {
        let Some(mut taken) = self.shared.outlets.take() else {
            return;
        };
        self.shared.stats.inbox_dropped += std::mem::take(&mut taken.dropped);
        for (topic, count) in taken.lost.drain() {
            self.shared.lose(&topic, count);
        }
        if std::mem::take(&mut taken.is_all_lost) {
            self.shared.lose_all();
        }
        for request in taken.unanswered.drain(..) {
            self.recovered(request, None);
        }
        for item in taken.items.drain(..) {
            match item {
                Item::Message(message) => self.relay(&message),
                Item::Position(topic, position) => self.shared.topics.reach(&topic, position),
                Item::Lost(topic, count) => self.shared.lose(&topic, count),
                Item::AllLost => self.shared.lose_all(),
                Item::Recovered(request, messages) => self.recovered(request, messages),
            }
        }
        taken.items.shrink_to(ITEMS_KEPT);
        self.shared.outlets.put_back(taken);
    }

    /// Handles what other loops have published to a topic whose history they share, before it is
    /// used.
    pub(crate) fn catch_up(&mut self, topic: &str) {
        if self.shared.topics.shares_history(topic) {
            // A topic that is created here takes part in the sequence from its last message on,
            // which is in the inbox, so it has to come first.
            self.shared.topics.admit(topic);
            self.empty_inbox();
        }
    }

    /// Sends a message from elsewhere to the subscribers of this loop.
    fn relay(&mut self, message: &TopicMessage) {
        let shared = &mut self.shared;
        shared.stats.backplane_received += 1;
        if message.message().size() > shared.config.limits.max_send_size {
            // As if it had been published here.
            shared.stats.refused_messages += 1;
            return;
        }
        let topic = message.topic();
        if message.position().is_some() {
            shared.topics.admit(topic);
        }
        let publication = shared.publication.get_or_insert_default();
        publication.begin_prepared(message.message());
        if let Some(key) = message.message_key() {
            publication.set_key(key);
        }
        let at = shared.time_of(message.published());
        self.deliver(topic, NOBODY, message.position(), at);
        if let Some(position) = message.position() {
            self.shared.topics.reach(topic, position);
        }
    }

    /// Handles the answer to a request for missed messages; `None` is a gap.
    fn recovered(&mut self, request: u64, messages: Option<Vec<TopicMessage>>) {
        let Some(answered) = self.shared.recoveries.answer(request) else {
            return;
        };
        let Answered {
            slot,
            serial,
            topic,
            held,
        } = answered;
        let Some(mut conn) = self.peer(slot).filter(|conn| conn.peer.serial == serial) else {
            return;
        };
        let mut recovery = Recovery::Gap;
        if let Some(messages) = messages {
            let missed: Vec<Prepared> = messages.iter().map(|one| one.message().clone()).collect();
            if conn.newest_that_fit(&missed).len() == missed.len()
                && missed.iter().all(|one| conn.send_prepared(one).is_ok())
            {
                recovery = Recovery::Recovered(missed.len());
            }
        }
        conn.send_held(&held);
        conn.shared.stats.count_recovery(recovery);
        conn.shared.recoveries.tell(Outcome {
            slot,
            serial,
            topic,
            recovery,
        });
    }
}

impl Shared {
    /// Tells backplanes of the first subscriber of a topic.
    #[cold]
    #[inline(never)]
    pub(super) fn announce(&mut self, topic: &str) {
        if self.topics.announce(topic) {
            self.outlets.occupied(topic);
        }
    }

    /// Notes that messages of a topic were lost, if it has subscribers.
    fn lose(&mut self, topic: &str, count: Option<u64>) {
        self.stats.backplane_lost += count.unwrap_or(1);
        if !self.topics.members(topic).is_empty() {
            self.outlets.lose(topic, count);
        }
    }

    /// Notes that messages of all topics may have been lost.
    fn lose_all(&mut self) {
        let Self {
            topics, outlets, ..
        } = self;
        for (topic, _) in topics.all() {
            outlets.lose(topic, None);
        }
    }
}

impl PeerMut<'_> {
    /// Asks the backplane that keeps the histories for the messages that the connection missed.
    /// Returns whether there is one, and the answer comes later.
    pub(super) fn ask_for_missed(&mut self, topic: &str, since: Since) -> bool {
        let Some(history) = self.shared.topics.remote_history(topic) else {
            return false;
        };
        let request = self.shared.outlets.recover(topic, since, history);
        if let Some(request) = request {
            let (slot, serial) = (self.slot, self.peer.serial);
            self.shared.recoveries.wait(request, slot, serial, topic);
        }
        request.is_some()
    }

    /// Holds a message back until the messages that the connection missed have come; returns false
    /// if the connection does not wait for any.
    #[cold]
    #[inline(never)]
    pub(super) fn hold(&mut self, topic: &str, message: &mut Publication) -> bool {
        let Some(held) = self.shared.recoveries.held(self.slot, topic) else {
            return false;
        };
        let size = message.plain().bytes().len();
        if held + size > self.shared.config.limits.max_backlog / 2
            || !self.shared.budget.has_room(size)
        {
            // The answer is too late: newer messages must not be lost for older ones.
            self.end_recovery(topic);
            let recovery = Recovery::Gap;
            self.shared.stats.count_recovery(recovery);
            self.shared.recoveries.tell(Outcome {
                slot: self.slot,
                serial: self.peer.serial,
                topic: topic.into(),
                recovery,
            });
            return false;
        }
        self.shared
            .recoveries
            .hold(self.slot, topic, message.prepare());
        true
    }

    /// Sends messages that were held back for a recovery.
    pub(super) fn send_held(&mut self, held: &[Prepared]) {
        for message in held {
            match self.send_prepared(message) {
                Ok(_) | Err(SendError::Dropped) => {}
                // It was counted as refused, and the connection is treated by its policy.
                Err(_) => break,
            }
        }
    }

    /// Ends the wait for a recovery, if there is one, and sends what was held for it.
    #[cold]
    #[inline(never)]
    pub(super) fn end_recovery(&mut self, topic: &str) {
        let held = self.shared.recoveries.cancel(self.slot, topic);
        self.send_held(&held);
    }
}

/// How many places of the inbox are kept for the next turn.
const ITEMS_KEPT: usize = 4096;
