//! The server answers every violation of the protocol with a Close frame with the right code, and
//! then closes the connection in an orderly way: it reads all data that still arrives, and loses
//! nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::{self, Receiver};

use crate::support;
use crate::support::client_frames::header;
use crate::support::{Client, PATIENCE, Running, frame, settle};
use wsloop::ProtocolError::{self, *};
use wsloop::event::{Cause, Disconnect, Utf8};

/// Bytes whose last byte violates the protocol, and the expected error.
struct Breach {
    bytes: Vec<u8>,
    code: u16,
    error: ProtocolError,
}

fn breach(parts: &[&[u8]], code: u16, error: ProtocolError) -> Breach {
    Breach {
        bytes: parts.concat(),
        code,
        error,
    }
}

fn breaches() -> Vec<Breach> {
    let mut all = framing();
    all.extend(sequences());
    all.extend(closes());
    all.extend(texts());
    all.extend(limits());
    all
}

/// RFC 6455, 5.2 and 5.5: violations in a single header.
fn framing() -> Vec<Breach> {
    let mut all = Vec::new();
    for (bit, bits) in [(0x40, 0b100), (0x20, 0b010), (0x10, 0b001), (0x70, 0b111)] {
        // On a data frame, a continuation and a control frame.
        for first in [0x81, 0x02, 0x80, 0x89] {
            all.push(breach(&[&[first | bit]], 1002, ReservedBits(bits)));
        }
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        all.push(breach(&[&[0x80 | opcode]], 1002, ReservedOpCode(opcode)));
        all.push(breach(&[&[opcode]], 1002, ReservedOpCode(opcode)));
    }
    for head in [
        b"\x81\x05",
        b"\x81\x00",
        b"\x82\x7e",
        b"\x82\x7f",
        b"\x01\x00",
    ] {
        all.push(breach(&[head], 1002, Unmasked));
    }
    for head in [b"\x88\x00", b"\x89\x00", b"\x8a\x04"] {
        all.push(breach(&[head], 1002, Unmasked));
    }
    for len in [0u16, 1, 125] {
        let bytes = len.to_be_bytes();
        all.push(breach(&[b"\x82\xfe", &bytes], 1002, LengthNotMinimal));
    }
    for len in [0u64, 125, 126, 65_535] {
        let bytes = len.to_be_bytes();
        all.push(breach(&[b"\x82\xff", &bytes], 1002, LengthNotMinimal));
        // As the second frame of a message.
        let start = frame(0x02, b"x");
        all.push(breach(
            &[&start, b"\x80\xff", &bytes],
            1002,
            LengthNotMinimal,
        ));
    }
    for top in [0x80, 0xff] {
        all.push(breach(&[b"\x82\xff", &[top]], 1002, LengthTopBit));
        let start = frame(0x01, b"x");
        all.push(breach(&[&start, b"\x80\xff", &[top]], 1002, LengthTopBit));
    }
    for opcode in [0x8, 0x9, 0xa] {
        all.push(breach(&[&[opcode]], 1002, ControlFragmented));
        all.push(breach(&[&[0x80 | opcode, 0xfe]], 1002, ControlTooLong));
        all.push(breach(&[&[0x80 | opcode, 0xff]], 1002, ControlTooLong));
    }
    all
}

/// RFC 6455, 5.4: violations of the order of frames.
fn sequences() -> Vec<Breach> {
    let header = |first| header(first, 0);
    let (start, whole) = (frame(0x01, b"start"), frame(0x81, b""));
    let done = [frame(0x02, b"a"), frame(0x80, b"b")].concat();
    vec![
        breach(&[&header(0x80)], 1002, ContinuationUnexpected),
        breach(&[&header(0x00)], 1002, ContinuationUnexpected),
        // After a complete message, in one frame or two, and after a ping.
        breach(&[&whole, &header(0x80)], 1002, ContinuationUnexpected),
        breach(&[&done, &header(0x80)], 1002, ContinuationUnexpected),
        breach(
            &[&frame(0x89, b""), &header(0x00)],
            1002,
            ContinuationUnexpected,
        ),
        breach(&[&start, &header(0x81)], 1002, ContinuationExpected),
        breach(&[&start, &header(0x82)], 1002, ContinuationExpected),
        breach(&[&start, &header(0x01)], 1002, ContinuationExpected),
        breach(
            &[&start, &frame(0x89, b"p"), &header(0x02)],
            1002,
            ContinuationExpected,
        ),
        breach(
            &[&frame(0x01, b""), &header(0x01)],
            1002,
            ContinuationExpected,
        ),
    ]
}

/// RFC 6455, 5.5.1 and 7.4: violations in the body of a Close frame.
fn closes() -> Vec<Breach> {
    let mut all = vec![
        breach(&[&frame(0x88, b"\x03")], 1002, BadCloseLength),
        breach(&[&frame(0x88, b"\x03\xe8\xff")], 1007, BadUtf8),
        breach(&[&frame(0x88, b"\x03\xe8ok \xf0\x9f\x98")], 1007, BadUtf8),
        breach(&[&frame(0x88, b"\x03\xe8\xed\xa0\x80")], 1007, BadUtf8),
    ];
    let bad = [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ];
    for code in bad {
        let body = u16::to_be_bytes(code);
        all.push(breach(&[&frame(0x88, &body)], 1002, BadCloseCode(code)));
        let body = [&body[..], b"why"].concat();
        all.push(breach(&[&frame(0x88, &body)], 1002, BadCloseCode(code)));
    }
    all
}

/// RFC 6455, 8.1: text must be UTF-8. The server rejects invalid text at its first wrong byte.
fn texts() -> Vec<Breach> {
    let head = [0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0];
    let face = "😀".as_bytes();
    vec![
        breach(&[&frame(0x81, b"\xff")], 1007, BadUtf8),
        breach(&[&frame(0x81, b"cut \xf0\x9f\x98")], 1007, BadUtf8),
        // The first of 1,000 bytes, without the others.
        breach(&[&head, b"\xc0"], 1007, BadUtf8),
        breach(&[&head, b"good \xed\xa0"], 1007, BadUtf8),
        // In a fragment that is not the last.
        breach(&[&frame(0x01, b"\x80")], 1007, BadUtf8),
        breach(
            &[&frame(0x01, &face[..3]), &frame(0x00, b"a")],
            1007,
            BadUtf8,
        ),
        breach(
            &[&frame(0x01, &face[..2]), &frame(0x80, b"")],
            1007,
            BadUtf8,
        ),
        breach(
            &[&frame(0x01, &face[..1]), &frame(0x00, b"a")],
            1007,
            BadUtf8,
        ),
    ]
}

/// Violations of the limits of the server below.
fn limits() -> Vec<Breach> {
    let limit = MAX_RECV_SIZE;
    let big = |size| MessageTooBig { size, limit };
    let key = [1, 2, 3, 4];
    let (first, more) = (frame(0x02, &[7; 600]), frame(0x00, &[7; 300]));
    let many = [frame(0x02, b""), frame(0x00, b"").repeat(MAX_FRAGMENTS - 1)].concat();
    let too_many = TooManyFragments {
        limit: MAX_FRAGMENTS,
    };
    let long = |len: u64| header(0x82, len);
    vec![
        // Only the header is sent.
        breach(&[&header(0x82, 1001)], 1009, big(1001)),
        breach(&[&header(0x01, 1001)], 1009, big(1001)),
        breach(&[&first, &more, &header(0x80, 126)], 1009, big(1026)),
        breach(&[&first, &header(0x00, 401)], 1009, big(1001)),
        breach(&[&long(1 << 16)], 1009, big(1 << 16)),
        breach(&[&long((1 << 31) - 1)], 1009, big((1 << 31) - 1)),
        breach(&[&long((1 << 31) + 1)], 1009, big((1 << 31) + 1)),
        breach(&[&long((1 << 32) - 1)], 1009, big((1 << 32) - 1)),
        breach(&[&long((1 << 32) + 1)], 1009, big((1 << 32) + 1)),
        breach(&[&long(1 << 62)], 1009, big(1 << 62)),
        breach(&[&long(i64::MAX as u64)], 1009, big(i64::MAX as u64)),
        breach(&[&many, &[0x80, 0x80], &key], 1008, too_many),
        breach(
            &[&many, &frame(0x89, b"p"), &[0x00, 0x81], &key],
            1008,
            too_many,
        ),
    ]
}

const MAX_RECV_SIZE: usize = 1000;
const MAX_FRAGMENTS: usize = 4;

/// Starts a server with these limits; returns how each of its connections ended as well.
fn server() -> (Running, Receiver<(Cause, u16, String)>) {
    let (sender, receiver) = mpsc::channel();
    let server = Running::start(move |builder| {
        support::echo(builder)
            .on(Utf8, |conn, text| {
                assert_ne!(text, "never");
                conn.send_utf8(text)
            })
            .on(Disconnect, move |_, why| {
                let ended = (why.cause, why.code.as_u16(), why.reason.to_owned());
                sender.send(ended).unwrap_or_default();
            })
            .max_recv_size(MAX_RECV_SIZE)
            .max_fragments(MAX_FRAGMENTS)
    });
    (server, receiver)
}

/// Reads up to the Close frame that answers a violation, and to the end of the stream.
#[track_caller]
fn expect_failed(client: &mut Client, breach: &Breach, ends: &Receiver<(Cause, u16, String)>) {
    let shown = breach.bytes.escape_ascii();
    // Complete and valid frames before the violation are answered with echoes and pongs.
    let close = loop {
        let frame = client.read_frame();
        if frame.first == 0x88 {
            break frame;
        }
        assert!([0x81, 0x82, 0x8a].contains(&frame.first), "{shown}");
    };
    assert_eq!(close.payload[..2], breach.code.to_be_bytes(), "{shown}");
    client.expect_eof();
    let reason = String::from_utf8(close.payload[2..].to_vec()).unwrap();
    let ended = ends.recv_timeout(PATIENCE).unwrap();
    let expected = (Cause::Protocol(breach.error), breach.code, reason);
    assert_eq!(ended, expected, "{shown}");
}

#[test]
fn every_breach_is_answered_as_soon_as_it_is_seen() {
    let (server, ends) = server();
    let mut other = server.ready();
    for breach in breaches() {
        let mut client = server.ready();
        client.expect_alive();
        client.send_raw(&breach.bytes);
        expect_failed(&mut client, &breach, &ends);
        // The server has sent its FIN, and still reads data.
        client.expect_drained(&mut other);
    }
}

#[test]
fn the_answer_outlives_a_megabyte_behind_the_breach() {
    let (server, ends) = server();
    let mut behind = frame(0x81, b"never").repeat(100);
    behind.resize(1 << 20, 0);
    for breach in breaches() {
        let mut client = server.ready();
        client.send_raw([frame(0x81, b"good"), frame(0x89, b"ping")].concat());
        client.send_raw([&frame(0x81, b"before"), &*breach.bytes, &behind].concat());
        client.expect_text("good");
        client.expect_frame(0x8a, "ping");
        client.expect_text("before");
        expect_failed(&mut client, &breach, &ends);
    }
    server.ready().expect_alive();
}

#[test]
fn it_does_not_matter_how_the_bytes_are_cut() {
    let (server, ends) = server();
    for breach in breaches() {
        let mut client = server.ready();
        for byte in frame(0x81, b"before").iter().chain(&breach.bytes) {
            client.send_raw([*byte]);
        }
        client.expect_text("before");
        expect_failed(&mut client, &breach, &ends);
    }
    server.ready().expect_alive();
}

#[test]
fn a_breach_ends_its_own_connection_only() {
    let (server, ends) = server();
    let mut others = [server.ready(), server.ready(), server.ready()];
    others[0].send_frame(0x01, "half a");
    others[1].send_raw(&frame(0x81, b"half a header")[..3]);
    for breach in breaches() {
        let mut client = server.ready();
        client.send_raw(&breach.bytes);
        expect_failed(&mut client, &breach, &ends);
    }
    settle(&mut others[2]);
    others[0].send_frame(0x80, " message");
    others[0].expect_text("half a message");
    others[1].send_raw(&frame(0x81, b"half a header")[3..]);
    others[1].expect_text("half a header");
}

#[test]
fn the_next_client_is_served_while_the_last_is_drained() {
    let (server, ends) = server();
    // None of these clients closes its connection.
    let mut stay = Vec::new();
    for breach in breaches() {
        let mut client = server.ready();
        client.send_raw(&breach.bytes);
        expect_failed(&mut client, &breach, &ends);
        stay.push(client);
        server.ready().expect_alive();
        // The served client has disconnected without a Close frame.
        let served = ends.recv_timeout(PATIENCE).unwrap();
        assert_eq!(served.0, Cause::Eof);
    }
}
