//! The usual message: not large, in one frame, whole in the buffer.
//!
//! [`take`] and [`take_medium`] know nothing else. Whatever is longer, cut, fragmented, a control frame or wrong is
//! left where it is, for the [`Decoder`](super::receiver::Decoder), which knows everything and
//! finds the same messages in the same bytes.

use super::{OpCode, mask};

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
#[inline(always)]
pub(crate) fn take<'p>(
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
struct Frame<'b> {
    binary: bool,
    len: usize,
    key: u32,
    masked: &'b [u8; BLOCKS * BLOCK],
}

impl<'b> Frame<'b> {
    /// Finds what [`take`] takes; `max` is 125 at most.
    #[inline(always)]
    fn at(buffer: &'b [u8], start: usize, end: usize, max: usize) -> Option<Self> {
        // At the very end of the buffer there may be less behind it than is read here.
        let window = buffer.get(start..)?.first_chunk::<WINDOW>()?;
        let [first, second, k0, k1, k2, k3, masked @ ..] = window;
        // The low byte is 0 for a text message, 1 for a binary one; the high byte is its length,
        // which is 128 or more if the frame is not masked.
        let head = u16::from_le_bytes([*first, *second]).wrapping_sub(TEXT);
        let len = usize::from(head >> 8);
        if head & 0xfe != 0 || len > max || start + HEAD + len > end {
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
    fn unmask(&self, clear: &mut [[u8; BLOCK]; BLOCKS]) {
        let (masked, _) = self.masked.as_chunks::<BLOCK>();
        for at in 0..self.len.div_ceil(BLOCK) {
            clear[at] = xor(&masked[at], self.key);
        }
    }
}

/// Short messages of one kind that follow each other, unmasked one behind the other: their text is
/// validated in one pass, and is split where characters end or not at all.
#[derive(Debug)]
pub(crate) struct Batch {
    clear: Box<[[u8; BLOCK]]>,
    lens: [u8; BATCH],
}

/// Most messages in a batch.
const BATCH: usize = 32;

impl Default for Batch {
    fn default() -> Self {
        Self {
            clear: vec![[0; BLOCK]; BATCH * BLOCKS].into(),
            lens: [0; BATCH],
        }
    }
}

/// The messages of a [`Batch`], without anything between them, and their lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shorts<'p> {
    Binary(&'p [u8], &'p [u8]),
    Text(&'p str, &'p [u8]),
}

impl Batch {
    /// Unmasks the messages at `start` that [`take`] would take, up to the first of another kind
    /// than the first one and no more than `most`. `None` if there is none, or if together they
    /// are not UTF-8.
    #[inline(always)]
    pub(crate) fn fill(
        &mut self,
        buffer: &[u8],
        mut start: usize,
        end: usize,
        max_recv_size: usize,
        most: usize,
    ) -> Option<Shorts<'_>> {
        let max = max_recv_size.min(125);
        let clear = self.clear.as_flattened_mut();
        let (mut count, mut used, mut binary) = (0, 0, false);
        while count < most.min(BATCH)
            && let Some(frame) = Frame::at(buffer, start, end, max)
            && (count == 0 || frame.binary == binary)
            && let Some(room) = clear.get_mut(used..)
            && let Some(room) = room.as_chunks_mut::<BLOCK>().0.first_chunk_mut()
        {
            // What the last block has too much is overwritten by the next message.
            frame.unmask(room);
            binary = frame.binary;
            self.lens[count] = frame.len as u8; // at most 125
            count += 1;
            used += frame.len;
            start += HEAD + frame.len;
        }
        let (clear, lens) = (clear.get(..used)?, self.lens.get(..count)?);
        match binary {
            _ if count == 0 => None,
            true => Some(Shorts::Binary(clear, lens)),
            false => Some(Shorts::Text(simdutf8::basic::from_utf8(clear).ok()?, lens)),
        }
    }
}

/// Takes the message that `input` begins with, if it is a whole, unfragmented text or binary
/// message of 126 to 65,535 bytes, and no more than `max_recv_size`; unmasks it in place. Its frame
/// is [`MEDIUM_HEAD`] bytes longer than itself. `None` within is text that is not UTF-8.
#[inline(always)]
pub(crate) fn take_medium(input: &mut [u8], max_recv_size: usize) -> Option<Option<Short<'_>>> {
    let (head, rest) = input.split_first_chunk_mut::<MEDIUM_HEAD>()?;
    let [first, second, l0, l1, key @ ..] = *head;
    let kind = u16::from_le_bytes([first, second]).wrapping_sub(TEXT | MEDIUM);
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if kind > 1 || len < 126 || len > max_recv_size {
        return None;
    }
    let payload = rest.get_mut(..len)?;
    mask::apply(payload, key, 0);
    Some(if kind == 1 {
        Some(Short::Binary(payload))
    } else {
        simdutf8::basic::from_utf8(payload).ok().map(Short::Text)
    })
}

/// Takes the message that `input` begins with, if it is a whole, unfragmented text or binary
/// message of no more than `max_recv_size` bytes; unmasks it in place. Text is not validated.
///
/// A message of a byte or two at the very end of `input` is not taken.
#[inline(always)]
pub(super) fn take_whole<'b>(
    input: &mut &'b mut [u8],
    max_recv_size: usize,
) -> Option<(OpCode, &'b mut [u8])> {
    let [first, second, l0, l1, ..] = *input.first_chunk::<MEDIUM_HEAD>()?;
    let opcode = match first {
        0x81 => OpCode::Text,
        0x82 => OpCode::Binary,
        _ => return None,
    };
    let (head, len, least) = match second {
        0x80..=0xfd => (HEAD, usize::from(second & 0x7f), 0),
        0xfe => (MEDIUM_HEAD, usize::from(u16::from_be_bytes([l0, l1])), 126),
        0xff => {
            let len = u64::from_be_bytes(*input[2..].first_chunk()?);
            (LARGE_HEAD, usize::try_from(len).ok()?, 1 << 16)
        }
        _ => return None,
    };
    let most = input.len().checked_sub(head)?.min(max_recv_size);
    if len < least || len > most {
        return None;
    }
    let (frame, rest) = std::mem::take(input).split_at_mut(head + len);
    *input = rest;
    let (head, payload) = frame.split_at_mut(head);
    mask::apply(payload, *head.last_chunk()?, 0);
    Some((opcode, payload))
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
pub(crate) const HEAD: usize = 6;

/// The header of a masked frame of 126 to 65,535 bytes, in bytes.
pub(crate) const MEDIUM_HEAD: usize = 8;

/// The header of a masked frame of more bytes than that, in bytes.
const LARGE_HEAD: usize = 14;

/// The second byte's sign for a length of two bytes, as `TEXT` has it.
const MEDIUM: u16 = 126 << 8;

/// The longest short frame, in whole blocks.
const WINDOW: usize = HEAD + BLOCKS * BLOCK;

/// The first two bytes of a masked text message in one frame, of length 0.
const TEXT: u16 = 0x8081;
const BLOCK: usize = 16;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::protocol::{Header, Message, Receiver};
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

    #[test]
    fn only_the_usual_is_taken() {
        let mut pad = Pad::default();
        let mut taken = |bytes: &[u8], end: usize, max: usize| {
            take(bytes, 0, end, max, &mut pad).map(|short| HEAD + short.len())
        };
        let hello = frame(true, OpCode::Text, b"Hello", &[0xee; 180]);
        assert_eq!(taken(&hello, 11, 5), Some(11));
        assert_eq!(taken(&hello, hello.len(), 5), Some(11));
        assert_eq!(taken(&hello, 10, 5), None, "cut");
        assert_eq!(taken(&hello, 11, 4), None, "above the limit");
        assert_eq!(taken(&hello[..11], 11, 5), None, "no block to read");
        assert_eq!(taken(&[], 0, 5), None);
        let unmasked = [&[0x81, 0x05], &[b'x'; 180][..]].concat();
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
            let bytes = frame(fin, opcode, b"Hello", &[0; 180]);
            assert_eq!(taken(&bytes, 11, 99), None, "{fin} {opcode:?}");
        }
        let reserved = [&[0xc1, 0x85], &[0; 180][..]].concat();
        assert_eq!(taken(&reserved, 60, 99), None);
        let long = frame(true, OpCode::Binary, &[7; 126], &[0; 180]);
        assert_eq!(taken(&long, long.len(), 999), None);
    }

    #[test]
    fn whole_messages_of_any_size_are_taken() {
        for opcode in [OpCode::Text, OpCode::Binary] {
            for len in [2, 125, 126, 65_535, 65_536, 70_000] {
                let payload = vec![b'x'; len];
                let mut bytes = frame(true, opcode, &payload, b"behind");
                let end = bytes.len() - 6;
                assert_eq!(take_whole(&mut &mut bytes[..end - 1], len), None, "cut");
                assert_eq!(
                    take_whole(&mut &mut bytes[..], len - 1),
                    None,
                    "above the limit"
                );
                let mut input = &mut bytes[..];
                let taken = take_whole(&mut input, len);
                assert!(taken == Some((opcode, &mut payload.clone()[..])), "{len}");
                assert_eq!(input, b"behind");
            }
        }
        let others: [&[u8]; 9] = [
            b"",
            b"\x81\x02keyhi",
            b"\x81\x82key",
            b"\x01\x82keys__",
            b"\x80\x82keys__",
            b"\x89\x82keys__",
            b"\xc1\x82keys__",
            b"\x81\xfe\x00\x02keys__",
            b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x02keys__",
        ];
        for other in others {
            let mut bytes = other.to_vec();
            let mut input = &mut bytes[..];
            assert_eq!(take_whole(&mut input, 99), None, "{other:x?}");
            assert_eq!(input, other, "nothing is taken");
        }
        let mut endless = *b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffkeys__";
        assert_eq!(take_whole(&mut &mut endless[..], usize::MAX), None);
    }

    #[test]
    fn text_must_be_utf8_to_its_last_byte() {
        let mut pad = Pad::default();
        // Bytes behind the message that would complete the character do not.
        for text in [&b"\xe2\x82"[..], b"aaaaaaaaaaaaaaa\xc3", b"\xff", b"ab\x80"] {
            let bytes = frame(true, OpCode::Text, text, &[0xac; 180]);
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
            bytes.extend_from_slice(&[0xdd; 180]);
            let short = take(&bytes, 0, room, 4096, &mut pad);
            let mut receiver = Receiver::new(&Limits::default());
            let mut clear = bytes.clone();
            let mut input = &mut clear[..room];
            let whole = receiver.next(&mut input);
            match short {
                Some(short) => {
                    prop_assert_eq!(HEAD + short.len(), room - input.len());
                    let message = match short {
                        Short::Binary(bytes) => Message::Binary(bytes),
                        Short::Text(text) => Message::Text(text),
                    };
                    prop_assert_eq!(Ok(Some(message)), whole);
                }
                None => prop_assert!(payload.len() > 125 || whole.is_err()),
            }
        }

        /// What is taken together is what is taken one by one.
        #[test]
        fn a_batch_is_its_messages(
            payloads in prop::collection::vec(
                prop_oneof![
                    3 => any::<String>().prop_map(|text| (false, text.into_bytes())),
                    1 => prop::collection::vec(any::<u8>(), 0..130).prop_map(|bytes| (true, bytes)),
                    1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| (false, bytes)),
                ],
                0..80,
            ),
        ) {
            let frames = payloads.iter().map(|(binary, payload)| {
                let opcode = if *binary { OpCode::Binary } else { OpCode::Text };
                frame(true, opcode, payload, &[])
            });
            let mut bytes = frames.collect::<Vec<_>>().concat();
            let end = bytes.len();
            bytes.extend_from_slice(&[0xdd; 180]);
            let (mut batch, mut pad) = (Batch::default(), Pad::default());
            let mut at = 0;
            while at < end {
                let first = take(&bytes, at, end, 4096, &mut pad).map(|short| short.len());
                match batch.fill(&bytes, at, end, 4096, 20) {
                    Some(Shorts::Binary(all, lens)) => {
                        prop_assert!(!lens.is_empty() && lens.len() <= 20);
                        let mut rest = all;
                        for len in lens {
                            let (payload, next) = rest.split_at(usize::from(*len));
                            let short = take(&bytes, at, end, 4096, &mut pad);
                            prop_assert_eq!(short, Some(Short::Binary(payload)));
                            rest = next;
                            at += HEAD + payload.len();
                        }
                        prop_assert!(rest.is_empty());
                    }
                    Some(Shorts::Text(all, lens)) => {
                        prop_assert!(!lens.is_empty() && lens.len() <= 20);
                        let mut rest = all;
                        for len in lens {
                            let short = take(&bytes, at, end, 4096, &mut pad);
                            let Some((payload, next)) = rest.split_at_checked(usize::from(*len))
                            else {
                                prop_assert!(short.is_none(), "no text by itself");
                                return Ok(());
                            };
                            prop_assert_eq!(short, Some(Short::Text(payload)));
                            rest = next;
                            at += HEAD + payload.len();
                        }
                        prop_assert!(rest.is_empty());
                    }
                    // Something in it is wrong, which the decoder tells; or the first is longer.
                    None => match first {
                        Some(len) => at += HEAD + len,
                        None => return Ok(()),
                    },
                }
            }
        }
    }
}
