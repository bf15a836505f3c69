//! Topics against a model of sets, their limits, and their histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[test]
fn a_skipped_message_of_a_new_epoch_leaves_no_position_of_the_old_one() {
    let mut history = History::new(1, 5, Duration::MAX);
    history.skip(Position::new(2, 1));
    assert_eq!(history.last(), Position::new(2, 1));
    assert!(history.since(Position::new(1, 1)).is_none());
}

/// A subscription to a topic without settings.
const NEW: Added = Added::New(None);

fn topics(limits: TopicLimits) -> Topics {
    Topics::new(Vec::new(), limits)
}

fn name(number: usize) -> String {
    format!("topic {number}")
}

/// The same as sets: the connections of each topic, and the topics of each connection.
#[derive(Default)]
struct Model {
    members: BTreeMap<usize, BTreeSet<usize>>,
    /// Those that `Occupied` has announced.
    told: BTreeSet<usize>,
}

impl Model {
    fn of(&self, slot: usize) -> BTreeSet<String> {
        let topics = self.members.iter();
        let has = topics.filter(|(_, members)| members.contains(&slot));
        has.map(|(topic, _)| name(*topic)).collect()
    }

    fn occupied(&self) -> BTreeSet<usize> {
        let topics = self.members.iter();
        let has = topics.filter(|(_, members)| !members.is_empty());
        has.map(|(topic, _)| *topic).collect()
    }
}

/// Compares all topics and all connections with the model.
fn compare(topics: &Topics, lists: &[ListId], model: &Model) {
    let mut count = 0;
    for (topic, members) in &model.members {
        let found: BTreeSet<usize> = topics
            .members(&name(*topic))
            .iter()
            .map(|member| member.slot as usize)
            .collect();
        assert_eq!(&found, members, "topic {topic}");
        assert_eq!(topics.members(&name(*topic)).len(), members.len());
        count += members.len();
    }
    assert_eq!(topics.subscriptions(), count);
    for (slot, list) in lists.iter().enumerate() {
        let names = topics.names_of(*list);
        assert_eq!(names.len(), model.of(slot).len());
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        assert_eq!(names, model.of(slot), "connection {slot}");
    }
    let all: BTreeMap<String, usize> = topics
        .all()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    assert_eq!(all.len(), model.occupied().len());
}

/// Ends a turn: announces the changes, and compares them with the model.
fn end_turn(topics: &mut Topics, model: &mut Model) {
    let before = model.told.clone();
    let mut changed = BTreeSet::new();
    while let Some(change) = topics.next_change() {
        let number: usize = change.topic["topic ".len()..].parse().unwrap();
        assert!(changed.insert(number), "announced once in a turn");
        match change.is_occupied {
            true => assert!(model.told.insert(number)),
            false => assert!(model.told.remove(&number)),
        }
    }
    assert_eq!(model.told, model.occupied(), "from {before:?}");
    assert_eq!(topics.len(), model.told.len(), "vacant topics are removed");
    assert!(!topics.has_changes());
}

proptest! {
    /// For any order of calls, topics are what sets would be.
    #[test]
    fn topics_are_sets(
        steps in prop::collection::vec((0usize..8, 0usize..40, 0u8..20), 0..250),
    ) {
        let limits = TopicLimits { subscriptions: usize::MAX, ..TopicLimits::default() };
        let mut topics = topics(limits);
        let mut lists = [ListId::NONE; 8];
        let mut model = Model::default();
        for (slot, topic, kind) in steps {
            let members = model.members.entry(topic).or_default();
            match kind {
                0..=11 => {
                    let added = topics.subscribe(&mut lists[slot], slot, &name(topic));
                    let is_new = members.insert(slot);
                    prop_assert_eq!(added, if is_new { NEW } else { Added::Known });
                }
                12..=16 => {
                    let was_there = topics.unsubscribe(lists[slot], &name(topic));
                    prop_assert_eq!(was_there.is_some(), members.remove(&slot));
                }
                17 => {
                    // The connection ends, and another takes its slot.
                    let names = model.of(slot);
                    topics.leave_all(lists[slot]);
                    let kept: BTreeSet<String> =
                        topics.names_of(lists[slot]).map(str::to_owned).collect();
                    prop_assert_eq!(&kept, &names);
                    prop_assert!(names.iter().all(|name| topics.is_subscribed(lists[slot], name)));
                    model.members.values_mut().for_each(|members| _ = members.remove(&slot));
                    compare_members(&topics, &model);
                    topics.forget(lists[slot]);
                    lists[slot] = ListId::NONE;
                }
                18 => {
                    compare(&topics, &lists, &model);
                    end_turn(&mut topics, &mut model);
                }
                _ => {
                    let subscribed = topics.is_subscribed(lists[slot], &name(topic));
                    prop_assert_eq!(subscribed, members.contains(&slot));
                }
            }
            compare_members(&topics, &model);
        }
        compare(&topics, &lists, &model);
        for list in lists {
            topics.forget(list);
        }
        model.members.clear();
        end_turn(&mut topics, &mut model);
        prop_assert_eq!((topics.subscriptions(), topics.held()), (0, 0));
    }
}

fn compare_members(topics: &Topics, model: &Model) {
    for (topic, members) in &model.members {
        assert_eq!(topics.members(&name(*topic)).len(), members.len());
    }
}

#[test]
fn limits_are_errors_and_nothing_changes() {
    let mut topics = topics(TopicLimits {
        subscriptions: 2,
        topics: 3,
        name_size: 5,
    });
    let (mut one, mut other) = (ListId::NONE, ListId::NONE);
    assert_eq!(topics.subscribe(&mut one, 0, "a"), NEW);
    assert_eq!(topics.subscribe(&mut one, 0, "b"), NEW);
    assert_eq!(topics.subscribe(&mut one, 0, "a"), Added::Known);
    let limit = 2;
    let error = SendError::TooManySubscriptions { limit };
    let full = Full::Subscriptions;
    assert_eq!(topics.subscribe(&mut one, 0, "c"), Added::Refused(full));
    assert_eq!(topics.error(full, "c"), error);
    assert_eq!(topics.subscribe(&mut other, 1, "c"), NEW);
    let limit = 3;
    let error = SendError::TooManyTopics { limit };
    let full = Full::Topics;
    assert_eq!(topics.subscribe(&mut other, 1, "d"), Added::Refused(full));
    assert_eq!(topics.error(full, "d"), error);
    let (size, limit) = (6, 5);
    let error = SendError::TopicNameTooLong { size, limit };
    let full = Full::Name;
    assert_eq!(
        topics.subscribe(&mut other, 1, "123456"),
        Added::Refused(full)
    );
    assert_eq!(topics.error(full, "123456"), error);
    assert_eq!((topics.len(), topics.subscriptions()), (3, 3));
    assert!(topics.unsubscribe(one, "b").is_some());
    // A vacant topic is removed at the end of the turn.
    while topics.next_change().is_some() {}
    assert_eq!(topics.subscribe(&mut other, 1, "12345"), NEW);
}

#[test]
fn the_longest_prefix_decides() {
    let settings = [
        ("", SlowConsumer::Close),
        ("a.", SlowConsumer::DropNewest),
        ("a.b.", SlowConsumer::Conflate),
    ];
    let settings =
        settings.map(|(prefix, policy)| (prefix.into(), Topic::new().slow_consumer(policy)));
    let mut topics = Topics::new(settings.into(), TopicLimits::default());
    let mut list = ListId::NONE;
    for (name, policy) in [
        ("a.b.c", SlowConsumer::Conflate),
        ("a.b.", SlowConsumer::Conflate),
        ("a.b", SlowConsumer::DropNewest),
        ("a", SlowConsumer::Close),
        ("", SlowConsumer::Close),
    ] {
        let added = topics.subscribe(&mut list, 0, name);
        assert_eq!(added, Added::New(Some(policy)));
        let walk = topics.begin(name).unwrap();
        assert_eq!(walk.rules.slow_consumer, Some(policy), "{name:?}");
        topics.end(walk);
    }
}

const AGE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn with_history() -> Topics {
    let settings = vec![("h.".into(), Topic::new().history(3, AGE))];
    Topics::new(settings, TopicLimits::default())
}

/// Publishes a message to nobody; returns when its history has to be looked at.
fn publish(topics: &mut Topics, topic: &str, text: &str, now: Duration) -> Option<Duration> {
    let position = topics.next_position(topic).unwrap().position.unwrap();
    let walk = topics.begin(topic).unwrap();
    let due = topics.keep(&walk, Prepared::text(text), position, now);
    topics.end(walk);
    due
}

/// Returns the missed messages.
fn missed(topics: &mut Topics, position: Position, now: Duration) -> Option<Vec<String>> {
    let missed = topics.missed("h.x", position, now)?;
    let text = |prepared: &Prepared| String::from_utf8_lossy(&prepared.frame()[2..]).into_owned();
    Some(missed.map(text).collect())
}

#[test]
fn a_position_recovers_all_or_nothing() {
    let mut topics = with_history();
    assert_eq!(topics.next_position("x").unwrap().position, None);
    let first = topics.next_position("h.x").unwrap().position.unwrap();
    assert_eq!(first.offset(), 1);
    let before = Position::new(first.epoch(), 0);
    assert_eq!(topics.position("h.x"), Some(before));
    assert_eq!(missed(&mut topics, before, at(0)), Some(Vec::new()));
    for (second, text) in [(0, "1"), (1, "2"), (2, "3"), (3, "4")] {
        publish(&mut topics, "h.x", text, at(second));
    }
    let position = |offset| Position::new(first.epoch(), offset);
    assert_eq!(topics.position("h.x"), Some(position(4)));
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    for (offset, expected) in [
        (0, None),
        (1, texts(&["2", "3", "4"])),
        (3, texts(&["4"])),
        (4, texts(&[])),
        (5, None),
        (u64::MAX, None),
    ] {
        let found = missed(&mut topics, position(offset), at(3));
        assert_eq!(found, expected, "{offset}");
    }
    let elsewhere = Position::new(first.epoch() ^ 1, 3);
    assert_eq!(missed(&mut topics, elsewhere, at(3)), None);
    // The second message is too old.
    assert_eq!(missed(&mut topics, position(1), at(61)), None);
    assert_eq!(missed(&mut topics, position(2), at(61)), texts(&["3", "4"]));
}

#[test]
fn a_topic_with_kept_messages_stays_until_they_are_old() {
    let mut topics = with_history();
    assert_eq!(publish(&mut topics, "h.x", "1", at(0)), Some(AGE));
    assert_eq!(publish(&mut topics, "h.x", "2", at(10)), None, "one timer");
    assert_eq!(publish(&mut topics, "h.y", "1", at(20)), None, "for all");
    while topics.next_change().is_some() {}
    assert!(topics.len() == 2 && topics.held() > 0);
    assert_eq!(topics.expire(at(60), at(60)), Some(at(70)));
    assert_eq!(topics.expire(at(60), at(60)), None, "it was called");
    let epoch = topics.position("h.x").unwrap().epoch();
    assert_eq!(topics.expire(at(70), at(70)), Some(at(80)));
    assert!(topics.next_change().is_none(), "nobody was told of it");
    assert_eq!((topics.len(), topics.position("h.x")), (1, None));
    // A topic of the same name that is made later is another.
    assert_eq!(publish(&mut topics, "h.x", "3", at(75)), None);
    assert_ne!(topics.position("h.x").unwrap().epoch(), epoch);
    assert_eq!(topics.expire(at(80), at(90)), Some(at(135)));
    assert!(topics.next_change().is_none());
    // The look ahead ends with the topic.
    assert!(topics.forget_histories() && topics.next_change().is_none());
    assert_eq!((topics.len(), topics.held(), topics.looks.len()), (0, 0, 0));
    assert_eq!(topics.expire(at(135), at(135)), None);
}

#[test]
fn messages_that_are_not_kept_are_a_gap() {
    let mut topics = with_history();
    publish(&mut topics, "h.x", "1", at(0));
    let position = topics.position("h.x").unwrap();
    publish(&mut topics, "h.x", "2", at(0));
    let walk = topics.begin("h.x").unwrap();
    topics.skip(&walk, Position::new(position.epoch(), 3));
    topics.end(walk);
    publish(&mut topics, "h.x", "4", at(0));
    assert_eq!(missed(&mut topics, position, at(0)), None);
    let third = Position::new(position.epoch(), 3);
    assert_eq!(
        missed(&mut topics, third, at(0)),
        Some(vec!["4".to_owned()])
    );
    assert!(topics.forget_histories() && !topics.forget_histories());
    assert_eq!(missed(&mut topics, third, at(0)), None);
}

#[test]
fn positions_are_text() {
    for position in [
        Position::new(0, 0),
        Position::new(u64::MAX, 77),
        Position::new(0xabc, 1),
    ] {
        let text = position.to_string();
        assert!((3..=33).contains(&text.len()));
        assert_eq!(text.parse(), Ok(position));
    }
    assert_eq!(Position::new(0xabc, 17).to_string(), "abc-11");
    for text in [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "+1-1",
        "1-+1",
        "1-2-3",
        "x-1",
        "1-11111111111111111",
    ] {
        assert_eq!(text.parse::<Position>(), Err(BadPosition), "{text}");
    }
}
