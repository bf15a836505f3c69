//! Messages that are framed once for many recipients.

use std::fmt;
use std::iter::repeat_n;
use std::sync::Arc;
#[cfg(feature = "deflate")]
use std::sync::OnceLock;

use super::{FrameHead, OpCode};

/// Whether a message is compressed, on connections that negotiated permessage-deflate; on others, a
/// message never is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compress {
    /// The server's `DeflateConfig` decides, by the message's kind and size.
    #[default]
    Auto,
    /// The message is compressed.
    Yes,
    /// The message is not compressed.
    No,
}

/// A message that is framed once and sent to many; clones share its bytes.
///
/// It is also compressed only once for each window size among its recipients. Clones made after the
/// first send share the compressed frames.
#[derive(Clone)]
pub struct Prepared {
    frame: Arc<[u8]>,
    size: usize,
    opcode: OpCode,
    compress: Compress,
    /// The frame with a compressed payload, indexed by window bits from 9 on; the plain frame where
    /// compression does not make it smaller.
    #[cfg(feature = "deflate")]
    deflated: OnceLock<Arc<ByWindow>>,
}

#[cfg(feature = "deflate")]
type ByWindow = [OnceLock<Arc<[u8]>>; 7];

impl Prepared {
    /// Frames a text message.
    #[doc(alias = "utf8")]
    pub fn text(text: &str) -> Self {
        Self::new(OpCode::Text, text.as_bytes())
    }

    /// Frames a binary message.
    pub fn binary(bytes: &[u8]) -> Self {
        Self::new(OpCode::Binary, bytes)
    }

    /// Sets whether the message is compressed. Default [`Compress::Auto`].
    #[must_use]
    pub fn compress(mut self, compress: Compress) -> Self {
        self.compress = compress;
        self
    }

    /// Returns the payload's size, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns whether the message is a text or binary.
    pub fn opcode(&self) -> OpCode {
        self.opcode
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        self.frame
            .get(self.frame.len() - self.size..)
            .unwrap_or_default()
    }

    /// Returns whether the message is compressed, as [`compress`](Self::compress) has set it.
    pub fn compression(&self) -> Compress {
        self.compress
    }

    /// Returns the frame as it is sent, not compressed.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Returns the same, to share it with the queues of connections.
    pub(crate) fn shared_frame(&self) -> &Arc<[u8]> {
        &self.frame
    }

    fn new(opcode: OpCode, payload: &[u8]) -> Self {
        let head = FrameHead::new(opcode, payload.len());
        Self::framed(framed(&head, payload), payload.len(), opcode)
    }

    /// Frames a message that lies in several slices.
    pub(crate) fn of(opcode: OpCode, parts: &[&[u8]]) -> Self {
        match parts {
            [payload] => Self::new(opcode, payload),
            parts => Self::new(opcode, &parts.concat()),
        }
    }

    /// Makes all clones share the compressed frames, including clones made before the first send.
    pub(crate) fn sharing(self) -> Self {
        #[cfg(feature = "deflate")]
        let _ = self.deflated.get_or_init(Arc::default);
        self
    }

    /// Wraps a frame whose payload has `size` bytes.
    pub(crate) fn framed(frame: Arc<[u8]>, size: usize, opcode: OpCode) -> Self {
        Self {
            frame,
            size,
            opcode,
            compress: Compress::Auto,
            #[cfg(feature = "deflate")]
            deflated: OnceLock::new(),
        }
    }
}

/// Builds a frame in the one allocation in which it stays.
fn framed(head: &[u8], payload: &[u8]) -> Arc<[u8]> {
    let mut frame: Arc<[u8]> = repeat_n(0, head.len() + payload.len()).collect();
    let (front, rest) = Arc::make_mut(&mut frame).split_at_mut(head.len());
    front.copy_from_slice(head);
    rest.copy_from_slice(payload);
    frame
}

#[cfg(feature = "deflate")]
impl Prepared {
    /// Returns the frame compressed for a window of `bits`, or the plain frame where that is not
    /// larger. `deflate` compresses the payload on the first call for a window.
    pub(crate) fn deflated(
        &self,
        bits: u8,
        deflate: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> &Arc<[u8]> {
        let at = usize::from(bits.clamp(9, 15) - 9);
        let by_window = self.deflated.get_or_init(Arc::default);
        by_window[at].get_or_init(|| match deflate(self.payload()) {
            Some(bytes) if bytes.len() < self.size => {
                let head = FrameHead::new(self.opcode, bytes.len()).compressed();
                framed(&head, &bytes)
            }
            _ => self.frame.clone(),
        })
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("opcode", &self.opcode)
            .field("size", &self.size)
            .field("compress", &self.compress)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_messages_are_frames() {
        let prepared = Prepared::text("hi");
        assert_eq!(prepared.frame(), b"\x81\x02hi");
        assert_eq!(prepared.size(), 2);
        assert_eq!(Prepared::binary(&[1]).frame(), b"\x82\x01\x01");
    }

    #[test]
    #[cfg(feature = "deflate")]
    fn compression_is_done_once_for_each_window() {
        let prepared = Prepared::text(&"a".repeat(200));
        let mut calls = 0;
        let mut deflated = |prepared: &Prepared, bits: u8| {
            let frame = prepared.deflated(bits, |payload| {
                calls += 1;
                Some(vec![bits, payload.len() as u8])
            });
            assert_eq!(frame[..], [0xc1, 2, bits, 200]);
        };
        deflated(&prepared, 15);
        let clone = prepared.clone();
        for bits in [15, 9, 15] {
            deflated(&clone, bits);
            deflated(&prepared, bits);
        }
        assert_eq!(calls, 2);
        let frame = prepared.deflated(10, |_| Some(vec![0; 200]));
        assert_eq!(frame[..4], [0x81, 126, 0, 200], "nothing is won");
        let frame = prepared.deflated(11, |_| None);
        assert_eq!(frame[0], 0x81);
    }
}
