//! Timers and intervals, as handlers set them.

use std::time::Duration;

use super::connection::Connection;
use super::hub::Hub;
use crate::connection::event::{Outcome, Ticks};
use crate::connection::peer::Phase;
use crate::connection::timers::{Action, TimerId};
use crate::error::HandlerError;

impl Hub<'_> {
    /// Has `action` called once, `after` this time; ids tell timers apart, and
    /// [`clear_timer`](Self::clear_timer) takes one back.
    ///
    /// The time counts from the beginning of the turn of the loop that is under way. A timer is
    /// never early, and late by a millisecond at most, unless a handler keeps the loop busy. Those
    /// that are due together are called by their time, then in the order they were set; one that is
    /// set without a delay comes in the next turn. An error or a panic is logged.
    ///
    /// Timers go on while the server goes down, but do not keep it from that.
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

    /// Has `action` called again and again, for the first time after `every`, which is a
    /// millisecond at least. Times that a busy loop missed are not made up for: the next call tells
    /// how many they were. The calls keep to their grid however late one is.
    ///
    /// An error or a panic is logged, and ends the interval. Otherwise as
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

    /// Takes a timer or an interval back, whoever set it; returns whether it was still to come. An
    /// interval may clear itself.
    pub fn clear_timer(&mut self, id: TimerId) -> bool {
        self.core.shared.timers.remove(id).is_some()
    }
}

impl Connection<'_> {
    /// Has `action` called once, `after` this time, unless the connection is over by then: it dies
    /// with its connection, after the `Disconnect`.
    ///
    /// An error or a panic closes the connection with 1011, as that of any handler. Otherwise as
    /// [`Hub::set_timer`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsloop::{Server, event::Ready};
    ///
    /// #[derive(Default)]
    /// struct LoggedIn(bool);
    ///
    /// let builder = Server::builder().on(Ready, |conn, ()| {
    ///     conn.set_timer(Duration::from_secs(10), |conn| {
    ///         if !conn.data::<LoggedIn>().0 {
    ///             conn.disconnect(4001, "who are you?")?;
    ///         }
    ///         Ok::<_, wsloop::SendError>(())
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

    /// Has `action` called again and again while the connection lives, as [`Hub::set_interval`]. An
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

    /// Takes a timer or an interval back, as [`Hub::clear_timer`].
    pub fn clear_timer(&mut self, id: TimerId) -> bool {
        self.core.shared.timers.remove(id).is_some()
    }

    /// Sets how long the connection may still live, from the beginning of this turn of the loop;
    /// `None` is for ever. Then it is closed with 1001, and its `Disconnect` tells
    /// [`Cause::Lifetime`](crate::event::Cause::Lifetime). Default as
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
        // In its `Disconnect` there is no later any more.
        if self.phase() >= Phase::Lingering {
            return self.core.shared.timers.number();
        }
        let due = self.core.shared.now.saturating_add(after);
        let action = Action::Connection(self.slot, Box::new(action));
        self.core.shared.timers.add(due, every, action)
    }
}

/// The shortest interval: a shorter one could never be met.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
