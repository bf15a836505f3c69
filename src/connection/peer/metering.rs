//! Limits on the rate of a connection's input.

use std::time::Duration;

use super::{Marks, Peer};
use crate::connection::limits::Meters;

impl Peer {
    /// Limits the rate of the connection. It is never quiet then, since the fast path does not
    /// count.
    pub(crate) fn measure(&mut self) {
        self.marks.set(Marks::METERED);
        self.extras_mut().meters = Some(Box::default());
    }

    pub(crate) fn meters(&mut self) -> Option<&mut Meters> {
        if !self.marks.has(Marks::METERED) {
            return None;
        }
        self.extras.as_deref_mut()?.meters.as_deref_mut()
    }

    /// Stops reading until `until`.
    pub(crate) fn hold_off(&mut self, until: Duration) {
        if let Some(meters) = self.meters() {
            meters.hold_off(until);
            self.marks.set(Marks::HELD_OFF);
        }
    }

    /// Returns whether the connection is not read at present because it exceeded a rate.
    pub(crate) fn is_held_off(&self) -> bool {
        self.marks.has(Marks::HELD_OFF)
    }

    /// Returns until when the connection is not read, if it exceeded a rate.
    pub(crate) fn held_off_until(&self) -> Option<Duration> {
        if !self.is_held_off() {
            return None;
        }
        let meters = self.extras()?.meters.as_deref()?;
        Some(meters.held_off_until())
    }

    /// Resumes reading if the connection was held off until `now` or earlier; returns whether that
    /// changes anything.
    pub(crate) fn go_on(&mut self, now: Duration) -> bool {
        let over = self.held_off_until().is_some_and(|until| until <= now);
        over && self.marks.take(Marks::HELD_OFF)
    }
}
