//! Echo over loopback: a client that waits for each reply, and one that sends sixteen messages at a
//! time.
//!
//! The measured time covers the whole exchange; the kernel takes most of it.

#[path = "../src/client_frames.rs"]
mod client_frames;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wsloop::Server;
use wsloop::event::{Binary, Utf8};

/// Starts an echo server that runs as long as the process.
fn serve() -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut server = Server::builder()
            .listen("127.0.0.1:0")
            .max_recv_size(1 << 20)
            .max_send_size(1 << 20)
            .on(Utf8, |conn, text| conn.send_utf8(text))
            .on(Binary, |conn, data| conn.send_binary(data))
            .build()
            .expect("a port is free");
        let _ = sender.send(server.local_addr());
        server.start()
    });
    receiver.recv().ok().flatten().expect("the server listens")
}

fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )?;
    stream.read_exact(&mut [0; 129])?;
    Ok(stream)
}

/// Returns `count` masked frames of `size` bytes.
fn frames(first: u8, size: usize, count: usize) -> Vec<u8> {
    client_frames::frame(first, &vec![b'x'; size]).repeat(count)
}

fn echo(c: &mut Criterion) {
    let addr = serve();
    let mut group = c.benchmark_group("echo");
    let cases = [
        ("text", 0x81, 20, 1),
        ("text", 0x81, 1024, 1),
        ("binary", 0x82, 16_384, 1),
        ("text", 0x81, 65_536, 1),
        ("binary", 0x82, 1 << 20, 1),
        ("pipelined", 0x81, 32, 16),
    ];
    for (name, first, size, count) in cases {
        let mut stream = connect(addr).expect("the server accepts");
        let request = frames(first, size, count);
        let mut reply = vec![0; request.len() - 4 * count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new(name, size), |b| {
            b.iter(|| {
                stream.write_all(&request).expect("the server reads");
                stream.read_exact(&mut reply).expect("the server answers");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, echo);
criterion_main!(benches);
