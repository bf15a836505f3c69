//! Actions on clients at a later time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// The action of an alarm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// The client disconnects in the middle of its handshake.
    Drop,
    /// If the client still waits for the server, the server has failed.
    GiveUp,
    /// The client starts or stops reading slowly.
    Pace,
}

/// An alarm for the client with this number, if the client still has this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Alarm {
    at: Instant,
    pub(super) key: usize,
    pub(super) number: u64,
    pub(super) what: What,
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The alarms of all clients.
#[derive(Debug, Default)]
pub(super) struct Alarms(BinaryHeap<Reverse<Alarm>>);

impl Alarms {
    pub(super) fn set(&mut self, after: Duration, key: usize, number: u64, what: What) {
        let at = Instant::now() + after;
        self.0.push(Reverse(Alarm {
            at,
            key,
            number,
            what,
        }));
    }

    /// Takes the next alarm that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Alarm> {
        let Reverse(alarm) = *self.0.peek()?;
        if alarm.at > now {
            return None;
        }
        self.0.pop();
        Some(alarm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_come_in_the_order_of_their_times() {
        let mut alarms = Alarms::default();
        for (after, key) in [(30, 3), (10, 1), (20, 2)] {
            alarms.set(Duration::from_millis(after), key, 0, What::Pace);
        }
        let soon = Instant::now();
        assert_eq!(alarms.due(soon), None);
        let later = soon + Duration::from_millis(25);
        let due = std::iter::from_fn(|| alarms.due(later));
        let keys: Vec<_> = due.map(|alarm| alarm.key).collect();
        assert_eq!(keys, [1, 2]);
    }
}
