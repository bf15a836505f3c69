//! Clients that come back to a topic whose history a backplane keeps.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Item;
use super::{Inbox, TopicMessage};
use crate::topics::Position;

/// What a client wants from the history of a topic.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Since {
    /// All messages after this position, or none of them.
    Position(Position),
    /// The newest messages, at most so many.
    Recent(usize),
}

/// A request for the messages that a client missed, for
/// [`Backplane::recover`](super::Backplane::recover). Dropping it answers with a gap.
#[must_use]
pub struct Recover {
    topic: Arc<str>,
    since: Since,
    history: (usize, Duration),
    number: u64,
    /// `None` once it was answered.
    inbox: Option<Inbox>,
}

impl Recover {
    pub(crate) fn new(
        topic: &str,
        since: Since,
        history: (usize, Duration),
        number: u64,
        inbox: Inbox,
    ) -> Self {
        Self {
            topic: topic.into(),
            since,
            history,
            number,
            inbox: Some(inbox),
        }
    }

    /// Returns the name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns what the client wants.
    pub fn since(&self) -> Since {
        self.since
    }

    /// Returns the most messages and their age in the history of the topic: see
    /// [`Topic::history`](crate::Topic::history).
    pub fn history(&self) -> (usize, Duration) {
        self.history
    }

    /// Answers with the messages, the oldest first; each has its position. For
    /// [`Since::Position`] these are all messages after the position.
    ///
    /// Messages that the loop published before it made the request must be among them, unless they
    /// are kept no longer; those that it publishes later must not. Messages from elsewhere may be
    /// among them and reach the inbox as well: up to the newest position of the answer they have to
    /// be delivered before it, and the loop sends them once.
    ///
    /// The loop sends all messages after a position, or none if they do not fit into half of
    /// `max_backlog`; of the newest messages it sends as many as fit.
    pub fn recovered(mut self, messages: Vec<TopicMessage>) {
        self.answer(Some(messages));
    }

    /// Answers that not all of the messages are kept, or that the engine is not available.
    pub fn gap(mut self) {
        self.answer(None);
    }

    fn answer(&mut self, messages: Option<Vec<TopicMessage>>) {
        if let Some(inbox) = self.inbox.take() {
            inbox.put(Item::Recovered(self.number, messages));
        }
    }
}

impl Drop for Recover {
    fn drop(&mut self) {
        self.answer(None);
    }
}

impl fmt::Debug for Recover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recover")
            .field("topic", &self.topic)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}
