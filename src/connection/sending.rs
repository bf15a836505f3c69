//! Writing to the kernel, and what is remembered of it where it is out of the usual: a message in
//! parts, who waits to be told, a low-water mark.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::cursor::Connection;
use super::outbox::Outbox;
use super::parts::Partial;
use super::peer::{Marks, Peer};
use crate::config::SlowConsumer;
use crate::error::{HandlerError, SendError};

/// Who waits to be told what became of a message.
pub(crate) type Done =
    Box<dyn FnOnce(&mut Connection<'_>, Result<(), SendError>) -> Result<(), HandlerError>>;

/// What is remembered of sending where it is out of the usual.
pub(super) struct Sending {
    /// The message that was begun and has not ended.
    pub(super) message: Option<Partial>,
    /// The connection's own mark for `Drain`, in bytes.
    drain_at: Option<usize>,
    /// Who waits, in the order that their messages leave.
    waiting: VecDeque<Completion>,
    /// Whose message was dropped.
    dropped: VecDeque<Done>,
    /// Bytes of the queue that were taken by the kernel, or by TLS, while someone waited.
    taken: u64,
    /// How many of them are known to be with the kernel: behind `taken` where TLS holds some back.
    written: u64,
}

struct Completion {
    /// The end of what is waited for, counted as `taken` is.
    end: u64,
    done: Done,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            message: None,
            drain_at: None,
            waiting: VecDeque::new(),
            dropped: VecDeque::new(),
            // So that `written` can be less.
            taken: 1,
            written: 0,
        }
    }
}

impl Peer {
    /// Writes `before` and `slices`, fewer than [`Outbox::SLICES`], as
    /// [`write_through`](Self::write_through) does.
    pub(super) fn write_gathered(&mut self, before: &[u8], slices: &[&[u8]]) {
        if self.is_broken() {
            return;
        }
        let result = match self.outbox {
            None => {
                let mut gathered = [IoSlice::new(before); Outbox::SLICES];
                for (place, slice) in gathered[1..].iter_mut().zip(slices) {
                    *place = IoSlice::new(slice);
                }
                self.transport.write(&gathered[..=slices.len()])
            }
            Some(_) => Ok(0),
        };
        let all = std::iter::once(before).chain(slices.iter().copied());
        self.keep_rest(all, result);
    }

    /// Offers the kernel frames that are not to be queued, once everything before them was taken;
    /// returns how many bytes of them it took. A fault is kept until the reactor looks.
    pub(super) fn write_offered(&mut self, pieces: &[&[u8]], drain_at: usize) -> usize {
        // The kernel is full: it says when it is not.
        if self.marks.has(Marks::BLOCKED) {
            return 0;
        }
        self.flush_early(drain_at);
        if self.is_broken() || self.is_queued() || self.marks.has(Marks::BLOCKED) {
            return 0;
        }
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        match self.transport.write(&slices) {
            Ok(0) => {
                self.marks.set(Marks::BLOCKED);
                0
            }
            Ok(taken) => taken,
            Err(error) => {
                self.set_broken(error);
                0
            }
        }
    }

    /// Writes what is queued; returns whether nothing is left. `drain_at` is the server's.
    pub(crate) fn flush(&mut self, drain_at: usize) -> io::Result<bool> {
        if let Some(error) = self.take_broken() {
            self.drop_outbox();
            return Err(error);
        }
        self.note_level(drain_at);
        if self.marks.has(Marks::AWAITED) && self.transport.flush()? {
            self.note_written();
        }
        while let Some(outbox) = self.outbox.as_deref_mut() {
            let mut slices = [IoSlice::new(&[]); Outbox::SLICES];
            let count = outbox.slices(&mut slices);
            let slices = &slices[..count];
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let taken = self.transport.write(slices)?;
            if self.marks.has(Marks::BLOCKED) && taken > 0 {
                self.marks.set(Marks::PROGRESS);
            }
            outbox.consume(taken);
            let left = outbox.len();
            if self.marks.has(Marks::AWAITED) {
                self.note_taken(taken);
            }
            if taken < offered {
                self.marks.set(Marks::BLOCKED);
                self.note_level(drain_at);
                return Ok(false);
            }
            if left == 0 {
                self.drop_outbox();
            }
        }
        let flushed = self.transport.flush()?;
        if flushed {
            if self.marks.take(Marks::BLOCKED) {
                // What TLS held back is gone as well.
                self.marks.set(Marks::PROGRESS);
            }
            if self.marks.has(Marks::AWAITED) {
                self.note_written();
            }
        } else {
            self.marks.set(Marks::BLOCKED);
            self.note_level(drain_at);
        }
        Ok(flushed)
    }

    /// Offers the kernel what is queued, from inside a handler. A fault is kept until the reactor
    /// looks.
    pub(crate) fn flush_early(&mut self, drain_at: usize) {
        if self.is_broken() {
            return;
        }
        if let Err(error) = self.flush(drain_at) {
            self.set_broken(error);
        }
    }

    /// Returns whether bytes may be queued that the kernel was not offered yet, though it may have
    /// room for them: they wait where it is known what they are.
    pub(super) fn is_held_back(&self) -> bool {
        let is_known =
            self.marks.has(Marks::AWAITED) || self.slow_consumer == SlowConsumer::DropOldest;
        is_known && !self.marks.has(Marks::BLOCKED)
    }

    fn sending(&self) -> Option<&Sending> {
        self.extras()?.sending.as_deref()
    }

    fn sending_mut(&mut self) -> &mut Sending {
        self.extras_mut().sending.get_or_insert_default()
    }

    /// Returns the low-water mark for `Drain`, in bytes; `server` is the server's.
    pub(crate) fn drain_at(&self, server: usize) -> usize {
        let own = self.sending().and_then(|sending| sending.drain_at);
        own.unwrap_or(server)
    }

    pub(super) fn set_drain_at(&mut self, bytes: usize) {
        self.sending_mut().drain_at = Some(bytes);
    }

    /// Notes whether so much was left over that a `Drain` will be due.
    fn note_level(&mut self, drain_at: usize) {
        if self.marks.has(Marks::BLOCKED) && !self.marks.has(Marks::ABOVE) {
            let drain_at = self.drain_at(drain_at);
            if drain_at == 0 || self.backlog() > drain_at {
                self.marks.set(Marks::ABOVE);
            }
        }
    }

    /// Returns whether a `Drain` is due: more than the mark was left over, and now no more than it
    /// is. `flushed` says that nothing is.
    pub(crate) fn is_drained(&self, flushed: bool, drain_at: usize) -> bool {
        self.marks.has(Marks::ABOVE) && {
            let drain_at = self.drain_at(drain_at);
            flushed || (drain_at > 0 && self.backlog() <= drain_at)
        }
    }

    /// Notes that the `Drain` was delivered.
    pub(crate) fn set_drained(&mut self) {
        self.marks.take(Marks::ABOVE);
    }

    /// Returns the message that was begun and has not ended.
    pub(super) fn message(&self) -> Option<Partial> {
        self.sending()?.message
    }

    pub(super) fn set_message(&mut self, message: Option<Partial>) {
        if message.is_some() {
            self.marks.set(Marks::UNDER_WAY);
        } else {
            self.marks.take(Marks::UNDER_WAY);
        }
        self.sending_mut().message = message;
    }

    /// Returns whether a message that is sent in parts has not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.marks.has(Marks::UNDER_WAY)
    }

    /// Returns whether messages can be sent: it is open, and none is under way.
    #[inline(always)]
    pub(super) fn takes_messages(&self) -> bool {
        !self.marks.has(Marks::NOT_OPEN | Marks::UNDER_WAY)
    }

    /// Has `done` told when everything is sent that was queued until now.
    pub(super) fn await_sent(&mut self, done: Done) {
        self.marks.set(Marks::AWAITED);
        let queued = self.backlog() as u64;
        let sending = self.sending_mut();
        // What TLS took of it may not be with the kernel.
        sending.written = sending.written.min(sending.taken - 1);
        let end = sending.taken + queued;
        sending.waiting.push_back(Completion { end, done });
    }

    /// Has `done` told that its message was dropped.
    pub(super) fn await_dropped(&mut self, done: Done) {
        self.marks.set(Marks::AWAITED);
        self.sending_mut().dropped.push_back(done);
    }

    /// Notes how many bytes of the queue were taken, while someone waits.
    fn note_taken(&mut self, bytes: usize) {
        let is_secure = self.marks.has(Marks::SECURE);
        let sending = self.sending_mut();
        sending.taken += bytes as u64;
        if !is_secure {
            sending.written = sending.taken;
        }
    }

    /// Notes that everything taken is with the kernel, while someone waits.
    fn note_written(&mut self) {
        let sending = self.sending_mut();
        sending.written = sending.taken;
    }

    /// Returns whether someone waits to be told.
    pub(crate) fn is_awaited(&self) -> bool {
        self.marks.has(Marks::AWAITED)
    }

    /// Returns how many of those who wait can be told.
    pub(crate) fn count_told(&self) -> usize {
        if !self.marks.has(Marks::AWAITED) {
            return 0;
        }
        self.sending().map_or(0, |sending| {
            let is_sent = |waiting: &Completion| waiting.end <= sending.written;
            sending.dropped.len() + sending.waiting.partition_point(is_sent)
        })
    }

    /// Takes the next of those who wait that can be told, or else, if the connection is `over`,
    /// that never will be.
    pub(crate) fn take_told(&mut self, over: bool) -> Option<(Done, Result<(), SendError>)> {
        if !self.marks.has(Marks::AWAITED) {
            return None;
        }
        let sending = self.sending_mut();
        let written = sending.written;
        let told = if let Some(done) = sending.dropped.pop_front() {
            Some((done, Err(SendError::Dropped)))
        } else {
            let first = sending.waiting.front();
            let is_sent = first.is_some_and(|first| first.end <= written);
            let result = if is_sent {
                Ok(())
            } else {
                Err(SendError::Gone)
            };
            let next = if is_sent || over {
                sending.waiting.pop_front()
            } else {
                None
            };
            next.map(|waiting| (waiting.done, result))
        };
        if sending.dropped.is_empty() && sending.waiting.is_empty() {
            self.marks.take(Marks::AWAITED);
        }
        told
    }

    /// Drops the oldest messages that lie side by side, until that makes `excess` bytes less or
    /// something else lies behind them; returns how many.
    pub(super) fn drop_oldest(&mut self, excess: usize) -> u64 {
        let Some(outbox) = self.outbox.as_deref_mut() else {
            return 0;
        };
        let (bytes, count) = outbox.drop_oldest(excess);
        if outbox.len() == 0 {
            self.drop_outbox();
        }
        if count > 0 && self.marks.has(Marks::AWAITED) {
            let sending = self.sending_mut();
            let start = sending.taken + bytes.start as u64;
            let end = sending.taken + bytes.end as u64;
            let first = sending.waiting.partition_point(|each| each.end <= start);
            let behind = sending.waiting.partition_point(|each| each.end <= end);
            for each in sending.waiting.range_mut(behind..) {
                each.end -= end - start;
            }
            let dropped = sending.waiting.drain(first..behind);
            sending.dropped.extend(dropped.map(|each| each.done));
        }
        count
    }

    /// Sets what happens to messages beyond `max_backlog`. What is queued by now stays.
    pub(super) fn set_slow_consumer(&mut self, policy: SlowConsumer) {
        if self.slow_consumer == policy {
            return;
        }
        self.slow_consumer = policy;
        if let Some(outbox) = self.outbox.as_deref_mut() {
            outbox.forget_units();
            if policy == SlowConsumer::DropOldest {
                outbox.note(outbox.len(), false);
            }
        }
    }
}
