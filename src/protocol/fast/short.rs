//! Messages of at most 125 bytes.

use super::TEXT;

/// A short message, unmasked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Short<'p> {
    Binary(&'p [u8]),
    Text(&'p str),
}

impl Short<'_> {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Binary(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
        }
    }
}

/// Where short payloads are unmasked to, sixteen bytes at a time.
///
/// At its aligned start, padded with zeros, text is validated in a third of the instructions that
/// it costs in place.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct Pad([[u8; BLOCK]; BLOCKS]);

/// Room for the 125 bytes of the longest short message, in blocks.
pub(super) const BLOCKS: usize = 8;

impl Default for Pad {
    fn default() -> Self {
        Self([[0; BLOCK]; BLOCKS])
    }
}

/// Takes the message at `start`, if it is a whole, unfragmented text or binary message of at most
/// 125 bytes, and no more than `max_recv_size`. Its frame is [`SHORT_HEAD`] bytes longer than itself.
///
/// `end` is the end of what was received; the bytes of `buffer` behind it are of no meaning.
#[inline(always)]
pub(crate) fn take_short<'p>(
    buffer: &[u8],
    start: usize,
    end: usize,
    max_recv_size: usize,
    pad: &'p mut Pad,
) -> Option<Short<'p>> {
    let frame = Frame::at(buffer, start, end, max_recv_size.min(125))?;
    frame.unmask(&mut pad.0);
    let len = frame.len;
    if frame.binary {
        return Some(Short::Binary(pad.0.as_flattened().get(..len)?));
    }
    let (whole, part) = (len / BLOCK, len % BLOCK);
    if part <= FEW {
        let clear = pad.0.as_flattened().get(..len)?;
        return std::str::from_utf8(clear).ok().map(Short::Text);
    }
    // The standard library looks at a rest byte by byte, but at blocks word by word. A zero is a
    // character, so one that is cut at `len` is as wrong as it is without.
    let last = pad.0.get_mut(whole)?;
    *last = (u128::from_ne_bytes(*last) & KEEP[part]).to_ne_bytes();
    let clear = pad.0.get(..=whole)?.as_flattened();
    let text = std::str::from_utf8(clear).ok()?;
    Some(Short::Text(text.get(..len)?))
}

/// So many bytes are validated one by one in less time than another block.
const FEW: usize = 6;

/// The frame of a short message.
pub(super) struct Frame<'b> {
    pub(super) binary: bool,
    pub(super) len: usize,
    key: u32,
    masked: &'b [u8; BLOCKS * BLOCK],
}

impl<'b> Frame<'b> {
    /// Finds what [`take_short`] takes; `max` is 125 at most.
    #[inline(always)]
    pub(super) fn at(buffer: &'b [u8], start: usize, end: usize, max: usize) -> Option<Self> {
        // At the very end of the buffer there may be less behind it than is read here.
        let window = buffer.get(start..)?.first_chunk::<WINDOW>()?;
        let [first, second, k0, k1, k2, k3, masked @ ..] = window;
        // The low byte is 0 for a text message, 1 for a binary one; the high byte is its length,
        // which is 128 or more if the frame is not masked.
        let head = u16::from_le_bytes([*first, *second]).wrapping_sub(TEXT);
        let len = usize::from(head >> 8);
        if head & 0xfe != 0 || len > max || start + SHORT_HEAD + len > end {
            return None;
        }
        Some(Self {
            binary: head & 1 != 0,
            // It is 125 at most; so the compiler knows, too.
            len: len & 0x7f,
            key: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
            masked,
        })
    }

    /// Unmasks the payload to `clear`; what the last block has too much is of no meaning.
    #[inline(always)]
    pub(super) fn unmask(&self, clear: &mut [[u8; BLOCK]; BLOCKS]) {
        let (masked, _) = self.masked.as_chunks::<BLOCK>();
        for at in 0..self.len.div_ceil(BLOCK) {
            clear[at] = xor(&masked[at], self.key);
        }
    }
}

/// Unmasks a block.
#[inline(always)]
fn xor(block: &[u8; BLOCK], key: u32) -> [u8; BLOCK] {
    let mut clear = *block;
    for word in clear.as_chunks_mut::<4>().0 {
        *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    clear
}

/// The header of a masked frame of at most 125 bytes, in bytes.
pub(crate) const SHORT_HEAD: usize = 6;

/// The longest short frame, in whole blocks.
const WINDOW: usize = SHORT_HEAD + BLOCKS * BLOCK;

/// Payloads are unmasked in blocks of so many bytes.
pub(super) const BLOCK: usize = 16;

/// Which bytes of the last block belong to the message, by its length's remainder.
static KEEP: [u128; BLOCK] = {
    let mut keep = [0; BLOCK];
    let mut len = 1;
    while len < BLOCK {
        let mut bytes = [0; BLOCK];
        let mut at = 0;
        while at < len {
            bytes[at] = 0xff;
            at += 1;
        }
        keep[len] = u128::from_ne_bytes(bytes);
        len += 1;
    }
    keep
};
