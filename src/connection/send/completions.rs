//! Completion callbacks, which are called when a message was sent or dropped.

use std::collections::VecDeque;
use std::ops::Range;

use crate::error::SendError;

/// Callbacks of type `D` that wait until a message was sent or dropped.
///
/// Positions count the bytes of the queue from the first callback on.
pub(crate) struct Completions<D> {
    /// In the order in which their messages leave.
    waiting: VecDeque<Completion<D>>,
    /// Callbacks whose messages were dropped.
    dropped: VecDeque<D>,
    /// The position up to which the kernel, or TLS, has taken the queue.
    taken: u64,
    /// The position up to which the kernel is known to have the data: less than `taken` where TLS
    /// holds some back.
    written: u64,
}

struct Completion<D> {
    /// The position at which its message ends.
    end: u64,
    done: D,
}

impl<D> Default for Completions<D> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            dropped: VecDeque::new(),
            // Not 0, so that `written` can be less.
            taken: 1,
            written: 0,
        }
    }
}

impl<D> Completions<D> {
    /// Registers `done`, to be called when the `queued` bytes that are in the queue now have been
    /// sent.
    pub(crate) fn await_sent(&mut self, queued: usize, done: D) {
        // TLS may hold back data that it has taken.
        self.written = self.written.min(self.taken - 1);
        let end = self.taken + queued as u64;
        self.waiting.push_back(Completion { end, done });
    }

    /// Registers `done`, to be called because its message was dropped.
    pub(crate) fn await_dropped(&mut self, done: D) {
        self.dropped.push_back(done);
    }

    /// Records that the kernel, or TLS, has taken bytes of the queue.
    pub(crate) fn note_taken(&mut self, bytes: usize, is_secure: bool) {
        self.taken += bytes as u64;
        if !is_secure {
            self.written = self.taken;
        }
    }

    /// Records that the kernel has everything that was taken.
    pub(crate) fn note_written(&mut self) {
        self.written = self.taken;
    }

    /// Records that a range of the queue was dropped, counted from its oldest byte.
    pub(crate) fn drop_range(&mut self, bytes: Range<usize>) {
        let start = self.taken + bytes.start as u64;
        let end = self.taken + bytes.end as u64;
        let first = self.waiting.partition_point(|each| each.end <= start);
        let behind = self.waiting.partition_point(|each| each.end <= end);
        for each in self.waiting.range_mut(behind..) {
            each.end -= end - start;
        }
        let dropped = self.waiting.drain(first..behind);
        self.dropped.extend(dropped.map(|each| each.done));
    }

    /// Records that a range of the queue, a message, was replaced by one of `len` bytes.
    pub(crate) fn resize_range(&mut self, bytes: Range<usize>, len: usize) {
        let start = self.taken + bytes.start as u64;
        let (old, new) = (bytes.len() as u64, len as u64);
        let first = self.waiting.partition_point(|each| each.end <= start);
        for each in self.waiting.range_mut(first..) {
            each.end = each.end - old + new;
        }
    }

    /// Returns how many callbacks can be called.
    pub(crate) fn ready(&self) -> usize {
        let is_sent = |waiting: &Completion<D>| waiting.end <= self.written;
        self.dropped.len() + self.waiting.partition_point(is_sent)
    }

    /// Takes the next callback that can be called, with its result. If the connection is `over`,
    /// the callbacks of unsent messages follow.
    pub(crate) fn take(&mut self, over: bool) -> Option<(D, Result<(), SendError>)> {
        if let Some(done) = self.dropped.pop_front() {
            return Some((done, Err(SendError::Dropped)));
        }
        let written = self.written;
        let is_sent = self.waiting.front()?.end <= written;
        if !is_sent && !over {
            return None;
        }
        let result = match is_sent {
            true => Ok(()),
            false => Err(SendError::Gone),
        };
        Some((self.waiting.pop_front()?.done, result))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.waiting.is_empty()
    }
}
