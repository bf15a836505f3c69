//! Frames (RFC 6455, 5.2), as a client sends and receives them.

use crate::client_frames;
pub(crate) use crate::client_frames::Header;

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
    client_frames::append(out, first, Some(key), payload);
}

/// Parses the header of a server's frame; returns `None` if it is incomplete.
///
/// # Errors
///
/// Fails if the header is not valid, or if the frame is larger than any frame of a run.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, String> {
    Header::parse(bytes, LENGTH_MAX)
}

const LENGTH_MAX: usize = 1 << 20;
