//! What waits for a loop: messages of other loops and processes.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::TopicMessage;
use super::losses::Losses;
use crate::topics::Position;

/// The way into a loop for a backplane, from any thread. Clones lead to the same loop; one that has
/// ended takes nothing more.
///
/// Calls are cheap and never wait for the loop. The loop handles what it finds here at the
/// beginning of its next turn, in the order of the calls. It is woken once, however much arrives
/// until then.
#[derive(Clone)]
pub struct Inbox(Arc<Shared>);

struct Shared {
    waker: Waker,
    /// Whether the loop was woken and has not looked yet.
    is_woken: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    taken: Taken,
    /// Bytes of the messages, and the most.
    bytes: usize,
    limit: usize,
    is_closed: bool,
}

/// What a loop finds in its inbox: the losses and unanswered requests come first, then the items.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) lost: Losses,
    /// Topics of which messages with a position were dropped.
    pub(crate) incomplete: BTreeSet<Arc<str>>,
    /// An unknown number of messages of any topic was lost.
    pub(crate) is_all_lost: bool,
    /// Requests for missed messages whose answers were dropped.
    pub(crate) unanswered: Vec<u64>,
    pub(crate) items: VecDeque<Item>,
    /// Messages that were dropped because the inbox was full.
    pub(crate) dropped: u64,
}

pub(crate) enum Item {
    Message(TopicMessage),
    /// All messages of a topic up to this position have been delivered.
    Position(Arc<str>, Position),
    Lost(Arc<str>, Option<u64>),
    AllLost,
    /// The answer to a request for missed messages; `None` is a gap.
    Recovered(u64, Option<Vec<TopicMessage>>),
}

impl Inbox {
    /// Creates the inbox of a loop, which `waker` wakes and in which messages of `limit` bytes may
    /// wait.
    pub(crate) fn new(waker: Waker, limit: usize) -> Self {
        let waiting = Waiting {
            limit,
            ..Waiting::default()
        };
        Self(Arc::new(Shared {
            waker,
            is_woken: AtomicBool::new(false),
            waiting: Mutex::new(waiting),
        }))
    }

    /// Delivers messages to the subscribers of their topics on this loop.
    ///
    /// If the loop does not keep up, the oldest messages that wait are dropped, counted
    /// ([`Stats::inbox_dropped`](crate::Stats::inbox_dropped)) and announced by
    /// [`Gap`](crate::event::Gap).
    pub fn deliver(&self, messages: impl IntoIterator<Item = TopicMessage>) {
        self.add(messages.into_iter().map(Item::Message), true);
    }

    /// Delivers messages, without waking the loop if little waits for it.
    pub(super) fn deliver_later(&self, message: TopicMessage) {
        self.add([Item::Message(message)], false);
    }

    /// Announces that messages of a topic were lost on the way to this loop: so many, or an unknown
    /// number.
    pub fn lost(&self, topic: &str, count: Option<u64>) {
        self.put(Item::Lost(topic.into(), count));
    }

    /// Announces that an unknown number of messages of any topic may have been lost, for instance
    /// because the connection to an engine broke.
    pub fn lost_all(&self) {
        self.put(Item::AllLost);
    }

    /// Announces the position that a topic has reached, when all messages up to it have been
    /// delivered. Only for a backplane that [keeps histories](super::Backplane::keeps_history);
    /// delivered messages announce their own positions.
    pub fn reached(&self, topic: &str, position: Position) {
        self.put(Item::Position(topic.into(), position));
    }

    /// Returns whether the loop has ended.
    pub fn is_closed(&self) -> bool {
        self.waiting().is_closed
    }

    /// Returns how many bytes of messages wait for the loop.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting().bytes
    }

    pub(super) fn put(&self, item: Item) {
        self.add([item], true);
    }

    fn add(&self, items: impl IntoIterator<Item = Item>, wakes: bool) {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return;
        }
        for item in items {
            waiting.push(item);
        }
        let wakes = wakes || waiting.bytes > waiting.limit / LATER_PART;
        drop(waiting);
        if wakes && !self.0.is_woken.swap(true, Ordering::SeqCst) {
            self.0.waker.wake_by_ref();
        }
    }

    /// Takes everything out; the given value, whose memory is reused, is left in its place. The
    /// next call of a backplane wakes the loop again.
    pub(crate) fn take(&self, taken: &mut Taken) {
        debug_assert!(taken.is_empty(), "it was handled");
        self.0.is_woken.store(false, Ordering::SeqCst);
        let mut waiting = self.waiting();
        std::mem::swap(&mut waiting.taken, taken);
        waiting.bytes = 0;
    }

    /// Takes nothing more: the loop has ended.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.is_closed = true;
        waiting.bytes = 0;
        let left = std::mem::take(&mut waiting.taken);
        drop(waiting);
        // Requests for missed messages have an inbox themselves, and are dropped without the lock.
        drop(left);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in this module panics while it holds the lock.
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, item: Item) {
        self.bytes += item.held();
        self.taken.items.push_back(item);
        while self.bytes > self.limit && self.drop_oldest() {}
    }

    /// Drops the oldest message; returns false if only one item is left.
    fn drop_oldest(&mut self) -> bool {
        if self.taken.items.len() <= 1 {
            return false;
        }
        let Some(oldest) = self.taken.items.pop_front() else {
            return false;
        };
        self.bytes -= oldest.held();
        match oldest {
            Item::Message(message) => {
                self.taken.dropped += 1;
                let topic = message.shared_topic().clone();
                if message.position().is_some() {
                    self.taken.incomplete.insert(topic.clone());
                }
                self.taken.lost.add(topic, Some(1));
            }
            Item::Lost(topic, count) => self.taken.lost.add(topic, count),
            Item::AllLost => self.taken.is_all_lost = true,
            // The next one announces a later position.
            Item::Position(..) => {}
            // It is answered at once, and without messages.
            Item::Recovered(number, _) => self.taken.unanswered.push(number),
        }
        true
    }
}

impl Taken {
    /// Returns whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.lost.is_empty()
            && self.incomplete.is_empty()
            && self.unanswered.is_empty()
            && !self.is_all_lost
            && self.dropped == 0
    }
}

impl Item {
    /// Returns about how many bytes of memory the item takes besides its place in the queue.
    fn held(&self) -> usize {
        match self {
            Self::Message(message) => message.held(),
            Self::Recovered(_, Some(messages)) => {
                let held = messages.iter().map(TopicMessage::held);
                size_of::<Self>() + held.sum::<usize>()
            }
            Self::Position(..) | Self::Lost(..) | Self::AllLost | Self::Recovered(_, None) => {
                size_of::<Self>()
            }
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// A loop that is not interested in a message is woken when this part of the limit waits.
const LATER_PART: usize = 4;
