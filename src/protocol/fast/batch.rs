//! Batches of short messages that arrived together.

use super::short::{BLOCK, BLOCKS, Frame, SHORT_HEAD};

/// Consecutive short messages of one kind, unmasked into one buffer without gaps.
///
/// Their text is validated in one pass. A message that ends inside a character shows only when the
/// text is split.
#[derive(Debug)]
pub(crate) struct Batch {
    clear: Box<[[u8; BLOCK]]>,
    lens: [u8; BATCH],
}

/// Most messages in a batch.
const BATCH: usize = 32;

impl Default for Batch {
    fn default() -> Self {
        Self {
            clear: vec![[0; BLOCK]; BATCH * BLOCKS].into(),
            lens: [0; BATCH],
        }
    }
}

/// The messages of a [`Batch`] without gaps, and their lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shorts<'p> {
    Binary(&'p [u8], &'p [u8]),
    Text(&'p str, &'p [u8]),
}

impl Shorts<'_> {
    /// Returns the number of messages.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Binary(_, lens) | Self::Text(_, lens) => lens.len(),
        }
    }
}

impl Batch {
    /// Unmasks the messages at `start` that [`take_short`](super::take_short) would take, up to
    /// `most` of them or to the first whose kind differs. Returns `None` if there is none, or if
    /// their text is not UTF-8.
    ///
    /// It is not inlined, so that its loop has all registers.
    #[inline(never)]
    pub(crate) fn fill(
        &mut self,
        buffer: &[u8],
        mut start: usize,
        end: usize,
        max_recv_size: usize,
        most: usize,
    ) -> Option<Shorts<'_>> {
        let max = max_recv_size.min(125);
        let clear = self.clear.as_flattened_mut();
        let (mut count, mut used, mut binary) = (0, 0, false);
        while count < most.min(BATCH)
            && let Some(frame) = Frame::at(buffer, start, end, max)
            && (count == 0 || frame.binary == binary)
            && let Some(room) = clear.get_mut(used..)
            && let Some(room) = room.as_chunks_mut::<BLOCK>().0.first_chunk_mut()
        {
            // The next message overwrites the excess bytes of the last block.
            frame.unmask(room);
            binary = frame.binary;
            self.lens[count] = frame.len as u8; // at most 125
            count += 1;
            used += frame.len;
            start += SHORT_HEAD + frame.len;
        }
        let (clear, lens) = (clear.get(..used)?, self.lens.get(..count)?);
        match binary {
            _ if count == 0 => None,
            true => Some(Shorts::Binary(clear, lens)),
            false => Some(Shorts::Text(simdutf8::basic::from_utf8(clear).ok()?, lens)),
        }
    }
}
