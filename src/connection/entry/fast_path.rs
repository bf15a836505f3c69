//! The fast path of sending, which is inlined into the handlers that reply.

use crate::connection::core::Core;
use crate::error::SendError;
use crate::protocol::{Compress, OpCode};

impl Core {
    /// Sends a message or a control frame; returns its size on the wire.
    ///
    /// It looks the connection up itself: a `PeerMut` would have to be written to memory for the
    /// call of `send_slow`.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        slot: usize,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<usize, SendError> {
        // Fast path: a small message to the connection being served, with nothing queued.
        if self.shared.current == slot
            && let Some(peer) = self.peers.get(slot)
            && peer.is_quiet()
            && payload.len() <= peer.fast_send_size()
            && let Some((size, room)) = self.shared.out.make_room(opcode, payload.len())
        {
            // The copy comes last, so that no value has to be kept across it.
            self.shared.stats.count_out(!opcode.is_control(), size);
            room.copy_from_slice(payload);
            return Ok(size);
        }
        self.send_slow(slot, opcode, payload)
    }

    #[inline(never)]
    fn send_slow(
        &mut self,
        slot: usize,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<usize, SendError> {
        let mut conn = self.peer(slot).ok_or(SendError::Gone)?;
        conn.send_any(opcode, payload, Compress::Auto)
    }
}
