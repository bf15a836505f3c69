//! The modules without I/O: headers, masking, UTF-8, whole messages.

#[path = "../src/client_frames.rs"]
mod client_frames;

use std::hint::black_box;

use client_frames::KEY;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wsloop::Limits;
use wsloop::protocol::{Header, Message, OpCode, Receiver, Sender, Utf8Validator, mask};

/// Returns a client's text frame.
fn frame(payload: &[u8]) -> Vec<u8> {
    client_frames::frame(0x81, payload)
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("header");
    for len in [20, 1024, 65_536] {
        let bytes = frame(&vec![b'x'; len]);
        group.bench_function(BenchmarkId::new("parse", len), |b| {
            b.iter(|| Header::parse(black_box(&bytes), 0));
        });
    }
    group.finish();
}

fn masking(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    for size in [16, 125, 1024, 16_384, 1 << 20] {
        let mut payload = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| mask::apply(black_box(&mut payload), KEY, 1));
        });
    }
    group.finish();
}

fn utf8(c: &mut Criterion) {
    let mut group = c.benchmark_group("utf8");
    for (kind, unit) in [("ascii", "x"), ("multibyte", "Ѐ€")] {
        for size in [20, 1024, 65_536] {
            let text = unit.repeat(size / unit.len());
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new(kind, size), |b| {
                let mut validator = Utf8Validator::default();
                b.iter(|| validator.feed(black_box(text.as_bytes())));
            });
        }
    }
    group.finish();
}

fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    for size in [20, 1024, 65_536] {
        let bytes = frame(&vec![b'x'; size]);
        group.throughput(Throughput::Bytes(size as u64));
        let limits = Limits::default();
        group.bench_function(BenchmarkId::new("receive", size), |b| {
            let mut receiver = Receiver::new(&limits);
            b.iter_batched_ref(
                || bytes.clone(),
                |bytes| {
                    let mut input = &mut bytes[..];
                    matches!(receiver.next(&mut input), Ok(Some(Message::Text(_))))
                },
                BatchSize::LargeInput,
            );
        });
        let payload = vec![b'x'; size];
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("send", size), |b| {
            b.iter(|| {
                out.clear();
                Sender::default().message(OpCode::Text, black_box(&payload), size, &mut out)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, headers, masking, utf8, messages);
criterion_main!(benches);
