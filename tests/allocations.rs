//! A message costs no allocation, an idle connection next to no memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Running, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Sends `request` and reads a reply of the same size as `reply`, without allocating.
fn exchange(stream: &mut TcpStream, request: &[u8], reply: &mut [u8]) {
    stream.write_all(request).unwrap();
    stream.read_exact(reply).unwrap();
}

/// One test, because the counters are of the whole process.
#[test]
fn messages_and_idle_connections_cost_what_they_should() {
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
        // A server's frame has no mask.
        let mut reply = vec![0; request.len() - 4];
        for _ in 0..100 {
            exchange(&mut stream, &request, &mut reply);
        }
        let region = Region::new(ALLOCATOR);
        for _ in 0..1000 {
            exchange(&mut stream, &request, &mut reply);
        }
        let change = region.change();
        let count = change.allocations + change.reallocations;
        // A large message may come in two segments, and is put together then.
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
    let region = Region::new(ALLOCATOR);
    for _ in 0..100 {
        exchange(&mut stream, &request, &mut reply);
    }
    assert_eq!(region.change().allocations, 0);
}

fn an_idle_connection_costs_little(server: &Running) {
    // More than a power of two, so that the slabs' spare room counts too.
    const CONNECTIONS: usize = 300;
    let request = support::REQUEST.as_bytes();
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
