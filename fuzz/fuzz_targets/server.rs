//! See `wsloop_fuzz::server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wsloop_fuzz::server::run(data));
