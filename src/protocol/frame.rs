//! Frame headers (RFC 6455, 5.2): decoding those of clients, encoding those of either side.

use crate::error::ProtocolError;

/// The opcode of a frame (RFC 6455, 11.8).
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 6455 defines these six; others are refused"
)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpCode {
    /// A fragment of a message, after the first.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The closing handshake.
    Close,
    /// A request for a Pong.
    Ping,
    /// The answer to a Ping, or an unsolicited heartbeat.
    Pong,
}

impl OpCode {
    /// Returns whether the opcode is that of a control frame (RFC 6455, 5.5).
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// Returns the opcode's four bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }
}

/// A frame's header.
#[expect(clippy::exhaustive_structs, reason = "the fields are RFC 6455's")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// RSV1, RSV2 and RSV3, from the highest of the three bits to the lowest.
    pub rsv: u8,
    /// What the payload contains.
    pub opcode: OpCode,
    /// The masking key of a client's frame.
    pub mask: Option<[u8; 4]>,
    /// The payload's length, in bytes.
    pub len: u64,
}

impl Header {
    /// Longest header of a client's frame, in bytes.
    pub const MAX_SIZE: usize = 14;

    /// Parses a client's frame header; returns it and its size.
    ///
    /// `Ok(None)` means that `input` ends inside the header. The bytes are checked in the order of
    /// the wire, so a bad header is refused at its first wrong byte. `extension_rsv` holds the
    /// reserved bits that a negotiated extension allows.
    ///
    /// # Errors
    ///
    /// Returns an error for everything that RFC 6455, 5.2 and 5.5 forbid in a single header:
    /// reserved bits and opcodes, fragmented or long control frames, an unmasked payload, and a
    /// length that is not minimal or has its top bit set.
    pub fn parse(input: &[u8], extension_rsv: u8) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        let fin = first & 0x80 != 0;
        let rsv = first >> 4 & 0b111;
        // RFC 6455, 5.2: "If a nonzero value is received and none of the negotiated extensions
        // defines the meaning of such a nonzero value, the receiving endpoint MUST _Fail the
        // WebSocket Connection_."
        if rsv & !extension_rsv != 0 {
            return Err(ProtocolError::ReservedBits(rsv));
        }
        let bits = first & 0xf;
        let Some(opcode) = OpCode::from_bits(bits) else {
            return Err(ProtocolError::ReservedOpCode(bits));
        };
        // RFC 6455, 5.5: "All control frames MUST have a payload length of 125 bytes or less and
        // MUST NOT be fragmented." No extension marks them either.
        let control = opcode.is_control();
        if control && !fin {
            return Err(ProtocolError::ControlFragmented);
        }
        if control && rsv != 0 {
            return Err(ProtocolError::ReservedBits(rsv));
        }
        let Some(&second) = input.get(1) else {
            return Ok(None);
        };
        // RFC 6455, 5.1: "The server MUST close the connection upon receiving a frame that is
        // not masked."
        if second & 0x80 == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let short = second & 0x7f;
        if control && short > 125 {
            return Err(ProtocolError::ControlTooLong);
        }
        // RFC 6455, 5.2: "the minimal number of bytes MUST be used to encode the length"
        let (len, at) = match short {
            126 => {
                let Some(bytes) = array::<2>(input, 2) else {
                    return Ok(None);
                };
                let len = u16::from_be_bytes(bytes);
                if len < 126 {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (u64::from(len), 4)
            }
            127 => {
                // "the most significant bit MUST be 0"
                if input.get(2).is_some_and(|&top| top & 0x80 != 0) {
                    return Err(ProtocolError::LengthTopBit);
                }
                let Some(bytes) = array::<8>(input, 2) else {
                    return Ok(None);
                };
                let len = u64::from_be_bytes(bytes);
                if len <= u64::from(u16::MAX) {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (len, 10)
            }
            short => (u64::from(short), 2),
        };
        let Some(key) = array::<4>(input, at) else {
            return Ok(None);
        };
        let header = Self {
            fin,
            rsv,
            opcode,
            mask: Some(key),
            len,
        };
        Ok(Some((header, at + 4)))
    }

    /// Appends the header's bytes to `out`.
    ///
    /// A server's frames have no mask; with a mask, this encodes a client's frame for a test.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.fin) << 7 | (self.rsv & 0b111) << 4 | self.opcode.bits());
        let masked = u8::from(self.mask.is_some()) << 7;
        match (u8::try_from(self.len), u16::try_from(self.len)) {
            (Ok(len @ 0..=125), _) => out.push(masked | len),
            (_, Ok(len)) => {
                out.push(masked | 126);
                out.extend_from_slice(&len.to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&self.len.to_be_bytes());
            }
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[][..], |key| key));
    }
}

/// Returns the `N` bytes at `at`, if `input` holds them.
fn array<const N: usize>(input: &[u8], at: usize) -> Option<[u8; N]> {
    input.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_frames;
    use crate::protocol::mask;

    fn error(bytes: &[u8]) -> ProtocolError {
        Header::parse(bytes, 0).expect_err("the header is wrong")
    }

    #[test]
    fn every_length_encoding_round_trips() {
        let lens = [
            0,
            1,
            125,
            126,
            127,
            0xfffe,
            0xffff,
            0x1_0000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x1_0000_0000,
            (1 << 62) + 1,
            i64::MAX as u64,
        ];
        for len in lens {
            let header = Header {
                fin: true,
                rsv: 0,
                opcode: OpCode::Binary,
                mask: Some([1, 2, 3, 4]),
                len,
            };
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            assert_eq!(
                Header::parse(&bytes, 0),
                Ok(Some((header, bytes.len()))),
                "{len}"
            );
            for cut in 0..bytes.len() {
                assert_eq!(
                    Header::parse(&bytes[..cut], 0),
                    Ok(None),
                    "{len} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn the_top_bit_is_refused_at_its_byte() {
        assert_eq!(error(b"\x82\xff\x80"), ProtocolError::LengthTopBit);
        assert_eq!(
            error(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            ProtocolError::LengthTopBit
        );
    }

    #[test]
    fn lengths_must_be_minimal() {
        assert_eq!(error(b"\x82\xfe\x00\x7d"), ProtocolError::LengthNotMinimal);
        assert_eq!(
            error(b"\x82\xff\0\0\0\0\0\0\xff\xff"),
            ProtocolError::LengthNotMinimal
        );
        assert_eq!(
            error(b"\x82\xff\0\0\0\0\0\0\0\0"),
            ProtocolError::LengthNotMinimal
        );
    }

    #[test]
    fn the_first_wrong_byte_is_enough() {
        assert_eq!(error(b"\xc1"), ProtocolError::ReservedBits(0b100));
        assert_eq!(error(b"\xa1"), ProtocolError::ReservedBits(0b010));
        assert_eq!(error(b"\x91"), ProtocolError::ReservedBits(0b001));
        for bits in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(error(&[0x80 | bits]), ProtocolError::ReservedOpCode(bits));
        }
        assert_eq!(error(b"\x08"), ProtocolError::ControlFragmented);
        assert_eq!(error(b"\x09"), ProtocolError::ControlFragmented);
        assert_eq!(error(b"\x89\xfe"), ProtocolError::ControlTooLong);
        assert_eq!(error(b"\x81\x05"), ProtocolError::Unmasked);
        assert_eq!(error(b"\x81\x00"), ProtocolError::Unmasked);
    }

    #[test]
    fn extensions_allow_their_bit_on_data_only() {
        assert!(Header::parse(b"\xc1", 0b100).is_ok());
        assert_eq!(
            Header::parse(b"\xc9", 0b100),
            Err(ProtocolError::ReservedBits(0b100))
        );
        assert_eq!(
            Header::parse(b"\xe1", 0b100),
            Err(ProtocolError::ReservedBits(0b110))
        );
    }
    #[test]
    fn the_encoder_and_the_clients_of_tests_agree() {
        let opcodes = [
            (0x0, OpCode::Continuation),
            (0x1, OpCode::Text),
            (0x2, OpCode::Binary),
            (0x8, OpCode::Close),
            (0x9, OpCode::Ping),
            (0xa, OpCode::Pong),
        ];
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            for (rsv, (bits, opcode)) in (0..).zip(opcodes) {
                let header = Header {
                    fin: rsv & 1 == 0,
                    rsv,
                    opcode,
                    mask: Some([0x12, 0x34, 0x56, len as u8]).filter(|_| rsv < 4),
                    len: len as u64,
                };
                let mut bytes = Vec::new();
                header.encode(&mut bytes);
                let start = bytes.len();
                bytes.extend_from_slice(&payload);
                mask::apply(&mut bytes[start..], header.mask.unwrap_or_default(), 0);
                let first = u8::from(header.fin) << 7 | rsv << 4 | bits;
                let mut frame = Vec::new();
                client_frames::append(&mut frame, first, header.mask, &payload);
                assert!(bytes == frame, "{header:?}");
            }
        }
    }

    #[test]
    fn the_clients_of_tests_write_the_example_and_read_what_they_write() {
        // RFC 6455, 5.7: "A single-frame masked text message".
        let hello = client_frames::frame(0x81, b"Hello");
        assert_eq!(hello, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        let parse = |bytes: &[u8]| client_frames::Header::parse(bytes, 65_536);
        assert!(parse(&hello).is_err(), "masked");
        for (length, size) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut frame = Vec::new();
            client_frames::append(&mut frame, 0xc2, None, &vec![7; length]);
            assert_eq!(frame.len(), size + length);
            let header = parse(&frame).expect("it may be read").expect("it is whole");
            assert_eq!((header.size, header.length), (size, length));
            assert!(header.is_last() && header.is_compressed() && header.opcode() == 2);
            for end in 0..size {
                assert_eq!(parse(&frame[..end]), Ok(None));
            }
        }
        for wrong in [
            &b"\x82\x7e\0\x7d"[..],
            b"\x82\x7f\0\0\0\0\0\0\xff\xff",
            b"\x82\x7f\0\0\0\0\0\x01\0\x01",
            b"\x82\x7f\x80\0\0\0\0\0\0\0",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:x?}");
        }
    }
}
