//! The fast path of receiving: text and binary messages of one frame, whole in the buffer.
//!
//! Everything else (frames that are longer, incomplete, fragmented, control frames or invalid)
//! stays in the buffer for the [`Decoder`](super::receiver::Decoder), which handles all frames and
//! finds the same messages in the same bytes.
//!
//! * [`take_short`] takes one message of at most 125 bytes, and copies it while unmasking;
//! * [`Batch`] takes several of them at once;
//! * [`take_medium`] and [`take_whole`] take longer ones, and unmask them in place.

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
