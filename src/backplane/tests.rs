use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::inbox::Taken;
use super::*;
use crate::protocol::Prepared;
use crate::topics::{Position, Publication};

/// Counts how often a loop was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn inbox(limit: usize) -> (Arc<Bell>, Inbox) {
    let bell = Arc::new(Bell::default());
    let inbox = Inbox::new(Waker::from(bell.clone()), limit);
    (bell, inbox)
}

fn message(topic: &str, text: &str) -> TopicMessage {
    TopicMessage::new(topic, Prepared::text(text))
}

fn take(inbox: &Inbox) -> Taken {
    let mut taken = Taken::default();
    inbox.take(&mut taken);
    taken
}

/// Returns the texts of the messages that were taken.
fn texts(taken: &Taken) -> Vec<String> {
    let messages = taken.items.iter().map(|item| match item {
        Item::Message(message) => {
            let frame = message.message().frame();
            String::from_utf8_lossy(&frame[2..]).into_owned()
        }
        _ => "?".into(),
    });
    messages.collect()
}

fn publish(port: &mut Port, topic: &str, text: &str) {
    let mut publication = Publication::default();
    publication.begin_prepared(&Prepared::text(text));
    port.publish(&mut Publish::new(topic, &mut publication, None, None));
}

#[test]
fn a_loop_is_woken_once_until_it_looks() {
    let (bell, inbox) = inbox(1 << 20);
    inbox.deliver([message("a", "1"), message("a", "2")]);
    inbox.deliver([message("a", "3")]);
    inbox.lost_all();
    assert_eq!(bell.rings(), 1);
    let taken = take(&inbox);
    assert_eq!(texts(&taken), ["1", "2", "3", "?"]);
    assert_eq!(inbox.waiting_bytes(), 0);
    inbox.deliver([message("a", "4")]);
    assert_eq!(bell.rings(), 2);
}

#[test]
fn a_full_inbox_drops_the_oldest_and_counts_them_by_topic() {
    let one = message("a", "0").held();
    let (_bell, inbox) = inbox(3 * one);
    for at in 0..5 {
        inbox.deliver([message(if at == 1 { "b" } else { "a" }, &at.to_string())]);
    }
    let taken = take(&inbox);
    assert_eq!(texts(&taken), ["2", "3", "4"]);
    assert_eq!(taken.dropped, 2);
    assert_eq!(taken.lost.len(), 2);
    for topic in ["a", "b"] {
        assert_eq!(taken.lost.get(topic), Some(&Some(1)), "{topic}");
    }
}

#[test]
fn an_answer_that_does_not_fit_becomes_a_gap_and_a_large_message_stays() {
    let (_bell, inbox) = inbox(100);
    let request = Recover::new(
        "a",
        Since::Recent(1),
        (1, Default::default()),
        7,
        inbox.clone(),
    );
    request.recovered(vec![message("a", &"x".repeat(100))]);
    inbox.deliver([message("a", &"y".repeat(100))]);
    let taken = take(&inbox);
    assert_eq!(taken.unanswered, [7]);
    assert_eq!(taken.items.len(), 1, "the newest stays, whatever its size");
    assert_eq!(taken.dropped, 0);
}

#[test]
fn a_request_that_is_dropped_is_answered_with_a_gap() {
    let (_bell, inbox) = inbox(100);
    let since = Since::Position(Position::new(1, 2));
    drop(Recover::new(
        "a",
        since,
        (1, Default::default()),
        7,
        inbox.clone(),
    ));
    let taken = take(&inbox);
    assert!(matches!(taken.items[0], Item::Recovered(7, None)));
    assert_eq!(taken.items.len(), 1);
}

#[test]
fn a_closed_inbox_takes_nothing() {
    let (bell, inbox) = inbox(100);
    inbox.deliver([message("a", "1")]);
    inbox.close();
    inbox.deliver([message("a", "2")]);
    inbox.lost("a", None);
    assert!(inbox.is_closed());
    assert_eq!((bell.rings(), inbox.waiting_bytes()), (1, 0));
    assert!(take(&inbox).is_empty());
}

#[test]
fn ports_pass_on_what_others_want_when_the_turn_ends() {
    let exchange = Exchange::new(3);
    let inboxes = [inbox(1 << 20), inbox(1 << 20), inbox(1 << 20)];
    let mut ports: Vec<Port> = (0..3).map(|number| exchange.port(number)).collect();
    for (port, (_, inbox)) in ports.iter_mut().zip(&inboxes) {
        port.start(inbox.clone()).expect("it cannot fail");
    }
    ports[0].occupied("a");
    ports[1].occupied("a");
    ports[1].occupied("a");
    ports[2].occupied("b");
    publish(&mut ports[0], "a", "1");
    publish(&mut ports[0], "a", "2");
    publish(&mut ports[0], "nobody", "3");
    assert!(take(&inboxes[1].1).is_empty(), "the turn has not ended");
    ports[0].flush();
    let rings = inboxes.each_ref().map(|(bell, _)| bell.rings());
    assert_eq!(rings, [0, 1, 0]);
    assert_eq!(texts(&take(&inboxes[1].1)), ["1", "2"]);

    ports[1].vacated("a");
    publish(&mut ports[0], "a", "4");
    ports[0].flush();
    assert!(take(&inboxes[1].1).is_empty());

    // A loop that ends leaves no interest.
    ports[1].occupied("a");
    drop(ports.remove(1));
    publish(&mut ports[0], "a", "5");
    ports[0].flush();
    assert!(take(&inboxes[1].1).is_empty());
}

#[test]
fn messages_of_shared_histories_reach_all_loops_and_wake_those_that_want_them() {
    let exchange = Exchange::new(3);
    let inboxes = [inbox(1000), inbox(1000), inbox(1000)];
    let mut ports: Vec<Port> = (0..3).map(|number| exchange.port(number)).collect();
    for (port, (_, inbox)) in ports.iter_mut().zip(&inboxes) {
        port.start(inbox.clone()).expect("it cannot fail");
    }
    ports[1].occupied("a");
    let mut publish = |at: u64| {
        let mut publication = Publication::default();
        publication.begin_prepared(&Prepared::text("x"));
        let position = Some(Position::new(1, at));
        let mut publish = Publish::new("a", &mut publication, position, None);
        ports[0].publish_in_turn(&mut publish, None);
    };
    publish(1);
    let rings = inboxes.each_ref().map(|(bell, _)| bell.rings());
    assert_eq!(rings, [0, 1, 0]);
    // What waits for a loop without interest is bounded: it is woken to keep the messages.
    (2..6).for_each(&mut publish);
    assert_eq!(inboxes[2].0.rings(), 1);
    let taken = take(&inboxes[2].1);
    let Item::Message(first) = &taken.items[0] else {
        panic!("a message");
    };
    assert_eq!(first.position(), Some(Position::new(1, 1)));
}
