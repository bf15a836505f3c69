//! Messages from backplanes, and clients whose missed messages come from one.

use super::*;
use crate::backplane::{Backplane, Inbox, Outlets, Publish, Recover, TopicMessage};
use crate::connection::event::{Gap, Recovered};
use crate::limits::Limits;
use crate::protocol::Prepared;
use crate::topics::{Position, Recovery, Topic};

/// An engine whose parts a test plays.
#[derive(Default)]
struct Desk {
    inbox: Option<Inbox>,
    requests: Vec<Recover>,
}

struct Engine(Rc<RefCell<Desk>>);

impl Backplane for Engine {
    fn start(&mut self, inbox: Inbox) -> io::Result<()> {
        self.0.borrow_mut().inbox = Some(inbox);
        Ok(())
    }

    fn occupied(&mut self, _topic: &str) {}

    fn vacated(&mut self, _topic: &str) {}

    fn publish(&mut self, _publish: &mut Publish<'_>) {}

    fn keeps_history(&self) -> bool {
        true
    }

    fn recover(&mut self, request: Recover) {
        self.0.borrow_mut().requests.push(request);
    }
}

/// Creates a world with an engine that keeps the histories of all topics of this policy.
fn with_engine(policy: SlowConsumer, max_backlog: usize) -> (World, Rc<RefCell<Desk>>) {
    let limits = Limits {
        max_backlog,
        max_send_size: 1000,
        ..Limits::default()
    };
    let topic = Topic::new()
        .slow_consumer(policy)
        .history(10, Duration::from_secs(60));
    let mut world = World::new(Config {
        limits,
        topics: vec![("".into(), topic)],
        ..Config::default()
    });
    let desk = Rc::new(RefCell::new(Desk::default()));
    let mut outlets = Outlets::new(None, vec![Box::new(Engine(desk.clone()))]);
    let started = outlets.start(|| Waker::noop().clone(), 1 << 20);
    assert!(started.is_ok());
    world.reactor.core.shared.connect(outlets);
    world.note(Recovered, |(topic, recovery)| {
        format!("{topic} {recovery:?}")
    });
    let log = world.log.clone();
    world.reactor.handlers.set::<Gap, ()>(move |_, lost| {
        let line = format!("gap {} {:?}", lost.topic, lost.count);
        log.borrow_mut().push(line);
    });
    (world, desk)
}

fn at<'w>(world: &'w mut World, client: &Client) -> Connection<'w> {
    Connection::new(&mut world.reactor.core, client.tag & SLOTS)
}

fn position(offset: u64) -> Position {
    Position::new(1, offset)
}

fn message(offset: u64, size: usize) -> TopicMessage {
    let text = offset.to_string().repeat(size);
    TopicMessage::new("t", Prepared::text(&text)).at(position(offset))
}

/// Delivers messages of another process.
fn deliver(world: &mut World, desk: &Rc<RefCell<Desk>>, messages: Vec<TopicMessage>) {
    let inbox = desk.borrow().inbox.clone();
    inbox.expect("it has started").deliver(messages);
    world.reactor.empty_inbox();
    world.turn();
}

/// Answers the only request.
fn answer(world: &mut World, desk: &Rc<RefCell<Desk>>, messages: Vec<TopicMessage>) {
    let request = desk.borrow_mut().requests.pop();
    request.expect("a client asked").recovered(messages);
    world.reactor.empty_inbox();
    world.turn();
}

fn frames(messages: impl IntoIterator<Item = TopicMessage>) -> Vec<u8> {
    let frames = messages.into_iter();
    frames
        .flat_map(|one| one.message().frame().to_vec())
        .collect()
}

#[test]
fn a_message_that_arrives_and_was_missed_is_sent_once() {
    let (mut world, desk) = with_engine(SlowConsumer::Error, 1 << 20);
    let client = world.ready();
    let asked = at(&mut world, &client).subscribe_from("t", position(2));
    assert_eq!(asked, Ok(Recovery::Pending));
    // The client has had the first already, elsewhere.
    deliver(&mut world, &desk, vec![message(2, 1), message(4, 1)]);
    assert!(client.take().is_empty());
    answer(&mut world, &desk, vec![message(3, 1), message(4, 1)]);
    assert_eq!(client.take(), frames([message(3, 1), message(4, 1)]));
    assert_eq!(world.take_log(), ["t Recovered(2)"]);
    deliver(&mut world, &desk, vec![message(5, 1)]);
    assert_eq!(client.take(), frames([message(5, 1)]));
}

#[test]
fn the_outcome_of_an_earlier_subscription_is_not_told() {
    let (mut world, desk) = with_engine(SlowConsumer::Error, 1 << 20);
    let client = world.ready();
    let asked = at(&mut world, &client).subscribe_from("t", position(2));
    assert_eq!(asked, Ok(Recovery::Pending));
    let request = desk.borrow_mut().requests.pop();
    request.expect("a client asked").gap();
    world.reactor.empty_inbox();
    assert!(at(&mut world, &client).unsubscribe("t"));
    let asked = at(&mut world, &client).subscribe_from("t", position(2));
    assert_eq!(asked, Ok(Recovery::Pending));
    world.turn();
    assert!(world.take_log().is_empty());
    answer(&mut world, &desk, vec![message(3, 1)]);
    assert_eq!(world.take_log(), ["t Recovered(1)"]);
}

#[test]
fn the_newest_messages_that_fit_are_sent() {
    let (mut world, desk) = with_engine(SlowConsumer::Error, 1000);
    let client = world.ready();
    assert_eq!(at(&mut world, &client).subscribe_recent("t", 10), Ok(0));
    answer(
        &mut world,
        &desk,
        (1..=4).map(|at| message(at, 200)).collect(),
    );
    assert_eq!(client.take(), frames((3..=4).map(|at| message(at, 200))));
    assert_eq!(world.take_log(), ["t Recovered(2)"]);
}

#[test]
fn a_slow_client_is_closed_with_held_messages_during_a_delivery() {
    let (mut world, desk) = with_engine(SlowConsumer::Close, 1000);
    let slow = world.ready();
    let other = world.ready();
    slow.set_room(Some(0));
    assert!(at(&mut world, &slow).send_utf8(&"x".repeat(900)).is_ok());
    world.turn();
    let asked = at(&mut world, &slow).subscribe_from("t", position(0));
    assert_eq!(asked, Ok(Recovery::Pending));
    assert_eq!(at(&mut world, &other).subscribe("t"), Ok(true));
    deliver(&mut world, &desk, vec![message(1, 300), message(2, 300)]);
    assert_eq!(other.take(), frames([message(1, 300), message(2, 300)]));
    assert!(!at(&mut world, &slow).is_ready());
    assert!(world.reactor.core.shared.recoveries.is_empty());
}

#[test]
fn a_message_that_the_loop_must_not_send_is_a_gap() {
    let (mut world, desk) = with_engine(SlowConsumer::Error, 1 << 20);
    let client = world.ready();
    assert_eq!(at(&mut world, &client).subscribe("t"), Ok(true));
    deliver(&mut world, &desk, vec![message(1, 1001), message(2, 1)]);
    assert_eq!(client.take(), frames([message(2, 1)]));
    assert_eq!(world.take_log(), ["gap t Some(1)"]);
}
