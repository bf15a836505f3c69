//! Compression of messages in parts.

use super::{Deflaters, deflater_size, place};
use crate::config::SlowConsumer;
use crate::connection::core::Core;
use crate::connection::peer::Peer;
use crate::protocol::deflate::Deflater;
use crate::protocol::{Compress, OpCode};

impl Core {
    /// Compresses a message whose payload, `size` bytes, lies in several places, as
    /// [`deflate`](Self::deflate) does.
    pub(in crate::connection) fn deflate_gathered(
        &mut self,
        slot: usize,
        opcode: OpCode,
        parts: &[&[u8]],
        size: usize,
        choice: Compress,
    ) -> Option<Vec<u8>> {
        self.deflate_by(slot, opcode, size, choice, |deflater, takeover, out| {
            deflater.gathered(parts, takeover, out)
        })
    }

    /// Does the same for a frame of each part, and returns where they end.
    pub(in crate::connection) fn deflate_frames(
        &mut self,
        slot: usize,
        opcode: OpCode,
        parts: &[&[u8]],
        size: usize,
        choice: Compress,
    ) -> Option<(Vec<u8>, Vec<usize>)> {
        let mut ends = Vec::with_capacity(parts.len());
        let frames = self.deflate_by(slot, opcode, size, choice, |deflater, takeover, out| {
            if let [part] = parts {
                let done = deflater.message(part, takeover, out);
                ends.push(out.len());
                return done;
            }
            if !takeover {
                deflater.forget();
            }
            for (at, part) in parts.iter().enumerate() {
                match at + 1 == parts.len() {
                    true => deflater.end(part, out),
                    false => deflater.part(part, out),
                }
                ends.push(out.len());
            }
            true
        });
        frames.map(|frames| (frames, ends))
    }

    /// Returns whether the message that begins with a part of `size` bytes is compressed, and finds
    /// what compresses it: the connection's own compressor or, for a message that stands by itself,
    /// one that it has until its end.
    pub(in crate::connection) fn begin_deflated(
        &mut self,
        slot: usize,
        opcode: OpCode,
        size: usize,
        choice: Compress,
    ) -> bool {
        if !self.peers.get(slot).is_some_and(Peer::is_deflating)
            || !self.should_deflate(opcode, size, choice)
        {
            return false;
        }
        let level = self.compression_level();
        let Some(peer) = self.peers.get_mut(slot) else {
            return false;
        };
        let may_drop = peer.slow_consumer == SlowConsumer::DropOldest;
        let Some(deflate) = peer.extras_mut().deflate.as_mut() else {
            return false;
        };
        let bits = deflate.agreed.server_max_window_bits();
        if deflate.deflater.is_none() && deflate.apart.is_none() {
            // Without room for a compressor the message is sent as it is.
            if !self.budget.has_room(deflater_size(bits)) {
                return false;
            }
            self.budget.queue(deflater_size(bits));
        }
        // No part of it is dropped, but messages before it may be.
        if deflate.agreed.server_no_context_takeover() || may_drop {
            let deflaters = &mut self.compression.deflaters;
            let apart = || take(deflaters, level, bits);
            deflate.apart.get_or_insert_with(apart);
            deflate.forget();
        } else if deflate.deflater.is_none() {
            deflate.deflater = Some(Box::new(Deflater::new(level, bits)));
        }
        true
    }

    /// Compresses the next part of the message under way, as [`deflate`](Self::deflate) does: if it
    /// was not sent, it may be sent again.
    pub(in crate::connection) fn deflate_part(
        &mut self,
        slot: usize,
        part: &[u8],
        last: bool,
    ) -> Option<Vec<u8>> {
        let deflate = self.peers.get_mut(slot)?.extras_mut().deflate.as_mut()?;
        let deflater = deflate.apart.as_mut().or(deflate.deflater.as_mut())?;
        let mut out = std::mem::take(&mut self.compression.scratch);
        out.clear();
        match last {
            true => deflater.end(part, &mut out),
            false => deflater.part(part, &mut out),
        }
        Some(out)
    }

    /// Frees what the message in parts had until its end.
    pub(in crate::connection) fn end_deflated(&mut self, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.is_deflating()) else {
            return;
        };
        if let Some(deflate) = peer.extras_mut().deflate.as_mut()
            && let Some(apart) = deflate.apart.take()
        {
            let bits = deflate.agreed.server_max_window_bits();
            place(&mut self.compression.deflaters, bits).get_or_insert(apart);
        }
    }

    fn compression_level(&self) -> u32 {
        let config = self.compression.config.as_ref();
        config.map_or(1, |config| config.compression_level())
    }
}

/// Takes the shared compressor away, or makes one; who needs a shared one in the meantime makes
/// another.
fn take(deflaters: &mut Deflaters, level: u32, bits: u8) -> Box<Deflater> {
    let shared = place(deflaters, bits).take();
    shared.unwrap_or_else(|| Box::new(Deflater::new(level, bits)))
}
