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
    #[inline(always)]
    pub(super) fn find(&self, topic: u32, hasher: &DefaultHashBuilder) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|entry| entry.topic == topic),
            Some(index) => self.find_in(index, topic, hasher),
        }
    }

    #[inline(never)]
    fn find_in(
        &self,
        index: &HashTable<u32>,
        topic: u32,
        hasher: &DefaultHashBuilder,
    ) -> Option<usize> {
        let is_it = |place: &u32| self.entries[*place as usize].topic == topic;
        let found = index.find(hasher.hash_one(topic), is_it);
        found.map(|place| *place as usize)
    }

    /// Appends a topic that is not in the list.
    #[inline(always)]
    pub(super) fn push(&mut self, entry: Entry, hasher: &DefaultHashBuilder) {
        grow(&mut self.entries);
        self.entries.push(entry);
        if self.index.is_some() || self.entries.len() > SCANNED {
            self.add_to_index(hasher);
        }
    }

    /// Enters the last topic into the index, which is created if necessary.
    #[inline(never)]
    fn add_to_index(&mut self, hasher: &DefaultHashBuilder) {
        let Self { entries, index, .. } = self;
        let hash_of = |place: &u32| hasher.hash_one(entries[*place as usize].topic);
        let missing = match index {
            Some(_) => entries.len() - 1,
            None => 0,
        };
        let index = index.get_or_insert_with(|| Box::new(HashTable::with_capacity(entries.len())));
        for place in missing as u32..entries.len() as u32 {
            index.insert_unique(hash_of(&place), place, hash_of);
        }
    }

    /// Removes the topic in this place; the last one takes its place.
    #[inline(always)]
    pub(super) fn swap_remove(&mut self, place: usize, hasher: &DefaultHashBuilder) -> Entry {
        let removed = self.entries.swap_remove(place);
        if self.index.is_some() {
            self.remove_from_index(removed.topic, place, hasher);
        }
        removed
    }

    /// Removes from the index the topic that was in this place, where the last one is now.
    #[inline(never)]
    fn remove_from_index(&mut self, removed: u32, place: usize, hasher: &DefaultHashBuilder) {
        let Some(index) = &mut self.index else {
            return;
        };
        let last = self.entries.len();
        let hash = hasher.hash_one(removed);
        if let Ok(found) = index.find_entry(hash, |each| *each as usize == place) {
            found.remove();
        }
        if let Some(moved) = self.entries.get(place) {
            let hash = hasher.hash_one(moved.topic);
            if let Some(found) = index.find_mut(hash, |each| *each as usize == last) {
                *found = place as u32;
            }
        }
        if last <= SCANNED / 2 {
            self.index = None;
            self.entries.shrink_to(SCANNED);
        }
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
#[inline(always)]
pub(super) fn grow<T>(vector: &mut Vec<T>) {
    if vector.len() == vector.capacity() {
        grow_full(vector);
    }
}

#[inline(never)]
fn grow_full<T>(vector: &mut Vec<T>) {
    vector.reserve_exact((vector.len() / 4).max(4));
}

/// A list of up to this many topics has no index.
const SCANNED: usize = 16;
