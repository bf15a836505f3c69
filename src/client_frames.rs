//! Frames as a client writes and reads them (RFC 6455, 5.2), for the tests, the fuzz targets and
//! the benches, which include this file by its path.
//!
//! It uses nothing of the library, so it cannot repeat a mistake of the library's encoder. A frame
//! may be wrong on purpose: any first byte, any form of the length, any length, no mask.

#![allow(dead_code, reason = "each program uses a part of it")]

/// The masking key of [`frame`], and of the example in RFC 6455, 5.7.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How a header states the length of its payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// In the 7 bits of the second byte. Larger lengths lose their upper bits.
    Short,
    /// In 16 bits behind it.
    Medium,
    /// In 64 bits behind it.
    Long,
}

impl Form {
    /// Returns the shortest form of a length, the only one that is allowed.
    pub(crate) fn of(len: u64) -> Self {
        match len {
            0..=125 => Self::Short,
            126..=0xffff => Self::Medium,
            _ => Self::Long,
        }
    }
}

/// Appends a header. `first` is FIN, the reserved bits and the opcode; without a key the frame is
/// not masked.
pub(crate) fn append_header(
    out: &mut Vec<u8>,
    first: u8,
    form: Form,
    len: u64,
    key: Option<[u8; 4]>,
) {
    let masked = if key.is_some() { 0x80 } else { 0 };
    out.push(first);
    match form {
        Form::Short => out.push(masked | (len as u8 & 0x7f)),
        Form::Medium => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        Form::Long => {
            out.push(masked | 127);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(key.as_ref().map_or(&[], |key| &key[..]));
}

/// Returns the header of a masked frame of `len` bytes, without its payload.
pub(crate) fn header(first: u8, len: u64) -> Vec<u8> {
    let mut out = Vec::new();
    append_header(&mut out, first, Form::of(len), len, Some(KEY));
    out
}

/// Appends a frame. Without a key it is not masked, as one of a server.
pub(crate) fn append(out: &mut Vec<u8>, first: u8, key: Option<[u8; 4]>, payload: &[u8]) {
    let len = payload.len() as u64;
    append_header(out, first, Form::of(len), len, key);
    let start = out.len();
    out.extend_from_slice(payload);
    for four in out[start..].chunks_mut(4) {
        for (byte, key) in four.iter_mut().zip(key.unwrap_or_default()) {
            *byte ^= key;
        }
    }
}

/// Returns a masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(14 + payload.len());
    append(&mut out, first, Some(KEY), payload);
    out
}

/// Returns a frame without a mask, as a server sends it.
pub(crate) fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + payload.len());
    append(&mut out, first, None, payload);
    out
}

/// The header of a server's frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// FIN, the reserved bits and the opcode.
    pub(crate) first: u8,
    /// The size of the header in bytes.
    pub(crate) size: usize,
    /// The size of the payload in bytes.
    pub(crate) length: usize,
}

impl Header {
    /// Parses a header; `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// If the frame is masked, its length is not in the shortest form, or its payload has more than
    /// `most` bytes.
    pub(crate) fn parse(bytes: &[u8], most: usize) -> Result<Option<Self>, String> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let (form, size, length) = match second {
            0..=125 => (Form::Short, 2, u64::from(second)),
            126 => match rest.first_chunk() {
                Some(length) => (Form::Medium, 4, u16::from_be_bytes(*length).into()),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (Form::Long, 10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            _ => return Err("a frame of the server is masked".into()),
        };
        if form != Form::of(length) {
            return Err(format!("a length of {length} is not in its shortest form"));
        }
        match usize::try_from(length) {
            Ok(length) if length <= most => Ok(Some(Self {
                first,
                size,
                length,
            })),
            _ => Err(format!("a frame of {length} bytes")),
        }
    }

    pub(crate) fn is_last(&self) -> bool {
        self.first & 0x80 != 0
    }

    /// Returns whether a compressed message begins (RFC 7692, 6).
    pub(crate) fn is_compressed(&self) -> bool {
        self.first & 0x40 != 0
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }
}
