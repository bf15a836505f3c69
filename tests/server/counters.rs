//! What the server counts.

use crate::support::{REQUEST, Running, frame};

#[test]
fn messages_and_bytes_are_counted() {
    let server = Running::echo();
    let mut client = server.ready();
    // A short one, several at once, one that is cut, a large one, control frames.
    let small = frame(0x81, b"hello");
    let bytes = [
        small.clone(),
        small.repeat(3),
        frame(0x82, &[7; 300]),
        frame(0x89, b"ping"),
        frame(0x82, &[7; 60_000]),
    ];
    let mut sent = REQUEST.len();
    for part in &bytes {
        sent += part.len();
        client.send_raw(&part[..part.len() - 1]);
        client.send_raw(&part[part.len() - 1..]);
    }
    let mut received = 0;
    for _ in 0..7 {
        let frame = client.read_frame();
        let head = match frame.payload.len() {
            0..126 => 2,
            _ => 4,
        };
        received += head + frame.payload.len();
    }
    sent += frame(0x88, &1000u16.to_be_bytes()).len();
    received += 4;
    client.send_close(1000, "");
    client.read_frame();
    client.expect_eof();
    let stats = server.stop();
    assert_eq!((stats.messages_in, stats.messages_out), (6, 6));
    assert_eq!(stats.bytes_in, sent as u64);
    let answer = stats.bytes_out - received as u64;
    assert!((100..400).contains(&answer), "the 101 has {answer} bytes");
}
