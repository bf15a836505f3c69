//! `Sec-WebSocket-Key`, and the value that proves to the client that the server read it.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest, Sha1};

use crate::error::HandshakeError;

/// The value of `Sec-WebSocket-Accept` for one request (RFC 6455, 4.2.2).
///
/// Only [`Request::accept_key`](super::Request::accept_key) makes one, so an `AcceptKey` proves
/// that the request passed every check.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct AcceptKey([u8; 28]);

impl AcceptKey {
    /// Returns the value: 28 characters of base64.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Derives the value from the value of `Sec-WebSocket-Key`.
    pub(super) fn derive(key: &[u8]) -> Result<Self, HandshakeError> {
        // RFC 6455, 4.2.1: "a base64-encoded value that, when decoded, is 16 bytes in length". The
        // last character has four spare bits. RFC 4648, 3.5 lets decoders decide whether these must
        // be zero, and they are not in the example of RFC 6455, 4.1: AQIDBAUGBwgJCgsMDQ4PEC==.
        let mut nonce = [0; 18];
        if key.len() != 24 || LENIENT.decode_slice(key, &mut nonce) != Ok(16) {
            return Err(HandshakeError::BadKey);
        }
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let mut accept = [0; 28];
        match STANDARD.encode_slice(digest, &mut accept) {
            Ok(28) => Ok(Self(accept)),
            // Unreachable: the 20 bytes of SHA-1 give 28 characters of base64.
            _ => Err(HandshakeError::BadKey),
        }
    }
}

impl fmt::Debug for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcceptKey").field(&self.as_str()).finish()
    }
}

impl fmt::Display for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Base64 with padding, which ignores the spare bits of the last character.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The GUID that is appended to a client's key, so that no other server gives this answer by
/// accident (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_of_the_rfc() {
        let accept = AcceptKey::derive(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accept.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept.to_string(), accept.as_str());
    }

    #[test]
    fn keys_are_the_padded_base64_of_16_bytes() {
        assert!(AcceptKey::derive(b"AAAAAAAAAAAAAAAAAAAAAA==").is_ok());
        assert!(AcceptKey::derive(b"+/+/+/+/+/+/+/+/+/+/+w==").is_ok());
        for key in [
            "",
            "====",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAA===",
            // 15, 17 and 18 bytes.
            "AAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            // The URL-safe alphabet, white space, padding in the middle, a byte that is not ASCII.
            "-_-_-_-_-_-_-_-_-_-_-w==",
            "AAAAAAAAAA AAAAAAAAAAA==",
            "AAAA==AAAAAAAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAA\u{e9}==",
        ] {
            assert_eq!(
                AcceptKey::derive(key.as_bytes()),
                Err(HandshakeError::BadKey),
                "{key}"
            );
        }
    }
}
