//! Topics: names that connections subscribe to and that messages are published to.
//!
//! This module knows connections by their slots and messages by their frames. It neither sends nor
//! calls handlers.

mod history;
mod list;
mod publication;
mod published;
mod sequence;
mod settings;
#[cfg(test)]
mod tests;
mod turn_log;

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use self::history::History;
pub(crate) use self::history::Missed;
pub use self::history::{BadPosition, Position, Recovery};
use self::list::{Entry, List, grow};
pub(crate) use self::publication::{Form, Publication};
pub use self::published::Published;
pub(crate) use self::sequence::{Sequences, Turn};
pub use self::settings::Topic;
pub(crate) use self::settings::TopicLimits;
pub(crate) use self::turn_log::{Logged, Place};
use crate::error::SendError;
use crate::limits::SlowConsumer;
use crate::protocol::Prepared;

/// All topics of a server, with their subscribers.
pub(crate) struct Topics {
    /// The keys of `topics`, by name.
    names: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The key of the topic that was looked up last, which is often the next one, too.
    latest: Cell<u32>,
    topics: Slab<Room>,
    /// The subscriptions of each connection that has any.
    lists: Slab<List>,
    /// Settings by prefix, the longest first.
    settings: Vec<(Box<str>, Topic)>,
    limits: TopicLimits,
    /// Topics that were created, or whose first subscriber came or last one left.
    touched: VecDeque<u32>,
    subscriptions: usize,
    /// The serial of the last topic, which is never reused.
    last_serial: u64,
    /// A random number, so that no topic has the epoch of one in an earlier process.
    epoch: u64,
    /// Bytes of memory that all histories take.
    history_held: usize,
    /// When to look for expired messages in the history of which topic.
    looks: BTreeSet<(Duration, u32)>,
    /// When the caller looks, if it does.
    next_look: Option<Duration>,
    /// Bytes of the names of all topics.
    names_held: usize,
    keeper: Keeper,
}

/// Who keeps the histories of topics.
#[derive(Clone)]
pub(crate) enum Keeper {
    /// This server alone.
    Own,
    /// Each loop of a process, with the same messages in the same order.
    Loops(Arc<Sequences>),
    /// A backplane.
    Backplane,
}

/// A topic.
struct Room {
    name: Rc<str>,
    members: Vec<Member>,
    rules: Rules,
    history: Option<Box<History>>,
    /// The history that a backplane keeps.
    remote: Option<Box<Remote>>,
    /// Whether backplanes were told that the topic has subscribers.
    is_announced: bool,
    /// Whether `Occupied` was delivered, and no `Vacated` after it.
    is_told: bool,
    /// Whether it is listed in `Topics::touched`.
    is_touched: bool,
}

/// A history that a backplane keeps.
struct Remote {
    /// Most messages, and their age.
    settings: (usize, Duration),
    /// All messages up to this position have been delivered.
    reached: Option<Position>,
}

/// A connection in a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) slot: u32,
    list: u32,
}

/// The outcome of a subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Added {
    /// The connection is in the topic, which has this policy, if any of its own.
    New(Option<SlowConsumer>),
    /// The connection was in the topic before.
    Known,
    Refused(Full),
}

/// The limit that refused a subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    Subscriptions,
    Topics,
    Name,
}

/// What a delivery has to know of its topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The number of the topic, which is never reused.
    pub(crate) serial: u64,
    /// The policy for slow consumers; `None` for that of the connection.
    pub(crate) slow_consumer: Option<SlowConsumer>,
}

/// The subscriptions of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ListId(u32);

impl ListId {
    /// A connection without subscriptions.
    pub(crate) const NONE: Self = Self(u32::MAX);

    fn get(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0 as usize)
    }
}

/// A publish that has begun: the subscribers, taken out of their topic while they are visited.
pub(crate) struct Walk {
    key: usize,
    pub(crate) members: Vec<Member>,
    pub(crate) rules: Rules,
}

/// What a publish gets from its topic before it begins.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// The position of the message; with [`Keeper::Backplane`] the last known one before it.
    pub(crate) position: Option<Position>,
    /// Most messages of the history and their age, if there is one.
    pub(crate) history: Option<(usize, Duration)>,
    /// The right to publish.
    pub(crate) turn: Option<Turn>,
}

/// A topic that has its first subscriber, or has lost its last one.
pub(crate) struct Change {
    pub(crate) topic: Rc<str>,
    pub(crate) is_occupied: bool,
    /// Whether the handlers have to be told.
    pub(crate) is_news: bool,
    /// Whether backplanes have to be told that it has no subscribers.
    pub(crate) is_vacated: bool,
}

impl Topics {
    pub(crate) fn new(settings: Vec<(Box<str>, Topic)>, limits: TopicLimits) -> Self {
        let hasher = DefaultHashBuilder::default();
        let epoch = random();
        let mut settings = settings;
        settings.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self {
            names: HashTable::new(),
            hasher,
            latest: Cell::new(u32::MAX),
            topics: Slab::new(),
            lists: Slab::new(),
            settings,
            limits,
            touched: VecDeque::new(),
            subscriptions: 0,
            last_serial: 0,
            epoch,
            history_held: 0,
            looks: BTreeSet::new(),
            next_look: None,
            names_held: 0,
            keeper: Keeper::Own,
        }
    }

    /// Sets who keeps the histories, before the first topic is created.
    pub(crate) fn set_keeper(&mut self, keeper: Keeper) {
        self.keeper = keeper;
    }

    /// Adds a connection to a topic, which is created if necessary.
    #[inline(always)]
    pub(crate) fn subscribe(&mut self, list: &mut ListId, slot: usize, name: &str) -> Added {
        let Some(key) = self.find(name) else {
            return self.subscribe_first(list, slot, name);
        };
        let Some(own) = self.lists.get_mut(list.0 as usize) else {
            return self.subscribe_first(list, slot, name);
        };
        if own.find(key, &self.hasher).is_some() {
            return Added::Known;
        }
        if own.len() >= self.limits.subscriptions {
            return Added::Refused(Full::Subscriptions);
        }
        let room = &mut self.topics[key as usize];
        let at = room.members.len() as u32;
        own.push(Entry { topic: key, at }, &self.hasher);
        grow(&mut room.members);
        room.members.push(Member {
            slot: slot as u32,
            list: list.0,
        });
        self.subscriptions += 1;
        let policy = room.rules.slow_consumer;
        if at == 0 {
            self.touch(key);
        }
        Added::New(policy)
    }

    /// Subscribes a connection that has no subscriptions yet, or to a topic that does not exist.
    #[inline(never)]
    fn subscribe_first(&mut self, list: &mut ListId, slot: usize, name: &str) -> Added {
        let own = list.get().and_then(|list| self.lists.get(list));
        if own.map_or(0, List::len) >= self.limits.subscriptions {
            return Added::Refused(Full::Subscriptions);
        }
        let key = match self.find(name) {
            Some(key) => key,
            None => match self.create(name) {
                Ok(key) => key,
                Err(full) => return Added::Refused(full),
            },
        };
        if *list == ListId::NONE {
            *list = ListId(self.lists.insert(List::default()) as u32);
        }
        self.latest.set(key);
        self.subscribe(list, slot, name)
    }

    /// Returns the error for a topic of this name.
    #[cold]
    pub(crate) fn error(&self, full: Full, name: &str) -> SendError {
        let TopicLimits {
            subscriptions,
            topics,
            name_size,
        } = self.limits;
        match full {
            Full::Subscriptions => SendError::TooManySubscriptions {
                limit: subscriptions,
            },
            Full::Topics => SendError::TooManyTopics { limit: topics },
            Full::Name => SendError::TopicNameTooLong {
                size: name.len(),
                limit: name_size,
            },
        }
    }

    /// Removes a connection from a topic. Returns the serial of the topic, or 0 if the connection
    /// has ended; `None` if it was not in the topic.
    #[inline(always)]
    pub(crate) fn unsubscribe(&mut self, list: ListId, name: &str) -> Option<u64> {
        let known = self.find(name);
        let own = self.lists.get_mut(list.0 as usize)?;
        if own.has_ended() {
            return own.forget_name(name).then_some(0);
        }
        let key = known?;
        let at = own.find(key, &self.hasher)?;
        let entry = own.swap_remove(at, &self.hasher);
        self.leave(entry);
        Some(self.topics[key as usize].rules.serial)
    }

    /// Removes a connection, which is not open any more, from all of its topics. Their names stay
    /// readable until [`forget`](Self::forget).
    pub(crate) fn leave_all(&mut self, list: ListId) {
        let Some(list) = list.get() else {
            return;
        };
        let entries = self.lists[list].take_entries();
        let mut names = Vec::with_capacity(entries.len());
        for entry in entries {
            names.push(self.topics[entry.topic as usize].name.clone());
            self.leave(entry);
        }
        self.lists[list].end(names);
    }

    /// Forgets a connection that has ended.
    pub(crate) fn forget(&mut self, list: ListId) {
        self.leave_all(list);
        if let Some(list) = list.get() {
            self.lists.remove(list);
            if self.lists.is_empty() {
                self.lists.shrink_to_fit();
            }
        }
    }

    /// Removes a member whose entry has been removed from its list.
    #[inline(always)]
    fn leave(&mut self, Entry { topic, at }: Entry) {
        let members = &mut self.topics[topic as usize].members;
        members.swap_remove(at as usize);
        let (left, room) = (members.len(), members.capacity());
        if let Some(moved) = members.get(at as usize).copied() {
            self.lists[moved.list as usize].set_place(topic, at, &self.hasher);
        }
        if room > SHRINK_MIN && left < room / 4 {
            self.topics[topic as usize].members.shrink_to(room / 2);
        }
        self.subscriptions -= 1;
        if left == 0 {
            self.touch(topic);
        }
    }

    /// Returns the key of a topic.
    #[inline(always)]
    fn find(&self, name: &str) -> Option<u32> {
        let latest = self.latest.get();
        let room = self.topics.get(latest as usize);
        if room.is_some_and(|room| *room.name == *name) {
            return Some(latest);
        }
        self.look_up(name)
    }

    #[inline(never)]
    fn look_up(&self, name: &str) -> Option<u32> {
        let is_it = |key: &u32| *self.topics[*key as usize].name == *name;
        let key = *self.names.find(hash(&self.hasher, name), is_it)?;
        self.latest.set(key);
        Some(key)
    }

    fn create(&mut self, name: &str) -> Result<u32, Full> {
        if name.len() > self.limits.name_size {
            return Err(Full::Name);
        }
        if self.topics.len() >= self.limits.topics {
            return Err(Full::Topics);
        }
        self.last_serial += 1;
        let serial = self.last_serial;
        let settings = self.settings_of(name);
        let epoch = self.epoch.wrapping_add(serial);
        let history = settings.and_then(Topic::kept);
        let (mut own, mut remote) = (None, None);
        if let Some((most, age)) = history {
            match &self.keeper {
                Keeper::Own => own = Some(History::new(epoch, most, age)),
                Keeper::Loops(all) => own = Some(History::shared(all.join(name), most, age)),
                Keeper::Backplane => {
                    remote = Some(Remote {
                        settings: (most, age),
                        reached: None,
                    });
                }
            }
        }
        let room = Room {
            name: name.into(),
            members: Vec::new(),
            rules: Rules {
                serial,
                slow_consumer: settings.and_then(Topic::policy),
            },
            history: own.map(Box::new),
            remote: remote.map(Box::new),
            is_announced: false,
            is_told: false,
            is_touched: false,
        };
        let key = self.topics.insert(room) as u32;
        self.names_held += name.len();
        let Self {
            names,
            topics,
            hasher,
            ..
        } = self;
        names.insert_unique(hash(hasher, name), key, |key| {
            hash(hasher, &topics[*key as usize].name)
        });
        // Removed again at the end of the turn if nothing comes of it.
        self.touch(key);
        Ok(key)
    }

    fn settings_of(&self, name: &str) -> Option<&Topic> {
        let mut all = self.settings.iter();
        let (_, settings) = all.find(|(prefix, _)| name.starts_with(&**prefix))?;
        Some(settings)
    }

    fn touch(&mut self, key: u32) {
        let room = &mut self.topics[key as usize];
        if !std::mem::replace(&mut room.is_touched, true) {
            self.touched.push_back(key);
        }
    }

    /// Returns whether [`next_change`](Self::next_change) has work.
    #[inline(always)]
    pub(crate) fn has_changes(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Returns how many topics [`next_change`](Self::next_change) has to look at.
    pub(crate) fn changes(&self) -> usize {
        self.touched.len()
    }

    /// Returns the next topic that became occupied or vacant, and removes those that are vacant.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        while let Some(key) = self.touched.pop_front() {
            let key = key as usize;
            let room = &mut self.topics[key];
            room.is_touched = false;
            let is_occupied = !room.members.is_empty();
            let was_told = std::mem::replace(&mut room.is_told, is_occupied);
            let is_vacated = room.is_announced && !is_occupied;
            room.is_announced &= is_occupied;
            let topic = room.name.clone();
            if !is_occupied && room.history.as_deref().is_none_or(History::is_empty) {
                self.remove(key);
            }
            let is_news = is_occupied != was_told;
            if is_news || is_vacated {
                return Some(Change {
                    topic,
                    is_occupied,
                    is_news,
                    is_vacated,
                });
            }
        }
        None
    }

    fn remove(&mut self, key: usize) {
        let hash = hash(&self.hasher, &self.topics[key].name);
        let found = self.names.find_entry(hash, |each| *each as usize == key);
        if let Ok(entry) = found {
            entry.remove();
        }
        let room = self.topics.remove(key);
        self.names_held -= room.name.len();
        if let Some(due) = room.history.and_then(|history| history.look_at) {
            self.looks.remove(&(due, key as u32));
        }
        if self.topics.is_empty() {
            self.topics.shrink_to_fit();
            self.names = HashTable::new();
        }
    }

    /// Begins a publish to a topic: takes its subscribers out. `None` if there is no such topic.
    pub(crate) fn begin(&mut self, name: &str) -> Option<Walk> {
        let key = self.find(name)? as usize;
        let room = &mut self.topics[key];
        Some(Walk {
            key,
            members: std::mem::take(&mut room.members),
            rules: room.rules,
        })
    }

    /// Ends a publish: puts the subscribers back.
    pub(crate) fn end(&mut self, walk: Walk) {
        debug_assert!(
            self.topics[walk.key].members.is_empty(),
            "nobody subscribes or leaves meanwhile"
        );
        self.topics[walk.key].members = walk.members;
    }

    /// Returns what a delivery has to know of a topic.
    pub(crate) fn rules(&self, name: &str) -> Rules {
        let room = self.find(name).map(|key| &self.topics[key as usize]);
        room.map_or(
            Rules {
                serial: 0,
                slow_consumer: None,
            },
            |room| room.rules,
        )
    }

    /// Returns the subscribers of a topic.
    pub(crate) fn members(&self, name: &str) -> &[Member] {
        let key = self.find(name);
        key.map_or(&[], |key| &self.topics[key as usize].members)
    }

    /// Yields the names of the topics of a connection.
    pub(crate) fn names_of(&self, list: ListId) -> impl ExactSizeIterator<Item = &str> {
        let list = list.get().and_then(|list| self.lists.get(list));
        let (entries, ended) = list.map_or((&[][..], &[][..]), List::parts);
        // One of the two is empty.
        let count = entries.len() + ended.len();
        (0..count).map(move |at| match entries.get(at) {
            Some(entry) => &*self.topics[entry.topic as usize].name,
            None => ended.get(at).map_or("", |name| &**name),
        })
    }

    /// Returns whether a connection is subscribed to a topic, or was when it ended.
    pub(crate) fn is_subscribed(&self, list: ListId, name: &str) -> bool {
        let Some(own) = list.get().and_then(|list| self.lists.get(list)) else {
            return false;
        };
        if own.has_ended() {
            return self.names_of(list).any(|each| each == name);
        }
        let key = self.find(name);
        key.is_some_and(|key| own.find(key, &self.hasher).is_some())
    }

    /// Yields the name of each topic that has subscribers, and their number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, usize)> {
        let occupied = |room: &&Room| !room.members.is_empty();
        let rooms = self.topics.iter().map(|(_, room)| room);
        rooms
            .filter(occupied)
            .map(|room| (&*room.name, room.members.len()))
    }

    /// Returns the number of topics, including those without subscribers that have a history.
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns the number of subscriptions of all connections.
    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Returns about how many bytes of memory topics and subscriptions take, with the histories.
    pub(crate) fn held(&self) -> usize {
        self.subscriptions * SUBSCRIPTION_HELD
            + self.lists.len() * size_of::<List>()
            + self.topics.len() * (size_of::<Room>() + TOPIC_HELD)
            + self.names_held
            + self.history_held
    }

    /// Returns whether backplanes have to be told of a subscriber of this topic, and notes that
    /// they are.
    pub(crate) fn announce(&mut self, name: &str) -> bool {
        let room = self.find(name).map(|key| &mut self.topics[key as usize]);
        room.is_some_and(|room| {
            !room.members.is_empty() && !std::mem::replace(&mut room.is_announced, true)
        })
    }

    /// Begins a publish to a topic with a history; the topic is created if necessary. Returns the
    /// position of the message. With [`Keeper::Loops`] it comes with the turn, which the caller
    /// keeps until the message is on its way to all loops.
    pub(crate) fn next_position(&mut self, name: &str) -> Result<Next, SendError> {
        let key = match self.find(name) {
            Some(key) => key,
            None if !self.keeps_history(name) => return Ok(Next::default()),
            None => self.create(name).map_err(|full| self.error(full, name))?,
        };
        let room = &self.topics[key as usize];
        if let Some(remote) = &room.remote {
            return Ok(Next {
                position: remote.reached,
                history: Some(remote.settings),
                turn: None,
            });
        }
        let Some(history) = room.history.as_deref() else {
            return Ok(Next::default());
        };
        let turn = history.take_turn();
        Ok(Next {
            position: Some(turn.as_ref().map_or_else(|| history.next(), Turn::position)),
            history: Some(history.settings()),
            turn,
        })
    }

    /// Notes that all messages of a topic up to this position have been delivered.
    pub(crate) fn reach(&mut self, name: &str, position: Position) {
        if let Some(key) = self.find(name)
            && let Some(remote) = &mut self.topics[key as usize].remote
        {
            remote.reached = Some(position);
        }
    }

    /// Returns the settings of the history that a backplane keeps of a topic.
    pub(crate) fn remote_history(&self, name: &str) -> Option<(usize, Duration)> {
        let room = &self.topics[self.find(name)? as usize];
        room.remote.as_ref().map(|remote| remote.settings)
    }

    /// Returns whether the loops of the process share the history of a topic.
    pub(crate) fn shares_history(&self, name: &str) -> bool {
        matches!(self.keeper, Keeper::Loops(_)) && self.keeps_history(name)
    }

    /// Creates a topic that does not exist, if it has a history that the loops share.
    pub(crate) fn admit(&mut self, name: &str) {
        if self.find(name).is_none() && self.shares_history(name) {
            // Beyond a limit the message is not kept: subscribers who come later get a gap.
            let _ = self.create(name);
        }
    }

    /// Returns whether a topic that does not exist would have a history.
    fn keeps_history(&self, name: &str) -> bool {
        self.settings_of(name)
            .is_some_and(|settings| settings.kept().is_some())
    }

    /// Returns the position of the last message of a topic; `None` if it has no history.
    pub(crate) fn position(&self, name: &str) -> Option<Position> {
        let room = &self.topics[self.find(name)? as usize];
        match &room.remote {
            Some(remote) => remote.reached,
            None => Some(room.history.as_deref()?.last()),
        }
    }

    /// Returns whether the history of a topic is kept here.
    pub(crate) fn keeps(&self, walk: &Walk) -> bool {
        self.topics[walk.key].history.is_some()
    }

    /// Keeps a message that was published at the time `at` in the history of its topic. Returns
    /// when [`expire`](Self::expire) has to be called, unless the caller has been told.
    pub(crate) fn keep(
        &mut self,
        walk: &Walk,
        message: Prepared,
        position: Position,
        at: Duration,
    ) -> Option<Duration> {
        let history = self.topics[walk.key].history.as_deref_mut()?;
        let held = history.held();
        history.push(message, position, at);
        self.history_held = self.history_held - held + history.held();
        if history.look_at.is_none()
            && let Some(due) = history.due()
        {
            history.look_at = Some(due);
            self.looks.insert((due, walk.key as u32));
        }
        self.plan_look()
    }

    /// Returns when to look for expired messages next, unless the caller has been told.
    fn plan_look(&mut self) -> Option<Duration> {
        let (due, _) = *self.looks.first()?;
        if self.next_look.is_some_and(|planned| planned <= due) {
            return None;
        }
        self.next_look = Some(due);
        Some(due)
    }

    /// Does not keep a message, because memory is short, nor the earlier ones of its topic.
    pub(crate) fn skip(&mut self, walk: &Walk, position: Position) {
        if let Some(history) = self.topics[walk.key].history.as_deref_mut() {
            self.history_held -= history.held();
            history.skip(position);
            self.history_held += history.held();
        }
    }

    /// Drops the messages that have expired, at a time `due` that the caller was told. Returns when
    /// to call this function again.
    pub(crate) fn expire(&mut self, due: Duration, now: Duration) -> Option<Duration> {
        if self.next_look != Some(due) {
            // There was an earlier one since.
            return None;
        }
        self.next_look = None;
        while let Some((due, key)) = self.looks.first().copied()
            && due <= now
        {
            self.looks.pop_first();
            let room = &mut self.topics[key as usize];
            let Some(history) = room.history.as_deref_mut() else {
                continue;
            };
            let held = history.held();
            history.expire(now);
            self.history_held = self.history_held - held + history.held();
            history.look_at = history.due();
            match history.look_at {
                Some(due) => _ = self.looks.insert((due, key)),
                None => self.touch(key),
            }
        }
        self.plan_look()
    }

    /// Drops all messages of all histories, because memory is short; returns whether there were
    /// any.
    pub(crate) fn forget_histories(&mut self) -> bool {
        if self.history_held == 0 {
            return false;
        }
        let mut emptied = Vec::new();
        for (key, room) in &mut self.topics {
            if let Some(history) = room.history.as_deref_mut() {
                history.clear();
                emptied.push(key as u32);
            }
        }
        self.history_held = 0;
        for key in emptied {
            self.touch(key);
        }
        true
    }

    /// Forgets the messages of a topic whose history the loops share, because this loop has missed
    /// some: subscribers who missed them get a gap.
    pub(crate) fn forget_history(&mut self, name: &str) {
        let Some(key) = self.find(name) else {
            return;
        };
        if let Some(history) = self.topics[key as usize].history.as_deref_mut() {
            self.history_held -= history.held();
            history.forget();
            self.history_held += history.held();
        }
    }

    /// Returns the messages that a subscriber missed since `position`; `None` if not all of them
    /// are kept.
    pub(crate) fn missed(
        &mut self,
        name: &str,
        position: Position,
        now: Duration,
    ) -> Option<Missed<'_>> {
        self.history(name, now)?.since(position)
    }

    /// Returns the newest kept messages of a topic, at most so many; `None` if it has no history.
    pub(crate) fn recent(&mut self, name: &str, most: usize, now: Duration) -> Option<Missed<'_>> {
        Some(self.history(name, now)?.recent(most))
    }

    /// Returns the history of a topic, without the messages that have expired.
    fn history(&mut self, name: &str, now: Duration) -> Option<&History> {
        let key = self.find(name)?;
        let history = self.topics[key as usize].history.as_deref_mut()?;
        let held = history.held();
        history.expire(now);
        self.history_held = self.history_held - held + history.held();
        Some(history)
    }
}

/// Returns a random number.
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(0)
}

/// Returns the hash of a topic's name. The hasher has a random key.
fn hash(hasher: &DefaultHashBuilder, name: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// Lists of subscribers are shrunk only above this capacity.
const SHRINK_MIN: usize = 64;

/// About how many bytes of memory a subscription takes.
const SUBSCRIPTION_HELD: usize = 32;

/// About how many bytes of memory a topic takes besides its own fields and its name.
const TOPIC_HELD: usize = 64;
