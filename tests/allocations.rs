//! Allocations: a message causes none, an idle connection needs little memory, and a hostile peer
//! cannot exceed the limits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::client_frames::{frame, header};
use support::{PATIENCE, REQUEST, Running};
use wsloop::event::{Binary, Utf8};
use wsloop::{Outgoing, Sent, SlowConsumer, Topic};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Sends `request` and reads a reply of the same size as `reply`, without allocating.
fn exchange(stream: &mut TcpStream, request: &[u8], reply: &mut [u8]) {
    stream.write_all(request).unwrap();
    stream.read_exact(reply).unwrap();
}

/// Runs one test at a time, because the counters cover the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn messages_and_idle_connections_cost_what_they_should() {
    let _alone = alone();
    let server = Running::echo();
    a_message_costs_no_allocation(&server);
    an_idle_connection_costs_little(&server);
    server.stop();
}

fn a_message_costs_no_allocation(server: &Running) {
    let cases: [(u8, usize); 5] = [
        (0x81, 20),
        (0x82, 125),
        (0x81, 1024),
        (0x82, 16_384),
        (0x89, 4),
    ];
    for (first, size) in cases {
        let mut stream = server.ready().stream;
        let request = frame(first, &vec![b'x'; size]);
        // A frame from a server has no masking key.
        let mut reply = vec![0; request.len() - 4];
        for _ in 0..100 {
            exchange(&mut stream, &request, &mut reply);
        }
        let count = allocations(|| exchange(&mut stream, &request, &mut reply));
        // A large message may arrive in two segments, and then needs a buffer.
        let most = if size > 8_192 { 1000 } else { 0 };
        assert!(
            count <= most,
            "{count} allocations for 1000 messages of {size} bytes"
        );
        assert_eq!(reply[reply.len() - 1], b'x');
    }
    // Sixteen messages in one segment.
    let mut stream = server.ready().stream;
    let request = frame(0x81, b"thirty-two bytes of plain text..").repeat(16);
    let mut reply = vec![0; 34 * 16];
    for _ in 0..100 {
        exchange(&mut stream, &request, &mut reply);
    }
    let count = allocations(|| exchange(&mut stream, &request, &mut reply));
    assert_eq!(count, 0);
}

/// Counts the allocations of a thousand calls. The test harness allocates now and then as well, so
/// the smallest of several counts is returned.
fn allocations(mut once: impl FnMut()) -> usize {
    let count = || {
        let region = Region::new(ALLOCATOR);
        (0..1000).for_each(|_| once());
        let change = region.change();
        change.allocations + change.reallocations
    };
    std::iter::repeat_with(count)
        .take(5)
        .min()
        .unwrap_or_default()
}

fn an_idle_connection_costs_little(server: &Running) {
    // More than a power of two, so that unused capacity of the slabs counts as well.
    const CONNECTIONS: usize = 300;
    let request = REQUEST.as_bytes();
    let message = frame(0x81, b"one echo");
    let mut reply = [0; 10];
    let mut streams = Vec::with_capacity(CONNECTIONS);
    let region = Region::new(ALLOCATOR);
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server.addr).unwrap();
        stream.write_all(request).unwrap();
        let mut head = [0; 129];
        stream.read_exact(&mut head).unwrap();
        assert!(head.ends_with(b"\r\n\r\n"), "{}", head.escape_ascii());
        exchange(&mut stream, &message, &mut reply);
        streams.push(stream);
    }
    let change = region.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated;
    let each = bytes / CONNECTIONS;
    println!("{each} bytes of heap for each idle connection");
    assert!(each <= 512, "{each} bytes for each idle connection");
}

#[test]
fn publishes_and_subscriptions_cost_what_they_should() {
    let _alone = alone();
    let server = Running::start(|builder| {
        builder
            .topics("latest", Topic::new().slow_consumer(SlowConsumer::Conflate))
            .on(Utf8, |conn, text| match text.split_once(' ') {
                Some(("subscribe", number)) => {
                    for topic in ["plain", "latest"] {
                        conn.subscribe(&format!("{topic} {number}"))?;
                    }
                    Ok(Sent::NOTHING)
                }
                Some(("many", _)) => {
                    for number in 0..SUBSCRIPTIONS {
                        conn.subscribe(&format!("many {number}"))?;
                    }
                    conn.send_utf8("done")
                }
                _ => {
                    for topic in TOPICS {
                        let message = Outgoing::text(text).key("key");
                        conn.server().publish(topic, message)?;
                    }
                    Ok(Sent::NOTHING)
                }
            })
    });
    a_publish_costs_no_allocation(&server);
    a_subscription_costs_little(&server);
    server.stop();
}

const TOPICS: [&str; 2] = ["plain 1", "latest 1"];
const SUBSCRIPTIONS: usize = 60;

fn a_publish_costs_no_allocation(server: &Running) {
    for size in [20, 1024] {
        let mut publisher = server.ready().stream;
        let mut subscribers: Vec<_> = (0..20)
            .map(|_| {
                let mut stream = server.ready().stream;
                stream.write_all(&frame(0x81, b"subscribe 1")).unwrap();
                settle(&mut stream);
                stream
            })
            .collect();
        let request = frame(0x81, &vec![b'x'; size]);
        // A frame from a server has no masking key.
        let mut message = vec![0; TOPICS.len() * (request.len() - 4)];
        let mut publish = || {
            publisher.write_all(&request).unwrap();
            for subscriber in &mut subscribers {
                subscriber.read_exact(&mut message).unwrap();
            }
        };
        (0..100).for_each(|_| publish());
        let count = allocations(&mut publish);
        assert_eq!(count, 0, "for 1000 publishes of {size} bytes");
        assert_eq!(message[message.len() - 1], b'x');
    }
}

fn a_subscription_costs_little(server: &Running) {
    const CONNECTIONS: usize = 300;
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| server.ready().stream).collect();
    let request = frame(0x81, b"many topics");
    let mut reply = [0; 6];
    let region = Region::new(ALLOCATOR);
    for stream in &mut streams {
        exchange(stream, &request, &mut reply);
    }
    let bytes = held(&region);
    let each = bytes / (CONNECTIONS * SUBSCRIPTIONS);
    println!("{each} bytes of heap for each subscription");
    assert!(each <= 32, "{each} bytes for each subscription");
}

/// Returns the bytes allocated since the start of the region, including freed ones: an upper bound
/// of the memory in use.
fn allocated(region: &Region<'_, System>) -> usize {
    region.change().bytes_allocated
}

/// Returns the increase of the allocated memory since the start of the region.
fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated)
}

/// Waits until the server has processed everything sent before, without allocating.
fn settle(stream: &mut TcpStream) {
    let request = frame(0x89, b"alive?");
    for _ in 0..3 {
        exchange(stream, &request, &mut [0; 8]);
    }
}

#[test]
fn a_header_that_claims_two_to_the_62_bytes_costs_less_than_a_read_buffer() {
    const EACH: usize = 20;
    const READ_BUFFER: usize = 64 << 10;
    let _alone = alone();
    let server = Running::start(|builder| support::echo(builder).max_recv_size(usize::MAX));
    let mut other = server.ready().stream;
    settle(&mut other);
    for len in [1u64 << 30, 1 << 62, i64::MAX as u64] {
        let claim = |first: u8| [header(first, len), vec![0; 100]].concat();
        // Once as the first frame of a message, and once as the second.
        for bytes in [claim(0x82), [frame(0x02, b"x"), claim(0x80)].concat()] {
            let mut streams: Vec<_> = (0..EACH).map(|_| server.ready().stream).collect();
            let region = Region::new(ALLOCATOR);
            for stream in &mut streams {
                stream.write_all(&bytes).unwrap();
            }
            settle(&mut other);
            for stream in &mut streams {
                stream.write_all(&[0; 100]).unwrap();
            }
            settle(&mut other);
            let each = allocated(&region) / EACH;
            assert!(
                each <= READ_BUFFER + 4096,
                "{each} bytes for {len} announced"
            );
        }
    }
}

#[test]
fn a_million_tiny_fragments_cost_the_size_of_their_message() {
    const COUNT: usize = 1_000_000;
    let _alone = alone();
    let server = Running::start(|builder| {
        builder
            .max_fragments(usize::MAX)
            .max_recv_size(COUNT)
            .on(Binary, |conn, data| conn.send_utf8(&data.len().to_string()))
    });
    for size in [0, 1] {
        let mut stream = server.ready().stream;
        let some = frame(0x00, &vec![7; size]).repeat(1000);
        let first = frame(0x02, b"");
        let last = frame(0x80, b"");
        // The frame header and the digits of the size.
        let mut reply = vec![0; 2 + (size * COUNT).to_string().len()];
        let region = Region::new(ALLOCATOR);
        stream.write_all(&first).unwrap();
        for _ in 0..COUNT / 1000 {
            stream.write_all(&some).unwrap();
        }
        exchange(&mut stream, &last, &mut reply);
        // The buffer doubles as it grows.
        let most = 2 * size * COUNT + (64 << 10);
        let all = allocated(&region);
        assert!(all <= most, "{all} bytes for fragments of {size}");
    }
}

#[test]
fn a_million_pings_and_pongs_leave_nothing_behind() {
    const COUNT: usize = 1_000_000;
    let _alone = alone();
    let server = Running::echo();
    let mut stream = server.ready().stream;
    for (first, reply) in [(0x8a, 0), (0x89, 3)] {
        let some = frame(first, b"x").repeat(1000);
        let mut replies = vec![0; 1000 * reply];
        settle(&mut stream);
        exchange(&mut stream, &some, &mut replies);
        settle(&mut stream);
        let region = Region::new(ALLOCATOR);
        for _ in 0..COUNT / 1000 {
            exchange(&mut stream, &some, &mut replies);
        }
        settle(&mut stream);
        // Bytes of a read that exceed the share of a turn stay until the next turn.
        assert!(held(&region) <= 4096, "{} bytes", held(&region));
    }
}

#[test]
fn pings_that_are_never_read_hold_the_backlog_and_no_more() {
    const BACKLOG: usize = 64 << 10;
    const READ_BUFFER: usize = 64 << 10;
    let _alone = alone();
    let server = Running::start(|builder| {
        support::echo(builder)
            .max_backlog(BACKLOG)
            .read_buffer(READ_BUFFER)
    });
    let mut other = server.ready().stream;
    let mut stream = server.ready().stream;
    let pings = frame(0x89, &[7; 125]).repeat(1000);
    settle(&mut other);
    stream.set_nonblocking(true).unwrap();
    let region = Region::new(ALLOCATOR);
    let started = Instant::now();
    // Fills the buffers of both kernels and of the server.
    let (mut at, mut refused) = (0, 0);
    while refused < 50 {
        assert!(started.elapsed() < PATIENCE, "the server takes it all");
        match stream.write(&pings[at..]) {
            Ok(size) => (at, refused) = ((at + size) % pings.len(), 0),
            Err(_) => {
                refused += 1;
                settle(&mut other);
            }
        }
    }
    // The queue doubles as it grows, and unprocessed input takes at most a read buffer.
    let most = 2 * BACKLOG + READ_BUFFER + (16 << 10);
    assert!(held(&region) <= most, "{} bytes", held(&region));
}

#[cfg(feature = "deflate")]
#[test]
fn a_bomb_costs_its_limit_and_no_more() {
    use wsloop::protocol::deflate::{Context, Deflater};
    const LIMIT: usize = 256 << 10;
    const EACH: usize = 10;
    let _alone = alone();
    let server = Running::start(|builder| {
        support::echo(builder)
            .deflate(wsloop::DeflateConfig::default())
            .max_recv_size(LIMIT)
    });
    let offer = support::request_with("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let mut bomb = Vec::new();
    assert!(Deflater::new(9, 15).message(&vec![0; 8 << 20], Context::Reset, &mut bomb));
    assert!(bomb.len() < LIMIT, "it is small as it comes");
    let bomb = frame(0xc2, &bomb);
    let mut other = server.ready().stream;
    let mut streams: Vec<_> = (0..EACH)
        .map(|_| {
            let mut client = server.client();
            assert_eq!(client.request(&offer).status, 101);
            client.stream
        })
        .collect();
    settle(&mut other);
    let region = Region::new(ALLOCATOR);
    for stream in &mut streams {
        stream.write_all(&bomb).unwrap();
        let mut close = [0; 4];
        stream.read_exact(&mut close).unwrap();
        assert_eq!(close[2..], 1009u16.to_be_bytes());
    }
    // The output buffer is shared. Each connection has its input, and 42 KB for its window.
    let most = 2 * LIMIT + EACH * (4 * bomb.len() + (64 << 10));
    let all = allocated(&region);
    assert!(all <= most, "{all} bytes");
}

/// A way in which a connection starts and ends.
type Way = fn(&Running);

#[test]
fn connections_that_come_and_go_return_what_they_had() {
    const CYCLES: usize = 500;
    let _alone = alone();
    let ways: [(&str, Way); 7] = [
        ("FIN before a request", |server| drop(server.client())),
        ("half a request and RST", |server| {
            let mut client = server.client();
            client.send_raw(&REQUEST[..50]);
            client.reset();
        }),
        ("a refused request", |server| {
            let mut client = server.client();
            assert_eq!(client.request(REQUEST.replace("13", "8")).status, 426);
            client.expect_eof();
        }),
        ("a closing handshake", |server| {
            let mut client = server.ready();
            client.send_close(1000, "bye");
            client.expect_close(1000);
            client.expect_eof();
        }),
        ("a close from here", |server| {
            let mut client = server.ready();
            client.send_text("close");
            client.answer_close(4000);
        }),
        ("a breach", |server| {
            let mut client = server.ready();
            client.send_raw([0xff; 100]);
            client.expect_close(1002);
            client.expect_eof();
        }),
        ("RST inside a message", |server| {
            let mut client = server.ready();
            client.send_frame(0x01, [b'x'; 1000]);
            client.reset();
        }),
    ];
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, text| match text {
            "close" => conn.disconnect(4000, "told to"),
            _ => Ok(Sent::NOTHING),
        })
    });
    let wait = || {
        let started = Instant::now();
        loop {
            let (sender, receiver) = std::sync::mpsc::channel();
            let ask = move |hub: &mut wsloop::Hub<'_>| _ = sender.send(hub.all_ids().len());
            server.handle.run(ask).unwrap();
            if receiver.recv_timeout(PATIENCE).unwrap() == 0 {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "they are never gone");
        }
    };
    for (way, come_and_go) in ways {
        (0..50).for_each(|_| come_and_go(&server));
        wait();
        let region = Region::new(ALLOCATOR);
        (0..CYCLES).for_each(|_| come_and_go(&server));
        wait();
        // Entries of the timer wheel, of eight bytes each, stay until they expire.
        let each = held(&region) / CYCLES;
        assert!(each <= 64, "{way}: {each} bytes for each that came");
    }
}

#[test]
fn all_connections_together_hold_the_budget_and_no_more() {
    const BUDGET: usize = 2 << 20;
    const READ_BUFFER: usize = 64 << 10;
    const EACH: usize = 100;
    let _alone = alone();
    let server = Running::start(|builder| {
        support::echo(builder)
            .memory_budget(BUDGET)
            .read_buffer(READ_BUFFER)
            .max_recv_size(usize::MAX)
            .max_backlog(usize::MAX)
            .send_buffer_size(4 << 10)
    });
    let mut honest = server.ready().stream;
    let connect = |_| {
        let stream = server.ready().stream;
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut hoarders: Vec<_> = (0..EACH).map(connect).collect();
    let mut deaf: Vec<_> = (0..EACH).map(connect).collect();
    // The start of a large message, or fragments of one; and messages whose echoes are not read.
    let head = header(0x82, 1 << 40);
    let first = frame(0x02, b"x");
    let (more, fragment, message) = (
        vec![0; 16 << 10],
        frame(0x00, &[7; 16 << 10]),
        frame(0x82, &[7; 16 << 10]),
    );
    settle(&mut honest);
    let region = Region::new(ALLOCATOR);
    for (at, stream) in hoarders.iter_mut().enumerate() {
        let _ = stream.write(if at % 2 == 0 { &head } else { &first });
    }
    let mut most = 0;
    for _ in 0..40 {
        for (at, (hoarder, deaf)) in hoarders.iter_mut().zip(&mut deaf).enumerate() {
            let _ = hoarder.write(if at % 2 == 0 { &more } else { &fragment });
            let _ = deaf.write(&message);
            settle(&mut honest);
            most = most.max(held(&region));
        }
    }
    // In addition, a turn may need a read buffer, a message that doubles as it grows, and memory to
    // find the connections that hold most.
    println!("{most} bytes of heap at most");
    let bound = BUDGET + 2 * READ_BUFFER + (128 << 10);
    assert!((BUDGET / 2..=bound).contains(&most), "{most} bytes");
    drop((hoarders, deaf, honest));
    let stats = server.stop();
    assert!(
        stats.budget_closes > 0 && stats.budget_refusals > 0,
        "{stats:?}"
    );
}
