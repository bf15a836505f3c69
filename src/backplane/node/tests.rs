use std::sync::Arc;
use std::task::{Wake, Waker};

use super::super::inbox::{Item, Taken};
use super::*;
use crate::protocol::Prepared;

struct Silent;

impl Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

/// A node with loops, whose inboxes the test reads.
struct Rig {
    node: Node,
    inboxes: Vec<Inbox>,
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Rig {
    fn new(settings: Settings, loops: usize) -> Self {
        let mut node = Node::new(settings, at(0));
        let inboxes = (0..loops).map(|number| {
            let inbox = Inbox::new(Waker::from(Arc::new(Silent)), 1 << 20);
            node.call(Call::Join(number, inbox.clone()), at(0));
            inbox
        });
        let inboxes = inboxes.collect();
        Self { node, inboxes }
    }

    /// Subscribes a topic on a loop, and confirms it.
    fn subscribe(&mut self, number: usize, topic: &str) {
        self.node.call(Call::Occupied(number, topic.into()), at(0));
        for name in self.node.next_subscribe(at(0), 10) {
            self.node.subscribed(&name, None, at(0));
        }
    }

    fn publish(&mut self, topic: &str, text: &str) {
        let message = TopicMessage::new(topic, Prepared::text(text));
        self.node.call(Call::Publish(0, message, None), at(0));
    }

    /// Hands all messages to the engine; returns their numbers.
    fn send(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(message) = self.node.next_publish() {
            numbers.push(message.origin().number);
        }
        numbers
    }

    /// Returns what a loop was told: the texts of messages, and losses.
    fn heard(&self, number: usize) -> Vec<String> {
        let mut taken = Taken::default();
        self.inboxes[number].take(&mut taken);
        let told = taken.items.iter().map(|item| match item {
            Item::Message(message) => {
                String::from_utf8_lossy(message.message().payload()).into_owned()
            }
            Item::Lost(topic, count) => format!("{topic} lost {count:?}"),
            Item::Position(topic, position) => format!("{topic} at {position}"),
            Item::AllLost | Item::Recovered(..) => "?".into(),
        });
        told.collect()
    }
}

/// Returns a message of another node.
fn foreign(number: u64, text: &str) -> Vec<u8> {
    let message = TopicMessage::new("a", Prepared::text(text));
    encode(&message, &Origin::new(1, 1, number))
}

#[test]
fn interest_is_that_of_all_loops_and_ends_after_a_grace() {
    let mut rig = Rig::new(Settings::default(), 2);
    let node = &mut rig.node;
    node.call(Call::Occupied(0, "a".into()), at(0));
    assert!(
        node.next_subscribe(at(0), 10).is_empty(),
        "it is not connected"
    );
    node.connected(at(0));
    assert_eq!(node.next_subscribe(at(0), 10), ["a".into()]);
    node.call(Call::Occupied(1, "a".into()), at(0));
    node.subscribed("a", None, at(0));
    assert!(node.next_subscribe(at(0), 10).is_empty());

    node.call(Call::Vacated(0, "a".into()), at(0));
    assert!(node.next_unsubscribe(at(9_000), 10).is_empty());
    node.call(Call::Vacated(1, "a".into()), at(0));
    assert!(node.next_unsubscribe(at(4_999), 10).is_empty());
    // One that comes back within the grace needs no subscription.
    node.call(Call::Occupied(1, "a".into()), at(4_999));
    assert!(node.next_subscribe(at(9_000), 10).is_empty());
    assert!(node.next_unsubscribe(at(9_000), 10).is_empty());
    assert_eq!(node.stats().subscribed, 1);
    // A loop that ends leaves all topics.
    node.call(Call::Leave(1), at(10_000));
    assert_eq!(node.timeout(at(10_000)), Some(at(0)), "it has been silent");
    assert_eq!(node.next_unsubscribe(at(15_000), 10), ["a".into()]);
    assert_eq!((node.stats().topics, node.stats().subscribed), (0, 0));
    // Interest that ends before the confirmation ends after it.
    node.call(Call::Occupied(0, "b".into()), at(0));
    assert_eq!(node.next_subscribe(at(0), 10), ["b".into()]);
    node.call(Call::Vacated(0, "b".into()), at(0));
    node.subscribed("b", None, at(0));
    assert_eq!(node.next_unsubscribe(at(5_000), 10), ["b".into()]);
}

#[test]
fn messages_reach_the_loops_that_want_them_and_losses_are_told_before() {
    let mut rig = Rig::new(Settings::default(), 2);
    rig.node.connected(at(0));
    rig.subscribe(1, "a");
    rig.node.received("a", &foreign(3, "three"), None, at(0));
    rig.node.received("a", &foreign(6, "six"), None, at(0));
    rig.node.received("a", &foreign(6, "again"), None, at(0));
    rig.node.received("a", b"from redis-cli", None, at(0));
    rig.node.received("a", b"\xffWL\x01malformed", None, at(0));
    rig.node.received("b", &foreign(1, "nobody"), None, at(0));
    let expected = ["three", "a lost Some(2)", "six", "from redis-cli"];
    assert_eq!(rig.heard(1), expected);
    assert!(rig.heard(0).is_empty());
    let stats = rig.node.stats();
    assert_eq!((stats.received, stats.foreign, stats.lost), (3, 1, 2));
    assert_eq!((stats.duplicates, stats.malformed), (1, 1));
}

#[test]
fn own_messages_that_come_back_are_dropped() {
    let mut rig = Rig::new(Settings::default(), 1);
    rig.node.connected(at(0));
    rig.subscribe(0, "a");
    rig.publish("a", "mine");
    let payload = rig.node.next_publish().expect("one").payload();
    rig.node.received("a", &payload, None, at(0));
    assert!(rig.heard(0).is_empty());
    // With a history they tell the position.
    rig.node
        .received("a", &payload, Some(Position::new(1, 2)), at(0));
    assert_eq!(rig.heard(0), ["a at 1-2"]);
    // So does an engine that has given up a missing message.
    rig.node.reached("a", Position::new(1, 4));
    rig.node.call(Call::Occupied(0, "a".into()), at(0));
    assert_eq!(rig.heard(0), ["a at 1-4", "a at 1-4"]);
}

#[test]
fn after_a_reconnect_all_is_sent_again_that_was_not_confirmed() {
    let mut rig = Rig::new(Settings::default(), 1);
    rig.publish("a", "1");
    assert!(rig.send().is_empty(), "it is not connected");
    rig.node.connected(at(0));
    rig.publish("a", "2");
    rig.publish("a", "3");
    assert_eq!(rig.send(), [1, 2, 3]);
    rig.node.confirmed(1);
    rig.node.disconnected(at(0));
    rig.publish("a", "4");
    rig.node.connected(at(0));
    assert_eq!(rig.send(), [2, 3, 4]);
    rig.node.confirmed(3);
    let stats = rig.node.stats();
    assert_eq!(
        (stats.sent, stats.sent_again, stats.waiting_bytes),
        (4, 2, 0)
    );
    assert_eq!(stats.connects, 2);
}

#[test]
fn a_reconnect_is_a_gap_when_the_topic_is_subscribed_again() {
    let settings = Settings {
        resubscribe_over: at(100),
        ..Settings::default()
    };
    let mut rig = Rig::new(settings, 1);
    rig.node.connected(at(0));
    rig.subscribe(0, "a");
    rig.node.received("a", &foreign(1, "one"), None, at(0));
    rig.node.disconnected(at(0));
    // A subscription that was never confirmed has missed nothing.
    rig.node.call(Call::Occupied(0, "new".into()), at(0));
    rig.node.connected(at(1000));
    assert_eq!(rig.heard(0), ["one"]);
    let names = rig.node.next_subscribe(at(1100), 10);
    assert_eq!(names.len(), 2, "within the time");
    for name in names {
        rig.node.subscribed(&name, None, at(1100));
    }
    // Then the numbers count from anew.
    rig.node.received("a", &foreign(5, "five"), None, at(1200));
    assert_eq!(rig.heard(0), ["a lost None", "five"]);
    assert_eq!((rig.node.stats().gaps, rig.node.stats().lost), (1, 0));
}

#[test]
fn what_waits_is_bounded_and_what_is_dropped_is_told_to_the_others() {
    let one = TopicMessage::new("a", Prepared::text("0")).held();
    let settings = Settings {
        max_waiting: 4 * one,
        ..Settings::default()
    };
    let mut rig = Rig::new(settings.clone(), 1);
    for text in ["1", "2", "3", "4", "5", "6"] {
        rig.publish("a", text);
    }
    assert_eq!(rig.node.stats().dropped, 2);
    rig.node.connected(at(0));
    let first = rig.node.next_publish().expect("the oldest that is left");
    assert_eq!((first.origin().number, first.origin().dropped), (3, 2));
    // An engine that does not confirm gets no more than half of it at a time.
    assert_eq!(rig.send(), [4]);
    rig.publish("a", "7");
    assert_eq!(rig.node.stats().dropped, 3);
    assert!(rig.node.stats().waiting_bytes <= 4 * one);
    rig.node.confirmed(2);
    assert_eq!(rig.send(), [6, 7]);
    // What the channel to the thread has dropped counts in the same way.
    rig.node.confirmed(2);
    rig.node.call(Call::Dropped("a".into(), 10), at(0));
    rig.publish("a", "18");
    let last = rig.node.next_publish().expect("it waits");
    assert_eq!((last.origin().number, last.origin().dropped), (18, 10));
}

#[test]
fn a_silent_engine_is_probed_and_then_given_up() {
    let mut rig = Rig::new(Settings::default(), 1);
    let node = &mut rig.node;
    assert_eq!(node.timeout(at(0)), None);
    node.connected(at(0));
    assert_eq!(node.timeout(at(0)), Some(at(5_000)));
    assert_eq!(node.check(at(4_999)), Check::Fine);
    assert_eq!(node.check(at(5_000)), Check::Probe);
    node.heard(at(5_001));
    assert_eq!(node.check(at(10_000)), Check::Fine);
    assert_eq!(node.check(at(10_001)), Check::Probe);
    assert_eq!(node.check(at(10_002)), Check::Fine);
    assert_eq!(node.check(at(15_001)), Check::Reconnect);
    assert_eq!(node.stats().silences, 1);
}

#[test]
fn histories_of_the_engine_go_through_the_node() {
    let settings = Settings {
        keeps_history: true,
        ..Settings::default()
    };
    let mut rig = Rig::new(settings, 2);
    rig.node.connected(at(0));
    rig.subscribe(0, "a");
    rig.node.call(Call::Occupied(1, "a".into()), at(0));
    let history = Some((10, at(1000)));
    let message = TopicMessage::new("a", Prepared::text("1"));
    rig.node.call(Call::Publish(0, message, history), at(0));
    assert_eq!(rig.heard(1), ["1"], "the other loop has it from here");
    assert!(rig.heard(0).is_empty());
    let waiting = rig.node.next_publish().expect("it waits");
    assert_eq!(waiting.history(), history);
}

#[test]
fn links_pass_calls_on_and_count_what_does_not_fit() {
    use crate::backplane::{Backplane, Publish};
    use crate::topics::Publication;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let rings = Arc::new(AtomicUsize::new(0));
    let counter = rings.clone();
    let one = TopicMessage::new("a", Prepared::text("0")).held();
    let (mut link, calls) = channel(4 * one, false, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let spare = link.clone();
    let inbox = Inbox::new(Waker::from(Arc::new(Silent)), 1 << 20);
    link.start(inbox).expect("it cannot fail");
    link.occupied("a");
    assert_eq!(
        rings.load(Ordering::SeqCst),
        1,
        "once until the thread looks"
    );
    let publish = |link: &mut Link, text: &str| {
        let mut publication = Publication::default();
        publication.begin_prepared(&Prepared::text(text));
        link.publish(&mut Publish::new("a", &mut publication, None, None));
    };
    for text in ["1", "2", "3", "4", "5"] {
        publish(&mut link, text);
    }
    assert_eq!(calls.waiting_bytes(), 0, "the turn has not ended");
    link.flush();
    let taken = calls.take();
    let told: Vec<String> = taken
        .iter()
        .map(|call| match call {
            Call::Join(number, _) => format!("join {number}"),
            Call::Occupied(number, topic) => format!("occupied {number} {topic}"),
            Call::Publish(number, message, _) => {
                let text = String::from_utf8_lossy(message.message().payload());
                format!("publish {number} {text}")
            }
            Call::Dropped(topic, count) => format!("dropped {topic} {count}"),
            call => format!("{call:?}"),
        })
        .collect();
    let expected = [
        "dropped a 3",
        "join 0",
        "occupied 0 a",
        "publish 0 4",
        "publish 0 5",
    ];
    assert_eq!(told, expected);
    drop(link);
    assert!(matches!(calls.take()[..], [Call::Leave(0)]));
    assert!(!calls.is_abandoned());
    drop(spare);
    assert!(calls.is_abandoned());
}

#[test]
fn dropped_messages_are_told_by_the_message_that_arrives() {
    let one = TopicMessage::new("a", Prepared::text("0")).held();
    let settings = Settings {
        max_waiting: 4 * one,
        ..Settings::default()
    };
    let mut rig = Rig::new(settings, 1);
    for text in ["1", "2", "3", "4", "5", "6"] {
        rig.publish("a", text);
    }
    rig.node.connected(at(0));
    let first = rig.node.next_publish().expect("it waits");
    assert_eq!((first.origin().number, first.origin().dropped), (3, 2));
    // It did not arrive, so it tells again.
    rig.node.disconnected(at(0));
    rig.node.connected(at(0));
    let again = rig.node.next_publish().expect("it waits");
    assert_eq!((again.origin().number, again.origin().dropped), (3, 2));
    // If it is dropped, the next one tells of it, too.
    rig.node.disconnected(at(0));
    rig.publish("a", "7");
    rig.node.connected(at(0));
    let next = rig.node.next_publish().expect("it waits");
    assert_eq!((next.origin().number, next.origin().dropped), (4, 3));
}

#[test]
fn a_message_that_the_engine_refuses_counts_as_dropped() {
    let mut rig = Rig::new(Settings::default(), 1);
    rig.node.connected(at(0));
    assert!(rig.node.last_number("a") < (1, 1));
    rig.publish("a", "1");
    rig.publish("a", "2");
    assert_eq!(rig.node.last_number("a"), (1, 2));
    assert_eq!(rig.node.waiting(), 2);
    rig.node.next_publish().expect("it waits");
    rig.node.rejected();
    let next = rig.node.next_publish().expect("it waits");
    assert_eq!((next.origin().number, next.origin().dropped), (2, 1));
    rig.node.confirmed(1);
    let stats = rig.node.stats();
    assert_eq!((stats.dropped, stats.waiting_bytes), (1, 0));
}
