//! Inputs: a few settings, followed by the tested bytes.
//!
//! Everything is read from the front, and missing bytes are zero. Seeds can therefore be written by
//! hand, and a mutation of the tested bytes does not affect the settings.

/// The rest of an input.
pub(crate) struct Input<'i>(pub(crate) &'i [u8]);

impl<'i> Input<'i> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Takes the next `len` bytes, or as many as are left.
    pub(crate) fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// Takes a text: its length (1 byte) and its bytes.
    pub(crate) fn text(&mut self) -> String {
        let len = usize::from(self.byte());
        String::from_utf8_lossy(self.bytes(len)).into_owned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Pseudo-random numbers, the same in each run.
pub(crate) struct Dice(u32);

impl Dice {
    pub(crate) fn new(seed: u16) -> Self {
        Self(u32::from(seed) << 8 | 0x5d)
    }

    /// Returns a number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % end
    }

    /// Returns a size of at least 1, often a small one.
    pub(crate) fn size(&mut self, most: usize) -> usize {
        let end = [2, 8, 64, 1024, usize::MAX][self.below(5)].min(most);
        1 + self.below(end.max(1))
    }
}

/// Returns three ways to cut `len` bytes: not at all, into single bytes, and at random.
pub(crate) fn cuts(seed: u16, len: usize) -> [Vec<usize>; 3] {
    let mut dice = Dice::new(seed);
    let mut random = Vec::new();
    let mut left = len;
    while left > 0 {
        let size = dice.size(left).min(left);
        random.push(size);
        left -= size;
    }
    [vec![len], vec![1; len], random]
}
