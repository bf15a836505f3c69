//! One connection together with what all share: every step that changes both.

mod clients;
mod closing;
mod completing;
mod compressing;
mod fast_path;
mod metering;
mod multipart;
mod queueing;
mod sending;

use super::core::Core;
use super::event::Cause;
use super::log_lines::{Matter, Topic, Who};
use super::peer::{Ending, Marks, Peer, Phase};
use super::shared::Shared;
use crate::close_code::CloseCode;

/// A connection and what all share, for the time of one step. [`Core::peer`] is the one way to it.
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

    /// Has the connection settled before the turn ends.
    pub(crate) fn mark_dirty(&mut self) {
        if !self.peer.marks.set(Marks::DIRTY) {
            self.shared.dirty.push(self.slot);
        }
    }

    /// Returns whether the connection is not read: because it was paused, because half of
    /// `max_backlog` waits for it, because it exceeded a rate, or because the answer to its opening
    /// handshake is postponed. TCP then holds back what it sends, and its own replies never overflow
    /// the backlog.
    pub(crate) fn is_stalled(&self) -> bool {
        self.peer.is_stalled(self.shared.config.limits.max_backlog)
    }

    /// Moves the connection on to a later phase, for the reason that `ending` tells: the first one
    /// that is given counts. Nothing else changes the phase.
    pub(crate) fn enter(&mut self, phase: Phase, ending: Option<Ending>) {
        if let Some(ending) = ending {
            self.peer.end(ending);
        }
        if phase == Phase::Gone && self.peer.phase() < Phase::Gone {
            self.count_lost();
        }
        self.shared.ready += usize::from(phase == Phase::Open);
        self.shared.ready -= usize::from(self.peer.phase() == Phase::Open);
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
            line.about(self.who(), format_args!("{unsent} bytes for it are lost"));
        }
    }

    /// Notes that the connection is half open no more: it was answered, or is over.
    pub(crate) fn end_half_open(&mut self) {
        if self.peer.marks.take(Marks::HALF_OPEN) {
            self.shared.half_open -= 1;
            self.shared.addresses.opened(self.peer.counted());
        }
    }

    /// Notes that the connection is about to be removed.
    pub(crate) fn forget(&mut self) {
        // One that the event queue could not take was never answered.
        self.end_half_open();
        self.count_left();
        self.shared.budget.forget(self.slot);
        self.shared
            .addresses
            .left(self.peer.counted(), self.shared.now);
    }

    /// Counts a message that came by another way than the fast path.
    pub(crate) fn count_received(&mut self) {
        self.shared.stats.messages_in += 1;
        if let Some(counts) = self.peer.counts() {
            counts.messages_in += 1;
        }
    }

    /// Counts bytes that were read by another way than the fast path.
    pub(crate) fn count_bytes_read(&mut self, bytes: usize) {
        self.shared.stats.bytes_in += bytes as u64;
        if let Some(counts) = self.peer.counts() {
            counts.bytes_in += bytes as u64;
        }
    }

    /// Counts what is sent by another way than the fast path.
    pub(super) fn count_sent(&mut self, is_message: bool, size: usize) {
        self.shared.stats.count_out(is_message, size);
        self.peer.count_out(is_message, size);
    }

    /// Notes that the connection is cut while the server shuts down, and what is lost with it. A
    /// connection that was sent everything, and has only not ended its side, ends in order.
    pub(crate) fn note_cut(&mut self) {
        if self.shared.leaving.is_some()
            && (self.peer.phase() < Phase::Lingering || !self.peer.reads())
            && !self.peer.marks.set(Marks::LOST)
        {
            self.shared.stats.cut_bytes += self.peer.backlog() as u64;
        }
    }

    /// Counts a connection that is gone, if the server shuts down.
    fn count_left(&mut self) {
        if self.shared.leaving.is_some() {
            let lost = self.peer.marks.has(Marks::LOST) || self.peer.is_cut();
            self.shared.stats.cut += u64::from(lost);
            self.shared.stats.ended_in_order += u64::from(!lost);
        }
    }

    /// Returns whom a line about the connection is about.
    pub(crate) fn who(&self) -> Who {
        self.peer.who()
    }

    /// Logs that the event queue cannot watch the connection.
    pub(crate) fn log_unwatched(&mut self, error: &std::io::Error) {
        if let Some(line) = self.shared.admits(Topic::Other(Matter::Watch)) {
            line.about(self.who(), format_args!("cannot be watched: {error}"));
        }
    }
}

impl Core {
    /// Returns whether a connection is not read, if it is still there.
    pub(crate) fn is_stalled(&self, slot: usize) -> bool {
        let max_backlog = self.shared.config.limits.max_backlog;
        let peer = self.peers.get(slot);
        peer.is_some_and(|peer| peer.is_stalled(max_backlog))
    }

    /// Starts the closing handshake of a connection for a cause of the server's own, if it is still
    /// there.
    pub(crate) fn close(&mut self, slot: usize, code: CloseCode, cause: Cause) {
        if let Some(mut conn) = self.peer(slot) {
            conn.close(code, cause);
        }
    }

    /// Has a connection settled before the turn ends, if it is still there.
    pub(crate) fn mark_dirty(&mut self, slot: usize) {
        if let Some(mut conn) = self.peer(slot) {
            conn.mark_dirty();
        }
    }
}
