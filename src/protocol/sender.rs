//! Messages to frames, and the closing state (RFC 6455, 5.6, 5.5.1 and 7.1.2).

use std::ops::Deref;

use super::{CloseCode, CloseFrame, OpCode};
use crate::error::SendError;

/// The header of a server's frame: unmasked, at most ten bytes.
///
/// It dereferences to its bytes on the wire.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    bytes: [u8; 10],
    size: u8,
}

impl FrameHead {
    /// Makes the header of a whole message or a control frame with a payload of `len` bytes.
    pub fn new(opcode: OpCode, len: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = Self::first(opcode);
        // RFC 6455, 5.2: "the minimal number of bytes MUST be used to encode the length"
        let size = match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len @ 0..=125), _) => {
                bytes[1] = len;
                2
            }
            (_, Ok(len)) => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(len as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, size }
    }
}

impl FrameHead {
    /// Clears FIN: more frames of the message follow (RFC 6455, 5.4), all of
    /// [`OpCode::Continuation`], the last of them with FIN set.
    ///
    /// ```
    /// use wsloop::protocol::{FrameHead, OpCode};
    ///
    /// // RFC 6455, 5.7: "Hel" and "lo".
    /// assert_eq!(*FrameHead::new(OpCode::Text, 3).unfinished(), [0x01, 0x03]);
    /// assert_eq!(*FrameHead::new(OpCode::Continuation, 2), [0x80, 0x02]);
    /// ```
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.bytes[0] &= 0x7f;
        self
    }

    /// Returns the first byte of the header of a whole message or control frame.
    pub(crate) const fn first(opcode: OpCode) -> u8 {
        0x80 | opcode.bits()
    }

    /// Marks the message as compressed (RFC 7692, 6: RSV1).
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.bytes[0] |= 0x40;
        self
    }
}

impl Deref for FrameHead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }
}

/// The sending half of a connection: it frames messages until a Close frame is sent.
#[derive(Debug, Default)]
pub struct Sender {
    close_sent: bool,
}

impl Sender {
    /// Checks that a message or control frame of `len` bytes can be sent, and returns its header.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Closing`] after a Close frame, [`SendError::TooBig`] for a message
    /// above `max_send_size`, and [`SendError::ControlTooLong`] for a control frame above 125
    /// bytes.
    pub fn head(
        &self,
        opcode: OpCode,
        len: usize,
        max_send_size: usize,
    ) -> Result<FrameHead, SendError> {
        // RFC 6455, 5.5.1: "The application MUST NOT send any more data frames after sending a
        // Close frame."
        if self.close_sent {
            return Err(SendError::Closing);
        }
        if opcode.is_control() {
            if len > 125 {
                return Err(SendError::ControlTooLong { size: len });
            }
        } else if len > max_send_size {
            return Err(SendError::TooBig {
                size: len,
                limit: max_send_size,
            });
        }
        Ok(FrameHead::new(opcode, len))
    }

    /// Appends a message or control frame to `out`, and returns its size on the wire, in bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`head`](Self::head).
    pub fn message(
        &self,
        opcode: OpCode,
        payload: &[u8],
        max_send_size: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, SendError> {
        let head = self.head(opcode, payload.len(), max_send_size)?;
        out.extend_from_slice(&head);
        out.extend_from_slice(payload);
        Ok(head.len() + payload.len())
    }

    /// Appends a Close frame to `out`, and returns its size on the wire. Nothing can be sent after
    /// it.
    ///
    /// [`CloseCode::NO_STATUS`] without a reason gives an empty body.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Closing`] after another Close frame, [`SendError::BadCloseCode`] for a
    /// code that must not be sent, and [`SendError::ControlTooLong`] for a reason of more than 123
    /// bytes.
    pub fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        out: &mut Vec<u8>,
    ) -> Result<usize, SendError> {
        if self.close_sent {
            return Err(SendError::Closing);
        }
        let mut body = Vec::with_capacity(reason.len() + 2);
        CloseFrame { code, reason }.encode(&mut body)?;
        out.extend_from_slice(&FrameHead::new(OpCode::Close, body.len()));
        out.extend_from_slice(&body);
        self.close_sent = true;
        Ok(body.len() + 2)
    }

    /// Returns whether a Close frame was sent.
    pub fn is_closing(&self) -> bool {
        self.close_sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Header;

    #[test]
    fn heads_are_minimal() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 32] {
            let header = Header {
                fin: true,
                rsv: 0,
                opcode: OpCode::Text,
                mask: None,
                len: len as u64,
            };
            let mut expected = Vec::new();
            header.encode(&mut expected);
            assert_eq!(&*FrameHead::new(OpCode::Text, len), expected);
        }
    }

    #[test]
    fn limits_hold() {
        let sender = Sender::default();
        assert!(sender.head(OpCode::Binary, 10, 10).is_ok());
        let error = sender.head(OpCode::Binary, 11, 10).expect_err("too big");
        assert_eq!(
            error,
            SendError::TooBig {
                size: 11,
                limit: 10
            }
        );
        // Control frames have their own limit.
        assert!(sender.head(OpCode::Ping, 125, 10).is_ok());
        let error = sender.head(OpCode::Pong, 126, 999).expect_err("too long");
        assert_eq!(error, SendError::ControlTooLong { size: 126 });
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut sender = Sender::default();
        let mut out = Vec::new();
        let bad = sender.close(CloseCode::ABNORMAL, "", &mut out);
        assert_eq!(bad, Err(SendError::BadCloseCode(1006)));
        assert!(!sender.is_closing() && out.is_empty());

        assert_eq!(sender.close(CloseCode::NORMAL, "bye", &mut out), Ok(7));
        assert_eq!(out, b"\x88\x05\x03\xe8bye");
        assert_eq!(
            sender.close(CloseCode::NORMAL, "", &mut out),
            Err(SendError::Closing)
        );
        let late = sender.message(OpCode::Text, b"late", usize::MAX, &mut out);
        assert_eq!(late, Err(SendError::Closing));
        assert_eq!(out.len(), 7);
    }

    #[test]
    fn a_close_may_be_empty() {
        let mut out = Vec::new();
        assert_eq!(
            Sender::default().close(CloseCode::NO_STATUS, "", &mut out),
            Ok(2)
        );
        assert_eq!(out, b"\x88\x00");
    }
}
