//! Memory of connections: charging it to the budget, and closing connections when it is used up.
//!
//! It also computes two deadlines: of a message under way, and of a connection that exceeded a
//! rate.

use std::time::Duration;

use super::Reactor;
use super::deadlines::millis;
use super::input_half::InputHalf;
use crate::connection::{Action, Core, Held, Matter, Peer, Topic};

impl Reactor {
    /// Updates a connection after it was read and settled: sets the deadlines of its message and
    /// its rate, and closes connections if the budget is exceeded.
    pub(super) fn after_read(&mut self, slot: usize) {
        if let Some(half) = self.halves.get_mut(slot) {
            let (config, now) = (&self.core.shared.config, self.now);
            let move_on = |begun, came| config.moved_on(begun, came, now);
            half.decoder.look(now, move_on);
        }
        let ends = [self.message_end(slot), self.hold_end(slot)];
        self.schedule(slot, ends.into_iter().flatten().min());
        if self.core.shared.budget.is_on() {
            self.shed();
        }
    }

    /// Charges the memory of a connection to the budget.
    pub(super) fn charge(&mut self, slot: usize) {
        let held = self.held(slot);
        let Core { peers, shared } = &mut self.core;
        match peers.get(slot) {
            Some(peer) => {
                let (budget, now) = (&mut shared.budget, shared.now);
                budget.charge(slot, held, peer.shared_messages(), now);
            }
            None => shared.budget.forget(slot),
        }
    }

    /// Returns about how many bytes of memory a connection holds, without the queued messages that
    /// it shares with others.
    pub(crate) fn held(&self, slot: usize) -> Held {
        let (half, peer) = (self.halves.get(slot), self.core.peers.get(slot));
        Held {
            received: half.map_or(0, InputHalf::held),
            ..peer.map_or_else(Held::default, Peer::held)
        }
    }

    /// Returns when the message under way has to be complete, if there is one and it is being read.
    pub(crate) fn message_end(&self, slot: usize) -> Option<u64> {
        let timeout = self.core.shared.config.message_timeout;
        let since = self.halves.get(slot)?.decoder.since(self.now)?;
        (!timeout.is_zero()).then(|| since.saturating_add(millis(timeout)))
    }

    /// Returns when a connection that exceeded a rate is read again, rounded up.
    pub(super) fn hold_end(&self, slot: usize) -> Option<u64> {
        let until = self.core.peers.get(slot)?.held_off_until()?;
        Some(millis(until).saturating_add(1))
    }

    /// Closes the connections that hold most, if `memory_budget` is exceeded, until an eighth of it
    /// is free. That many bytes have to arrive before it is exceeded again.
    pub(super) fn shed(&mut self) {
        if !self.core.shared.budget.is_exceeded() {
            return;
        }
        self.forget_histories();
        if !self.core.shared.budget.is_exceeded() {
            return;
        }
        if let Some(line) = self
            .core
            .shared
            .admits(Topic::Other(Matter::BudgetExceeded))
        {
            line.write(format_args!(
                "memory_budget of {} bytes is exceeded: the connections that hold the most memory are closed",
                self.core.shared.budget.limit()
            ));
        }
        for (_, slot) in self.core.shared.budget.by_share() {
            if self.core.shared.budget.is_relieved() {
                break;
            }
            self.give_up(slot);
        }
    }

    /// Closes connections because memory has been short for some time: first those that neither
    /// read nor send, in the end those that hold most. It stops when enough is free that memory
    /// does not become short again at once.
    pub(super) fn relieve(&mut self) {
        self.forget_histories();
        let now = self.core.shared.now;
        let mut closed = 0;
        for (_, slot) in self.core.shared.budget.overdue(now) {
            if self.core.shared.budget.is_at_ease() {
                break;
            }
            self.give_up(slot);
            closed += 1;
        }
        if closed > 0
            && let Some(line) = self
                .core
                .shared
                .admits(Topic::Other(Matter::BudgetExceeded))
        {
            line.write(format_args!(
                "three quarters of memory_budget of {} bytes stayed in use: {closed} connections \
                 that did not read, or held the most memory, are closed",
                self.core.shared.budget.limit()
            ));
        }
        let again = self.core.shared.budget.first_look();
        self.watch_memory(again);
    }

    /// Drops the histories of all topics: subscribers who need them get a gap.
    fn forget_histories(&mut self) {
        let shared = &mut self.core.shared;
        if shared.topics.forget_histories() {
            shared.charge_topics();
            if let Some(line) = shared.admits(Topic::Other(Matter::BudgetExceeded)) {
                line.write(format_args!(
                    "memory is short: the histories of all topics are dropped"
                ));
            }
        }
    }

    /// Sets the timer of the next [`relieve`](Self::relieve); `end_budget` clears it when memory is
    /// no longer short.
    pub(super) fn watch_memory(&mut self, after: Duration) {
        let due = self.core.shared.now.saturating_add(after);
        self.relief = Some(self.core.shared.timers.set(due, Action::Relieve));
    }

    fn give_up(&mut self, slot: usize) {
        let asks = self.halves.get(slot).is_some_and(InputHalf::owes_answer);
        if let Some(mut dispatch) = self.dispatch(slot) {
            dispatch.give_up(asks);
            self.settle(slot);
        }
    }
}
