//! The outcome of a publish.

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
    /// The message's position in the history of its topic, if it has one.
    pub position: Option<super::Position>,
}
