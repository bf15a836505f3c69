//! The numbers of messages: given to those that a process sends, and compared in those that it
//! receives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::envelope::Origin;

/// The numbers of the messages that a process sends.
pub(super) struct Outgoing {
    topics: HashMap<Arc<str>, Series>,
    last_series: u64,
    /// Most topics whose numbers are remembered.
    most: usize,
    /// Counts the messages, to find the topics that were not used for the longest time.
    clock: u64,
}

#[derive(Clone, Copy)]
struct Series {
    series: u64,
    last: u64,
    /// Dropped messages that no message has announced yet.
    dropped: u64,
    used: u64,
}

impl Outgoing {
    pub(super) fn new(most: usize) -> Self {
        Self {
            topics: HashMap::new(),
            last_series: 0,
            most,
            clock: 0,
        }
    }

    fn series(&mut self, topic: &Arc<str>) -> &mut Series {
        self.clock += 1;
        if self.topics.len() >= self.most && !self.topics.contains_key(topic) {
            self.forget();
        }
        let (clock, last_series) = (self.clock, &mut self.last_series);
        let series = self.topics.entry(topic.clone()).or_insert_with(|| {
            *last_series += 1;
            Series {
                series: *last_series,
                last: 0,
                dropped: 0,
                used: 0,
            }
        });
        series.used = clock;
        series
    }

    /// Forgets the half of the topics that were not used for the longest time.
    fn forget(&mut self) {
        let mut used: Vec<u64> = self.topics.values().map(|series| series.used).collect();
        let half = used.len() / 2;
        let (_, middle, _) = used.select_nth_unstable(half);
        let middle = *middle;
        self.topics.retain(|_, series| series.used > middle);
    }

    /// Gives a message its number.
    pub(super) fn next(&mut self, topic: &Arc<str>) -> (u64, u64) {
        let series = self.series(topic);
        series.last += 1;
        (series.series, series.last)
    }

    /// Skips messages that were dropped before they had a number.
    pub(super) fn skip(&mut self, topic: &Arc<str>, count: u64) {
        let series = self.series(topic);
        series.last += count;
        series.dropped += count;
    }

    /// Notes that messages with numbers were dropped.
    pub(super) fn drop_some(&mut self, topic: &Arc<str>, count: u64) {
        self.series(topic).dropped += count;
    }

    /// Returns the series and the number of the last message of a topic. A topic that is not known
    /// gets a later series than all others.
    pub(super) fn last(&self, topic: &str) -> (u64, u64) {
        let series = self.topics.get(topic);
        series.map_or((self.last_series, u64::MAX), |own| (own.series, own.last))
    }

    /// Returns how many messages of the topic were dropped that no message has announced yet, for a
    /// message of this series that is sent now.
    pub(super) fn take_dropped(&mut self, topic: &Arc<str>, series: u64) -> u64 {
        let own = self.topics.get_mut(topic);
        let own = own.filter(|own| own.series == series);
        own.map_or(0, |own| std::mem::take(&mut own.dropped))
    }
}

/// The last messages of a topic that a process has received, by sender.
#[derive(Default)]
pub(super) struct Incoming {
    senders: Vec<Sender>,
}

struct Sender {
    node: u64,
    series: u64,
    last: u64,
    /// The connection to the engine broke since the last message, which was announced.
    is_uncertain: bool,
    heard: Duration,
}

/// What the number of a message says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// So many messages were lost before it.
    New(u64),
    /// It was received before.
    Duplicate,
}

impl Incoming {
    /// Compares the number of a message with the last one.
    pub(super) fn receive(&mut self, origin: &Origin, now: Duration) -> Verdict {
        let Origin {
            node,
            series,
            number,
            dropped,
        } = *origin;
        let Some(sender) = self.senders.iter_mut().find(|sender| sender.node == node) else {
            self.make_room();
            self.senders.push(Sender {
                node,
                series,
                last: number,
                is_uncertain: false,
                heard: now,
            });
            // It may have sent others before the topic was of interest.
            return Verdict::New(dropped);
        };
        sender.heard = now;
        let is_uncertain = std::mem::take(&mut sender.is_uncertain);
        if series == sender.series && number <= sender.last || series < sender.series {
            sender.is_uncertain = is_uncertain;
            return Verdict::Duplicate;
        }
        let before = match series == sender.series {
            true => sender.last,
            false => 0,
        };
        (sender.series, sender.last) = (series, number);
        match is_uncertain {
            // An unknown number was announced, which includes the messages that did not arrive.
            // Those that the sender dropped may be later than the announcement.
            true => Verdict::New(dropped),
            false => Verdict::New(number.saturating_sub(before + 1)),
        }
    }

    /// Notes that messages may have been lost, which is announced.
    pub(super) fn lose(&mut self) {
        for sender in &mut self.senders {
            sender.is_uncertain = true;
        }
    }

    /// Forgets the sender that was silent for the longest time, if there are many.
    fn make_room(&mut self) {
        if self.senders.len() < SENDERS_MAX {
            return;
        }
        let senders = self.senders.iter().enumerate();
        if let Some((at, _)) = senders.min_by_key(|(_, sender)| sender.heard) {
            self.senders.swap_remove(at);
        }
    }
}

/// Most processes whose messages of one topic are counted. Beyond it, a loss is noticed only after
/// the second message of a process.
const SENDERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn receive(incoming: &mut Incoming, series: u64, number: u64) -> Verdict {
        incoming.receive(&Origin::new(1, series, number), NOW)
    }

    #[test]
    fn a_jump_is_a_loss_and_a_repetition_is_none() {
        let mut incoming = Incoming::default();
        assert_eq!(receive(&mut incoming, 1, 5), Verdict::New(0));
        assert_eq!(receive(&mut incoming, 1, 6), Verdict::New(0));
        assert_eq!(receive(&mut incoming, 1, 9), Verdict::New(2));
        assert_eq!(receive(&mut incoming, 1, 8), Verdict::Duplicate);
        assert_eq!(receive(&mut incoming, 2, 1), Verdict::New(0));
        assert_eq!(receive(&mut incoming, 1, 10), Verdict::Duplicate);
        assert_eq!(receive(&mut incoming, 3, 4), Verdict::New(3));
        // Another process has numbers of its own.
        assert_eq!(
            incoming.receive(&Origin::new(2, 1, 4), NOW),
            Verdict::New(0)
        );
        let dropped = Origin {
            dropped: 7,
            ..Origin::new(3, 1, 9)
        };
        assert_eq!(incoming.receive(&dropped, NOW), Verdict::New(7));
    }

    #[test]
    fn after_an_unknown_loss_the_next_number_counts_from_anew() {
        let mut incoming = Incoming::default();
        receive(&mut incoming, 1, 5);
        incoming.lose();
        assert_eq!(receive(&mut incoming, 1, 5), Verdict::Duplicate);
        assert_eq!(receive(&mut incoming, 1, 9), Verdict::New(0));
        assert_eq!(receive(&mut incoming, 1, 11), Verdict::New(1));
    }

    #[test]
    fn what_a_sender_drops_after_an_unknown_loss_is_announced() {
        let mut incoming = Incoming::default();
        receive(&mut incoming, 1, 5);
        incoming.lose();
        let dropped = Origin {
            dropped: 2,
            ..Origin::new(1, 1, 9)
        };
        assert_eq!(incoming.receive(&dropped, NOW), Verdict::New(2));
    }

    #[test]
    fn many_senders_are_not_remembered() {
        let mut incoming = Incoming::default();
        for node in 0..1000 {
            let now = Duration::from_secs(node);
            assert_eq!(
                incoming.receive(&Origin::new(node, 1, 1), now),
                Verdict::New(0)
            );
        }
        assert_eq!(incoming.senders.len(), SENDERS_MAX);
    }

    #[test]
    fn numbers_count_by_topic_and_a_forgotten_topic_begins_a_series() {
        let mut outgoing = Outgoing::new(4);
        let names: Vec<Arc<str>> = ["a", "b", "c", "d", "e"].map(Arc::from).into();
        assert_eq!(outgoing.next(&names[0]), (1, 1));
        assert_eq!(outgoing.next(&names[0]), (1, 2));
        outgoing.skip(&names[0], 3);
        assert_eq!(outgoing.next(&names[0]), (1, 6));
        assert_eq!(outgoing.take_dropped(&names[0], 1), 3);
        assert_eq!(outgoing.take_dropped(&names[0], 1), 0, "it was announced");
        for name in &names[1..] {
            outgoing.next(name);
        }
        assert_eq!(outgoing.topics.len(), 2, "half was forgotten, and one came");
        let (series, number) = outgoing.next(&names[0]);
        assert!(series > 4, "{series}");
        assert_eq!(number, 1);
    }
}
