//! permessage-deflate alone: the time to compress and to decompress a message, and the size gained.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wsloop::protocol::deflate::{Context, Deflater, InflateLimits, Inflater};

/// A list of JSON records, like those of a service, with exactly `size` bytes.
fn json(size: usize) -> Vec<u8> {
    let names = ["north", "harbour", "station", "market", "bridge", "garden"];
    let mut state = 7u32;
    let mut next = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let mut text = String::new();
    while text.len() < size {
        let name = |number: u32| names[number as usize % names.len()];
        text += &format!(
            "{{\"id\":{},\"name\":\"{}-{}\",\"active\":{},\"price\":{}.{:02},\"tags\":[\"{}\",\"{}\"]}},",
            next(1_000_000),
            name(next(6)),
            next(1000),
            next(2) == 0,
            next(500),
            next(100),
            name(next(6)),
            name(next(6)),
        );
    }
    text.truncate(size);
    text.into_bytes()
}

fn compress(c: &mut Criterion) {
    for (takeover, name) in [(false, "alone"), (true, "in context")] {
        let mut group = c.benchmark_group(format!("deflate {name}"));
        for size in [128, 1024, 16_384] {
            let payload = json(size);
            group.throughput(Throughput::Bytes(size as u64));
            for level in [1, 2, 3, 6] {
                let mut deflater = Deflater::new(level, 15);
                let mut out = Vec::new();
                assert!(deflater.message(&payload, Context::keep_if(takeover), &mut out));
                let label = format!("{size} B, level {level}, to {} B", out.len());
                group.bench_function(BenchmarkId::from_parameter(label), |b| {
                    b.iter(|| {
                        out.clear();
                        deflater.message(black_box(&payload), Context::keep_if(takeover), &mut out)
                    });
                });
            }
        }
        group.finish();
    }
}

fn expand(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    for size in [128, 1024, 16_384] {
        let mut bytes = Vec::new();
        assert!(Deflater::new(6, 15).message(&json(size), Context::Reset, &mut bytes));
        let (mut inflater, mut room) = (Inflater::new(), Vec::new());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let message = inflater.message(
                    black_box(&bytes),
                    Context::Reset,
                    InflateLimits::new(size, 1000),
                    &mut room,
                );
                message.map(<[u8]>::len)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compress, expand);
criterion_main!(benches);
