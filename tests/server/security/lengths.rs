//! Lengths that overflow, contradict each other or exceed the available memory.

use crate::support::client_frames::{self, Form, append_header};
use crate::support::{Client, Running, echo, frame, settle};

/// The boundaries of each encoding, and of each integer type that could store a length.
const LENGTHS: [u64; 19] = [
    0,
    1,
    125,
    126,
    127,
    65_535,
    65_536,
    65_537,
    (1 << 31) - 1,
    1 << 31,
    (1 << 31) + 1,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 1,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 13,
    u64::MAX,
];

/// Returns a header with this form of its length.
fn header(first: u8, key: Option<[u8; 4]>, form: Form, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_header(&mut bytes, first, form, len, key);
    bytes
}

/// Returns the close code that RFC 6455, 5.2 and the limit require for such a header; `None` if the
/// server waits for the payload.
fn verdict(
    (first, key): (u8, Option<[u8; 4]>),
    form: Form,
    len: u64,
    before: u64,
    limit: u64,
) -> Option<u16> {
    let minimal = match form {
        Form::Short => true,
        Form::Medium => len > 125,
        Form::Long => len > 65_535 && len < 1 << 63,
    };
    if key.is_none() || !minimal || (first & 8 != 0 && form != Form::Short) {
        return Some(1002);
    }
    let too_big = first & 8 == 0 && len.checked_add(before).is_none_or(|sum| sum > limit);
    too_big.then_some(1009)
}

/// Checks the reaction to a header and a few bytes of payload.
#[track_caller]
fn expect(client: &mut Client, other: &mut Client, verdict: Option<u16>, shown: &str) {
    if let Some(code) = verdict {
        let close = client.read_frame();
        assert_eq!(close.first, 0x88, "{shown}");
        assert_eq!(close.payload[..2], code.to_be_bytes(), "{shown}");
        return client.expect_eof();
    }
    settle(other);
    client.stream.set_nonblocking(true).expect("it is open");
    let peeked = client.stream.peek(&mut [0]);
    let error = peeked.expect_err(shown);
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{shown}");
}

#[test]
fn no_length_overflows_loops_or_panics() {
    for limit in [65_536, usize::MAX] {
        let server = Running::start(move |builder| echo(builder).max_recv_size(limit));
        let mut other = server.ready();
        for len in LENGTHS {
            for (form, fits) in [
                (Form::Short, len < 126),
                (Form::Medium, len <= 0xffff),
                (Form::Long, true),
            ] {
                if !fits {
                    continue;
                }
                // As the first frame, after a complete frame, and as the second frame of a message.
                for (before, first) in [
                    (vec![], 0x82),
                    (vec![], 0x01),
                    (frame(0x8a, b"pong"), 0x81),
                    (frame(0x01, b"x"), 0x80),
                    (frame(0x02, &[7; 60_000]), 0x00),
                    (vec![], 0x89),
                    (frame(0x01, b"x"), 0x88),
                ] {
                    for key in [Some([1, 2, 3, 4]), None] {
                        let begun = match (first & 0x0f, before.len()) {
                            (0, len) if len > 60_000 => 60_000,
                            (0, _) => 1,
                            _ => 0,
                        };
                        let limit = limit as u64;
                        let verdict = verdict((first, key), form, len, begun, limit);
                        // Complete messages are answered, and are not tested here.
                        if verdict.is_none() && len < 128 {
                            continue;
                        }
                        let mut client = server.ready();
                        let header = header(first, key, form, len);
                        // The unmasked payload must be valid as text.
                        client.send_raw([&before[..], &header, &[1, 2, 3, 4].repeat(25)].concat());
                        let shown = format!("{} {limit}", header.escape_ascii());
                        expect(&mut client, &mut other, verdict, &shown);
                    }
                }
            }
        }
        other.expect_alive();
    }
}

#[test]
fn control_frames_of_every_size_come_back_to_the_byte_and_no_more() {
    let server = Running::echo();
    let mut client = server.ready();
    for size in 0..=125 {
        let payload: Vec<u8> = (0..size).map(|at| at ^ 0xa5).collect();
        client.send_frame(0x89, &payload);
        client.expect_frame(0x8a, &payload);
    }
    for size in 0..=123usize {
        let mut client = server.ready();
        let reason = "x".repeat(size);
        client.send_close(4000, &reason);
        assert_eq!(client.expect_close(4000), reason);
        client.expect_eof();
    }
}

#[test]
fn a_hundred_megabytes_are_refused_at_their_header() {
    let server = Running::echo();
    let mut other = server.ready();
    let mut client = server.ready();
    client.send_raw(client_frames::header(0x82, 100 << 20));
    let reason = client.expect_close(1009);
    assert!(reason.contains("104857600"), "{reason}");
    // The client sends the payload nevertheless.
    let chunk = vec![7; 1 << 20];
    for _ in 0..100 {
        if std::io::Write::write_all(&mut client.stream, &chunk).is_err() {
            break;
        }
    }
    other.expect_alive();
}
