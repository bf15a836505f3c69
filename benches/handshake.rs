//! The opening handshake without I/O: a browser's request to the bytes of the 101.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use wsloop::Limits;
use wsloop::handshake::{Parser, Refusal, Upgrade};

/// What a browser sends.
const REQUEST: &str = "GET /chat?room=7 HTTP/1.1\r\n\
    Host: server.example.com:9001\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: http://server.example.com\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn handshake(c: &mut Criterion) {
    let limits = Limits::default();
    let mut out = Vec::new();
    c.bench_function("handshake/accept", |b| {
        b.iter(|| {
            out.clear();
            let parsed = Parser::new(&limits).parse(black_box(REQUEST.as_bytes()));
            let Ok(Some((request, _))) = parsed else {
                panic!("the request is whole and good")
            };
            let accept = request.accept_key().expect("the request is good");
            Upgrade::new(request, accept).encode(&mut out);
        });
    });
    c.bench_function("handshake/refuse", |b| {
        b.iter(|| {
            out.clear();
            let parsed =
                Parser::new(&limits).parse(black_box(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
            let Ok(Some((request, _))) = parsed else {
                panic!("the request is whole")
            };
            let error = request.accept_key().expect_err("the request is no upgrade");
            Refusal::from(error).encode(&mut out);
        });
    });
}

criterion_group!(benches, handshake);
criterion_main!(benches);
