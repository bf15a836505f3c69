//! What connections hold and how fast they are: who is put off, held off or closed for it.

use std::time::Duration;

use super::Reactor;
use super::deadlines::millis;
use super::input_half::InputHalf;
use crate::connection::{Action, Core, Held, Matter, Peer, Topic};

impl Reactor {
    /// Looks at a connection after it was read and settled: at the deadlines that this brings, and at
    /// what all connections hold by now.
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

    /// Notes what a connection holds.
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

    /// Returns about how many bytes of memory a connection holds, without the messages in its queue
    /// that others have as well.
    pub(crate) fn held(&self, slot: usize) -> Held {
        let (half, peer) = (self.halves.get(slot), self.core.peers.get(slot));
        Held {
            received: half.map_or(0, InputHalf::held),
            ..peer.map_or_else(Held::default, Peer::held)
        }
    }

    /// Returns when the message under way has to be whole, if one is and somebody reads it.
    pub(crate) fn message_end(&self, slot: usize) -> Option<u64> {
        let timeout = self.core.shared.config.message_timeout;
        let since = self.halves.get(slot)?.decoder.since(self.now)?;
        (!timeout.is_zero()).then(|| since.saturating_add(millis(timeout)))
    }

    /// Returns when a connection that is held off is to be read again: not early.
    pub(super) fn hold_end(&self, slot: usize) -> Option<u64> {
        let until = self.core.peers.get(slot)?.held_off_until()?;
        Some(millis(until).saturating_add(1))
    }

    /// Closes those who hold most, if `memory_budget` is exceeded, until an eighth of it is free: as
    /// many bytes have to come before it is exceeded again.
    pub(super) fn shed(&mut self) {
        if !self.core.shared.budget.is_exceeded() {
            return;
        }
        if let Some(line) = self
            .core
            .shared
            .admits(Topic::Other(Matter::BudgetExceeded))
        {
            line.write(format_args!(
                "memory_budget of {} bytes is exceeded: those who hold most are closed",
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

    /// Has connections give memory back that has been short for a time: those that have not moved
    /// first, and in the end whoever holds most. Stops when it will not be short again at once.
    pub(super) fn relieve(&mut self) {
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
                 that did not read, or held most, are closed",
                self.core.shared.budget.limit()
            ));
        }
        let again = self.core.shared.budget.first_look();
        self.watch_memory(again);
    }

    /// Looks at the connections again after a time, if memory is short then.
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
