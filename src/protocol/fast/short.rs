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

/// The buffer into which short payloads are unmasked, sixteen bytes at a time.
///
/// Validating text here, aligned and padded with zeros, takes a third of the instructions that it
/// takes in the receive buffer.
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
/// 125 and at most `max_recv_size` bytes. Its frame is [`SHORT_HEAD`] bytes longer than the
/// message.
///
/// `end` is the end of the received bytes; the contents of `buffer` after it are ignored.
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
    // The standard library checks single bytes at the end, but whole blocks word by word. Hence the
    // padding with zeros, which are characters: a character that is cut at `len` stays invalid.
    let last = pad.0.get_mut(whole)?;
    *last = (u128::from_ne_bytes(*last) & KEEP[part]).to_ne_bytes();
    let clear = pad.0.get(..=whole)?.as_flattened();
    let text = std::str::from_utf8(clear).ok()?;
    Some(Short::Text(text.get(..len)?))
}

/// Up to this many bytes are validated faster one by one than as another block.
const FEW: usize = 6;

/// The frame of a short message.
pub(super) struct Frame<'b> {
    pub(super) binary: bool,
    pub(super) len: usize,
    key: u32,
    masked: &'b [u8; BLOCKS * BLOCK],
}

impl<'b> Frame<'b> {
    /// Finds the frame of the message that [`take_short`] takes; `max` is at most 125.
    #[inline(always)]
    pub(super) fn at(buffer: &'b [u8], start: usize, end: usize, max: usize) -> Option<Self> {
        // This reads a whole window, so it returns `None` close to the end of the buffer.
        let window = buffer.get(start..)?.first_chunk::<WINDOW>()?;
        let [first, second, k0, k1, k2, k3, masked @ ..] = window;
        // The low byte is 0 for a text message, 1 for a binary one; the high byte is the length, or
        // at least 128 if the frame is not masked.
        let head = u16::from_le_bytes([*first, *second]).wrapping_sub(TEXT);
        let len = usize::from(head >> 8);
        if head & 0xfe != 0 || len > max || start + SHORT_HEAD + len > end {
            return None;
        }
        Some(Self {
            binary: head & 1 != 0,
            // The length is at most 125; the mask tells the compiler.
            len: len & 0x7f,
            key: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
            masked,
        })
    }

    /// Unmasks the payload to `clear`; the bytes after it in the last block are arbitrary.
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

/// Size of the header of a masked frame with a payload of at most 125 bytes, in bytes.
pub(crate) const SHORT_HEAD: usize = 6;

/// Size of the longest short frame, in whole blocks after its header.
const WINDOW: usize = SHORT_HEAD + BLOCKS * BLOCK;

/// Size of the blocks in which payloads are unmasked, in bytes.
pub(super) const BLOCK: usize = 16;

/// Masks that keep the message's bytes of the last block, indexed by its length modulo the block.
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
