//! Decompression of messages.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::{Context, TAIL};
use crate::error::ProtocolError;

/// Inflates compressed messages (RFC 7692, 7.2.2).
///
/// It takes about 42 KB of memory, from its creation on.
pub struct Inflater {
    stream: Decompress,
    /// Whether the stream may hold earlier messages.
    used: bool,
    under_way: UnderWay,
}

/// The limits of one message.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InflateLimits {
    /// The size of the largest message after inflating, in bytes.
    pub max_size: usize,
    /// How many times its compressed size a message may have after inflating, as
    /// [`DeflateConfig::max_ratio`](super::DeflateConfig::max_ratio) has it.
    pub max_ratio: usize,
}

impl InflateLimits {
    /// Limits of size, in bytes, and of ratio; `usize::MAX` is no limit.
    pub const fn new(max_size: usize, max_ratio: usize) -> Self {
        Self {
            max_size,
            max_ratio,
        }
    }
}

/// Progress within a message.
#[derive(Default)]
struct UnderWay {
    /// Bytes of the compressed message that were consumed.
    taken: u64,
    /// Bytes of [`TAIL`] that were consumed after them.
    tail: usize,
    /// Bytes of inflated data so far.
    made: u64,
    max_ratio: usize,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// Makes an inflater for windows of any size.
    pub fn new() -> Self {
        Self {
            stream: Decompress::new(false),
            used: false,
            under_way: UnderWay::default(),
        }
    }

    /// Inflates a message in `room`, and returns it.
    ///
    /// With [`Context::Keep`] it may refer to the messages before, which must all have gone through
    /// here.
    /// `room` is memory that may be used again for any message: it grows to what the largest needs,
    /// never to more than twice that, nor beyond `max_size` and one byte.
    ///
    /// # Errors
    ///
    /// * [`ProtocolError::MessageTooBig`] as soon as the message is larger than `max_size`. `room`
    ///   then begins with `max_size` bytes of it and one more, and [`piece`](Self::piece) can go on
    ///   behind the first [`taken`](Self::taken) bytes of `payload`.
    /// * [`ProtocolError::RatioTooHigh`] as soon as the ratio is exceeded.
    /// * [`ProtocolError::BadDeflate`] if the data is not valid DEFLATE. Nothing more can be inflated
    ///   with [`Context::Keep`] then.
    pub fn message<'r>(
        &mut self,
        payload: &[u8],
        context: Context,
        limits: InflateLimits,
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        let InflateLimits {
            max_size: limit,
            max_ratio,
        } = limits;
        self.begin(context, max_ratio);
        // One byte beyond the limit shows that the message is too large.
        let most = usize::try_from(self.allowed(payload.len()))
            .map_or(limit, |by_ratio| by_ratio.min(limit))
            .saturating_add(1);
        let mut input = payload;
        let mut size = 0;
        loop {
            if room.len() == size {
                let target = room.len().saturating_mul(2).max(CHUNK);
                let target = target.min(most).max(size + 1);
                room.reserve_exact(target - room.len());
                room.resize(target, 0);
            }
            let end = room.len().min(most.max(size + 1));
            let place = room.get_mut(size..end).unwrap_or_default();
            let (made, ended) = self.piece(&mut input, true, place)?;
            size += made;
            if size > limit {
                return Err(ProtocolError::MessageTooBig {
                    size: size as u64,
                    limit,
                });
            }
            if ended {
                return Ok(room.get(..size).unwrap_or_default());
            }
        }
    }

    /// Begins a message that [`piece`](Self::piece) inflates as it arrives; `context` and `max_ratio`
    /// are those of [`message`](Self::message).
    pub fn begin(&mut self, context: Context, max_ratio: usize) {
        if self.used && context == Context::Reset {
            self.forget();
        }
        self.used = true;
        self.under_way = UnderWay {
            max_ratio,
            ..UnderWay::default()
        };
    }

    /// Inflates the next bytes of the message under way into `room`, which must not be empty, and
    /// removes the consumed bytes from `input`. `last` means that the message ends with `input`.
    /// Returns the number of bytes written to `room`, and whether the message has ended.
    ///
    /// If `room` is full, more output may follow, even for an `input` that is empty by now; if not,
    /// all of `input` was consumed.
    ///
    /// # Errors
    ///
    /// Returns [`ProtocolError::RatioTooHigh`] as soon as the output exceeds both 64 KiB and
    /// `max_ratio` times the bytes that have arrived so far, and [`ProtocolError::BadDeflate`] for
    /// data that is not valid DEFLATE.
    pub fn piece(
        &mut self,
        input: &mut &[u8],
        last: bool,
        room: &mut [u8],
    ) -> Result<(usize, bool), ProtocolError> {
        let allowed = self.allowed(input.len());
        let mut size = 0;
        loop {
            let left = allowed.saturating_sub(self.under_way.made);
            let place = room.get_mut(size..).unwrap_or_default();
            // One byte beyond the limit shows that the ratio is too high.
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            let most = most.min(place.len());
            let place = place.get_mut(..most).unwrap_or_default();
            let mut tail = TAIL.get(self.under_way.tail..).unwrap_or_default();
            // The stream may still hold output of the bytes before the tail.
            let in_tail = last && input.is_empty();
            let from = if in_tail { &mut tail } else { &mut *input };
            let before = from.len();
            let (made, dry) = self.step(from, place)?;
            let taken = before - from.len();
            if in_tail {
                self.under_way.tail += taken;
            } else {
                self.under_way.taken += taken as u64;
            }
            size += made;
            self.under_way.made += made as u64;
            if self.under_way.made > allowed {
                return Err(ProtocolError::RatioTooHigh {
                    limit: self.under_way.max_ratio,
                });
            }
            if dry && in_tail {
                return Ok((size, true));
            }
            if size >= room.len() || (dry && !last) {
                return Ok((size, false));
            }
        }
    }

    /// Returns how many bytes of the message under way, or of the last one, were consumed.
    pub fn taken(&self) -> u64 {
        self.under_way.taken
    }

    /// Forgets earlier messages.
    pub fn forget(&mut self) {
        self.stream.reset(false);
        self.used = false;
    }

    /// Returns the size that the ratio allows, if `more` further bytes of the message have arrived.
    fn allowed(&self, more: usize) -> u64 {
        let received = self.under_way.taken.saturating_add(more as u64);
        let by_ratio = received.saturating_mul(self.under_way.max_ratio as u64);
        by_ratio.max(RATIO_FREE)
    }

    /// Inflates as much of `input` into `place` as fits. Returns the number of bytes written, and
    /// whether all of the input is consumed and has no further output.
    fn step(
        &mut self,
        input: &mut &[u8],
        place: &mut [u8],
    ) -> Result<(usize, bool), ProtocolError> {
        let before = (self.stream.total_in(), self.stream.total_out());
        let status = self
            .stream
            .decompress(input, place, FlushDecompress::Sync)
            .map_err(|_| ProtocolError::BadDeflate)?;
        let (taken, made) = (
            (self.stream.total_in() - before.0) as usize,
            (self.stream.total_out() - before.1) as usize,
        );
        *input = input.get(taken..).unwrap_or_default();
        match status {
            // RFC 7692, 7.2.3.4: other blocks may follow one that is marked as the last.
            Status::StreamEnd => {
                self.forget();
                self.used = true;
            }
            _ if taken == 0 && made == 0 && !input.is_empty() && !place.is_empty() => {
                return Err(ProtocolError::BadDeflate);
            }
            _ => {}
        }
        let dry = input.is_empty() && (made < place.len() || status == Status::StreamEnd);
        Ok((made, dry))
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// Initial size of the room for a message, in bytes; it doubles from there.
const CHUNK: usize = 4 << 10;

/// Largest message whose ratio is not limited, in bytes.
const RATIO_FREE: u64 = 64 << 10;
