//! Compressed messages in parts: a frame for each part, with one DEFLATE stream over all of them.

use std::sync::mpsc::{Sender, channel};

use crate::deflate::{OFFER, Peer, noise, text};
use crate::support::{PATIENCE, Running};
use socket2::SockRef;
use wsloop::event::*;
use wsloop::protocol::deflate::Context;
use wsloop::{
    Compress, Connection, DeflateConfig, OpCode, Outgoing, SendError, Sent, SlowConsumer,
};

/// A frame: its first byte, and its decompressed payload.
type Part = (u8, Vec<u8>);

/// Reads a message frame by frame, and decompresses each frame when it arrives. Control frames may
/// come in between.
#[track_caller]
fn read_parts(peer: &mut Peer) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut compressed = false;
    loop {
        let frame = peer.client.read_frame();
        if frame.first & 0x8 != 0 {
            parts.push((frame.first, frame.payload));
            continue;
        }
        if frame.first & 0xf != 0 {
            compressed = frame.first & 0x40 != 0;
            peer.inflater.begin(Context::Keep, usize::MAX);
        }
        let last = frame.first & 0x80 != 0;
        let mut payload = frame.payload;
        if compressed {
            let mut room = vec![0; 1 << 20];
            let mut input = &payload[..];
            let (size, ended) = peer
                .inflater
                .piece(&mut input, last, &mut room)
                .expect("it is compressed");
            assert!(input.is_empty() && ended == last);
            room.truncate(size);
            payload = room;
        }
        parts.push((frame.first, payload));
        if last {
            return parts;
        }
    }
}

fn whole(parts: &[Part]) -> Vec<u8> {
    let data = parts.iter().filter(|(first, _)| first & 0x8 == 0);
    data.flat_map(|(_, payload)| payload.clone()).collect()
}

/// Starts a server that runs `action` when the client sends "go", and echoes other messages.
fn on_go(
    config: DeflateConfig,
    action: impl Fn(&mut Connection<'_>) -> Result<(), SendError> + Send + 'static,
) -> Running {
    Running::start(move |builder| {
        builder
            .deflate(config)
            .max_backlog(64 << 20)
            .on(Utf8, move |conn, text| match text {
                "go" => action(conn),
                text => conn.send_utf8(text).map(drop),
            })
    })
}

const MODES: [DeflateConfig; 2] = [DeflateConfig::shared(), DeflateConfig::dedicated()];

#[test]
fn each_part_can_be_expanded_when_it_comes() {
    for config in MODES {
        let server = on_go(config, |conn| {
            conn.start_message(OpCode::Text, Compress::Yes)?;
            assert!(conn.send_part(text(3000, 1))?.bytes() < 2000);
            assert_eq!(conn.send_part("").map(Sent::bytes), Ok(0));
            assert_eq!(conn.ping(b"between").map(Sent::bytes), Ok(9));
            // The compressor refers to earlier parts of the same message.
            let size = conn.send_part(text(3000, 1))?.bytes();
            assert!(size < 400, "{size}");
            let size = conn.end_message("")?.bytes();
            assert_eq!(size, 3);
            assert!(!conn.is_message_under_way());
            conn.start_message(OpCode::Binary, Compress::Yes)?;
            conn.end_message(text(100, 2))?;
            conn.start_message(OpCode::Binary, Compress::Yes)?;
            conn.end_message("").map(drop)
        });
        let mut peer = Peer::of(&server, OFFER);
        for _ in 0..3 {
            // Whole messages work before and after.
            peer.client.send_frame(0x81, text(3000, 1));
            assert_eq!(peer.read().2, text(3000, 1));
            peer.client.send_text("go");
            let parts = read_parts(&mut peer);
            let expected = [
                (0x41, text(3000, 1)),
                (0x89, b"between".to_vec()),
                (0x00, text(3000, 1)),
                (0x80, Vec::new()),
            ];
            assert_eq!(parts, expected);
            assert_eq!(read_parts(&mut peer), [(0xc2, text(100, 2))]);
            assert_eq!(read_parts(&mut peer), [(0xc2, Vec::new())]);
        }
    }
}

#[test]
fn contexts_go_on_over_messages_in_parts() {
    for (config, keeps) in MODES.into_iter().zip([false, true]) {
        let server = on_go(config, |conn| {
            conn.start_message(OpCode::Text, Compress::Yes)?;
            conn.send_part(text(2000, 3))?;
            conn.end_message(text(2000, 4)).map(drop)
        });
        let mut peer = Peer::of(&server, OFFER);
        peer.client.send_text("go");
        let expected = [text(2000, 3), text(2000, 4)];
        assert_eq!(whole(&read_parts(&mut peer)), expected.concat());
        for seed in [4, 3] {
            peer.client.send_frame(0x81, text(2000, seed));
            let (_, size, message) = peer.read();
            assert_eq!(message, text(2000, seed));
            assert_eq!(size < 100, keeps, "{size}");
        }
    }
}

#[test]
fn what_is_compressed_is_chosen_as_for_whole_messages() {
    let config = DeflateConfig::shared();
    let server = on_go(config, |conn| {
        let (large, small) = (text(2000, 5), text(700, 5));
        // If the size is unknown, the first part that is not empty decides.
        for (first, choice) in [
            (&large, Compress::Auto),
            (&small, Compress::Auto),
            (&small, Compress::Yes),
            (&large, Compress::No),
        ] {
            for opcode in [OpCode::Text, OpCode::Binary] {
                conn.start_message(opcode, choice)?;
                conn.send_part("")?;
                conn.send_part(first)?;
                conn.end_message(&large)?;
            }
        }
        conn.start_message(OpCode::Text, Compress::Auto)?;
        conn.end_message(&large)?;
        // If the size is known, all parts together decide.
        let parts = [&small[..], &[], &small, &small];
        for choice in [Compress::Auto, Compress::Yes, Compress::No] {
            for opcode in [OpCode::Text, OpCode::Binary] {
                conn.send_message(Outgoing::parts(opcode, &parts).compress(choice))?;
                conn.send_message(Outgoing::parts(opcode, &parts).in_frames().compress(choice))?;
            }
        }
        conn.send_message(Outgoing::parts(OpCode::Text, &parts))?;
        conn.send_message(Outgoing::parts(OpCode::Text, &parts).in_frames())?;
        conn.send_message(Outgoing::parts(OpCode::Text, &parts[..3]))?;
        conn.send_message(Outgoing::parts(OpCode::Text, &parts[..3]).in_frames())?;
        Ok(())
    });
    let mut peer = Peer::of(&server, OFFER);
    let mut plain = Peer::of(&server, "none");
    peer.client.send_text("go");
    plain.client.send_text("go");
    let (large, small) = (text(2000, 5), text(700, 5));
    let mut read = |first: u8, frames: &[&[u8]], compressed: bool| {
        for (peer, bit) in [(&mut peer, u8::from(compressed) << 6), (&mut plain, 0)] {
            let last = frames.len() - 1;
            let expected = frames.iter().enumerate().map(|(at, frame)| {
                let begins = if at == 0 { first | bit } else { 0 };
                (begins | u8::from(at == last) << 7, frame.to_vec())
            });
            assert_eq!(read_parts(peer), expected.collect::<Vec<Part>>());
        }
    };
    for (first, text, binary) in [
        (&large, true, false),
        (&small, false, false),
        (&small, true, true),
        (&large, false, false),
    ] {
        read(1, &[first, &large], text);
        read(2, &[first, &large], binary);
    }
    read(1, &[&large], true);
    let parts = [&small[..], &small, &small];
    let joined = parts.concat();
    for (text, binary) in [(true, false), (true, true), (false, false)] {
        for (opcode, compressed) in [(1, text), (2, binary)] {
            read(opcode, &[&joined], compressed);
            read(opcode, &parts, compressed);
        }
    }
    read(1, &[&joined], true);
    read(1, &parts, true);
    read(1, &[&joined[..1400]], false);
    read(1, &parts[..2], false);
}

#[test]
fn empty_messages_are_compressed_if_they_are_to_be() {
    for config in MODES {
        let server = on_go(config, |conn| {
            let yes = Compress::Yes;
            assert_eq!(
                conn.send_message(Outgoing::parts(OpCode::Text, &["", ""]).compress(yes))
                    .map(Sent::bytes),
                Ok(3)
            );
            assert_eq!(
                conn.send_message(
                    Outgoing::parts(OpCode::Text, &[""; 0])
                        .in_frames()
                        .compress(yes)
                )
                .map(Sent::bytes),
                Ok(3)
            );
            assert_eq!(
                conn.send_message(Outgoing::parts(OpCode::Text, &[""; 2]).in_frames())
                    .map(Sent::bytes),
                Ok(2)
            );
            Ok(())
        });
        let mut peer = Peer::of(&server, OFFER);
        peer.client.send_text("go");
        for first in [0xc1, 0xc1, 0x81] {
            assert_eq!(read_parts(&mut peer), [(first, Vec::new())]);
        }
    }
}

#[test]
fn what_gains_nothing_goes_as_it_is() {
    let noise = || -> Vec<u8> { noise(9).map(|number| number as u8).take(3000).collect() };
    let config = DeflateConfig::shared().compress_binary(true);
    let server = on_go(config, move |conn| {
        let noise = noise();
        let parts = [&noise[..1000], &noise[1000..]];
        conn.send_message(Outgoing::parts(OpCode::Binary, &parts))?;
        conn.send_message(Outgoing::parts(OpCode::Binary, &parts).in_frames())?;
        conn.send_message(Outgoing::parts(OpCode::Binary, &parts).compress(Compress::Yes))?;
        Ok(())
    });
    let mut peer = Peer::of(&server, OFFER);
    peer.client.send_text("go");
    for first in [&[0x82][..], &[0x02, 0x80], &[0xc2]] {
        let parts = read_parts(&mut peer);
        let firsts: Vec<u8> = parts.iter().map(|part| part.0).collect();
        assert_eq!(firsts, first);
        assert_eq!(whole(&parts), noise());
    }
}

#[test]
fn sizes_and_text_are_those_of_what_is_sent() {
    for config in MODES {
        let server = on_go(config, |conn| {
            conn.set_max_send_size(10_000);
            let big = |size| {
                Err(SendError::TooBig {
                    size,
                    limit: 10_000,
                })
            };
            let zeros = vec![b'0'; 6000];
            conn.start_message(OpCode::Text, Compress::Auto)?;
            conn.send_part(&zeros)?;
            assert_eq!(conn.send_part(&zeros), big(12_000));
            conn.send_part(b"\xc3")?;
            assert_eq!(conn.send_part(b"x"), Err(SendError::BadUtf8));
            assert_eq!(conn.end_message(""), Err(SendError::BadUtf8));
            conn.end_message(b"\xa9")?;
            let parts = [&zeros[..], &zeros];
            assert_eq!(
                conn.send_message(Outgoing::parts(OpCode::Text, &parts)),
                big(12_000)
            );
            assert_eq!(
                conn.send_message(Outgoing::parts(OpCode::Text, &parts).in_frames()),
                big(12_000)
            );
            Ok(())
        });
        let mut peer = Peer::of(&server, OFFER);
        peer.client.send_text("go");
        let parts = read_parts(&mut peer);
        assert_eq!(parts[1], (0x00, vec![0xc3]));
        let expected = [&[b'0'; 6000][..], "\u{e9}".as_bytes()].concat();
        assert_eq!(whole(&parts), expected);
        peer.client.send_frame(0x81, text(3000, 6));
        assert_eq!(peer.read().2, text(3000, 6));
    }
}

#[test]
fn many_messages_are_under_way_at_once() {
    for config in MODES {
        let server = Running::start(move |builder| {
            builder
                .deflate(config)
                .on(Ready, |conn, ()| {
                    conn.start_message(OpCode::Binary, Compress::Yes)
                })
                .on(Utf8, |conn, text| conn.send_part(text))
                .on(Binary, |conn, data| conn.end_message(data))
        });
        let mut peers: Vec<Peer> = (0..3)
            .map(|bits| {
                let offer = format!(
                    "permessage-deflate; server_max_window_bits={}",
                    15 - bits / 2
                );
                Peer::of(&server, &offer)
            })
            .collect();
        for round in 0..4 {
            for (seed, peer) in (0..).zip(&mut peers) {
                // All peers receive the same order of messages, which overlap in time.
                peer.client.send_frame(0x81, text(2000, seed + round % 2));
            }
        }
        for (seed, peer) in (0..).zip(&mut peers) {
            peer.client.send_frame(0x82, b"end");
            let parts = read_parts(peer);
            let texts = (0..4).flat_map(|round| text(2000, seed + round % 2));
            let expected: Vec<u8> = texts.chain(*b"end").collect();
            assert_eq!(whole(&parts), expected);
            assert_eq!(parts.len(), 5);
        }
    }
}

/// The number of parts that were sent to a peer, out of `PARTS`.
#[derive(Default)]
struct Progress(u32);

const PARTS: u32 = 500;

/// Sends parts until the backlog is full, or the message ends.
fn pump(conn: &mut Connection<'_>) -> Result<(), SendError> {
    loop {
        let next = conn.data::<Progress>().0;
        let result = match next {
            PARTS.. => return Ok(()),
            _ if !conn.is_message_under_way() => return Ok(()),
            next if next == PARTS - 1 => conn.end_message(text(3000, next)),
            next => conn.send_part(text(3000, next)),
        };
        match result {
            Ok(sent) => assert!(!sent.is_dropped()),
            Err(SendError::BacklogFull { .. }) => {
                // Both this part and another one are refused.
                let other = conn.send_part(text(40_000, next + 1));
                assert!(matches!(other, Err(SendError::BacklogFull { .. })));
                // Tells the test once that it may read.
                let told = conn.shared::<Option<Sender<()>>>().take();
                return told.map_or(Ok(()), |full| full.send(()).map_err(|_| SendError::Gone));
            }
            Err(error) => return Err(error),
        }
        conn.data::<Progress>().0 += 1;
    }
}

#[test]
fn a_part_that_was_refused_is_sent_again() {
    for config in MODES {
        for policy in [
            SlowConsumer::Error,
            SlowConsumer::DropOldest,
            SlowConsumer::DropNewest,
        ] {
            let config = config.clone();
            let (full, is_full) = channel::<()>();
            let server = Running::start(move |builder| {
                builder
                    .deflate(config)
                    .max_backlog(50_000)
                    .max_send_size(1 << 30)
                    .slow_consumer(policy)
                    .on(Connect, |conn, ()| {
                        let socket = conn.socket().expect("a socket");
                        SockRef::from(&socket).set_send_buffer_size(16 << 10)
                    })
                    .on(Drain, |conn, ()| pump(conn))
                    .on(Utf8, move |conn, text| match text {
                        "go" => {
                            *conn.shared() = Some(full.clone());
                            conn.start_message(OpCode::Text, Compress::Auto)?;
                            pump(conn)
                        }
                        text => conn.send_utf8(text).map(drop),
                    })
            });
            let mut peer = Peer::of(&server, OFFER);
            peer.client.send_frame(0x81, text(3000, 0));
            assert_eq!(peer.read().2, text(3000, 0));
            peer.client.send_text("go");
            is_full.recv_timeout(PATIENCE).expect("a part is refused");
            let parts = read_parts(&mut peer);
            assert_eq!(parts.len(), PARTS as usize);
            for (seed, (_, part)) in (0..).zip(parts) {
                assert!(part == text(3000, seed), "part {seed}");
            }
            for _ in 0..2 {
                peer.client.send_frame(0x81, text(3000, PARTS - 1));
                assert_eq!(peer.read().2, text(3000, PARTS - 1));
            }
            drop(peer);
            assert!(server.stop().refused_messages > 0);
        }
    }
}

#[test]
fn dropped_messages_from_several_places_are_missed_by_no_other() {
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
        let (over, is_over) = channel();
        let server = Running::start(move |builder| {
            builder
                .deflate(DeflateConfig::dedicated())
                .max_backlog(50_000)
                .slow_consumer(policy)
                .on(Connect, |conn, ()| {
                    let socket = conn.socket().expect("a socket");
                    SockRef::from(&socket).set_send_buffer_size(16 << 10)
                })
                .on(Utf8, move |conn, word| {
                    if word != "flood" {
                        return conn.send_utf8(word).map(drop);
                    }
                    for seed in 0..500 {
                        let text = text(3000, seed);
                        let parts = [&text[..1000], &text[1000..]];
                        match seed % 2 {
                            0 => conn.send_message(Outgoing::parts(OpCode::Text, &parts))?,
                            _ => conn
                                .send_message(Outgoing::parts(OpCode::Text, &parts).in_frames())?,
                        };
                    }
                    over.send(()).map_err(|_| SendError::Gone)
                })
        });
        let mut peer = Peer::of(&server, OFFER);
        peer.client.send_text("flood");
        is_over.recv_timeout(PATIENCE).expect("all are sent");
        peer.client.send_text("the end");
        let mut next = 0;
        loop {
            let message = whole(&read_parts(&mut peer));
            if message == b"the end" {
                break;
            }
            let found = (next..500).find(|seed| text(3000, *seed) == message);
            next = found.expect("in order") + 1;
        }
        peer.client.send_frame(0x81, text(3000, 1));
        assert_eq!(peer.read().2, text(3000, 1));
        drop(peer);
        assert!(server.stop().dropped_messages > 0);
    }
}
