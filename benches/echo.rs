//! Echo over loopback: a client that waits for each reply, and one that sends sixteen messages at a
//! time.
//!
//! The measured time covers the whole exchange; the kernel takes most of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wsloop::Server;
use wsloop::event::{Binary, Utf8};
use wsloop::protocol::{Header, OpCode, mask};

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
fn frames(opcode: OpCode, size: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let key = [1, 2, 3, 4];
    Header {
        fin: true,
        rsv: 0,
        opcode,
        mask: Some(key),
        len: size as u64,
    }
    .encode(&mut bytes);
    let start = bytes.len();
    bytes.resize(start + size, b'x');
    mask::apply(&mut bytes[start..], key, 0);
    bytes.repeat(count)
}

fn echo(c: &mut Criterion) {
    let addr = serve();
    let mut group = c.benchmark_group("echo");
    let cases = [
        ("text", OpCode::Text, 20, 1),
        ("text", OpCode::Text, 1024, 1),
        ("binary", OpCode::Binary, 16_384, 1),
        ("text", OpCode::Text, 65_536, 1),
        ("binary", OpCode::Binary, 1 << 20, 1),
        ("pipelined", OpCode::Text, 32, 16),
    ];
    for (name, opcode, size, count) in cases {
        let mut stream = connect(addr).expect("the server accepts");
        let request = frames(opcode, size, count);
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
