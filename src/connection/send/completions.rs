//! Callbacks that wait until a message was sent.

use std::collections::VecDeque;
use std::ops::Range;

use crate::error::SendError;

/// Callbacks of type `D` that wait until a message was sent, or was dropped.
///
/// Positions count the bytes of the queue from the first callback on.
pub(crate) struct Completions<D> {
    /// In the order that their messages leave.
    waiting: VecDeque<Completion<D>>,
    /// Those whose message was dropped.
    dropped: VecDeque<D>,
    /// The position up to which the kernel, or TLS, took the queue.
    taken: u64,
    /// The position up to which the bytes are known to be with the kernel: behind `taken` where TLS
    /// holds some back.
    written: u64,
}

struct Completion<D> {
    /// The position of the end of its message.
    end: u64,
    done: D,
}

impl<D> Default for Completions<D> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            dropped: VecDeque::new(),
            // So that `written` can be less.
            taken: 1,
            written: 0,
        }
    }
}

impl<D> Completions<D> {
    /// Has `done` called when everything is sent that is queued by now: `queued` bytes.
    pub(crate) fn await_sent(&mut self, queued: usize, done: D) {
        // What TLS took of it may not be with the kernel.
        self.written = self.written.min(self.taken - 1);
        let end = self.taken + queued as u64;
        self.waiting.push_back(Completion { end, done });
    }

    /// Has `done` called because its message was dropped.
    pub(crate) fn await_dropped(&mut self, done: D) {
        self.dropped.push_back(done);
    }

    /// Notes that bytes of the queue were taken: by the kernel, or by TLS.
    pub(crate) fn note_taken(&mut self, bytes: usize, is_secure: bool) {
        self.taken += bytes as u64;
        if !is_secure {
            self.written = self.taken;
        }
    }

    /// Notes that everything taken is with the kernel.
    pub(crate) fn note_written(&mut self) {
        self.written = self.taken;
    }

    /// Notes that a range of the queue was dropped, counted from its oldest byte.
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

    /// Returns how many callbacks can be called.
    pub(crate) fn ready(&self) -> usize {
        let is_sent = |waiting: &Completion<D>| waiting.end <= self.written;
        self.dropped.len() + self.waiting.partition_point(is_sent)
    }

    /// Takes the next callback that can be called, with its result. If the connection is `over`,
    /// the others follow.
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
