//! The counters of one connection.

use std::time::Duration;

use super::{Marks, Peer};
use crate::stats::ConnectionStats;

impl Peer {
    /// Counts messages and bytes from `now` on. The connection is never quiet then, since the fast
    /// path does not count.
    pub(crate) fn count(&mut self, now: Duration) {
        self.marks.set(Marks::COUNTED);
        self.extras_mut().counts = Some(Box::new((ConnectionStats::default(), now)));
    }

    /// Returns the counters of messages and bytes, if these are counted.
    pub(crate) fn counts(&mut self) -> Option<&mut ConnectionStats> {
        if !self.marks.has(Marks::COUNTED) {
            return None;
        }
        let counts = self.extras.as_deref_mut()?.counts.as_deref_mut()?;
        Some(&mut counts.0)
    }

    pub(crate) fn count_out(&mut self, is_message: bool, size: usize) {
        if let Some(counts) = self.counts() {
            counts.messages_out += u64::from(is_message);
            counts.bytes_out += size as u64;
        }
    }

    /// Returns the counts up to `now`.
    pub(crate) fn stats(&self, now: Duration) -> Option<ConnectionStats> {
        let (counts, since) = self.extras.as_deref()?.counts.as_deref()?;
        Some(ConnectionStats {
            age: now.saturating_sub(*since),
            ..*counts
        })
    }
}
