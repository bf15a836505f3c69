//! Compression of messages that are sent in parts.

use super::{Compressors, Deflate, Deflaters, place, reserve};
use crate::connection::deflate::Compressed;
use crate::connection::limits::Budget;
use crate::protocol::deflate::Deflater;
use crate::protocol::{Compress, OpCode};

impl Deflate {
    /// Returns whether the message that begins with a part of `size` bytes is compressed, and
    /// prepares its compressor. That is the connection's own or, for a message without context, one
    /// that the message keeps until its end.
    pub(crate) fn begin_parts(
        &mut self,
        all: &mut Compressors,
        budget: &mut Budget,
        opcode: OpCode,
        size: usize,
        choice: Compress,
        may_drop: bool,
    ) -> bool {
        if !all.wants(opcode, size, choice) {
            return false;
        }
        let (level, bits) = (all.level(), self.agreed.server_max_window_bits());
        if self.deflater.is_none() && self.apart.is_none() && !reserve(budget, bits) {
            // Without memory for a compressor, the message is sent uncompressed.
            return false;
        }
        // The parts of this message are never dropped, but messages before it may be.
        if self.agreed.server_no_context_takeover() || may_drop {
            let apart = || take(&mut all.deflaters, level, bits);
            self.apart.get_or_insert_with(apart);
            self.forget();
        } else if self.deflater.is_none() {
            self.deflater = Some(Box::new(Deflater::new(level, bits)));
        }
        true
    }

    /// Compresses the next part of the message under way. A part that was not sent may be
    /// compressed again, after [`forget`](Self::forget).
    pub(crate) fn compress_part(
        &mut self,
        all: &mut Compressors,
        part: &[u8],
        last: bool,
    ) -> Option<Compressed> {
        let deflater = self.apart.as_mut().or(self.deflater.as_mut())?;
        let mut bytes = all.take_scratch();
        match last {
            true => deflater.end(part, &mut bytes),
            false => deflater.part(part, &mut bytes),
        }
        let ends = Vec::new();
        Some(Compressed { bytes, ends })
    }

    /// Gives back the compressor that a message in parts has kept until its end.
    pub(crate) fn end_parts(&mut self, all: &mut Compressors) {
        if let Some(apart) = self.apart.take() {
            let bits = self.agreed.server_max_window_bits();
            place(&mut all.deflaters, bits).get_or_insert(apart);
        }
    }
}

/// Takes the shared compressor away, or creates one. A message that needs the shared one meanwhile
/// creates another.
fn take(deflaters: &mut Deflaters, level: u32, bits: u8) -> Box<Deflater> {
    let shared = place(deflaters, bits).take();
    shared.unwrap_or_else(|| Box::new(Deflater::new(level, bits)))
}
