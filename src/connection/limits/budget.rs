//! How much memory all connections may hold together, and how much they do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::log_lines::{Line, Matter};
use crate::connection::send::{COPY_MAX, SEGMENT_MAX};

/// The memory of all connections together, as of when each was looked at last.
///
/// Nothing is kept where there is no budget.
pub(crate) struct Budget {
    limit: usize,
    used: usize,
    /// What each connection held when it was looked at last, by slot.
    shares: Vec<Share>,
    /// The messages that several connections have in their queues, by address. Each counts once.
    shared: HashMap<usize, Shared>,
    /// Bytes that were queued in this turn for connections that were not looked at since.
    queued: usize,
    /// The addresses of shared messages that were queued first in this turn.
    fresh: Vec<usize>,
    /// The log was told that messages are refused.
    is_told: bool,
    pressure: Option<Pressure>,
    /// How long memory may be short before it is taken back.
    relief: Duration,
}

/// A message that is in the queues of so many connections.
struct Shared {
    bytes: Arc<[u8]>,
    queues: u32,
}

/// What one connection holds.
#[derive(Default)]
struct Share {
    held: Held,
    /// The shared messages in its queue.
    shared: Vec<Arc<[u8]>>,
    /// When it last took bytes from its queue, or began to queue.
    sent_at: Duration,
    /// When bytes last came from it, or what it holds of them began.
    received_at: Duration,
}

/// Bytes of memory that one connection holds and shares with no other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Held {
    /// Needed for as long as the connection lives: its state, TLS, compressors.
    pub(crate) fixed: usize,
    /// Waits to be sent.
    pub(crate) unsent: usize,
    /// Was received, and is not whole or waits to be delivered.
    pub(crate) received: usize,
}

impl Held {
    pub(crate) fn all(&self) -> usize {
        self.fixed + self.unsent + self.received
    }
}

impl Share {
    /// Returns all that the connection holds, with shared messages in full.
    fn size(&self) -> usize {
        let shared: usize = self.shared.iter().map(|bytes| bytes.len()).sum();
        self.held.all() + shared
    }

    /// Returns what would be free if the peer had read and sent everything.
    fn excess(&self) -> usize {
        self.size() - self.held.fixed
    }

    /// Returns whether the peer has neither read nor sent since `since`, as far as it holds memory.
    fn is_stalled(&self, since: Duration) -> bool {
        let unsent = self.held.unsent > 0 || !self.shared.is_empty();
        (unsent && self.sent_at <= since) || (self.held.received > 0 && self.received_at <= since)
    }
}

/// Memory is short: new connections wait.
#[derive(Clone, Copy, Debug)]
struct Pressure {
    since: Duration,
}

/// What the end of a turn has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// Memory has become short; the connections are to be looked at after this time.
    Short(Duration),
    /// Memory is not short any more.
    Relieved,
    Same,
}

impl Budget {
    pub(crate) fn new(limit: usize, relief: Duration) -> Self {
        Self {
            limit,
            used: 0,
            shares: Vec::new(),
            shared: HashMap::new(),
            queued: 0,
            fresh: Vec::new(),
            is_told: false,
            pressure: None,
            relief,
        }
    }

    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.limit < usize::MAX
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Notes what a connection holds by now, and the shared messages in its queue.
    pub(crate) fn charge<'b>(
        &mut self,
        slot: usize,
        held: Held,
        shared: impl Iterator<Item = &'b Arc<[u8]>>,
        now: Duration,
    ) {
        if self.shares.len() <= slot {
            self.shares.resize_with(slot + 1, Share::default);
        }
        let share = &mut self.shares[slot];
        let mut before = std::mem::take(&mut share.shared);
        let was_empty = share.held.unsent == 0 && before.is_empty();
        // The new ones first, so that those which stay are not given up in between.
        for bytes in shared {
            let entry = self.shared.entry(address(bytes)).or_insert_with(|| Shared {
                bytes: bytes.clone(),
                queues: 0,
            });
            if entry.queues == 0 {
                self.used = self.used.saturating_add(bytes.len());
            }
            entry.queues += 1;
            share.shared.push(bytes.clone());
        }
        for bytes in before.drain(..) {
            let at = address(&bytes);
            if let Some(entry) = self.shared.get_mut(&at) {
                entry.queues -= 1;
                if entry.queues == 0 {
                    self.used = self.used.saturating_sub(entry.bytes.len());
                    self.shared.remove(&at);
                }
            }
        }
        if was_empty {
            share.sent_at = now;
        }
        if share.held.received == 0 {
            share.received_at = now;
        }
        let freed = std::mem::replace(&mut share.held, held).all();
        self.used = self.used.saturating_sub(freed).saturating_add(held.all());
    }

    /// Forgets a connection that is gone.
    pub(crate) fn forget(&mut self, slot: usize) {
        if slot < self.shares.len() {
            self.charge(slot, Held::default(), std::iter::empty(), Duration::ZERO);
        }
    }

    /// Notes that the kernel took more of a queue that it had not taken before.
    pub(crate) fn note_sent(&mut self, slot: usize, now: Duration) {
        if let Some(share) = self.shares.get_mut(slot) {
            share.sent_at = now;
        }
    }

    /// Notes that bytes came from a connection.
    pub(crate) fn note_received(&mut self, slot: usize, now: Duration) {
        if let Some(share) = self.shares.get_mut(slot) {
            share.received_at = now;
        }
    }

    /// Returns the connections and what each holds, the largest share first.
    pub(crate) fn by_share(&self) -> Vec<(usize, usize)> {
        self.sorted(Share::size)
    }

    fn sorted(&self, size: impl Fn(&Share) -> usize) -> Vec<(usize, usize)> {
        let shares = self.shares.iter().enumerate();
        let sized = shares.map(|(slot, share)| (size(share), slot));
        let mut shares: Vec<_> = sized.filter(|(size, _)| *size > 0).collect();
        shares.sort_unstable_by(|one, other| other.cmp(one));
        shares
    }

    /// Returns the connections that are to give memory back because it has been short for too
    /// long, those first that hold most of it in queues and unfinished messages. First those are
    /// meant that have not moved for a tenth of the time; when the whole time is over, all.
    pub(crate) fn overdue(&self, now: Duration) -> Vec<(usize, usize)> {
        let Some(pressure) = self.pressure else {
            return Vec::new();
        };
        let is_over = now >= pressure.since.saturating_add(self.relief);
        let since = now.saturating_sub(self.first_look());
        self.sorted(|share| match is_over || share.is_stalled(since) {
            true => share.excess(),
            false => 0,
        })
    }

    /// Returns how soon the connections are looked at once memory is short, and then again.
    pub(crate) fn first_look(&self) -> Duration {
        self.relief / 10
    }

    /// First: no new connection is accepted.
    pub(crate) fn keeps_out(&self) -> bool {
        self.is_on() && self.used >= part(self.limit, 6)
    }

    /// Second: returns whether `size` bytes may be queued.
    pub(crate) fn has_room(&mut self, size: usize) -> bool {
        !self.is_on() || self.fits(room_of(size))
    }

    /// Second: returns whether a message may be queued that other connections are sent as well.
    pub(crate) fn has_room_for(&mut self, bytes: &Arc<[u8]>) -> bool {
        !self.is_on() || self.fits(self.room_for(bytes))
    }

    fn fits(&mut self, room: usize) -> bool {
        let queued = self.queued.saturating_add(room);
        let fits = self.used.saturating_add(queued) <= part(self.limit, 7);
        if !fits && !std::mem::replace(&mut self.is_told, true) {
            Line::of(Matter::BudgetExceeded).write(format_args!(
                "messages are refused: memory_budget of {} bytes is nearly used up",
                self.limit
            ));
        }
        fits
    }

    /// Returns whether a part of `size` bytes may be queued because the kernel took the beginning.
    pub(crate) fn has_rest(&self, size: usize) -> bool {
        let all = self.used.saturating_add(self.queued).saturating_add(size);
        all <= self.limit
    }

    /// Returns how much memory a shared message takes if it is queued once more.
    fn room_for(&self, bytes: &Arc<[u8]>) -> usize {
        if bytes.len() <= COPY_MAX {
            room_of(bytes.len())
        } else if self.shared.contains_key(&address(bytes)) {
            0
        } else {
            bytes.len()
        }
    }

    /// Notes that `size` bytes are queued in this turn.
    pub(crate) fn queue(&mut self, size: usize) {
        if self.is_on() {
            self.queued = self.queued.saturating_add(room_of(size));
        }
    }

    /// Notes that a shared message is queued in this turn.
    pub(crate) fn queue_shared(&mut self, bytes: &Arc<[u8]>) {
        if !self.is_on() {
            return;
        }
        self.queued = self.queued.saturating_add(self.room_for(bytes));
        let at = address(bytes);
        if bytes.len() > COPY_MAX && !self.shared.contains_key(&at) {
            let bytes = bytes.clone();
            self.shared.insert(at, Shared { bytes, queues: 0 });
            self.fresh.push(at);
        }
    }

    /// Third: whether connections have to be closed.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used > self.limit
    }

    /// Returns whether enough of them were closed.
    pub(crate) fn is_relieved(&self) -> bool {
        self.used <= part(self.limit, 7)
    }

    /// Returns whether so much is free that memory will not be short again at once.
    pub(crate) fn is_at_ease(&self) -> bool {
        self.used <= part(self.limit, 5)
    }

    /// Ends a turn: all that was queued in it has been looked at.
    pub(crate) fn end_turn(&mut self, now: Duration) -> Turn {
        self.queued = 0;
        for at in self.fresh.drain(..) {
            if self.shared.get(&at).is_some_and(|entry| entry.queues == 0) {
                self.shared.remove(&at);
            }
        }
        self.is_told &= self.keeps_out();
        match (self.keeps_out(), self.pressure) {
            (true, None) => {
                self.pressure = Some(Pressure { since: now });
                Turn::Short(self.first_look())
            }
            (false, Some(_)) => {
                self.pressure = None;
                Turn::Relieved
            }
            _ => Turn::Same,
        }
    }

    /// Returns since when memory has been short, if it is.
    #[cfg(test)]
    pub(crate) fn short_since(&self) -> Option<Duration> {
        self.pressure.map(|pressure| pressure.since)
    }
}

/// Returns what tells a shared message from others for as long as it is kept.
fn address(bytes: &Arc<[u8]>) -> usize {
    Arc::as_ptr(bytes).cast::<u8>().addr()
}

/// Returns how much memory a message of `size` bytes may take in a queue: small ones are joined in
/// segments that double as they grow.
fn room_of(size: usize) -> usize {
    if size < SEGMENT_MAX { 2 * size } else { size }
}

/// Returns so many eighths of a limit.
fn part(limit: usize, eighths: usize) -> usize {
    limit / 8 * eighths
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELIEF: Duration = Duration::from_secs(10);
    const NOW: Duration = Duration::from_secs(100);

    fn charge(budget: &mut Budget, slot: usize, unsent: usize) {
        let held = Held {
            unsent,
            ..Held::default()
        };
        budget.charge(slot, held, std::iter::empty(), NOW);
    }

    fn charge_shared(budget: &mut Budget, slot: usize, shared: &[&Arc<[u8]>]) {
        budget.charge(slot, Held::default(), shared.iter().copied(), NOW);
    }

    fn message(len: usize) -> Arc<[u8]> {
        vec![7; len].into()
    }

    #[test]
    fn shares_are_added_up_and_refused_in_order() {
        let mut budget = Budget::new(800, RELIEF);
        assert!(budget.is_on() && !Budget::new(usize::MAX, RELIEF).is_on());
        charge(&mut budget, 5, 500);
        charge(&mut budget, 2, 99);
        assert!(!budget.keeps_out());
        charge(&mut budget, 2, 100);
        assert!(budget.keeps_out(), "at three quarters");
        assert!(budget.has_room(50) && !budget.has_room(51));
        budget.queue(30);
        budget.queue(20);
        assert!(!budget.has_room(1));
        budget.end_turn(NOW);
        assert!(budget.has_room(50));
        charge(&mut budget, 1, 200);
        assert!(!budget.is_exceeded() && !budget.is_relieved());
        charge(&mut budget, 7, 1);
        assert!(budget.is_exceeded());
        assert_eq!(budget.by_share()[..3], [(500, 5), (200, 1), (100, 2)]);
        budget.forget(5);
        assert!(budget.is_relieved() && !budget.keeps_out());
        budget.forget(9);
        assert_eq!((budget.used(), budget.shares.len()), (301, 8));
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let mut budget = Budget::new(usize::MAX, RELIEF);
        budget.queue(usize::MAX);
        assert!(budget.has_room(usize::MAX));
        assert!(!budget.keeps_out() && !budget.is_exceeded());
    }

    #[test]
    fn a_shared_message_counts_once_until_the_last_queue_is_without_it() {
        let mut budget = Budget::new(100_000, RELIEF);
        let (one, other) = (message(40_000), message(30_000));
        for slot in 0..10 {
            assert!(budget.has_room_for(&one));
            budget.queue_shared(&one);
            charge_shared(&mut budget, slot, &[&one]);
        }
        budget.end_turn(NOW);
        assert_eq!(budget.used(), 40_000);
        assert_eq!(budget.by_share()[0], (40_000, 9), "each holds all of it");
        assert!(budget.has_room_for(&other));
        charge_shared(&mut budget, 3, &[&one, &other]);
        assert_eq!(budget.used(), 70_000);
        assert!(budget.has_room_for(&other), "it is there already");
        assert!(!budget.has_room_for(&message(30_000)));
        for slot in 0..9 {
            budget.forget(slot);
        }
        assert_eq!(budget.used(), 40_000);
        charge_shared(&mut budget, 9, &[]);
        assert_eq!((budget.used(), budget.shared.len()), (0, 0));
    }

    #[test]
    fn a_shared_message_that_is_in_no_queue_when_the_turn_ends_is_let_go() {
        let mut budget = Budget::new(100_000, RELIEF);
        let one = message(50_000);
        budget.queue_shared(&one);
        budget.queue_shared(&one);
        assert_eq!(budget.queued, 50_000);
        budget.end_turn(NOW);
        assert_eq!((budget.queued, budget.shared.len()), (0, 0));
        assert_eq!(Arc::strong_count(&one), 1);
    }

    #[test]
    fn memory_that_stays_short_is_taken_from_those_who_do_not_move() {
        let mut budget = Budget::new(800, RELIEF);
        for (slot, unsent) in [(1, 100), (2, 200), (3, 300)] {
            charge(&mut budget, slot, unsent);
        }
        let look = Turn::Short(Duration::from_secs(1));
        assert_eq!(budget.end_turn(NOW), look);
        assert_eq!(budget.end_turn(NOW), Turn::Same);
        let later = |millis| NOW + Duration::from_millis(millis);
        assert_eq!(budget.overdue(later(900)), []);
        budget.note_sent(2, later(800));
        assert_eq!(budget.overdue(later(1000)), [(300, 3), (100, 1)]);
        budget.note_sent(2, later(9_900));
        budget.note_sent(3, later(9_900));
        assert_eq!(budget.overdue(later(9_999)), [(100, 1)]);
        let all = [(300, 3), (200, 2), (100, 1)];
        assert_eq!(budget.overdue(later(10_000)), all);
        assert!(!budget.is_at_ease());
        budget.forget(3);
        assert!(budget.is_at_ease());
        assert_eq!(budget.end_turn(later(10_000)), Turn::Relieved);
        assert_eq!(budget.overdue(later(20_000)), []);
    }

    #[test]
    fn what_a_connection_needs_to_live_is_not_taken_back() {
        let mut budget = Budget::new(800, RELIEF);
        let held = Held {
            fixed: 700,
            ..Held::default()
        };
        budget.charge(1, held, std::iter::empty(), NOW);
        budget.end_turn(NOW);
        assert!(budget.keeps_out());
        assert_eq!(budget.overdue(NOW + 2 * RELIEF), []);
    }
}
