//! Masking of client payloads (RFC 6455, 5.3).

/// Masks or unmasks `payload` in place; the two are the same.
///
/// `offset` is the place of `payload`'s first byte in its frame, so that a frame can be unmasked
/// piece by piece. Only its remainder by four counts.
pub fn apply(payload: &mut [u8], key: [u8; 4], offset: usize) {
    // RFC 6455, 5.3: "transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)"
    let key = [0, 1, 2, 3].map(|at| key[(offset.wrapping_add(at)) % 4]);
    let word = u32::from_ne_bytes(key);
    let wide = (u64::from(word) << 32 | u64::from(word)).to_ne_bytes();
    let wide = u64::from_ne_bytes(wide);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Some(bytes) = chunk.first_chunk_mut::<8>() {
            *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
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
            payload in prop::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            cut in 0usize..200,
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
