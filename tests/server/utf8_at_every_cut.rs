//! Text is validated as a whole, wherever fragments and segments cut it.

use crate::support::{Running, frame, settle};

/// The first and the last character of each encoded length, and those around the surrogates.
const GOOD: &str = "\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}😀\u{10ffff}";

/// Invalid UTF-8: RFC 3629, 3 and 4.
const BAD: [&[u8]; 14] = [
    b"\x80",
    b"\xbf\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc3\x28",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xff",
];

#[test]
fn good_text_in_two_fragments() {
    let server = Running::echo();
    let mut client = server.ready();
    let bytes = GOOD.as_bytes();
    for cut in 0..=bytes.len() {
        client.send_frame(0x01, &bytes[..cut]);
        client.send_frame(0x80, &bytes[cut..]);
        client.expect_text(GOOD);
    }
}

#[test]
fn good_text_in_fragments_of_each_size_with_pings_between() {
    let server = Running::echo();
    let mut client = server.ready();
    for size in 1..=5 {
        let mut pieces = GOOD.as_bytes().chunks(size).peekable();
        let mut first = 0x01;
        while let Some(piece) = pieces.next() {
            let fin = if pieces.peek().is_none() { 0x80 } else { 0 };
            client.send_frame(first | fin, piece);
            first = 0;
            if fin == 0 {
                client.send_frame(0x89, [0xff]);
                client.expect_frame(0x8a, [0xff]);
            }
        }
        client.expect_text(GOOD);
    }
}

#[test]
fn good_text_in_two_segments() {
    let server = Running::echo();
    let mut client = server.ready();
    let mut other = server.ready();
    let bytes = frame(0x81, GOOD.as_bytes());
    for cut in 1..bytes.len() {
        client.send_raw(&bytes[..cut]);
        settle(&mut other);
        client.send_raw(&bytes[cut..]);
        client.expect_text(GOOD);
    }
}

#[test]
fn good_text_byte_by_byte_and_one_per_fragment() {
    let server = Running::echo();
    let mut client = server.ready();
    let mut bytes = frame(0x01, b"");
    for byte in GOOD.bytes() {
        bytes.extend(frame(0x00, &[byte]));
    }
    bytes.extend(frame(0x80, b""));
    for byte in bytes {
        client.send_raw([byte]);
    }
    client.expect_text(GOOD);
    client.expect_alive();
}

#[test]
fn bad_text_whole_and_at_every_cut() {
    let server = Running::echo();
    for bad in BAD {
        let bytes = [GOOD.as_bytes(), bad, b"more"].concat();
        let mut client = server.ready();
        client.send_frame(0x81, &bytes);
        client.expect_close(1007);
        client.expect_eof();
        for cut in GOOD.len()..=GOOD.len() + bad.len() {
            let mut client = server.ready();
            client.send_frame(0x01, &bytes[..cut]);
            client.send_frame(0x80, &bytes[cut..]);
            client.expect_close(1007);
            client.expect_eof();
        }
    }
    server.ready().expect_alive();
}

#[test]
fn a_character_that_never_ends() {
    let server = Running::echo();
    for part in ["\u{80}", "\u{800}", "😀"] {
        for cut in 1..part.len() {
            let start = &part.as_bytes()[..cut];
            let mut client = server.ready();
            client.send_frame(0x81, start);
            client.expect_close(1007);
            client.expect_eof();
            let mut client = server.ready();
            client.send_frame(0x01, start);
            client.send_frame(0x80, "");
            client.expect_close(1007);
            client.expect_eof();
            // An incomplete character is an error only at the end of the message.
            let mut client = server.ready();
            client.send_frame(0x01, start);
            client.send_frame(0x89, "");
            client.expect_frame(0x8a, "");
            client.send_frame(0x80, &part.as_bytes()[cut..]);
            client.expect_text(part);
        }
    }
}

#[test]
fn binary_may_hold_anything() {
    let server = Running::echo();
    let mut client = server.ready();
    for bad in BAD {
        client.send_frame(0x82, bad);
        client.expect_frame(0x82, bad);
        client.send_frame(0x02, bad);
        client.send_frame(0x80, bad);
        client.expect_frame(0x82, bad.repeat(2));
    }
}
