//! Messages larger than a read arrive unchanged, whatever came before them.

use std::io::Write as _;

use crate::support::{Client, Running, echo, frame, settle};

const MIB: usize = 1 << 20;

fn large() -> Running {
    Running::start(|builder| {
        echo(builder)
            .max_recv_size(4 * MIB)
            .max_send_size(4 * MIB)
            .max_backlog(64 * MIB)
            .read_buffer(64 << 10)
    })
}

/// Returns bytes that depend on the position and the seed.
fn payload(seed: usize, size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at * 31 + at / 251 + seed * 17) as u8)
        .collect()
}

#[test]
fn sizes_may_follow_each_other_in_any_order() {
    let server = large();
    let mut clients: Vec<Client> = (0..3).map(|_| server.ready()).collect();
    let sizes = [
        MIB,
        MIB,
        10,
        3 * MIB,
        70_000,
        65_536,
        125,
        MIB,
        0,
        600_000,
        600_001,
        126,
        65_535,
        MIB,
    ];
    for (turn, size) in sizes.into_iter().enumerate() {
        for (index, client) in clients.iter_mut().enumerate() {
            let sent = payload(turn * 3 + index, size);
            client.send_frame(0x82, &sent);
            let reply = client.read_frame();
            assert_eq!(reply.first, 0x82);
            assert!(reply.payload == sent, "message {turn} of {size} bytes");
        }
    }
}

#[test]
fn many_may_be_under_way_at_once() {
    let server = large();
    let mut client = server.ready();
    let sizes = [
        MIB,
        5,
        2 * MIB,
        2 * MIB,
        300_000,
        0,
        300_000,
        125,
        4 * MIB,
        80_000,
    ];
    let bytes: Vec<u8> = (0..)
        .zip(sizes)
        .flat_map(|(seed, size)| frame(0x82, &payload(seed, size)))
        .collect();
    let mut writer = Client::over(client.stream.try_clone().expect("a second descriptor"));
    let writing = std::thread::spawn(move || writer.send_raw(bytes));
    for (seed, size) in (0..).zip(sizes) {
        let reply = client.read_frame();
        assert!(reply.payload == payload(seed, size), "{size} bytes");
    }
    writing.join().expect("all was sent");
}

#[test]
fn what_is_expected_may_not_come() {
    let server = large();
    let mut other = server.ready();
    let text = "\u{1f980}é".repeat(100_000);
    // After a large message the server prepares for another large one, but each of these messages
    // arrives instead. The numbers are the bytes and the pongs of the reply.
    let size = text.len();
    let text = text.as_str();
    let whole = frame(0x81, text.as_bytes());
    let ping = frame(0x89, b"ping");
    let instead = [
        (size, 1, vec![ping.clone(), whole.clone()]),
        (
            size + 1,
            0,
            vec![frame(0x01, b"a"), frame(0x80, text.as_bytes())],
        ),
        (
            size + 1,
            1,
            vec![frame(0x01, text.as_bytes()), ping, frame(0x80, b"z")],
        ),
        (3000, 0, vec![frame(0x81, b"x").repeat(3000)]),
        (
            size + 20_000,
            0,
            vec![whole, frame(0x81, b"x").repeat(20_000)],
        ),
    ];
    for (expected, pings, frames) in instead {
        let mut client = server.ready();
        for _ in 0..2 {
            client.send_text(text);
            client.expect_text(text);
        }
        for bytes in frames {
            client.send_raw(bytes);
            settle(&mut other);
        }
        let (mut received, mut pongs) = (0, 0);
        while received < expected || pongs < pings {
            let reply = client.read_frame();
            match reply.first {
                0x8a => pongs += 1,
                _ => received += reply.payload.len(),
            }
        }
        assert_eq!((received, pongs), (expected, pings));
        client.expect_alive();
    }
}

#[test]
fn large_text_must_be_utf8_and_within_the_limit() {
    let server = large();
    let text = "é".repeat(400_000);
    for place in [0, 400_001, 799_999] {
        let mut client = server.ready();
        client.send_text(&text);
        client.expect_text(&text);
        let mut wrong = text.clone().into_bytes();
        wrong[place] ^= 0x80;
        client.send_frame(0x81, &wrong);
        client.expect_close(1007);
        client.expect_eof();
    }
    let mut client = server.ready();
    client.send_frame(0x82, payload(1, 4 * MIB));
    assert_eq!(client.read_frame().payload.len(), 4 * MIB);
    // The header already exceeds the limit; the socket may be closed before the rest is written.
    let _ = client
        .stream
        .write_all(&frame(0x82, &payload(1, 4 * MIB + 1)));
    client.expect_close(1009);
    server.ready().expect_alive();
}
