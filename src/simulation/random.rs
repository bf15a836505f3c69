//! Random numbers that depend only on the seed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// SplitMix64: small, fast, and random enough for this purpose.
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    /// Adjacent seeds give unrelated numbers.
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Returns a number less than `end`; 0 if that is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        // The high half of a product: the bias does not matter here.
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    pub(super) fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() + 1 - range.start())
    }

    /// Returns true with a probability of `in_a_thousand` / 1000.
    pub(super) fn chance(&mut self, in_a_thousand: usize) -> bool {
        // A probability of zero draws no number, so that a fault that is off changes nothing else.
        in_a_thousand > 0 && self.below(1000) < in_a_thousand
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(super) fn millis(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_millis(self.within(range) as u64)
    }

    pub(super) fn micros(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_micros(self.within(range) as u64)
    }

    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at + 1));
        }
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes the bits of a number.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
