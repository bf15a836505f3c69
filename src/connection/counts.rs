//! What is counted of one connection.

use std::time::Duration;

use super::core::Core;
use super::peer::{Marks, Peer, Phase};
use crate::stats::ConnectionStats;

impl Peer {
    /// Counts messages and bytes from `now` on. It is never quiet then: the usual way does not count.
    pub(crate) fn count(&mut self, now: Duration) {
        self.marks.set(Marks::COUNTED);
        self.extras_mut().counts = Some(Box::new((ConnectionStats::default(), now)));
    }

    /// Returns where messages and bytes are counted, if they are.
    pub(crate) fn counts(&mut self) -> Option<&mut ConnectionStats> {
        if !self.marks.has(Marks::COUNTED) {
            return None;
        }
        let counts = self.extras.as_deref_mut()?.counts.as_deref_mut()?;
        Some(&mut counts.0)
    }

    pub(super) fn count_out(&mut self, is_message: bool, size: usize) {
        if let Some(counts) = self.counts() {
            counts.messages_out += u64::from(is_message);
            counts.bytes_out += size as u64;
        }
    }

    /// Returns what was counted up to `now`.
    pub(super) fn stats(&self, now: Duration) -> Option<ConnectionStats> {
        let (counts, since) = self.extras.as_deref()?.counts.as_deref()?;
        Some(ConnectionStats {
            age: now.saturating_sub(*since),
            ..*counts
        })
    }
}

impl Core {
    /// Notes that a connection is cut while the server goes down, and what is lost with it. One
    /// that has been told everything, and has only not ended its side, ends in order.
    pub(crate) fn note_cut(&mut self, slot: usize) {
        if self.leaving.is_some()
            && let Some(peer) = self.peers.get_mut(slot)
            && (peer.phase < Phase::Lingering || !peer.reads())
            && !peer.marks.has(Marks::LOST)
        {
            peer.marks.set(Marks::LOST);
            self.stats.cut_bytes += peer.backlog() as u64;
        }
    }

    /// Returns how many bytes were sent to a connection and the kernel has not taken.
    pub(crate) fn unsent(&self, slot: usize) -> usize {
        let offered = match self.current == slot {
            true => self.out.as_slice().len(),
            false => 0,
        };
        self.peers.get(slot).map_or(0, Peer::backlog) + offered
    }

    /// Counts a connection that is gone, if the server goes down.
    pub(crate) fn count_left(&mut self, slot: usize) {
        if self.leaving.is_some()
            && let Some(peer) = self.peers.get(slot)
        {
            let lost = peer.marks.has(Marks::LOST) || peer.is_cut();
            self.stats.cut += u64::from(lost);
            self.stats.drained += u64::from(!lost);
        }
    }
}
