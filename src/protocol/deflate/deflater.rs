//! Messages to compressed ones.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};

use super::TAIL;
use super::alone::Alone;

/// Compresses messages (RFC 7692, 7.2.1).
///
/// At level 1 messages of up to 32 KiB that stand by themselves are compressed by wsloop's own
/// means, which take 20 KB and a fraction of the time; all others by zlib, which takes 190 to 330 KB
/// by its window, from the first such message on.
pub struct Deflater {
    level: u32,
    window_bits: u8,
    alone: Alone,
    stream: Option<Compress>,
    /// The stream remembers messages.
    used: bool,
    /// What it remembers is not to be referred to: the peer's window holds something else.
    stale: bool,
}

impl Deflater {
    /// Makes one with `level` 0 to 9 and a window of `window_bits` 9 to 15; what is beyond is taken
    /// as the nearest.
    pub fn new(level: u32, window_bits: u8) -> Self {
        Self {
            level: level.min(9),
            window_bits: window_bits.clamp(9, 15),
            alone: Alone::default(),
            stream: None,
            used: false,
            stale: false,
        }
    }

    /// Appends the compressed message to `out`.
    ///
    /// With `takeover` it may refer to the messages before, which the same peer must have been sent;
    /// else it stands by itself. Returns whether that worked; if not, which zlib has no case
    /// for, `out` is as it was, nothing before is remembered, and the message has to be sent as it
    /// is.
    #[must_use]
    pub fn message(&mut self, payload: &[u8], takeover: bool, out: &mut Vec<u8>) -> bool {
        if payload.is_empty() {
            // RFC 7692, 7.2.3.6: the header of an empty block.
            out.push(0);
            return true;
        }
        if !takeover && self.level == 1 && payload.len() <= Alone::MAX.min(1 << self.window_bits) {
            self.alone.message(payload, out);
            self.stale = true;
            return true;
        }
        if self.used
            && (!takeover || self.stale)
            && let Some(stream) = &mut self.stream
        {
            stream.reset();
        }
        (self.used, self.stale) = (true, false);
        let start = out.len();
        let done = self.append(payload, out);
        if !done {
            out.truncate(start);
            self.forget();
        }
        done
    }

    /// Forgets the messages before: the next one stands by itself. It is called when the peer was not
    /// sent one of them, or was sent something else; the work is left for that next one.
    pub fn forget(&mut self) {
        self.stale = true;
    }

    fn append(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let stream = self.stream.get_or_insert_with(|| {
            let level = Compression::new(self.level);
            Compress::new_with_window_bits(level, false, self.window_bits)
        });
        let before = stream.total_in();
        out.reserve(payload.len() / 2 + 64);
        loop {
            let taken = (stream.total_in() - before) as usize;
            let rest = payload.get(taken..).unwrap_or_default();
            let full = out.capacity();
            if stream.compress_vec(rest, out, FlushCompress::Sync).is_err() {
                return false;
            }
            // zlib.h, deflate: if it returns with room left, all is flushed.
            if out.len() < full {
                break;
            }
            out.reserve(payload.len() / 2 + 64);
        }
        let ends = out.ends_with(&TAIL);
        debug_assert!(ends, "a sync flush ends in an empty block");
        if ends {
            out.truncate(out.len() - TAIL.len());
        }
        ends
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater")
            .field("level", &self.level)
            .field("window_bits", &self.window_bits)
            .finish_non_exhaustive()
    }
}
