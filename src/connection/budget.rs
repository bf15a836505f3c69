//! What all connections may hold together, and what they do.

use super::journal::{Line, Matter};
use super::outbox::SEGMENT_MAX;
use super::peer::{Peer, Phase};
use crate::handshake::Request;

/// The memory of all connections together, as far as it was looked at.
///
/// Nothing is kept where there is no budget.
pub(crate) struct Budget {
    limit: usize,
    used: usize,
    /// What each connection held when it was looked at last, by slot.
    shares: Vec<usize>,
    /// What was queued in this turn, and may not have been looked at.
    queued: usize,
    /// It was said in the log that messages are refused.
    is_told: bool,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            shares: Vec::new(),
            queued: 0,
            is_told: false,
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

    /// Notes what a connection holds by now; zero when it is gone.
    pub(crate) fn charge(&mut self, slot: usize, held: usize) {
        if held > 0 && self.shares.len() <= slot {
            self.shares.resize(slot + 1, 0);
        }
        if let Some(share) = self.shares.get_mut(slot) {
            self.used = self.used.saturating_sub(*share).saturating_add(held);
            *share = held;
        }
    }

    /// Returns what each connection holds, the largest share first.
    pub(crate) fn by_share(&self) -> Vec<(usize, usize)> {
        let shares = self.shares.iter().enumerate();
        let mut shares: Vec<_> = shares.map(|(slot, share)| (*share, slot)).collect();
        shares.sort_unstable_by(|one, other| other.cmp(one));
        shares
    }

    /// First: nobody new is let in.
    pub(crate) fn keeps_out(&self) -> bool {
        self.is_on() && self.used >= part(self.limit, 6)
    }

    /// Second: returns whether `size` bytes may be queued.
    pub(super) fn has_room(&mut self, size: usize) -> bool {
        if !self.is_on() {
            return true;
        }
        let queued = self.queued.saturating_add(room_of(size));
        let fits = self.used.saturating_add(queued) <= part(self.limit, 7);
        if !fits && !std::mem::replace(&mut self.is_told, true) {
            Line::of(Matter::BudgetExceeded).write(format_args!(
                "messages are refused: memory_budget of {} bytes is nearly used up",
                self.limit
            ));
        }
        fits
    }

    /// Notes that `size` bytes are queued in this turn.
    pub(super) fn queue(&mut self, size: usize) {
        if self.is_on() {
            self.queued = self.queued.saturating_add(room_of(size));
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

    /// Begins a turn anew: all that was queued has been looked at.
    pub(crate) fn end_turn(&mut self) {
        self.queued = 0;
        self.is_told &= self.keeps_out();
    }
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

impl Peer {
    /// Returns about how many bytes the connection holds, but for what was received and what the
    /// application keeps.
    pub(crate) fn held(&self) -> usize {
        if self.phase == Phase::Gone {
            // It is removed before the turn ends.
            return 0;
        }
        let extras = self.extras();
        let compressors = extras.map_or(0, |extras| extras.compressors());
        let request = self.request().map_or(0, Request::held);
        let names = self.names.held() + request;
        BASE + names + self.transport.held() + compressors + self.queue_held()
    }

    /// Returns whether the peer reads what it is sent, as far as can be told.
    pub(crate) fn reads(&self) -> bool {
        self.backlog() == 0 && !self.transport.holds_back()
    }
}

/// What a connection has in any case, with its socket, its deadlines and its addresses.
const BASE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_added_up_and_refused_in_order() {
        let mut budget = Budget::new(800);
        assert!(budget.is_on() && !Budget::new(usize::MAX).is_on());
        budget.charge(5, 500);
        budget.charge(2, 99);
        assert!(!budget.keeps_out());
        budget.charge(2, 100);
        assert!(budget.keeps_out(), "at three quarters");
        assert!(budget.has_room(50) && !budget.has_room(51));
        budget.queue(30);
        budget.queue(20);
        assert!(!budget.has_room(1));
        budget.end_turn();
        assert!(budget.has_room(50));
        budget.charge(1, 200);
        assert!(!budget.is_exceeded() && !budget.is_relieved());
        budget.charge(7, 1);
        assert!(budget.is_exceeded());
        assert_eq!(budget.by_share()[..3], [(500, 5), (200, 1), (100, 2)]);
        budget.charge(5, 0);
        assert!(budget.is_relieved() && !budget.keeps_out());
        budget.charge(9, 0);
        assert_eq!((budget.used(), budget.shares.len()), (301, 8));
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let mut budget = Budget::new(usize::MAX);
        budget.queue(usize::MAX);
        assert!(budget.has_room(usize::MAX));
        assert!(!budget.keeps_out() && !budget.is_exceeded());
    }
}
