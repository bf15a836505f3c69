//! `Fragment` and permessage-deflate: compressed messages that are larger than `max_recv_size`.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::deflate::{OFFER, Peer, text};
use crate::support::{PATIENCE, Running, echo, frame};
use wsloop::event::{Disconnect, Fragment};
use wsloop::{Builder, DeflateConfig, OpCode};

/// A piece: its kind, its bytes, and whether it is the first and the last of its message.
type Seen = (OpCode, Vec<u8>, bool, bool);

fn in_pieces(builder: Builder, config: DeflateConfig, sender: Sender<Seen>) -> Builder {
    echo(builder).deflate(config).on(Fragment, move |_, piece| {
        assert!(piece.payload.len() <= 64 << 10);
        let payload = piece.payload.to_vec();
        sender.send((piece.opcode, payload, piece.first, piece.last))
    })
}

/// Joins the pieces of one message; returns their number as well.
#[track_caller]
fn whole(log: &Receiver<Seen>) -> (OpCode, Vec<u8>, usize) {
    let mut bytes = Vec::new();
    for count in 1.. {
        let (opcode, payload, first, last) = log.recv_timeout(PATIENCE).expect("a piece");
        assert_eq!(first, count == 1);
        bytes.extend(payload);
        if last {
            return (opcode, bytes, count);
        }
    }
    unreachable!("the log ends first")
}

#[test]
fn however_it_is_cut_it_is_the_same() {
    for offer in [OFFER, "permessage-deflate; client_no_context_takeover"] {
        let (sender, log) = channel();
        let server = Running::start(|builder| in_pieces(builder, DeflateConfig::default(), sender));
        let mut peer = Peer::of(&server, offer);
        let takeover = !offer.contains("client_no");
        let mut rounds = 0;
        for (size, frames) in [
            (0, 2),
            (10, 3),
            (3000, 5),
            (65_536, 2),
            (65_537, 1),
            (500_000, 7),
        ] {
            for first in [0x41, 0x42] {
                // Text with characters of one and two bytes, cut anywhere.
                let payload = text(size, rounds);
                rounds += 1;
                let bytes = peer.compressed(&payload, takeover);
                let len = bytes.len().div_ceil(frames).max(1);
                let mut chunks: Vec<&[u8]> = bytes.chunks(len).collect();
                let last = chunks.pop().unwrap_or_default();
                for (at, chunk) in chunks.iter().enumerate() {
                    peer.client
                        .send_frame(if at == 0 { first } else { 0 }, chunk);
                    peer.client.send_frame(0x89, "now");
                    peer.client.expect_frame(0x8a, "now");
                }
                let begin = if chunks.is_empty() { first } else { 0 };
                // A message in one small frame causes no `Fragment` events.
                let whole_frame = chunks.is_empty() && size <= 65_536;
                let end = frame(0x80 | begin, last);
                match size {
                    ..5000 => end.iter().for_each(|byte| peer.client.send_raw([*byte])),
                    _ => peer.client.send_raw(end),
                }
                if whole_frame {
                    let (opcode, _, message) = peer.read();
                    assert_eq!((opcode & 0xf, message), (first & 0xf, payload));
                    continue;
                }
                let (opcode, message, count) = whole(&log);
                assert_eq!(opcode.bits(), first & 0xf);
                assert!(message == payload, "{size} in {frames}");
                assert!(count >= size.div_ceil(64 << 10).max(1));
                // Whole messages still arrive, with the same context.
                let small = text(2000, 0);
                peer.send(0x81, &small, takeover);
                assert_eq!(peer.read().2, small);
            }
        }
    }
}

#[test]
fn what_is_wrong_ends_its_connection() {
    let (sender, log) = channel();
    let server = Running::start(|builder| {
        let config = DeflateConfig::default().max_ratio(200);
        in_pieces(builder, config, sender).on(Disconnect, |_, _| ())
    });
    let mut peer = Peer::of(&server, OFFER);
    let bad_text = peer.compressed(b"caf\xc3\xa9 and \xff", false);
    let cut_text = peer.compressed(b"caf\xc3", false);
    let bomb = peer.compressed(&vec![0; 4 << 20], false);
    let plain = |bytes: &[u8]| [frame(0x41, &bytes[..2]), frame(0x80, &bytes[2..])].concat();
    for (bytes, code) in [
        (plain(&bad_text), 1007),
        (plain(&cut_text), 1007),
        (plain(b"\xf2\x07\x07\x07"), 1002),
        (plain(&bomb), 1009),
        (frame(0xc2, &bomb), 1009),
        ([frame(0x41, b"\xf2"), frame(0xc0, b"\x48")].concat(), 1002),
        ([frame(0x41, b"\xf2"), frame(0x81, b"a")].concat(), 1002),
    ] {
        let mut peer = Peer::of(&server, OFFER);
        peer.client.send_raw(bytes);
        peer.client.expect_close(code);
    }
    drop(log);
}

#[test]
fn a_message_larger_than_memory_should_be() {
    let (sender, log) = channel();
    let server = Running::start(move |builder| {
        let mut size = 0;
        echo(builder)
            .deflate(DeflateConfig::default())
            .on(Fragment, move |_, piece| {
                assert!(piece.payload.iter().all(|byte| *byte == 0));
                size += piece.payload.len();
                if piece.last {
                    sender.send(size).expect("the test listens");
                }
            })
    });
    let mut peer = Peer::of(&server, OFFER);
    let mut other = server.ready();
    let zeros = vec![0; 1 << 20];
    let block = peer.compressed(&zeros, true);
    let mut bomb = Vec::new();
    for _ in 0..64 {
        // The blocks follow each other: each ends at a byte boundary, with the four bytes of a
        // flush.
        bomb.extend_from_slice(&block);
        bomb.extend([0, 0, 0xff, 0xff]);
    }
    bomb.push(0);
    peer.client.send_frame(0xc2, bomb);
    other.expect_alive();
    assert_eq!(log.recv_timeout(6 * PATIENCE), Ok(64 << 20));
    peer.client.expect_alive();
}
