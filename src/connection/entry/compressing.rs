//! Compressing messages that are sent, and inflating those that arrive.

use std::sync::Arc;

use super::PeerMut;
use crate::connection::deflate::{Compressed, Deflate, Layout, Plain};
use crate::error::{ProtocolError, SendError};
use crate::limits::SlowConsumer;
use crate::protocol::{Compress, OpCode, Piece, Prepared};

impl PeerMut<'_> {
    /// Compresses a message of `size` bytes, if that was agreed on and is wanted, and passes it to
    /// `send`. Returns `None` if the message is to be sent uncompressed.
    ///
    /// A compressed message refers to earlier ones. If `send` does not send it, the compressor
    /// forgets its context, so that no later message refers to data that the peer never got.
    pub(super) fn send_compressed(
        &mut self,
        opcode: OpCode,
        layout: Layout<'_>,
        size: usize,
        choice: Compress,
        send: impl FnOnce(&mut Self, &Compressed) -> Result<usize, SendError>,
    ) -> Option<Result<usize, SendError>> {
        if !self.peer.is_deflating() {
            return None;
        }
        let message = Plain {
            opcode,
            layout,
            size,
            choice,
            may_drop: self.may_drop(),
        };
        let deflate = self.peer.deflate_mut()?;
        let held = deflate.held();
        let (all, budget) = (&mut self.shared.compressors, &mut self.shared.budget);
        let compressed = deflate.compress(all, budget, message);
        if deflate.held() > held {
            // The new compressor is counted, even if the message is not sent.
            self.mark_dirty();
        }
        Some(self.send_or_forget(compressed?, send))
    }

    /// Compresses the next part of a compressed message, and passes it to `send`.
    pub(super) fn send_compressed_part(
        &mut self,
        part: &[u8],
        last: bool,
        send: impl FnOnce(&mut Self, &Compressed) -> Result<usize, SendError>,
    ) -> Result<usize, SendError> {
        let all = &mut self.shared.compressors;
        let deflate = self.peer.deflate_mut();
        let compressed = deflate.and_then(|deflate| deflate.compress_part(all, part, last));
        self.send_or_forget(compressed.ok_or(SendError::Gone)?, send)
    }

    fn send_or_forget(
        &mut self,
        compressed: Compressed,
        send: impl FnOnce(&mut Self, &Compressed) -> Result<usize, SendError>,
    ) -> Result<usize, SendError> {
        let sent = send(self, &compressed);
        if !matches!(sent, Ok(size) if size > 0)
            && let Some(deflate) = self.peer.deflate_mut()
        {
            deflate.forget();
        }
        self.shared.compressors.recycle(compressed);
        sent
    }

    /// Returns whether the message in parts that begins with `size` bytes is compressed.
    pub(super) fn begin_compressed_parts(
        &mut self,
        opcode: OpCode,
        size: usize,
        choice: Compress,
    ) -> bool {
        let may_drop = self.may_drop();
        let (all, budget) = (&mut self.shared.compressors, &mut self.shared.budget);
        self.peer
            .deflate_mut()
            .is_some_and(|deflate| deflate.begin_parts(all, budget, opcode, size, choice, may_drop))
    }

    /// Gives back the compressor of a message in parts.
    pub(super) fn end_compressed_parts(&mut self) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.end_parts(&mut self.shared.compressors);
        }
    }

    /// Returns whether queued messages may be dropped.
    fn may_drop(&self) -> bool {
        self.peer.slow_consumer() == SlowConsumer::DropOldest
    }

    /// Returns the frame of a prepared message: compressed, if that was agreed on and is wanted.
    pub(super) fn compress_prepared<'p>(&mut self, prepared: &'p Prepared) -> &'p Arc<[u8]> {
        match self.peer.deflate_mut() {
            Some(deflate) => deflate.compress_prepared(&mut self.shared.compressors, prepared),
            None => prepared.shared_frame(),
        }
    }

    /// Inflates a message into `room`, and returns it.
    pub(crate) fn inflate<'r>(
        &mut self,
        payload: &[u8],
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        let limit = self.peer.max_recv_size();
        let deflate = self.peer.deflate_mut().ok_or(ProtocolError::BadDeflate)?;
        deflate.inflate(&mut self.shared.compressors, payload, limit, room)
    }

    /// Takes the next data of a compressed message that arrives in pieces.
    pub(crate) fn arrive(&mut self, piece: &Piece<'_>) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.arrive(&mut self.shared.compressors, piece);
        }
    }

    /// Takes a whole compressed message that is too large; the data in `made` is inflated already.
    pub(crate) fn arrive_large(&mut self, opcode: OpCode, payload: &[u8], made: Vec<u8>) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.arrive_large(&mut self.shared.compressors, opcode, payload, made);
        }
    }

    /// Inflates the next piece of the message under way into `room`; returns `None` if more data
    /// has to arrive first.
    pub(crate) fn next_piece<'r>(
        &mut self,
        room: &'r mut Vec<u8>,
    ) -> Result<Option<Piece<'r>>, ProtocolError> {
        match self.peer.deflate_mut() {
            Some(deflate) => deflate.next_piece(&mut self.shared.compressors, room),
            None => Ok(None),
        }
    }

    /// Returns whether there may be more of a compressed message to deliver before more data
    /// arrives.
    pub(crate) fn has_more_pieces(&self) -> bool {
        self.peer.deflate().is_some_and(Deflate::has_more)
    }

    /// Discards the compressed message under way; the rest of it is not delivered.
    pub(crate) fn stop_pieces(&mut self) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.stop_pieces();
        }
    }
}
