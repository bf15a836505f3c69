//! Frames (RFC 6455, 5.2), as a client writes and reads them.

use crate::client_frames;
pub(crate) use crate::client_frames::Header;

/// The first byte of a frame: the last one of a message.
pub(crate) const FIN: u8 = 0x80;
/// The first byte of a frame: a compressed message begins (RFC 7692, 6).
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// Appends a frame, masked.
pub(crate) fn write(out: &mut Vec<u8>, first: u8, payload: &[u8], key: [u8; 4]) {
    client_frames::append(out, first, Some(key), payload);
}

/// Parses the header of a frame of the server; `None` if it is not whole yet.
///
/// # Errors
///
/// Fails if the frame is none of a server, or larger than anything that is sent.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, String> {
    Header::parse(bytes, LENGTH_MAX)
}

const LENGTH_MAX: usize = 1 << 20;
