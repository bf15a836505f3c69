//! Timers and intervals.

use std::time::Duration;

use super::connection::Connection;
use super::hub::Hub;
use crate::connection::event::{Outcome, Ticks};
use crate::connection::peer::Phase;
use crate::connection::timers::{Action, TimerId};
use crate::error::HandlerError;

impl Hub<'_> {
    /// Calls `action` once, after the given time. [`clear_timer`](Self::clear_timer) cancels a
    /// timer by its id.
    ///
    /// The time counts from the beginning of the current turn of the loop. A timer is never early,
    /// and at most a millisecond late unless a handler keeps the loop busy. Timers that are due
    /// together fire in the order of their times, then in the order in which they were set; a timer
    /// without a delay fires in the next turn. An error or a panic is logged.
    ///
    /// Timers continue while the server shuts down, and do not delay it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsloop::{Server, event::Start};
    ///
    /// let builder = Server::builder().on(Start, |hub, ()| {
    ///     hub.set_timer(Duration::from_secs(3600), |hub| hub.shutdown());
    /// });
    /// ```
    pub fn set_timer<R: Outcome<()>>(
        &mut self,
        after: Duration,
        action: impl for<'t> FnOnce(&mut Hub<'t>) -> R + 'static,
    ) -> TimerId {
        let due = self.core.shared.now.saturating_add(after);
        let mut action = Some(action);
        let action = Action::Hub(Box::new(move |hub, _| match action.take() {
            Some(action) => action(hub).into_outcome(),
            None => Ok(()),
        }));
        self.core.shared.timers.add(due, None, action)
    }

    /// Calls `action` repeatedly, for the first time after `every`, which is at least a
    /// millisecond. Times that a busy loop missed are not repeated: the next call receives their
    /// number. The calls stay on their grid even if one is late.
    ///
    /// An error or a panic is logged, and ends the interval. In all other respects it is like
    /// [`set_timer`](Self::set_timer).
    pub fn set_interval<R: Outcome<()>>(
        &mut self,
        every: Duration,
        mut action: impl for<'t> FnMut(&mut Hub<'t>, Ticks) -> R + 'static,
    ) -> TimerId {
        let every = every.max(INTERVAL_MIN);
        let due = self.core.shared.now.saturating_add(every);
        let action = Action::Hub(Box::new(move |hub, ticks| {
            action(hub, ticks).into_outcome()
        }));
        self.core.shared.timers.add(due, Some(every), action)
    }

    /// Cancels a timer or an interval, whether the hub or a connection set it. Returns whether it
    /// was still pending. An interval can cancel itself.
    pub fn clear_timer(&mut self, id: TimerId) -> bool {
        self.core.shared.timers.remove(id).is_some()
    }
}

impl Connection<'_> {
    /// Calls `action` once, after the given time, unless the connection has ended by then: the
    /// timer ends with its connection, after the `Disconnect`.
    ///
    /// An error or a panic closes the connection with 1011, as that of any handler does. In all
    /// other respects it is like [`Hub::set_timer`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsloop::{SendError, Server, event::Ready};
    ///
    /// #[derive(Default)]
    /// struct LoggedIn(bool);
    ///
    /// let builder = Server::builder().on(Ready, |conn, ()| {
    ///     conn.set_timer(Duration::from_secs(10), |conn| {
    ///         if !conn.data::<LoggedIn>().0 {
    ///             conn.disconnect(4001, "no login")?;
    ///         }
    ///         Ok::<_, SendError>(())
    ///     });
    /// });
    /// ```
    pub fn set_timer<R: Outcome<()>>(
        &mut self,
        after: Duration,
        action: impl for<'t> FnOnce(&mut Connection<'t>) -> R + 'static,
    ) -> TimerId {
        let mut action = Some(action);
        self.add_timer(after, None, move |conn, _| match action.take() {
            Some(action) => action(conn).into_outcome(),
            None => Ok(()),
        })
    }

    /// Calls `action` repeatedly while the connection lives, as [`Hub::set_interval`] does. An
    /// error or a panic closes the connection with 1011.
    pub fn set_interval<R: Outcome<()>>(
        &mut self,
        every: Duration,
        mut action: impl for<'t> FnMut(&mut Connection<'t>, Ticks) -> R + 'static,
    ) -> TimerId {
        let every = every.max(INTERVAL_MIN);
        self.add_timer(every, Some(every), move |conn, ticks| {
            action(conn, ticks).into_outcome()
        })
    }

    /// Cancels a timer or an interval, as [`Hub::clear_timer`] does.
    pub fn clear_timer(&mut self, id: TimerId) -> bool {
        self.core.shared.timers.remove(id).is_some()
    }

    /// Sets the remaining lifetime of the connection, from the beginning of the current turn of the
    /// loop; `None` means no limit. When it ends, the connection is closed with 1001, and its
    /// `Disconnect` has [`Cause::Lifetime`](crate::event::Cause::Lifetime). Default:
    /// [`Builder::max_lifetime`](crate::Builder::max_lifetime), which counts from accept.
    pub fn set_lifetime(&mut self, left: Option<Duration>) {
        if self.phase() < Phase::Lingering {
            let due = left.map(|left| self.core.shared.now.saturating_add(left));
            self.core.shared.timers.set_lifetime(self.slot, due);
        }
    }

    fn add_timer(
        &mut self,
        after: Duration,
        every: Option<Duration>,
        action: impl for<'t> FnMut(&mut Connection<'t>, Ticks) -> Result<(), HandlerError> + 'static,
    ) -> TimerId {
        // A timer that is set in `Disconnect` would never fire.
        if self.phase() >= Phase::Lingering {
            return self.core.shared.timers.number();
        }
        let due = self.core.shared.now.saturating_add(after);
        let action = Action::Connection(self.slot, Box::new(action));
        self.core.shared.timers.add(due, every, action)
    }
}

/// The shortest interval: the loop could not keep a shorter one.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
