//! permessage-deflate (RFC 7692) without I/O: the negotiation, and both directions.
//!
//! A [`DeflateConfig`] answers a client's offers with an [`Agreement`]. A [`Deflater`] compresses
//! messages, an [`Inflater`] inflates them. Neither knows frames: a compressed message is sent with
//! RSV1 set on its first frame, and a [`Receiver`](super::Receiver) with
//! [`allow_compressed`](super::Receiver::allow_compressed) hands out compressed messages as
//! [`Message::Compressed`](super::Message::Compressed), or in pieces. [`Deflater::part`] and
//! [`Inflater::piece`] process messages in parts.
//!
//! ```
//! use wsloop::protocol::deflate::{Context, DeflateConfig, Deflater, InflateLimits, Inflater};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let offers = [&b"permessage-deflate; client_max_window_bits"[..]];
//! let agreed = DeflateConfig::default().negotiate(offers).expect("the offer is a good one");
//! assert_eq!(agreed.to_string(), "permessage-deflate");
//!
//! let text = "the same again and again, ".repeat(40);
//! let mut compressed = Vec::new();
//! let mut deflater = Deflater::new(1, agreed.server_max_window_bits());
//! assert!(deflater.message(text.as_bytes(), Context::Reset, &mut compressed));
//! assert!(compressed.len() < 60);
//!
//! let (mut inflater, mut room) = (Inflater::new(), Vec::new());
//! let limits = InflateLimits::new(64 << 10, usize::MAX);
//! let message = inflater.message(&compressed, Context::Keep, limits, &mut room)?;
//! assert_eq!(message, text.as_bytes());
//! # Ok(())
//! # }
//! ```

mod config;
mod deflater;
mod huffman;
mod inflater;
mod offer;
mod single;

pub use config::{Agreement, DeflateConfig};
pub use deflater::Deflater;
pub use inflater::{InflateLimits, Inflater};

/// Whether a message may refer to those before it (RFC 7692, 7.1.1): context takeover.
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Context {
    /// It may: the window of the messages before is kept.
    Keep,
    /// It may not: it stands by itself.
    Reset,
}

impl Context {
    /// [`Keep`](Self::Keep) if `keep`.
    #[must_use]
    pub const fn keep_if(keep: bool) -> Self {
        match keep {
            true => Self::Keep,
            false => Self::Reset,
        }
    }
}

/// The last bytes of every compressed message, which are not sent (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The range of window sizes, as base-2 logarithms. RFC 7692 also allows 8, but zlib cannot
/// compress with so small a window.
pub(crate) const WINDOW_BITS: std::ops::RangeInclusive<u8> = 9..=15;

#[cfg(test)]
mod tests;
