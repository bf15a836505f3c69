//! Sending messages and frames.

use super::PeerMut;
use crate::connection::deflate::Layout;
use crate::connection::peer::{Peer, Phase};
use crate::connection::send::{Kind, Outbox, WRITE_THROUGH};
use crate::error::SendError;
use crate::protocol::{Compress, FrameHead, OpCode, Prepared};
use crate::topics::Place;

impl PeerMut<'_> {
    /// Sends a message or a control frame without the conditions of the fast path; returns its size
    /// on the wire.
    pub(crate) fn send_any(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        compress: Compress,
    ) -> Result<usize, SendError> {
        self.check_open()?;
        let kind = Kind::of(opcode);
        if kind == Kind::Message && self.peer.is_under_way() {
            return Err(SendError::MessageUnderWay);
        }
        let limit = self.peer.max_send_size();
        let head = self.peer.sender.head(opcode, payload.len(), limit)?;
        let (layout, size) = (Layout::Whole(payload), payload.len());
        let sent = self.send_compressed(opcode, layout, size, compress, |conn, deflated| {
            let head = FrameHead::new(opcode, deflated.bytes.len()).compressed();
            conn.send_pieces(&[&head, &deflated.bytes], kind)
        });
        sent.unwrap_or_else(|| self.send_pieces(&[&head, payload], kind))
    }

    /// Sends a message that is framed already.
    pub(crate) fn send_prepared(&mut self, prepared: &Prepared) -> Result<usize, SendError> {
        if !self.peer.takes_messages() {
            self.check_open()?;
            return Err(SendError::MessageUnderWay);
        }
        let (size, limit) = (prepared.size(), self.peer.max_send_size());
        if size > limit {
            return Err(SendError::TooBig { size, limit });
        }
        let frame = match self.peer.is_deflating() {
            true => self.compress_prepared(prepared),
            false => prepared.shared_frame(),
        };
        let size = frame.len();
        // Fast path of a broadcast: another connection, whose backlog `admit` would allow.
        if !self.is_current()
            && self.peer.backlog() <= self.shared.config.limits.max_backlog / 2
            && !self.shared.budget.is_on()
        {
            self.peer.enqueue_shared(frame);
            self.mark_dirty();
        } else if !self.reply(&[frame]) && !self.queue_shared(frame)? {
            return Ok(0);
        }
        self.count_sent(true, size);
        Ok(size)
    }

    /// Sends a message that other connections are sent as well. `place` is where its frame was put
    /// for another one.
    pub(crate) fn send_to_many(
        &mut self,
        prepared: &Prepared,
        place: &mut Option<Place>,
    ) -> Result<usize, SendError> {
        let frame = prepared.shared_frame();
        let may_wait = !self.is_current()
            && self.peer.takes_messages()
            && self.peer.is_held_back()
            && !self.peer.is_deflating()
            && prepared.size() <= self.peer.max_send_size()
            && self.peer.backlog() <= self.shared.config.limits.max_backlog / 2
            && !self.shared.budget.is_on();
        if may_wait && self.peer.enqueue_logged(frame, place) {
            self.mark_dirty();
            self.count_sent(true, frame.len());
            return Ok(frame.len());
        }
        self.send_prepared(prepared)
    }

    /// Sends whole frames that belong together, headers and payloads in turn. Except for the fast
    /// paths, all messages are sent here.
    pub(super) fn send_pieces(&mut self, pieces: &[&[u8]], kind: Kind) -> Result<usize, SendError> {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        if !self.reply(pieces) && !self.queue_pieces(pieces, kind)? {
            return Ok(0);
        }
        self.count_sent(kind == Kind::Message, size);
        Ok(size)
    }

    /// Adds pieces to the replies, if this is the connection being served and nothing is queued;
    /// returns whether it did. Large pieces are handed to the kernel without a copy.
    pub(super) fn reply(&mut self, pieces: &[&[u8]]) -> bool {
        if !self.is_current() || self.peer.is_queued() {
            return false;
        }
        for some in pieces.chunks(Outbox::SLICES - 1) {
            if self.peer.is_queued() {
                // The kernel did not take everything before.
                self.peer.enqueue_frame(some, Kind::Part);
                continue;
            }
            let size: usize = some.iter().map(|piece| piece.len()).sum();
            if size < WRITE_THROUGH {
                for piece in some {
                    self.shared.out.push(piece);
                }
                self.release_full();
            } else {
                self.peer.write_gathered(self.shared.out.as_slice(), some);
                self.shared.out.clear();
            }
        }
        true
    }

    /// Sends bytes behind everything that was sent to the connection, regardless of limits.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.count_sent(false, bytes.len());
        if self.is_current() && !self.peer.is_queued() {
            self.shared.out.push(bytes);
            self.release_full();
        } else {
            self.peer.enqueue(bytes);
        }
        self.mark_dirty();
    }

    /// Offers the replies to the kernel if they fill the buffer; what it does not take counts as
    /// backlog from then on.
    fn release_full(&mut self) {
        if self.shared.out.is_full() {
            self.release_replies();
        }
    }

    /// Offers the replies to the kernel, if they are for this connection.
    pub(crate) fn release_replies(&mut self) {
        if !self.is_current() || self.shared.out.is_empty() {
            return;
        }
        self.peer.write_through(self.shared.out.as_slice());
        self.shared.out.clear();
    }

    /// Offers the replies, which are for this connection, to the kernel. Returns whether the
    /// connection was quiet and still is.
    #[inline(always)]
    pub(crate) fn release_fast(&mut self) -> bool {
        if !self.peer.is_quiet() {
            return false;
        }
        let out = &mut self.shared.out;
        let done = out.is_empty() || self.peer.write_fast(out.as_slice());
        out.empty();
        done
    }

    /// Discards the replies, if they are for this connection, which is cut.
    pub(crate) fn discard_replies(&mut self) {
        if self.is_current() {
            self.shared.out.clear();
        }
    }

    /// Returns how many of the bytes sent to the connection the kernel has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.peer.backlog() + self.unoffered()
    }

    /// Returns how many bytes of replies the kernel was not offered yet.
    pub(crate) fn unoffered(&self) -> usize {
        match self.is_current() {
            true => self.shared.out.as_slice().len(),
            false => 0,
        }
    }

    /// Returns an error unless the connection is open.
    pub(super) fn check_open(&self) -> Result<(), SendError> {
        match self.peer.phase() {
            Phase::Open => Ok(()),
            phase => Err(phase.unsendable()),
        }
    }

    /// Offers queued data to the kernel, from inside a handler.
    pub(crate) fn flush_early(&mut self) {
        self.peer.flush_early(self.shared.config.drain_at);
    }

    /// Offers all data to the kernel before the connection ends, if a callback waits for it.
    pub(crate) fn send_awaited(&mut self) {
        let is_awaited = |peer: &Peer| peer.is_awaited() && !peer.is_cut();
        if is_awaited(self.peer) {
            self.release_replies();
            self.flush_early();
        }
    }
}

/// A `FrameHead` is copied on the hot path, so it has to stay small.
const _: () = assert!(size_of::<FrameHead>() <= 16);
