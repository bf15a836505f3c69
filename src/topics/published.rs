//! The outcome of a publish.

use std::iter::Sum;
use std::ops::AddAssign;

/// What became of a published message, by the number of its receivers:
/// `receivers == queued + conflated + dropped + refused`.
///
/// ```
/// # fn handler(hub: &mut wsloop::Hub<'_>) -> Result<(), wsloop::SendError> {
/// let published = hub.publish("news", "it rains")?;
/// if published.queued < published.receivers {
///     log::warn!("some subscribers read too slowly: {published:?}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// It converts into a [`Sent`](crate::Sent), where an arm of a `match` has to fit to others:
/// `conn.publish("news", text).map(Sent::from)`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Published {
    /// The subscribers that the message was published to.
    pub receivers: usize,
    /// Subscribers for whom the message was queued, or handed to the kernel.
    pub queued: usize,
    /// Subscribers for whom the message took the place of an older one with the same key, which was
    /// not sent yet: see [`SlowConsumer::Conflate`](crate::SlowConsumer::Conflate).
    pub conflated: usize,
    /// Subscribers for whom a [`SlowConsumer`](crate::SlowConsumer) policy dropped the message.
    pub dropped: usize,
    /// Subscribers for whom the message was refused: their backlog or the memory budget is full,
    /// the message exceeds their own `max_send_size`, or a message in parts is under way.
    pub refused: usize,
    /// The bytes on the wire for the subscribers for whom the message was queued. Frame headers are
    /// included, TLS is not. For those in `conflated` the bytes that it is larger than the older
    /// message.
    pub bytes: usize,
    /// The message's position in the history of its topic, if it has one.
    pub position: Option<super::Position>,
}

/// Adds the outcomes of several publishes; the position is the last one.
impl AddAssign for Published {
    fn add_assign(&mut self, other: Self) {
        self.receivers += other.receivers;
        self.queued += other.queued;
        self.conflated += other.conflated;
        self.dropped += other.dropped;
        self.refused += other.refused;
        self.bytes += other.bytes;
        self.position = other.position.or(self.position);
    }
}

/// Adds the outcomes of several publishes; the position is the last one.
impl Sum for Published {
    fn sum<I: Iterator<Item = Self>>(outcomes: I) -> Self {
        outcomes.fold(Self::default(), |mut sum, outcome| {
            sum += outcome;
            sum
        })
    }
}
