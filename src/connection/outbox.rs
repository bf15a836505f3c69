//! What the kernel has not taken yet.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// A queue of bytes for one connection, oldest first. An idle connection has none.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the kernel took.
    sent: usize,
    len: usize,
    /// An empty segment, for the next bytes of our own.
    spare: Vec<u8>,
}

/// Queues that are empty again.
#[expect(clippy::vec_box, reason = "they come from boxes and go to boxes")]
struct Spare(Vec<Box<Outbox>>);

thread_local! {
    /// A broadcast needs a queue for each of its receivers, and all of them again in the next turn.
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare(Vec::new())) };
}

/// Most queues that are kept.
const SPARE_MAX: usize = 1024;

/// Largest segment that is kept with a queue, in bytes.
const SPARE_SEGMENT_MAX: usize = 4 << 10;

#[derive(Debug)]
enum Segment {
    Own(Vec<u8>),
    /// A message that other connections are sent too.
    Shared(Arc<[u8]>),
}

impl Outbox {
    /// Most slices that one write is given.
    pub(super) const SLICES: usize = 16;

    /// Returns an empty queue, one that was used before if there is one.
    pub(super) fn fresh() -> Box<Self> {
        let spare = SPARE.with_borrow_mut(|spare| spare.0.pop());
        spare.unwrap_or_default()
    }

    /// Forgets what is queued, and keeps the queue for the next that needs one.
    pub(super) fn recycle(mut self: Box<Self>) {
        self.segments.clear();
        self.segments.shrink_to(Self::SLICES);
        (self.sent, self.len) = (0, 0);
        SPARE.with_borrow_mut(|spare| {
            if spare.0.len() < SPARE_MAX {
                spare.0.push(self);
            }
        });
    }

    /// Bytes queued.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends a copy of `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
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
    pub(super) fn push_shared(&mut self, bytes: &Arc<[u8]>) {
        if bytes.len() <= COPY_MAX {
            return self.push(bytes);
        }
        self.len += bytes.len();
        self.segments.push_back(Segment::Shared(bytes.clone()));
    }

    /// Returns the oldest bytes as slices for one write.
    pub(super) fn slices<'o>(&'o self, slices: &mut [IoSlice<'o>; Self::SLICES]) -> usize {
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            let skip = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(segment.bytes().get(skip..).unwrap_or_default());
            count += 1;
        }
        count
    }

    /// Removes the oldest `size` bytes: they were written.
    pub(super) fn consume(&mut self, mut size: usize) {
        self.len = self.len.saturating_sub(size);
        while let Some(first) = self.segments.front() {
            let left = first.bytes().len() - self.sent;
            if size < left {
                self.sent += size;
                return;
            }
            size -= left;
            self.sent = 0;
            if let Some(Segment::Own(mut bytes)) = self.segments.pop_front()
                && bytes.capacity() <= SPARE_SEGMENT_MAX
            {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Largest segment that messages are joined in, in bytes.
const SEGMENT_MAX: usize = 64 << 10;

/// Largest shared message that is cheaper to copy than to share, in bytes.
const COPY_MAX: usize = 4 << 10;

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

    proptest! {
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
