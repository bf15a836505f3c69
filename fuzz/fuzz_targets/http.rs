//! See `wsloop_fuzz::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wsloop_fuzz::http::run(data));
