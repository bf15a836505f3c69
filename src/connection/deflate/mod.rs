//! permessage-deflate of connections: which compressor serves which message.
//!
//! Without the feature the types are still there, and no connection has a [`Deflate`].

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

/// A message that is to be compressed.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'m> {
    pub(crate) opcode: OpCode,
    pub(crate) layout: Layout<'m>,
    /// Its size, in bytes.
    pub(crate) size: usize,
    pub(crate) choice: Compress,
    /// It may be dropped while it is queued, so that no later message may refer to it.
    pub(crate) may_drop: bool,
}

/// How the payload of a message lies in memory, and in how many frames it leaves.
#[derive(Clone, Copy)]
pub(crate) enum Layout<'m> {
    /// In one place.
    Whole(&'m [u8]),
    /// In several places, for one frame.
    Gathered(&'m [&'m [u8]]),
    /// In a frame for each place.
    Frames(&'m [&'m [u8]]),
}

/// A compressed message.
pub(crate) struct Compressed {
    pub(crate) bytes: Vec<u8>,
    /// Where its frames end, if there are several.
    pub(crate) ends: Vec<usize>,
}
