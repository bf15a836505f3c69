//! Topics: names that connections subscribe to and that messages are published to.
//!
//! This module knows connections by their slots and messages by their frames. It neither sends nor
//! calls handlers.

mod history;
mod list;
mod publication;
mod published;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use self::history::History;
pub(crate) use self::history::Missed;
pub use self::history::{BadPosition, Position, Recovery};
use self::list::{Entry, List, grow};
pub(crate) use self::publication::{Form, Publication};
pub use self::published::Published;
pub use self::settings::Topic;
pub(crate) use self::settings::TopicLimits;
use crate::error::SendError;
use crate::limits::SlowConsumer;
use crate::protocol::Prepared;

/// All topics of a server, with their subscribers.
pub(crate) struct Topics {
    /// The keys of `topics`, by name.
    names: HashTable<u32>,
    hasher: DefaultHashBuilder,
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
}

/// A topic.
struct Room {
    name: Rc<str>,
    members: Vec<Member>,
    rules: Rules,
    history: Option<Box<History>>,
    /// Whether `Occupied` was delivered, and no `Vacated` after it.
    is_told: bool,
    /// Whether it is listed in `Topics::touched`.
    is_touched: bool,
}

/// A connection in a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) slot: u32,
    list: u32,
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

/// A topic whose oldest kept message expires at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    key: usize,
    serial: u64,
    pub(crate) due: Duration,
}

/// A topic that has its first subscriber, or has lost its last one.
pub(crate) struct Change {
    pub(crate) topic: Rc<str>,
    pub(crate) is_occupied: bool,
}

impl Topics {
    pub(crate) fn new(settings: Vec<(Box<str>, Topic)>, limits: TopicLimits) -> Self {
        let hasher = DefaultHashBuilder::default();
        let epoch = std::hash::RandomState::new().hash_one(0);
        let mut settings = settings;
        settings.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self {
            names: HashTable::new(),
            hasher,
            topics: Slab::new(),
            lists: Slab::new(),
            settings,
            limits,
            touched: VecDeque::new(),
            subscriptions: 0,
            last_serial: 0,
            epoch,
            history_held: 0,
        }
    }

    /// Adds a connection to a topic, which is created if necessary; returns whether it was not in
    /// it before.
    pub(crate) fn subscribe(
        &mut self,
        list: &mut ListId,
        slot: usize,
        name: &str,
    ) -> Result<bool, SendError> {
        let hash = self.hasher.hash_one(name);
        let known = self.find(hash, name);
        let own = list.get().and_then(|list| self.lists.get(list));
        if let Some(own) = own {
            if known.is_some_and(|key| own.find(key, &self.hasher).is_some()) {
                return Ok(false);
            }
            if own.len() >= self.limits.subscriptions {
                let limit = self.limits.subscriptions;
                return Err(SendError::TooManySubscriptions { limit });
            }
        } else if self.limits.subscriptions == 0 {
            return Err(SendError::TooManySubscriptions { limit: 0 });
        }
        let key = match known {
            Some(key) => key,
            None => self.create(hash, name)?,
        };
        let number = match list.get() {
            Some(number) => number,
            None => self.lists.insert(List::default()),
        };
        *list = ListId(number as u32);
        let room = &mut self.topics[key as usize];
        let at = room.members.len() as u32;
        grow(&mut room.members);
        room.members.push(Member {
            slot: slot as u32,
            list: number as u32,
        });
        let is_first = at == 0;
        self.lists[number].push(Entry { topic: key, at }, &self.hasher);
        self.subscriptions += 1;
        if is_first {
            self.touch(key);
        }
        Ok(true)
    }

    /// Removes a connection from a topic; returns whether it was in it.
    pub(crate) fn unsubscribe(&mut self, list: ListId, name: &str) -> bool {
        let Some(list) = list.get() else {
            return false;
        };
        let Some(own) = self.lists.get_mut(list) else {
            return false;
        };
        if own.has_ended() {
            return own.forget_name(name);
        }
        let hash = self.hasher.hash_one(name);
        let Some(key) = self.find(hash, name) else {
            return false;
        };
        let own = &mut self.lists[list];
        let Some(at) = own.find(key, &self.hasher) else {
            return false;
        };
        let entry = own.swap_remove(at, &self.hasher);
        self.leave(entry);
        true
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
    fn leave(&mut self, Entry { topic, at }: Entry) {
        let members = &mut self.topics[topic as usize].members;
        members.swap_remove(at as usize);
        if let Some(moved) = members.get(at as usize).copied() {
            self.lists[moved.list as usize].set_place(topic, at, &self.hasher);
        }
        let (left, room) = (members.len(), members.capacity());
        if room > SHRINK_MIN && left < room / 4 {
            members.shrink_to(room / 2);
        }
        self.subscriptions -= 1;
        if left == 0 {
            self.touch(topic);
        }
    }

    fn find(&self, hash: u64, name: &str) -> Option<u32> {
        let is_it = |key: &u32| *self.topics[*key as usize].name == *name;
        self.names.find(hash, is_it).copied()
    }

    fn create(&mut self, hash: u64, name: &str) -> Result<u32, SendError> {
        let TopicLimits {
            topics: limit,
            name_size,
            ..
        } = self.limits;
        if name.len() > name_size {
            let (size, limit) = (name.len(), name_size);
            return Err(SendError::TopicNameTooLong { size, limit });
        }
        if self.topics.len() >= limit {
            return Err(SendError::TooManyTopics { limit });
        }
        self.last_serial += 1;
        let serial = self.last_serial;
        let settings = self.settings_of(name);
        let epoch = self.epoch.wrapping_add(serial);
        let history = settings.and_then(|settings| settings.new_history(epoch));
        let room = Room {
            name: name.into(),
            members: Vec::new(),
            rules: Rules {
                serial,
                slow_consumer: settings.and_then(Topic::policy),
            },
            history,
            is_told: false,
            is_touched: false,
        };
        let key = self.topics.insert(room) as u32;
        let Self {
            names,
            topics,
            hasher,
            ..
        } = self;
        names.insert_unique(hash, key, |key| {
            hasher.hash_one(&*topics[*key as usize].name)
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
            let topic = room.name.clone();
            if !is_occupied && room.history.as_deref().is_none_or(History::is_empty) {
                self.remove(key);
            }
            if is_occupied != was_told {
                return Some(Change { topic, is_occupied });
            }
        }
        None
    }

    fn remove(&mut self, key: usize) {
        let hash = self.hasher.hash_one(&*self.topics[key].name);
        let found = self.names.find_entry(hash, |each| *each as usize == key);
        if let Ok(entry) = found {
            entry.remove();
        }
        self.topics.remove(key);
        if self.topics.is_empty() {
            self.topics.shrink_to_fit();
            self.names = HashTable::new();
        }
    }

    /// Begins a publish to a topic: takes its subscribers out. `None` if there is no such topic.
    pub(crate) fn begin(&mut self, name: &str) -> Option<Walk> {
        let key = self.find(self.hasher.hash_one(name), name)? as usize;
        let room = &mut self.topics[key];
        Some(Walk {
            key,
            members: std::mem::take(&mut room.members),
            rules: room.rules,
        })
    }

    /// Ends a publish: puts the subscribers back.
    pub(crate) fn end(&mut self, walk: Walk) {
        self.topics[walk.key].members = walk.members;
    }

    /// Returns the subscribers of a topic.
    pub(crate) fn members(&self, name: &str) -> &[Member] {
        let key = self.find(self.hasher.hash_one(name), name);
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

    /// Returns whether a connection is, or was until it ended, in a topic.
    pub(crate) fn is_subscribed(&self, list: ListId, name: &str) -> bool {
        let Some(own) = list.get().and_then(|list| self.lists.get(list)) else {
            return false;
        };
        if own.has_ended() {
            return self.names_of(list).any(|each| each == name);
        }
        let key = self.find(self.hasher.hash_one(name), name);
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

    /// Returns whether a topic conflates, for a connection with this policy.
    pub(crate) fn conflates(&self, name: &str, policy: SlowConsumer) -> bool {
        let own = self.settings_of(name).and_then(Topic::policy);
        own.unwrap_or(policy) == SlowConsumer::Conflate
    }

    /// Returns about how many bytes of memory topics and subscriptions take, with the histories.
    pub(crate) fn held(&self) -> usize {
        self.subscriptions * 2 * size_of::<Entry>()
            + self.lists.len() * size_of::<List>()
            + self.topics.len() * (size_of::<Room>() + NAME_HELD)
            + self.history_held
    }

    /// Returns whether a topic has, or would have, a history.
    pub(crate) fn keeps_history(&self, name: &str) -> bool {
        !self.settings.is_empty() && self.settings_of(name).is_some_and(Topic::has_history)
    }

    /// Returns the position that the next message of a topic with a history gets; the topic is
    /// created if necessary.
    pub(crate) fn next_position(&mut self, name: &str) -> Result<Option<Position>, SendError> {
        if !self.keeps_history(name) {
            return Ok(None);
        }
        let hash = self.hasher.hash_one(name);
        let key = match self.find(hash, name) {
            Some(key) => key,
            None => self.create(hash, name)?,
        };
        let history = self.topics[key as usize].history.as_deref();
        Ok(history.map(History::next))
    }

    /// Returns the position of the last message of a topic; `None` if it has no history.
    pub(crate) fn position(&self, name: &str) -> Option<Position> {
        let key = self.find(self.hasher.hash_one(name), name)?;
        let history = self.topics[key as usize].history.as_deref()?;
        Some(history.last())
    }

    /// Keeps a message in the history of its topic. Returns when the oldest message of the topic
    /// expires, if no timer is set for that.
    pub(crate) fn keep(
        &mut self,
        walk: &Walk,
        message: impl FnOnce() -> Prepared,
        now: Duration,
    ) -> Option<Expiry> {
        let (key, serial) = (walk.key, walk.rules.serial);
        let history = self.topics[key].history.as_deref_mut()?;
        let held = history.held();
        let due = history.push(message(), now);
        self.history_held = self.history_held - held + history.held();
        due.map(|due| Expiry { key, serial, due })
    }

    /// Does not keep a message, because memory is short, nor the earlier ones of its topic.
    pub(crate) fn skip(&mut self, walk: &Walk) {
        if let Some(history) = self.topics[walk.key].history.as_deref_mut() {
            self.history_held -= history.held();
            history.skip();
            self.history_held += history.held();
        }
    }

    /// Drops the messages of a topic's history that have expired; returns when the next one does.
    pub(crate) fn expire(&mut self, expiry: Expiry, now: Duration) -> Option<Expiry> {
        let Expiry { key, serial, .. } = expiry;
        let room = self.topics.get_mut(key)?;
        let history = room.history.as_deref_mut()?;
        if room.rules.serial != serial {
            return None;
        }
        let held = history.held();
        let due = history.fire(now);
        self.history_held = self.history_held - held + history.held();
        if due.is_none() {
            self.touch(key as u32);
        }
        due.map(|due| Expiry { due, ..expiry })
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

    /// Returns the messages that a subscriber missed since `position`; `None` if not all of them
    /// are kept.
    pub(crate) fn missed(
        &mut self,
        name: &str,
        position: Position,
        now: Duration,
    ) -> Option<Missed<'_>> {
        let key = self.find(self.hasher.hash_one(name), name)?;
        let history = self.topics[key as usize].history.as_deref_mut()?;
        let held = history.held();
        history.expire(now);
        self.history_held = self.history_held - held + history.held();
        history.since(position)
    }
}

/// Lists of subscribers are shrunk only above this capacity.
const SHRINK_MIN: usize = 64;

/// About how many bytes the name of a topic takes, with its entry in the table of names.
const NAME_HELD: usize = 64;
