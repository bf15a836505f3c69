//! The subscriptions of one connection.

use std::hash::BuildHasher;
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A subscription: a topic, and the place of the connection among its subscribers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) topic: u32,
    pub(super) at: u32,
}

/// The topics of a connection. A short list is searched from end to end; a long one has an index.
#[derive(Debug, Default)]
pub(super) struct List {
    entries: Vec<Entry>,
    /// The places of `entries`, by topic.
    index: Option<Box<HashTable<u32>>>,
    /// The names of the topics from which the connection was removed when it ended.
    ended: Option<Box<[Rc<str>]>>,
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the place of a topic in the list.
    pub(super) fn find(&self, topic: u32, hasher: &DefaultHashBuilder) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|entry| entry.topic == topic),
            Some(index) => {
                let is_it = |place: &u32| self.entries[*place as usize].topic == topic;
                let found = index.find(hasher.hash_one(topic), is_it);
                found.map(|place| *place as usize)
            }
        }
    }

    /// Appends a topic that is not in the list.
    pub(super) fn push(&mut self, entry: Entry, hasher: &DefaultHashBuilder) {
        grow(&mut self.entries);
        self.entries.push(entry);
        let place = self.entries.len() - 1;
        let Self { entries, index, .. } = self;
        let hash_of = |place: &u32| hasher.hash_one(entries[*place as usize].topic);
        match index {
            Some(index) => {
                _ = index.insert_unique(hasher.hash_one(entry.topic), place as u32, hash_of)
            }
            None if entries.len() > SCANNED => {
                let mut all = HashTable::with_capacity(entries.len());
                for place in 0..entries.len() as u32 {
                    all.insert_unique(hash_of(&place), place, hash_of);
                }
                *index = Some(Box::new(all));
            }
            None => {}
        }
    }

    /// Removes the topic in this place; the last one takes its place.
    pub(super) fn swap_remove(&mut self, place: usize, hasher: &DefaultHashBuilder) -> Entry {
        let last = self.entries.len() - 1;
        let removed = self.entries.swap_remove(place);
        if let Some(index) = &mut self.index {
            let hash = hasher.hash_one(removed.topic);
            if let Ok(found) = index.find_entry(hash, |each| *each as usize == place) {
                found.remove();
            }
            if let Some(moved) = self.entries.get(place) {
                let hash = hasher.hash_one(moved.topic);
                if let Some(found) = index.find_mut(hash, |each| *each as usize == last) {
                    *found = place as u32;
                }
            }
            if self.entries.len() <= SCANNED / 2 {
                self.index = None;
                self.entries.shrink_to(SCANNED);
            }
        }
        removed
    }

    /// Records that the connection moved to another place among the subscribers of a topic.
    pub(super) fn set_place(&mut self, topic: u32, at: u32, hasher: &DefaultHashBuilder) {
        if let Some(place) = self.find(topic, hasher) {
            self.entries[place].at = at;
        }
    }

    /// Takes all topics out of the list.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        self.index = None;
        std::mem::take(&mut self.entries)
    }

    /// Keeps the names of the topics of a connection that has ended.
    pub(super) fn end(&mut self, names: Vec<Rc<str>>) {
        if self.ended.is_none() {
            self.ended = Some(names.into());
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Removes a name of a connection that has ended; returns whether it was there.
    pub(super) fn forget_name(&mut self, name: &str) -> bool {
        let Some(ended) = self.ended.take() else {
            return false;
        };
        let before = ended.len();
        let mut names = ended.into_vec();
        names.retain(|each| **each != *name);
        let was_there = names.len() < before;
        self.ended = Some(names.into());
        was_there
    }

    /// Returns the topics, and the names of those that the connection was removed from when it
    /// ended.
    pub(super) fn parts(&self) -> (&[Entry], &[Rc<str>]) {
        (&self.entries, self.ended.as_deref().unwrap_or_default())
    }
}

/// Makes room for one more element. A vector grows by a quarter, so that a subscription takes at
/// most 32 bytes.
pub(super) fn grow<T>(vector: &mut Vec<T>) {
    let len = vector.len();
    if len == vector.capacity() {
        vector.reserve_exact((len / 4).max(4));
    }
}

/// A list of up to this many topics has no index.
const SCANNED: usize = 16;
