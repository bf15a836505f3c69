//! The memory budget of all connections together, and how much of it they use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::log_lines::{Line, Matter};
use crate::connection::send::{COPY_MAX, SEGMENT_MAX};

/// The memory of all connections together, as recorded when each was last checked.
///
/// Without a budget, nothing is recorded.
pub(crate) struct Budget {
    limit: usize,
    used: usize,
    /// The memory of each connection when it was last checked, by slot.
    shares: Vec<Share>,
    /// Messages that are in the queues of several connections, by address. Each counts once.
    shared: HashMap<usize, Shared>,
    /// The memory of topics, with their subscriptions and histories.
    topics: usize,
    /// Bytes that were queued in this turn for connections that were not checked since.
    queued: usize,
    /// The addresses of shared messages that were first queued in this turn.
    fresh: Vec<usize>,
    /// Whether the log says already that messages are refused.
    is_told: bool,
    pressure: Option<Pressure>,
    /// How long memory may be short before connections are closed.
    relief: Duration,
}

/// A shared message, and the number of queues that hold it.
struct Shared {
    bytes: Arc<[u8]>,
    queues: u32,
}

/// The memory of one connection.
#[derive(Default)]
struct Share {
    held: Held,
    /// The shared messages in its queue.
    shared: Vec<Arc<[u8]>>,
    /// When the kernel last took bytes of its queue, or when the queue began.
    sent_at: Duration,
    /// When bytes last came from it, or when it began to hold received data.
    received_at: Duration,
}

/// The bytes of memory that one connection holds and shares with no other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Held {
    /// Memory that the connection needs as long as it lives: its state, TLS, compressors.
    pub(crate) fixed: usize,
    /// Data that waits to be sent.
    pub(crate) unsent: usize,
    /// Received data that is incomplete, or that waits to be delivered.
    pub(crate) received: usize,
}

impl Held {
    pub(crate) fn all(&self) -> usize {
        self.fixed + self.unsent + self.received
    }
}

impl Share {
    /// Returns all memory of the connection, with shared messages in full.
    fn size(&self) -> usize {
        let shared: usize = self.shared.iter().map(|bytes| bytes.len()).sum();
        self.held.all() + shared
    }

    /// Returns how much memory would be free if the peer had read and sent everything.
    fn excess(&self) -> usize {
        self.size() - self.held.fixed
    }

    /// Returns whether the connection holds unsent or received data that has not moved since
    /// `since`.
    fn is_stalled(&self, since: Duration) -> bool {
        let unsent = self.held.unsent > 0 || !self.shared.is_empty();
        (unsent && self.sent_at <= since) || (self.held.received > 0 && self.received_at <= since)
    }
}

/// The state in which memory is short and new connections wait.
#[derive(Clone, Copy, Debug)]
struct Pressure {
    since: Duration,
}

/// How a turn changed the shortage of memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// Memory has become short; connections are to be checked after this time.
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
            topics: 0,
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

    /// Records the memory of a connection, and the shared messages in its queue.
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
        // New messages are added first, so that those that stay are not removed in between.
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

    /// Records the memory of topics.
    pub(crate) fn charge_topics(&mut self, held: usize) {
        let freed = std::mem::replace(&mut self.topics, held);
        self.used = self.used.saturating_sub(freed).saturating_add(held);
    }

    /// Forgets a connection that has ended.
    pub(crate) fn forget(&mut self, slot: usize) {
        if slot < self.shares.len() {
            self.charge(slot, Held::default(), std::iter::empty(), Duration::ZERO);
        }
    }

    /// Records that the kernel took data of a connection's queue.
    pub(crate) fn note_sent(&mut self, slot: usize, now: Duration) {
        if let Some(share) = self.shares.get_mut(slot) {
            share.sent_at = now;
        }
    }

    /// Records that bytes came from a connection.
    pub(crate) fn note_received(&mut self, slot: usize, now: Duration) {
        if let Some(share) = self.shares.get_mut(slot) {
            share.received_at = now;
        }
    }

    /// Returns the size and the slot of each connection, the largest first.
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

    /// Returns the connections that may be closed because memory is short, those with the most data
    /// in queues and incomplete messages first. These are connections whose data has not moved for
    /// a tenth of `relief` and, once memory has been short for all of `relief`, all the others.
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

    /// Returns the time from when memory became short to the first check of connections, and from
    /// then on between checks.
    pub(crate) fn first_look(&self) -> Duration {
        self.relief / 10
    }

    /// First step: returns whether no new connections are accepted.
    pub(crate) fn keeps_out(&self) -> bool {
        self.is_on() && self.used >= part(self.limit, 6)
    }

    /// Second step: returns whether `size` bytes may be queued.
    pub(crate) fn has_room(&mut self, size: usize) -> bool {
        !self.is_on() || self.fits(room_of(size))
    }

    /// Second step: returns whether a message may be queued that other connections are sent as
    /// well.
    pub(crate) fn has_room_for(&mut self, bytes: &Arc<[u8]>) -> bool {
        !self.is_on() || self.fits(self.room_for(bytes))
    }

    /// Second step: returns whether these frames may be queued, one after the other.
    pub(crate) fn has_room_for_all<'f>(&mut self, frames: impl Iterator<Item = &'f [u8]>) -> bool {
        !self.is_on() || self.fits(frames.map(|frame| room_of(frame.len())).sum())
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

    /// Returns whether the rest of `size` bytes may be queued after the kernel took the first of
    /// them.
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

    /// Records that `size` bytes are queued in this turn.
    pub(crate) fn queue(&mut self, size: usize) {
        if self.is_on() {
            self.queued = self.queued.saturating_add(room_of(size));
        }
    }

    /// Records that a shared message is queued in this turn.
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

    /// Third step: returns whether connections have to be closed.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used > self.limit
    }

    /// Returns whether enough connections were closed.
    pub(crate) fn is_relieved(&self) -> bool {
        self.used <= part(self.limit, 7)
    }

    /// Returns whether so much memory is free that it will not be short again at once.
    pub(crate) fn is_at_ease(&self) -> bool {
        self.used <= part(self.limit, 5)
    }

    /// Ends a turn, after all connections for which data was queued in it were checked.
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

/// Returns the address of a shared message, which identifies it as long as it is kept.
fn address(bytes: &Arc<[u8]>) -> usize {
    Arc::as_ptr(bytes).cast::<u8>().addr()
}

/// Returns how much memory a message of `size` bytes may take in a queue: small messages are joined
/// in segments, whose memory doubles when they grow.
fn room_of(size: usize) -> usize {
    if size < SEGMENT_MAX { 2 * size } else { size }
}

/// Returns a number of eighths of a limit.
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
