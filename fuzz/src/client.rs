//! Simple code to write a client's frames and to read a server's.

use crate::input::Input;

/// Appends a client's frame.
pub(crate) fn frame(first: u8, key: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    masked(key, payload, out);
}

fn masked(key: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    if key == [0; 4] {
        return out.extend_from_slice(payload);
    }
    out.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

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
    frame(first, key, &payload, out);
    match form >> 5 {
        // Makes the length or the mask invalid.
        5 => out[start + 1] ^= 0x80,
        6 => out[start + 1] |= 0x7e,
        7 => out.truncate(out.len() - payload.len() / 2),
        _ => {}
    }
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
    let second = *bytes.get(1)?;
    let (len, head) = match second {
        len @ 0..126 => (usize::from(len), 2),
        126 => {
            let len = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
            assert!(len >= 126, "the length is not minimal");
            (usize::from(len), 4)
        }
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            assert!(
                len >= 0x1_0000 && len >> 63 == 0,
                "the length is not minimal"
            );
            (len as usize, 10)
        }
        _ => panic!("a masked frame"),
    };
    if first & 8 != 0 {
        assert!(first & 0xf0 == 0x80 && len <= 125, "a bad control frame");
    }
    let payload = bytes.get(head..head + len)?.to_vec();
    bytes.drain(..head + len);
    Some(Frame { first, payload })
}
