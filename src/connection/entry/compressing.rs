//! Compression of what is sent, and inflating what arrives.

use std::sync::Arc;

use super::PeerMut;
use crate::config::SlowConsumer;
use crate::connection::deflate::{Compressed, Deflate, Layout, Plain};
use crate::error::{ProtocolError, SendError};
use crate::protocol::{Compress, OpCode, Piece, Prepared};

impl PeerMut<'_> {
    /// Compresses a message of `size` bytes, if permessage-deflate was agreed on and that is wanted,
    /// and has `send` send it; `None` if it is to be sent as it is.
    ///
    /// A compressor refers to what it was given before. If `send` does not send the message, the
    /// compressor forgets it, so that no later message refers to what the peer never got.
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
            // So that the new compressor is counted, whatever becomes of the message.
            self.mark_dirty();
        }
        Some(self.send_or_forget(compressed?, send))
    }

    /// Compresses the next part of a message that is compressed, and has `send` send it.
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

    /// Frees what the message in parts had for its compression.
    pub(super) fn end_compressed_parts(&mut self) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.end_parts(&mut self.shared.compressors);
        }
    }

    /// Returns whether queued messages may be dropped.
    fn may_drop(&self) -> bool {
        self.peer.slow_consumer() == SlowConsumer::DropOldest
    }

    /// Returns the frame of a prepared message: compressed, if that is agreed on and wanted.
    pub(super) fn compress_prepared<'p>(&mut self, prepared: &'p Prepared) -> &'p Arc<[u8]> {
        match self.peer.deflate_mut() {
            Some(deflate) => deflate.compress_prepared(&mut self.shared.compressors, prepared),
            None => prepared.frame(),
        }
    }

    /// Inflates a message in `room`, and returns it.
    pub(crate) fn inflate<'r>(
        &mut self,
        payload: &[u8],
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        let limit = self.peer.max_recv_size();
        let deflate = self.peer.deflate_mut().ok_or(ProtocolError::BadDeflate)?;
        deflate.inflate(&mut self.shared.compressors, payload, limit, room)
    }

    /// Takes the next bytes of a compressed message that arrives in pieces.
    pub(crate) fn arrive(&mut self, piece: &Piece<'_>) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.arrive(&mut self.shared.compressors, piece);
        }
    }

    /// Takes a whole compressed message of which `made` was inflated before it was too large.
    pub(crate) fn arrive_large(&mut self, opcode: OpCode, payload: &[u8], made: Vec<u8>) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.arrive_large(&mut self.shared.compressors, opcode, payload, made);
        }
    }

    /// Inflates the next piece of the message under way in `room`; `None` if more has to arrive
    /// first.
    pub(crate) fn next_piece<'r>(
        &mut self,
        room: &'r mut Vec<u8>,
    ) -> Result<Option<Piece<'r>>, ProtocolError> {
        match self.peer.deflate_mut() {
            Some(deflate) => deflate.next_piece(&mut self.shared.compressors, room),
            None => Ok(None),
        }
    }

    /// Returns whether there may be more of a compressed message to hand out before more has arrived.
    pub(crate) fn has_more_pieces(&self) -> bool {
        self.peer.deflate().is_some_and(Deflate::has_more)
    }

    /// Forgets the compressed message under way: the rest of it is not delivered.
    pub(crate) fn stop_pieces(&mut self) {
        if let Some(deflate) = self.peer.deflate_mut() {
            deflate.stop_pieces();
        }
    }
}
