//! The fast path of receiving: text and binary messages of one frame, whole in the buffer.
//!
//! All other frames (incomplete, fragmented, control or invalid ones) stay in the buffer for the
//! [`Decoder`](super::receiver::Decoder), which handles every frame and finds the same messages in
//! the same bytes.
//!
//! * [`take_short`] takes one message of at most 125 bytes, and copies it while unmasking;
//! * [`Batch`] takes several of them at once;
//! * [`take_medium`] takes one of 126 to 65,535 bytes, [`take_whole`] one of any size; both unmask
//!   in place.

mod batch;
mod short;
mod whole;

pub(crate) use batch::{Batch, Shorts};
pub(crate) use short::{Pad, SHORT_HEAD, Short, take_short};
pub(crate) use whole::{MEDIUM_HEAD, take_medium, take_whole};

/// The first two bytes of an empty masked text message in one frame, as a little-endian number.
const TEXT: u16 = 0x8081;

#[cfg(test)]
mod tests;
