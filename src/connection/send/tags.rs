//! The messages of topics in a queue that may still be replaced or dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

/// Why a queued message may be replaced or dropped. Topics are given by their serials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Tag {
    /// A message with the same key in the same topic replaces it.
    Key(u64, Arc<[u8]>),
    /// It is dropped when newer messages of the topic need its room.
    Topic(u64),
}

/// Where the messages with tags are in a queue. A place is the number of a segment, counted from
/// the first that the queue ever had.
#[derive(Debug, Default)]
pub(super) struct Tags {
    by_key: HashMap<Key, u64>,
    /// Oldest first.
    by_topic: HashMap<u64, VecDeque<u64>>,
    /// The number of messages with tags.
    len: usize,
    /// The bytes of all keys.
    keys: usize,
}

/// The serial of a topic, and a key in it.
#[derive(Debug, Eq, Hash, PartialEq)]
struct Key(u64, Arc<[u8]>);

/// A [`Key`] to look for.
#[derive(Hash)]
struct KeyRef<'k>(u64, &'k [u8]);

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

impl Tag {
    /// Returns whether the message belongs to this topic.
    pub(super) fn is_of(&self, serial: u64) -> bool {
        let (Self::Key(topic, _) | Self::Topic(topic)) = self;
        *topic == serial
    }
}

impl Tags {
    /// Returns about how many bytes of memory the tables take.
    pub(super) fn held(&self) -> usize {
        self.len * TAG_HELD + self.keys
    }

    pub(super) fn insert(&mut self, tag: &Tag, place: u64) {
        match tag {
            Tag::Key(topic, key) => {
                self.by_key.insert(Key(*topic, key.clone()), place);
                self.keys += key.len();
            }
            Tag::Topic(topic) => self.by_topic.entry(*topic).or_default().push_back(place),
        }
        self.len += 1;
    }

    /// Removes a message that begins to leave, or is dropped. It is the oldest of its topic.
    pub(super) fn remove(&mut self, tag: &Tag) {
        match tag {
            Tag::Key(topic, key) => {
                self.by_key.remove(&KeyRef(*topic, key));
                self.keys -= key.len();
            }
            Tag::Topic(topic) => {
                if let Some(places) = self.by_topic.get_mut(topic) {
                    places.pop_front();
                    if places.is_empty() {
                        self.by_topic.remove(topic);
                    }
                }
            }
        }
        self.len -= 1;
    }

    /// Returns the place of the message with this key.
    pub(super) fn place_of(&self, topic: u64, key: &[u8]) -> Option<u64> {
        self.by_key.get(&KeyRef(topic, key)).copied()
    }

    /// Returns the place of the oldest message of a topic.
    pub(super) fn oldest_of(&self, topic: u64) -> Option<u64> {
        self.by_topic.get(&topic)?.front().copied()
    }
}

/// About how many bytes of memory the tables take for a message, without its key.
const TAG_HELD: usize = 64;
