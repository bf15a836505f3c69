//! Compressed messages to what they were.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::TAIL;
use crate::error::ProtocolError;

/// Expands compressed messages (RFC 7692, 7.2.2).
///
/// It takes about 42 KB of memory from its creation on.
pub struct Inflater {
    stream: Decompress,
    /// It remembers messages.
    used: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// Makes one that knows every window.
    pub fn new() -> Self {
        Self {
            stream: Decompress::new(false),
            used: false,
        }
    }

    /// Expands a message in `room`, and returns it.
    ///
    /// With `takeover` it may refer to the messages before, which must all have gone through here.
    /// `room` is memory that may be used again for any message: it grows to what the largest needs,
    /// never to more than twice that, nor beyond `limit` and one byte. `max_ratio` is
    /// [`DeflateConfig::max_ratio`](super::DeflateConfig::max_ratio).
    ///
    /// # Errors
    ///
    /// [`ProtocolError::MessageTooBig`] as soon as the message is larger than `limit`,
    /// [`ProtocolError::RatioTooHigh`] as soon as it is that, [`ProtocolError::BadDeflate`] for what
    /// is none of DEFLATE. Nothing more can be expanded with `takeover` then.
    pub fn message<'r>(
        &mut self,
        payload: &[u8],
        takeover: bool,
        limit: usize,
        max_ratio: usize,
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        let by_ratio = payload.len().saturating_mul(max_ratio).max(RATIO_FREE);
        let bounds = Bounds {
            limit,
            by_ratio,
            max_ratio,
        };
        if self.used && !takeover {
            self.forget();
        }
        self.used = true;
        let mut size = 0;
        self.expand(payload, bounds, room, &mut size)?;
        self.expand(&TAIL, bounds, room, &mut size)?;
        Ok(room.get(..size).unwrap_or_default())
    }

    /// Forgets the messages before.
    pub fn forget(&mut self) {
        self.stream.reset(false);
        self.used = false;
    }

    /// Expands `input` behind the `size` bytes that are there.
    fn expand(
        &mut self,
        mut input: &[u8],
        bounds: Bounds,
        room: &mut Vec<u8>,
        size: &mut usize,
    ) -> Result<(), ProtocolError> {
        let most = bounds.limit.min(bounds.by_ratio);
        loop {
            // One byte more than is allowed tells that there is too much.
            let end = most.saturating_add(1);
            if room.len() == *size {
                let target = room
                    .len()
                    .saturating_mul(2)
                    .max(CHUNK)
                    .min(end)
                    .max(*size + 1);
                room.reserve_exact(target - room.len());
                room.resize(target, 0);
            }
            let end = room.len().min(end.max(*size + 1));
            let before = (self.stream.total_in(), self.stream.total_out());
            let place = room.get_mut(*size..end).unwrap_or_default();
            let offered = place.len();
            let status = self
                .stream
                .decompress(input, place, FlushDecompress::Sync)
                .map_err(|_| ProtocolError::BadDeflate)?;
            let (taken, made) = (
                (self.stream.total_in() - before.0) as usize,
                (self.stream.total_out() - before.1) as usize,
            );
            input = input.get(taken..).unwrap_or_default();
            *size += made;
            bounds.check(*size)?;
            match status {
                // RFC 7692, 7.2.3.4: a block that says it is the last may be followed by others.
                Status::StreamEnd => self.forget(),
                _ if taken == 0 && made == 0 && !input.is_empty() => {
                    return Err(ProtocolError::BadDeflate);
                }
                _ => {}
            }
            if input.is_empty() && (made < offered || status == Status::StreamEnd) {
                self.used = true;
                return Ok(());
            }
        }
    }
}

/// How large a message may become.
#[derive(Clone, Copy)]
struct Bounds {
    limit: usize,
    by_ratio: usize,
    max_ratio: usize,
}

impl Bounds {
    fn check(&self, size: usize) -> Result<(), ProtocolError> {
        if size > self.limit {
            Err(ProtocolError::MessageTooBig {
                size: size as u64,
                limit: self.limit,
            })
        } else if size > self.by_ratio {
            Err(ProtocolError::RatioTooHigh {
                limit: self.max_ratio,
            })
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// The first room for a message, in bytes; each next one has twice the size.
const CHUNK: usize = 4 << 10;

/// A message that fits into it has no ratio too high, in bytes.
const RATIO_FREE: usize = 64 << 10;
