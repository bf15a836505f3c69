//! Deadlines are met, postponed only by what should postpone them, and let the loop sleep.

use super::*;

#[test]
fn a_silent_client_is_cut_when_the_handshake_is_due() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.pass(9_999);
    assert_eq!(world.take_log(), ["connect"]);
    world.pass(17);
    let late = "handshake refused: request not complete within handshake_timeout";
    let why = "disconnect 1006 (request not complete within handshake_timeout)";
    assert_eq!(world.take_log(), [format!("error: {late}"), why.into()]);
    assert_eq!(client.take(), b"");
    assert!(world.is_empty());
}

#[test]
fn trickling_a_request_does_not_put_the_deadline_off() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    for byte in &REQUEST[..99] {
        world.send(&client, &[*byte]);
        world.pass(100);
    }
    assert_eq!(world.take_log(), ["connect"]);
    world.pass(200);
    let answer = client.take();
    assert!(
        answer.starts_with(b"HTTP/1.1 408 "),
        "{}",
        answer.escape_ascii()
    );
    assert_eq!(world.take_log().len(), 2);
    assert!(client.has_fin());
    // The client has time to read the answer, but not without limit.
    world.pass(4_900);
    assert!(!world.is_empty());
    world.pass(200);
    assert!(world.is_empty());
}

#[test]
fn a_silent_peer_is_pinged_then_closed_then_cut() {
    let mut world = World::new(Config::default());
    let client = world.ready();
    world.pass(19_999);
    assert_eq!(client.take(), b"");
    world.pass(100);
    assert_eq!(client.take(), b"\x89\x00");
    world.pass(10_000);
    assert_eq!(client.take(), b"\x89\x00");
    world.pass(10_000);
    assert_eq!(client.take(), b"\x88\x02\x03\xe9");
    assert_eq!(world.take_log(), [""; 0]);
    world.pass(5_100);
    assert_eq!(
        world.take_log(),
        ["disconnect 1001 (silent for longer than idle_timeout)"]
    );
    assert!(world.is_empty());
}

#[test]
fn a_stall_of_the_loop_is_not_the_peers_silence() {
    let mut world = World::new(Config::default());
    let (quiet, gone) = (world.ready(), world.ready());
    // A handler blocks, or the machine sleeps.
    world.at += 3_600_000;
    world.pass(0);
    assert_eq!(
        (quiet.take(), gone.take()),
        (b"\x89\x00".to_vec(), b"\x89\x00".to_vec())
    );
    world.pass(9_000);
    world.send(&quiet, &frame(0x8a, b""));
    world.pass(2_000);
    assert_eq!(quiet.take(), b"");
    assert_eq!(gone.take(), b"\x88\x02\x03\xe9");
    world.pass(18_100);
    assert_eq!(quiet.take(), b"\x89\x00");
}

#[test]
fn without_pings_silence_ends_in_time_after_a_stall() {
    let mut world = World::new(Config {
        silence_max: Duration::ZERO,
        idle_timeout: Some(Duration::from_secs(30)),
        ..Config::default()
    });
    let client = world.ready();
    world.at += 3_600_000;
    world.pass(0);
    assert_eq!(client.take(), b"\x88\x02\x03\xe9");
}

#[test]
fn any_byte_puts_the_silence_off() {
    let mut world = World::new(Config::default());
    let client = world.ready();
    for _ in 0..10 {
        world.pass(20_100);
        assert_eq!(client.take(), b"\x89\x00");
        world.send(&client, &frame(0x8a, b""));
        assert_eq!(world.take_log(), ["pong"]);
    }
    // Half a frame is a sign of life, too.
    world.pass(19_000);
    world.send(&client, b"\x81");
    world.pass(19_000);
    assert_eq!(client.take(), b"");
}

#[test]
fn an_idle_loop_sleeps() {
    let mut world = World::new(Config {
        silence_max: Duration::ZERO,
        ..Config::default()
    });
    world.ready();
    assert!(
        world.pass(3_600_000) <= 1,
        "the entry of the opening handshake alone"
    );
    assert_eq!(world.reactor.next_deadline(), None);

    let mut world = World::new(Config::default());
    let client = world.ready();
    let mut turns = 0;
    for _ in 0..100 {
        turns += world.pass(10_000);
        world.send(&client, &frame(0x8a, b""));
    }
    // In 1,000 s: at most one deadline for each byte received, and one for each round of the wheel.
    assert!(turns <= 100 + 31, "{turns}");
}

#[test]
fn an_unanswered_close_is_cut_in_time() {
    let mut world = World::new(Config::default());
    world
        .reactor
        .handlers
        .set::<Utf8, _>(|conn, text| conn.disconnect(4000, text));
    let client = world.ready();
    world.send(&client, &frame(0x81, b"bye"));
    assert_eq!(client.take(), b"\x88\x05\x0f\xa0bye");
    // Data after the server's Close frame is not delivered, and does not postpone the end.
    world.send(&client, &frame(0x81, b"late"));
    world.pass(4_999);
    assert_eq!(world.take_log(), [""; 0]);
    world.pass(17);
    assert_eq!(
        world.take_log(),
        ["disconnect 4000 (closed by the server) bye"]
    );
    assert!(world.is_empty());
}

#[test]
fn the_drain_ends_with_fin_or_in_time() {
    for fin in [true, false] {
        let mut world = World::new(Config::default());
        let client = world.ready();
        // A peer that broke the protocol may continue to send.
        world.send(&client, b"\x81\x00");
        assert!(client.take().starts_with(b"\x88"));
        assert_eq!(world.take_log().len(), 2, "error and disconnect");
        assert!(client.has_fin() && !world.is_empty());
        world.send(&client, &vec![7; 100_000]);
        assert!(client.unread() == 0, "it is read and thrown away");
        if fin {
            client.arrive_fin();
            world.news(&client, true, true);
        } else {
            world.pass(4_900);
            assert!(!world.is_empty());
            world.pass(200);
        }
        assert!(world.is_empty());
        assert_eq!(world.take_log(), [""; 0]);
    }
}

/// RFC 6455, 7.1.1: the server closes TCP first, and awaits no further data.
#[test]
fn after_both_close_frames_the_socket_is_closed_at_once() {
    let mut world = World::new(Config::default());
    let client = world.ready();
    world.send(&client, &frame(0x88, b"\x0f\xa0bye"));
    assert_eq!(client.take(), b"\x88\x05\x0f\xa0bye");
    let expected = [
        "peer close Some(CloseCode(4000))",
        "disconnect 4000 (closed by the peer) bye",
    ];
    assert_eq!(world.take_log(), expected);
    assert!(world.is_empty());
    // A reply that the kernel has not taken is sent first.
    let client = world.ready();
    client.set_room(Some(0));
    world.send(&client, &frame(0x88, b""));
    assert!(!world.is_empty());
    client.set_room(None);
    world.news(&client, false, false);
    assert_eq!(client.take(), b"\x88\x00");
    assert!(world.is_empty());
}

#[test]
fn a_stalled_client_is_given_up_in_time() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(0));
    for _ in 0..30 {
        world.send(&client, &frame(0x82, &[7; 50_000]));
    }
    world.pass(46_000);
    let expected = ["disconnect 1006 (silent for longer than idle_timeout), 550052 bytes unsent"];
    assert_eq!(world.take_log(), expected);
    assert!(world.is_empty());
    let stats = world.reactor.core.shared.stats;
    assert_eq!((stats.lost, stats.lost_bytes), (1, 550_052));
}

/// Has the kernel take `each` bytes for a client every 100 ms, until the connection is over;
/// returns the data that was sent to the client.
fn read_slowly(world: &mut World, client: &Client, each: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.last_chunk() != Some(b"\x88\x02\x03\xe8") && !world.is_empty() {
        client.set_room(Some(each));
        world.news(client, false, false);
        got.extend(client.take());
        world.pass(100);
        assert!(world.at < 3_600_000, "it ends in bounded time");
    }
    got
}

#[test]
fn a_slow_reader_that_is_closed_gets_all_and_the_close_frame() {
    for draining in [false, true] {
        let mut config = Config::default();
        config.limits.max_send_size = 1 << 20;
        config.limits.max_backlog = 4 << 20;
        let mut world = World::new(config);
        let client = world.ready();
        client.set_room(Some(0));
        let core = &mut world.reactor.core;
        let mut conn = Connection::new(core, client.tag & SLOTS);
        assert_eq!(
            conn.send_binary(&[7; 1_000_000]).map(Sent::bytes),
            Ok(1_000_010)
        );
        if draining {
            // The peer closes first, and is still sent the data from before.
            world.send(&client, &frame(0x88, b"\x03\xe8"));
            assert_eq!(
                world.take_log(),
                [
                    "peer close Some(CloseCode(1000))",
                    "disconnect 1000 (closed by the peer)"
                ]
            );
        } else {
            assert!(conn.disconnect(1000, "").is_ok());
        }
        world.turn();
        // 50 KB/s: 20 s, four times close_timeout.
        let got = read_slowly(&mut world, &client, 5_000);
        assert_eq!(got.len(), 1_000_014);
        if !draining {
            // From here on, the time for the answer counts.
            world.pass(4_800);
            assert_eq!(world.take_log(), [""; 0]);
            world.send(&client, &frame(0x88, b"\x03\xe8"));
            assert_eq!(world.take_log(), ["disconnect 1000 (closed by the server)"]);
        }
        assert_eq!(world.reactor.core.shared.stats.lost, 0);
    }
}

#[test]
fn a_closed_reader_that_trickles_or_stops_is_cut_and_its_loss_is_said() {
    // The client reads nothing; 100 B/s; much at first and then nothing.
    for (each, first, seconds) in [(0, 0, 5..6), (10, 0, 5..8), (0, 900_000, 5..6)] {
        let mut config = Config::default();
        config.limits.max_send_size = 1 << 20;
        let mut world = World::new(config);
        let client = world.ready();
        client.set_room(Some(0));
        let core = &mut world.reactor.core;
        let mut conn = Connection::new(core, client.tag & SLOTS);
        assert!(conn.send_binary(&[7; 1_000_000]).is_ok());
        assert!(conn.disconnect(1000, "").is_ok());
        world.turn();
        client.set_room(Some(first));
        world.news(&client, false, false);
        let begun = world.at;
        let got = client.take().len() + read_slowly(&mut world, &client, each).len();
        let took = (world.at - begun) / 1000;
        assert!(seconds.contains(&took), "{took} s");
        let lost = 1_000_014 - got;
        let said = format!("disconnect 1006 (closed by the server), {lost} bytes unsent");
        assert_eq!(world.take_log(), [said]);
        let stats = world.reactor.core.shared.stats;
        assert_eq!((stats.lost, stats.lost_bytes), (1, lost as u64));
    }
}

#[test]
fn a_slow_reader_that_reads_is_no_silent_one() {
    let config = Config {
        slow_consumer: SlowConsumer::DropNewest,
        ..Config::default()
    };
    let mut world = World::new(config);
    let client = world.ready();
    client.set_room(Some(0));
    for _ in 0..120 {
        // More is sent than the client takes, so its backlog stays full and the server never reads
        // it.
        for _ in 0..2 {
            let sent = Hub::new(&mut world.reactor.core).broadcast_binary(&[7; 20_000]);
            assert!(sent.is_ok());
        }
        client.set_room(Some(20_000));
        world.news(&client, false, false);
        assert!(!client.take().is_empty());
        world.pass(500);
    }
    assert_eq!(world.take_log(), [""; 0]);
}

/// Has the peer acknowledge `bytes` more, while the kernel holds `waiting` bytes.
fn acknowledge(client: &Client, bytes: u64, waiting: usize) {
    client.script(|script| {
        let before = script.delivery.map_or(0, |delivery| delivery.acknowledged);
        script.delivery = Some(Delivery {
            acknowledged: before + bytes,
            waiting,
        });
    });
}

#[test]
fn a_reader_that_takes_what_the_kernel_holds_is_no_silent_one() {
    // 30 KB/s; min_rate; less; nothing, with megabytes in the kernel.
    for (rate, lives) in [(30_000, true), (500, true), (400, false), (0, false)] {
        let mut world = World::echo(Config::default());
        let client = world.ready();
        acknowledge(&client, 0, 3_000_000);
        for _ in 0..300 {
            acknowledge(&client, rate, 3_000_000);
            world.pass(1_000);
            if world
                .take_log()
                .iter()
                .any(|what| what.starts_with("disconnect"))
            {
                break;
            }
        }
        assert_eq!(world.at == 300_000, lives, "{rate} B/s, until {}", world.at);
        // The answer to the first ping comes at last.
        if lives {
            acknowledge(&client, 3_000_000, 0);
            world.send(&client, &frame(0x8a, b""));
            world.pass(19_000);
            assert_eq!(world.take_log(), ["pong"]);
            // From here on, it is treated like any other peer.
            world.pass(27_000);
            assert!(world.is_empty());
        } else {
            assert!((40_000..=80_000).contains(&world.at), "{}", world.at);
        }
    }
}

#[test]
fn without_a_second_ping_a_reader_of_what_the_kernel_holds_has_its_time_once_more() {
    for (rate, end) in [(30_000, u64::MAX), (0, 60_000)] {
        let mut world = World::echo(Config {
            silence_max: Duration::ZERO,
            idle_timeout: Some(Duration::from_secs(30)),
            ..Config::default()
        });
        let client = world.ready();
        acknowledge(&client, 0, 3_000_000);
        for _ in 0..200 {
            acknowledge(&client, rate, 3_000_000);
            world.pass(1_000);
        }
        assert_eq!(client.take().is_empty(), end == u64::MAX, "{rate}");
    }
}

#[test]
fn a_closed_peer_has_its_time_when_it_has_taken_what_the_kernel_holds() {
    // 50 KB/s of 500 KB: 10 s, and then close_timeout.
    let mut world = World::echo(Config::default());
    let client = world.ready();
    acknowledge(&client, 0, 500_000);
    let core = &mut world.reactor.core;
    let mut conn = Connection::new(core, client.tag & SLOTS);
    assert!(conn.disconnect(1000, "").is_ok());
    world.turn();
    for left in (0..100).rev() {
        world.pass(100);
        acknowledge(&client, 5_000, left * 5_000);
    }
    world.pass(4_800);
    assert_eq!(world.take_log(), [""; 0]);
    world.send(&client, &frame(0x88, b"\x03\xe8"));
    assert_eq!(world.take_log(), ["disconnect 1000 (closed by the server)"]);
    // A peer that takes nothing is closed in time, and so is one that has taken everything.
    for waiting in [500_000, 0] {
        let client = world.ready();
        acknowledge(&client, 0, waiting);
        let core = &mut world.reactor.core;
        let mut conn = Connection::new(core, client.tag & SLOTS);
        assert!(conn.disconnect(1000, "").is_ok());
        world.turn();
        world.pass(if waiting > 0 { 10_100 } else { 5_100 });
        assert_eq!(world.take_log(), ["disconnect 1000 (closed by the server)"]);
    }
}

#[test]
fn the_silence_can_be_set_while_it_runs() {
    let mut world = World::new(Config::default());
    let client = world.ready();
    world.pass(5_000);
    let mut hub = Hub::new(&mut world.reactor.core);
    assert_eq!(hub.silence_checkinterval(), Duration::from_secs(10));
    assert_eq!(hub.idle_timeout(), Duration::from_secs(40));
    hub.set_silence_max(Duration::from_secs(8));
    hub.set_silence_checkinterval(Duration::from_secs(1));
    assert_eq!(hub.silence_max(), Duration::from_secs(8));
    assert_eq!(hub.silence_checkinterval(), Duration::from_secs(1));
    assert_eq!(hub.idle_timeout(), Duration::from_secs(16));
    // The server does this for `Order::Rearm`.
    world.reactor.rearm();
    world.pass(2_999);
    assert_eq!(client.take(), b"");
    world.pass(17);
    assert_eq!(client.take(), b"\x89\x00");
    world.pass(1_017);
    assert_eq!(client.take(), b"\x89\x00", "again after a second");
    // With longer times, pings that are due too early are postponed, and so is the end.
    let mut hub = Hub::new(&mut world.reactor.core);
    hub.set_silence_max(Duration::ZERO);
    hub.set_idle_timeout(Duration::from_secs(30));
    world.reactor.rearm();
    world.pass(20_000);
    assert_eq!(client.take(), b"");
    world.pass(1_000);
    assert_eq!(client.take(), b"\x88\x02\x03\xe9");
}

#[test]
fn after_a_peak_the_room_is_given_back() {
    let mut world = World::new(Config::default());
    let first = world.ready();
    let many: Vec<_> = (0..4999).map(|_| world.connect()).collect();
    assert!(world.reactor.core.peers.capacity() >= 5000);
    for client in &many {
        client.arrive_fin();
        world.news(client, true, true);
    }
    assert!(!world.is_empty());
    let room = world.reactor.core.peers.capacity();
    assert!(room <= 1024, "{room}");
    // Slots are used again, the same ones in both slabs.
    let next = world.ready();
    let ids = Hub::new(&mut world.reactor.core).ids();
    assert_eq!(ids.len(), 2);
    for client in [first, next] {
        world.send(&client, &frame(0x8a, b""));
        assert_eq!(world.take_log().last().map(String::as_str), Some("pong"));
    }
}
