//! The order of the messages of a topic with a history that several loops share.
//!
//! All loops keep the same messages with the same positions, so that a client is recovered on any
//! of them. A loop that publishes takes the [`Turn`] of the topic, handles what other loops have
//! published before, and passes the message on to them before it releases the turn.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::history::Position;

/// The sequences of all topics with a history, for all loops of a process.
#[derive(Default)]
pub(crate) struct Sequences(Mutex<Table>);

struct Table {
    sequences: HashMap<Arc<str>, Known>,
    next_epoch: u64,
}

struct Known {
    sequence: Arc<Sequence>,
    /// How many loops take part. They leave while the table is locked, so that the last one is
    /// recognised; the references to `sequence` are dropped later.
    shares: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            sequences: HashMap::new(),
            next_epoch: super::random(),
        }
    }
}

struct Sequence {
    epoch: u64,
    numbering: Mutex<Numbering>,
    released: Condvar,
}

struct Numbering {
    /// Whether a loop is publishing.
    is_taken: bool,
    /// The offset of the last message.
    last: u64,
}

/// The share of a loop in the sequence of a topic. The sequence ends with the last one.
pub(super) struct Share {
    name: Arc<str>,
    sequence: Arc<Sequence>,
    all: Arc<Sequences>,
}

/// The right to publish the next message of a topic. Other loops wait until it is dropped.
pub(crate) struct Turn {
    sequence: Arc<Sequence>,
    offset: u64,
}

impl Sequences {
    /// Takes part in the sequence of a topic.
    pub(super) fn join(self: &Arc<Self>, name: &str) -> Share {
        let mut table = lock(&self.0);
        let known = table.sequences.get_key_value(name);
        let name = known.map_or_else(|| name.into(), |(name, _)| name.clone());
        let Table {
            sequences,
            next_epoch,
        } = &mut *table;
        let known = sequences.entry(name.clone()).or_insert_with(|| {
            *next_epoch = next_epoch.wrapping_add(1);
            let numbering = Numbering {
                is_taken: false,
                last: 0,
            };
            let sequence = Sequence {
                epoch: *next_epoch,
                numbering: Mutex::new(numbering),
                released: Condvar::new(),
            };
            Known {
                sequence: sequence.into(),
                shares: 0,
            }
        });
        known.shares += 1;
        let sequence = known.sequence.clone();
        Share {
            name,
            sequence,
            all: self.clone(),
        }
    }
}

#[cfg(test)]
impl Sequences {
    /// Returns the number of sequences.
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).sequences.len()
    }
}

impl Share {
    /// Returns the position of the last message.
    pub(super) fn last(&self) -> Position {
        Position::new(self.sequence.epoch, lock(&self.sequence.numbering).last)
    }

    /// Takes the right to publish. Waits while another loop has it, which is for as long as that
    /// loop passes one message on.
    pub(super) fn take(&self) -> Turn {
        let Sequence {
            numbering,
            released,
            ..
        } = &*self.sequence;
        let taken = released.wait_while(lock(numbering), |numbering| numbering.is_taken);
        let mut numbering = taken.unwrap_or_else(PoisonError::into_inner);
        numbering.is_taken = true;
        Turn {
            sequence: self.sequence.clone(),
            offset: numbering.last + 1,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut table = lock(&self.all.0);
        if let Some(known) = table.sequences.get_mut(&self.name) {
            known.shares -= 1;
            if known.shares == 0 {
                table.sequences.remove(&self.name);
            }
        }
    }
}

impl Turn {
    /// Returns the position of the message that is published next.
    pub(crate) fn position(&self) -> Position {
        Position::new(self.sequence.epoch, self.offset)
    }

    /// Counts the message, which is on its way to all loops, and releases the turn.
    pub(crate) fn publish(self) {
        lock(&self.sequence.numbering).last = self.offset;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.sequence.numbering).is_taken = false;
        self.sequence.released.notify_one();
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No caller's code runs while one of these locks is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_sequence_ends_when_the_last_loops_leave_it_at_the_same_time() {
        let all = Arc::new(Sequences::default());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..5000 {
                        // All take part in it, more or less at the same time.
                        drop(all.join(&(number / 8).to_string()));
                    }
                });
            }
        });
        assert_eq!(lock(&all.0).sequences.len(), 0);
    }

    #[test]
    fn all_loops_count_on_and_a_new_sequence_has_a_new_epoch() {
        let all = Arc::new(Sequences::default());
        let (one, other) = (all.join("a"), all.join("a"));
        one.take().publish();
        // Nothing was published in this turn.
        drop(other.take());
        let turn = other.take();
        assert_eq!(turn.position().offset(), 2);
        turn.publish();
        let last = one.last();
        assert_eq!(last.offset(), 2);
        drop((one, other));
        let anew = all.join("a").last();
        assert_eq!(anew.offset(), 0);
        assert_ne!(anew.epoch(), last.epoch());
    }
}
