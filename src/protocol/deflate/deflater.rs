//! Compression of messages.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};

use super::single::Alone;
use super::{Context, TAIL};

/// Compresses messages (RFC 7692, 7.2.1).
///
/// At level 1, messages of up to 32 KiB that fit into the window and refer to no others are
/// compressed by wsloop's own code, which takes 20 KB and a fraction of the time. zlib compresses
/// all others; it takes 190 to 330 KB, depending on its window, from the first such message on.
pub struct Deflater {
    level: u32,
    window_bits: u8,
    alone: Alone,
    stream: Option<Compress>,
    /// Whether the stream holds earlier messages.
    used: bool,
    /// Whether the stream's history must not be referred to, because the peer's window differs.
    stale: bool,
}

impl Deflater {
    /// Makes a deflater with a `level` of 0 to 9 and a window of `window_bits` 9 to 15; values out
    /// of range are clamped.
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
    /// With `takeover` it may refer to earlier messages, all of which must have been sent to the
    /// same peer; without, it is compressed by itself.
    ///
    /// Returns `false` if zlib fails, for which it documents no reason. `out` is unchanged then,
    /// the earlier messages are forgotten, and the message has to be sent uncompressed.
    #[must_use]
    pub fn message(&mut self, payload: &[u8], context: Context, out: &mut Vec<u8>) -> bool {
        if payload.is_empty() {
            // RFC 7692, 7.2.3.6: the header of an empty block.
            out.push(0);
            return true;
        }
        if self.is_small(payload.len(), context) {
            self.alone.message(payload, out);
            self.stale = true;
            return true;
        }
        self.whole(&[payload], context, out)
    }

    /// Appends the compressed message whose payload is the concatenation of `parts`, like
    /// [`message`](Self::message).
    #[must_use]
    pub fn gathered(&mut self, parts: &[&[u8]], context: Context, out: &mut Vec<u8>) -> bool {
        let mut some = parts.iter().filter(|part| !part.is_empty());
        let (first, second) = (some.next(), some.next());
        if second.is_none() {
            return self.message(first.copied().unwrap_or_default(), context, out);
        }
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if self.is_small(size, context) {
            // What is small is cheaper to join than to go through zlib.
            return self.message(&parts.concat(), context, out);
        }
        self.whole(parts, context, out)
    }

    /// Appends a part of a message, not the last, compressed for a frame of its own. The peer can
    /// inflate the part as soon as it arrives; an empty part gives no bytes.
    ///
    /// The message may refer to earlier ones unless [`forget`](Self::forget) is called before its
    /// first part. The caller also calls `forget` if it does not send a part: the next part, for
    /// example the same one again, then refers to nothing before it.
    pub fn part(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if !part.is_empty() {
            self.append_or_store(part, out);
            // The tail is left out at the end of the message only.
            out.extend_from_slice(&TAIL);
        }
    }

    /// Appends the last part of a message, which may be empty, like [`part`](Self::part).
    pub fn end(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if part.is_empty() {
            // RFC 7692, 7.2.3.6: the header of an empty block.
            out.push(0);
        } else {
            self.append_or_store(part, out);
        }
    }

    /// Forgets earlier messages: the next one is compressed by itself. Must be called if one of
    /// them was not sent to the peer, or the peer was sent another. The reset itself is left to the
    /// next message.
    pub fn forget(&mut self) {
        self.stale = true;
    }

    /// Returns whether a message is compressed by wsloop's own means.
    fn is_small(&self, size: usize, context: Context) -> bool {
        context == Context::Reset
            && self.level == 1
            && size <= Alone::MAX.min(1 << self.window_bits)
    }

    /// Appends a message by zlib.
    fn whole(&mut self, parts: &[&[u8]], context: Context, out: &mut Vec<u8>) -> bool {
        if context == Context::Reset {
            self.forget();
        }
        let start = out.len();
        let done = parts.split_last().is_some_and(|(last, others)| {
            others.iter().all(|part| self.feed(part, out)) && self.append(last, out)
        });
        if !done {
            out.truncate(start);
            self.forget();
        }
        done
    }

    /// Appends a part compressed by zlib, or uncompressed if that fails.
    fn append_or_store(&mut self, part: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        if self.append(part, out) {
            return;
        }
        out.truncate(start);
        self.forget();
        // RFC 1951, 3.2.4: the output before ends at a byte boundary, so these blocks begin at one.
        for block in part.chunks(usize::from(u16::MAX)) {
            let len = block.len() as u16;
            out.push(0);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&(!len).to_le_bytes());
            out.extend_from_slice(block);
        }
        out.push(0);
    }

    /// Returns the zlib stream, reset if its history must not be referred to.
    fn stream(&mut self) -> &mut Compress {
        let stream = self.stream.get_or_insert_with(|| {
            let level = Compression::new(self.level);
            Compress::new_with_window_bits(level, false, self.window_bits)
        });
        if self.used && self.stale {
            stream.reset();
        }
        (self.used, self.stale) = (true, false);
        stream
    }

    /// Compresses a part that others follow, and appends the output available so far.
    fn feed(&mut self, mut part: &[u8], out: &mut Vec<u8>) -> bool {
        let stream = self.stream();
        while !part.is_empty() {
            out.reserve(part.len() / 2 + 64);
            let before = stream.total_in();
            if stream.compress_vec(part, out, FlushCompress::None).is_err() {
                return false;
            }
            let taken = (stream.total_in() - before) as usize;
            part = part.get(taken..).unwrap_or_default();
        }
        true
    }

    /// Appends a part and a flush, without the tail.
    fn append(&mut self, part: &[u8], out: &mut Vec<u8>) -> bool {
        let stream = self.stream();
        let before = stream.total_in();
        out.reserve(part.len() / 2 + 64);
        loop {
            let taken = (stream.total_in() - before) as usize;
            let rest = part.get(taken..).unwrap_or_default();
            let full = out.capacity();
            if stream.compress_vec(rest, out, FlushCompress::Sync).is_err() {
                return false;
            }
            // zlib.h, deflate: if it returns with room left in the output, all is flushed.
            if out.len() < full {
                break;
            }
            out.reserve(part.len() / 2 + 64);
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
