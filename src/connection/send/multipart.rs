//! Messages in parts: in several frames over time, or one from several places.

use crate::error::SendError;
use crate::protocol::{Compress, FrameHead, OpCode, Utf8Validator};

/// A message that was begun and has not ended.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    /// That of the next frame: text or binary, then continuation.
    next: OpCode,
    text: Option<Utf8Validator>,
    /// Bytes of payload so far.
    size: usize,
    /// Whether it is to be compressed, and whether it is: that is known with its first frame.
    choice: Compress,
    compressed: bool,
}

impl Partial {
    /// # Errors
    ///
    /// [`SendError::BadFrame`] unless it is text or binary.
    pub(crate) fn new(opcode: OpCode, choice: Compress) -> Result<Self, SendError> {
        let text = match opcode {
            OpCode::Text => Some(Utf8Validator::default()),
            OpCode::Binary => None,
            _ => return Err(SendError::BadFrame),
        };
        Ok(Self {
            next: opcode,
            text,
            size: 0,
            choice,
            compressed: false,
        })
    }

    /// Adds a part.
    pub(crate) fn add(&mut self, part: &[u8], limit: usize) -> Result<(), SendError> {
        self.size = self.size.saturating_add(part.len());
        if self.size > limit {
            let size = self.size;
            return Err(SendError::TooBig { size, limit });
        }
        match &mut self.text {
            Some(text) => text.feed(part).map_err(|_| SendError::BadUtf8),
            None => Ok(()),
        }
    }

    /// Ends the message.
    pub(crate) fn finish(&mut self) -> Result<(), SendError> {
        match &mut self.text {
            Some(text) => text.finish().map_err(|_| SendError::BadUtf8),
            None => Ok(()),
        }
    }

    /// Returns the size of its payload so far, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns what decides on its compression, if no frame of it was sent.
    pub(crate) fn first(&self) -> Option<(OpCode, Compress)> {
        (self.next != OpCode::Continuation).then_some((self.next, self.choice))
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Says whether it is compressed, before its first frame.
    pub(crate) fn set_compressed(&mut self, compressed: bool) {
        self.compressed = compressed;
    }

    /// Returns the header of the next frame.
    pub(crate) fn head(&mut self, len: usize, last: bool) -> FrameHead {
        let opcode = std::mem::replace(&mut self.next, OpCode::Continuation);
        let mut head = FrameHead::new(opcode, len);
        // RFC 7692, 6.1: the bit is set on the first frame alone.
        if self.compressed && opcode != OpCode::Continuation {
            head = head.compressed();
        }
        match last {
            true => head,
            false => head.unfinished(),
        }
    }

    /// Returns the header of the one frame of a compressed message.
    pub(crate) fn compressed_head(&mut self, len: usize) -> FrameHead {
        self.compressed = true;
        self.head(len, true)
    }
}

/// The headers of a message's frames.
pub(crate) struct Frames(Vec<FrameHead>);

impl Frames {
    /// Makes them for all frames of a message.
    pub(crate) fn new(message: &mut Partial, payloads: &[&[u8]]) -> Self {
        let mut heads: Vec<FrameHead> = Vec::with_capacity(payloads.len());
        if let Some((last, others)) = payloads.split_last() {
            heads.extend(
                others
                    .iter()
                    .map(|payload| message.head(payload.len(), false)),
            );
            heads.push(message.head(last.len(), true));
        }
        Self(heads)
    }

    /// Returns headers and payloads by turns.
    pub(crate) fn pieces<'p>(&'p self, payloads: &[&'p [u8]]) -> Vec<&'p [u8]> {
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(2 * self.0.len());
        for (head, payload) in self.0.iter().zip(payloads) {
            pieces.push(head);
            pieces.push(payload);
        }
        pieces
    }
}
