//! The code of the fuzz targets: one module each, with a function `run`.
//!
//! The code is here and not in the targets, so that it also runs without libFuzzer:
//! `cargo test --lib` runs the whole corpus on a stable compiler.
#![forbid(unsafe_code)]

mod answers;
mod client;
#[path = "../../src/client_frames.rs"]
mod client_frames;
mod input;

pub mod deflate;
pub mod extensions;
pub mod forwarded;
pub mod frames;
pub mod handshake;
pub mod http;
pub mod proxy_header;
pub mod server;
pub mod tungstenite;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs a target on each input of its corpus.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        let mut count = 0;
        for entry in fs::read_dir(corpus).expect("a corpus") {
            run(&fs::read(entry.expect("a file").path()).expect("a file"));
            count += 1;
        }
        assert!(count > 0, "no corpus");
    }

    #[test]
    fn the_corpus_passes() {
        replay("deflate", super::deflate::run);
        replay("extensions", super::extensions::run);
        replay("forwarded", super::forwarded::run);
        replay("frames", super::frames::run);
        replay("handshake", super::handshake::run);
        replay("http", super::http::run);
        replay("proxy_header", super::proxy_header::run);
        replay("server", super::server::run);
        replay("tungstenite", super::tungstenite::run);
    }
}
