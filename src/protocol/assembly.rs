//! The payload of a message that has not arrived completely.

/// The payload of a message, as far as it has arrived.
///
/// Memory follows the bytes that the peer sent, not the length that it announced: never more than
/// four times the bytes that arrived, plus [`Assembly::LANDING_MIN`].
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Initialised up to its length; the payload is the first `filled` bytes.
    bytes: Vec<u8>,
    filled: usize,
}

impl Assembly {
    /// Smallest remainder of a frame that is worth reading straight into the message, in bytes.
    pub(super) const LANDING_MIN: usize = 64 << 10;

    /// Wraps a buffer that already holds the first bytes of the message, none of them counted yet.
    pub(super) fn over(bytes: Vec<u8>) -> Self {
        Self { bytes, filled: 0 }
    }

    /// Returns whether a buffer of `size` bytes is small enough for a message of which `came` bytes
    /// have arrived.
    pub(super) fn is_in_proportion(size: usize, came: usize) -> bool {
        size <= came.saturating_mul(4).saturating_add(Self::LANDING_MIN)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends `chunk`, the next of `remaining` bytes of its frame.
    pub(super) fn push(&mut self, chunk: &[u8], remaining: u64) {
        let needed = self.filled.saturating_add(chunk.len());
        if needed > self.bytes.capacity() {
            let whole = self
                .filled
                .saturating_add(usize::try_from(remaining).unwrap_or(usize::MAX));
            let target = whole
                .max(needed.saturating_mul(2))
                .min(needed.saturating_mul(4));
            self.bytes
                .reserve_exact(target.saturating_sub(self.bytes.len()));
        }
        let spare = self.bytes.len() - self.filled;
        let (over, beyond) = chunk.split_at(spare.min(chunk.len()));
        self.bytes[self.filled..self.filled + over.len()].copy_from_slice(over);
        self.bytes.extend_from_slice(beyond);
        self.filled = needed;
    }

    /// Returns the buffer into which the next of `remaining` bytes of the frame can be read.
    pub(super) fn landing(&mut self, remaining: u64) -> &mut [u8] {
        let remaining = usize::try_from(remaining).unwrap_or(usize::MAX);
        let most = self.filled.saturating_mul(3).max(Self::LANDING_MIN);
        let spare = self.bytes.len() - self.filled;
        let want = if spare >= remaining.min(Self::LANDING_MIN / 2) {
            spare
        } else {
            most
        };
        let end = self.filled.saturating_add(want.min(remaining));
        if self.bytes.len() < end {
            self.bytes.reserve_exact(end - self.bytes.len());
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.filled..end]
    }

    /// Counts `size` bytes of the landing buffer as payload, and returns them.
    pub(super) fn landed(&mut self, size: usize) -> &mut [u8] {
        let start = self.filled;
        self.filled = self.bytes.len().min(start.saturating_add(size));
        &mut self.bytes[start..self.filled]
    }

    /// Forgets the message and returns its memory.
    pub(super) fn clear(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_came() {
        let mut assembly = Assembly::default();
        assembly.push(b"x", u64::MAX);
        assert!(
            assembly.bytes.capacity() <= 8,
            "{}",
            assembly.bytes.capacity()
        );
        for _ in 0..1000 {
            assembly.push(&[7; 100], u64::MAX);
            assert!(assembly.bytes.capacity() <= 4 * assembly.len() + 8);
        }
        assert_eq!(assembly.landing(u64::MAX).len(), 3 * 100_001);
    }

    #[test]
    fn growing_costs_linear_time() {
        let fragments = 40_000;
        let (mut pushed, mut landed) = (Assembly::default(), Assembly::default());
        let mut moves = (0, 0);
        for left in (1..=fragments).rev() {
            let before = (pushed.bytes.capacity(), landed.bytes.capacity());
            // Each push is a frame of its own; each landing is a part of one large frame.
            pushed.push(&[7; 128], 128);
            landed.landing(left * 512);
            landed.landed(512);
            moves.0 += usize::from(pushed.bytes.capacity() != before.0);
            moves.1 += usize::from(landed.bytes.capacity() != before.1);
        }
        assert!(moves.0 < 40 && moves.1 < 40, "{moves:?} times copied");
    }

    #[test]
    fn pushed_and_landed_bytes_follow_each_other() {
        let mut assembly = Assembly::default();
        assembly.push(b"ab", 200_000);
        let landing = assembly.landing(199_998);
        assert_eq!(landing.len(), Assembly::LANDING_MIN);
        landing[..3].copy_from_slice(b"cde");
        assert_eq!(assembly.landed(3), b"cde");
        assembly.push(b"fg", 199_995);
        assert_eq!(assembly.as_slice(), b"abcdefg");
        assembly.push(&[b'h'; 70_000], 199_993);
        assert_eq!(assembly.len(), 70_007);
        assert!(assembly.as_slice()[7..].iter().all(|byte| *byte == b'h'));
        assembly.clear();
        assert_eq!(assembly.as_slice(), b"");
    }
}
