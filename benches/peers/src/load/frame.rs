//! Frames of a client, and the replies of a server.

/// First byte of an unfragmented text frame.
pub(super) const TEXT: u8 = 0x81;
/// First byte of an unfragmented binary frame.
pub(super) const BINARY: u8 = 0x82;
/// First byte of a Close frame.
pub(super) const CLOSE: u8 = 0x88;
/// First byte of a Ping frame.
pub(super) const PING: u8 = 0x89;
/// First byte of a Pong frame.
pub(super) const PONG: u8 = 0x8a;
/// RSV1 of the first byte: the message is compressed.
pub(super) const COMPRESSED: u8 = 0x40;

/// Builds a masked frame, as a client sends it.
pub(super) fn client_frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), 0x80);
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// Builds an unmasked frame, as a server sends it.
pub(super) fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// Returns the header up to the length, in its shortest form.
fn header(first: u8, length: usize, masked: u8) -> Vec<u8> {
    let mut header = Vec::with_capacity(14 + length);
    header.push(first);
    if let Ok(length @ 0..=125) = u8::try_from(length) {
        header.push(masked | length);
    } else if let Ok(length) = u16::try_from(length) {
        header.push(masked | 126);
        header.extend_from_slice(&length.to_be_bytes());
    } else {
        header.push(masked | 127);
        header.extend_from_slice(&(length as u64).to_be_bytes());
    }
    header
}

/// The header of a server's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// FIN, RSV and opcode.
    pub(super) first: u8,
    /// The size of the header in bytes.
    pub(super) size: usize,
    /// The length of the payload in bytes.
    pub(super) length: usize,
}

impl Header {
    /// Parses a header; returns `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// Fails if the frame is masked, or if its length exceeds the address space.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
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
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= 1 << 30)
            .ok_or_else(|| format!("a frame of {length} bytes"))?;
        Ok(Some(Self {
            first,
            size,
            length,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_hello_of_the_rfc() {
        // RFC 6455, 5.7: "A single-frame masked text message".
        let frame = client_frame(TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        let expected = [
            0x81, // FIN, text
            0x85, // masked, 5 bytes
            0x37, 0xfa, 0x21, 0x3d, // masking key
            0x7f, 0x9f, 0x4d, 0x51, 0x58, // Hello
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn lengths_take_as_few_bytes_as_they_can() {
        for (length, size) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = server_frame(BINARY, &vec![7; length]);
            assert_eq!(frame.len(), size + length);
            let header = Header::parse(&frame).unwrap().unwrap();
            let expected = Header {
                first: BINARY,
                size,
                length,
            };
            assert_eq!(header, expected);
            for end in 0..size {
                assert_eq!(Header::parse(&frame[..end]), Ok(None));
            }
        }
    }

    #[test]
    fn a_server_must_not_mask() {
        assert!(Header::parse(&client_frame(TEXT, b"x", [1; 4])).is_err());
    }
}
