//! permessage-deflate of connections: which compressor serves which message.
//!
//! Without the feature the types exist as well, but no connection has a [`Deflate`].

#![cfg_attr(
    not(feature = "deflate"),
    expect(dead_code, reason = "no message is compressed")
)]

#[cfg(not(feature = "deflate"))]
mod off;
#[cfg(feature = "deflate")]
mod on;

#[cfg(not(feature = "deflate"))]
pub(crate) use off::{Compressors, Deflate};
#[cfg(feature = "deflate")]
pub(crate) use on::{Compressors, Deflate};

use crate::protocol::{Compress, OpCode};

/// A message to be compressed.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'m> {
    pub(crate) opcode: OpCode,
    pub(crate) layout: Layout<'m>,
    /// The size of the payload, in bytes.
    pub(crate) size: usize,
    pub(crate) choice: Compress,
    /// Whether it may be dropped while it is queued, so that no later message may refer to it.
    pub(crate) may_drop: bool,
}

/// How the payload of a message lies in memory, and in how many frames it is sent.
#[derive(Clone, Copy)]
pub(crate) enum Layout<'m> {
    /// In one slice.
    Whole(&'m [u8]),
    /// In several slices, for one frame.
    Gathered(&'m [&'m [u8]]),
    /// In several slices, for one frame each.
    Frames(&'m [&'m [u8]]),
}

/// A compressed message.
pub(crate) struct Compressed {
    pub(crate) bytes: Vec<u8>,
    /// Where the frames end, if there are several.
    pub(crate) ends: Vec<usize>,
}
