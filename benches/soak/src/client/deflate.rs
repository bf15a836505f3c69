//! permessage-deflate (RFC 7692) in a client, which compresses each message without context.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The compressor and the decompressor that all clients share.
pub(crate) struct Deflate {
    compress: Compress,
    /// For messages of a server that compresses without context.
    inflate: Decompress,
}

impl Deflate {
    pub(crate) fn new() -> Self {
        Self {
            compress: Compress::new(Compression::fast(), false),
            inflate: Decompress::new(false),
        }
    }

    /// Compresses a message, as described in RFC 7692, 7.2.1: "Remove 4 octets (that are 0x00 0x00
    /// 0xff 0xff) from the tail end."
    pub(super) fn shrink(&mut self, payload: &[u8]) -> Vec<u8> {
        self.compress.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let taken = self.compress.total_in() as usize;
            let flush = FlushCompress::Sync;
            // An error means that there was nothing to do, and that nothing was done.
            let _ = self
                .compress
                .compress_vec(&payload[taken..], &mut out, flush);
            if out.len() < out.capacity() {
                break;
            }
            out.reserve(out.capacity());
        }
        out.truncate(out.len() - TAIL.len());
        out
    }

    /// Decompresses a message into `out`, with the connection's own decompressor or the shared one.
    ///
    /// # Errors
    ///
    /// Fails if the data is not valid DEFLATE, or larger than any message.
    pub(super) fn expand(
        &mut self,
        own: Option<&mut Decompress>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let inflate = match own {
            Some(own) => own,
            None => {
                self.inflate.reset(false);
                &mut self.inflate
            }
        };
        out.clear();
        for part in [payload, &TAIL] {
            let start = inflate.total_in();
            loop {
                out.reserve(4096);
                let taken = (inflate.total_in() - start) as usize;
                let flush = FlushDecompress::Sync;
                let done = inflate.decompress_vec(&part[taken..], out, flush);
                done.map_err(|error| format!("not DEFLATE: {error}"))?;
                let all = (inflate.total_in() - start) as usize == part.len();
                if all && out.len() < out.capacity() {
                    break;
                }
                if out.len() > OUT_MAX {
                    return Err("a message that expands to too much".into());
                }
            }
        }
        Ok(())
    }
}

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const OUT_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shrunk_expands_to_the_same() {
        let mut deflate = Deflate::new();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut out = Vec::new();
        for size in [0, 1, 63, 64, 1000, 4096, 100_000] {
            let text = b"over and over ".iter().copied().cycle().take(size);
            let noise = (0..size).map(|_| rng.u8(..));
            for payload in [text.collect::<Vec<u8>>(), noise.collect()] {
                let shrunk = deflate.shrink(&payload);
                deflate.expand(None, &shrunk, &mut out).unwrap();
                assert_eq!(out, payload);
            }
        }
        assert!(deflate.expand(None, &[7; 20], &mut out).is_err());
    }
}
