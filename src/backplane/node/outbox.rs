//! The way from the loops of a process to the thread of an engine.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backplane::{Backplane, Inbox, Publish, Recover, TopicMessage};

/// What a loop tells the thread of an engine.
#[non_exhaustive]
#[derive(Debug)]
pub enum Call {
    /// A loop has begun; its number is new.
    Join(usize, Inbox),
    /// A loop has ended.
    Leave(usize),
    /// A topic has its first subscriber on a loop.
    Occupied(usize, Arc<str>),
    /// A topic has lost its last subscriber on a loop.
    Vacated(usize, Arc<str>),
    /// A loop has published a message, whose topic may have a history with at most so many messages
    /// of at most this age.
    Publish(usize, TopicMessage, Option<(usize, Duration)>),
    /// A loop asks for the messages that a client missed.
    Recover(Recover),
    /// So many messages of a topic were dropped here, because the thread did not take them in time.
    /// They come before all later messages of the topic.
    Dropped(Arc<str>, u64),
}

/// The [`Backplane`] of a loop that passes everything on to the thread of an engine. Each clone is
/// for another loop.
pub struct Link {
    shared: Arc<Shared>,
    /// `None` before it has joined.
    number: Option<usize>,
    /// Messages of this turn.
    outgoing: Vec<Call>,
}

/// The end of the thread of an engine, where the calls of all loops arrive. Loops do not wait for
/// it: if too much waits, the oldest messages are dropped and counted.
pub struct Calls(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    notify: Box<dyn Fn() + Send + Sync>,
    is_notified: AtomicBool,
    keeps_history: bool,
    loops: AtomicUsize,
    /// The number of links, joined or not.
    links: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Call>,
    dropped: HashMap<Arc<str>, u64>,
    bytes: usize,
    limit: usize,
    is_closed: bool,
}

/// Creates a link for the first loop, and the end for the thread of the engine. Messages of `limit`
/// bytes may wait for the thread, which `notify` wakes, from any thread.
pub fn channel(
    limit: usize,
    keeps_history: bool,
    notify: impl Fn() + Send + Sync + 'static,
) -> (Link, Calls) {
    let waiting = Waiting {
        limit,
        ..Waiting::default()
    };
    let shared = Arc::new(Shared {
        waiting: Mutex::new(waiting),
        notify: Box::new(notify),
        is_notified: AtomicBool::new(false),
        keeps_history,
        loops: AtomicUsize::new(0),
        links: AtomicUsize::new(1),
    });
    let link = Link {
        shared: shared.clone(),
        number: None,
        outgoing: Vec::new(),
    };
    (link, Calls(shared))
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in this module panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, calls: impl IntoIterator<Item = Call>) {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return;
        }
        calls.into_iter().for_each(|call| waiting.push(call));
        drop(waiting);
        if !self.is_notified.swap(true, Ordering::SeqCst) {
            (self.notify)();
        }
    }
}

impl Waiting {
    fn push(&mut self, call: Call) {
        self.bytes += held(&call);
        self.calls.push_back(call);
        if self.bytes > self.limit {
            self.drop_oldest();
        }
    }

    /// Drops the older half of the waiting messages, in one pass, so that a long wait costs
    /// constant time for each message.
    fn drop_oldest(&mut self) {
        let goal = self.limit / 2;
        let Self {
            calls,
            dropped,
            bytes,
            ..
        } = self;
        let newest = calls.len() - 1;
        let mut at = 0;
        calls.retain(|call| {
            at += 1;
            let Call::Publish(_, message, _) = call else {
                return true;
            };
            if *bytes <= goal || at > newest {
                return true;
            }
            *bytes -= held(call);
            *dropped.entry(message.shared_topic().clone()).or_default() += 1;
            false
        });
    }
}

/// Returns about how many bytes of memory a call takes, if it has a message.
fn held(call: &Call) -> usize {
    match call {
        Call::Publish(_, message, _) => message.held(),
        _ => 0,
    }
}

impl Calls {
    /// Takes everything that waits. The next call notifies the thread again.
    pub fn take(&self) -> Vec<Call> {
        self.0.is_notified.store(false, Ordering::SeqCst);
        let mut waiting = self.0.waiting();
        waiting.bytes = 0;
        let dropped = std::mem::take(&mut waiting.dropped);
        let calls = std::mem::take(&mut waiting.calls);
        drop(waiting);
        // What was dropped came before the messages that are left.
        let dropped = dropped.into_iter();
        let mut all: Vec<Call> = dropped
            .map(|(topic, count)| Call::Dropped(topic, count))
            .collect();
        all.extend(calls);
        all
    }

    /// Returns how many bytes of messages wait.
    pub fn waiting_bytes(&self) -> usize {
        self.0.waiting().bytes
    }

    /// Returns whether no link is left, and nothing more will come.
    pub fn is_abandoned(&self) -> bool {
        self.0.links.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Calls {
    /// Nothing is taken any more. Requests for missed messages are answered with gaps.
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.is_closed = true;
        let left = std::mem::take(&mut waiting.calls);
        drop(waiting);
        drop(left);
    }
}

impl Clone for Link {
    fn clone(&self) -> Self {
        self.shared.links.fetch_add(1, Ordering::SeqCst);
        Self {
            shared: self.shared.clone(),
            number: None,
            outgoing: Vec::new(),
        }
    }
}

impl Backplane for Link {
    fn start(&mut self, inbox: Inbox) -> io::Result<()> {
        let number = self.shared.loops.fetch_add(1, Ordering::SeqCst);
        self.number = Some(number);
        self.shared.add([Call::Join(number, inbox)]);
        Ok(())
    }

    fn occupied(&mut self, topic: &str) {
        if let Some(number) = self.number {
            self.shared.add([Call::Occupied(number, topic.into())]);
        }
    }

    fn vacated(&mut self, topic: &str) {
        if let Some(number) = self.number {
            self.shared.add([Call::Vacated(number, topic.into())]);
        }
    }

    fn publish(&mut self, publish: &mut Publish<'_>) {
        if let Some(number) = self.number {
            let call = Call::Publish(number, publish.share(), publish.history());
            self.outgoing.push(call);
        }
    }

    fn flush(&mut self) {
        if !self.outgoing.is_empty() {
            self.shared.add(self.outgoing.drain(..));
            self.outgoing.shrink_to(OUTGOING_KEPT);
        }
    }

    fn keeps_history(&self) -> bool {
        self.shared.keeps_history
    }

    fn recover(&mut self, request: Recover) {
        // What the loop has published before must be in the answer.
        self.flush();
        self.shared.add([Call::Recover(request)]);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.flush();
        self.shared.links.fetch_sub(1, Ordering::SeqCst);
        match self.number {
            Some(number) => self.shared.add([Call::Leave(number)]),
            // The thread looks whether a link is left.
            None => (self.shared.notify)(),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

/// How many places for messages of a turn are kept for the next one.
const OUTGOING_KEPT: usize = 1024;
