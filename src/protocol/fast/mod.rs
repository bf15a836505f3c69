//! The fast path of receiving: text and binary messages in one frame, whole in the buffer.
//!
//! Nothing here knows more than that. What is longer, cut, fragmented, a control frame or wrong is
//! left where it is, for the [`Decoder`](super::receiver::Decoder), which knows everything and finds
//! the same messages in the same bytes.
//!
//! * [`take_short`] takes one message of at most 125 bytes, which is copied while it is unmasked;
//! * [`Batch`] takes several of them at once;
//! * [`take_medium`] and [`take_whole`] take longer ones, and unmask them in place.

mod batch;
mod short;
mod whole;

pub(crate) use batch::{Batch, Shorts};
pub(crate) use short::{Pad, SHORT_HEAD, Short, take_short};
pub(crate) use whole::{MEDIUM_HEAD, take_medium, take_whole};

/// The first two bytes of a masked text message in one frame, of length 0.
const TEXT: u16 = 0x8081;

#[cfg(test)]
mod tests;
