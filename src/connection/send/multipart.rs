//! Messages in parts: in several frames over time, or in one call from several slices.

use crate::error::SendError;
use crate::protocol::{Compress, FrameHead, OpCode, Utf8Validator};

/// A message that has begun and not ended.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    /// The opcode of the next frame: text or binary, then continuation.
    next: OpCode,
    text: Option<Utf8Validator>,
    /// Bytes of payload so far.
    size: usize,
    /// Whether it is to be compressed, and whether it is, which is decided with the first frame.
    choice: Compress,
    compressed: bool,
}

impl Partial {
    /// Creates a message without any part.
    ///
    /// # Errors
    ///
    /// [`SendError::BadFrame`] unless the message is text or binary.
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

    /// Returns the size of the payload so far, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns the opcode and the choice that decide on compression, if no frame was sent yet.
    pub(crate) fn first(&self) -> Option<(OpCode, Compress)> {
        (self.next != OpCode::Continuation).then_some((self.next, self.choice))
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Sets whether the message is compressed, before its first frame.
    pub(crate) fn set_compressed(&mut self, compressed: bool) {
        self.compressed = compressed;
    }

    /// Returns the header of the next frame.
    pub(crate) fn head(&mut self, len: usize, last: bool) -> FrameHead {
        let opcode = std::mem::replace(&mut self.next, OpCode::Continuation);
        let mut head = FrameHead::new(opcode, len);
        // RFC 7692, 6.1: the bit is set on the first frame only.
        if self.compressed && opcode != OpCode::Continuation {
            head = head.compressed();
        }
        match last {
            true => head,
            false => head.unfinished(),
        }
    }

    /// Returns the header of the only frame of a compressed message.
    pub(crate) fn compressed_head(&mut self, len: usize) -> FrameHead {
        self.compressed = true;
        self.head(len, true)
    }
}

/// The headers of a message's frames.
pub(crate) struct Frames(Vec<FrameHead>);

impl Frames {
    /// Creates the headers of all frames of a message.
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

    /// Returns headers and payloads in turn.
    pub(crate) fn pieces<'p>(&'p self, payloads: &[&'p [u8]]) -> Vec<&'p [u8]> {
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(2 * self.0.len());
        for (head, payload) in self.0.iter().zip(payloads) {
            pieces.push(head);
            pieces.push(payload);
        }
        pieces
    }
}
