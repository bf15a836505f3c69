//! Timers and intervals of the application, and the lifetimes of connections.
//!
//! Only timers that were set take memory: a server without timers has an empty tree and makes one
//! comparison per turn of the loop. Unlike the deadlines in the reactor's wheel, timers are exact
//! to a millisecond.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::callbacks::{ConnectionAction, HubAction};

/// The number of a timer or an interval. Its server never reuses it, so one that outlives its timer
/// is harmless.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TimerId(u64);

impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The action of a timer.
pub(crate) enum Action {
    Connection(usize, ConnectionAction),
    /// A graceful shutdown has reached its deadline.
    WindDownEnd,
    /// A client is due to be closed in a graceful shutdown.
    WindDownStep,
    Hub(HubAction),
    /// Health checks have failed for long enough: the graceful shutdown begins.
    LameDuckEnd,
    /// Memory has been short for some time.
    Relieve,
    /// The number of log lines that were left out has to be reported.
    ReportSuppressed,
    /// Kept messages of topics expire at this time.
    Expire(Duration),
    /// The connection in this slot has reached its maximum lifetime.
    Lifetime(usize),
}

impl Action {
    /// Returns the slot of the connection whose end removes the timer.
    fn owner(&self) -> Option<usize> {
        match self {
            Self::Connection(slot, _) | Self::Lifetime(slot) => Some(*slot),
            Self::WindDownEnd
            | Self::WindDownStep
            | Self::Expire(_)
            | Self::Hub(_)
            | Self::LameDuckEnd
            | Self::ReportSuppressed
            | Self::Relieve => None,
        }
    }
}

struct Timer {
    due: Duration,
    /// The time between two firings; `None` if the timer fires once.
    every: Option<Duration>,
    owner: Option<usize>,
    is_lifetime: bool,
    /// `None` while the action runs.
    action: Option<Action>,
}

/// The timers of a server; times are from the reactor's epoch.
pub(crate) struct Timers {
    timers: BTreeMap<TimerId, Timer>,
    /// In the order of firing: by time, then by creation.
    queue: BTreeSet<(Duration, TimerId)>,
    /// The timers of connections, by slot.
    owned: BTreeSet<(usize, TimerId)>,
    last: u64,
    /// When the first timer is due, in milliseconds, rounded up; `u64::MAX` if there is none.
    next: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            timers: BTreeMap::new(),
            queue: BTreeSet::new(),
            owned: BTreeSet::new(),
            last: 0,
            next: u64::MAX,
        }
    }
}

impl Timers {
    /// Returns when the first timer is due, in milliseconds; `u64::MAX` means never.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn number(&mut self) -> TimerId {
        self.last += 1;
        TimerId(self.last)
    }

    /// Sets a timer of the server itself.
    pub(crate) fn set(&mut self, due: Duration, action: Action) -> TimerId {
        self.add(due, None, action)
    }

    /// Clears a timer of the server itself.
    pub(crate) fn clear(&mut self, id: TimerId) {
        self.remove(id);
    }

    pub(super) fn add(
        &mut self,
        due: Duration,
        every: Option<Duration>,
        action: Action,
    ) -> TimerId {
        let id = self.number();
        let owner = action.owner();
        if let Some(slot) = owner {
            self.owned.insert((slot, id));
        }
        self.queue.insert((due, id));
        let timer = Timer {
            due,
            every,
            owner,
            is_lifetime: matches!(action, Action::Lifetime(_)),
            action: Some(action),
        };
        self.timers.insert(id, timer);
        self.refresh();
        id
    }

    /// Sets when the connection in `slot` has to end; `None` means never.
    pub(crate) fn set_lifetime(&mut self, slot: usize, due: Option<Duration>) {
        let old = self
            .of(slot)
            .into_iter()
            .find(|id| self.timers.get(id).is_some_and(|timer| timer.is_lifetime));
        if let Some(old) = old {
            self.remove(old);
        }
        if let Some(due) = due {
            self.add(due, None, Action::Lifetime(slot));
        }
    }

    /// Removes a timer; returns `None` if there is none, and `Some(None)` while its action runs.
    pub(super) fn remove(&mut self, id: TimerId) -> Option<Option<Action>> {
        let timer = self.timers.remove(&id)?;
        self.queue.remove(&(timer.due, id));
        if let Some(slot) = timer.owner {
            self.owned.remove(&(slot, id));
        }
        self.refresh();
        Some(timer.action)
    }

    /// Removes the timers of a connection that has ended.
    pub(crate) fn remove_of(&mut self, slot: usize) -> Vec<Action> {
        if self.owned.is_empty() {
            return Vec::new();
        }
        let ids = self.of(slot);
        ids.into_iter()
            .filter_map(|id| self.remove(id).flatten())
            .collect()
    }

    fn of(&self, slot: usize) -> Vec<TimerId> {
        self.owned
            .range((slot, TimerId(0))..=(slot, TimerId(u64::MAX)))
            .map(|(_, id)| *id)
            .collect()
    }

    /// Returns the timers that are due at `now`, in the order of firing.
    pub(crate) fn due(&self, now: Duration) -> Vec<TimerId> {
        self.queue
            .range(..=(now, TimerId(u64::MAX)))
            .map(|(_, id)| *id)
            .collect()
    }

    /// Begins the firing of a timer that is due; returns its action and how many firings were
    /// missed. Returns `None` if the timer was cleared meanwhile.
    pub(crate) fn begin(&mut self, id: TimerId, now: Duration) -> Option<(Action, u64)> {
        let timer = self.timers.get_mut(&id)?;
        let Some(every) = timer.every else {
            return Some((self.remove(id)??, 0));
        };
        let action = timer.action.take()?;
        // As with ticks, missed firings are counted, not repeated (decision 8).
        let missed = now.saturating_sub(timer.due).as_nanos() / every.as_nanos();
        let missed = u64::try_from(missed).unwrap_or(u64::MAX);
        let passed = every.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        self.queue.remove(&(timer.due, id));
        timer.due = timer.due.saturating_add(passed).saturating_add(every);
        self.queue.insert((timer.due, id));
        self.refresh();
        Some((action, missed))
    }

    /// Ends a firing; an interval then waits for the next one. Returns the action if it is not
    /// needed any more: it failed, or its timer has fired for the last time or was cleared
    /// meanwhile.
    pub(crate) fn finish(&mut self, id: TimerId, action: Action, failed: bool) -> Option<Action> {
        if failed {
            self.remove(id);
        }
        let Some(timer) = self.timers.get_mut(&id) else {
            return Some(action);
        };
        timer.action = Some(action);
        None
    }

    fn refresh(&mut self) {
        self.next = self.queue.first().map_or(u64::MAX, |(due, _)| {
            u64::try_from(due.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn nothing() -> Action {
        Action::Hub(Box::new(|_, _| Ok(())))
    }

    #[test]
    fn timers_are_due_by_time_and_then_by_creation() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), u64::MAX);
        let late = timers.add(ms(30), None, nothing());
        let first = timers.add(ms(10), None, nothing());
        let second = timers.add(ms(10), None, nothing());
        assert_eq!(timers.next(), 10);
        assert_eq!(timers.due(ms(9)), []);
        assert_eq!(timers.due(ms(10)), [first, second]);
        assert_eq!(timers.due(ms(30)), [first, second, late]);
        timers.remove(first);
        timers.remove(second);
        assert_eq!(timers.next(), 30);
        assert!(timers.begin(late, ms(30)).is_some());
        assert!(timers.begin(late, ms(30)).is_none(), "once");
        assert_eq!(timers.next(), u64::MAX);
    }

    #[test]
    fn parts_of_a_millisecond_are_waited_for() {
        let mut timers = Timers::default();
        timers.add(Duration::from_micros(10_001), None, nothing());
        assert_eq!(timers.next(), 11);
        let mut timers = Timers::default();
        timers.add(Duration::MAX, None, nothing());
        assert_eq!(timers.next(), u64::MAX, "never");
    }

    #[test]
    fn an_interval_keeps_to_its_grid() {
        let mut timers = Timers::default();
        let id = timers.add(ms(10), Some(ms(10)), nothing());
        for (now, missed, next) in [(10, 0, 20), (25, 0, 30), (61, 3, 70), (70, 0, 80)] {
            let (action, late) = timers.begin(id, ms(now)).expect("due");
            assert_eq!((late, timers.next()), (missed, next), "at {now}");
            assert!(timers.begin(id, ms(now)).is_none(), "it runs");
            assert!(timers.finish(id, action, false).is_none());
        }
        let (action, _) = timers.begin(id, ms(80)).expect("due");
        assert!(timers.finish(id, action, true).is_some());
        assert_eq!(timers.next(), u64::MAX);
    }

    #[test]
    fn those_of_a_connection_go_with_it() {
        let mut timers = Timers::default();
        let of = |slot| Action::Connection(slot, Box::new(|_, _| Ok(())));
        timers.add(ms(1), None, of(7));
        let other = timers.add(ms(2), None, of(8));
        timers.add(ms(3), Some(ms(3)), of(7));
        timers.set_lifetime(7, Some(ms(4)));
        timers.set_lifetime(8, Some(ms(4)));
        timers.set_lifetime(8, Some(ms(5)));
        timers.set_lifetime(8, None);
        assert_eq!(timers.remove_of(7).len(), 3);
        assert_eq!(timers.due(ms(100)), [other]);
        assert_eq!(timers.remove_of(7).len(), 0);
    }
}
