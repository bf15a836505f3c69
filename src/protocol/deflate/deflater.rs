//! Messages to compressed ones.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};

use super::single::Alone;
use super::{Context, TAIL};

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

    /// Appends the compressed message whose payload lies in several places, as
    /// [`message`](Self::message) does.
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

    /// Appends the next part of a message that is sent in several, none of them the last, for a frame
    /// of its own. The peer can expand all of it when it has come; an empty part has no bytes.
    ///
    /// The message may refer to those before unless [`forget`](Self::forget) was called before its
    /// first part. If a part is not sent, `forget` is called as well: then what follows, the same
    /// part once more for instance, does not refer to it, nor to anything else before.
    pub fn part(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if !part.is_empty() {
            self.append_or_store(part, out);
            // It is left out where the message ends, and there alone.
            out.extend_from_slice(&TAIL);
        }
    }

    /// Appends the last part of a message, which may be empty, as [`part`](Self::part) does.
    pub fn end(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if part.is_empty() {
            // RFC 7692, 7.2.3.6: the header of an empty block.
            out.push(0);
        } else {
            self.append_or_store(part, out);
        }
    }

    /// Forgets the messages before: the next one stands by itself. It is called when the peer was not
    /// sent one of them, or was sent something else; the work is left for that next one.
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

    /// Appends a part by zlib, or as it is if that fails.
    fn append_or_store(&mut self, part: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        if self.append(part, out) {
            return;
        }
        out.truncate(start);
        self.forget();
        // RFC 1951, 3.2.4: what was there ends with a byte, so these blocks begin with one.
        for block in part.chunks(usize::from(u16::MAX)) {
            let len = block.len() as u16;
            out.push(0);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&(!len).to_le_bytes());
            out.extend_from_slice(block);
        }
        out.push(0);
    }

    /// Returns what compresses, with nothing in it that is not to be referred to.
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

    /// Takes a part in that others follow, and appends what comes of it by now.
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

    /// Appends a part and flushes, without the tail.
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
            // zlib.h, deflate: if it returns with room left, all is flushed.
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
