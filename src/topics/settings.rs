//! The settings of topics.

use std::time::Duration;

use crate::limits::SlowConsumer;

/// The settings of the topics whose names begin with a prefix, for
/// [`Builder::topics`](crate::Builder::topics).
///
/// ```
/// use std::time::Duration;
/// use wsloop::{Server, SlowConsumer, Topic};
///
/// let builder = Server::builder()
///     .topics("prices.", Topic::new().slow_consumer(SlowConsumer::Conflate))
///     .topics("chat.", Topic::new().history(100, Duration::from_secs(600)));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Topic {
    slow_consumer: Option<SlowConsumer>,
    /// Most messages, and their age.
    history: Option<(usize, Duration)>,
}

impl Topic {
    /// Creates settings with the defaults: the policy of each connection, and no history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the policy for messages of the topic that would exceed the `max_backlog` of a
    /// subscriber. Default: the policy of the connection
    /// ([`Builder::slow_consumer`](crate::Builder::slow_consumer)).
    ///
    /// The policy of a topic never drops messages of another topic, nor messages that were sent
    /// otherwise, nor control frames. It applies to what is queued while the kernel accepts no more
    /// data: messages that were queued earlier are neither dropped nor replaced. The messages that
    /// [`Connection::subscribe_from`](crate::Connection::subscribe_from) sends are treated as if
    /// the application had sent them.
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.slow_consumer = Some(policy);
        self
    }

    /// Keeps the last `messages` messages that are no older than `age`, for
    /// [`Connection::subscribe_from`](crate::Connection::subscribe_from). Default: none. Zero
    /// messages, or a zero age, keep none.
    ///
    /// The memory of the messages counts against [`memory_budget`](crate::Builder::memory_budget),
    /// and nothing else limits it: set a budget if clients can choose the names of such topics. A
    /// message is not kept while memory is short. A topic with kept messages exists without
    /// subscribers as well, until the last message is too old.
    pub fn history(mut self, messages: usize, age: Duration) -> Self {
        self.history = (messages > 0 && !age.is_zero()).then_some((messages, age));
        self
    }

    pub(super) fn policy(&self) -> Option<SlowConsumer> {
        self.slow_consumer
    }

    /// Returns the most messages of the history and their age, if there is one.
    pub(super) fn kept(&self) -> Option<(usize, Duration)> {
        self.history
    }
}

/// The limits of topics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicLimits {
    /// Most topics of one connection.
    pub(crate) subscriptions: usize,
    /// Most topics of the server.
    pub(crate) topics: usize,
    /// Most bytes of a topic's name.
    pub(crate) name_size: usize,
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self {
            subscriptions: 64,
            topics: 100_000,
            name_size: 200,
        }
    }
}
