//! The last messages of a topic, for subscribers that come back.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::sequence::{Share, Turn};
use crate::protocol::Prepared;

/// The position of a message in the history of its topic.
///
/// It is a number that counts the messages of the topic from 1 on (the offset), and a random number
/// that changes whenever the topic begins anew (the epoch). So a position that is older than the
/// server, or than the topic, is recognised.
///
/// `Display` writes it as `epoch-offset` in hexadecimal, which `FromStr` reads: 3 to 33 characters
/// for a client to keep.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Position {
    epoch: u64,
    offset: u64,
}

impl Position {
    /// Creates a position from its parts.
    pub const fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch, offset }
    }

    /// Returns the number that the topic got when it was created.
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// Returns the number of the message, from 1 on; 0 before the first message.
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.epoch, self.offset)
    }
}

/// The text is not a [`Position`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BadPosition;

impl fmt::Display for BadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a position of a topic")
    }
}

impl std::error::Error for BadPosition {}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let number = |text: &str| {
            let is_hex =
                (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = is_hex.then(|| u64::from_str_radix(text, 16).ok());
            number.flatten().ok_or(BadPosition)
        };
        let (epoch, offset) = text.split_once('-').ok_or(BadPosition)?;
        Ok(Self::new(number(epoch)?, number(offset)?))
    }
}

/// The result of [`Connection::subscribe_from`](crate::Connection::subscribe_from).
#[must_use]
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recovery {
    /// All missed messages were sent to the connection; the value is their number.
    Recovered(usize),
    /// The history is kept elsewhere, by a [backplane](crate::backplane). The messages and then the
    /// event [`Recovered`](crate::event::Recovered) with the outcome follow. Newer messages of the
    /// topic wait for them.
    Pending,
    /// Nothing was sent. Some of the missed messages are not kept any more, or the messages do not
    /// fit into half of `max_backlog` or into `memory_budget`; or the position is of another epoch,
    /// the topic has no history, the connection was subscribed already, or a message in parts is
    /// being sent to it.
    Gap,
}

/// The kept messages of a topic, oldest first.
#[derive(Debug)]
pub(super) struct History {
    kept: VecDeque<Kept>,
    /// Bytes of the kept frames.
    bytes: usize,
    epoch: u64,
    /// The offset of the last message.
    last: u64,
    most: usize,
    age: Duration,
    /// When the caller looks for messages that have expired, if it does.
    pub(super) look_at: Option<Duration>,
    /// The order of the messages of all loops, if they share the topic.
    share: Option<Share>,
}

#[derive(Debug)]
struct Kept {
    message: Prepared,
    /// When it was published.
    at: Duration,
}

/// The messages that a subscriber missed.
pub(crate) struct Missed<'h>(vec_deque::Iter<'h, Kept>);

impl<'h> Iterator for Missed<'h> {
    type Item = &'h Prepared;

    fn next(&mut self) -> Option<&'h Prepared> {
        self.0.next().map(|kept| &kept.message)
    }
}

impl History {
    pub(super) fn new(epoch: u64, most: usize, age: Duration) -> Self {
        Self {
            kept: VecDeque::new(),
            bytes: 0,
            epoch,
            last: 0,
            most,
            age,
            look_at: None,
            share: None,
        }
    }

    /// Creates the history of one of several loops.
    pub(super) fn shared(share: Share, most: usize, age: Duration) -> Self {
        let last = share.last();
        Self {
            last: last.offset,
            share: Some(share),
            ..Self::new(last.epoch, most, age)
        }
    }

    /// Takes the right to publish, if loops share the topic.
    pub(super) fn take_turn(&self) -> Option<Turn> {
        self.share.as_ref().map(Share::take)
    }

    /// Returns the most messages and their age.
    pub(super) fn settings(&self) -> (usize, Duration) {
        (self.most, self.age)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns about how many bytes of memory the kept messages take.
    pub(super) fn held(&self) -> usize {
        self.bytes + self.kept.capacity() * size_of::<Kept>()
    }

    /// Returns the position of the last message.
    pub(super) fn last(&self) -> Position {
        Position::new(self.epoch, self.last)
    }

    /// Returns the position that the next message gets.
    pub(super) fn next(&self) -> Position {
        Position::new(self.epoch, self.last + 1)
    }

    /// Keeps a message that was published at the time `at`. If there is a gap before it, the
    /// earlier messages are dropped.
    pub(super) fn push(&mut self, message: Prepared, position: Position, at: Duration) {
        if position != self.next() {
            self.clear();
            self.epoch = position.epoch;
        }
        if self.kept.len() == self.most {
            self.drop_oldest();
        }
        self.last = position.offset;
        self.bytes += message.frame().len();
        self.kept.push_back(Kept { message, at });
    }

    /// Drops the messages that are too old.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(oldest) = self.kept.front()
            && oldest.at.saturating_add(self.age) <= now
        {
            self.drop_oldest();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// Counts a message that is not kept, so that subscribers who missed it get a gap.
    pub(super) fn skip(&mut self, position: Position) {
        self.clear();
        self.epoch = position.epoch;
        self.last = position.offset;
    }

    /// Forgets the messages, if loops share the topic, and continues behind the last one.
    pub(super) fn forget(&mut self) {
        if let Some(last) = self.share.as_ref().map(Share::last) {
            self.skip(last);
        }
    }

    pub(super) fn clear(&mut self) {
        self.kept = VecDeque::new();
        self.bytes = 0;
    }

    /// Returns when the oldest message expires.
    pub(super) fn due(&self) -> Option<Duration> {
        let oldest = self.kept.front()?;
        Some(oldest.at.saturating_add(self.age))
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.bytes -= oldest.message.frame().len();
        }
    }

    /// Returns the newest messages, at most so many.
    pub(super) fn recent(&self, most: usize) -> Missed<'_> {
        let first = self.kept.len().saturating_sub(most);
        Missed(self.kept.range(first..))
    }

    /// Returns the messages after `position`; `None` if one of them is not kept, or there is no
    /// such position.
    pub(super) fn since(&self, position: Position) -> Option<Missed<'_>> {
        if position.epoch != self.epoch {
            return None;
        }
        let missed = self.last.checked_sub(position.offset)?;
        let missed = usize::try_from(missed).ok()?;
        let first = self.kept.len().checked_sub(missed)?;
        Some(Missed(self.kept.range(first..)))
    }
}
