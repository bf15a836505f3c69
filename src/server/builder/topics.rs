//! Settings of topics.

use super::Builder;
use crate::backplane::Backplane;
use crate::topics::Topic;

impl Builder {
    /// Sets the [settings](Topic) of all topics whose names begin with `prefix`. If several
    /// prefixes match, the longest decides; the empty prefix is for all others. Default: the
    /// policy of the connections for slow consumers, and no history.
    ///
    /// The prefix matters when a topic is created. Subscriptions are always to a single topic:
    /// there are no patterns.
    pub fn topics(mut self, prefix: &str, settings: Topic) -> Self {
        let topics = &mut self.config.topics;
        topics.retain(|(known, _)| **known != *prefix);
        topics.push((prefix.into(), settings));
        self
    }

    /// Adds a [`Backplane`], which carries messages of topics to and from other processes. Default:
    /// none. [`Loops`](crate::Loops) connects the loops of a process without one.
    pub fn backplane(mut self, backplane: impl Backplane) -> Self {
        self.backplanes.push(Box::new(backplane));
        self
    }

    /// Sets how many bytes of messages from [backplanes](crate::backplane) may wait for the loop,
    /// other loops of the process included. Default 16 MiB. Beyond it, the oldest are dropped,
    /// which [`Gap`](crate::event::Gap) tells and
    /// [`Stats::inbox_dropped`](crate::Stats::inbox_dropped) counts.
    pub fn max_inbox(mut self, bytes: usize) -> Self {
        self.config.max_inbox = bytes;
        self
    }

    /// Sets to how many topics one connection may be subscribed. Default 64. Beyond it,
    /// [`Connection::subscribe`](crate::Connection::subscribe) returns
    /// [`SendError::TooManySubscriptions`](crate::SendError::TooManySubscriptions), and
    /// [`Stats::over_subscriptions`](crate::Stats::over_subscriptions) counts it.
    pub fn max_subscriptions(mut self, topics: usize) -> Self {
        self.config.topic_limits.subscriptions = topics;
        self
    }

    /// Sets how many topics the server may have. Default 100,000; a topic takes about 200 bytes.
    /// Beyond it, a subscription to a new topic, or a publish to a new topic with a history,
    /// returns [`SendError::TooManyTopics`](crate::SendError::TooManyTopics), and
    /// [`Stats::over_topics`](crate::Stats::over_topics) counts it. A topic exists as long as it
    /// has a subscriber or a message in its history.
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.config.topic_limits.topics = topics;
        self
    }

    /// Sets how long the name of a topic may be, in bytes. Default 200. A subscription to a longer
    /// one, or a publish to one with a history, returns
    /// [`SendError::TopicNameTooLong`](crate::SendError::TopicNameTooLong), and
    /// [`Stats::over_topic_size`](crate::Stats::over_topic_size) counts it.
    pub fn max_topic_size(mut self, bytes: usize) -> Self {
        self.config.topic_limits.name_size = bytes;
        self
    }
}
