//! What leaves together.

/// Everything that was sent to the connection whose events are being delivered, so that all
/// replies to what one read brought leave in one write.
///
/// The memory is kept, and initialised once: a short message is two stores and a copy.
#[derive(Debug)]
pub(crate) struct Gather {
    bytes: Vec<u8>,
    len: usize,
    /// From here on it is time for a write, in bytes.
    limit: usize,
}

impl Gather {
    /// Makes an empty one; it is full at [`MAX`], or at `limit` if that is less.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: vec![0; MAX],
            len: 0,
            limit: limit.min(MAX),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends a short frame, unless it would be full then; returns whether it did.
    #[inline]
    pub(super) fn push_short(&mut self, head: [u8; 2], payload: &[u8]) -> bool {
        let end = self.len + head.len() + payload.len();
        if end >= self.limit {
            return false;
        }
        let Some(room) = self.bytes.get_mut(self.len..end) else {
            return false;
        };
        let Some((front, rest)) = room.split_first_chunk_mut() else {
            return false;
        };
        *front = head;
        rest.copy_from_slice(payload);
        self.len = end;
        true
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        // A large HTTP answer grew it; the next one is short again.
        if self.bytes.len() > 2 * MAX {
            self.bytes = vec![0; MAX];
        }
    }
}

/// How much is collected for one write, in bytes.
const MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_there_in_order() {
        let mut gather = Gather::new(usize::MAX);
        assert!(gather.push_short([0x81, 2], b"hi"));
        gather.push(b"--");
        assert!(gather.push_short([0x82, 0], b""));
        assert_eq!(gather.as_slice(), b"\x81\x02hi--\x82\x00");
        gather.push(&[7; 3 * MAX]);
        assert!(gather.is_full() && gather.as_slice().len() == 8 + 3 * MAX);
        gather.clear();
        assert!(gather.is_empty() && gather.bytes.len() == MAX);
    }

    #[test]
    fn short_frames_stay_below_the_limit() {
        let mut gather = Gather::new(10);
        assert!(gather.push_short([0, 0], b"12345"));
        assert!(!gather.push_short([0, 0], b"6"), "it would be full");
        assert!(!gather.is_full());
        assert!(gather.push_short([0, 0], b""));
        gather.push(b"x");
        assert!(gather.is_full());
    }
}
