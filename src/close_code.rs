//! Close codes (RFC 6455, 7.4).

use std::fmt;

/// The reason why a connection closes (RFC 6455, 7.4.1).
///
/// Codes from 3000 to 3999 are registered for libraries and applications, those from 4000 to 4999
/// are for private use.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server shuts down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the endpoint cannot accept this kind of data.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: the Close frame had no code. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: the data does not match its type, for example text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a message violates a policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message is too big.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client requires an extension that the server did not negotiate.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid response.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: the TLS handshake failed. Never on the wire.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// Returns the code's number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Returns whether the code may be sent in a Close frame.
    pub const fn is_sendable(self) -> bool {
        // RFC 6455, 7.4.1 defines 1000 to 1011 except the reserved 1004 and those that "MUST NOT be
        // set as a status code in a Close control frame"; 1012 to 1014 were registered later.
        // 7.4.2: 0-999 "are not used", 1000-2999 belong to the protocol, 3000-4999 to libraries and
        // applications.
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

/// Compares a code with its number.
impl PartialEq<u16> for CloseCode {
    fn eq(&self, code: &u16) -> bool {
        self.0 == *code
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
