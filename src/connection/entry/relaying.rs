//! Messages from backplanes: for the subscribers of this loop, and for clients that came back.

use super::PeerMut;
use super::publishing::Delivery;
use crate::backplane::{Item, Since, TopicMessage};
use crate::connection::core::{Core, NOBODY};
use crate::connection::recoveries::{Answered, Held, Outcome};
use crate::connection::shared::Shared;
use crate::protocol::Prepared;
use crate::topics::{Position, Publication, Recovery, Rules};

impl Core {
    /// Handles what backplanes have delivered. It calls no handlers.
    pub(crate) fn empty_inbox(&mut self) {
        let Some(mut taken) = self.shared.outlets.take() else {
            return;
        };
        self.shared.stats.inbox_dropped += std::mem::take(&mut taken.dropped);
        while let Some(topic) = taken.incomplete.pop_first() {
            self.shared.topics.forget_history(&topic);
        }
        while let Some((topic, count)) = taken.lost.pop_first() {
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

    /// Handles the messages of other loops to a topic whose history they share, before the topic is
    /// used. Messages that wait for a loop without subscribers may be old.
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
            shared.stats.refused_messages += 1;
            shared.topics.forget_history(message.topic());
            return shared.lose(message.topic(), Some(1));
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
            since,
            mut held,
        } = answered;
        let Some(mut conn) = self.peer(slot).filter(|conn| conn.peer.serial == serial) else {
            return;
        };
        let sent = messages.and_then(|messages| conn.send_missed(since, &messages, &mut held));
        let recovery = sent.map_or(Recovery::Gap, Recovery::Recovered);
        conn.send_held(&topic, held);
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
            self.shared
                .recoveries
                .wait(request, slot, serial, topic, since);
        }
        request.is_some()
    }

    /// Sends a client the messages that it missed; returns how many, or `None` if it has to be sent
    /// none. What was held and is one of them is removed from `held`.
    fn send_missed(
        &mut self,
        since: Since,
        messages: &[TopicMessage],
        held: &mut Vec<Held>,
    ) -> Option<usize> {
        let missed: Vec<Prepared> = messages.iter().map(|one| one.message().clone()).collect();
        let first = missed.len() - self.newest_that_fit(&missed).len();
        let last = messages.last().and_then(TopicMessage::position);
        let last = match since {
            Since::Position(_) if first > 0 => return None,
            Since::Position(position) => last.or(Some(position)),
            Since::Recent(_) => last,
        };
        // Messages that arrived after the request may be among the missed ones.
        let is_up_to = |held: &Held, last: Option<Position>| {
            held.position.zip(last).is_some_and(|(position, last)| {
                position.epoch() == last.epoch() && position.offset() <= last.offset()
            })
        };
        if let Since::Recent(_) = since {
            let oldest = messages.get(first).and_then(TopicMessage::position);
            let is_older = |held: &Held| {
                let is_sent = held.position.zip(oldest).is_some_and(|(position, oldest)| {
                    position.epoch() == oldest.epoch() && position.offset() >= oldest.offset()
                });
                is_up_to(held, last) && !is_sent
            };
            if held.iter().any(is_older) {
                // Nothing that was held is lost for older messages.
                return Some(0);
            }
        }
        held.retain(|held| !is_up_to(held, last));
        let missed = missed.get(first..).unwrap_or_default();
        let are_sent = missed.iter().all(|one| self.send_prepared(one).is_ok());
        are_sent.then_some(missed.len())
    }

    /// Holds a message back until the messages that the connection missed have come; `None` if the
    /// connection does not wait for any. `position` is that of a message from elsewhere.
    #[cold]
    #[inline(never)]
    pub(super) fn hold(
        &mut self,
        topic: &str,
        message: &mut Publication,
        position: Option<Position>,
        rules: &Rules,
    ) -> Option<Delivery> {
        let held = self.shared.recoveries.held(self.slot, topic)?;
        let size = message.plain().bytes().len();
        if held + size > self.shared.config.limits.max_backlog / 2
            || !self.shared.budget.has_room(size)
        {
            // The answer is too late: newer messages must not be lost for older ones.
            let held = self.shared.recoveries.cancel(self.slot, topic);
            let recovery = Recovery::Gap;
            self.shared.stats.count_recovery(recovery);
            self.shared.recoveries.tell(Outcome {
                slot: self.slot,
                serial: self.peer.serial,
                topic: topic.into(),
                recovery,
            });
            return match self.deliver_held(held, rules) {
                true => None,
                false => Some(Delivery::Close),
            };
        }
        let held = Held {
            message: message.prepare(),
            key: message.key().cloned(),
            position,
        };
        self.shared.recoveries.hold(self.slot, topic, held);
        Some(Delivery::Queued)
    }

    /// Sends messages that were held, as if they were published now. Returns false if the
    /// connection has to be closed.
    fn deliver_held(&mut self, held: Vec<Held>, rules: &Rules) -> bool {
        let mut message = Publication::default();
        for held in held {
            message.begin_prepared(&held.message);
            if let Some(key) = &held.key {
                message.set_key(key);
            }
            if self.deliver(&mut message, rules) == Delivery::Close {
                return false;
            }
            message.clear();
        }
        true
    }

    /// Sends messages of a topic that were held, and closes the connection if its policy says so.
    fn send_held(&mut self, topic: &str, held: Vec<Held>) {
        let rules = self.shared.topics.rules(topic);
        if !self.deliver_held(held, &rules) {
            let (queued, limit) = (self.peer.backlog(), self.shared.config.limits.max_backlog);
            // It is reported by the connection's events.
            let _ = self.close_slow(queued, limit);
        }
    }

    /// Ends the wait for a recovery, if there is one, and sends what was held for it.
    #[cold]
    #[inline(never)]
    pub(super) fn end_recovery(&mut self, topic: &str) {
        let held = self.shared.recoveries.cancel(self.slot, topic);
        self.send_held(topic, held);
    }
}

/// How many places of the inbox are kept for the next turn.
const ITEMS_KEPT: usize = 4096;
