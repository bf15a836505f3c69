//! Close frames (RFC 6455, 5.5.1).

use crate::close_code::CloseCode;
use crate::error::{ProtocolError, SendError};

/// The body of a Close frame.
#[expect(clippy::exhaustive_structs, reason = "the fields are RFC 6455's")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CloseFrame<'p> {
    /// The status code; [`CloseCode::NO_STATUS`] if the frame has no body.
    pub code: CloseCode,
    /// A text for debugging, possibly empty.
    pub reason: &'p str,
}

impl<'p> CloseFrame<'p> {
    /// Parses the unmasked body of a Close frame.
    ///
    /// # Errors
    ///
    /// Returns an error for a body of one byte, a code that must not be sent, and a reason that is
    /// not UTF-8.
    pub fn parse(body: &'p [u8]) -> Result<Self, ProtocolError> {
        match body {
            [] => Ok(Self {
                code: CloseCode::NO_STATUS,
                reason: "",
            }),
            [_] => Err(ProtocolError::BadCloseLength),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !CloseCode::from(code).is_sendable() {
                    return Err(ProtocolError::BadCloseCode(code));
                }
                let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::BadUtf8)?;
                Ok(Self {
                    code: code.into(),
                    reason,
                })
            }
        }
    }

    /// Checks that the frame can be sent, and appends its body to `out`.
    ///
    /// [`CloseCode::NO_STATUS`] without a reason gives an empty body.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`] for a code that must not be sent, and
    /// [`SendError::ControlTooLong`] for a reason of more than 123 bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), SendError> {
        if self.code == CloseCode::NO_STATUS && self.reason.is_empty() {
            return Ok(());
        }
        let code = self.code.sendable()?;
        let size = self.reason.len() + 2;
        if size > 125 {
            return Err(SendError::ControlTooLong { size });
        }
        out.extend_from_slice(&code.as_u16().to_be_bytes());
        out.extend_from_slice(self.reason.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_codes_never_pass() {
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ] {
            let body = u16::to_be_bytes(code);
            assert_eq!(
                CloseFrame::parse(&body),
                Err(ProtocolError::BadCloseCode(code))
            );
            let frame = CloseFrame {
                code: code.into(),
                reason: "x",
            };
            assert_eq!(
                frame.encode(&mut Vec::new()),
                Err(SendError::BadCloseCode(code))
            );
        }
        for code in [
            1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
        ] {
            let mut body = Vec::new();
            let frame = CloseFrame {
                code: code.into(),
                reason: "bye",
            };
            assert_eq!(frame.encode(&mut body), Ok(()));
            assert_eq!(CloseFrame::parse(&body), Ok(frame));
        }
    }

    #[test]
    fn bodies_have_no_code_or_a_whole_one() {
        let empty = CloseFrame {
            code: CloseCode::NO_STATUS,
            reason: "",
        };
        assert_eq!(CloseFrame::parse(b""), Ok(empty));
        assert_eq!(
            CloseFrame::parse(b"\x03"),
            Err(ProtocolError::BadCloseLength)
        );
        assert_eq!(
            CloseFrame::parse(b"\x03\xe8\xff"),
            Err(ProtocolError::BadUtf8)
        );
        let mut body = Vec::new();
        assert_eq!(empty.encode(&mut body), Ok(()));
        assert!(body.is_empty());
    }

    #[test]
    fn reasons_fit_a_control_frame() {
        let long = "x".repeat(124);
        let frame = CloseFrame {
            code: CloseCode::NORMAL,
            reason: &long,
        };
        assert_eq!(
            frame.encode(&mut Vec::new()),
            Err(SendError::ControlTooLong { size: 126 })
        );
        let frame = CloseFrame {
            code: CloseCode::NORMAL,
            reason: &long[1..],
        };
        assert_eq!(frame.encode(&mut Vec::new()), Ok(()));
    }
}
