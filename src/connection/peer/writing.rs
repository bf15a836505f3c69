//! Writing to the kernel, and queueing what it does not take.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::{Marks, Peer, Phase};
use crate::connection::send::{COPY_MAX, Kind, Outbox, Replaced, Tag};
use crate::limits::SlowConsumer;
use crate::topics::{Form, Place};

impl Peer {
    /// Writes `before` and `slices`, fewer than [`Outbox::SLICES`], as
    /// [`write_through`](Self::write_through) does.
    pub(crate) fn write_gathered(&mut self, before: &[u8], slices: &[&[u8]]) {
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
        match result {
            Ok(taken) if taken >= before.len() => self.keep_rest(slices, Ok(taken - before.len())),
            Ok(taken) => {
                self.keep_rest(&[before], Ok(taken));
                self.keep_rest(slices, Ok(0));
            }
            Err(error) => self.set_broken(error),
        }
    }

    /// Offers the kernel frames that are not to be queued, once it has taken everything before
    /// them. Returns how many bytes of them it took; an error is kept for the reactor.
    pub(crate) fn write_offered(&mut self, pieces: &[&[u8]], drain_at: usize) -> usize {
        // The kernel is full; an event reports when it is not.
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

    /// Writes queued data; returns whether nothing is left. `drain_at` is the server's setting.
    pub(crate) fn flush(&mut self, drain_at: usize) -> io::Result<bool> {
        if let Some(error) = self.take_broken() {
            self.drop_outbox();
            return Err(error);
        }
        self.note_level(drain_at);
        if self.marks.has(Marks::AWAITED) && self.transport.flush()? {
            self.completions_mut().note_written();
        }
        while let Some(outbox) = self.outbox.as_deref_mut() {
            let transport = &mut self.transport;
            let logged = |bytes: &[u8]| (transport.write(&[IoSlice::new(bytes)]), bytes.len());
            let (taken, offered) = match outbox.only() {
                _ if let Some((taken, offered)) = outbox.with_logged(logged) => (taken?, offered),
                Some(bytes) => (self.transport.write(&[IoSlice::new(bytes)])?, bytes.len()),
                None => {
                    let mut slices = [IoSlice::new(&[]); Outbox::SLICES];
                    let count = outbox.slices(&mut slices);
                    let slices = &slices[..count];
                    let offered = slices.iter().map(|slice| slice.len()).sum();
                    (self.transport.write(slices)?, offered)
                }
            };
            if self.marks.has(Marks::BLOCKED) && taken > 0 {
                self.marks.set(Marks::PROGRESS);
            }
            outbox.consume(taken);
            let left = outbox.len();
            if self.marks.has(Marks::AWAITED) {
                let is_secure = self.marks.has(Marks::SECURE);
                self.completions_mut().note_taken(taken, is_secure);
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
                // The kernel has the data that TLS held back as well.
                self.marks.set(Marks::PROGRESS);
            }
            if self.marks.has(Marks::AWAITED) {
                self.completions_mut().note_written();
            }
        } else {
            self.marks.set(Marks::BLOCKED);
            self.note_level(drain_at);
        }
        Ok(flushed)
    }

    /// Offers queued data to the kernel from inside a handler; an error is kept for the reactor.
    pub(crate) fn flush_early(&mut self, drain_at: usize) {
        if self.is_broken() {
            return;
        }
        if let Err(error) = self.flush(drain_at) {
            self.set_broken(error);
        }
    }

    /// Returns whether bytes may be queued that the kernel was not offered yet, though it may have
    /// room for them.
    pub(crate) fn is_held_back(&self) -> bool {
        !self.marks.has(Marks::BLOCKED)
    }

    /// Returns the low-water mark for `Drain`, in bytes; `server` is the server's setting.
    pub(crate) fn drain_at(&self, server: usize) -> usize {
        let own = self.extras().and_then(|extras| extras.drain_at);
        own.unwrap_or(server)
    }

    pub(crate) fn set_drain_at(&mut self, bytes: usize) {
        self.extras_mut().drain_at = Some(bytes);
    }

    /// Records whether so much data was left that a `Drain` will be due.
    fn note_level(&mut self, drain_at: usize) {
        if self.marks.has(Marks::BLOCKED) && !self.marks.has(Marks::ABOVE) {
            let is_above = self.is_above(drain_at);
            self.marks.put(Marks::ABOVE, is_above);
        }
    }

    /// Returns whether a `Drain` is due: more than the low-water mark was left, and now it is not.
    /// `flushed` says that nothing is left.
    pub(crate) fn is_drained(&self, flushed: bool, drain_at: usize) -> bool {
        self.marks.has(Marks::ABOVE) && {
            let drain_at = self.drain_at(drain_at);
            flushed || (drain_at > 0 && self.backlog() <= drain_at)
        }
    }

    /// Returns whether a `Drain` is to come.
    pub(crate) fn is_congested(&self, drain_at: usize) -> bool {
        // The first is noted when the connection is settled, after the handler that sent.
        self.marks.has(Marks::ABOVE) || (self.marks.has(Marks::BLOCKED) && self.is_above(drain_at))
    }

    /// Returns whether more is queued than the low-water mark for `Drain`.
    fn is_above(&self, drain_at: usize) -> bool {
        let drain_at = self.drain_at(drain_at);
        drain_at == 0 || self.backlog() > drain_at
    }

    /// Records that the `Drain` was delivered.
    pub(crate) fn set_drained(&mut self) {
        self.marks.take(Marks::ABOVE);
    }

    /// Drops the oldest messages until at most `room` bytes are queued, or no message can be
    /// dropped. Returns how many were dropped.
    pub(crate) fn drop_above(&mut self, room: usize) -> u64 {
        let mut dropped = 0;
        while let excess @ 1.. = self.backlog().saturating_sub(room) {
            match self.drop_oldest(excess) {
                0 => break,
                count => dropped += count,
            }
        }
        dropped
    }

    /// Drops the oldest messages that are adjacent, until `excess` bytes are freed or other data
    /// follows; returns how many were dropped.
    fn drop_oldest(&mut self, excess: usize) -> u64 {
        let Some(outbox) = self.outbox.as_deref_mut() else {
            return 0;
        };
        let (bytes, count) = outbox.drop_oldest(excess);
        if outbox.len() == 0 {
            self.drop_outbox();
        }
        if count > 0 && self.marks.has(Marks::AWAITED) {
            self.completions_mut().drop_range(bytes);
        }
        count
    }

    /// Sets the policy for messages beyond `max_backlog`; data that is queued already stays.
    pub(crate) fn set_slow_consumer(&mut self, policy: SlowConsumer) {
        if self.slow_consumer == policy {
            return;
        }
        self.slow_consumer = policy;
        if let Some(outbox) = self.outbox.as_deref_mut() {
            outbox.copy_logged();
            outbox.forget_units();
            if policy == SlowConsumer::DropOldest {
                outbox.note(outbox.len(), false);
            }
        }
    }

    /// Returns how many queued bytes the kernel has not taken.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.as_deref().map_or(0, Outbox::len)
    }

    /// Returns how many bytes the kernel has taken of the queue since the last call, provided that
    /// nothing was added to the queue; 0 at the first call.
    pub(crate) fn take_sent(&mut self) -> u64 {
        let mark = self.sent_mark();
        let before = match self.passing.as_deref_mut() {
            Some(passing) => std::mem::replace(&mut passing.sent_mark, mark),
            None => mark,
        };
        if before == 0 {
            0
        } else {
            mark.saturating_sub(before)
        }
    }

    /// Records how many bytes the peer has acknowledged by `now`; returns the record before that.
    pub(crate) fn note_acknowledged(&mut self, bytes: u64, now: u64) -> Option<(u64, u64)> {
        self.extras_mut().acknowledged.replace((bytes, now))
    }

    /// Returns how many bytes the peer had acknowledged when that was last recorded, and when that
    /// was.
    pub(crate) fn acknowledged(&self) -> Option<(u64, u64)> {
        self.extras()?.acknowledged
    }

    /// Forgets the record of acknowledged bytes.
    pub(crate) fn forget_acknowledged(&mut self) {
        if let Some(extras) = self.extras.as_deref_mut() {
            extras.acknowledged = None;
        }
    }

    /// Returns a number that grows by one with each byte that the kernel takes of the queue.
    fn sent_mark(&self) -> u64 {
        match self.transport.written() {
            Some(written) => written + 1,
            None => u64::MAX - self.backlog() as u64,
        }
    }

    /// Returns about how many bytes of memory the queue takes.
    pub(crate) fn queue_held(&self) -> usize {
        self.outbox.as_deref().map_or(0, Outbox::held)
    }

    /// Appends bytes to the queue.
    pub(crate) fn enqueue(&mut self, bytes: &[u8]) {
        self.enqueue_frame(&[bytes], Kind::Control);
    }

    /// Appends the pieces of a frame, or of several frames that belong together, to the queue.
    pub(crate) fn enqueue_frame(&mut self, pieces: &[&[u8]], kind: Kind) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        for piece in pieces {
            outbox.push(piece);
        }
        if is_noted {
            let len = pieces.iter().map(|piece| piece.len()).sum();
            outbox.note(len, kind == Kind::Message);
        }
    }

    /// Appends a message that other connections are sent as well.
    pub(crate) fn enqueue_shared(&mut self, bytes: &Arc<[u8]>) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        outbox.push_shared(bytes);
        if is_noted {
            outbox.note(bytes.len(), true);
        }
    }

    /// Appends a published message. If its topic has a policy of its own, that of the connection
    /// must not drop it.
    pub(crate) fn enqueue_form(&mut self, form: &mut Form, may_drop: bool) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        let len = form.bytes().len();
        match len <= COPY_MAX {
            true => outbox.push(form.bytes()),
            false => outbox.push_shared(form.share()),
        }
        if is_noted {
            outbox.note(len, may_drop);
        }
    }

    /// Appends a frame for many connections without a copy; returns false if that is not possible.
    /// `place` is where the frame was put for another connection.
    #[inline]
    pub(crate) fn enqueue_logged(&mut self, bytes: &[u8], place: &mut Option<Place>) -> bool {
        if self.slow_consumer == SlowConsumer::DropOldest {
            return false;
        }
        match self.outbox.as_deref_mut() {
            Some(outbox) => outbox.push_logged(bytes, place),
            None => {
                let mut outbox = Outbox::fresh();
                let is_queued = outbox.push_logged(bytes, place);
                if is_queued {
                    self.marks.set(Marks::QUEUED);
                    self.outbox = Some(outbox);
                }
                is_queued
            }
        }
    }

    /// Appends a message of a topic that may be replaced or dropped.
    pub(crate) fn enqueue_tagged(&mut self, bytes: &Arc<[u8]>, tag: Tag) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        outbox.push_tagged(bytes, tag);
        if is_noted {
            outbox.note(bytes.len(), false);
        }
    }

    /// Puts a message in the place of an unsent one with the same topic and key, unless more than
    /// `room` bytes are queued besides.
    pub(crate) fn replace(
        &mut self,
        topic: u64,
        key: &[u8],
        bytes: &Arc<[u8]>,
        room: usize,
    ) -> Replaced {
        let is_awaited = self.marks.has(Marks::AWAITED);
        let Some(outbox) = self.outbox.as_deref_mut() else {
            return Replaced::Nothing;
        };
        let replaced = outbox.replace(topic, key, bytes, room, is_awaited);
        if is_awaited && let Replaced::At(old) = &replaced {
            self.completions_mut()
                .resize_range(old.clone(), bytes.len());
        }
        replaced
    }

    /// Keeps the queued messages of a topic from being replaced or dropped from now on.
    #[inline(always)]
    pub(crate) fn fix_topic(&mut self, topic: u64) {
        if let Some(outbox) = self.outbox.as_deref_mut() {
            outbox.fix_topic(topic);
        }
    }

    /// Drops the oldest messages of a topic until at most `room` bytes are queued, or none of them
    /// can be dropped. Returns how many were dropped.
    pub(crate) fn drop_topic_above(&mut self, topic: u64, room: usize) -> u64 {
        let is_awaited = self.marks.has(Marks::AWAITED);
        let mut dropped = 0;
        while self.weight() > room {
            let outbox = self.outbox.as_deref_mut();
            let drop_one = |outbox: &mut Outbox| outbox.drop_oldest_of(topic, is_awaited);
            let Some(range) = outbox.and_then(drop_one) else {
                break;
            };
            dropped += 1;
            if is_awaited {
                self.completions_mut().drop_range(range);
            }
        }
        if dropped > 0 && self.backlog() == 0 {
            self.drop_outbox();
        }
        dropped
    }

    /// Returns how many bytes are queued, with the memory that messages of topics take beside
    /// theirs, so that many small ones are limited, too.
    pub(crate) fn weight(&self) -> usize {
        self.outbox.as_deref().map_or(0, Outbox::weight)
    }

    /// Limits the unsent data that the kernel takes to `bytes`, so that the rest can be replaced.
    pub(crate) fn limit_unsent(&mut self, bytes: u32) {
        if !self.marks.set(Marks::LIMITED) {
            self.transport.socket().limit_unsent(bytes);
        }
    }

    /// Queues the rest of a shared message that the kernel took in part. `write_offered`, which
    /// wrote that part, ensures that the queue is empty.
    pub(crate) fn keep_shared_rest(&mut self, bytes: &Arc<[u8]>, taken: usize) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        outbox.begin_shared(bytes, taken);
        if is_noted {
            outbox.note(bytes.len() - taken, false);
        }
        self.marks.set(Marks::BLOCKED);
    }

    /// Returns whether something is queued.
    pub(crate) fn is_queued(&self) -> bool {
        self.outbox.is_some()
    }

    /// Returns the queue, which is created if necessary, to append to.
    fn outbox_mut(&mut self) -> &mut Outbox {
        self.marks.set(Marks::QUEUED);
        let outbox = self.outbox.get_or_insert_with(Outbox::fresh);
        outbox.copy_logged();
        outbox
    }

    pub(crate) fn drop_outbox(&mut self) {
        self.marks.take(Marks::QUEUED);
        if let Some(outbox) = self.outbox.take() {
            outbox.recycle();
        }
    }

    /// Returns whether the connection is open, without TLS, counters and limits of its rate, and
    /// nothing is pending.
    #[inline(always)]
    pub(crate) fn is_quiet(&self) -> bool {
        debug_assert_eq!(self.marks.has(Marks::QUEUED), self.outbox.is_some());
        debug_assert_eq!(self.marks.has(Marks::NOT_OPEN), self.phase != Phase::Open);
        self.marks.is_quiet()
    }

    /// Returns whether only a queue keeps the connection from being quiet.
    #[inline(always)]
    pub(crate) fn has_only_queued(&self) -> bool {
        self.marks.has_only(Marks::QUEUED)
    }

    /// Writes `bytes` to a peer that is quiet; returns whether the kernel took all of them.
    /// Otherwise the rest is queued, or the error is kept for the reactor.
    #[inline(always)]
    pub(crate) fn write_fast(&mut self, bytes: &[u8]) -> bool {
        match self.transport.write_plain(bytes) {
            Ok(size) if size == bytes.len() => true,
            result => {
                self.write_rest(bytes, result);
                false
            }
        }
    }

    /// Continues after a write that did not take all of `bytes`.
    #[cold]
    fn write_rest(&mut self, bytes: &[u8], result: io::Result<usize>) {
        let result = match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return self.write_through(bytes);
            }
            result => result,
        };
        self.keep_rest(&[bytes], result);
    }

    /// Writes `bytes` at once if the queue is empty; queues what the kernel does not take.
    pub(crate) fn write_through(&mut self, bytes: &[u8]) {
        if self.is_broken() {
            return;
        }
        let result = match self.outbox {
            None => self.transport.write(&[IoSlice::new(bytes)]),
            Some(_) => Ok(0),
        };
        self.keep_rest(&[bytes], result);
    }

    /// Queues the rest of `slices` after a write, or keeps the error of the write for the reactor.
    pub(crate) fn keep_rest(&mut self, slices: &[&[u8]], result: io::Result<usize>) {
        let mut taken = match result {
            Ok(taken) => taken,
            Err(error) => {
                self.set_broken(error);
                return;
            }
        };
        for slice in slices {
            let skip = taken.min(slice.len());
            taken -= skip;
            if skip < slice.len() {
                self.enqueue(&slice[skip..]);
                self.marks.set(Marks::BLOCKED);
            }
        }
    }

    /// Keeps the error of a write for the reactor.
    pub(crate) fn set_broken(&mut self, error: io::Error) {
        self.passing_mut().broken = Some(error);
    }

    /// Takes the error of a write.
    pub(crate) fn take_broken(&mut self) -> Option<io::Error> {
        self.passing.as_deref_mut()?.broken.take()
    }

    pub(crate) fn is_broken(&self) -> bool {
        let passing = self.passing.as_deref();
        passing.is_some_and(|passing| passing.broken.is_some())
    }
}
