//! Messages of topics on their way between loops.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protocol::{Compress, OpCode, Prepared};
use crate::topics::{Position, Publication};

/// A message of a topic, on its way from one loop to others. Clones share its bytes.
#[derive(Clone, Debug)]
#[must_use]
pub struct TopicMessage {
    topic: Arc<str>,
    message: Prepared,
    key: Option<Arc<[u8]>>,
    position: Option<Position>,
    /// When it was published, if it is to expire: it may wait for long.
    published: Option<Instant>,
}

impl TopicMessage {
    /// Makes a message of a topic.
    pub fn new(topic: impl Into<Arc<str>>, message: Prepared) -> Self {
        Self {
            topic: topic.into(),
            message: message.sharing(),
            key: None,
            position: None,
            published: None,
        }
    }

    /// Makes a message of a payload from another program: a text if it is UTF-8, otherwise binary.
    pub fn from_payload(topic: impl Into<Arc<str>>, payload: &[u8]) -> Self {
        let message = match simdutf8::basic::from_utf8(payload) {
            Ok(text) => Prepared::text(text),
            Err(_) => Prepared::binary(payload),
        };
        Self::new(topic, message)
    }

    /// Sets the key, for topics that conflate: see [`Outgoing::key`](crate::Outgoing::key).
    pub fn key(mut self, key: impl Into<Arc<[u8]>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the position in the history of the topic.
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// Returns the name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the message.
    pub fn message(&self) -> &Prepared {
        &self.message
    }

    /// Returns the key, if it has one.
    pub fn message_key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Returns the position in the history of the topic, if it is known.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Sets when it was published, on a loop of this process.
    pub(super) fn published_at(mut self, time: Option<Instant>) -> Self {
        self.published = time;
        self
    }

    pub(crate) fn published(&self) -> Option<Instant> {
        self.published
    }

    pub(crate) fn shared_topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Returns about how many bytes of memory the message takes.
    pub(crate) fn held(&self) -> usize {
        let key = self.key.as_deref().map_or(0, <[u8]>::len);
        self.message.frame().len() + key + size_of::<Self>()
    }
}

/// A message that is being published, for [`Backplane::publish`](super::Backplane::publish).
pub struct Publish<'p> {
    topic: &'p str,
    message: &'p mut Publication,
    shared: Option<TopicMessage>,
    position: Option<Position>,
    history: Option<(usize, Duration)>,
}

impl<'p> Publish<'p> {
    pub(crate) fn new(
        topic: &'p str,
        message: &'p mut Publication,
        position: Option<Position>,
        history: Option<(usize, Duration)>,
    ) -> Self {
        Self {
            topic,
            message,
            shared: None,
            position,
            history,
        }
    }

    /// Returns the name of the topic.
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// Returns whether the message is a text or binary.
    pub fn opcode(&self) -> OpCode {
        self.message.opcode()
    }

    /// Returns the payload.
    pub fn payload(&mut self) -> &[u8] {
        let size = self.message.size();
        let frame = self.message.plain().bytes();
        frame.get(frame.len() - size..).unwrap_or_default()
    }

    /// Returns whether the message is to be compressed.
    pub fn compress(&self) -> Compress {
        self.message.compress()
    }

    /// Returns the key, if it has one.
    pub fn key(&mut self) -> Option<&[u8]> {
        self.message.key().map(|key| &**key)
    }

    /// Returns the most messages and their age in the history of the topic, if it has one: see
    /// [`Topic::history`](crate::Topic::history).
    pub fn history(&self) -> Option<(usize, Duration)> {
        self.history
    }

    /// Returns the message in a form that other threads can hold. It is made at the first call.
    pub fn share(&mut self) -> TopicMessage {
        let Self {
            topic,
            message,
            position,
            ..
        } = self;
        let shared = self.shared.get_or_insert_with(|| TopicMessage {
            topic: (*topic).into(),
            message: message.prepare(),
            key: message.key().cloned(),
            position: *position,
            published: None,
        });
        shared.clone()
    }
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("size", &self.message.size())
            .finish_non_exhaustive()
    }
}
