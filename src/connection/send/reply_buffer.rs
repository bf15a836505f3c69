//! The buffer of replies, which leave in one write.

use crate::protocol::{FrameHead, OpCode};

/// All data that was sent to the connection being served, so that the replies to one read leave in
/// one write.
///
/// The memory is kept, and initialised once: a short message costs two stores and a copy.
#[derive(Debug)]
pub(crate) struct ReplyBuffer {
    bytes: Vec<u8>,
    len: usize,
    /// The size at which it is time for a write, in bytes.
    limit: usize,
}

impl ReplyBuffer {
    /// Creates an empty buffer, which is full at [`MAX`], or at `limit` if that is less.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: vec![0; MAX],
            len: 0,
            limit: limit.min(MAX),
        }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends the header of a control frame or of a message that is not large, and room for its
    /// payload. Returns the frame's size and the room, which the caller fills; `None` if the buffer
    /// would be full or the payload is too long.
    #[inline(always)]
    pub(crate) fn make_room(&mut self, opcode: OpCode, len: usize) -> Option<(usize, &mut [u8])> {
        let first = FrameHead::first(opcode);
        if len <= 125 {
            self.push_head([first, len as u8], len)
        } else if len < WRITE_THROUGH && !opcode.is_control() {
            let [high, low] = (len as u16).to_be_bytes();
            self.push_head([first, 126, high, low], len)
        } else {
            None
        }
    }

    #[inline(always)]
    fn push_head<const N: usize>(
        &mut self,
        head: [u8; N],
        len: usize,
    ) -> Option<(usize, &mut [u8])> {
        let size = N + len;
        let end = self.len + size;
        if end >= self.limit {
            return None;
        }
        let (front, room) = self.bytes.get_mut(self.len..end)?.split_first_chunk_mut()?;
        *front = head;
        self.len = end;
        Some((size, room))
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// Discards the contents.
    #[inline(always)]
    pub(crate) fn empty(&mut self) {
        self.len = 0;
    }

    /// Discards the contents, and frees the memory if it is large.
    pub(crate) fn clear(&mut self) {
        self.empty();
        // A large HTTP answer enlarged the buffer; the next one is likely to be short.
        if self.bytes.len() > 2 * MAX {
            self.bytes = vec![0; MAX];
        }
    }
}

/// Smallest payload that is written without a copy, in bytes: below it, a copy costs less than a
/// separate write.
pub(crate) const WRITE_THROUGH: usize = 8 << 10;

/// How much is collected for one write, in bytes.
const MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn push_frame(gather: &mut ReplyBuffer, opcode: OpCode, payload: &[u8]) -> Option<usize> {
        let (size, room) = gather.make_room(opcode, payload.len())?;
        room.copy_from_slice(payload);
        Some(size)
    }

    #[test]
    fn what_was_pushed_is_there_in_order() {
        let mut gather = ReplyBuffer::new(usize::MAX);
        assert_eq!(push_frame(&mut gather, OpCode::Text, b"hi"), Some(4));
        gather.push(b"--");
        assert_eq!(push_frame(&mut gather, OpCode::Binary, b""), Some(2));
        assert_eq!(gather.as_slice(), b"\x81\x02hi--\x82\x00");
        assert_eq!(
            push_frame(&mut gather, OpCode::Text, &[b'x'; 126]),
            Some(130)
        );
        assert_eq!(gather.as_slice()[8..13], *b"\x81\x7e\x00\x7ex");
        assert_eq!(
            push_frame(&mut gather, OpCode::Text, &[b'x'; WRITE_THROUGH]),
            None
        );
        gather.clear();
        assert_eq!(push_frame(&mut gather, OpCode::Ping, &[0; 126]), None);
        gather.push(b"12345678");
        gather.push(&[7; 3 * MAX]);
        assert!(gather.is_full() && gather.as_slice().len() == 8 + 3 * MAX);
        gather.clear();
        assert!(gather.is_empty() && gather.bytes.len() == MAX);
    }

    #[test]
    fn short_frames_stay_below_the_limit() {
        let mut gather = ReplyBuffer::new(10);
        assert_eq!(push_frame(&mut gather, OpCode::Ping, b"12345"), Some(7));
        assert_eq!(
            push_frame(&mut gather, OpCode::Ping, b"6"),
            None,
            "it would be full"
        );
        assert!(!gather.is_full());
        assert_eq!(push_frame(&mut gather, OpCode::Ping, b""), Some(2));
        gather.push(b"x");
        assert!(gather.is_full());
    }
}
