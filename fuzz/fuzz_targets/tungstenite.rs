//! See `wsloop_fuzz::tungstenite`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wsloop_fuzz::tungstenite::run(data));
