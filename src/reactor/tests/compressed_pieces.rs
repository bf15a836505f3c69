//! Compressed messages in pieces, over several turns and with pauses.

use super::*;
use crate::connection::event::Fragment;
use crate::protocol::deflate::{Context, DeflateConfig, Deflater};

/// What the handler of pieces does after each piece.
#[derive(Default)]
enum Step {
    #[default]
    GoOn,
    Pause,
    Leave,
    Cut,
    Fail,
}

fn pieces(config: DeflateConfig) -> World {
    let mut world = World::echo(Config {
        deflate: Some(config),
        ..Config::default()
    });
    let log = world.log.clone();
    let on_piece = move |conn: &mut Connection<'_>, piece: crate::protocol::Piece<'_>| {
        let edges = [
            if piece.first { "(" } else { "" },
            if piece.last { ")" } else { "" },
        ];
        let [begin, end] = edges;
        let size = piece.payload.len();
        log.borrow_mut().push(format!("{begin}{size}{end}"));
        assert!(!conn.is_paused());
        match conn.data::<Step>() {
            Step::GoOn => Ok(Sent::NOTHING),
            Step::Pause => {
                conn.pause();
                Ok(Sent::NOTHING)
            }
            Step::Leave => conn.disconnect(4000, "enough"),
            Step::Cut => {
                conn.abort();
                Ok(Sent::NOTHING)
            }
            Step::Fail => Err(SendError::NoMessage),
        }
    };
    world.reactor.handlers.set::<Fragment, _>(on_piece);
    world
}

fn upgraded(world: &mut World, offer: &str, step: Step) -> Client {
    let client = world.connect();
    let line = format!("Sec-WebSocket-Extensions: {offer}\r\n\r\n");
    world.send(
        &client,
        &[&REQUEST[..REQUEST.len() - 2], line.as_bytes()].concat(),
    );
    assert!(client.take().starts_with(b"HTTP/1.1 101 "));
    world.take_log();
    *at(world, &client).data() = step;
    client
}

fn at<'w>(world: &'w mut World, client: &Client) -> Connection<'w> {
    Connection::new(&mut world.reactor.core, client.tag & SLOTS)
}

fn compressed(deflater: &mut Deflater, offer: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let takeover = !offer.contains("client_no");
    assert!(deflater.message(payload, Context::keep_if(takeover), &mut bytes));
    bytes
}

/// Takes turns until nothing is pending; returns how many.
fn settle(world: &mut World) -> usize {
    let mut turns = 0;
    while world.reactor.next_deadline() == Some(0) {
        world.turn();
        turns += 1;
    }
    turns
}

const OFFERS: [&str; 2] = [
    "permessage-deflate",
    "permessage-deflate; client_no_context_takeover",
];

const PIECE: usize = 64 << 10;

#[test]
fn a_bomb_takes_turns_with_the_others() {
    for offer in OFFERS {
        let mut world = pieces(DeflateConfig::default());
        let bomber = upgraded(&mut world, offer, Step::GoOn);
        let other = world.ready();
        let mut deflater = Deflater::new(9, 15);
        let bomb = compressed(&mut deflater, offer, &vec![0; 200 * PIECE + 5]);
        // In one frame that is small enough to be delivered whole, with other messages behind it.
        assert!(bomb.len() < 16 << 10);
        let behind = [frame(0x81, b"behind"), frame(0x8a, b"")].concat();
        world.send(&bomber, &[frame(0xc2, &bomb), behind].concat());
        let share = world.reactor.core.shared.config.turn_bytes / PIECE;
        let mut all = Vec::new();
        let mut turns = 0;
        while world.reactor.next_deadline() == Some(0) {
            let log = world.take_log();
            // At first it was served twice: when the data came, and from the ready queue.
            assert!(log.len() <= 2 * share, "{}", log.len());
            all.extend(log);
            world.send(&other, &frame(0x81, b"served"));
            assert_eq!(other.take(), b"\x81\x06served");
            turns += 1;
        }
        assert!(turns + 2 >= 200 / share, "{turns}");
        all.extend(world.take_log());
        let sizes = all.iter().filter(|entry| *entry != "pong").map(|entry| {
            let size = entry.trim_matches(['(', ')']).parse::<usize>();
            size.expect("a size")
        });
        assert_eq!(sizes.sum::<usize>(), 200 * PIECE + 5, "{offer}");
        assert!(all[0].starts_with('(') && all[all.len() - 2].ends_with(')'));
        assert_eq!(all[all.len() - 1], "pong");
        assert_eq!(bomber.take(), b"\x81\x06behind");
        assert!(
            !world
                .reactor
                .core
                .occupied(bomber.tag & SLOTS)
                .has_more_pieces()
        );
        assert_eq!(
            world.reactor.core.shared.stats.messages_in as usize,
            2 + turns
        );
    }
}

#[test]
fn what_expands_waits_while_paused() {
    let payload = vec![7; 3 * PIECE + 10];
    for offer in OFFERS {
        for cut in [1, 50, usize::MAX] {
            for fin in [false, true] {
                let mut world = pieces(DeflateConfig::default());
                let client = upgraded(&mut world, offer, Step::Pause);
                let mut deflater = Deflater::new(6, 15);
                let mut sizes = 0;
                for first in [0x41, 0xc1] {
                    let bytes = compressed(&mut deflater, offer, &payload);
                    if first == 0xc1 {
                        world.send(&client, &frame(first, &bytes));
                    } else {
                        let frames = [
                            frame(first, &bytes[..10]),
                            frame(0x8a, b""),
                            frame(0x80, &bytes[10..]),
                        ];
                        for part in frames.concat().chunks(cut) {
                            world.send(&client, part);
                        }
                    }
                    if fin && first == 0xc1 {
                        client.arrive_fin();
                        world.news(&client, true, true);
                    }
                    let mut size = 0;
                    loop {
                        settle(&mut world);
                        let mut log = world.take_log();
                        log.retain(|entry| entry != "pong");
                        assert_eq!(log.len(), 1, "{log:?}");
                        let piece = log[0].trim_matches(['(', ')']);
                        assert_eq!(log[0].starts_with('('), size == 0);
                        size += piece.parse::<usize>().expect("a size");
                        // No further piece is delivered, whatever arrives.
                        world.news(&client, true, fin);
                        assert_eq!(world.pass(1), 0, "nothing to do but wait");
                        assert_eq!(world.take_log(), [""; 0]);
                        if log[0].ends_with(')') {
                            break;
                        }
                        at(&mut world, &client).resume();
                        world.turn();
                    }
                    sizes += size;
                    if first == 0x41 {
                        at(&mut world, &client).resume();
                        world.turn();
                        settle(&mut world);
                    }
                }
                assert_eq!(sizes, 2 * payload.len());
                at(&mut world, &client).resume();
                world.turn();
                settle(&mut world);
                let log = world.take_log();
                assert_eq!(
                    log.first().map(String::as_str),
                    fin.then_some("peer close None")
                );
            }
        }
    }
}

#[test]
fn nothing_comes_after_an_end() {
    for (step, end) in [
        (Step::Leave, "disconnect 4000 enough"),
        (Step::Cut, "disconnect 1006 (cut by the server)"),
        (Step::Fail, "error: "),
    ] {
        for whole in [true, false] {
            let mut world = pieces(DeflateConfig::default());
            let step = match &step {
                Step::Leave => Step::Leave,
                Step::Cut => Step::Cut,
                _ => Step::Fail,
            };
            let client = upgraded(&mut world, OFFERS[1], step);
            let mut deflater = Deflater::new(6, 15);
            let bytes = compressed(&mut deflater, OFFERS[1], &vec![0; 40 * PIECE]);
            let frames = match whole {
                true => frame(0xc2, &bytes),
                false => [frame(0x42, &bytes), frame(0x80, b"")].concat(),
            };
            // The peer's answer to the close follows.
            let close = frame(0x88, b"\x0f\xa0");
            world.send(&client, &[frames, close].concat());
            settle(&mut world);
            let log = world.take_log();
            let count = log
                .iter()
                .filter(|entry| entry.starts_with(['(', '6', '0']));
            assert_eq!(count.count(), 1, "{log:?}");
            assert!(log[1].starts_with(&end[..6]), "{log:?}");
            client.arrive_fin();
            world.news(&client, true, true);
            world.pass(20_000);
            assert!(world.is_empty());
        }
    }
}

#[test]
fn faults_are_found_in_their_piece() {
    let text = |size: usize| "\u{e9}".repeat(size);
    let mut wrong = text(PIECE).into_bytes();
    wrong[100_001] = b'x';
    let cut = [text(PIECE).as_bytes(), b"\xc3"].concat();
    for (payload, ratio, end) in [
        (&wrong, usize::MAX, "not UTF-8"),
        (&cut, usize::MAX, "not UTF-8"),
        (&vec![b'0'; 1 << 20], 100, "max_ratio of 100"),
    ] {
        for offer in OFFERS {
            for whole in [true, false] {
                let mut world = pieces(DeflateConfig::default().max_ratio(ratio));
                let client = upgraded(&mut world, offer, Step::GoOn);
                let mut deflater = Deflater::new(6, 15);
                let bytes = compressed(&mut deflater, offer, payload);
                let (first, last) = bytes.split_at(bytes.len() / 2);
                world.send(
                    &client,
                    &match whole {
                        true => frame(0xc1, &bytes),
                        false => [frame(0x41, first), frame(0x80, last)].concat(),
                    },
                );
                settle(&mut world);
                let log = world.take_log();
                let error = log.iter().find(|entry| entry.starts_with("error"));
                assert!(error.is_some_and(|error| error.ends_with(end)), "{log:?}");
                assert!(
                    !log.iter()
                        .any(|entry| entry.ends_with(')') && entry.len() < 8)
                );
            }
        }
    }
}
