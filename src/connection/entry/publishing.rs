//! Publishing to topics: one message for all subscribers, and the policy of its topic for those who
//! read too slowly.

use std::time::Duration;

use super::PeerMut;
use crate::backplane::Since;
use crate::connection::core::Core;
use crate::connection::send::{COPY_MAX, Kind, Replaced, Tag, room_before};
use crate::connection::shared::Shared;
use crate::connection::timers::Action;
use crate::error::SendError;
use crate::limits::SlowConsumer;
use crate::protocol::Prepared;
use crate::topics::{
    Added, Form, ListId, Missed, Next, Position, Publication, Published, Recovery, Rules, Walk,
};

/// What became of a message for one subscriber.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Delivery {
    Queued,
    /// It took the place of an older one.
    Conflated,
    Dropped,
    Refused,
    /// It was refused, and the connection is to be closed.
    Close,
}

impl Core {
    /// Begins a publish to a topic: returns the position that the message gets in its history.
    pub(crate) fn begin_publish(&mut self, topic: &str) -> Result<Next, SendError> {
        // Other loops wait while this one has the turn, so most of the work is done before it.
        self.catch_up(topic);
        let next = self.shared.topics.next_position(topic);
        let next = next.inspect_err(|error| self.shared.stats.count_topic_refusal(error))?;
        if next.turn.is_some() {
            // What other loops have published before comes first.
            self.empty_inbox();
        }
        Ok(next)
    }

    /// Publishes the message in `shared.publication` to all subscribers of a topic but `except`,
    /// on this loop and others.
    ///
    /// [`begin_publish`](Self::begin_publish) comes before the message is put there.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        except: usize,
        next: Next,
    ) -> Result<Published, SendError> {
        let shared = &mut self.shared;
        let limit = shared.config.limits.max_send_size;
        let now = shared.instant();
        let message = shared.publication.get_or_insert_default();
        let size = message.size();
        if size > limit {
            message.clear();
            return Err(SendError::TooBig { size, limit });
        }
        if shared.outlets.is_on() {
            let own = next.turn.as_ref().and(next.position);
            shared
                .outlets
                .publish(topic, message, own, next.history, now);
            shared.stats.backplane_sent += 1;
        }
        let Next { position, turn, .. } = next;
        if let Some(turn) = turn {
            turn.publish();
        }
        // A backplane that keeps the history gives the message its position later.
        let is_kept_here = !self.shared.outlets.keeps_history();
        let (own, now) = (position.filter(|_| is_kept_here), self.shared.now);
        let published = self.deliver(topic, except, own, now);
        Ok(Published {
            position,
            ..published
        })
    }

    /// Sends the message in `shared.publication` to the subscribers of this loop, and keeps it if
    /// the topic has a history here. It was published at the time `at`.
    pub(super) fn deliver(
        &mut self,
        topic: &str,
        except: usize,
        position: Option<Position>,
        at: Duration,
    ) -> Published {
        let Self { peers, shared } = self;
        let mut message = shared.publication.take().unwrap_or_default();
        let mut published = Published {
            position,
            ..Published::default()
        };
        let before = shared.stats.bytes_out;
        if let Some(walk) = shared.topics.begin(topic) {
            if let Some(position) = position.filter(|_| shared.topics.keeps(&walk)) {
                shared.keep(&walk, &mut message, position, at);
            }
            let mut slow = Vec::new();
            let is_waited_for = shared.recoveries.waits_for(topic);
            for member in &walk.members {
                let slot = member.slot as usize;
                if slot == except {
                    continue;
                }
                let Some(peer) = peers.get_mut(slot) else {
                    debug_assert!(false, "a connection leaves its topics when it ends");
                    continue;
                };
                let mut conn = PeerMut { peer, shared, slot };
                let mut held = None;
                if is_waited_for {
                    held = conn.hold(topic, &mut message, position, &walk.rules);
                }
                let delivery = held.unwrap_or_else(|| conn.deliver(&mut message, &walk.rules));
                if delivery == Delivery::Close {
                    slow.push(slot);
                }
                published.count(delivery);
            }
            shared.topics.end(walk);
            published.bytes = (shared.stats.bytes_out - before) as usize;
            shared.stats.count_published(&published);
            for slot in slow {
                // Closing removes the connection from the topic, so it waited until here.
                let queued = self.peers.get(slot).map_or(0, |peer| peer.backlog());
                if let Some(mut conn) = self.peer(slot) {
                    // It is reported by the connection's events.
                    let limit = conn.shared.config.limits.max_backlog;
                    let _ = conn.close_slow(queued, limit);
                }
            }
        }
        message.clear();
        self.shared.publication = Some(message);
        published
    }
}

impl Published {
    fn count(&mut self, delivery: Delivery) {
        self.receivers += 1;
        match delivery {
            Delivery::Queued => self.queued += 1,
            Delivery::Conflated => self.conflated += 1,
            Delivery::Dropped => self.dropped += 1,
            Delivery::Refused | Delivery::Close => self.refused += 1,
        }
    }
}

impl Shared {
    /// Keeps a message in the history of its topic, if there is memory for it.
    fn keep(&mut self, walk: &Walk, message: &mut Publication, position: Position, at: Duration) {
        if !self.budget.has_room(message.size()) {
            self.topics.skip(walk, position);
        } else {
            let message = message.prepare();
            if let Some(due) = self.topics.keep(walk, message, position, at) {
                self.timers.set(due, Action::Expire(due));
            }
        }
        self.charge_topics();
    }

    /// Records the memory of topics. Memory that is freed is deducted at the end of the turn.
    #[inline(always)]
    pub(crate) fn charge_topics(&mut self) {
        if self.budget.is_on() {
            let held = self.topics.held() + self.recoveries.bytes();
            self.budget.charge_topics(held);
        }
    }
}

impl PeerMut<'_> {
    /// Sends a published message to this subscriber.
    pub(super) fn deliver(&mut self, message: &mut Publication, rules: &Rules) -> Delivery {
        if message.size() > self.peer.max_send_size() || !self.peer.takes_messages() {
            self.shared.stats.refused_messages += 1;
            return Delivery::Refused;
        }
        // Fast path: another connection, whose queue is short and will be offered to the kernel
        // when the turn ends.
        let can_wait = !self.is_current()
            && self.peer.is_held_back()
            && !self.is_long()
            && !self.shared.budget.is_on();
        if can_wait {
            let form = self.form(message);
            let size = form.bytes().len();
            let (bytes, place) = form.placed();
            if !self.peer.enqueue_logged(bytes, place) {
                self.peer.enqueue_form(form, rules.slow_consumer.is_none());
            }
            self.mark_dirty();
            self.count_sent(true, size);
            return Delivery::Queued;
        }
        self.deliver_slow(message, rules)
    }

    /// Returns whether so much is queued that it is offered to the kernel before the turn ends.
    fn is_long(&self) -> bool {
        self.peer.backlog() > EARLY_FLUSH.min(self.shared.config.limits.max_backlog / 2)
    }

    fn deliver_slow(&mut self, message: &mut Publication, rules: &Rules) -> Delivery {
        let form = self.form(message);
        let size = form.bytes().len();
        if self.reply(&[form.bytes()]) {
            self.mark_dirty();
            self.count_sent(true, size);
            return Delivery::Queued;
        }
        if self.peer.is_held_back() && self.is_long() {
            // The rest is not replaced or dropped, so it should be little.
            self.flush_early();
        }
        let is_full = !self.peer.is_held_back();
        let policy = rules
            .slow_consumer
            .unwrap_or_else(|| self.peer.slow_consumer());
        let tag = match policy {
            SlowConsumer::Conflate if is_full => {
                let key = message.key();
                key.map(|key| Tag::Key(rules.serial, key.clone()))
            }
            SlowConsumer::DropOldest if is_full && rules.slow_consumer.is_some() => {
                Some(Tag::Topic(rules.serial))
            }
            _ => None,
        };
        if let Some(Tag::Key(serial, key)) = &tag {
            // A compressed message may take the place of one that is not: what is compressed later
            // must not refer to data before it, because the distance in the peer's window changes.
            if let Some(deflate) = self.peer.deflate_mut() {
                deflate.forget();
            }
            let limit = self.shared.config.limits.max_backlog;
            let room = match self.shared.budget.has_room(size) {
                true => room_before(size, Kind::Message, limit),
                false => 0,
            };
            let frame = self.form(message).share();
            match self.peer.replace(*serial, key, frame, room) {
                Replaced::At(old) => {
                    self.count_sent(false, size.saturating_sub(old.len()));
                    if self.shared.budget.is_on() {
                        // It is measured when the turn ends.
                        self.mark_dirty();
                    }
                    return Delivery::Conflated;
                }
                Replaced::NoRoom => {
                    self.shared.stats.dropped_messages += 1;
                    return Delivery::Dropped;
                }
                Replaced::Nothing => {}
            }
        }
        let form = self.form(message);
        let delivery = self.queue_published(form, policy, rules, tag);
        let stats = &mut self.shared.stats;
        match delivery {
            Delivery::Queued => {
                self.count_sent(true, size);
                if !is_full || self.shared.budget.is_on() {
                    self.mark_dirty();
                }
            }
            Delivery::Dropped => stats.dropped_messages += 1,
            Delivery::Refused | Delivery::Close => stats.refused_messages += 1,
            Delivery::Conflated => {}
        }
        delivery
    }

    /// Queues a published message, as far as `max_backlog` and `memory_budget` allow.
    fn queue_published(
        &mut self,
        form: &mut Form,
        policy: SlowConsumer,
        rules: &Rules,
        tag: Option<Tag>,
    ) -> Delivery {
        let size = form.bytes().len();
        let has_room = match size <= COPY_MAX {
            true => self.shared.budget.has_room(size),
            false => self.shared.budget.has_room_for(form.share()),
        };
        if !has_room {
            let Ok(rest) = self.offer(&[form.bytes()], size) else {
                return Delivery::Refused;
            };
            if rest > 0 {
                let frame = form.share();
                self.peer.keep_shared_rest(frame, size - rest);
                self.shared.budget.queue_shared(frame);
            }
            return Delivery::Queued;
        }
        let limit = self.shared.config.limits.max_backlog;
        let room = room_before(size, Kind::Message, limit);
        let dropped = match (rules.slow_consumer, policy) {
            (Some(SlowConsumer::DropOldest), _) => {
                let dropped = self.peer.drop_topic_above(rules.serial, room);
                self.shared.stats.evicted += dropped;
                dropped
            }
            (_, SlowConsumer::DropOldest) => self.peer.drop_above(room),
            _ => 0,
        };
        self.shared.stats.dropped_messages += dropped;
        if dropped > 0 && self.peer.is_awaited() {
            // The callbacks of dropped messages are due.
            self.mark_dirty();
        }
        if self.peer.weight() > room {
            return match policy {
                SlowConsumer::Error => Delivery::Refused,
                SlowConsumer::Close => Delivery::Close,
                _ => Delivery::Dropped,
            };
        }
        match tag {
            Some(tag) => {
                self.peer.enqueue_tagged(form.share(), tag);
                self.shared.budget.queue_shared(form.share());
            }
            None => {
                self.peer.enqueue_form(form, rules.slow_consumer.is_none());
                match size <= COPY_MAX {
                    true => self.shared.budget.queue(size),
                    false => self.shared.budget.queue_shared(form.share()),
                }
            }
        }
        Delivery::Queued
    }

    /// Returns the frame for this connection: compressed, if that was agreed on and is wanted.
    fn form<'m>(&mut self, message: &'m mut Publication) -> &'m mut Form {
        match self.peer.deflate_mut() {
            Some(deflate) if self.shared.compressors.wants_publication(message) => {
                deflate.compress_publication(&mut self.shared.compressors, message)
            }
            _ => message.plain(),
        }
    }

    /// Subscribes the connection to a topic; returns whether it was not subscribed before.
    #[inline(always)]
    pub(crate) fn subscribe(&mut self, topic: &str) -> Result<bool, SendError> {
        self.check_open()?;
        if self.peer.is_cut() {
            return Err(SendError::Closing);
        }
        let Self { peer, shared, slot } = self;
        match shared.topics.subscribe(&mut peer.topics, *slot, topic) {
            Added::New(policy) => {
                shared.stats.subscribes += 1;
                if shared.outlets.is_on() {
                    shared.announce(topic);
                }
                if policy.unwrap_or_else(|| peer.slow_consumer()) == SlowConsumer::Conflate {
                    self.limit_unsent();
                }
                self.shared.charge_topics();
                Ok(true)
            }
            Added::Known => Ok(false),
            Added::Refused(full) => {
                let error = shared.topics.error(full, topic);
                shared.stats.count_topic_refusal(&error);
                Err(error)
            }
        }
    }

    /// Sets the policy of the connection for messages beyond `max_backlog`.
    pub(crate) fn set_slow_consumer(&mut self, policy: SlowConsumer) {
        self.peer.set_slow_consumer(policy);
        if policy == SlowConsumer::Conflate && self.peer.topics != ListId::NONE {
            self.limit_unsent();
        }
    }

    /// Limits the unsent data that the kernel takes for a subscriber of a topic that conflates.
    #[inline(never)]
    fn limit_unsent(&mut self) {
        let lowat = match self.shared.config.notsent_lowat {
            0 => NOTSENT_LOWAT,
            lowat => lowat,
        };
        self.peer.limit_unsent(lowat);
    }

    /// Removes the connection from a topic; returns whether it was subscribed.
    pub(crate) fn unsubscribe(&mut self, topic: &str) -> bool {
        let left = self.shared.topics.unsubscribe(self.peer.topics, topic);
        if left.is_some() && !self.shared.recoveries.is_empty() {
            self.end_recovery(topic);
        }
        if left.is_some() && self.shared.recoveries.has_outcomes() {
            self.shared.recoveries.forget_outcome(self.slot, topic);
        }
        if let Some(serial) = left {
            self.shared.stats.unsubscribes += 1;
            // A later subscription must not put newer messages in front of what is sent until then.
            self.peer.fix_topic(serial);
        }
        left.is_some()
    }

    /// Subscribes the connection, and sends it what was published after `position`.
    pub(crate) fn subscribe_from(
        &mut self,
        topic: &str,
        position: Position,
    ) -> Result<Recovery, SendError> {
        let is_new = self.subscribe(topic)?;
        if is_new && self.ask_for_missed(topic, Since::Position(position)) {
            return Ok(Recovery::Pending);
        }
        let recovery = match self.missed(topic, position) {
            Some(missed) if is_new => {
                for message in &missed {
                    self.send_prepared(message)?;
                }
                Recovery::Recovered(missed.len())
            }
            _ => Recovery::Gap,
        };
        self.shared.stats.count_recovery(recovery);
        Ok(recovery)
    }

    /// Subscribes the connection, and sends it the newest kept messages: at most `most`, and as
    /// many as fit. Returns how many. One that was subscribed already is sent none.
    pub(crate) fn subscribe_recent(
        &mut self,
        topic: &str,
        most: usize,
    ) -> Result<usize, SendError> {
        if !self.subscribe(topic)? || self.ask_for_missed(topic, Since::Recent(most)) {
            return Ok(0);
        }
        let now = self.shared.now;
        let Some(recent) = self.shared.topics.recent(topic, most, now) else {
            return Ok(0);
        };
        let recent: Vec<Prepared> = recent.cloned().collect();
        let recent = self.newest_that_fit(&recent);
        for message in recent {
            self.send_prepared(message)?;
        }
        Ok(recent.len())
    }

    /// Returns the messages that were published after `position`, if all of them are kept and can
    /// be sent.
    fn missed(&mut self, topic: &str, position: Position) -> Option<Vec<Prepared>> {
        let now = self.shared.now;
        let missed: Missed<'_> = self.shared.topics.missed(topic, position, now)?;
        let missed: Vec<Prepared> = missed.cloned().collect();
        (self.newest_that_fit(&missed).len() == missed.len()).then_some(missed)
    }

    /// Returns the newest of these kept messages, as many as can be sent: they have to fit into
    /// half of the backlog.
    pub(super) fn newest_that_fit<'m>(&mut self, messages: &'m [Prepared]) -> &'m [Prepared] {
        if !self.peer.takes_messages() {
            return &[];
        }
        let room = self.shared.config.limits.max_backlog / 2;
        let size: usize = messages.iter().map(|message| message.frame().len()).sum();
        if self.unsent().saturating_add(size) > room && self.peer.is_held_back() {
            self.release_replies();
            self.flush_early();
        }
        let limit = self.peer.max_send_size();
        let mut left = room.saturating_sub(self.unsent());
        let fits = messages.iter().rev().take_while(|message| {
            let size = message.frame().len();
            let fits = size <= left && message.size() <= limit;
            left -= if fits { size } else { 0 };
            fits
        });
        let mut count = fits.count();
        loop {
            let newest = messages.get(messages.len() - count..).unwrap_or_default();
            let frames = newest.iter().map(Prepared::frame);
            if count == 0 || self.shared.budget.has_room_for_all(frames) {
                return newest;
            }
            count /= 2;
        }
    }

    /// Removes the connection, which is not open any more, from its topics.
    pub(super) fn leave_topics(&mut self) {
        if self.peer.topics != ListId::NONE {
            self.shared.topics.leave_all(self.peer.topics);
            if !self.shared.recoveries.is_empty() {
                self.shared.recoveries.forget(self.slot);
            }
        }
    }
}

/// How much unsent data the kernel takes for a subscriber of a topic that conflates, in bytes: what
/// it has taken cannot be replaced.
const NOTSENT_LOWAT: u32 = 16 << 10;

/// How much may be queued in a turn for a subscriber before it is offered to the kernel, in bytes.
const EARLY_FLUSH: usize = 64 << 10;
