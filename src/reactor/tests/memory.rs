//! Memory and rates of connections, and deadlines of their messages.

use super::super::SLOTS;
use super::*;
use crate::SendError;
use crate::config::{OverRate, Rate};
use crate::connection::Phase;
use crate::connection::event::Fragment;
use crate::protocol::OpCode;

fn slot(client: &Client) -> usize {
    client.tag & SLOTS
}

fn is_gone(world: &World, client: &Client) -> bool {
    world
        .reactor
        .core
        .peers
        .get(slot(client))
        .is_none_or(|peer| peer.phase() >= Phase::Lingering)
}

/// Returns the code of the Close frame at the end of the data that was sent to a client.
fn close_code(client: &Client) -> Option<u16> {
    let sent = client.take();
    let start = sent.iter().rposition(|byte| *byte == 0x88)?;
    let code = sent.get(start + 2..start + 4)?.try_into().ok()?;
    Some(u16::from_be_bytes(code))
}

// Deadlines of messages.

#[test]
fn a_message_that_trickles_ends_in_time_whatever_comes_between() {
    let head = client_frames::header(0x82, 60_000);
    let ways: [(&[u8], &[u8]); 4] = [
        (&head, b"x"),
        (&frame(0x01, b"x"), &frame(0x00, b"y")),
        (&frame(0x02, b""), &frame(0x89, b"ping")),
        (&frame(0x01, b"x"), b""),
    ];
    for (first, more) in ways {
        let mut world = World::echo(Config::default());
        let client = world.ready();
        world.pass(1_000);
        world.send(&client, first);
        for _ in 0..59 {
            world.pass(999);
            world.send(&client, more);
            // The client answers pings.
            world.send(&client, &frame(0x8a, b""));
            assert!(!is_gone(&world, &client), "at {}", world.at);
        }
        client.take();
        // Each byte of the message postpones the deadline by the time that it takes at min_rate.
        world.pass(2_100);
        assert!(is_gone(&world, &client));
        assert_eq!(close_code(&client), Some(1008));
        assert_eq!(world.reactor.core.shared.stats.timed_out_messages, 1);
        let log = world.take_log().join(", ");
        let said = "error: message not complete within message_timeout";
        assert!(log.contains(said), "{log}");
    }
}

#[test]
fn a_message_that_comes_steadily_has_the_time_that_it_takes() {
    let mut config = Config::default();
    config.limits.max_recv_size = 16 << 20;
    let size = 8 << 20;
    // In one frame at 100 KB/s, and in fragments.
    for fragments in [false, true] {
        let mut world = World::new(config.clone());
        let log = world.log.clone();
        world.reactor.handlers.set::<Binary, ()>(move |_, data| {
            log.borrow_mut().push(format!("{}", data.len()));
        });
        let client = world.ready();
        let mut whole = frame(0x82, &vec![7; size]);
        if fragments {
            whole = frame(0x02, b"");
            whole.extend(frame(0x00, &[7; 8192]).repeat(size / 8192 - 1));
            whole.extend(frame(0x80, &[7; 8192]));
        }
        for part in whole.chunks(10_000) {
            assert!(!is_gone(&world, &client), "at {}", world.at);
            world.send(&client, part);
            world.pass(100);
        }
        assert!(world.at > 83_000);
        assert_eq!(world.take_log(), [size.to_string()]);
    }
    // At min_rate, in small parts, a message is in time; at four fifths of it, it is not.
    for (each, lives) in [(500, true), (400, false)] {
        let mut world = World::new(config.clone());
        let client = world.ready();
        let bytes = frame(0x82, &vec![7; 1_000_000]);
        world.send(&client, &bytes[..14]);
        for part in bytes[14..].chunks(each).take(600) {
            world.pass(1_000);
            world.send(&client, part);
            world.send(&client, b"");
        }
        assert_eq!(is_gone(&world, &client), !lives);
    }
}

#[test]
fn what_came_fast_earns_a_message_no_more_than_one_timeout() {
    let mut config = Config::default();
    config.limits.max_recv_size = 16 << 20;
    let mut world = World::new(config);
    let client = world.ready();
    world.send(&client, &frame(0x82, &vec![7; 8 << 20])[..8_000_000]);
    let begun = world.at;
    while !is_gone(&world, &client) {
        // The peer is not silent, but its bytes gain the message too little time.
        world.pass(1_000);
        world.send(&client, &[7]);
        assert!(world.at - begun < 62_000);
    }
    assert_eq!(world.reactor.core.shared.stats.timed_out_messages, 1);
}

#[test]
fn messages_that_are_whole_in_time_may_come_without_end() {
    let config = Config {
        message_timeout: Duration::from_secs(3),
        ..Config::default()
    };
    let mut world = World::echo(config);
    let client = world.ready();
    // Each read ends one message and begins the next, so the connection is never idle in between.
    let (mut bytes, mut at) = (frame(0x82, &[7; 1_000]).repeat(40), 500);
    world.send(&client, &bytes[..at]);
    while at < bytes.len() {
        world.pass(2_000);
        let end = (at + 1_008).min(bytes.len());
        world.send(&client, &bytes[at..end]);
        at = end;
    }
    assert!(!is_gone(&world, &client));
    // Zero turns the timeout off.
    world.reactor.core.shared.config.message_timeout = Duration::ZERO;
    bytes.truncate(100);
    world.send(&client, &bytes);
    for _ in 0..100 {
        world.pass(10_000);
        world.send(&client, &frame(0x8a, b"")[..0]);
        world.send(&client, b"x");
    }
    assert!(!is_gone(&world, &client));
}

#[test]
fn time_in_which_a_connection_is_not_read_is_not_its_messages() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let message = frame(0x82, &[7; 1_000]);
    world.send(&client, &message[..500]);
    // Pauses that are shorter than the interval between two checks, and longer ones.
    for at in 0..100 {
        Connection::new(&mut world.reactor.core, slot(&client)).pause();
        world.send(&client, &message[500 + at..501 + at]);
        world.pass(if at % 10 == 0 { 50_000 } else { 5_000 });
        Connection::new(&mut world.reactor.core, slot(&client)).resume();
        world.turn();
        world.pass(500);
    }
    assert!(!is_gone(&world, &client));
    world.send(&client, &message[600..]);
    assert_eq!(client.take().len(), 1_004);
}

#[test]
fn what_is_handed_out_in_pieces_may_take_any_time() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Fragment, ()>(|_, _| ());
    let client = world.ready();
    world.send(&client, &frame(0x02, b"x"));
    for _ in 0..100 {
        world.pass(10_000);
        world.send(&client, &frame(0x00, b"y"));
    }
    assert!(!is_gone(&world, &client));
}

// Rates.

fn limited(over: OverRate) -> World {
    let mut config = Config::default();
    config.rates.messages = Some(Rate::per_second(10).burst(20));
    config.rates.bytes = Some(Rate::per_second(10_000).burst(50_000));
    config.rates.pings = Some(Rate::per_second(2));
    config.rates.over = over;
    World::echo(config)
}

#[test]
fn whoever_is_too_fast_is_closed_at_the_message_that_is_too_many() {
    type Counter = fn(&World) -> u64;
    let ways: [(&str, Vec<u8>, usize, Counter); 4] = [
        ("message_rate", frame(0x81, b"x"), 20, |world| {
            world.reactor.core.shared.stats.over_message_rate
        }),
        ("byte_rate", frame(0x82, &[7; 9_992]), 5, |world| {
            world.reactor.core.shared.stats.over_byte_rate
        }),
        ("ping_rate", frame(0x89, b""), 2, |world| {
            world.reactor.core.shared.stats.over_ping_rate
        }),
        ("ping_rate", frame(0x8a, b""), 2, |world| {
            world.reactor.core.shared.stats.over_ping_rate
        }),
    ];
    for (name, bytes, burst, counter) in ways {
        let mut world = limited(OverRate::Close);
        let client = world.ready();
        for at in 0..burst {
            world.send(&client, &bytes);
            assert!(!is_gone(&world, &client), "{name}, number {at}");
        }
        world.send(&client, &bytes);
        assert!(is_gone(&world, &client), "{name}");
        assert_eq!((close_code(&client), counter(&world)), (Some(1008), 1));
        assert!(world.take_log().join(", ").contains(name));

        // At the allowed rate, the connection is never closed.
        let client = world.ready();
        for _ in 0..1_000 {
            world.send(&client, &bytes);
            world.pass(1_000);
        }
        assert!(!is_gone(&world, &client), "{name}");
    }
}

#[test]
fn all_in_one_read_counts_message_by_message() {
    let mut world = limited(OverRate::Close);
    let client = world.ready();
    world.send(&client, &frame(0x81, b"x").repeat(1_000));
    assert!(is_gone(&world, &client));
    assert_eq!(world.reactor.core.shared.stats.messages_in, 20);
    // The fragments of a message count as one message.
    let client = world.ready();
    for _ in 0..10 {
        let many = [frame(0x01, b"x"), frame(0x00, b"y").repeat(100)].concat();
        world.send(&client, &many);
        world.send(&client, &frame(0x80, b""));
    }
    assert!(!is_gone(&world, &client));
}

#[test]
fn whoever_is_held_off_loses_nothing_and_gets_the_rate() {
    type Make = fn(u8) -> Vec<u8>;
    let ways: [(&str, Make, u64); 3] = [
        ("messages", |at| frame(0x82, &[at]), 7_900),
        ("bytes", |at| frame(0x82, &[at; 9_992]), 95_000),
        ("pings", |at| frame(0x89, &[at]), 48_500),
    ];
    for (name, make, least) in ways {
        let mut world = limited(OverRate::Delay);
        let client = world.ready();
        let bytes: Vec<u8> = (0..100).flat_map(make).collect();
        client.arrive(&bytes);
        world.news(&client, true, false);
        let (mut sent, mut turns) = (client.take(), 0);
        let size = bytes.len() - 400;
        while sent.len() < size {
            assert!(!is_gone(&world, &client), "{name} at {}", world.at);
            turns += world.pass(100);
            sent.extend(client.take());
            assert!(world.at < 2 * least, "{name}: {} of {size}", sent.len());
        }
        assert!(world.at >= least, "{name} took {} ms only", world.at);
        // The connection is checked when it is time, and not before.
        assert!(turns <= 400, "{name}: {turns} turns");
        let first: Vec<u8> = (0..100).collect();
        let each = size / 100;
        let payloads: Vec<u8> = sent.chunks(each).map(|frame| frame[each - 1]).collect();
        assert_eq!(payloads, first, "{name}: all, in order");
    }
}

#[test]
fn whoever_is_held_off_can_be_closed_and_ends_in_time() {
    let mut world = limited(OverRate::Delay);
    let client = world.ready();
    world.send(&client, &frame(0x81, b"x").repeat(60));
    let close = Connection::new(&mut world.reactor.core, slot(&client)).disconnect(1000, "");
    assert!(close.is_ok());
    world.turn();
    world.send(&client, &frame(0x88, &1000u16.to_be_bytes()));
    world.pass(20);
    assert!(is_gone(&world, &client), "its Close was read");
    client.arrive_fin();
    world.news(&client, true, true);
    world.pass(10_000);
    assert!(world.is_empty());
}

// The budget.

const BUDGET: usize = 1 << 20;

fn budgeted() -> World {
    let mut config = Config {
        memory_budget: BUDGET,
        ..Config::default()
    };
    config.limits.max_recv_size = BUDGET;
    config.limits.max_send_size = BUDGET;
    World::echo(config)
}

fn used(world: &World) -> usize {
    world.reactor.core.shared.budget.used()
}

#[test]
fn what_connections_hold_is_known_and_forgotten_when_they_go() {
    let mut world = budgeted();
    assert_eq!(used(&world), 0);
    let clients: Vec<Client> = (0..10).map(|_| world.ready()).collect();
    let idle = used(&world);
    assert!((1_000..20_000).contains(&idle), "{idle} bytes for ten");
    // An incomplete request, an incomplete message, a queue.
    let opening = world.connect();
    world.send(&opening, &REQUEST[..50]);
    assert!(used(&world) >= idle + 50);
    let before = used(&world);
    world.send(&clients[0], &frame(0x82, &[7; 50_000])[..40_000]);
    assert!((40_000..120_000).contains(&(used(&world) - before)));
    let before = used(&world);
    clients[1].set_room(Some(0));
    world.send(&clients[1], &frame(0x82, &[7; 50_000]));
    assert!((50_000..120_000).contains(&(used(&world) - before)));
    // The memory is released.
    world.send(&clients[0], &frame(0x82, &[7; 50_000])[40_000..]);
    clients[1].set_room(None);
    world.send(&clients[1], b"");
    world.pass(20_000);
    assert_eq!(used(&world), idle);
    for client in &clients {
        client.arrive_fin();
        world.news(client, true, true);
    }
    world.pass(20_000);
    assert_eq!((used(&world), world.is_empty()), (0, true));
}

#[test]
fn first_nobody_new_then_no_queue_then_those_who_hold_most() {
    let mut world = budgeted();
    let small = world.ready();
    let hoarders: Vec<Client> = (0..4).map(|_| world.ready()).collect();
    let late = world.ready();
    let slow = world.ready();
    slow.set_room(Some(0));
    // First step: no new connections. The buffer of an incomplete message takes up to twice its
    // size.
    assert!(!world.reactor.core.shared.budget.keeps_out());
    for (client, size) in hoarders.iter().zip([80_000, 95_000, 110_000, 125_000]) {
        world.send(client, &frame(0x82, &vec![7; size])[..size]);
    }
    assert!(world.reactor.core.shared.budget.keeps_out());
    // Second step: no more queued messages. Data that the kernel takes at once and control frames
    // are not affected.
    let mut send = |client: &Client, opcode, size: usize| {
        let core = &mut world.reactor.core;
        core.send(slot(client), opcode, &vec![7; size])
    };
    let budget = BUDGET;
    assert_eq!(
        send(&slow, OpCode::Binary, 200_000),
        Err(SendError::NoMemory { budget })
    );
    assert!(send(&slow, OpCode::Ping, 100).is_ok());
    world.turn();
    assert_eq!(world.reactor.core.shared.stats.budget_refusals, 1);
    world.send(&small, &frame(0x81, b"still served"));
    assert_eq!(small.take(), b"\x81\x0cstill served");
    // Third step: the connection that holds most is closed.
    let said = world.take_log();
    assert_eq!(said, [""; 0]);
    world.send(&late, &frame(0x82, &[7; 120_000])[..120_000]);
    let closed: Vec<bool> = hoarders.iter().map(|one| is_gone(&world, one)).collect();
    assert_eq!(
        closed,
        [false, false, false, true],
        "the one that holds most"
    );
    assert_eq!(close_code(&hoarders[3]), Some(1013));
    assert_eq!(
        world.take_log(),
        [
            "error: memory_budget is used up",
            "disconnect 1013 (memory_budget is used up)"
        ]
    );
    assert_eq!(world.reactor.core.shared.stats.budget_closes, 1);
    assert!(used(&world) <= BUDGET / 8 * 7);
    // The other connections continue.
    world.send(&hoarders[0], &frame(0x82, &[7; 80_000])[80_000..]);
    assert_eq!(hoarders[0].take().len(), 80_010);
    world.send(&small, &frame(0x81, b"still served"));
    assert_eq!(small.take(), b"\x81\x0cstill served");
}

#[test]
fn many_messages_to_many_in_one_turn_stay_within_the_budget() {
    let mut world = budgeted();
    let clients: Vec<Client> = (0..50).map(|_| world.ready()).collect();
    for client in &clients {
        client.set_room(Some(0));
    }
    let mut refused = 0;
    for _ in 0..100 {
        for client in &clients {
            let sent = world
                .reactor
                .core
                .send(slot(client), OpCode::Binary, &[7; 1_000]);
            refused += usize::from(matches!(sent, Err(SendError::NoMemory { .. })));
        }
        let mut hub = Hub::new(&mut world.reactor.core);
        let _ = hub.broadcast_binary(&[7; 1_000]);
    }
    assert!(refused > 1_000, "{refused} were");
    assert!(world.reactor.core.shared.stats.budget_refusals > refused as u64);
    let queued: usize = world
        .reactor
        .core
        .peers
        .iter()
        .map(|(_, peer)| peer.backlog())
        .sum();
    assert!(queued <= BUDGET, "{queued} bytes");
    world.turn();
    assert!(used(&world) <= BUDGET);
    assert_eq!(world.reactor.core.shared.stats.budget_closes, 0);
    // Peers that read make room for all.
    for client in &clients {
        client.set_room(None);
        world.send(client, b"");
    }
    let sent = world
        .reactor
        .core
        .send(slot(&clients[0]), OpCode::Binary, &[7; 1_000]);
    assert!(sent.is_ok());
}

#[test]
fn whoever_does_not_read_is_cut_and_its_queue_freed() {
    let mut world = budgeted();
    let reader = world.ready();
    let clients: Vec<Client> = (0..3).map(|_| world.ready()).collect();
    for client in &clients {
        client.set_room(Some(0));
        world.send(client, &frame(0x82, &vec![7; 290_000]));
    }
    assert_eq!(world.take_log(), [""; 0]);
    world.send(&reader, &frame(0x82, &[7; 100_000])[..90_000]);
    let cut = clients
        .iter()
        .filter(|client| is_gone(&world, client))
        .count();
    assert!((1..3).contains(&cut), "{cut} were cut");
    assert!(!is_gone(&world, &reader), "it holds less");
    assert!(used(&world) <= BUDGET / 8 * 7);
    let log = world.take_log().join(", ");
    assert!(
        log.contains("disconnect 1006 (memory_budget is used up)"),
        "{log}"
    );
}

#[test]
fn everyone_who_reads_gets_every_broadcast_however_many_they_are() {
    for size in [60_000, 4_000] {
        let mut config = Config {
            memory_budget: 2 << 20,
            ..Config::default()
        };
        config.limits.max_send_size = 1 << 20;
        let mut world = World::new(config);
        let clients: Vec<Client> = (0..300).map(|_| world.ready()).collect();
        let idle = used(&world);
        for _ in 0..2 {
            // Several in one turn, so that the queues of all clients together exceed the budget.
            for at in 0..4 {
                let sent = Hub::new(&mut world.reactor.core).broadcast_binary(&vec![at; size]);
                assert_eq!(
                    sent.map(Sent::receivers),
                    Ok(clients.len()),
                    "{size} bytes, message {at}"
                );
            }
            world.turn();
            for client in &clients {
                assert_eq!(client.take().len(), 4 * (size + 4));
            }
            assert_eq!(used(&world), idle);
        }
        assert_eq!(world.reactor.core.shared.stats.budget_refusals, 0);
    }
}

#[test]
fn memory_that_stays_short_is_taken_from_those_who_do_not_read() {
    // With these sizes, memory stays above each of the thresholds unless connections are closed.
    for each in [115_000, 125_000, 140_000] {
        let mut world = budgeted();
        let readers: Vec<Client> = (0..5).map(|_| world.ready()).collect();
        let deaf: Vec<Client> = (0..7).map(|_| world.ready()).collect();
        for client in &deaf {
            client.set_room(Some(0));
            let sent = world
                .reactor
                .core
                .send(slot(client), OpCode::Binary, &vec![7; each]);
            assert!(sent.is_ok() || each == 140_000, "{sent:?}");
            world.turn();
        }
        assert!(
            world.reactor.core.shared.budget.keeps_out(),
            "{}",
            used(&world)
        );
        let begun = world.at;
        while world.reactor.core.shared.budget.keeps_out() {
            // They ping, so they are not closed for silence. Clients that read are served.
            for client in &deaf {
                if !is_gone(&world, client) {
                    world.send(client, &frame(0x89, b""));
                }
            }
            for client in &readers {
                let sent = world
                    .reactor
                    .core
                    .send(slot(client), OpCode::Binary, &[7; 60_000]);
                assert!(sent.is_ok(), "{sent:?}");
            }
            world.turn();
            for client in &readers {
                assert_eq!(client.take().len(), 60_004);
            }
            world.pass(100);
            assert!(world.at - begun <= 2_000, "within the time that is stated");
        }
        let cut = deaf.iter().filter(|client| is_gone(&world, client)).count();
        assert!((1..7).contains(&cut), "{cut} were cut");
        assert_eq!(world.reactor.core.shared.stats.budget_closes, cut as u64);
        assert!(!readers.iter().any(|client| is_gone(&world, client)));
        assert!(world.reactor.core.shared.budget.is_at_ease());
        // Memory is not short any more, so no other client is closed.
        world.pass(15_000);
        assert_eq!(world.reactor.core.shared.stats.budget_closes, cut as u64);
    }
}

#[test]
fn memory_that_is_short_for_long_is_taken_from_those_who_hold_most_although_they_read() {
    let mut world = budgeted();
    let slow: Vec<Client> = (0..7).map(|_| world.ready()).collect();
    for client in &slow {
        client.set_room(Some(0));
        let core = &mut world.reactor.core;
        let sent = core.send(slot(client), OpCode::Binary, &[7; 120_000]);
        assert!(sent.is_ok(), "{sent:?}");
        world.turn();
    }
    let begun = world.at;
    while world.reactor.core.shared.budget.keeps_out() {
        for client in &slow {
            // The kernel takes a few bytes now and then.
            client.set_room(Some(10));
            world.news(client, false, false);
        }
        world.pass(100);
        assert!(world.at - begun <= 12_000, "within the time that is stated");
    }
    assert!(world.at - begun >= 9_000, "{} ms", world.at - begun);
    let cut = slow.iter().filter(|client| is_gone(&world, client)).count();
    assert!((1..7).contains(&cut), "{cut} were cut");
}

#[test]
fn what_the_kernel_takes_is_sent_although_memory_is_short() {
    let mut world = budgeted();
    let clients: Vec<Client> = (0..3).map(|_| world.ready()).collect();
    let hoarders: Vec<Client> = (0..2).map(|_| world.ready()).collect();
    for client in &hoarders {
        client.set_room(Some(0));
        let core = &mut world.reactor.core;
        assert!(
            core.send(slot(client), OpCode::Binary, &[7; 450_000])
                .is_ok()
        );
        world.turn();
    }
    let (all, part, none) = (&clients[0], &clients[1], &clients[2]);
    part.set_room(Some(30_000));
    none.set_room(Some(0));
    let core = &mut world.reactor.core;
    let budget = BUDGET;
    let mut send = |client: &Client, fill| core.send(slot(client), OpCode::Binary, &[fill; 60_000]);
    assert_eq!(send(all, 1), Ok(60_004));
    assert_eq!(send(part, 1), Ok(60_004));
    assert_eq!(send(none, 1), Err(SendError::NoMemory { budget }));
    // Frames are not mixed up: the rest of the first one is sent before any other.
    assert_eq!(send(all, 2), Ok(60_004));
    assert_eq!(send(part, 2), Err(SendError::NoMemory { budget }));
    assert_eq!(all.take().len(), 2 * 60_004);
    part.set_room(None);
    world.news(part, false, false);
    let frame = [&[0x82, 126, 0xea, 0x60][..], &[1; 60_000]].concat();
    assert_eq!(part.take(), frame);
    // The same with a broadcast.
    part.set_room(Some(30_000));
    let sent = Hub::new(&mut world.reactor.core).broadcast_binary(&[3; 60_000]);
    assert_eq!(sent.map(Sent::receivers), Ok(2));
    world.turn();
    part.set_room(None);
    world.news(part, false, false);
    let frame = [&[0x82, 126, 0xea, 0x60][..], &[3; 60_000]].concat();
    assert_eq!(part.take(), frame);
    assert_eq!(all.take(), frame);
    assert_eq!(none.take(), b"");
    assert_eq!(world.reactor.core.shared.stats.budget_refusals, 5);
    assert!(used(&world) <= BUDGET);
}

#[test]
fn requests_that_hold_most_are_answered_with_503() {
    let mut config = Config {
        memory_budget: 300_000,
        ..Config::default()
    };
    config.limits.max_body_size = 1 << 20;
    let mut world = World::new(config);
    let handlers = &mut world.reactor.handlers;
    handlers.set::<crate::connection::event::Request, _>(|_, _| None);
    let client = world.connect();
    world.send(
        &client,
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n",
    );
    world.send(&client, &vec![7; 100_000]);
    assert!(!is_gone(&world, &client));
    world.send(&client, &vec![7; 250_000]);
    assert!(is_gone(&world, &client));
    assert!(client.take().starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn half_open_connections_are_those_that_may_still_upgrade() {
    let mut world = World::echo(Config::default());
    let half_open = |world: &World| world.reactor.core.shared.half_open;
    let opening: Vec<Client> = (0..5).map(|_| world.connect()).collect();
    assert_eq!(half_open(&world), 5);
    let _ready = world.ready();
    assert_eq!(half_open(&world), 5);
    world.send(&opening[0], REQUEST);
    world.send(&opening[1], b"nonsense\r\n\r\n");
    opening[2].fail_next(io::ErrorKind::ConnectionReset);
    world.news(&opening[2], true, true);
    assert_eq!(half_open(&world), 2);
    world.pass(30_000);
    assert_eq!(half_open(&world), 0);
}

// Regressions.

#[test]
fn a_large_message_that_is_whole_when_it_is_held_off_comes_when_it_is_time() {
    for fin in [false, true] {
        let mut config = Config::default();
        config.limits.max_recv_size = 1 << 20;
        config.rates.bytes = Some(Rate::per_second(100_000).burst(150_000));
        config.rates.over = OverRate::Delay;
        let mut world = World::new(config);
        let log = world.log.clone();
        world.reactor.handlers.set::<Binary, ()>(move |_, data| {
            log.borrow_mut().push(format!("{}", data.len()));
        });
        let client = world.ready();
        let message = frame(0x82, &[7; 200_000]);
        // Its end is read into its own buffer, and exceeds the rate.
        world.send(&client, &message[..100_000]);
        world.send(&client, &message[100_000..]);
        assert_eq!(world.take_log(), [""; 0]);
        if fin {
            client.arrive_fin();
            world.news(&client, true, true);
        }
        world.pass(2_000);
        let log = world.take_log();
        assert_eq!(log.first().map(String::as_str), Some("200000"), "{log:?}");
    }
}

#[test]
fn a_message_in_pieces_has_any_time_after_a_pause_as_well() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Fragment, ()>(|_, _| ());
    let client = world.ready();
    world.send(&client, &frame(0x02, b"x"));
    Connection::new(&mut world.reactor.core, slot(&client)).pause();
    world.send(&client, &frame(0x00, b"y"));
    world.pass(25_000);
    Connection::new(&mut world.reactor.core, slot(&client)).resume();
    world.turn();
    for _ in 0..20 {
        world.pass(10_000);
        world.send(&client, &frame(0x00, b"y"));
    }
    assert!(!is_gone(&world, &client));
}

#[test]
fn to_be_held_off_does_not_put_the_end_of_a_message_off() {
    let mut world = limited(OverRate::Delay);
    let client = world.ready();
    world.send(&client, &frame(0x02, b"x"));
    let begun = world.at;
    while !is_gone(&world, &client) {
        // The connection is held off for a moment each time.
        world.send(&client, &frame(0x89, b"").repeat(3));
        world.pass(2_000);
        assert!(world.at - begun < 100_000);
    }
    assert!(world.reactor.core.shared.stats.over_ping_rate > 10);
    assert_eq!(world.reactor.core.shared.stats.timed_out_messages, 1);
}

#[test]
fn who_is_held_off_again_and_again_leaves_nothing_in_the_wheel() {
    let mut config = Config::default();
    config.rates.messages = Some(Rate::per_second(50).burst(1));
    config.rates.over = OverRate::Delay;
    let mut world = World::echo(config);
    let client = world.ready();
    let mut turns = 0;
    for _ in 0..500 {
        world.send(&client, &frame(0x81, b"x").repeat(2));
        turns += world.pass(40);
    }
    assert!(!is_gone(&world, &client));
    // A bounded number of wheel entries expires within a second, and few later.
    let before = turns;
    turns += world.pass(1_100);
    assert!(turns - before <= 70, "{} entries", turns - before);
    assert!(world.pass(120_000) <= 40);
}

#[test]
fn whoever_closes_in_order_is_not_measured_any_more() {
    let mut world = limited(OverRate::Close);
    let client = world.ready();
    let close = Connection::new(&mut world.reactor.core, slot(&client)).disconnect(4000, "");
    assert!(close.is_ok());
    world.turn();
    let under_way = frame(0x81, b"x").repeat(100);
    let answer = frame(0x88, &4000u16.to_be_bytes());
    world.send(&client, &[under_way, answer].concat());
    assert_eq!(world.take_log(), ["disconnect 4000 (closed by the server)"]);
    assert_eq!(world.reactor.core.shared.stats.over_message_rate, 0);
}

#[test]
fn names_requests_and_lists_count_as_what_is_held() {
    let mut world = budgeted();
    let before = used(&world);
    let long = "x".repeat(12_000);
    let request = String::from_utf8(REQUEST.to_vec()).expect("it is text");
    let client = world.connect();
    world.send(
        &client,
        request.replace("GET /", &format!("GET /{long}")).as_bytes(),
    );
    assert!(client.take().starts_with(b"HTTP/1.1 101 "));
    assert!(used(&world) - before >= 12_000, "{}", used(&world) - before);
    let small = world.ready();
    let before = used(&world);
    small.set_room(Some(0));
    Connection::new(&mut world.reactor.core, slot(&small))
        .set_slow_consumer(SlowConsumer::DropOldest);
    for _ in 0..5_000 {
        let sent = world.reactor.core.send(slot(&small), OpCode::Text, b"");
        assert!(sent.is_ok());
    }
    world.turn();
    let held = used(&world) - before;
    assert!(held >= 5_000 * 16, "{held} for a list of 5,000");
}

#[test]
fn what_is_refused_for_memory_drops_nothing() {
    let mut world = budgeted();
    let client = world.ready();
    client.set_room(Some(0));
    let core = &mut world.reactor.core;
    Connection::new(core, slot(&client)).set_slow_consumer(SlowConsumer::DropOldest);
    let mut sent = 0;
    while core
        .send(slot(&client), OpCode::Binary, &[7; 10_000])
        .is_ok()
    {
        sent += 1;
        assert!(sent < 1_000);
    }
    let queued = core.peers[slot(&client)].backlog();
    assert_eq!(queued, sent * 10_004);
    assert_eq!(core.shared.stats.dropped_messages, 0);
}

#[test]
fn whoever_was_answered_is_not_half_open() {
    let mut world = World::echo(Config::default());
    let handlers = &mut world.reactor.handlers;
    handlers.set::<crate::connection::event::Request, _>(|_, _| {
        Some(crate::plain_http::Response::new(200))
    });
    let clients = [world.connect(), world.connect()];
    assert_eq!(world.reactor.core.shared.half_open, 2);
    for _ in 0..3 {
        world.send(&clients[0], b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(world.reactor.core.shared.half_open, 1);
    }
    world.send(&clients[0], REQUEST);
    assert_eq!(world.reactor.core.shared.half_open, 1);
    world.pass(60_000);
    assert_eq!(world.reactor.core.shared.half_open, 0);
}

#[test]
fn a_ping_does_not_put_the_end_of_a_message_off() {
    let config = Config {
        silence_checkinterval: Some(Duration::from_secs(300)),
        idle_timeout: Some(Duration::ZERO),
        ..Config::default()
    };
    let mut world = World::echo(config);
    let client = world.ready();
    world.send(&client, &frame(0x82, &[7; 1_000])[..500]);
    world.pass(59_900);
    assert!(!is_gone(&world, &client));
    world.pass(200);
    assert!(is_gone(&world, &client));
}
