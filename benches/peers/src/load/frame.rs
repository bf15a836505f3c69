//! Frames of a client, and the replies of a server.

pub(super) use crate::client_frames::server_frame;
use crate::client_frames::{self, Header};

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
    let mut frame = Vec::with_capacity(14 + payload.len());
    client_frames::append(&mut frame, first, Some(mask), payload);
    frame
}

/// Parses the header of a server's frame; returns `None` if it is incomplete.
///
/// # Errors
///
/// Fails if the header is not valid, or if the frame is larger than any frame of a comparison.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, String> {
    Header::parse(bytes, 1 << 30)
}
