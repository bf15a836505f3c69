//! The topics of the servers, their subscribers, and the counts of both sides.

use std::array;
use std::fmt;
use std::str::SplitWhitespace;

use anyhow::Result;
use wsloop::SlowConsumer;

use crate::message::{Temper, mixed};
use crate::record::next;

/// A topic of both servers.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    /// The policy; `None` for that of the connections, which is `Error`.
    pub(crate) policy: Option<SlowConsumer>,
    audience: Audience,
    /// One of this many in the audience subscribes.
    one_of: u64,
}

/// The connections that a topic is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Audience {
    /// Polite connections, and all slow ones.
    All,
    /// Slow connections that may end in any way.
    Slow,
    /// Connections that are always closed in order, so that their clients have received everything.
    Stayers,
}

impl Topic {
    /// Returns whether this connection subscribes to the topic.
    pub(crate) fn is_for(&self, connection: u64) -> bool {
        let is_slow = Temper::of(connection) == Temper::Slow;
        let name: u64 = self.name.bytes().map(u64::from).sum();
        let drawn = mixed(connection ^ mixed(name)).is_multiple_of(self.one_of);
        match self.audience {
            Audience::All => is_slow || drawn,
            Audience::Slow => is_slow && drawn && !is_stayer(connection),
            Audience::Stayers => is_stayer(connection) && (is_slow || drawn),
        }
    }

    /// Returns whether only connections subscribe that are closed in order.
    pub(crate) fn is_exact(&self) -> bool {
        self.audience == Audience::Stayers
    }

    pub(crate) fn conflates(&self) -> bool {
        self.policy == Some(SlowConsumer::Conflate)
    }
}

/// Returns whether the connection is always closed in order. It follows from the number.
pub(crate) fn is_stayer(connection: u64) -> bool {
    mixed(connection ^ STAYERS).is_multiple_of(4)
}

/// Returns the place of a topic that conflates among those that do.
pub(crate) fn conflating(topic: usize) -> Option<usize> {
    let before = TOPICS.iter().take(topic);
    let conflates = TOPICS.get(topic).is_some_and(Topic::conflates);
    conflates.then(|| before.filter(|topic| topic.conflates()).count())
}

/// The numbers of messages: for each topic that conflates, those of its keys.
pub(crate) type Latest = [[u64; KEYS]; CONFLATING];

/// What was published to one connection. The server writes it with its record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Served {
    pub(crate) parts: [Part; TOPICS.len()],
    /// The last message of each key that reached all subscribers; 0 if it came before this one.
    pub(crate) latest: Latest,
    /// Whether the counts are those of the moment when the closing handshake began. Otherwise more
    /// may have been published than was sent.
    pub(crate) is_exact: bool,
    /// At most this many messages were queued, and dropped for newer ones.
    pub(crate) evicted: u64,
    /// The offset after which the connection subscribed to the topic with a history, and how often
    /// it lost messages later.
    pub(crate) history_after: u64,
    pub(crate) gaps: u64,
}

/// What was published to one connection in one topic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Part {
    pub(crate) sent: u64,
    /// At most this many of them did not reach the connection, because some subscriber was slow.
    pub(crate) unsure: u64,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Part { sent, unsure } in self.parts {
            write!(f, "{sent} {unsure} ")?;
        }
        for number in self.latest.as_flattened() {
            write!(f, "{number} ")?;
        }
        let (is_exact, evicted) = (u8::from(self.is_exact), self.evicted);
        write!(
            f,
            "{is_exact} {evicted} {} {}",
            self.history_after, self.gaps
        )
    }
}

impl Served {
    /// Parses the words that `Display` wrote.
    ///
    /// # Errors
    ///
    /// Fails if the words are too few, or no numbers.
    pub(crate) fn parse(words: &mut SplitWhitespace<'_>) -> Result<Self> {
        let mut served = Self::default();
        for part in &mut served.parts {
            (part.sent, part.unsure) = (next(words)?, next(words)?);
        }
        for number in served.latest.as_flattened_mut() {
            *number = next(words)?;
        }
        served.is_exact = next::<u8>(words)? == 1;
        served.evicted = next(words)?;
        served.history_after = next(words)?;
        served.gaps = next(words)?;
        Ok(served)
    }
}

/// What a client has received from topics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Heard {
    pub(crate) counts: [u64; TOPICS.len()],
    /// The number of the last message of each topic.
    last: [u64; TOPICS.len()],
    pub(crate) latest: Latest,
    /// The first and the last message of the topic with a history, and its epoch.
    pub(crate) history: Option<[u64; 2]>,
    pub(crate) epoch: u64,
}

impl Heard {
    /// Counts a message.
    ///
    /// # Errors
    ///
    /// Returns a description if the message comes again, or after a newer one.
    pub(crate) fn take(&mut self, head: &Head) -> Result<(), String> {
        let Head {
            topic,
            key,
            epoch,
            number,
        } = *head;
        let place = usize::from(topic);
        let Some(count) = self.counts.get_mut(place) else {
            return Err(format!("a message of no topic: {head:?}"));
        };
        *count += 1;
        let last = match conflating(place) {
            Some(at) => self.latest[at].get_mut(usize::from(key)),
            None => self.last.get_mut(place),
        };
        let last = last.ok_or_else(|| format!("a message of no key: {head:?}"))?;
        if number <= *last {
            return Err(format!("{head:?} after {last}"));
        }
        *last = number;
        if place == HISTORY {
            if self.history.is_some() && self.epoch != epoch {
                return Err(format!("another epoch than {}: {head:?}", self.epoch));
            }
            let [first, _] = self.history.unwrap_or([number; 2]);
            (self.history, self.epoch) = (Some([first, number]), epoch);
        }
        Ok(())
    }

    /// Returns the number of all messages.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the contradictions to what the server has published to the client. `is_whole` tells
    /// that the client has received everything that was queued for it.
    pub(crate) fn compare(&self, served: &Served, is_whole: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let is_whole = is_whole && served.is_exact;
        for (topic, Part { sent, unsure }) in served.parts.iter().enumerate() {
            // The server counts a message from another thread a moment after it was published.
            let slack = u64::from(topic == THREAD);
            let (count, name) = (self.counts[topic], TOPICS[topic].name);
            if count > sent + slack {
                faults.push(format!("{count} messages of {name}, {sent} were published"));
            }
            if is_whole && count + slack + unsure < *sent {
                let what = format!("{count} messages of {name}, {sent} were published");
                faults.push(format!("{what}, and {unsure} may be missing"));
            }
        }
        for (heard, sure) in self.latest.iter().zip(&served.latest) {
            let is_old = |key: &usize| heard[*key] < sure[*key];
            if is_whole && let Some(key) = (0..KEYS).find(is_old) {
                let (heard, sure) = (heard[key], sure[key]);
                faults.push(format!(
                    "the latest of key {key} is {heard}, and not {sure}"
                ));
            }
        }
        let after = served.history_after;
        if is_whole
            && served.gaps == 0
            && served.parts[HISTORY].unsure == 0
            && let Some([first, last]) = self.history
            && (first != after + 1 || last + 1 - first != self.counts[HISTORY])
        {
            let count = self.counts[HISTORY];
            faults.push(format!(
                "{count} messages with history, {first} to {last}, after {after}"
            ));
        }
        faults
    }
}

/// The head of a published message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) topic: u8,
    pub(crate) key: u8,
    /// The epoch of the topic with a history; 0 for the others.
    pub(crate) epoch: u64,
    /// The number in its topic, from 1 on. With a history, it is the offset of the position.
    pub(crate) number: u64,
}

impl Head {
    /// Reads the head from the front of a message.
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload.get(..HEAD_SIZE)?).ok()?;
        let number = |from, to| u64::from_str_radix(text.get(from..to)?, 16).ok();
        Some(Self {
            topic: u8::try_from(number(1, 3)?).ok()?,
            key: u8::try_from(number(3, 5)?).ok()?,
            epoch: number(5, 21)?,
            number: number(21, 37)?,
        })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, key, .. } = self;
        let (epoch, number) = (self.epoch, self.number);
        write!(f, "t{topic:02x}{key:02x}{epoch:016x}{number:016x}")
    }
}

/// The counts of one topic, of one or both servers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Line {
    pub(crate) publishes: u64,
    pub(crate) receivers: u64,
    pub(crate) queued: u64,
    pub(crate) conflated: u64,
    pub(crate) dropped: u64,
    pub(crate) refused: u64,
    /// Messages that were queued, and dropped for newer ones.
    pub(crate) evicted: u64,
    /// Messages that were sent from the history.
    pub(crate) recovered: u64,
}

impl Line {
    pub(crate) fn numbers(&self) -> [u64; 8] {
        [
            self.publishes,
            self.receivers,
            self.queued,
            self.conflated,
            self.dropped,
            self.refused,
            self.evicted,
            self.recovered,
        ]
    }

    pub(crate) fn from_numbers(numbers: [u64; 8]) -> Self {
        let [
            publishes,
            receivers,
            queued,
            conflated,
            dropped,
            refused,
            evicted,
            recovered,
        ] = numbers;
        Self {
            publishes,
            receivers,
            queued,
            conflated,
            dropped,
            refused,
            evicted,
            recovered,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let (ours, theirs) = (self.numbers(), other.numbers());
        *self = Self::from_numbers(array::from_fn(|at| ours[at] + theirs[at]));
    }

    /// Returns the number of messages that must reach the clients that read everything.
    pub(crate) fn due(&self) -> u64 {
        (self.queued + self.recovered).saturating_sub(self.evicted)
    }
}

/// The counts of all topics.
pub(crate) type Lines = [Line; TOPICS.len()];

/// All topics.
pub(crate) const TOPICS: [Topic; 11] = {
    const fn topic(
        name: &'static str,
        policy: Option<SlowConsumer>,
        audience: Audience,
        one_of: u64,
    ) -> Topic {
        Topic {
            name,
            policy,
            audience,
            one_of,
        }
    }
    use Audience::{All, Slow, Stayers};
    [
        topic("thread", None, Stayers, 2),
        topic("chat", None, All, 4),
        topic("history", None, All, 4),
        topic("any.newest", Some(SlowConsumer::DropNewest), All, 8),
        topic("any.oldest", Some(SlowConsumer::DropOldest), All, 8),
        topic("any.latest", Some(SlowConsumer::Conflate), All, 8),
        topic("close", Some(SlowConsumer::Close), Slow, 4),
        topic("stay.plain", None, Stayers, 2),
        topic("stay.newest", Some(SlowConsumer::DropNewest), Stayers, 2),
        topic("stay.oldest", Some(SlowConsumer::DropOldest), Stayers, 2),
        topic("stay.latest", Some(SlowConsumer::Conflate), Stayers, 2),
    ]
};

/// The topic to which another thread publishes.
pub(crate) const THREAD: usize = 0;
/// The topic in which connections publish to all others.
pub(crate) const CHAT: usize = 1;
/// The topic with a history, and for how many messages and seconds it keeps them.
pub(crate) const HISTORY: usize = 2;
pub(crate) const KEPT: (usize, u64) = (256, 60);
pub(crate) const ANY_LATEST: usize = 5;

/// The topics that a connection leaves and joins again while it is open.
pub(crate) const CHANGING: [usize; 4] = [CHAT, HISTORY, 3, 4];

/// The number of topics that conflate, and of the keys of each; the last stands for no key.
const CONFLATING: usize = 2;
pub(crate) const KEYS: usize = 9;
pub(crate) const NO_KEY: u8 = 8;

/// The size of the head of a published message.
pub(crate) const HEAD_SIZE: usize = 37;

const STAYERS: u64 = 0x7374_6179;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(topic: usize, key: u8, number: u64) -> Head {
        Head {
            topic: topic as u8,
            key,
            epoch: 9,
            number,
        }
    }

    fn heard(heads: &[Head]) -> Result<Heard, String> {
        let mut heard = Heard::default();
        for head in heads {
            heard.take(head)?;
        }
        Ok(heard)
    }

    #[test]
    fn topics_that_conflate_have_places() {
        let places: Vec<_> = (0..TOPICS.len()).filter_map(conflating).collect();
        assert_eq!(places, (0..CONFLATING).collect::<Vec<_>>());
        assert!(TOPICS[ANY_LATEST].conflates());
    }

    #[test]
    fn a_head_survives_its_text() {
        let head = head(3, 7, 0x1234_5678_9abc);
        let text = head.to_string();
        assert_eq!(text.len(), HEAD_SIZE);
        assert_eq!(Head::of(text.as_bytes()), Some(head));
        assert_eq!(Head::of(&text.as_bytes()[..36]), None);
    }

    #[test]
    fn messages_that_come_again_or_late_are_told() {
        assert!(heard(&[head(CHAT, 0, 1), head(CHAT, 0, 4), head(3, 0, 2)]).is_ok());
        assert!(heard(&[head(CHAT, 0, 1), head(CHAT, 0, 1)]).is_err());
        assert!(heard(&[head(CHAT, 0, 2), head(CHAT, 0, 1)]).is_err());
        assert!(heard(&[head(TOPICS.len(), 0, 1)]).is_err());
        // A replaced message keeps its place, so that keys may change their order.
        let latest = ANY_LATEST;
        assert!(heard(&[head(latest, 0, 9), head(latest, 1, 4)]).is_ok());
        assert!(heard(&[head(latest, 0, 9), head(latest, 0, 4)]).is_err());
        let mut heads = [head(HISTORY, 0, 1), head(HISTORY, 0, 2)];
        assert!(heard(&heads).is_ok());
        heads[1].epoch += 1;
        assert!(heard(&heads).is_err());
    }

    #[test]
    fn counts_that_differ_are_told() {
        let client = heard(&[head(CHAT, 0, 1), head(CHAT, 0, 2), head(HISTORY, 0, 6)]).unwrap();
        let mut served = Served {
            is_exact: true,
            history_after: 5,
            ..Served::default()
        };
        served.parts[CHAT].sent = 2;
        served.parts[HISTORY].sent = 1;
        let faults = |served: &Served, is_whole| client.compare(served, is_whole).len();
        assert_eq!(faults(&served, true), 0);
        let changed = |change: fn(&mut Served)| {
            let mut served = served.clone();
            change(&mut served);
            served
        };
        let more = changed(|served| served.parts[CHAT].sent = 3);
        assert_eq!((faults(&more, true), faults(&more, false)), (1, 0));
        let fewer = changed(|served| served.parts[CHAT].sent = 1);
        assert_eq!((faults(&fewer, true), faults(&fewer, false)), (1, 1));
        let unsure = changed(|served| served.parts[CHAT] = Part { sent: 3, unsure: 1 });
        assert_eq!(faults(&unsure, true), 0);
        let from_a_thread = changed(|served| served.parts[THREAD].sent = 1);
        assert_eq!(faults(&from_a_thread, true), 0);
        let latest = changed(|served| served.latest[1][3] = 1);
        assert_eq!((faults(&latest, true), faults(&latest, false)), (1, 0));
        let gap = changed(|served| served.history_after = 4);
        assert_eq!(faults(&gap, true), 1);
        let told = changed(|served| (served.history_after, served.gaps) = (4, 1));
        assert_eq!(faults(&told, true), 0);
    }

    #[test]
    fn what_was_served_survives_its_line() {
        let mut served = Served {
            is_exact: true,
            evicted: 4,
            history_after: 5,
            gaps: 6,
            ..Served::default()
        };
        served.parts[3] = Part { sent: 7, unsure: 8 };
        served.latest[1][7] = 9;
        let line = served.to_string();
        let parsed = Served::parse(&mut line.split_whitespace()).unwrap();
        assert_eq!(parsed, served);
    }
}
