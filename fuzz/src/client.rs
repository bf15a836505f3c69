//! Simple code to build a client's frames from the input, and to read a server's.

use std::borrow::Cow;

use crate::client_frames::{self, Header};
use crate::input::Input;

/// Appends a frame built from choices: a first byte, a form, a length (2 bytes), and the content.
///
/// A few bytes of input thus describe frames of any size, whose headers are mostly valid.
pub(crate) fn chosen_frame(input: &mut Input<'_>, out: &mut Vec<u8>) {
    let (first, form) = (input.byte(), input.byte());
    let size = usize::from(input.short());
    let size = match form & 3 {
        0 | 1 => size % 126,
        2 => size % 0x400,
        // From 64 KiB on, the receiver reads the rest of a frame directly into the message buffer.
        _ if size % 8 == 0 => 0xf000 + size / 2,
        _ => size % 0x2000,
    };
    let payload = match form >> 2 & 3 {
        0 => input.bytes(size.min(0x400)).to_vec(),
        1 => "x\u{e9}\u{20ac}\u{1f980}".repeat(size / 10).into_bytes(),
        2 => vec![input.byte(); size],
        _ => "ascii and more \u{e9}".as_bytes()[..size.min(17)].to_vec(),
    };
    let key = match form >> 4 & 1 {
        0 => [0; 4],
        _ => [0x37, 0xfa, 0x21, 0x3d],
    };
    let start = out.len();
    client_frames::append(out, first, Some(key), &payload);
    match form >> 5 {
        // Makes the length or the mask invalid.
        5 => out[start + 1] ^= 0x80,
        6 => out[start + 1] |= 0x7e,
        7 => out.truncate(out.len() - payload.len() / 2),
        _ => {}
    }
}

/// Returns what a client sends: frames built from the choices in the rest of the input, or that rest
/// as it is.
pub(crate) fn client_bytes<'i>(input: &mut Input<'i>, is_chosen: bool) -> Cow<'i, [u8]> {
    if !is_chosen {
        return Cow::Borrowed(input.0);
    }
    let mut chosen = Vec::new();
    while !input.is_empty() && chosen.len() < 160 << 10 {
        chosen_frame(input, &mut chosen);
    }
    Cow::Owned(chosen)
}

/// A server's frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// Removes a complete frame of the server from the front of `bytes`. The frame must be well-formed.
pub(crate) fn take_frame(bytes: &mut Vec<u8>) -> Option<Frame> {
    let first = *bytes.first()?;
    assert!(
        matches!(first & 0xf, 0..=2 | 8..=10) && first & 0x30 == 0,
        "first byte {first:#x}"
    );
    let header = Header::parse(bytes, 1 << 40).expect("a server's header")?;
    let (len, head) = (header.length, header.size);
    if first & 8 != 0 {
        assert!(first & 0xf0 == 0x80 && len <= 125, "a bad control frame");
    }
    let payload = bytes.get(head..head + len)?.to_vec();
    bytes.drain(..head + len);
    Some(Frame { first, payload })
}
