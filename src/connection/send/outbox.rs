//! Queued data that the kernel has not taken yet.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use super::tags::{Tag, Tags};
use crate::topics::{Logged, Place};

/// A queue of bytes for one connection, oldest first. An idle connection has none.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the kernel has taken.
    sent: usize,
    len: usize,
    /// An empty segment, for the next bytes that are copied.
    spare: Vec<u8>,
    /// What the bytes are, oldest first, if that has to be known: see [`note`](Self::note).
    /// Otherwise empty.
    units: VecDeque<Unit>,
    /// The number of segments that have left the queue since there are `tags`.
    left: u64,
    /// The messages that may be replaced or dropped, if there are any.
    tags: Option<Box<Tags>>,
    /// The number of segments that are [`Gone`](Segment::Gone).
    gone: usize,
    /// Published frames, instead of segments: only if there are none.
    logged: Option<Logged>,
}

/// Bytes that are sent or dropped together.
#[derive(Debug)]
struct Unit {
    len: usize,
    /// Whether it is a whole message of which nothing was sent yet.
    is_message: bool,
}

/// Empty queues, kept for reuse.
struct Spare {
    #[expect(clippy::vec_box, reason = "they come from boxes and go to boxes")]
    queues: Vec<Box<Outbox>>,
    /// Bytes of memory that they take.
    held: usize,
}

thread_local! {
    /// A broadcast needs a queue for each of its receivers, and all of them again in the next turn.
    /// Freed memory would be returned to the system, and every turn would fault it in again.
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare {
        queues: Vec::new(),
        held: 0,
    }) };
}

/// How much memory the queues that are kept for reuse may take, in bytes.
const SPARE_MAX: usize = 4 << 20;

/// Largest segment that is kept with a queue that is not empty, in bytes.
const SPARE_SEGMENT_MAX: usize = 4 << 10;

#[derive(Debug)]
enum Segment {
    Own(Vec<u8>),
    /// A message that other connections are sent as well.
    Shared(Arc<[u8]>),
    /// A message of a topic that may be replaced or dropped, until its first byte leaves.
    Tagged(Arc<[u8]>, Tag),
    /// A message that was dropped. It keeps the places of the others; never the first segment.
    Gone,
}

/// The result of [`Outbox::replace`].
pub(crate) enum Replaced {
    /// The message is in the place of one that was here, counted from the oldest byte of the queue.
    At(Range<usize>),
    /// There is a message with this key, and no room for one that is larger.
    NoRoom,
    /// There is no message with this key.
    Nothing,
}

impl Outbox {
    /// Most slices of one write.
    pub(crate) const SLICES: usize = 16;

    /// Returns an empty queue, which may be reused.
    pub(crate) fn fresh() -> Box<Self> {
        let spare = SPARE.with_borrow_mut(|spare| {
            let queue = spare.queues.pop()?;
            spare.held -= queue.spare_held();
            Some(queue)
        });
        spare.unwrap_or_default()
    }

    /// Discards the queued data, and keeps the queue for reuse.
    pub(crate) fn recycle(mut self: Box<Self>) {
        // Nearly always the queue is empty already, and small.
        if !self.segments.is_empty() {
            self.segments.clear();
        }
        if self.segments.capacity() > Self::SLICES {
            self.segments.shrink_to(Self::SLICES);
        }
        (self.sent, self.len, self.gone) = (0, 0, 0);
        self.logged = None;
        if self.units.capacity() > 0 {
            self.units.clear();
            self.units.shrink_to(Self::SLICES);
        }
        if self.tags.is_some() {
            self.tags = None;
        }
        SPARE.with_borrow_mut(|spare| {
            let held = spare.held + self.spare_held();
            if held <= SPARE_MAX {
                spare.held = held;
                spare.queues.push(self);
            }
        });
    }

    /// Returns how large a segment may be that is kept with the queue, in bytes.
    fn spare_segment_max(&self) -> usize {
        match self.segments.is_empty() {
            true => 2 * SEGMENT_MAX,
            false => SPARE_SEGMENT_MAX,
        }
    }

    /// Returns how many bytes of memory the empty queue takes.
    #[inline(always)]
    fn spare_held(&self) -> usize {
        size_of::<Self>()
            + self.spare.capacity()
            + self.segments.capacity() * size_of::<Segment>()
            + self.units.capacity() * size_of::<Unit>()
    }

    /// Drops the queues kept for reuse, so that a test does not depend on earlier ones.
    #[cfg(test)]
    pub(crate) fn forget_spare() {
        SPARE.with_borrow_mut(|spare| {
            spare.queues.clear();
            spare.held = 0;
        });
    }

    /// Returns how many bytes are queued.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns about how many bytes of memory the queue takes, without the messages that are
    /// [shared](Self::shared).
    pub(crate) fn held(&self) -> usize {
        let held = |segment: &Segment| match segment {
            Segment::Own(bytes) => bytes.capacity(),
            Segment::Tagged(bytes, _) if bytes.len() <= COPY_MAX => bytes.len(),
            Segment::Shared(_) | Segment::Tagged(..) | Segment::Gone => 0,
        };
        let segments: usize = self.segments.iter().map(held).sum();
        let tags = self.tags_held();
        let lists = self.segments.capacity() * size_of::<Segment>()
            + self.units.capacity() * size_of::<Unit>();
        size_of::<Self>() + self.spare.capacity() + segments + tags + lists
    }

    /// Yields the messages that other connections are sent as well.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Shared(bytes) => Some(bytes),
            Segment::Tagged(bytes, _) => (bytes.len() > COPY_MAX).then_some(bytes),
            Segment::Own(_) | Segment::Gone => None,
        })
    }

    /// Appends a frame for many connections without a copy; returns false if that is not possible.
    /// `place` is where the frame was put for another connection.
    #[inline]
    pub(crate) fn push_logged(&mut self, bytes: &[u8], place: &mut Option<Place>) -> bool {
        // What the kernel does not take of a large frame is shared, not copied.
        if bytes.len() > COPY_MAX || (self.logged.is_none() && self.len > 0) {
            return false;
        }
        *place = Place::of(bytes, *place);
        let Some(place) = *place else {
            return false;
        };
        let is_queued = match &mut self.logged {
            Some(logged) => logged.extend(place),
            logged => {
                *logged = Some(Logged::new(place));
                true
            }
        };
        if is_queued {
            self.len += bytes.len();
        }
        is_queued
    }

    /// Copies the frames that the queue refers to, so that others can follow.
    #[inline]
    pub(crate) fn copy_logged(&mut self) {
        if self.logged.is_some() {
            self.copy_all_logged();
        }
    }

    #[inline(never)]
    fn copy_all_logged(&mut self) {
        if let Some(logged) = self.logged.take() {
            self.len = 0;
            logged.with(|bytes| self.push(bytes));
        }
    }

    /// Calls `write` with the frames that the queue refers to; `None` if there are none.
    #[inline]
    pub(crate) fn with_logged<T>(&self, write: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.logged.as_ref().map(|logged| logged.with(write))
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if let Some(Segment::Own(last)) = self.segments.back_mut()
            && last.len() + bytes.len() <= SEGMENT_MAX
        {
            last.extend_from_slice(bytes);
        } else if !bytes.is_empty() {
            let mut segment = std::mem::take(&mut self.spare);
            segment.extend_from_slice(bytes);
            self.segments.push_back(Segment::Own(segment));
        }
    }

    /// Appends a shared message, without a copy if it is large.
    pub(crate) fn push_shared(&mut self, bytes: &Arc<[u8]>) {
        if bytes.len() <= COPY_MAX {
            return self.push(bytes);
        }
        self.len += bytes.len();
        self.segments.push_back(Segment::Shared(bytes.clone()));
    }

    /// Begins the empty queue with a shared message, of which `sent` bytes were written.
    pub(crate) fn begin_shared(&mut self, bytes: &Arc<[u8]>, sent: usize) {
        debug_assert!(self.len == 0, "only an empty queue is begun");
        if bytes.len() - sent <= COPY_MAX {
            return self.push(bytes.get(sent..).unwrap_or_default());
        }
        self.sent = sent;
        self.len = bytes.len() - sent;
        self.segments.push_back(Segment::Shared(bytes.clone()));
    }

    /// Appends a message of a topic that may be replaced or dropped.
    pub(crate) fn push_tagged(&mut self, bytes: &Arc<[u8]>, tag: Tag) {
        let place = self.left + self.segments.len() as u64;
        self.tags.get_or_insert_default().insert(&tag, place);
        self.len += bytes.len();
        self.segments.push_back(Segment::Tagged(bytes.clone(), tag));
    }

    /// Returns how many bytes are queued, and about how many the entries of messages with tags
    /// take beside them.
    pub(crate) fn weight(&self) -> usize {
        self.len + self.tags_held()
    }

    fn tags_held(&self) -> usize {
        self.tags.as_deref().map_or(0, Tags::held)
    }

    /// Keeps the messages of a topic from being replaced or dropped from now on.
    pub(crate) fn fix_topic(&mut self, topic: u64) {
        let Some(tags) = self.tags.as_deref_mut() else {
            return;
        };
        for segment in &mut self.segments {
            if let Segment::Tagged(bytes, tag) = segment
                && tag.is_of(topic)
            {
                tags.remove(tag);
                *segment = Segment::Shared(bytes.clone());
            }
        }
    }

    /// Puts a message in the place of the one with the same topic and key, unless more than `room`
    /// bytes are queued besides the old one. The returned range is correct only if `is_awaited`.
    pub(crate) fn replace(
        &mut self,
        topic: u64,
        key: &[u8],
        bytes: &Arc<[u8]>,
        room: usize,
        is_awaited: bool,
    ) -> Replaced {
        let weight = self.weight();
        let tags = self.tags.as_deref();
        let Some(place) = tags.and_then(|tags| tags.place_of(topic, key)) else {
            return Replaced::Nothing;
        };
        let index = (place - self.left) as usize;
        let start = self.offset(index, is_awaited);
        let Some(Segment::Tagged(old, _)) = self.segments.get_mut(index) else {
            return Replaced::Nothing;
        };
        // One that is not larger always fits.
        if bytes.len() > old.len() && weight - old.len() > room {
            return Replaced::NoRoom;
        }
        let range = start..start + old.len();
        self.len = self.len - old.len() + bytes.len();
        *old = bytes.clone();
        self.resize_unit(&range, bytes.len());
        Replaced::At(range)
    }

    /// Drops the oldest message of a topic. Returns where it was, counted from the oldest byte of
    /// the queue, which is correct only if `is_awaited`; `None` if there is none.
    pub(crate) fn drop_oldest_of(&mut self, topic: u64, is_awaited: bool) -> Option<Range<usize>> {
        let place = self.tags.as_deref()?.oldest_of(topic)?;
        let index = (place - self.left) as usize;
        let start = self.offset(index, is_awaited);
        let len = self.segments.get(index)?.bytes().len();
        let range = start..start + len;
        self.drop_segment(index);
        self.compact();
        self.len -= len;
        self.resize_unit(&range, 0);
        Some(range)
    }

    /// Returns where a segment begins, counted from the oldest byte of the queue; 0 if neither
    /// callbacks nor units need it, since it takes time in proportion to the segments before.
    fn offset(&self, index: usize, is_awaited: bool) -> usize {
        if !is_awaited && self.units.is_empty() {
            return 0;
        }
        let before = self.segments.range(..index);
        let before: usize = before.map(|segment| segment.bytes().len()).sum();
        // The bytes before `sent` are not in the queue any more.
        before.saturating_sub(self.sent)
    }

    /// Removes a whole segment, and keeps the places of the others if they matter.
    fn drop_segment(&mut self, index: usize) {
        let Some(tags) = self.tags.as_deref_mut() else {
            self.segments.remove(index);
            return;
        };
        let dropped = std::mem::replace(&mut self.segments[index], Segment::Gone);
        if let Segment::Tagged(_, tag) = dropped {
            tags.remove(&tag);
        }
        self.gone += 1;
        while let Some(Segment::Gone) = self.segments.front() {
            self.segments.pop_front();
            self.left += 1;
            self.gone -= 1;
        }
    }

    /// Removes the segments that are gone, if they take more memory than the others.
    fn compact(&mut self) {
        if self.gone <= GONE_MAX || self.gone <= self.segments.len() / 2 {
            return;
        }
        self.segments
            .retain(|segment| !matches!(segment, Segment::Gone));
        self.gone = 0;
        let mut tags = Tags::default();
        for (place, segment) in (self.left..).zip(&self.segments) {
            if let Segment::Tagged(_, tag) = segment {
                tags.insert(tag, place);
            }
        }
        self.tags = Some(Box::new(tags));
    }

    /// Records that bytes of the queue were replaced by `len` others, which must not be dropped by
    /// [`drop_oldest`](Self::drop_oldest) either.
    fn resize_unit(&mut self, range: &Range<usize>, len: usize) {
        let mut end = 0;
        for unit in &mut self.units {
            end += unit.len;
            if range.start < end {
                unit.len = unit.len - range.len() + len;
                return;
            }
        }
    }

    /// Returns the queued bytes, if they are all in one segment.
    #[inline(always)]
    pub(crate) fn only(&self) -> Option<&[u8]> {
        match self.segments.len() {
            1 => self.segments.front()?.bytes().get(self.sent..),
            _ => None,
        }
    }

    /// Fills `slices` with the oldest bytes, for one write; returns how many slices are used.
    pub(crate) fn slices<'o>(&'o self, slices: &mut [IoSlice<'o>; Self::SLICES]) -> usize {
        if self.tags.is_some() {
            let is_there = |segment: &&Segment| !matches!(segment, Segment::Gone);
            return self.fill(slices, self.segments.iter().filter(is_there));
        }
        self.fill(slices, self.segments.iter())
    }

    #[inline(always)]
    fn fill<'o>(
        &'o self,
        slices: &mut [IoSlice<'o>; Self::SLICES],
        segments: impl Iterator<Item = &'o Segment>,
    ) -> usize {
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(segments) {
            let skip = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(segment.bytes().get(skip..).unwrap_or_default());
            count += 1;
        }
        count
    }

    /// Removes the oldest `size` bytes, which were written.
    pub(crate) fn consume(&mut self, mut size: usize) {
        self.len = self.len.saturating_sub(size);
        if let Some(logged) = &mut self.logged {
            logged.consume(size);
            if logged.len() == 0 {
                self.logged = None;
            }
            // The log is for one turn.
            return self.copy_logged();
        }
        if !self.units.is_empty() {
            self.consume_units(size);
        }
        if self.tags.is_some() {
            return self.consume_tagged(size);
        }
        while let Some(first) = self.segments.front() {
            let left = first.bytes().len() - self.sent;
            if size < left {
                self.sent += size;
                return;
            }
            size -= left;
            self.sent = 0;
            if let Some(Segment::Own(mut bytes)) = self.segments.pop_front()
                && bytes.capacity() <= self.spare_segment_max()
            {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }

    /// Removes written bytes from a queue with messages that may be replaced or dropped.
    #[cold]
    fn consume_tagged(&mut self, mut size: usize) {
        while let Some(first) = self.segments.front() {
            let left = first.bytes().len() - self.sent;
            if size < left {
                self.sent += size;
                if self.sent > 0 {
                    self.fix_first();
                }
                return;
            }
            size -= left;
            self.sent = 0;
            self.left += 1;
            match self.segments.pop_front() {
                Some(Segment::Tagged(_, tag)) => self.forget_tag(&tag),
                Some(Segment::Gone) => self.gone -= 1,
                _ => {}
            }
        }
    }

    /// Keeps the first message from being replaced or dropped, since it has begun to leave.
    fn fix_first(&mut self) {
        if let Some(first @ Segment::Tagged(..)) = self.segments.front_mut()
            && let Segment::Tagged(bytes, tag) = std::mem::replace(first, Segment::Gone)
        {
            *first = Segment::Shared(bytes);
            self.forget_tag(&tag);
        }
    }

    fn forget_tag(&mut self, tag: &Tag) {
        if let Some(tags) = self.tags.as_deref_mut() {
            tags.remove(tag);
        }
    }

    /// Records that the last `len` bytes are a whole message, or data that must not be dropped.
    pub(crate) fn note(&mut self, len: usize, is_message: bool) {
        match self.units.back_mut() {
            _ if len == 0 => {}
            Some(last) if !is_message && !last.is_message => last.len += len,
            _ => self.units.push_back(Unit { len, is_message }),
        }
    }

    /// Forgets what [`note`](Self::note) recorded.
    pub(crate) fn forget_units(&mut self) {
        self.units.clear();
    }

    fn consume_units(&mut self, mut size: usize) {
        while size > 0
            && let Some(first) = self.units.front_mut()
        {
            if size < first.len {
                first.len -= size;
                // A part of it was sent.
                first.is_message = false;
                return;
            }
            size -= first.len;
            self.units.pop_front();
        }
    }

    /// Drops the oldest messages that are adjacent, until `excess` bytes are freed or other data
    /// follows. Returns where they were, counted from the oldest byte, and how many they were.
    pub(crate) fn drop_oldest(&mut self, excess: usize) -> (Range<usize>, u64) {
        let first = self.units.iter().position(|unit| unit.is_message);
        let first = first.unwrap_or(self.units.len());
        let start = self.units.range(..first).map(|unit| unit.len).sum();
        let (mut end, mut count) = (start, 0);
        for unit in self.units.range(first..) {
            if !unit.is_message || end - start >= excess {
                break;
            }
            end += unit.len;
            count += 1;
        }
        self.units.drain(first..first + count);
        self.remove(start..end);
        self.compact();
        (start..end, count as u64)
    }

    /// Removes bytes from the middle, at positions counted from the oldest byte.
    fn remove(&mut self, Range { start, end }: Range<usize>) {
        self.len -= end - start;
        let mut at = 0;
        let mut index = 0;
        let mut sent = self.sent;
        while at < end
            && let Some(segment) = self.segments.get_mut(index)
        {
            // The bytes before `sent` are not in the queue any more.
            let len = segment.bytes().len() - sent;
            if len == 0 {
                // It was dropped before.
                index += 1;
                continue;
            }
            let from = start.saturating_sub(at).min(len);
            let to = (end - at).min(len);
            at += len;
            if from == 0 && to == len {
                let count = self.segments.len();
                self.drop_segment(index);
                if index == 0 {
                    self.sent = 0;
                }
                // Where places matter, a dropped segment stays, unless it was the first.
                index += usize::from(self.segments.len() == count);
            } else {
                if from < to {
                    segment.own().drain(sent + from..sent + to);
                }
                index += 1;
            }
            sent = 0;
        }
    }
}

impl Segment {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            _ => self.bytes_of_others(),
        }
    }

    /// Kept apart, since nearly all segments are joined from small messages.
    #[inline(never)]
    fn bytes_of_others(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) | Self::Tagged(bytes, _) => bytes,
            Self::Gone => &[],
        }
    }

    /// Returns the bytes to be changed; a shared segment is copied first. A message with a tag is
    /// never changed in part.
    fn own(&mut self) -> &mut Vec<u8> {
        if !matches!(self, Self::Own(_)) {
            *self = Self::Own(self.bytes().to_vec());
        }
        match self {
            Self::Own(bytes) => bytes,
            _ => unreachable!("it was just copied"),
        }
    }
}

/// Largest segment that messages are joined in, in bytes.
pub(crate) const SEGMENT_MAX: usize = 64 << 10;

/// How many segments may be gone before they are removed.
const GONE_MAX: usize = 16;

/// Largest shared message that is cheaper to copy than to share, in bytes.
pub(crate) const COPY_MAX: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first_write(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); Outbox::SLICES];
        let count = outbox.slices(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    #[test]
    fn a_queue_that_was_used_is_as_good_as_new() {
        let mut outbox = Outbox::fresh();
        outbox.push(b"left over");
        outbox.push_shared(&vec![7; 10_000].into());
        outbox.consume(4);
        outbox.recycle();
        let mut outbox = Outbox::fresh();
        assert_eq!((outbox.len(), first_write(&outbox)), (0, Vec::new()));
        outbox.push(b"new");
        assert_eq!(first_write(&outbox), b"new");
        outbox.consume(3);
        assert!(outbox.spare.capacity() >= 3 && outbox.spare.is_empty());
        outbox.push(b"again");
        assert_eq!(first_write(&outbox), b"again");
    }

    /// Takes the oldest bytes of the model: number, bytes left, whether it may be dropped.
    fn leave(model: &mut VecDeque<(u8, usize, bool)>, mut size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while size > 0
            && let Some((number, left, is_message)) = model.front_mut()
        {
            let some = size.min(*left);
            bytes.resize(bytes.len() + some, *number);
            (size, *left, *is_message) = (size - some, *left - some, false);
            if *left == 0 {
                model.pop_front();
            }
        }
        bytes
    }

    proptest! {
        /// For any writes and drops: messages leave whole or not at all, in order, and data that
        /// must not be dropped stays.
        #[test]
        fn the_oldest_messages_are_dropped_whole(
            steps in prop::collection::vec(
                (1usize..6000, 0..4u8, 0usize..6000, 0usize..9000),
                0..25,
            ),
        ) {
            let mut outbox = Outbox::default();
            // The same queue as a plain list: see `leave`.
            let mut model: VecDeque<(u8, usize, bool)> = VecDeque::new();
            for (at, (size, kind, write, excess)) in steps.into_iter().enumerate() {
                let (at, is_message) = (at as u8, kind != 0);
                let bytes = vec![at; size];
                if kind == 3 { outbox.push_shared(&bytes.into()) } else { outbox.push(&bytes) }
                outbox.note(size, is_message);
                model.push_back((at, size, is_message));

                let offered = first_write(&outbox);
                let write = write.min(offered.len());
                outbox.consume(write);
                prop_assert_eq!(&offered[..write], &leave(&mut model, write)[..]);

                let queued = outbox.len();
                let (range, count) = outbox.drop_oldest(excess);
                prop_assert_eq!(queued - outbox.len(), range.len());
                for _ in 0..count {
                    let oldest = model.iter().position(|unit| unit.2);
                    let gone = oldest.and_then(|at| model.remove(at));
                    prop_assert!(gone.is_some());
                }
                prop_assert!(excess > 0 || count == 0);
                prop_assert!(count > 0 || excess == 0 || !model.iter().any(|unit| unit.2));
            }
            while outbox.len() > 0 {
                let offered = first_write(&outbox);
                prop_assert_eq!(&offered, &leave(&mut model, offered.len()));
                outbox.consume(offered.len());
            }
            prop_assert!(model.is_empty() && outbox.units.is_empty());
        }

        #[test]
        fn bytes_leave_in_order_however_written(
            pushes in prop::collection::vec((1usize..9000, any::<bool>()), 0..40),
            writes in prop::collection::vec(1usize..20_000, 1..40),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (at, (size, shared)) in pushes.into_iter().enumerate() {
                let bytes = vec![at as u8; size];
                if shared { outbox.push_shared(&bytes.clone().into()) } else { outbox.push(&bytes) }
                expected.extend(bytes);
            }
            prop_assert_eq!(outbox.len(), expected.len());
            let mut written = Vec::new();
            let mut writes = writes.into_iter().cycle();
            while outbox.len() > 0 {
                let offered = first_write(&outbox);
                prop_assert!(!offered.is_empty());
                let size = offered.len().min(writes.next().unwrap_or(1));
                written.extend_from_slice(&offered[..size]);
                outbox.consume(size);
            }
            prop_assert!(written == expected && outbox.segments.is_empty());
        }
    }
}
