//! Messages to compressed ones.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};

use super::TAIL;

/// Compresses messages (RFC 7692, 7.2.1).
///
/// It takes 160 to 330 KB of memory, by its window, from its creation on.
pub struct Deflater {
    stream: Compress,
    /// It remembers messages.
    used: bool,
}

impl Deflater {
    /// Makes one with `level` 0 to 9 and a window of `window_bits` 9 to 15; what is beyond is taken
    /// as the nearest.
    pub fn new(level: u32, window_bits: u8) -> Self {
        let level = Compression::new(level.min(9));
        Self {
            stream: Compress::new_with_window_bits(level, false, window_bits.clamp(9, 15)),
            used: false,
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
        if self.used && !takeover {
            self.forget();
        }
        self.used = true;
        let start = out.len();
        let done = self.append(payload, out);
        if !done {
            out.truncate(start);
            self.forget();
        }
        done
    }

    /// Forgets the messages before: the next one stands by itself.
    pub fn forget(&mut self) {
        self.stream.reset();
        self.used = false;
    }

    fn append(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let before = self.stream.total_in();
        out.reserve(payload.len() / 2 + 64);
        loop {
            let taken = (self.stream.total_in() - before) as usize;
            let rest = payload.get(taken..).unwrap_or_default();
            let full = out.capacity();
            let result = self.stream.compress_vec(rest, out, FlushCompress::Sync);
            if result.is_err() {
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
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}
