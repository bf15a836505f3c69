//! The usual message: short, in one frame, whole in the buffer.
//!
//! [`take`] knows nothing else. Whatever is longer, cut, fragmented, a control frame or wrong is
//! left where it is, for the [`Decoder`](super::receiver::Decoder), which knows everything and
//! finds the same messages in the same bytes.

/// A short message, unmasked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Short<'p> {
    Binary(&'p [u8]),
    Text(&'p str),
}

/// Where short payloads are unmasked to, sixteen bytes at a time.
///
/// At its aligned start, padded with zeros, text is validated in a third of the instructions that
/// it costs in place.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct Pad([[u8; BLOCK]; BLOCKS]);

/// Room for the 125 bytes of the longest short message, in blocks.
const BLOCKS: usize = 8;

impl Default for Pad {
    fn default() -> Self {
        Self([[0; BLOCK]; BLOCKS])
    }
}

/// Takes the message at `start`, if it is a whole, unfragmented text or binary message of at most
/// 125 bytes, and no more than `max_recv_size`. Its frame is [`HEAD`] bytes longer than itself.
///
/// `end` is the end of what was received; the bytes of `buffer` behind it are of no meaning.
#[inline]
pub(crate) fn take<'p>(
    buffer: &[u8],
    start: usize,
    end: usize,
    max_recv_size: usize,
    pad: &'p mut Pad,
) -> Option<Short<'p>> {
    // At the very end of the buffer there may be less behind it than is read here.
    let window = buffer.get(start..)?.first_chunk::<WINDOW>()?;
    let [first, second, k0, k1, k2, k3, masked @ ..] = window;
    // Unmasked, or longer, it is 126 or more.
    let len = usize::from(second ^ MASKED);
    let text = *first == FIN_TEXT;
    if !(text || *first == FIN_BINARY) || len > max_recv_size.min(125) || HEAD + len > end - start {
        return None;
    }
    let key = u32::from_ne_bytes([*k0, *k1, *k2, *k3]);
    let blocks = len.div_ceil(BLOCK);
    let pairs = masked.as_chunks::<BLOCK>().0.iter();
    for (masked, clear) in pairs.zip(&mut pad.0).take(blocks) {
        *clear = xor(masked, key);
    }
    if !text {
        return Some(Short::Binary(pad.0.as_flattened().get(..len)?));
    }
    if let Some(last) = blocks.checked_sub(1).and_then(|last| pad.0.get_mut(last)) {
        *last = and(last, &KEEP[len % BLOCK]);
    }
    // A zero is a character, so one that is cut at `len` is as wrong as it is without.
    let text = std::str::from_utf8(pad.0.get(..blocks)?.as_flattened()).ok()?;
    Some(Short::Text(text.get(..len)?))
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

/// Keeps a part of a block.
#[inline(always)]
fn and(block: &[u8; BLOCK], keep: &[u8; BLOCK]) -> [u8; BLOCK] {
    std::array::from_fn(|at| block[at] & keep[at])
}

/// The header of a masked frame of at most 125 bytes, in bytes.
pub(crate) const HEAD: usize = 6;

/// The longest short frame, in whole blocks.
const WINDOW: usize = HEAD + BLOCKS * BLOCK;

const MASKED: u8 = 0x80;
const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;
const BLOCK: usize = 16;

/// Which bytes of the last block belong to the message, by its length's remainder.
const KEEP: [[u8; BLOCK]; BLOCK] = {
    let mut keep = [[0; BLOCK]; BLOCK];
    keep[0] = [0xff; BLOCK];
    let mut len = 1;
    while len < BLOCK {
        let mut at = 0;
        while at < len {
            keep[len][at] = 0xff;
            at += 1;
        }
        len += 1;
    }
    keep
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::protocol::{Header, Message, OpCode, Receiver, mask};
    use proptest::prelude::*;

    /// A client's frame, with more bytes behind it.
    fn frame(fin: bool, opcode: OpCode, payload: &[u8], behind: &[u8]) -> Vec<u8> {
        let key = [0x12, 0x34, 0x56, 0x78];
        let mut bytes = Vec::new();
        let header = Header {
            fin,
            rsv: 0,
            opcode,
            mask: Some(key),
            len: payload.len() as u64,
        };
        header.encode(&mut bytes);
        let start = bytes.len();
        bytes.extend_from_slice(payload);
        mask::apply(&mut bytes[start..], key, 0);
        bytes.extend_from_slice(behind);
        bytes
    }

    fn size_of_frame(short: Short<'_>) -> usize {
        match short {
            Short::Binary(bytes) => HEAD + bytes.len(),
            Short::Text(text) => HEAD + text.len(),
        }
    }

    #[test]
    fn only_the_usual_is_taken() {
        let mut pad = Pad::default();
        let mut taken = |bytes: &[u8], end: usize, max: usize| {
            take(bytes, 0, end, max, &mut pad).map(|short| size_of_frame(short))
        };
        let hello = frame(true, OpCode::Text, b"Hello", &[0xee; 150]);
        assert_eq!(taken(&hello, 11, 5), Some(11));
        assert_eq!(taken(&hello, hello.len(), 5), Some(11));
        assert_eq!(taken(&hello, 10, 5), None, "cut");
        assert_eq!(taken(&hello, 11, 4), None, "above the limit");
        assert_eq!(taken(&hello[..11], 11, 5), None, "no block to read");
        assert_eq!(taken(&[], 0, 5), None);
        let unmasked = [&[0x81, 0x05], &[b'x'; 150][..]].concat();
        assert_eq!(taken(&unmasked, 60, 99), None);
        let cases = [
            (true, OpCode::Continuation),
            (true, OpCode::Ping),
            (true, OpCode::Pong),
            (true, OpCode::Close),
            (false, OpCode::Text),
            (false, OpCode::Binary),
        ];
        for (fin, opcode) in cases {
            let bytes = frame(fin, opcode, b"Hello", &[0; 150]);
            assert_eq!(taken(&bytes, 11, 99), None, "{fin} {opcode:?}");
        }
        let reserved = [&[0xc1, 0x85], &[0; 150][..]].concat();
        assert_eq!(taken(&reserved, 60, 99), None);
        let long = frame(true, OpCode::Binary, &[7; 126], &[0; 150]);
        assert_eq!(taken(&long, long.len(), 999), None);
    }

    #[test]
    fn text_must_be_utf8_to_its_last_byte() {
        let mut pad = Pad::default();
        // Bytes behind the message that would complete the character do not.
        for text in [&b"\xe2\x82"[..], b"aaaaaaaaaaaaaaa\xc3", b"\xff", b"ab\x80"] {
            let bytes = frame(true, OpCode::Text, text, &[0xac; 150]);
            assert!(take(&bytes, 0, bytes.len(), 99, &mut pad).is_none());
        }
    }

    proptest! {
        /// What is taken here is what the decoder finds in the same bytes.
        #[test]
        fn the_decoder_finds_the_same(
            payload in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..130),
            ],
            text: bool,
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let opcode = if text { OpCode::Text } else { OpCode::Binary };
            let mut bytes = frame(true, opcode, &payload, &behind);
            let mut pad = Pad::default();
            let room = bytes.len();
            bytes.extend_from_slice(&[0xdd; 150]);
            let short = take(&bytes, 0, room, 4096, &mut pad);
            let mut receiver = Receiver::new(&Limits::default());
            let mut clear = bytes.clone();
            let mut input = &mut clear[..room];
            let whole = receiver.next(&mut input);
            match short {
                Some(short) => {
                    prop_assert_eq!(size_of_frame(short), room - input.len());
                    let message = match short {
                        Short::Binary(bytes) => Message::Binary(bytes),
                        Short::Text(text) => Message::Text(text),
                    };
                    prop_assert_eq!(Ok(Some(message)), whole);
                }
                None => prop_assert!(payload.len() > 125 || whole.is_err()),
            }
        }
    }
}
