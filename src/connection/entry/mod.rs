//! One connection together with the shared state: every step that changes both.

mod clients;
mod closing;
mod completing;
mod compressing;
mod fast_path;
mod metering;
mod multipart;
mod publishing;
mod queueing;
mod relaying;
mod sending;

use super::core::Core;
use super::event::Cause;
use super::log_lines::{Matter, Topic, Who};
use super::peer::{Ending, Marks, Peer, Phase};
use super::shared::Shared;
use crate::close_code::CloseCode;

/// A connection together with the shared state, for one step; only [`Core::peer`] creates it.
pub(crate) struct PeerMut<'a> {
    pub(crate) peer: &'a mut Peer,
    pub(crate) shared: &'a mut Shared,
    pub(crate) slot: usize,
}

impl PeerMut<'_> {
    /// Returns whether the events of this connection are being delivered.
    #[inline(always)]
    pub(crate) fn is_current(&self) -> bool {
        self.shared.current == self.slot
    }

    /// Marks the connection to be settled before the turn ends.
    pub(crate) fn mark_dirty(&mut self) {
        if !self.peer.marks.set(Marks::DIRTY) {
            self.shared.dirty.push(self.slot);
        }
    }

    /// Returns whether the connection is not read: it is paused, half of `max_backlog` is queued
    /// for it, it exceeded a rate, or the answer to its opening handshake is postponed.
    ///
    /// TCP then holds back what the peer sends, and its own replies never overflow the backlog
    /// (decision 7).
    pub(crate) fn is_stalled(&self) -> bool {
        self.peer.is_stalled(self.shared.config.limits.max_backlog)
    }

    /// Moves the connection to a later phase, for the reason in `ending`; the first reason counts.
    /// Nothing else changes the phase.
    pub(crate) fn enter(&mut self, phase: Phase, ending: Option<Ending>) {
        if let Some(ending) = ending {
            self.peer.end(ending);
        }
        if phase == Phase::Gone && self.peer.phase() < Phase::Gone {
            self.count_lost();
        }
        self.shared.ready += usize::from(phase == Phase::Open);
        self.shared.ready -= usize::from(self.peer.phase() == Phase::Open);
        if phase > Phase::Open {
            self.leave_topics();
        }
        self.peer.set_phase(phase);
        if phase > Phase::Opening {
            self.end_half_open();
        }
    }

    /// Counts and logs the bytes that are lost with a connection.
    fn count_lost(&mut self) {
        let unsent = self.unsent();
        if unsent == 0 {
            return;
        }
        self.shared.stats.lost += 1;
        self.shared.stats.lost_bytes += unsent as u64;
        if let Some(line) = self.shared.admits(Topic::Other(Matter::Lost)) {
            line.about(self.who(), format_args!("{unsent} unsent bytes are lost"));
        }
    }

    /// Records that the connection is not half open any more: it was answered, or it has ended.
    pub(crate) fn end_half_open(&mut self) {
        if self.peer.marks.take(Marks::HALF_OPEN) {
            self.shared.half_open -= 1;
            self.shared.addresses.opened(self.peer.counted());
        }
    }

    /// Records that the connection is about to be removed.
    pub(crate) fn forget(&mut self) {
        // A connection that the event queue could not watch was never answered.
        self.end_half_open();
        self.count_left();
        self.shared.budget.forget(self.slot);
        self.shared.topics.forget(self.peer.topics);
        self.shared
            .addresses
            .left(self.peer.counted(), self.shared.now);
    }

    /// Counts a message that did not take the fast path.
    pub(crate) fn count_received(&mut self) {
        self.shared.stats.messages_in += 1;
        if let Some(counts) = self.peer.counts() {
            counts.messages_in += 1;
        }
    }

    /// Counts bytes that were read outside the fast path.
    pub(crate) fn count_bytes_read(&mut self, bytes: usize) {
        self.shared.stats.bytes_in += bytes as u64;
        if let Some(counts) = self.peer.counts() {
            counts.bytes_in += bytes as u64;
        }
    }

    /// Counts data that is sent outside the fast path.
    pub(super) fn count_sent(&mut self, is_message: bool, size: usize) {
        self.shared.stats.count_out(is_message, size);
        self.peer.count_out(is_message, size);
    }

    /// Records that the connection is cut while the server shuts down, and how much is lost with
    /// it. A connection that was sent everything and only lacks the peer's FIN ends in order.
    pub(crate) fn note_cut(&mut self) {
        if self.shared.leaving.is_some()
            && (self.peer.phase() < Phase::Lingering || !self.peer.reads())
            && !self.peer.marks.set(Marks::LOST)
        {
            self.shared.stats.cut_bytes += self.peer.backlog() as u64;
        }
    }

    /// Counts a connection that has ended, if the server shuts down.
    fn count_left(&mut self) {
        if self.shared.leaving.is_some() {
            let lost = self.peer.marks.has(Marks::LOST) || self.peer.is_cut();
            self.shared.stats.cut += u64::from(lost);
            self.shared.stats.ended_in_order += u64::from(!lost);
        }
    }

    /// Returns the identity that a log line about the connection shows.
    pub(crate) fn who(&self) -> Who {
        self.peer.who()
    }

    /// Logs that the event queue cannot watch the connection.
    pub(crate) fn log_unwatched(&mut self, error: &std::io::Error) {
        if let Some(line) = self.shared.admits(Topic::Other(Matter::Watch)) {
            line.about(
                self.who(),
                format_args!("cannot be watched by the event queue: {error}"),
            );
        }
    }
}

impl Core {
    /// Returns whether a connection is not read, if it still exists.
    pub(crate) fn is_stalled(&self, slot: usize) -> bool {
        let max_backlog = self.shared.config.limits.max_backlog;
        let peer = self.peers.get(slot);
        peer.is_some_and(|peer| peer.is_stalled(max_backlog))
    }

    /// Starts the closing handshake of a connection on behalf of the server, if it still exists.
    pub(crate) fn close(&mut self, slot: usize, code: CloseCode, cause: Cause) {
        if let Some(mut conn) = self.peer(slot) {
            conn.close(code, cause);
        }
    }

    /// Marks a connection to be settled before the turn ends, if it still exists.
    pub(crate) fn mark_dirty(&mut self, slot: usize) {
        if let Some(mut conn) = self.peer(slot) {
            conn.mark_dirty();
        }
    }
}
