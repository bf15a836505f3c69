//! Published frames of a turn, in one buffer that the queues of all receivers refer to.
//!
//! Most subscribers of a topic are sent the same bytes in a turn. A queue that refers to them needs
//! no copy, and the kernel reads them from one place in the cache.

use std::cell::RefCell;

/// The frames of a thread's turns. It is emptied when no queue refers to it.
struct TurnLog {
    bytes: Vec<u8>,
    /// The number of queues that refer to `bytes`.
    readers: usize,
    /// How often it was emptied: places from before are void.
    generation: u64,
}

thread_local! {
    static LOG: RefCell<TurnLog> = const { RefCell::new(TurnLog {
        bytes: Vec::new(),
        readers: 0,
        generation: 0,
    }) };
}

/// Where a frame is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    generation: u64,
    start: usize,
    end: usize,
}

impl Place {
    /// Returns the place of these bytes: `known` if it is still valid; otherwise they are appended.
    /// Returns `None` if there is no room for them.
    pub(crate) fn of(bytes: &[u8], known: Option<Self>) -> Option<Self> {
        LOG.with_borrow_mut(|log| {
            if let Some(known) = known.filter(|known| known.generation == log.generation) {
                return Some(known);
            }
            let start = log.bytes.len();
            let end = start + bytes.len();
            if end > LOG_MAX {
                return None;
            }
            log.bytes.extend_from_slice(bytes);
            let generation = log.generation;
            Some(Self {
                generation,
                start,
                end,
            })
        })
    }
}

/// Frames in the log that follow each other, and are to be sent to one connection.
#[derive(Debug)]
pub(crate) struct Logged {
    start: usize,
    end: usize,
}

impl Logged {
    pub(crate) fn new(place: Place) -> Self {
        LOG.with_borrow_mut(|log| log.readers += 1);
        Self {
            start: place.start,
            end: place.end,
        }
    }

    /// Appends a frame; returns false if it does not follow the others.
    #[inline]
    pub(crate) fn extend(&mut self, place: Place) -> bool {
        let follows = place.start == self.end;
        if follows {
            self.end = place.end;
        }
        follows
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Removes the oldest bytes, which were written.
    pub(crate) fn consume(&mut self, size: usize) {
        self.start += size;
    }

    /// Calls `action` with the bytes.
    pub(crate) fn with<T>(&self, action: impl FnOnce(&[u8]) -> T) -> T {
        LOG.with_borrow(|log| action(log.bytes.get(self.start..self.end).unwrap_or_default()))
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // The log may be gone already if the thread ends.
        let _ = LOG.try_with(|log| {
            let mut log = log.borrow_mut();
            log.readers -= 1;
            if log.readers == 0 {
                log.bytes.clear();
                log.generation += 1;
            }
        });
    }
}

/// Most bytes of the log. What does not fit is copied to each queue.
const LOG_MAX: usize = 1 << 20;
