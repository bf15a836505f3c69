//! The opening handshake without I/O: from the bytes of a browser's request to the bytes of the
//! 101.

mod common;

use std::hint::black_box;
use std::time::UNIX_EPOCH;

use common::BROWSER;
use criterion::{Criterion, criterion_group, criterion_main};
use wsloop::Limits;
use wsloop::handshake::{Parser, Refusal, Upgrade};

fn handshake(c: &mut Criterion) {
    let limits = Limits::default();
    let mut out = Vec::new();
    c.bench_function("handshake/accept", |b| {
        b.iter(|| {
            out.clear();
            let parsed = Parser::new(&limits).parse(black_box(BROWSER.as_bytes()));
            let Ok(Some((request, _))) = parsed else {
                panic!("the request is whole and good")
            };
            let accept = request.accept_key().expect("the request is good");
            Upgrade::new(request, accept).encode(UNIX_EPOCH, &mut out);
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
            Refusal::from(error).encode(UNIX_EPOCH, &mut out);
        });
    });
}

criterion_group!(benches, handshake);
criterion_main!(benches);
