//! Whole messages that are unmasked in place.

use super::TEXT;
use super::short::{SHORT_HEAD, Short};
use crate::protocol::{OpCode, mask};

/// Takes the message that `input` begins with, if it is a whole, unfragmented text or binary
/// message of 126 to 65,535 and at most `max_recv_size` bytes; unmasks it in place. Its frame is
/// [`MEDIUM_HEAD`] bytes longer than the message. `Some(None)` is text that is not UTF-8.
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
/// message of at most `max_recv_size` bytes; unmasks it in place. Text is not validated.
///
/// A message of fewer than two bytes at the very end of `input` is not taken.
#[inline(always)]
pub(crate) fn take_whole<'b>(
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
        0x80..=0xfd => (SHORT_HEAD, usize::from(second & 0x7f), 0),
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

/// Size of the header of a masked frame with a payload of 126 to 65,535 bytes, in bytes.
pub(crate) const MEDIUM_HEAD: usize = 8;

/// Size of the header of a masked frame with a longer payload, in bytes.
const LARGE_HEAD: usize = 14;

/// The second byte for a two-byte length, in the same position as in `TEXT`.
const MEDIUM: u16 = 126 << 8;
