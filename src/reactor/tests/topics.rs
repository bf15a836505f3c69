//! Topics: order, writes, the policies for slow consumers, ends and histories.

use proptest::prelude::*;

use super::*;
use crate::connection::event::{Occupied, Tick, Vacated};
use crate::limits::Limits;
use crate::protocol::Prepared;
use crate::topics::{Position, Published, Recovery, Topic};

const AGE: Duration = Duration::from_secs(60);

fn at<'w>(world: &'w mut World, client: &Client) -> Connection<'w> {
    Connection::new(&mut world.reactor.core, client.tag & SLOTS)
}

fn hub(world: &mut World) -> Hub<'_> {
    Hub::new(&mut world.reactor.core)
}

/// Creates a world with these settings of topics, and `max_backlog`.
fn with_topics<const N: usize>(topics: [(&str, Topic); N], max_backlog: usize) -> World {
    let limits = Limits {
        max_backlog,
        ..Limits::default()
    };
    World::new(Config {
        limits,
        topics: topics.map(|(prefix, topic)| (prefix.into(), topic)).into(),
        ..Config::default()
    })
}

fn policy(policy: SlowConsumer) -> Topic {
    Topic::new().slow_consumer(policy)
}

/// Connects a client that subscribes to topics.
fn subscriber(world: &mut World, topics: &[&str]) -> Client {
    let client = world.ready();
    for topic in topics {
        assert_eq!(at(world, &client).subscribe(topic), Ok(true));
    }
    client
}

/// Connects a subscriber whose kernel is full, after a first message that it takes no byte of.
fn slow(world: &mut World, topics: &[&str]) -> Client {
    let client = subscriber(world, topics);
    client.set_room(Some(0));
    assert!(at(world, &client).send_utf8("first").is_ok());
    world.turn();
    client
}

/// Publishes a text; returns how many receivers it was queued for, replaced an older one for, was
/// dropped for and was refused for.
fn publish(world: &mut World, topic: &str, text: &str) -> [usize; 4] {
    outcome(hub(world).publish(topic, text))
}

fn publish_keyed(world: &mut World, topic: &str, key: &str, text: &str) -> [usize; 4] {
    outcome(hub(world).publish(topic, Outgoing::text(text).key(key)))
}

fn outcome(published: Result<Published, SendError>) -> [usize; 4] {
    let Published {
        receivers,
        queued,
        conflated,
        dropped,
        refused,
        ..
    } = published.unwrap();
    assert_eq!(receivers, queued + conflated + dropped + refused);
    [queued, conflated, dropped, refused]
}

/// Lets the kernel take everything, and returns the texts that the client received.
fn texts(world: &mut World, client: &Client) -> Vec<String> {
    client.set_room(None);
    world.news(client, false, false);
    while world.reactor.next_deadline() == Some(0) {
        world.turn();
    }
    parse(&client.take())
}

/// Returns the payloads of frames, each with its opcode unless it is a text.
fn parse(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(header) = client_frames::Header::parse(bytes, usize::MAX).unwrap() {
        let payload = &bytes[header.size..header.size + header.length];
        let text = String::from_utf8_lossy(payload);
        all.push(match header.first {
            0x81 => text.into_owned(),
            first => format!("{first:x}:{text}"),
        });
        bytes = &bytes[header.size + header.length..];
    }
    assert_eq!(bytes, b"");
    all
}

#[test]
fn a_subscriber_hears_what_was_published_while_it_was_subscribed() {
    let mut world = World::new(Config::default());
    let one = subscriber(&mut world, &["t"]);
    let other = world.ready();
    assert_eq!(publish(&mut world, "t", "1"), [1, 0, 0, 0]);
    assert_eq!(at(&mut world, &other).subscribe("t"), Ok(true));
    assert_eq!(
        at(&mut world, &one).send_utf8("sent").map(Sent::receivers),
        Ok(1)
    );
    assert_eq!(publish(&mut world, "t", "2"), [2, 0, 0, 0]);
    // All in one turn: what was published is sent, although the subscription is over.
    assert!(at(&mut world, &one).unsubscribe("t"));
    assert!(!at(&mut world, &one).unsubscribe("t"));
    assert_eq!(publish(&mut world, "t", "3"), [1, 0, 0, 0]);
    assert_eq!(at(&mut world, &one).subscribe("t"), Ok(true));
    assert_eq!(at(&mut world, &one).subscribe("t"), Ok(false));
    assert_eq!(publish(&mut world, "t", "4"), [2, 0, 0, 0]);
    assert_eq!(publish(&mut world, "none", "5"), [0, 0, 0, 0]);
    world.turn();
    assert_eq!(texts(&mut world, &one), ["1", "sent", "2", "4"]);
    assert_eq!(texts(&mut world, &other), ["2", "3", "4"]);
    let stats = world.reactor.core.shared.stats;
    assert_eq!((stats.publishes, stats.publish_receivers), (4, 6));
    assert_eq!((stats.subscribes, stats.unsubscribes), (3, 1));
}

#[test]
fn the_publisher_is_left_out_and_replies_keep_their_order() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Utf8, _>(|conn, text| {
        conn.send_utf8("before")?;
        let others = conn.publish("t", text)?;
        let all = conn.server().publish("t", "to all")?;
        assert_eq!((others.receivers, all.receivers), (1, 2));
        conn.send_utf8("after")
    });
    let one = subscriber(&mut world, &["t"]);
    let other = subscriber(&mut world, &["t"]);
    world.send(&one, &frame(0x81, b"hi"));
    assert_eq!(texts(&mut world, &one), ["before", "to all", "after"]);
    assert_eq!(texts(&mut world, &other), ["hi", "to all"]);
}

#[test]
fn all_topics_of_a_turn_leave_in_one_write() {
    let mut world = World::new(Config::default());
    let topics: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let clients = [
        subscriber(&mut world, &names),
        subscriber(&mut world, &names),
    ];
    let writes = clients.each_ref().map(|client| client.calls().1);
    for topic in &names {
        assert_eq!(publish(&mut world, topic, topic), [2, 0, 0, 0]);
    }
    world.turn();
    for (client, writes) in clients.iter().zip(writes) {
        assert_eq!(client.calls().1, writes + 1);
        assert_eq!(parse(&client.take()), topics);
    }
}

#[test]
fn a_full_queue_is_refused_closed_or_dropped_as_the_topic_says() {
    let topics = [
        ("error", policy(SlowConsumer::Error)),
        ("close", policy(SlowConsumer::Close)),
        ("newest", policy(SlowConsumer::DropNewest)),
    ];
    let mut world = with_topics(topics, 1000);
    let large = "x".repeat(600);
    let client = slow(&mut world, &["error", "close", "newest", "plain"]);
    assert_eq!(publish(&mut world, "newest", &large), [1, 0, 0, 0]);
    assert_eq!(publish(&mut world, "newest", &large), [0, 0, 1, 0]);
    assert_eq!(publish(&mut world, "error", &large), [0, 0, 0, 1]);
    assert_eq!(publish(&mut world, "plain", &large), [0, 0, 0, 1]);
    // A ping is no message of a topic.
    assert!(at(&mut world, &client).ping(b"p").is_ok());
    assert_eq!(texts(&mut world, &client), ["first", &*large, "89:p"]);
    let client = slow(&mut world, &["close"]);
    world.take_log();
    assert_eq!(publish(&mut world, "close", &large), [2, 0, 0, 0]);
    assert_eq!(publish(&mut world, "close", &large), [1, 0, 0, 1]);
    assert_eq!(hub(&mut world).subscribers("close").len(), 1);
    world.turn();
    let log = world.take_log();
    assert_eq!(log[0], "error: max_backlog exceeded");
    let received = texts(&mut world, &client);
    assert_eq!(received[..2], ["first".to_owned(), large]);
    assert!(received[2].starts_with("88:"));
    let stats = world.reactor.core.shared.stats;
    assert_eq!((stats.publish_dropped, stats.publish_refused), (1, 3));
    assert_eq!((stats.dropped_messages, stats.refused_messages), (1, 3));
    assert_eq!((stats.slow_closes, stats.evicted), (1, 0));
}

#[test]
fn the_oldest_of_the_topic_make_room_and_no_others() {
    let topics = [
        ("a", policy(SlowConsumer::DropOldest)),
        ("b", policy(SlowConsumer::DropOldest)),
    ];
    let mut world = with_topics(topics, 3000);
    let client = slow(&mut world, &["a", "b"]);
    let text = |name: &str, number: usize| format!("{name}{number}{}", "-".repeat(700));
    let mut sent = vec!["first".to_owned()];
    assert_eq!(publish(&mut world, "a", &text("a", 1)), [1, 0, 0, 0]);
    assert!(at(&mut world, &client).send_utf8("kept").is_ok());
    assert_eq!(publish(&mut world, "b", &text("b", 1)), [1, 0, 0, 0]);
    for number in 2..=5 {
        assert_eq!(publish(&mut world, "a", &text("a", number)), [1, 0, 0, 0]);
    }
    // There is room for a message of `b` after the one that it drops.
    assert_eq!(publish(&mut world, "b", &text("b", 2)), [1, 0, 0, 0]);
    sent.push("kept".into());
    sent.extend([text("a", 4), text("a", 5), text("b", 2)]);
    assert_eq!(texts(&mut world, &client), sent);
    let stats = world.reactor.core.shared.stats;
    assert_eq!((stats.publish_queued, stats.evicted), (7, 4));
    assert_eq!(stats.dropped_messages, 4);
}

#[test]
fn a_newer_value_takes_the_place_of_an_unsent_one() {
    let mut world = with_topics([("p.", policy(SlowConsumer::Conflate))], 1 << 20);
    let fast = subscriber(&mut world, &["p.x", "p.y"]);
    let client = slow(&mut world, &["p.x", "p.y"]);
    assert_eq!(
        publish_keyed(&mut world, "p.x", "EUR", "eur 1"),
        [2, 0, 0, 0]
    );
    assert_eq!(
        publish_keyed(&mut world, "p.x", "USD", "usd 1"),
        [2, 0, 0, 0]
    );
    assert!(at(&mut world, &client).send_utf8("between").is_ok());
    assert_eq!(
        publish_keyed(&mut world, "p.y", "EUR", "other topic"),
        [2, 0, 0, 0]
    );
    assert_eq!(publish(&mut world, "p.x", "no key"), [2, 0, 0, 0]);
    // The same turn: the fast one has not been offered to the kernel, and gets both.
    assert_eq!(
        publish_keyed(&mut world, "p.x", "EUR", "eur number 2"),
        [1, 1, 0, 0]
    );
    world.turn();
    assert_eq!(
        publish_keyed(&mut world, "p.x", "EUR", "eur 3"),
        [1, 1, 0, 0]
    );
    let expected = [
        "first",
        "eur 3",
        "usd 1",
        "between",
        "other topic",
        "no key",
    ];
    assert_eq!(texts(&mut world, &client), expected);
    let expected = [
        "eur 1",
        "usd 1",
        "other topic",
        "no key",
        "eur number 2",
        "eur 3",
    ];
    assert_eq!(texts(&mut world, &fast), expected);
    // The queue is empty, so nothing is replaced.
    assert_eq!(
        publish_keyed(&mut world, "p.x", "EUR", "eur 4"),
        [2, 0, 0, 0]
    );
    assert_eq!(world.reactor.core.shared.stats.publish_conflated, 2);
}

#[test]
fn what_has_begun_to_leave_is_not_replaced() {
    let mut world = with_topics([("", policy(SlowConsumer::Conflate))], 1 << 20);
    let client = slow(&mut world, &["t"]);
    assert_eq!(publish_keyed(&mut world, "t", "k", "value 1"), [1, 0, 0, 0]);
    assert_eq!(publish_keyed(&mut world, "t", "l", "value 2"), [1, 0, 0, 0]);
    // The first message, and one byte of the next.
    client.set_room(Some(8));
    world.news(&client, false, false);
    assert_eq!(publish_keyed(&mut world, "t", "k", "value 3"), [1, 0, 0, 0]);
    assert_eq!(publish_keyed(&mut world, "t", "l", "value 4"), [0, 1, 0, 0]);
    assert_eq!(publish_keyed(&mut world, "t", "k", "value 5"), [0, 1, 0, 0]);
    let expected = ["first", "value 1", "value 4", "value 5"];
    assert_eq!(texts(&mut world, &client), expected);
}

#[test]
fn a_slow_subscriber_costs_no_system_call_and_no_memory_without_end() {
    let mut world = with_topics([("", policy(SlowConsumer::Conflate))], 100_000);
    let client = slow(&mut world, &["t"]);
    let keys: Vec<String> = (0..50).map(|key| format!("key {key}")).collect();
    for key in &keys {
        publish_keyed(&mut world, "t", key, key);
    }
    world.turn();
    let (calls, backlog) = (client.calls().1, at(&mut world, &client).backlog());
    for round in 0..200 {
        for key in &keys {
            let text = format!("{key} {round:04}");
            assert_eq!(publish_keyed(&mut world, "t", key, &text), [0, 1, 0, 0]);
        }
        world.turn();
    }
    assert_eq!(client.calls().1, calls, "the kernel is full");
    assert_eq!(at(&mut world, &client).backlog(), backlog + 5 * keys.len());
    let received = texts(&mut world, &client);
    let latest = keys.iter().map(|key| format!("{key} 0199"));
    assert_eq!(received[1..], latest.collect::<Vec<_>>());
    // So many small messages of a topic without keys are limited by their entries, too.
    let mut world = with_topics([("", policy(SlowConsumer::DropOldest))], 100_000);
    let client = slow(&mut world, &["t"]);
    for number in 0..10_000 {
        assert_eq!(publish(&mut world, "t", &number.to_string()), [1, 0, 0, 0]);
    }
    let received = texts(&mut world, &client);
    assert!(received.len() < 100_000 / 64 && received.len() > 1_000);
    assert_eq!(received.last().map(String::as_str), Some("9999"));
    // What was dropped takes no memory, even behind a message that is stuck.
    let client = slow(&mut world, &["t"]);
    let mut held = Vec::new();
    for number in 0..30_000 {
        publish(&mut world, "t", &"x".repeat(900 + number % 9));
        if number % 10_000 == 9_999 {
            let slot = client.tag & SLOTS;
            let peer = world.reactor.core.peers.get(slot).unwrap();
            held.push(peer.held().all());
        }
    }
    assert!(held[2] < held[0] * 11 / 10, "{held:?}");
}

#[test]
fn larger_replacements_do_not_exceed_the_backlog() {
    let topics = [("", policy(SlowConsumer::Conflate))];
    let mut world = with_topics(topics, 5_000);
    let client = slow(&mut world, &["t"]);
    for key in 0..20 {
        let done = publish_keyed(&mut world, "t", &key.to_string(), "small");
        assert_eq!(done, [1, 0, 0, 0]);
    }
    let large = "x".repeat(1_000);
    let mut conflated = 0;
    for key in 0..20 {
        let [0, replaced, dropped, 0] = publish_keyed(&mut world, "t", &key.to_string(), &large)
        else {
            panic!("there is one with this key");
        };
        assert_eq!(replaced + dropped, 1);
        conflated += replaced;
    }
    let slot = client.tag & SLOTS;
    let backlog = world.reactor.core.peers.get(slot).unwrap().backlog();
    assert!(backlog <= 5_000 && conflated > 1, "{backlog}, {conflated}");
    // One that is not larger always takes the place.
    for key in 0..20 {
        let done = publish_keyed(&mut world, "t", &key.to_string(), "last");
        assert_eq!(done, [0, 1, 0, 0]);
    }
    let received = texts(&mut world, &client);
    assert_eq!(received[1..], ["last"; 20]);
}

#[test]
fn what_is_sent_after_a_new_subscription_is_not_overtaken() {
    for policy_of in [SlowConsumer::Conflate, SlowConsumer::DropOldest] {
        let mut world = with_topics([("", policy(policy_of))], 400);
        let client = slow(&mut world, &["t"]);
        publish_keyed(&mut world, "t", "k", "1");
        assert!(at(&mut world, &client).unsubscribe("t"));
        assert_eq!(at(&mut world, &client).subscribe("t"), Ok(true));
        // The state of now, and what changes it.
        assert!(at(&mut world, &client).send_utf8("5").is_ok());
        for value in 6..20 {
            publish_keyed(&mut world, "t", "k", &value.to_string());
        }
        let received = texts(&mut world, &client);
        assert_eq!(received[..3], ["first", "1", "5"]);
        assert_eq!(received.last().map(String::as_str), Some("19"));
    }
}

#[test]
fn a_dropped_message_of_the_application_is_told_at_once() {
    let mut world = with_topics([], 2_000);
    let client = slow(&mut world, &["t"]);
    at(&mut world, &client).set_slow_consumer(SlowConsumer::DropOldest);
    let log = world.log.clone();
    let message = "x".repeat(1_500);
    let message = Outgoing::text(&message).then(move |_: &mut Connection<'_>, result| {
        log.borrow_mut().push(format!("{result:?}"));
    });
    assert!(at(&mut world, &client).send_message(message).is_ok());
    world.turn();
    assert_eq!(world.take_log(), [""; 0]);
    assert_eq!(publish(&mut world, "t", &"y".repeat(1_500)), [1, 0, 0, 0]);
    world.turn();
    assert_eq!(world.take_log(), ["Err(Dropped)"]);
}

#[test]
fn an_aborted_subscriber_is_none() {
    let mut world = World::new(Config::default());
    let client = subscriber(&mut world, &["t"]);
    let other = subscriber(&mut world, &["t"]);
    at(&mut world, &client).abort();
    assert_eq!(hub(&mut world).subscribers("t").len(), 1);
    assert_eq!(publish(&mut world, "t", "1"), [1, 0, 0, 0]);
    let again = at(&mut world, &client).subscribe("t");
    assert_eq!(again, Err(SendError::Closing));
    let mut count = 0;
    hub(&mut world).for_each_subscriber("t", |_| count += 1);
    assert_eq!(count, 1);
    world.turn();
    assert_eq!(texts(&mut world, &other), ["1"]);
}

#[test]
fn a_recovery_is_complete_or_none_when_memory_is_nearly_used_up() {
    for budget in (60_000..400_000).step_by(20_000) {
        let config = Config {
            memory_budget: budget,
            topics: vec![("h".into(), Topic::new().history(100, AGE))],
            ..Config::default()
        };
        let mut world = World::new(config);
        let position = hub(&mut world).publish("h", "0").unwrap().position.unwrap();
        for number in 1..=100 {
            publish(&mut world, "h", &format!("{number:01000}"));
        }
        world.turn();
        let client = world.ready();
        client.set_room(Some(0));
        let answer = at(&mut world, &client).subscribe_from("h", position);
        world.turn();
        let expected = match answer.unwrap() {
            Recovery::Recovered(count) => count,
            Recovery::Gap | Recovery::Pending => 0,
        };
        assert!(expected == 100 || expected == 0);
        assert_eq!(texts(&mut world, &client).len(), expected, "{budget}");
    }
}

#[test]
fn conflation_counts_only_growth_against_the_budget() {
    let config = Config {
        memory_budget: 200_000,
        topics: vec![
            ("c".into(), policy(SlowConsumer::Conflate)),
            ("h".into(), Topic::new().history(10, AGE)),
        ],
        ..Config::default()
    };
    let mut world = World::new(config);
    let client = slow(&mut world, &["c"]);
    let value = "x".repeat(200);
    for _ in 0..10_000 {
        publish_keyed(&mut world, "c", "k", &value);
    }
    // All in one turn, and there is memory for others.
    let position = hub(&mut world).publish("h", "1").unwrap().position.unwrap();
    assert!(hub(&mut world).publish("h", "2").is_ok());
    let other = world.ready();
    let answer = at(&mut world, &other).subscribe_from("h", position);
    assert_eq!(answer, Ok(Recovery::Recovered(1)));
    assert_eq!(texts(&mut world, &client), ["first", &value]);
}

#[test]
fn callbacks_for_sent_messages_survive_replaced_and_dropped_ones() {
    for name in ["c", "d"] {
        let topics = [
            ("c", policy(SlowConsumer::Conflate)),
            ("d", policy(SlowConsumer::DropOldest)),
        ];
        let mut world = with_topics(topics, 3_000);
        let client = slow(&mut world, &[name]);
        let log = world.log.clone();
        let text = |number: usize| format!("{number}{}", "-".repeat(900));
        publish_keyed(&mut world, name, "k", &text(1));
        let done = move |_: &mut Connection<'_>, result: Result<(), SendError>| {
            log.borrow_mut().push(match result {
                Ok(()) => "sent".into(),
                Err(error) => error.to_string(),
            });
        };
        let message = Outgoing::text("mine").then(done);
        assert!(at(&mut world, &client).send_message(message).is_ok());
        for number in 2..8 {
            publish_keyed(&mut world, name, "k", &text(number));
        }
        world.turn();
        assert_eq!(world.take_log(), [""; 0]);
        // Everything up to the message, and not a byte more.
        let before = match name {
            "c" => 7 + 905,
            _ => 7,
        };
        client.set_room(Some(before + 6));
        world.news(&client, false, false);
        assert_eq!(world.take_log()[0], "sent", "{name}");
        let received = texts(&mut world, &client);
        assert_eq!(received[1 + usize::from(name == "c")], "mine");
    }
}

#[test]
fn occupied_and_vacated_come_at_the_end_of_the_turn() {
    let mut world = World::new(Config::default());
    let log = world.log.clone();
    let occupied = log.clone();
    world
        .reactor
        .handlers
        .set::<Occupied, _>(move |hub, topic| {
            let count = hub.subscribers(topic).len();
            occupied
                .borrow_mut()
                .push(format!("occupied {topic} {count}"));
            hub.publish(topic, "welcome").map(drop)
        });
    world.reactor.handlers.set::<Vacated, _>(move |hub, topic| {
        let count = hub.subscribers(topic).len();
        log.borrow_mut().push(format!("vacated {topic} {count}"));
    });
    let (client, other) = (world.ready(), world.ready());
    for topic in ["a", "b", "c"] {
        assert_eq!(at(&mut world, &client).subscribe(topic), Ok(true));
    }
    assert!(at(&mut world, &client).unsubscribe("c"));
    assert_eq!(world.take_log(), [""; 0], "the turn is not over");
    world.turn();
    assert_eq!(world.take_log(), ["occupied a 1", "occupied b 1"]);
    assert_eq!(at(&mut world, &other).subscribe("b"), Ok(true));
    world.turn();
    assert_eq!(world.take_log(), [""; 0]);
    assert_eq!(texts(&mut world, &client), ["welcome", "welcome"]);
    assert_eq!(texts(&mut world, &other), [""; 0]);
    assert!(at(&mut world, &client).unsubscribe("a"));
    assert!(at(&mut world, &other).unsubscribe("b"));
    assert_eq!(hub(&mut world).topic_count(), 2);
    world.turn();
    assert_eq!(world.take_log(), ["vacated a 0"]);
    let all: Vec<_> = hub(&mut world)
        .topics()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    assert_eq!(all, [("b".to_owned(), 1)]);
}

#[test]
fn a_connection_that_closes_is_in_no_topic_but_its_topics_can_be_read() {
    let mut world = World::new(Config::default());
    let log = world.log.clone();
    world.reactor.handlers.set::<Disconnect, _>(move |conn, _| {
        let mut topics: Vec<_> = conn.topics().map(str::to_owned).collect();
        topics.sort();
        assert!(conn.is_subscribed("a") && !conn.is_subscribed("c"));
        assert_eq!(conn.subscribe("c"), Err(SendError::Closing));
        log.borrow_mut().push(format!("disconnect of {topics:?}"));
        // The others are told.
        conn.publish("a", "one left").map(drop)
    });
    let client = subscriber(&mut world, &["a", "b"]);
    let other = subscriber(&mut world, &["a"]);
    assert!(at(&mut world, &client).disconnect(1000, "").is_ok());
    assert_eq!(hub(&mut world).subscribers("a").len(), 1);
    assert_eq!(publish(&mut world, "b", "nobody"), [0; 4]);
    assert_eq!(
        at(&mut world, &client).subscribe("c"),
        Err(SendError::Closing)
    );
    assert!(at(&mut world, &client).is_subscribed("b"));
    assert!(at(&mut world, &client).unsubscribe("b"));
    assert!(at(&mut world, &client).subscribe("b").is_err());
    world.send(&client, &frame(0x88, &1000u16.to_be_bytes()));
    assert_eq!(world.take_log(), ["disconnect of [\"a\"]"]);
    world.turn();
    assert_eq!(texts(&mut world, &other), ["one left"]);
    client.arrive_fin();
    world.news(&client, true, true);
    assert_eq!(hub(&mut world).subscriptions(), 1);
    // The slot's next connection has none of them.
    let next = world.ready();
    assert_eq!(at(&mut world, &next).topics().len(), 0);
    // One that is cut leaves, too.
    at(&mut world, &other).abort();
    world.turn();
    assert_eq!(
        (
            hub(&mut world).subscriptions(),
            hub(&mut world).topic_count()
        ),
        (0, 0)
    );
}

#[test]
fn a_subscriber_that_comes_back_gets_all_that_it_missed_or_nothing() {
    let mut world = with_topics([("h", Topic::new().history(10, AGE))], 10_000);
    let first = subscriber(&mut world, &["h"]);
    let mut last = None;
    for number in 1..=3 {
        let published = hub(&mut world).publish_with("h", |position| {
            Prepared::text(&format!("{} {number}", position.unwrap().offset()))
        });
        last = published.unwrap().position;
    }
    assert_eq!(texts(&mut world, &first), ["1 1", "2 2", "3 3"]);
    assert_eq!(hub(&mut world).position("h"), last);
    let last = last.unwrap();
    let position = |offset| Position::new(last.epoch(), offset);
    let recover = |world: &mut World, client: &Client, offset| {
        at(world, client).subscribe_from("h", position(offset))
    };
    let client = world.ready();
    let answer = recover(&mut world, &client, 1);
    assert_eq!(answer, Ok(Recovery::Recovered(2)));
    publish(&mut world, "h", "4");
    world.turn();
    assert_eq!(texts(&mut world, &client), ["2 2", "3 3", "4"]);
    // It is subscribed already, and older messages must not follow newer ones.
    assert_eq!(recover(&mut world, &client, 3), Ok(Recovery::Gap));
    let client = world.ready();
    assert_eq!(recover(&mut world, &client, 9), Ok(Recovery::Gap));
    publish(&mut world, "h", "5");
    assert_eq!(texts(&mut world, &client), ["5"], "subscribed all the same");
    // Too large for half of the backlog.
    for _ in 0..3 {
        publish(&mut world, "h", &"x".repeat(2_000));
    }
    let client = world.ready();
    assert_eq!(recover(&mut world, &client, 5), Ok(Recovery::Gap));
    let client = world.ready();
    assert_eq!(recover(&mut world, &client, 6), Ok(Recovery::Recovered(2)));
    let stats = world.reactor.core.shared.stats;
    assert_eq!((stats.recoveries, stats.recovery_gaps), (2, 3));
    // Everything is too old in the end.
    world.pass(70_000);
    let client = world.ready();
    assert_eq!(recover(&mut world, &client, 7), Ok(Recovery::Gap));
}

#[test]
fn a_newcomer_gets_the_newest_messages_that_fit() {
    let mut world = with_topics([("h", Topic::new().history(10, AGE))], 10_000);
    let recent = |world: &mut World, client: &Client, most| {
        let count = at(world, client).subscribe_recent("h", most);
        (count, texts(world, client))
    };
    let all = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let client = world.ready();
    assert_eq!(recent(&mut world, &client, 3), (Ok(0), all(&[])));
    for number in 1..=12 {
        publish(&mut world, "h", &number.to_string());
    }
    let received = texts(&mut world, &client);
    assert_eq!(received.len(), 12);
    // It is subscribed already.
    assert_eq!(recent(&mut world, &client, 3), (Ok(0), all(&[])));
    let client = world.ready();
    let newest = all(&["10", "11", "12"]);
    assert_eq!(recent(&mut world, &client, 3), (Ok(3), newest));
    let client = world.ready();
    assert_eq!(recent(&mut world, &client, 100).0, Ok(10));
    let large = "x".repeat(2_000);
    for _ in 0..3 {
        publish(&mut world, "h", &large);
    }
    let client = world.ready();
    assert_eq!(
        recent(&mut world, &client, 100),
        (Ok(2), all(&[&large, &large]))
    );
    let client = world.ready();
    assert_eq!(recent(&mut world, &client, 0), (Ok(0), all(&[])));
    publish(&mut world, "h", "newer");
    assert_eq!(texts(&mut world, &client), ["newer"]);
    let none = at(&mut world, &client).subscribe_recent("no history", 5);
    assert_eq!(none, Ok(0));
}

#[test]
fn each_subscriber_is_visited_once_whatever_happens_meanwhile() {
    let mut world = World::new(Config::default());
    let clients = [0; 5].map(|_| subscriber(&mut world, &["t"]));
    let mut visited = Vec::new();
    hub(&mut world).for_each_subscriber("t", |conn| {
        visited.push(conn.id());
        conn.unsubscribe("t");
        assert_eq!(conn.subscribe("t"), Ok(true));
        let others: Vec<_> = conn.server().subscribers("t").collect();
        let other = others.into_iter().find(|other| !visited.contains(other));
        if let Some(other) = other.filter(|_| visited.len() == 1) {
            let closed = conn.server().get(other).unwrap().disconnect(1000, "");
            assert!(closed.is_ok());
        }
    });
    assert_eq!(visited.len(), 4);
    let different: std::collections::BTreeSet<_> = visited.iter().collect();
    assert_eq!(different.len(), 4);
    let published = hub(&mut world).publish("t", &String::from("left")).unwrap();
    let sent = Sent::from(published);
    assert_eq!((sent.receivers(), sent.bytes()), (4, 4 * 6));
    let sum: Published = [published, published].into_iter().sum();
    assert_eq!((sum.receivers, sum.queued, sum.bytes), (8, 8, 48));
    drop(clients);
}

#[test]
fn histories_count_as_memory_and_are_dropped_before_a_connection_is_closed() {
    let limits = Limits {
        max_backlog: 400_000,
        max_send_size: 400_000,
        ..Limits::default()
    };
    let mut world = World::new(Config {
        limits,
        memory_budget: 300_000,
        topics: vec![("h".into(), Topic::new().history(1_000, AGE))],
        ..Config::default()
    });
    world.turn();
    let before = hub(&mut world).memory_used().unwrap();
    for _ in 0..50 {
        publish(&mut world, "h", &"x".repeat(1_000));
    }
    world.turn();
    let used = hub(&mut world).memory_used().unwrap();
    assert!(used - before > 50_000, "{used}");
    let last = hub(&mut world).position("h").unwrap();
    let position = Position::new(last.epoch(), last.offset() - 1);
    let newcomer = world.ready();
    let recovered = at(&mut world, &newcomer).subscribe_from("h", position);
    assert_eq!(recovered, Ok(Recovery::Recovered(1)));
    // A connection takes so much that memory becomes short.
    let client = slow(&mut world, &[]);
    let sent = at(&mut world, &client).send_binary(&[0; 170_000]);
    assert!(sent.is_ok());
    world.turn();
    assert!(hub(&mut world).memory_used().unwrap() > 225_000);
    world.pass(2_000);
    assert!(hub(&mut world).memory_used().unwrap() < 185_000);
    let newcomer = world.ready();
    let recovered = at(&mut world, &newcomer).subscribe_from("h", position);
    assert_eq!(recovered, Ok(Recovery::Gap));
    assert_eq!(world.take_log(), [""; 0], "nobody is closed");
    // Without room for more, messages are published and not kept.
    let large = "x".repeat(10_000);
    let sent = at(&mut world, &client).send_binary(&[0; 80_000]);
    assert!(sent.is_ok());
    let missed = hub(&mut world).publish("h", &large).unwrap().position;
    let before = Position::new(missed.unwrap().epoch(), missed.unwrap().offset() - 1);
    let newcomer = world.ready();
    let recovered = at(&mut world, &newcomer).subscribe_from("h", before);
    assert_eq!(recovered, Ok(Recovery::Gap));
    // Who has missed nothing needs no memory.
    while at(&mut world, &client).send_binary(&[0; 1_000]).is_ok() {}
    let newcomer = world.ready();
    let recovered = at(&mut world, &newcomer).subscribe_from("h", missed.unwrap());
    assert_eq!(recovered, Ok(Recovery::Recovered(0)));
    let newcomer = world.ready();
    assert_eq!(at(&mut world, &newcomer).subscribe_recent("h", 10), Ok(0));
}

#[test]
fn a_message_in_parts_is_not_interrupted() {
    let mut world = World::new(Config::default());
    let client = subscriber(&mut world, &["t"]);
    assert!(
        at(&mut world, &client)
            .start_message(OpCode::Text, Compress::Auto)
            .is_ok()
    );
    assert!(at(&mut world, &client).send_part("a").is_ok());
    assert_eq!(publish(&mut world, "t", "1"), [0, 0, 0, 1]);
    assert!(at(&mut world, &client).end_message("b").is_ok());
    assert_eq!(publish(&mut world, "t", "2"), [1, 0, 0, 0]);
    world.turn();
    assert_eq!(parse(&client.take()), ["1:a", "80:b", "2"]);
    assert_eq!(world.reactor.core.shared.stats.refused_messages, 1);
}

#[test]
fn messages_with_faults_are_published_to_nobody() {
    let mut world = World::new(Config::default());
    let client = subscriber(&mut world, &["t"]);
    let mut hub = hub(&mut world);
    let large = "x".repeat(65_537);
    let (size, limit) = (65_537, 65_536);
    for (message, error) in [
        (Outgoing::text(&large), SendError::TooBig { size, limit }),
        (Outgoing::parts(OpCode::Ping, &["a"]), SendError::BadFrame),
        (
            Outgoing::parts(OpCode::Text, &[b"\xff"]),
            SendError::BadUtf8,
        ),
    ] {
        assert_eq!(hub.publish("t", message), Err(error));
    }
    let parts = Outgoing::parts(OpCode::Binary, &["a", "b"]);
    assert_eq!(hub.publish("t", parts).map(|all| all.queued), Ok(1));
    world.turn();
    assert_eq!(parse(&client.take()), ["82:ab"]);
}

#[test]
fn a_tick_publishes_as_well() {
    let mut world = World::new(Config {
        tick_period: Duration::from_secs(1),
        ..Config::default()
    });
    world
        .reactor
        .handlers
        .set::<Tick, _>(|hub, _| hub.publish("t", "tick").map(drop));
    let client = subscriber(&mut world, &["t"]);
    let ticks = crate::connection::event::Ticks {
        now: world.start,
        missed: 0,
    };
    let Reactor { core, handlers, .. } = &mut world.reactor;
    emit_hub::<Tick>(core, handlers, ticks);
    world.turn();
    assert_eq!(parse(&client.take()), ["tick"]);
}

/// A step of the property below.
#[derive(Clone, Debug)]
enum Step {
    /// Publish to the topic with this number, with this key, so many bytes.
    Publish(usize, u8, usize),
    Send(usize),
    /// The kernel takes so many bytes.
    Take(usize),
    Turn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0usize..3, 0u8..5, 0usize..6_000).prop_map(|(topic, key, size)| {
            Step::Publish(topic, key, size)
        }),
        1 => (0usize..3_000).prop_map(Step::Send),
        2 => (0usize..20_000).prop_map(Step::Take),
        2 => Just(Step::Turn),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// What a client ends up with is the latest of each key, in an order that the publisher could
    /// have produced; what was sent otherwise is all there; and the sums agree.
    #[test]
    fn slow_clients_get_the_latest_of_each_key(steps in steps(), drops in any::<bool>()) {
        let topics = [
            ("0", policy(SlowConsumer::Conflate)),
            ("1", policy(SlowConsumer::Conflate)),
            ("2", policy(SlowConsumer::DropOldest)),
        ];
        let mut world = with_topics(topics, 60_000);
        let client = subscriber(&mut world, &["0", "1", "2"]);
        if drops {
            at(&mut world, &client).set_slow_consumer(SlowConsumer::DropOldest);
        }
        client.set_room(Some(0));
        let (mut number, mut queued, mut sent) = (0, 0, Vec::new());
        // The last value of each topic and key that was not dropped.
        let mut latest = std::collections::BTreeMap::new();
        for step in steps {
            number += 1;
            match step {
                Step::Publish(topic, key, size) => {
                    let text = format!("{topic} {key} {number} {}", "-".repeat(size));
                    let done = publish_keyed(&mut world, &topic.to_string(), &key.to_string(), &text);
                    queued += done[0];
                    if done[2] == 0 {
                        latest.insert((topic, key), number);
                    }
                }
                Step::Send(size) => {
                    let text = format!("sent {number} {}", "-".repeat(size));
                    let done = at(&mut world, &client).send_utf8(&text);
                    if !drops && done.is_ok_and(|done| done.receivers() == 1) {
                        sent.push(number);
                    }
                }
                Step::Take(room) => {
                    client.set_room(Some(room));
                    world.news(&client, false, false);
                }
                Step::Turn => world.turn(),
            }
        }
        let received = texts(&mut world, &client);
        let evicted = world.reactor.core.shared.stats.evicted as usize;
        let mut values = std::collections::BTreeMap::new();
        let (mut count, mut found) = (0, Vec::new());
        for text in received {
            let mut words = text.split(' ');
            let mut word = || words.next().unwrap().to_owned();
            let first = word();
            if first == "sent" {
                found.push(word().parse::<i32>().unwrap());
                continue;
            }
            count += 1;
            let key = (first.parse::<usize>().unwrap(), word().parse::<u8>().unwrap());
            let value: i32 = word().parse().unwrap();
            let older = values.insert(key, value);
            prop_assert!(older < Some(value), "the values of a key come in order");
        }
        prop_assert_eq!(count, queued - evicted);
        if !drops {
            prop_assert_eq!(found, sent);
        }
        for ((topic, key), number) in latest {
            if topic < 2 {
                prop_assert_eq!(values.get(&(topic, key)), Some(&number));
            }
        }
    }
}
