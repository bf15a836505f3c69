//! DEFLATE (RFC 1951) for small messages that are compressed by themselves.
//!
//! To forget a message, a general compressor clears tables of a hundred kilobytes, and its search
//! does not pay off within a few thousand bytes. This one has a table of 16 KiB that is never
//! cleared, looks at one earlier position for each position, and writes the whole message as one
//! block.

use super::huffman::{Book, lengths};

/// Compresses messages of at most [`Alone::MAX`] bytes, each by itself.
#[derive(Debug)]
pub(super) struct Alone {
    /// The last position of four bytes, indexed by their hash; positions are counted from `base`.
    seen: Box<[u32; SEEN]>,
    /// The count at which the message begins; lower counts belong to earlier messages.
    base: u32,
    tokens: Vec<Token>,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
}

/// A literal, or a match: the top bit, the length minus 3 in eight bits, the distance minus 1.
#[derive(Clone, Copy, Debug)]
struct Token(u32);

impl Token {
    const MATCH: u32 = 1 << 31;

    fn copy(len: usize, distance: usize) -> Self {
        // `len` is 3 to 258, `distance` 1 to 32,768.
        Self(Self::MATCH | ((len - MIN) as u32) << 16 | (distance - 1) as u32)
    }

    /// Returns the length minus 3 and the distance minus 1 of a match; `Err` is a literal.
    fn parts(self) -> Result<(u32, u32), u8> {
        if self.0 & Self::MATCH == 0 {
            Err(self.0 as u8)
        } else {
            Ok((self.0 >> 16 & 0xff, self.0 & 0x7fff))
        }
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self {
            seen: Box::new([0; SEEN]),
            base: 1,
            tokens: Vec::new(),
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
        }
    }
}

impl Alone {
    /// Largest message, in bytes: it fits into the largest window.
    pub(super) const MAX: usize = 32 << 10;

    /// Appends the compressed message, without the tail that RFC 7692 omits. The window must be at
    /// least as large as the message.
    pub(super) fn message(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        debug_assert!(payload.len() <= Self::MAX);
        self.parse(payload);
        // The end of the block.
        self.literals[END] = 1;
        let dynamic = Dynamic::new(&self.literals, &self.distances);
        let fixed = FIXED_LITERALS.cost(&self.literals) + FIXED_DISTANCES.cost(&self.distances);
        let extra = self.extra_bits();
        let stored = payload.len() * 8 + 40;
        let mut bits = Bits {
            out,
            pending: 0,
            count: 0,
        };
        if stored <= extra + fixed.min(dynamic.cost) {
            bits.put(0, 3);
            bits.align();
            let len = payload.len() as u16;
            bits.out.extend_from_slice(&len.to_le_bytes());
            bits.out.extend_from_slice(&(!len).to_le_bytes());
            bits.out.extend_from_slice(payload);
        } else if fixed <= dynamic.cost {
            bits.put(0b01 << 1, 3);
            bits.tokens(&self.tokens, &FIXED_LITERALS, &FIXED_DISTANCES);
        } else {
            bits.put(0b10 << 1, 3);
            dynamic.write_head(&mut bits);
            bits.tokens(&self.tokens, &dynamic.literals, &dynamic.distances);
        }
        // The header of the empty block that ends a flush.
        bits.put(0, 3);
        bits.align();
    }

    /// Finds matches, and counts the symbols.
    fn parse(&mut self, payload: &[u8]) {
        self.tokens.clear();
        self.literals.fill(0);
        self.distances.fill(0);
        if self.base > u32::MAX - 2 * Self::MAX as u32 {
            self.seen.fill(0);
            self.base = 1;
        }
        let base = self.base;
        self.base += payload.len() as u32;
        let mut at = 0;
        let mut misses = 0;
        while let Some(here) = payload.get(at..)
            && let Some(word) = here.first_chunk::<4>()
        {
            let word = u32::from_le_bytes(*word);
            let entry = &mut self.seen[hash(word)];
            let before = std::mem::replace(entry, base + at as u32);
            let len = match before.checked_sub(base) {
                Some(before) => {
                    let there = payload.get(before as usize..).unwrap_or_default();
                    match there.first_chunk::<4>() {
                        Some(same) if u32::from_le_bytes(*same) == word => common(there, here),
                        _ => 0,
                    }
                }
                None => 0,
            };
            if len == 0 {
                // After many positions without a match, more of them are skipped.
                let step = 1 + (misses >> 6);
                misses += 1;
                let end = payload.len().min(at + step);
                for byte in &payload[at..end] {
                    self.literal(*byte);
                }
                at = end;
                continue;
            }
            misses = 0;
            let distance = (base + at as u32 - before) as usize;
            self.copy(len, distance);
            // Positions inside the match can start later matches as well.
            let end = at + len;
            let last = end.min(payload.len().saturating_sub(3));
            for inside in at + 1..last {
                if let Some(word) = payload
                    .get(inside..)
                    .and_then(|rest| rest.first_chunk::<4>())
                {
                    self.seen[hash(u32::from_le_bytes(*word))] = base + inside as u32;
                }
            }
            at = end;
        }
        for byte in payload.get(at..).unwrap_or_default() {
            self.literal(*byte);
        }
    }

    fn literal(&mut self, byte: u8) {
        self.tokens.push(Token(byte.into()));
        self.literals[usize::from(byte)] += 1;
    }

    fn copy(&mut self, len: usize, distance: usize) {
        let token = Token::copy(len, distance);
        if let Ok((len, distance)) = token.parts() {
            self.literals[usize::from(length_code(len).symbol)] += 1;
            self.distances[usize::from(distance_code(distance).symbol)] += 1;
        }
        self.tokens.push(token);
    }

    /// Returns how many extra bits follow the symbols of lengths and distances.
    fn extra_bits(&self) -> usize {
        let bits = |counts: &[u32], extra: fn(usize) -> usize| -> usize {
            let counts = counts.iter().enumerate();
            counts
                .map(|(symbol, count)| *count as usize * extra(symbol))
                .sum()
        };
        bits(&self.literals[END + 1..], |code| match code {
            0..8 | 28 => 0,
            code => code / 4 - 1,
        }) + bits(&self.distances, |code| (code / 2).saturating_sub(1))
    }
}

/// A symbol and the extra bits after it.
struct Code {
    symbol: u16,
    extra_bits: u32,
    extra: u32,
}

/// Returns the code for a length minus 3 (RFC 1951, 3.2.5).
fn length_code(len: u32) -> Code {
    let (code, extra_bits) = match len {
        0..8 => (len, 0),
        255.. => (28, 0),
        _ => {
            let extra_bits = len.ilog2() - 2;
            (4 * extra_bits + (len >> extra_bits), extra_bits)
        }
    };
    Code {
        symbol: (END as u32 + 1 + code) as u16,
        extra_bits,
        extra: len & ((1 << extra_bits) - 1),
    }
}

/// Returns the code for a distance minus 1 (RFC 1951, 3.2.5).
fn distance_code(distance: u32) -> Code {
    let (code, extra_bits) = match distance {
        0..4 => (distance, 0),
        _ => {
            let extra_bits = distance.ilog2() - 1;
            (2 * extra_bits + (distance >> extra_bits), extra_bits)
        }
    };
    Code {
        symbol: code as u16,
        extra_bits,
        extra: distance & ((1 << extra_bits) - 1),
    }
}

/// Returns how many bytes the two have in common at the front, at most 258.
fn common(there: &[u8], here: &[u8]) -> usize {
    let here = here.get(..MAX.min(here.len())).unwrap_or_default();
    let mut len = 0;
    for (a, b) in there.as_chunks::<8>().0.iter().zip(here.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let rest = there.iter().skip(len).zip(here.iter().skip(len));
    len + rest.take_while(|(a, b)| a == b).count()
}

fn hash(word: u32) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> (32 - SEEN.trailing_zeros())) as usize
}

/// The codes for one message, and the block header that describes them (RFC 1951, 3.2.7).
struct Dynamic {
    literals: Book<LITERALS>,
    distances: Book<DISTANCES>,
    /// The codes' lengths, run-length encoded: a symbol, and the value that follows it.
    runs: Vec<(u8, u8)>,
    heads: Book<HEADS>,
    sizes: [usize; 3],
    /// Size of the block without the extra bits of lengths and distances, in bits.
    cost: usize,
}

impl Dynamic {
    fn new(literal_counts: &[u32; LITERALS], distance_counts: &[u32; DISTANCES]) -> Self {
        let literals = Book::of(&lengths(literal_counts, 15));
        let distances = Book::of(&lengths(distance_counts, 15));
        let used = |lengths: &[u8], least: usize| {
            let last = lengths.iter().rposition(|length| *length > 0);
            last.map_or(least, |last| (last + 1).max(least))
        };
        let (literal_count, distance_count) = (
            used(&literals.lengths, END + 1),
            used(&distances.lengths, 1),
        );
        let all = [
            &literals.lengths[..literal_count],
            &distances.lengths[..distance_count],
        ]
        .concat();
        let mut runs = Vec::with_capacity(64);
        let mut counts = [0; HEADS];
        for same in all.chunk_by(|a, b| a == b) {
            let mut left = same.len();
            let length = same[0];
            if length > 0 {
                runs.push((length, 0));
                left -= 1;
            }
            while left > 0 {
                let (symbol, least, most) = match length {
                    0 if left > 10 => (18, 11, 138),
                    0 => (17, 3, 10),
                    _ => (16, 3, 6),
                };
                if left < least {
                    runs.push((length, 0));
                    left -= 1;
                } else {
                    let run = left.min(most);
                    runs.push((symbol, (run - least) as u8));
                    left -= run;
                }
            }
        }
        for (symbol, _) in &runs {
            counts[usize::from(*symbol)] += 1;
        }
        let heads = Book::of(&lengths(&counts, 7));
        let head_count = HEAD_ORDER
            .iter()
            .rposition(|symbol| heads.lengths[*symbol] > 0)
            .map_or(4, |last| (last + 1).max(4));
        let run_bits = counts[16] * 2 + counts[17] * 3 + counts[18] * 7;
        let cost = 14
            + 3 * head_count
            + heads.cost(&counts)
            + run_bits as usize
            + literals.cost(literal_counts)
            + distances.cost(distance_counts);
        Self {
            literals,
            distances,
            runs,
            heads,
            sizes: [literal_count, distance_count, head_count],
            cost,
        }
    }

    fn write_head(&self, bits: &mut Bits<'_>) {
        let [literals, distances, heads] = self.sizes;
        bits.put((literals - 257) as u32, 5);
        bits.put((distances - 1) as u32, 5);
        bits.put((heads - 4) as u32, 4);
        for symbol in &HEAD_ORDER[..heads] {
            bits.put(self.heads.lengths[*symbol].into(), 3);
        }
        for (symbol, value) in &self.runs {
            bits.symbol(&self.heads, usize::from(*symbol));
            match symbol {
                16 => bits.put((*value).into(), 2),
                17 => bits.put((*value).into(), 3),
                18 => bits.put((*value).into(), 7),
                _ => {}
            }
        }
    }
}

/// A bit writer, which fills bytes from the lowest bit up.
struct Bits<'o> {
    out: &'o mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits<'_> {
    /// Appends the low `count` bits of `value`, at most 16; the other bits must be zero.
    #[inline(always)]
    fn put(&mut self, value: u32, count: u32) {
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out
                .extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.count -= 32;
        }
    }

    #[inline(always)]
    fn symbol<const N: usize>(&mut self, book: &Book<N>, symbol: usize) {
        self.put(book.codes[symbol].into(), book.lengths[symbol].into());
    }

    fn tokens(&mut self, tokens: &[Token], literals: &Book<LITERALS>, distances: &Book<DISTANCES>) {
        for token in tokens {
            match token.parts() {
                Err(literal) => self.symbol(literals, literal.into()),
                Ok((len, distance)) => {
                    let code = length_code(len);
                    self.symbol(literals, code.symbol.into());
                    self.put(code.extra, code.extra_bits);
                    let code = distance_code(distance);
                    self.symbol(distances, code.symbol.into());
                    self.put(code.extra, code.extra_bits);
                }
            }
        }
        self.symbol(literals, END);
    }

    /// Pads the last byte with zeros.
    fn align(&mut self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out
            .extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
        (self.pending, self.count) = (0, 0);
    }
}

/// The shortest and the longest match.
const MIN: usize = 3;
const MAX: usize = 258;

/// The symbol for the end of a block.
const END: usize = 256;

/// The numbers of symbols: literals and lengths, distances, and lengths of codes.
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const HEADS: usize = 19;

/// The order in which the lengths of the codes for code lengths are sent (RFC 1951, 3.2.7).
const HEAD_ORDER: [usize; HEADS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Number of positions that are remembered.
const SEEN: usize = 4096;

/// The fixed codes (RFC 1951, 3.2.6), which are not sent.
static FIXED_LITERALS: Book<LITERALS> = {
    // The fixed code includes two symbols that never occur.
    let mut lengths = [8; LITERALS + 2];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    Book::of(&lengths).first()
};
static FIXED_DISTANCES: Book<DISTANCES> = Book::of(&[5; DISTANCES]);
