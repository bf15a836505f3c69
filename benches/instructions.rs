//! Instruction counts of single calls, measured with callgrind.
//!
//! `benches/instructions.py` runs these cases and compares the counts with the recorded ones. Each
//! case runs once before it is measured, so that one-time work (detecting processor features,
//! growing a buffer) does not count. Instructions in the kernel do not count either.

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
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use client_frames::KEY;
use common::BROWSER;
use crowd::{Crowd, TOPIC};
use gungraun::prelude::*;
use socket2::{Domain, Socket, Type};
use wsloop::event::{Binary, Utf8};
use wsloop::handshake::{Parser, Refusal, Upgrade};
use wsloop::protocol::{Message, OpCode, Prepared, Receiver, Sender, Utf8Validator, mask};
use wsloop::{Limits, Server};

/// Returns a client's frame of `size` bytes.
fn frame(first: u8, size: usize) -> Vec<u8> {
    client_frames::frame(first, &vec![b'x'; size])
}

/// Returns a text of four frames with `size` bytes each.
fn fragmented(size: usize) -> Vec<u8> {
    [0x01, 0x00, 0x00, 0x80]
        .map(|first| frame(first, size))
        .concat()
}

struct Incoming {
    receiver: Receiver,
    bytes: Vec<u8>,
    received: usize,
}

impl Incoming {
    fn new(bytes: Vec<u8>) -> Self {
        let mut once = Self {
            receiver: Receiver::new(&Limits::default()),
            bytes: bytes.clone(),
            received: 0,
        };
        once.take();
        Self { bytes, ..once }
    }

    fn take(&mut self) {
        self.received = 0;
        let mut input = black_box(&mut self.bytes[..]);
        while let Ok(Some(message)) = self.receiver.next(&mut input) {
            self.received += match black_box(message) {
                Message::Text(text) => text.len(),
                Message::Binary(bytes) => bytes.len(),
                _ => 0,
            };
        }
    }
}

fn is_received(incoming: Incoming) {
    assert!(incoming.received >= 20, "the messages are taken");
}

#[library_benchmark(setup = Incoming::new, teardown = is_received)]
#[bench::text_20(frame(0x81, 20))]
#[bench::binary_125(frame(0x82, 125))]
#[bench::text_1024(frame(0x81, 1024))]
#[bench::text_65536(frame(0x81, 65_536))]
#[bench::fragmented_4_x_256(fragmented(256))]
#[bench::text_16_x_32(frame(0x81, 32).repeat(16))]
fn decode(mut incoming: Incoming) -> Incoming {
    incoming.take();
    incoming
}

fn masked_once(size: usize) -> Vec<u8> {
    let mut payload = vec![7; size];
    mask::apply(&mut payload, KEY, 1);
    payload
}

#[library_benchmark(setup = masked_once)]
#[bench::bytes_65536(65_536)]
fn masking(mut payload: Vec<u8>) -> Vec<u8> {
    mask::apply(black_box(&mut payload), KEY, 1);
    payload
}

fn validated_once(unit: &str) -> String {
    let text = unit.repeat(65_536 / unit.len());
    let verdict = Utf8Validator::default().feed(text.as_bytes());
    verdict.expect("the text is UTF-8");
    text
}

#[library_benchmark(setup = validated_once)]
#[bench::multibyte_65536("Ѐ€")]
fn utf8(text: String) -> String {
    let mut validator = Utf8Validator::default();
    let _ = black_box(validator.feed(black_box(text.as_bytes())));
    text
}

struct Outgoing {
    sender: Sender,
    payload: Vec<u8>,
    out: Vec<u8>,
}

impl Outgoing {
    fn new(size: usize) -> Self {
        Self {
            sender: Sender::default(),
            payload: vec![b'x'; size],
            out: Vec::with_capacity(size + 10),
        }
    }
}

#[library_benchmark(setup = Outgoing::new)]
#[bench::text_20(20)]
#[bench::text_1024(1024)]
fn encode(mut outgoing: Outgoing) -> Outgoing {
    let Outgoing {
        sender,
        payload,
        out,
    } = &mut outgoing;
    let size = sender.message(OpCode::Text, black_box(payload), 1024, out);
    let _ = black_box(size);
    outgoing
}

fn text(size: usize) -> String {
    "x".repeat(size)
}

#[library_benchmark(setup = text)]
#[bench::text_1024(1024)]
fn prepare(text: String) -> (String, Prepared) {
    let prepared = Prepared::text(black_box(&text));
    (text, prepared)
}

/// A request that is not an upgrade.
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// An opening handshake with only the required headers.
const MINIMAL: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Appends the response to `request`.
fn answer(request: &str, out: &mut Vec<u8>) {
    let parsed = Parser::new(&Limits::default()).parse(black_box(request.as_bytes()));
    let Ok(Some((request, _))) = parsed else {
        panic!("the request is whole")
    };
    match request.accept_key() {
        Ok(accept) => Upgrade::new(request, accept).encode(UNIX_EPOCH, out),
        Err(error) => Refusal::from(error).encode(UNIX_EPOCH, out),
    }
}

fn answered_once(request: &'static str) -> (&'static str, Vec<u8>) {
    let mut out = Vec::with_capacity(1024);
    answer(request, &mut out);
    out.clear();
    (request, out)
}

fn is_answered((request, out): (&str, Vec<u8>)) {
    let status: &[u8] = if request == BROWSER { b"101" } else { b"4" };
    assert!(out["HTTP/1.1 ".len()..].starts_with(status), "{request}");
}

#[library_benchmark(setup = answered_once, teardown = is_answered)]
#[bench::accept(BROWSER)]
#[bench::refuse(PLAIN)]
fn handshake((request, mut out): (&'static str, Vec<u8>)) -> (&'static str, Vec<u8>) {
    answer(request, &mut out);
    (request, out)
}

/// A server on loopback, and its clients on the same thread.
struct Loopback {
    server: Server,
    clients: Vec<TcpStream>,
    /// The bytes that each client sends.
    request: Vec<u8>,
    /// The bytes that each client receives.
    reply: Vec<u8>,
}

impl Loopback {
    fn new(connections: usize, request: Vec<u8>, reply: Vec<u8>) -> Self {
        let listener = socket();
        listener
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .and_then(|()| listener.listen(16))
            .expect("a port is free");
        // Deadlines are set, but none expires during a measurement.
        let hour = Duration::from_secs(3600);
        let mut server = Server::builder()
            .listener(TcpListener::from(listener))
            .handshake_timeout(hour)
            .silence_max(hour)
            .on(Utf8, |conn, text| conn.send_utf8(text))
            .on(Binary, |conn, data| conn.send_binary(data))
            .build()
            .expect("the settings are good");
        let addr = server.local_addr().expect("the server listens");
        let clients = (1..=connections)
            .map(|count| {
                let client = socket();
                client.connect(&addr.into()).expect("the server listens");
                let mut client = TcpStream::from(client);
                client.set_nodelay(true).expect("the socket is open");
                client
                    .write_all(MINIMAL.as_bytes())
                    .expect("the socket has room");
                while server.hub().len() < count {
                    turn(&mut server, PATIENCE);
                }
                client.read_exact(&mut [0; 129]).expect("a 101 is sent");
                client
            })
            .collect();
        let mut loopback = Self {
            server,
            clients,
            request,
            reply,
        };
        // These exchanges grow the kernel's windows and the server's buffers to their final size.
        for _ in 0..4 {
            loopback.send();
            loopback.receive();
        }
        loopback
    }

    /// Sends the request on all clients, and waits until the bytes have arrived.
    fn send(&mut self) {
        for client in &mut self.clients {
            client
                .write_all(&self.request)
                .expect("the socket has room");
        }
        thread::sleep(SETTLE);
    }

    /// Reads the replies of all clients, with as many turns as that takes.
    fn receive(&mut self) {
        let mut bytes = vec![0; self.reply.len()];
        for client in &mut self.clients {
            client.set_nonblocking(true).expect("the socket is open");
            let mut got = 0;
            while got < bytes.len() {
                match client.read(&mut bytes[got..]) {
                    Ok(0) => panic!("the server closed"),
                    Ok(size) => got += size,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        turn(&mut self.server, PATIENCE);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(bytes == self.reply, "another reply was due");
            client.set_nonblocking(false).expect("the socket is open");
        }
    }
}

fn turn(server: &mut Server, timeout: Duration) {
    server.turn(Some(timeout)).expect("the event queue works");
}

/// Returns a socket with room for all bytes of a case.
fn socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are left");
    socket
        .set_recv_buffer_size(1 << 20)
        .and_then(|()| socket.set_send_buffer_size(1 << 20))
        .expect("the kernel takes what it allows");
    socket
}

/// Within this time, bytes sent on loopback have arrived, and the server's clock has advanced.
const SETTLE: Duration = Duration::from_millis(50);

/// How long a turn outside the measured part waits.
const PATIENCE: Duration = Duration::from_millis(10);

/// Returns connections on which `count` messages of `size` bytes have arrived at the server.
fn sent(connections: usize, size: usize, count: usize) -> Loopback {
    let mut reply = Vec::new();
    let sent = Sender::default().message(OpCode::Text, &vec![b'x'; size], size, &mut reply);
    sent.expect("the size is allowed");
    let request = frame(0x81, size).repeat(count);
    let mut loopback = Loopback::new(connections, request, reply.repeat(count));
    loopback.send();
    loopback
}

/// Checks that one turn has sent all replies.
fn is_echoed(loopback: Loopback) {
    let mut bytes = vec![0; loopback.reply.len()];
    for mut client in loopback.clients {
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("the socket is open");
        client.read_exact(&mut bytes).expect("one turn was enough");
        assert!(bytes == loopback.reply, "another reply was due");
    }
}

#[library_benchmark(setup = sent, teardown = is_echoed)]
#[bench::conn_1_text_20(1, 20, 1)]
#[bench::conn_1_text_1024(1, 1024, 1)]
#[bench::conn_1_text_65536(1, 65_536, 1)]
#[bench::conn_64_text_20(64, 20, 1)]
#[bench::conn_64_text_16_x_32(64, 32, 16)]
fn echo_turn(mut loopback: Loopback) -> Loopback {
    turn(&mut loopback.server, Duration::ZERO);
    loopback
}

/// Returns connections that have received a message of `size` bytes, and the text of the next one.
fn listening(connections: usize, size: usize) -> (Loopback, String) {
    let mut loopback = sent(connections, size, 1);
    loopback.receive();
    let text = text(size);
    broadcast(&mut loopback.server, &text);
    loopback.receive();
    thread::sleep(SETTLE);
    (loopback, text)
}

fn broadcast(server: &mut Server, text: &str) {
    let reached = server.hub().broadcast_utf8(text);
    reached.expect("the size is allowed");
    turn(server, Duration::ZERO);
}

#[library_benchmark(setup = listening, teardown = is_echoed)]
#[bench::conn_1000_text_20(1000, 20)]
fn broadcast_turn((mut loopback, text): (Loopback, String)) -> Loopback {
    broadcast(&mut loopback.server, black_box(&text));
    loopback
}

/// Returns connections that are subscribed and have received a message of `size` bytes, and the
/// text of the next one.
fn subscribed(connections: usize, size: usize) -> (Loopback, String) {
    let (mut loopback, text) = listening(connections, size);
    let ids = loopback.server.hub().ids();
    for id in ids {
        let mut hub = loopback.server.hub();
        let mut conn = hub.get(id).expect("it is open");
        conn.subscribe(TOPIC).expect("the limits allow it");
    }
    publish(&mut loopback.server, &text);
    loopback.receive();
    thread::sleep(SETTLE);
    (loopback, text)
}

fn publish(server: &mut Server, text: &str) {
    let reached = server.hub().publish(TOPIC, text);
    reached.expect("the size is allowed");
    turn(server, Duration::ZERO);
}

#[library_benchmark(setup = subscribed, teardown = is_echoed)]
#[bench::conn_1000_text_20(1000, 20)]
fn publish_turn((mut loopback, text): (Loopback, String)) -> Loopback {
    publish(&mut loopback.server, black_box(&text));
    loopback
}

/// Returns a crowd whose first connection is subscribed to another topic as well, and has been
/// subscribed to the one that it will be subscribed to.
fn crowd(subscribers: usize) -> Crowd {
    let mut crowd = Crowd::new(subscribers + 1, |builder| builder);
    let first = crowd.ids[0];
    let mut hub = crowd.server.hub();
    let mut conn = hub.get(first).expect("it is open");
    conn.subscribe("others").expect("the limits allow it");
    assert!(conn.unsubscribe(TOPIC), "it was subscribed");
    subscriptions(&mut crowd);
    crowd
}

/// Subscribes and unsubscribes the first connection, so often that finding it hardly counts.
fn subscriptions(crowd: &mut Crowd) {
    let mut hub = crowd.server.hub();
    let mut conn = hub.get(crowd.ids[0]).expect("it is open");
    for _ in 0..100 {
        let is_new = conn.subscribe(black_box(TOPIC));
        let was_subscribed = conn.unsubscribe(black_box(TOPIC));
        assert!(is_new == Ok(true) && was_subscribed, "it was not before");
    }
}

#[library_benchmark(setup = crowd)]
#[bench::of_10_x_100(10)]
#[bench::of_15000_x_100(15_000)]
fn subscribe_and_unsubscribe(mut crowd: Crowd) -> Crowd {
    subscriptions(&mut crowd);
    crowd
}

library_benchmark_group!(
    name = counts,
    benchmarks = [
        decode,
        masking,
        utf8,
        encode,
        prepare,
        handshake,
        echo_turn,
        broadcast_turn,
        publish_turn,
        subscribe_and_unsubscribe
    ]
);

main!(library_benchmark_groups = counts);
