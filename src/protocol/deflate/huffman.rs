//! Minimum-redundancy (Huffman) codes of bounded length (RFC 1951, 3.2.2).

/// A code: for each symbol its bits, the first one lowest, and their number.
#[derive(Debug)]
pub(super) struct Book<const N: usize> {
    pub(super) codes: [u16; N],
    pub(super) lengths: [u8; N],
}

impl<const N: usize> Book<N> {
    /// Makes the codes that RFC 1951 assigns to symbols of these lengths.
    pub(super) const fn of(lengths: &[u8; N]) -> Self {
        let mut counts = [0u16; LONGEST + 1];
        let mut symbol = 0;
        while symbol < N {
            counts[lengths[symbol] as usize] += 1;
            symbol += 1;
        }
        counts[0] = 0;
        let mut next = [0u16; LONGEST + 1];
        let mut length = 1;
        while length <= LONGEST {
            next[length] = (next[length - 1] + counts[length - 1]) << 1;
            length += 1;
        }
        let mut codes = [0; N];
        symbol = 0;
        while symbol < N {
            let length = lengths[symbol] as usize;
            if length > 0 {
                codes[symbol] = next[length].reverse_bits() >> (16 - length);
                next[length] += 1;
            }
            symbol += 1;
        }
        Self {
            codes,
            lengths: *lengths,
        }
    }

    /// Returns the codes of the first `M` symbols.
    pub(super) const fn first<const M: usize>(&self) -> Book<M> {
        let (mut codes, mut lengths) = ([0; M], [0; M]);
        let mut symbol = 0;
        while symbol < M {
            codes[symbol] = self.codes[symbol];
            lengths[symbol] = self.lengths[symbol];
            symbol += 1;
        }
        Book { codes, lengths }
    }

    /// Returns how many bits these symbols take in total.
    pub(super) fn cost(&self, counts: &[u32; N]) -> usize {
        let each = counts.iter().zip(&self.lengths);
        each.map(|(count, length)| *count as usize * usize::from(*length))
            .sum()
    }
}

/// Returns code lengths of at most `most` for symbols with these counts; 0 for symbols that do not
/// occur. At least two symbols get a code, because some decoders reject fewer.
pub(super) fn lengths<const N: usize>(counts: &[u32; N], most: usize) -> [u8; N] {
    let mut sorted = [0u64; N];
    let mut used = 0;
    for (symbol, count) in counts.iter().enumerate() {
        if *count > 0 {
            sorted[used] = u64::from(*count) << 16 | symbol as u64;
            used += 1;
        }
    }
    let mut lengths = [0; N];
    if used < 2 {
        let only = sorted[0] as usize & 0xffff;
        (lengths[0], lengths[only.max(1)]) = (1, 1);
        return lengths;
    }
    let sorted = &mut sorted[..used];
    sorted.sort_unstable();
    let mut weights = [0u32; N];
    for (weight, entry) in weights.iter_mut().zip(sorted.iter()) {
        *weight = (entry >> 16) as u32;
    }
    let mut by_length = leaves(&mut weights[..used]);
    bound(&mut by_length, most);
    // The rarest symbols get the longest codes.
    let mut symbols = sorted.iter().map(|entry| *entry as usize & 0xffff);
    for length in (1..=most).rev() {
        for symbol in symbols.by_ref().take(by_length[length]) {
            lengths[symbol] = length as u8;
        }
    }
    lengths
}

/// Counts the leaves of an optimal tree by their depth, given their weights in ascending order:
/// Moffat and Katajainen, "In-place calculation of minimum-redundancy codes" (1995).
fn leaves(weights: &mut [u32]) -> [usize; DEEPEST + 1] {
    let count = weights.len();
    // Each new inner node overwrites a leaf that is used already. Each used inner node is replaced
    // by the index of its parent.
    let (mut leaf, mut node) = (0, 0);
    for next in 0..count - 1 {
        let mut lightest = |weights: &mut [u32]| {
            if leaf >= count || (node < next && weights[node] < weights[leaf]) {
                let weight = std::mem::replace(&mut weights[node], next as u32);
                node += 1;
                weight
            } else {
                leaf += 1;
                weights[leaf - 1]
            }
        };
        let sum = lightest(weights) + lightest(weights);
        weights[next] = sum;
    }
    // From the root down: the depth of each inner node, which has two children, inner nodes or
    // leaves.
    let mut by_depth = [0; DEEPEST + 1];
    weights[count - 2] = 0;
    for next in (0..count - 2).rev() {
        weights[next] = weights[weights[next] as usize] + 1;
    }
    let mut inner = weights[..count - 1].iter().rev().peekable();
    let (mut places, mut depth) = (1, 0);
    while places > 0 {
        let mut nodes = 0;
        while inner.next_if(|at| **at as usize == depth).is_some() {
            nodes += 1;
        }
        by_depth[depth.min(DEEPEST)] += places - nodes;
        places = 2 * nodes;
        depth += 1;
    }
    by_depth
}

/// Moves leaves that are too deep up, and as few others as possible down to make room for them.
fn bound(by_length: &mut [usize; DEEPEST + 1], most: usize) {
    let deep: usize = by_length[most + 1..].iter().sum();
    if deep == 0 {
        return;
    }
    by_length[most + 1..].fill(0);
    by_length[most] += deep;
    // Kraft's sum, in units of the longest code; it must fall to that of a complete tree.
    let mut sum: usize = (1..=most)
        .map(|length| by_length[length] << (most - length))
        .sum();
    while sum > 1 << most {
        // Moves a shorter leaf one level down, and one of the longest up beside it.
        let Some(length) = (1..most).rev().find(|length| by_length[*length] > 0) else {
            return;
        };
        by_length[most] -= 1;
        by_length[length] -= 1;
        by_length[length + 1] += 2;
        sum -= 1;
    }
}

/// Longest code that DEFLATE allows, in bits.
const LONGEST: usize = 15;

/// No tree is deeper for messages of 64 KiB: the weight that a depth requires grows like the
/// Fibonacci numbers.
const DEEPEST: usize = 31;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the cost of the best unbounded code, computed with a heap.
    fn best(counts: &[u32]) -> u64 {
        let mut heap: std::collections::BinaryHeap<_> = counts
            .iter()
            .filter(|count| **count > 0)
            .map(|count| std::cmp::Reverse(u64::from(*count)))
            .collect();
        let mut cost = 0;
        while let (Some(one), Some(other)) = (heap.pop(), heap.pop()) {
            cost += one.0 + other.0;
            heap.push(std::cmp::Reverse(one.0 + other.0));
        }
        cost
    }

    fn check<const N: usize>(counts: &[u32; N], most: usize) -> u64 {
        let lengths = lengths(counts, most);
        let kraft: usize = lengths
            .iter()
            .filter(|length| **length > 0)
            .map(|length| 1 << (most - usize::from(*length)))
            .sum();
        assert_eq!(kraft, 1 << most, "the code is complete: {lengths:?}");
        for (count, length) in counts.iter().zip(lengths) {
            assert!(*count == 0 || length > 0);
            assert!(usize::from(length) <= most);
        }
        let each = counts.iter().zip(lengths);
        each.map(|(count, length)| u64::from(*count) * u64::from(length))
            .sum()
    }

    proptest! {
        #[test]
        fn codes_are_complete_and_the_best(
            counts in prop::array::uniform30(prop_oneof![Just(0u32), 0u32..5, 0u32..3000])
        ) {
            let cost = check(&counts, 15);
            let used = counts.iter().filter(|count| **count > 0).count();
            // With a total below 987, no tree exceeds 15 levels.
            if used > 1 && counts.iter().sum::<u32>() < 987 {
                prop_assert_eq!(cost, best(&counts));
            }
            let bounded = check(&counts, 7);
            prop_assert!(bounded >= cost.min(best(&counts)));
        }
    }

    #[test]
    fn deep_trees_are_bounded() {
        // Fibonacci numbers as weights make the deepest tree.
        let mut counts = [0u32; 22];
        let (mut a, mut b) = (1, 1);
        for count in &mut counts {
            *count = a;
            (a, b) = (b, a + b);
        }
        assert!(check(&counts, 15) >= best(&counts));
        let few: [u32; 19] = counts[..19].try_into().expect("it has as many");
        assert!(check(&few, 7) > best(&few));
    }

    #[test]
    fn there_are_two_codes_at_least() {
        assert_eq!(lengths(&[0; 4], 7), [1, 1, 0, 0]);
        assert_eq!(lengths(&[9, 0, 0, 0], 7), [1, 1, 0, 0]);
        assert_eq!(lengths(&[0, 0, 9, 0], 7), [1, 0, 1, 0]);
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1951, 3.2.2: ABCDEFGH with lengths (3, 3, 3, 3, 3, 2, 4, 4).
        let book = Book::of(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let codes = book.codes.iter().zip(book.lengths);
        let codes: Vec<_> = codes
            .map(|(code, length)| code.reverse_bits() >> (16 - length))
            .collect();
        assert_eq!(codes, [2, 3, 4, 5, 6, 0, 14, 15]);
    }
}
