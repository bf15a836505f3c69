//! Topics with a history, which all loops share.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use wsloop::Position;

use super::*;

/// Splits a message into its position and its text.
fn parted(message: &str) -> (Position, String) {
    let (position, text) = message.split_once(' ').unwrap();
    (position.parse().unwrap(), text.to_owned())
}

/// A client that follows a topic, and goes from one loop to the other.
struct Follower {
    addr: SocketAddr,
    client: Client,
    number: usize,
    last: Position,
    seen: HashMap<u64, String>,
}

impl Follower {
    fn new(addr: SocketAddr, number: usize, last: Position) -> Self {
        let mut follower = Self {
            addr,
            client: client_of(addr, number),
            number,
            last,
            seen: HashMap::new(),
        };
        follower.recover();
        follower
    }

    /// Takes a message, which follows the last one.
    fn take(&mut self, message: &str) {
        let (position, text) = parted(message);
        let next = Position::new(self.last.epoch(), self.last.offset() + 1);
        assert_eq!(position, next, "{message}");
        self.last = position;
        self.seen.insert(position.offset(), text);
    }

    fn recover(&mut self) {
        self.client.send_text(&format!("from kept.x {}", self.last));
        let mut count = 0;
        loop {
            let message = next_text(&mut self.client);
            if message.contains('-') {
                self.take(&message);
                count += 1;
            } else {
                // The missed messages come before the answer, and all of them do.
                assert_eq!(message, format!("recovered {count}"));
                return;
            }
        }
    }

    fn follow(&mut self, count: usize, end: u64) {
        for _ in 0..count {
            if self.last.offset() < end {
                let message = next_text(&mut self.client);
                self.take(&message);
            }
        }
    }

    fn change(&mut self) {
        self.number = 1 - self.number;
        let old = std::mem::replace(&mut self.client, client_of(self.addr, self.number));
        old.reset();
        self.recover();
    }
}

#[test]
fn clients_that_change_loops_while_both_publish_miss_nothing() {
    const WRITERS: usize = 2;
    const MESSAGES: usize = 300;
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    let mut writers = crowd(addr, WRITERS);
    subscribe(&mut writers[0][0], "kept.x");
    writers[0][0].send_text("keep kept.x begin");
    let (begin, _) = parted(&next_text(&mut writers[0][0]));
    writers[0][0].send_text("unsubscribe kept.x");
    writers[0][0].expect_text("unsubscribed");
    let end = begin.offset() + (2 * WRITERS * MESSAGES) as u64;

    let mut followers: Vec<Follower> = (0..4)
        .map(|at| Follower::new(addr, at % 2, begin))
        .collect();
    thread::scope(|scope| {
        for (number, clients) in writers.iter_mut().enumerate() {
            for (name, client) in clients.iter_mut().enumerate() {
                scope.spawn(move || {
                    for at in 0..MESSAGES {
                        client.send_text(&format!("keep kept.x {number} {name} {at}"));
                        if at % 50 == 0 {
                            settle(client);
                        }
                    }
                });
            }
        }
        for (at, follower) in followers.iter_mut().enumerate() {
            scope.spawn(move || {
                while follower.last.offset() < end {
                    follower.follow(40 + at, end);
                    // Two of them stay.
                    if at >= 2 {
                        follower.change();
                    }
                }
            });
        }
    });
    let seen = &followers[0].seen;
    assert_eq!(seen.len(), 2 * WRITERS * MESSAGES);
    for follower in &followers[1..] {
        assert!(follower.seen == *seen, "a position has one message");
    }
    // The messages of one client are in their order.
    for number in 0..2 {
        for name in 0..WRITERS {
            let own = format!("{number} {name} ");
            let texts = (begin.offset() + 1..=end).map(|offset| &seen[&offset]);
            let own: Vec<usize> = texts
                .filter_map(|text| text.strip_prefix(&own)?.parse().ok())
                .collect();
            assert_eq!(own, (0..MESSAGES).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_client_is_recovered_on_a_loop_that_had_no_subscriber() {
    let loops = two_loops();
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    subscribe(&mut one, "kept.x");
    let mut positions = Vec::new();
    for number in 0..5 {
        one.send_text(&format!("keep kept.x {number}"));
        let (position, text) = parted(&next_text(&mut one));
        assert_eq!(text, number.to_string());
        positions.push(position);
    }
    other.send_text(&format!("from kept.x {}", positions[2]));
    for number in [3, 4] {
        other.expect_text(&format!("{} {number}", positions[number]));
    }
    other.expect_text("recovered 2");
    for client in [&mut one, &mut other] {
        client.send_text("position kept.x");
        client.expect_text(&positions[4].to_string());
    }
    other.send_text("unsubscribe kept.x");
    other.expect_text("unsubscribed");
    settle(&mut other);
    one.send_text("keep kept.x 5");
    let (last, _) = parted(&next_text(&mut one));
    other.send_text("recent kept.x 2");
    other.expect_text(&format!("{} 4", positions[4]));
    other.expect_text(&format!("{last} 5"));
    other.expect_text("recent 2");
    // A position of another epoch.
    other.send_text("unsubscribe kept.x");
    other.expect_text("unsubscribed");
    other.send_text("from kept.x 1-1");
    other.expect_text("gap");
    // It is subscribed all the same.
    one.send_text("keep kept.x 6");
    let message = next_text(&mut one);
    other.expect_text(&message);
}

#[test]
fn the_first_subscriber_of_a_loop_gets_only_what_is_published_later() {
    let loops = two_loops();
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    subscribe(&mut one, "kept.x");
    let mut last = String::new();
    for number in 0..5 {
        one.send_text(&format!("keep kept.x {number}"));
        last = next_text(&mut one);
    }
    settle(&mut one);
    subscribe(&mut other, "kept.x");
    other.send_text("position kept.x");
    other.expect_text(&parted(&last).0.to_string());
    settle(&mut other);
    one.send_text("keep kept.x new");
    let new = next_text(&mut one);
    other.expect_text(&new);
    // Both publish, and count on.
    other.send_text("keep kept.x newer");
    let newer = next_text(&mut other);
    one.expect_text(&newer);
    assert_eq!(parted(&newer).0.offset(), 7);
}

#[test]
fn a_message_expires_on_a_loop_that_did_not_look_at_it() {
    const AGE: Duration = Duration::from_millis(50);
    let loops =
        two_loops_with(|_, builder| builder.topics("short.", Topic::new().history(10, AGE)));
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    subscribe(&mut one, "short.x");
    one.send_text("keep short.x old");
    let (position, _) = parted(&next_text(&mut one));
    settle(&mut one);
    thread::sleep(AGE);
    other.send_text("recent short.x 10");
    other.expect_text("recent 0");
    let before = Position::new(position.epoch(), position.offset() - 1);
    other.send_text("unsubscribe short.x");
    other.expect_text("unsubscribed");
    other.send_text(&format!("from short.x {before}"));
    other.expect_text("gap");
}

#[test]
fn messages_that_did_not_fit_into_the_inbox_are_a_gap_for_those_who_come_back() {
    let loops = two_loops_with(|_, builder| builder.max_inbox(4096));
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    subscribe(&mut one, "kept.x");
    let held = Held::hold(&loops.handle().each()[1]);
    let mut positions = Vec::new();
    for number in 0..200 {
        one.send_text(&format!("keep kept.x {number}"));
        positions.push(parted(&next_text(&mut one)).0);
    }
    settle(&mut one);
    drop(held);
    other.send_text(&format!("from kept.x {}", positions[0]));
    other.expect_text("gap");
    other.send_text("unsubscribe kept.x");
    other.expect_text("unsubscribed");
    other.send_text(&format!("from kept.x {}", positions[198]));
    other.expect_text(&format!("{} 199", positions[199]));
    other.expect_text("recovered 1");
}
