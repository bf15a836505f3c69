//! Topics whose subscribers are on several loops.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;

use wsloop::{CloseCode, Stats, WindDown};

use super::*;

#[test]
fn a_publish_reaches_the_subscribers_of_all_loops() {
    let loops = two_loops();
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    subscribe(&mut one, "all");
    subscribe(&mut other, "all");
    for number in 0..100 {
        let clients = [&mut one, &mut other];
        clients[number % 2].send_text(&format!("publish all {number}"));
        for client in clients {
            client.expect_text(&number.to_string());
        }
    }
    // With an unsubscription the messages end.
    other.send_text("unsubscribe all");
    other.expect_text("unsubscribed");
    settle(&mut other);
    one.send_text("publish all not for the other");
    one.expect_text("not for the other");
    settle(&mut other);
    leave(one);
    leave(other);
    let stats: Stats = loops.shutdown().unwrap().into_iter().sum();
    assert_eq!((stats.publishes, stats.backplane_received), (201, 100));
}

/// What a client received, by loop and topic: the client that sent it, and its number.
type Seen = HashMap<(usize, String), Vec<(usize, usize)>>;

#[test]
fn under_load_each_message_arrives_once_and_in_the_order_of_its_loop() {
    const EACH: usize = 6;
    const MESSAGES: usize = 200;
    const TOPICS: [&str; 2] = ["a", "b"];
    let loops = two_loops();
    let mut clients = crowd(loops.local_addrs()[0], EACH);
    for client in clients.iter_mut().flatten() {
        TOPICS.iter().for_each(|topic| subscribe(client, topic));
    }
    let total = 2 * EACH * MESSAGES;
    let mut seen: Vec<Seen> = Vec::new();
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (number, clients) in clients.iter_mut().enumerate() {
            for (name, client) in clients.iter_mut().enumerate() {
                running.push(scope.spawn(move || {
                    for at in 0..MESSAGES {
                        let topic = TOPICS[at % 2];
                        client.send_text(&format!("publish {topic} {topic} {number} {name} {at}"));
                    }
                    let mut seen = Seen::new();
                    for _ in 0..total {
                        let text = next_text(client);
                        let words: Vec<&str> = text.split(' ').collect();
                        let [number, name, at] = [1, 2, 3].map(|at| words[at].parse().unwrap());
                        let list = seen.entry((number, words[0].to_owned())).or_default();
                        list.push((name, at));
                    }
                    seen
                }));
            }
        }
        seen.extend(running.into_iter().map(|one| one.join().unwrap()));
    });
    for ((number, topic), list) in &seen[0] {
        assert_eq!(list.len(), EACH * MESSAGES / 2, "{number} {topic}");
        for name in 0..EACH {
            let own: Vec<usize> = list
                .iter()
                .filter(|one| one.0 == name)
                .map(|one| one.1)
                .collect();
            let first = TOPICS.iter().position(|one| one == topic).unwrap();
            let sent: Vec<usize> = (first..MESSAGES).step_by(2).collect();
            assert_eq!(own, sent, "{number} {topic} {name}");
        }
    }
    // All clients of both loops have the same order of the messages of one loop and topic.
    assert!(seen.iter().all(|one| *one == seen[0]));
    clients.into_iter().flatten().for_each(leave);
    let stats: Stats = loops.shutdown().unwrap().into_iter().sum();
    let sent = total as u64;
    assert_eq!(stats.backplane_sent, sent);
    assert_eq!(stats.backplane_received, sent);
    assert_eq!(stats.publish_queued, sent * 2 * EACH as u64);
    assert_eq!((stats.inbox_dropped, stats.backplane_lost), (0, 0));
}

#[test]
fn a_loop_without_subscribers_gets_nothing_and_is_not_woken() {
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    let mut client = client_of(addr, 0);
    let mut other = client_of(addr, 1);
    subscribe(&mut client, "here");
    subscribe(&mut other, "there");
    let handle = &loops.handle().each()[1];
    let stats = || handle.ask(|hub| hub.stats()).unwrap().recv().unwrap();
    settle(&mut other);
    let before = stats();
    for number in 0..100 {
        // Each is published in a turn of its own.
        client.send_text(&format!("publish here {number}"));
        client.expect_text(&number.to_string());
    }
    settle(&mut client);
    let after = stats();
    assert_eq!(after.backplane_received, before.backplane_received);
    let turns = after.polls - before.polls;
    assert!(turns < 10, "{turns} turns for one question");
    // The last subscriber leaves a topic.
    client.send_text("publish there 1");
    other.expect_text("1");
    other.send_text("unsubscribe there");
    other.expect_text("unsubscribed");
    settle(&mut other);
    client.send_text("publish there 2");
    settle(&mut client);
    assert_eq!(stats().backplane_received, before.backplane_received + 1);
}

#[test]
fn a_turn_wakes_another_loop_once() {
    let loops = two_loops();
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    subscribe(&mut other, "all");
    settle(&mut other);
    let handle = &loops.handle().each()[1];
    let polls = || handle.ask(|hub| hub.stats().polls).unwrap().recv().unwrap();
    let before = polls();
    one.send_text("publish-many all 1000");
    one.expect_text("published");
    for number in 0..1000 {
        other.expect_text(&number.to_string());
    }
    let turns = polls() - before;
    assert!(turns < 50, "{turns} turns for 1000 messages");
}

#[test]
fn a_loop_that_does_not_keep_up_tells_how_much_it_lost() {
    const MESSAGES: u64 = 1000;
    let (gaps, told) = mpsc::channel();
    let loops = two_loops_with(move |number, builder| {
        let gaps = gaps.clone();
        builder.max_inbox(4096).on(Gap, move |_, lost| {
            gaps.send((number, lost.topic.to_owned(), lost.count))
                .unwrap();
        })
    });
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    for topic in ["all", "few"] {
        subscribe(&mut other, topic);
    }
    settle(&mut other);
    let held = Held::hold(&loops.handle().each()[1]);
    one.send_text("publish few first");
    for number in 0..MESSAGES {
        one.send_text(&format!("publish all {number}"));
    }
    settle(&mut one);
    drop(held);
    // The newest are kept.
    let mut received = Vec::new();
    while received.last() != Some(&(MESSAGES - 1)) {
        received.push(next_text(&mut other).parse::<u64>().unwrap());
    }
    let first = received[0];
    assert!(first > 0);
    assert_eq!(received, (first..MESSAGES).collect::<Vec<_>>());
    let mut losses = [told.recv().unwrap(), told.recv().unwrap()];
    losses.sort();
    let lost = MESSAGES - received.len() as u64;
    assert_eq!(losses[0], (1, "all".to_owned(), Some(lost)));
    assert_eq!(losses[1], (1, "few".to_owned(), Some(1)));
    // Later ones arrive again.
    one.send_text("publish all later");
    other.expect_text("later");
    leave(one);
    leave(other);
    let stats = loops.shutdown().unwrap();
    assert_eq!(stats[1].inbox_dropped, lost + 1);
    assert_eq!(stats[1].backplane_lost, lost + 1);
    assert_eq!(stats[1].backplane_received, MESSAGES - lost + 1);
    assert_eq!(stats[0].inbox_dropped, 0);
    told.try_recv().unwrap_err();
}

#[test]
fn a_handle_publishes_while_a_loop_is_left() {
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    let (mut first, mut second) = (client_of(addr, 1), client_of(addr, 1));
    subscribe(&mut first, "all");
    subscribe(&mut second, "all");
    let handle = loops.handle();
    handle
        .wind_down(WindDown::within(LONG).spread(LONG))
        .unwrap();
    first.answer_close(1001);
    // The first loop, which has no clients, ends.
    while handle.each()[0].run(|_| ()).is_ok() {
        thread::yield_now();
    }
    handle.publish("all", "late").unwrap();
    second.expect_text("late");
    handle.shutdown().unwrap();
    second.answer_close(1001);
    loops.join().unwrap();
    handle_is_gone(handle_of_ended());
}

fn handle_of_ended() -> wsloop::LoopsHandle {
    let loops = two_loops();
    let handle = loops.handle().clone();
    drop(loops);
    handle
}

fn handle_is_gone(handle: wsloop::LoopsHandle) {
    assert_eq!(handle.publish("all", "nobody"), Err(SendError::Gone));
    assert_eq!(handle.broadcast_utf8("nobody"), Err(SendError::Gone));
    assert!(handle.ask(|_, hub| hub.len()).is_empty());
    assert!(handle.listeners().unwrap().is_empty());
}

#[test]
fn what_is_published_at_the_end_of_a_loop_reaches_the_others() {
    let loops = two_loops_with(|_, builder| {
        builder.on(Disconnect, |conn, why| {
            if why.code == CloseCode::SERVICE_RESTART {
                conn.publish("left", "bye")?;
            }
            Ok::<_, SendError>(())
        })
    });
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    let mut other_still = client_of(loops.local_addrs()[0], 1);
    subscribe(&mut other_still, "left");
    let handle = loops.handle();
    // The clients of a loop are closed in the order in which they came.
    let how = WindDown::within(LONG).spread(LONG);
    handle.wind_down(how.code(1012)).unwrap();
    other.answer_close(1012);
    other_still.expect_text("bye");
    // The last one of its loop.
    one.answer_close(1012);
    other_still.expect_text("bye");
    handle.shutdown().unwrap();
    other_still.answer_close(1012);
    loops.join().unwrap();
}
