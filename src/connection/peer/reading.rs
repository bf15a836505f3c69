//! Pausing and resuming the reads of a connection.

use super::{Marks, Peer, Phase};

impl Peer {
    /// Stops reading, as long as the connection is open.
    pub(crate) fn pause(&mut self) {
        self.marks.set(Marks::PAUSED);
    }

    /// Resumes reading; returns whether it was paused.
    pub(crate) fn resume(&mut self) -> bool {
        // A close has ended the pause: resuming after it is no sign of life.
        let was_paused = self.is_paused();
        self.marks.take(Marks::PAUSED);
        if was_paused {
            self.marks.set(Marks::PROGRESS);
        }
        was_paused
    }

    /// Returns whether there was a sign of life since the last call: the kernel took data after it
    /// had been full, or reading was resumed.
    pub(crate) fn take_progress(&mut self) -> bool {
        let progress = self.marks.take(Marks::PROGRESS);
        // Data that TLS holds back was counted as taken before.
        let is_blocked = self.marks.has(Marks::SECURE) && self.marks.has(Marks::BLOCKED);
        (is_blocked && self.transport.take_progress()) || progress
    }

    /// Returns whether the application has paused reading; a closing connection is read
    /// nevertheless.
    pub(crate) fn is_paused(&self) -> bool {
        self.marks.has(Marks::PAUSED) && self.phase <= Phase::Open
    }

    /// Returns whether the connection is not read: see `PeerMut::is_stalled`.
    pub(crate) fn is_stalled(&self, max_backlog: usize) -> bool {
        let full = || self.backlog() > max_backlog / 2;
        match self.phase {
            Phase::Open => self.is_paused() || self.is_held_off() || full(),
            Phase::Opening => self.is_deferred() || full(),
            _ => false,
        }
    }
}
