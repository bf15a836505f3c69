//! Which messages of a topic were heard, by their numbers in the stream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The messages of a topic that were heard on a subscription. Each has the number of the one before
/// it, so a missing one is noticed.
pub(crate) struct Chain {
    /// All messages up to this number were heard, were given up, or are older.
    reached: u64,
    /// Messages behind missing ones, with the number of the one before.
    waiting: BTreeMap<u64, u64>,
    /// Since when a message is missing.
    broken: Option<Instant>,
    /// Whether a message behind the beginning was heard in its place. Before, one that is missing
    /// may be older than the subscription.
    has_begun: bool,
    /// When it began, or gave up messages last: some may come nevertheless.
    loose: Instant,
}

/// The place of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    /// It is from before the beginning, or was given up.
    Old,
    /// All messages before it were heard; perhaps others wait behind it.
    Next,
    /// Messages before it are missing.
    Waits,
    /// It was heard before, so the numbers begin anew.
    Impossible,
}

impl Chain {
    /// Begins with the messages behind a number.
    pub(crate) fn new(reached: u64, now: Instant) -> Self {
        Self {
            reached,
            waiting: BTreeMap::new(),
            broken: None,
            has_begun: false,
            loose: now,
        }
    }

    /// Returns the number up to which nothing is missing.
    pub(crate) fn reached(&self) -> u64 {
        self.reached
    }

    /// Returns whether messages are missing.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Notes a message, with the number of the one before it.
    pub(crate) fn hear(&mut self, number: u64, before: u64, now: Instant) -> Link {
        if number <= self.reached {
            return match now.saturating_duration_since(self.loose) < OLD_WITHIN {
                true => Link::Old,
                false => Link::Impossible,
            };
        }
        self.waiting.insert(number, before);
        let link = match self.advance() {
            true => Link::Next,
            false => Link::Waits,
        };
        self.broken = match self.waiting.is_empty() {
            true => None,
            false => self.broken.filter(|_| link == Link::Waits).or(Some(now)),
        };
        link
    }

    fn advance(&mut self) -> bool {
        let from = self.reached;
        while let Some(first) = self.waiting.first_entry()
            && *first.get() <= self.reached
        {
            self.reached = *first.key();
            first.remove();
            self.has_begun = true;
        }
        self.reached != from
    }

    /// Gives up messages that do not come. Returns whether they are lost, and not older than the
    /// subscription.
    pub(crate) fn give_up(&mut self, now: Instant) -> bool {
        let is_late = |since: Instant| now.saturating_duration_since(since) >= LATE_AFTER;
        if !self.broken.is_some_and(is_late) {
            return false;
        }
        let is_lost = self.has_begun;
        self.loose = now;
        if let Some((number, _)) = self.waiting.pop_first() {
            self.reached = number;
            self.has_begun = true;
            self.advance();
        }
        self.broken = (!self.waiting.is_empty()).then_some(now);
        is_lost
    }
}

/// How long a message may come after one that is behind it.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// Messages from before the beginning, and those that were given up, come within this time.
const OLD_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reached_when_nothing_is_missing() {
        let now = Instant::now();
        let mut chain = Chain::new(10, now);
        assert_eq!(chain.hear(9, 8, now), Link::Old);
        assert_eq!(chain.hear(15, 7, now), Link::Next);
        assert_eq!(chain.hear(21, 18, now), Link::Waits);
        assert_eq!(chain.hear(18, 17, now), Link::Waits);
        assert_eq!((chain.reached(), chain.is_broken()), (15, true));
        assert_eq!(chain.hear(17, 15, now), Link::Next);
        assert_eq!((chain.reached(), chain.is_broken()), (21, false));
        assert_eq!(chain.hear(15, 7, now + OLD_WITHIN), Link::Impossible);
    }

    #[test]
    fn what_does_not_come_is_lost_unless_it_is_older() {
        let now = Instant::now();
        let mut chain = Chain::new(10, now);
        assert_eq!(chain.hear(15, 12, now), Link::Waits);
        assert!(!chain.give_up(now));
        assert!(!chain.give_up(now + LATE_AFTER), "it is older");
        assert_eq!((chain.reached(), chain.is_broken()), (15, false));
        assert_eq!(chain.hear(18, 17, now), Link::Waits);
        assert_eq!(chain.hear(20, 18, now), Link::Waits);
        assert_eq!(chain.hear(30, 29, now), Link::Waits);
        assert!(chain.give_up(now + LATE_AFTER));
        assert_eq!((chain.reached(), chain.is_broken()), (20, true));
        assert!(!chain.give_up(now + LATE_AFTER), "another second");
        assert!(chain.give_up(now + 2 * LATE_AFTER));
        assert_eq!(chain.reached(), 30);
        // One that was given up comes later.
        let late = now + 2 * LATE_AFTER + OLD_WITHIN;
        assert_eq!(chain.hear(29, 20, late - LATE_AFTER), Link::Old);
        assert_eq!(chain.hear(29, 20, late), Link::Impossible);
    }
}
