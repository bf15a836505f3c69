//! Masking of client payloads (RFC 6455, 5.3).

use std::sync::LazyLock;

use fearless_simd::{Level, Simd, dispatch};

/// Masks or unmasks `payload` in place; the two operations are the same.
///
/// `offset` is the position of the first byte of `payload` in its frame, so that a frame can be
/// unmasked piece by piece. Only its remainder modulo four matters.
#[inline]
pub fn apply(payload: &mut [u8], key: [u8; 4], offset: usize) {
    // RFC 6455, 5.3: "transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)"
    let word = u32::from_le_bytes(key).rotate_right(offset as u32 % 4 * 8);
    let key = (u64::from(word) << 32 | u64::from(word)).to_le_bytes();
    if payload.len() < WIDE {
        xor(payload, key);
    } else {
        apply_wide(payload, key);
    }
}

#[inline(never)]
fn apply_wide(payload: &mut [u8], key: [u8; 8]) {
    dispatch!(*LEVEL, simd => wide(simd, payload, key));
}

/// The widest vector instructions of the processor, detected once.
static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);

/// Smallest payload for which the dispatch on [`LEVEL`] pays off, in bytes.
const WIDE: usize = 128;

/// [`xor`] compiled for wider registers than the target's own: plain Rust, vectorised.
#[inline(always)]
fn wide<S: Simd>(_: S, payload: &mut [u8], key: [u8; 8]) {
    // Blocks of this size make the loop's own overhead negligible.
    let (blocks, rest) = payload.as_chunks_mut::<512>();
    for block in blocks {
        xor(block, key);
    }
    xor(rest, key);
}

#[inline(always)]
fn xor(payload: &mut [u8], key: [u8; 8]) {
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rfc_sample_unmasks() {
        // RFC 6455, 5.7: a single-frame masked text message, "Hello"
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
    }

    proptest! {
        #[test]
        fn any_cut_is_the_definition(
            payload in prop::collection::vec(any::<u8>(), 0..5000),
            key: [u8; 4],
            cut in 0usize..5000,
        ) {
            let expected: Vec<u8> =
                payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
            let mut bytes = payload.clone();
            let cut = cut.min(bytes.len());
            apply(&mut bytes[..cut], key, 0);
            apply(&mut bytes[cut..], key, cut);
            prop_assert_eq!(bytes, expected);
        }
    }
}
