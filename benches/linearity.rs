//! The cost of hostile input: each shape in three sizes, each four times the one before.
//!
//! `benches/linearity.py` runs these cases and compares the instructions per byte, counted by
//! callgrind: four times the input may cause four times the work, and no more. Each case checks
//! that its input was processed as intended, so that no shape looks cheap because it was refused
//! early.

#![expect(
    missing_docs,
    unused_qualifications,
    reason = "what the macros of gungraun make"
)]

#[path = "../src/client_frames.rs"]
mod client_frames;
mod common;
#[path = "common/crowd.rs"]
mod crowd;

use std::hint::black_box;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use client_frames::frame;
use crowd::{Crowd, TOPIC};
use gungraun::prelude::*;
use wsloop::handshake::{Origins, Parser};
use wsloop::plain_http::{Item, Reader};
use wsloop::protocol::{Message, Receiver};
use wsloop::{HandshakeError, Limits, Outgoing, ProtocolError, SlowConsumer, Topic};

/// Returns limits that no case reaches.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_recv_size = usize::MAX;
    limits.max_fragments = usize::MAX;
    limits.max_handshake_size = usize::MAX;
    limits.max_headers = usize::MAX;
    limits.max_body_size = usize::MAX;
    limits
}

// Messages.

/// Returns a message of `count` frames, with `between` in front of each continuation but the last.
fn fragmented(kind: u8, payload: &[u8], count: usize, between: &[u8]) -> Vec<u8> {
    let rest = [between, &frame(0x00, payload)].concat();
    let first = frame(kind, payload);
    let last = frame(0x80, payload);
    [first, rest.repeat(count - 2), last].concat()
}

/// Bytes for a receiver, and the size of the pieces in which they arrive.
struct Incoming {
    receiver: Receiver,
    bytes: Vec<u8>,
    cut: usize,
    messages: usize,
    expected: usize,
    fault: Option<ProtocolError>,
}

impl Incoming {
    fn new(bytes: Vec<u8>, cut: usize, expected: usize) -> Self {
        Self {
            receiver: Receiver::new(&limits()),
            bytes,
            cut,
            messages: 0,
            expected,
            fault: None,
        }
    }

    fn take(&mut self) {
        for mut input in black_box(&mut self.bytes).chunks_mut(self.cut) {
            loop {
                match self.receiver.next(&mut input) {
                    Ok(None) => break,
                    Ok(Some(Message::Ping(_) | Message::Pong(_))) => {}
                    Ok(Some(message)) => {
                        black_box(message);
                        self.messages += 1;
                    }
                    Err(error) => self.fault = Some(error),
                }
            }
        }
    }
}

/// The size of the server's reads.
const READ: usize = 64 << 10;

fn tiny_fragments(count: usize) -> Incoming {
    Incoming::new(fragmented(0x02, b"x", count, b""), READ, 1)
}

fn empty_fragments(count: usize) -> Incoming {
    Incoming::new(fragmented(0x01, b"", count, b""), READ, 1)
}

fn pings_between(count: usize) -> Incoming {
    let ping = frame(0x89, b"ping");
    Incoming::new(fragmented(0x02, b"x", count, &ping), READ, 1)
}

/// Each fragment ends inside a character.
fn cut_characters(count: usize) -> Incoming {
    let text = "\u{1f600}".repeat(count);
    let mut bytes = frame(0x01, &text.as_bytes()[..1]);
    for part in text.as_bytes()[1..].chunks(4) {
        bytes.extend(frame(0x00, part));
    }
    bytes.extend(frame(0x80, b""));
    Incoming::new(bytes, READ, 1)
}

fn byte_by_byte(count: usize) -> Incoming {
    Incoming::new(frame(0x81, &vec![b'x'; count]), 1, 1)
}

/// Fragments whose headers arrive byte by byte as well.
fn fragments_byte_by_byte(count: usize) -> Incoming {
    Incoming::new(fragmented(0x01, b"x", count, b""), 1, 1)
}

fn small_messages(count: usize) -> Incoming {
    let bytes = frame(0x81, b"x").repeat(count);
    Incoming::new(bytes, READ, count)
}

fn empty_messages_byte_by_byte(count: usize) -> Incoming {
    let bytes = frame(0x82, b"").repeat(count);
    Incoming::new(bytes, 1, count)
}

/// The receiver discards all bytes after a protocol violation.
fn behind_a_breach(count: usize) -> Incoming {
    let bytes = [&b"\xff\xff"[..], &vec![0xff; count]].concat();
    Incoming::new(bytes, 100, 0)
}

fn is_taken(incoming: Incoming) {
    assert_eq!(incoming.messages, incoming.expected, "all were taken");
    assert_eq!(incoming.fault.is_some(), incoming.expected == 0);
}

#[library_benchmark(teardown = is_taken)]
#[benches::tiny_fragments(args = [4_000, 16_000, 64_000], setup = tiny_fragments)]
#[benches::empty_fragments(args = [4_000, 16_000, 64_000], setup = empty_fragments)]
#[benches::pings_between(args = [2_000, 8_000, 32_000], setup = pings_between)]
#[benches::cut_characters(args = [2_000, 8_000, 32_000], setup = cut_characters)]
#[benches::byte_by_byte(args = [8_000, 32_000, 128_000], setup = byte_by_byte)]
#[benches::fragments_byte_by_byte(args = [1_000, 4_000, 16_000], setup = fragments_byte_by_byte)]
#[benches::small_messages(args = [4_000, 16_000, 64_000], setup = small_messages)]
#[benches::empty_messages_byte_by_byte(args = [1_000, 4_000, 16_000], setup = empty_messages_byte_by_byte)]
#[benches::behind_a_breach(args = [8_000, 32_000, 128_000], setup = behind_a_breach)]
fn messages(mut incoming: Incoming) -> Incoming {
    incoming.take();
    incoming
}

// The opening handshake.

/// A request head, the size of the pieces in which it arrives, and whether it is complete.
struct Head {
    bytes: Vec<u8>,
    cut: usize,
    ends: bool,
    parsed: Result<bool, HandshakeError>,
}

const START: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n";

fn head(lines: &str, cut: usize, ends: bool) -> Head {
    let end = if ends { "\r\n" } else { "" };
    Head {
        bytes: [START, lines, end].concat().into_bytes(),
        cut,
        ends,
        parsed: Ok(false),
    }
}

fn one_long_line(size: usize) -> Head {
    head(&format!("X: {}\r\n", "x".repeat(size)), 1, true)
}

fn line_without_end(size: usize) -> Head {
    head(&format!("X: {}", "x".repeat(size)), 1, false)
}

fn lines_without_end(count: usize) -> Head {
    head(&"X: y\r\n".repeat(count), 1, false)
}

fn many_names(count: usize) -> Head {
    let lines: String = (0..count).map(|at| format!("X-{at}: {at}\r\n")).collect();
    head(&lines, 100, true)
}

fn one_name(count: usize) -> Head {
    head(&"Cookie: a=b\r\n".repeat(count), 100, true)
}

fn is_parsed(head: Head) {
    assert_eq!(head.parsed, Ok(head.ends), "it ends or not");
}

#[library_benchmark(teardown = is_parsed)]
#[benches::one_long_line(args = [4_000, 16_000, 64_000], setup = one_long_line)]
#[benches::line_without_end(args = [4_000, 16_000, 64_000], setup = line_without_end)]
#[benches::lines_without_end(args = [1_000, 4_000, 16_000], setup = lines_without_end)]
#[benches::many_names(args = [500, 2_000, 8_000], setup = many_names)]
#[benches::one_name(args = [500, 2_000, 8_000], setup = one_name)]
fn heads(mut head: Head) -> Head {
    let mut parser = Parser::new(&limits());
    for input in black_box(&head.bytes).chunks(head.cut) {
        head.parsed = parser.parse(input).map(|parsed| parsed.is_some());
    }
    head
}

/// Returns one head for each parsed header, with a value of `unit` repeated up to `size` bytes.
fn filled(unit: &str, size: usize) -> Vec<Vec<u8>> {
    let value = unit.repeat(size / unit.len());
    FILLED
        .iter()
        .map(|name| format!("{START}{name}: a{value}\r\n\r\n").into_bytes())
        .collect()
}

/// The headers that the server parses itself or on request.
const FILLED: [&str; 8] = [
    "Connection",
    "Cookie",
    "Host",
    "Origin",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Upgrade",
];

/// Calls everything that parses a part of a request.
fn look(head: &[u8], origins: &Origins) -> usize {
    let mut plain = Reader::new(&limits());
    let plain = plain.read(black_box(head)).is_ok();
    let parsed = Parser::new(&limits()).parse(black_box(head));
    let Ok(Some((request, _))) = parsed else {
        return usize::from(plain);
    };
    let _ = black_box(request.accept_key());
    let allowed = origins.allow(request.origin(), request.host(), false);
    black_box(allowed);
    #[cfg(feature = "deflate")]
    {
        let lines = request.headers().get_all("sec-websocket-extensions");
        let lines = lines.iter().map(|line| line.as_bytes());
        let _ = black_box(wsloop::DeflateConfig::default().negotiate(lines));
    }
    1 + request.cookies().count() + request.subprotocols().count() + request.query_pairs().count()
}

#[library_benchmark(setup = filled)]
#[benches::spaces(args = [(" ", 1_024), (" ", 4_096), (" ", 16_384)])]
#[benches::commas(args = [(",", 1_024), (",", 4_096), (",", 16_384)])]
#[benches::semicolons(args = [(";", 1_024), (";", 4_096), (";", 16_384)])]
#[benches::quotes(args = [("\"", 1_024), ("\"", 4_096), ("\"", 16_384)])]
#[benches::backslashes(args = [("=\"\\", 1_024), ("=\"\\", 4_096), ("=\"\\", 16_384)])]
#[benches::escapes(args = [(";a=\"\\a\\a\\a\\a\"", 1_024), (";a=\"\\a\\a\\a\\a\"", 4_096), (";a=\"\\a\\a\\a\\a\"", 16_384)])]
#[benches::elements(args = [(", a", 1_024), (", a", 4_096), (", a", 16_384)])]
#[benches::parameters(args = [("; b=1", 1_024), ("; b=1", 4_096), ("; b=1", 16_384)])]
#[benches::offers(args = [(", permessage-deflate; client_max_window_bits", 1_024), (", permessage-deflate; client_max_window_bits", 4_096), (", permessage-deflate; client_max_window_bits", 16_384)])]
#[benches::letters(args = [("a", 1_024), ("a", 4_096), ("a", 16_384)])]
#[benches::brackets(args = [("[:", 1_024), ("[:", 4_096), ("[:", 16_384)])]
fn headers(heads: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let origins = Origins::new(["https://example.com", "self"]).expect("they are origins");
    let looked: usize = heads.iter().map(|head| look(head, &origins)).sum();
    assert!(looked > 0, "some of them are requests");
    heads
}

/// A head with subprotocols that all differ.
fn distinct(count: usize) -> Vec<u8> {
    let names: Vec<_> = (0..count)
        .map(|at| format!("p{}", at * 7919 % 65_521))
        .collect();
    let names = names.join(", ");
    format!("{START}Sec-WebSocket-Protocol: {names}\r\n\r\n").into_bytes()
}

#[library_benchmark(setup = distinct)]
#[benches::distinct(args = [500, 2_000, 8_000])]
fn subprotocols(head: Vec<u8>) -> Vec<u8> {
    let parsed = Parser::new(&limits()).parse(&head);
    let Ok(Some((request, _))) = parsed else {
        panic!("it is whole")
    };
    assert!(black_box(request.accept_key()).is_ok(), "it is accepted");
    head
}

// Plain requests.

/// Bytes for a reader of requests, and the size of the pieces in which they arrive.
struct Requests {
    bytes: Vec<u8>,
    cut: usize,
    count: usize,
    expected: usize,
}

fn requests(bytes: String, cut: usize, expected: usize) -> Requests {
    Requests {
        bytes: bytes.into_bytes(),
        cut,
        count: 0,
        expected,
    }
}

fn pipelined(count: usize) -> Requests {
    requests(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count),
        READ,
        count,
    )
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn tiny_chunks(count: usize) -> Requests {
    let chunks = "1\r\nx\r\n".repeat(count);
    requests(format!("{CHUNKED}{chunks}0\r\n\r\n"), 100, 1)
}

fn chunks_byte_by_byte(count: usize) -> Requests {
    let chunks = "1;a=b\r\nx\r\n".repeat(count);
    requests(format!("{CHUNKED}{chunks}0\r\n\r\n"), 1, 1)
}

fn trailers(count: usize) -> Requests {
    let lines = "X: y\r\n".repeat(count);
    requests(format!("{CHUNKED}0\r\n{lines}\r\n"), 10, 1)
}

fn body_byte_by_byte(size: usize) -> Requests {
    let body = "x".repeat(size);
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    requests(head + &body, 1, 1)
}

fn are_read(requests: Requests) {
    assert_eq!(requests.count, requests.expected, "all were read");
}

#[library_benchmark(teardown = are_read)]
#[benches::pipelined(args = [250, 1_000, 4_000], setup = pipelined)]
#[benches::tiny_chunks(args = [1_000, 4_000, 16_000], setup = tiny_chunks)]
#[benches::chunks_byte_by_byte(args = [1_000, 4_000, 16_000], setup = chunks_byte_by_byte)]
#[benches::trailers(args = [1_000, 4_000, 16_000], setup = trailers)]
#[benches::body_byte_by_byte(args = [4_000, 16_000, 64_000], setup = body_byte_by_byte)]
fn plain(mut requests: Requests) -> Requests {
    let mut reader = Reader::new(&limits());
    for mut input in black_box(&requests.bytes).chunks(requests.cut) {
        while !input.is_empty() {
            let (item, taken) = reader.read(input).expect("they are requests");
            requests.count += usize::from(matches!(item, Some(Item::Request(_))));
            input = &input[taken..];
        }
    }
    requests
}

// Compression.

#[cfg(feature = "deflate")]
mod compression {
    use super::*;
    use wsloop::protocol::deflate::{Context, Deflater, InflateLimits, Inflater};

    /// Compressed messages, and their total size when decompressed.
    pub(super) struct Compressed {
        messages: Vec<Vec<u8>>,
        expected: usize,
        takeover: bool,
    }

    fn once(message: Vec<u8>, expected: usize) -> Compressed {
        Compressed {
            messages: vec![message],
            expected,
            takeover: true,
        }
    }

    fn compressed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(Deflater::new(9, 15).message(payload, Context::Reset, &mut bytes));
        bytes
    }

    /// A message that expands to a thousand times its compressed size.
    pub(super) fn bomb(size: usize) -> Compressed {
        once(compressed(&vec![0; size]), size)
    }

    /// Empty DEFLATE blocks of the kind given by `block`.
    pub(super) fn empty_blocks(block: &[u8], count: usize) -> Compressed {
        once(block.repeat(count), 0)
    }

    /// Messages of one byte, the smallest that are not empty.
    pub(super) fn small_messages(takeover: bool, count: usize) -> Compressed {
        Compressed {
            messages: vec![compressed(b"x"); count],
            expected: count,
            takeover,
        }
    }

    /// Messages that expand to 4 KiB each.
    pub(super) fn small_bombs(count: usize) -> Compressed {
        Compressed {
            messages: vec![compressed(&[0; 4096]); count],
            expected: 4096 * count,
            takeover: false,
        }
    }

    pub(super) fn expand(input: Compressed) -> Compressed {
        let mut inflater = Inflater::new();
        let mut room = Vec::new();
        let mut size = 0;
        for message in black_box(&input.messages) {
            let expanded = inflater.message(
                message,
                Context::keep_if(input.takeover),
                InflateLimits::new(usize::MAX, usize::MAX),
                &mut room,
            );
            size += expanded.expect("it is compressed").len();
        }
        assert_eq!(size, input.expected, "all was expanded");
        input
    }

    /// An empty final block with fixed Huffman codes.
    pub(super) const LAST: &[u8] = b"\x03\x00";
    /// An empty stored block that is not final.
    pub(super) const STORED: &[u8] = b"\x00\x00\x00\xff\xff";
    /// Four empty blocks with fixed Huffman codes, of ten bits each, none of them final.
    pub(super) const FIXED: &[u8] = b"\x02\x08\x20\x80\x00";

    #[library_benchmark]
    #[benches::bomb(args = [1 << 18, 1 << 20, 1 << 22], setup = bomb)]
    #[benches::last_blocks(args = [(LAST, 500), (LAST, 2_000), (LAST, 8_000)], setup = empty_blocks)]
    #[benches::stored_blocks(args = [(STORED, 1_000), (STORED, 4_000), (STORED, 16_000)], setup = empty_blocks)]
    #[benches::fixed_blocks(args = [(FIXED, 1_000), (FIXED, 4_000), (FIXED, 16_000)], setup = empty_blocks)]
    #[benches::small_messages(args = [(true, 500), (true, 2_000), (true, 8_000)], setup = small_messages)]
    #[benches::small_messages_apart(args = [(false, 500), (false, 2_000), (false, 8_000)], setup = small_messages)]
    #[benches::small_bombs(args = [500, 2_000, 8_000], setup = small_bombs)]
    fn compressed_messages(input: Compressed) -> Compressed {
        expand(input)
    }

    library_benchmark_group!(name = group, benchmarks = [compressed_messages]);
}

// Topics.

// Ends the subscription of each of `count` subscribers, in an order that is neither that of the
// subscriptions nor its reverse.
#[library_benchmark]
#[benches::all_leave(args = [500, 2_000, 8_000], setup = subscribers)]
fn topics(mut crowd: Crowd) -> Crowd {
    let count = crowd.ids.len();
    for at in 0..count {
        // 7 has no divisor in common with the counts.
        let id = crowd.ids[at * 7 % count];
        let mut hub = crowd.server.hub();
        let mut conn = hub.get(id).expect("it is open");
        assert!(conn.unsubscribe(TOPIC), "it was subscribed");
    }
    crowd
}

fn subscribers(count: usize) -> Crowd {
    Crowd::new(count, |builder| builder)
}

// Subscribes one connection to `count` topics, and ends these subscriptions.
#[library_benchmark]
#[benches::of_one(args = [1_000, 4_000, 16_000], setup = names)]
fn subscriptions((mut crowd, names): (Crowd, Vec<String>)) -> Crowd {
    let mut hub = crowd.server.hub();
    let mut conn = hub.get(crowd.ids[0]).expect("it is open");
    for name in &names {
        assert_eq!(conn.subscribe(name), Ok(true));
    }
    for name in &names {
        assert!(conn.unsubscribe(name), "it was subscribed");
    }
    crowd
}

fn names(count: usize) -> (Crowd, Vec<String>) {
    let crowd = Crowd::new(1, |builder| builder.max_subscriptions(usize::MAX));
    (crowd, (0..count).map(|name| name.to_string()).collect())
}

/// A server with a subscriber whose kernel takes no more, the client that does not read, and the
/// keys of the messages that are published.
type Slow = (Crowd, UnixStream, Vec<String>);

fn slow(policy: SlowConsumer, count: usize) -> Slow {
    let topic = Topic::new().slow_consumer(policy);
    // All keys fit, and of the messages without keys only a few.
    let backlog = match policy {
        SlowConsumer::Conflate => 4 << 20,
        _ => 100_000,
    };
    let (mut crowd, client) = Crowd::of_one(|builder| {
        let builder = builder.topics(TOPIC, topic).max_backlog(backlog);
        builder.slow_consumer(SlowConsumer::DropNewest)
    });
    let id = crowd.ids[0];
    loop {
        let mut hub = crowd.server.hub();
        let mut conn = hub.get(id).expect("it is open");
        if conn.backlog() > 0 {
            break;
        }
        let sent = conn.send_binary(&[0; 10_000]);
        sent.expect("the size is allowed");
        let turn = crowd.server.turn(Some(Duration::ZERO));
        turn.expect("the event queue works");
    }
    (
        crowd,
        client,
        (0..count).map(|key| key.to_string()).collect(),
    )
}

// Publishes two messages for each key to a subscriber that does not read.
#[library_benchmark]
#[benches::conflating(args = [(SlowConsumer::Conflate, 500), (SlowConsumer::Conflate, 2_000), (SlowConsumer::Conflate, 8_000)], setup = slow)]
#[benches::dropping(args = [(SlowConsumer::DropOldest, 2_000), (SlowConsumer::DropOldest, 8_000), (SlowConsumer::DropOldest, 32_000)], setup = slow)]
fn slow_subscriber((mut crowd, client, keys): Slow) -> (Crowd, UnixStream) {
    for _ in 0..2 {
        for key in &keys {
            let message = Outgoing::text("a short message").key(key);
            let outcome = crowd.server.hub().publish(TOPIC, message);
            let outcome = outcome.expect("the size is allowed");
            assert_eq!(outcome.queued + outcome.conflated, 1);
        }
    }
    (crowd, client)
}

library_benchmark_group!(
    name = shapes,
    benchmarks = [
        messages,
        heads,
        headers,
        subprotocols,
        plain,
        topics,
        subscriptions,
        slow_subscriber
    ]
);

#[cfg(feature = "deflate")]
use compression::group as compressed;

#[cfg(feature = "deflate")]
main!(library_benchmark_groups = [shapes, compressed]);
#[cfg(not(feature = "deflate"))]
main!(library_benchmark_groups = shapes);
