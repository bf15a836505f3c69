//! Graceful shutdown: clients are closed one after the other, and those left at the deadline are
//! cut.
//!
//! Both steps are timers, so a server that does not shut down pays nothing for them.

use std::collections::VecDeque;
use std::time::Duration;

use super::Reactor;
use super::input_half::Flags;
use crate::connection::event::Cause;
use crate::connection::{Action, Leaving, Phase, Plan, TimerId};
use crate::protocol::CloseCode;

/// The schedule of a graceful shutdown.
pub(super) struct Schedule {
    /// Connections that are still to be closed, the oldest first.
    queue: VecDeque<Turn>,
    /// Connections that were due while received data waited for delivery, and when each is closed
    /// regardless of it.
    late: Vec<(Turn, Duration)>,
    /// When the spread of the queue began, how long it takes, and how many connections were in the
    /// queue then. Times are from the reactor's epoch.
    begun: Duration,
    spread: Duration,
    count: usize,
    /// When the connections that are left are cut.
    end: Duration,
    step: Option<TimerId>,
    end_timer: TimerId,
}

/// A connection that is to be closed.
#[derive(Clone, Copy)]
struct Turn {
    serial: u64,
    slot: usize,
}

impl Schedule {
    /// Returns when the first connection in the queue is closed.
    fn due(&self) -> Option<Duration> {
        let left = self.queue.len();
        let (called, count) = ((self.count - left) as u128, self.count as u128);
        let after = self.spread.as_nanos() * called / count.max(1);
        let after = Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
        (left > 0).then(|| self.begun.saturating_add(after))
    }

    /// Spreads the closing of the connections in the queue over a time from `now` on.
    fn spread(&mut self, now: Duration, spread: Duration) {
        self.begun = now;
        self.spread = spread.min(SPREAD_MAX);
        self.count = self.queue.len();
    }
}

impl Reactor {
    /// Begins to close all clients, one after the other. The server has closed the listeners.
    pub(crate) fn wind_down(&mut self, plan: Plan) {
        let now = self.core.shared.now;
        let peers = self.core.peers.iter();
        let turns = peers.map(|(slot, peer)| Turn {
            serial: peer.serial,
            slot,
        });
        let mut queue: Vec<Turn> = turns.collect();
        queue.sort_unstable_by_key(|turn| turn.serial);
        let end = now.saturating_add(plan.deadline);
        let mut schedule = Schedule {
            queue: queue.into(),
            late: Vec::new(),
            begun: now,
            spread: Duration::ZERO,
            count: 0,
            end,
            step: None,
            end_timer: self.core.shared.timers.set(end, Action::WindDownEnd),
        };
        schedule.spread(now, plan.spread.min(plan.deadline));
        self.schedule = Some(Box::new(schedule));
        self.core.shared.leaving = Some(Leaving {
            code: plan.code,
            called: 0,
        });
        self.close_next();
    }

    /// Brings the deadline and the spread of a graceful shutdown forward, if those of `plan` are
    /// earlier.
    pub(crate) fn hasten(&mut self, plan: Plan) {
        let now = self.core.shared.now;
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        let end = now.saturating_add(plan.deadline);
        if end < schedule.end {
            schedule.end = end;
            self.core.shared.timers.clear(schedule.end_timer);
            schedule.end_timer = self.core.shared.timers.set(end, Action::WindDownEnd);
        }
        let last = schedule.begun.saturating_add(schedule.spread);
        let spread = plan.spread.min(schedule.end.saturating_sub(now));
        if now.saturating_add(spread) < last {
            schedule.spread(now, spread);
        }
        self.close_next();
    }

    /// Ends the spread of a graceful shutdown, so that all clients left are closed at once. Returns
    /// the code for it, or `None` if no graceful shutdown is under way. The deadline stays.
    pub(crate) fn end_spread(&mut self) -> Option<CloseCode> {
        let schedule = self.schedule.take()?;
        if let Some(step) = schedule.step {
            self.core.shared.timers.clear(step);
        }
        self.core.shared.leaving.map(|leaving| leaving.code)
    }

    /// Ends a graceful shutdown at its deadline. Clients that were not closed yet are sent a Close
    /// frame, as far as the kernel takes it, and all connections are cut.
    pub(super) fn end_wind_down(&mut self) {
        if let Some(code) = self.end_spread() {
            self.close_all(code);
            self.end_turn();
        }
        self.cut_all();
    }

    /// Returns whether a graceful shutdown is under way, in which clients are still served.
    pub(crate) fn is_winding_down(&self) -> bool {
        self.schedule.is_some()
    }

    /// Closes the connections that are due.
    pub(super) fn close_next(&mut self) {
        let now = self.core.shared.now;
        let (Some(schedule), Some(leaving)) = (&mut self.schedule, &mut self.core.shared.leaving)
        else {
            return;
        };
        let mut called = std::mem::take(&mut schedule.late);
        let until = now.saturating_add(self.core.shared.config.close_timeout);
        while schedule.due().is_some_and(|due| due <= now) {
            let Some(turn) = schedule.queue.pop_front() else {
                break;
            };
            leaving.called = turn.serial;
            called.push((turn, until));
        }
        let code = leaving.code;
        called.retain(|(turn, until)| !self.close_one(turn, code, now >= *until));
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        schedule.late = called;
        let late = (!schedule.late.is_empty()).then(|| now.saturating_add(AGAIN));
        let next = [late, schedule.due()].into_iter().flatten().min();
        if let Some(step) = schedule.step.take() {
            self.core.shared.timers.clear(step);
        }
        schedule.step = next.map(|due| self.core.shared.timers.set(due, Action::WindDownStep));
    }

    /// Closes a connection, unless received data waits for delivery; returns whether nothing is
    /// left to do for it.
    fn close_one(&mut self, turn: &Turn, code: CloseCode, is_last: bool) -> bool {
        let Turn { serial, slot } = *turn;
        let now = self.now;
        let Some((half, mut conn)) = self.both(slot) else {
            return true;
        };
        if conn.peer.serial != serial {
            return true;
        }
        match conn.peer.phase() {
            Phase::Opening => {
                // An idle connection ends now, the others when they have been answered.
                if half.is_idle_http()
                    && !half.has_unread()
                    && let Some(http) = half.http_mut()
                {
                    http.last = true;
                    half.stamp = now;
                    conn.mark_dirty();
                    self.arm(slot);
                }
            }
            Phase::Open => {
                let unread = half.flags.has(Flags::ENQUEUED) || half.has_unread();
                if unread && !is_last && !conn.is_stalled() {
                    return false;
                }
                conn.close(code, Cause::Shutdown);
            }
            Phase::Closing | Phase::Lingering | Phase::Gone => {}
        }
        true
    }

    /// Returns whether a graceful shutdown waits for the peer to read what precedes its Close
    /// frame.
    pub(super) fn is_owed(&self, slot: usize) -> bool {
        let peer = self.core.peers.get(slot);
        self.schedule.is_some() && peer.is_some_and(|peer| !peer.reads())
    }
}

/// How soon a connection is checked again while its data waits for delivery.
const AGAIN: Duration = Duration::from_millis(1);

/// The longest spread, some 580 years, so that it can be counted in nanoseconds.
const SPREAD_MAX: Duration = Duration::from_nanos(u64::MAX);
