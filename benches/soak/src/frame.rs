//! Frames (RFC 6455, 5.2), as a client sends and receives them.

/// A bit of the first byte: this frame is the last one of its message.
pub(crate) const FIN: u8 = 0x80;
/// A bit of the first byte: a compressed message starts (RFC 7692, 6).
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// Appends a masked frame.
pub(crate) fn write(out: &mut Vec<u8>, first: u8, payload: &[u8], key: [u8; 4]) {
    out.push(first);
    match payload.len() {
        length @ ..126 => out.push(0x80 | length as u8),
        length @ ..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    for chunk in out[start..].chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

/// The header of a server's frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// FIN, the reserved bits, and the opcode.
    pub(crate) first: u8,
    /// The size of the header in bytes.
    pub(crate) size: usize,
    /// The length of the payload in bytes.
    pub(crate) length: usize,
}

impl Header {
    /// Parses a header; returns `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// Fails if the frame is masked, or larger than any frame of a run.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let (size, length) = match second {
            0..=125 => (2, u64::from(second)),
            126 => match rest.first_chunk::<2>() {
                Some(&length) => (4, u64::from(u16::from_be_bytes(length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(&length) => (10, u64::from_be_bytes(length)),
                None => return Ok(None),
            },
            _ => return Err("a frame of the server is masked".into()),
        };
        let length = usize::try_from(length).ok();
        let length = length.filter(|&length| length <= LENGTH_MAX);
        let length = length.ok_or("a frame of a length that is never sent")?;
        Ok(Some(Self {
            first,
            size,
            length,
        }))
    }

    pub(crate) fn is_last(&self) -> bool {
        self.first & FIN != 0
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.first & RSV1 != 0
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }
}

const LENGTH_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_hello_of_the_rfc() {
        // RFC 6455, 5.7: "A single-frame masked text message".
        let mut frame = Vec::new();
        write(&mut frame, FIN | TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        let expected = [
            0x81, // FIN, text
            0x85, // masked, 5 bytes
            0x37, 0xfa, 0x21, 0x3d, // masking key
            0x7f, 0x9f, 0x4d, 0x51, 0x58, // Hello
        ];
        assert_eq!(frame, expected);
        assert!(Header::parse(&frame).is_err());
    }

    #[test]
    fn headers_are_read_when_they_are_whole() {
        for (bytes, length) in [
            (&[0x82, 125][..], 125),
            (&[0x82, 126, 1, 0], 256),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
        ] {
            let header = Header::parse(bytes).unwrap().unwrap();
            assert_eq!((header.size, header.length), (bytes.len(), length));
            assert!(header.is_last() && !header.is_compressed());
            for end in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..end]), Ok(None));
            }
        }
        let endless = [0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0];
        assert!(Header::parse(&endless).is_err());
    }
}
