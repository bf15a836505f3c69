//! RFC 6455 without I/O: bytes in, events out; messages in, bytes out.
//!
//! Nothing here knows a socket, a clock or a handler. A [`Receiver`] turns a client's bytes into
//! [`Message`]s; a [`Sender`] turns messages into frames and owns the closing state. The two halves
//! share nothing: their caller answers a [`Message::Ping`] with a Pong, and a [`Message::Close`]
//! with a Close.
//!
//! ```
//! use wsloop::protocol::{Message, OpCode, Receiver, Sender, mask};
//! use wsloop::Limits;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A client's text frame: FIN and opcode 1, masked, two bytes long.
//! let mut bytes = *b"\x81\x82\x01\x02\x03\x04hi";
//! mask::apply(&mut bytes[6..], [1, 2, 3, 4], 0);
//!
//! let mut receiver = Receiver::new(&Limits::default());
//! let mut input = &mut bytes[..];
//! assert_eq!(receiver.next(&mut input)?, Some(Message::Text("hi")));
//! assert_eq!(receiver.next(&mut input)?, None);
//!
//! let mut out = Vec::new();
//! Sender::default().message(OpCode::Text, b"hi", usize::MAX, &mut out)?;
//! assert_eq!(out, b"\x81\x02hi");
//! # Ok(())
//! # }
//! ```

mod assembly;
mod close;
#[cfg(feature = "deflate")]
pub mod deflate;
mod fast;
mod frame;
pub mod mask;
mod pool;
mod prepared;
mod receiver;
mod sender;
mod utf8;

pub use crate::close_code::CloseCode;
pub use close::CloseFrame;
pub(crate) use fast::{
    Batch, MEDIUM_HEAD, Pad, SHORT_HEAD, Short, Shorts, take_medium, take_short,
};
pub use frame::{Header, OpCode};
pub(crate) use pool::Pool;
pub use prepared::{Compress, Prepared};
pub(crate) use receiver::{Bounds, Decoder};
pub use receiver::{Message, Piece, Receiver};
pub use sender::{FrameHead, Sender};
pub use utf8::Utf8Validator;
