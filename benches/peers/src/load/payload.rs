//! Payloads of an exact size.

use super::options::Kind;

/// Returns the payload number `variant`. From three bytes on, different numbers have different
/// payloads; the same number always has the same payload.
pub(super) fn payload(kind: Kind, size: usize, variant: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(0x5eed ^ variant);
    let mut out = Vec::with_capacity(size + 256);
    match kind {
        Kind::Binary => {
            out.resize(size, 0);
            rng.fill(&mut out);
        }
        Kind::Text => out.extend((0..size).map(|_| rng.u8(b' '..=b'~'))),
        Kind::Utf8 => {
            while out.len() < size {
                push_character(&mut out, &mut rng, size);
            }
        }
        Kind::Json => {
            while out.len() < size {
                push_record(&mut out, &mut rng);
            }
            out.truncate(size);
        }
    }
    out
}

/// Appends a random character: two in eight are Cyrillic, two Chinese, two emoji, one Greek and one
/// ASCII. If the character does not fit into `size`, appends an ASCII character instead.
fn push_character(out: &mut Vec<u8>, rng: &mut fastrand::Rng, size: usize) {
    let character = match rng.u8(..8) {
        0 | 1 => rng.char('\u{410}'..='\u{44f}'),
        2 | 3 => rng.char('\u{4e00}'..='\u{9fa5}'),
        4 | 5 => rng.char('\u{1f600}'..='\u{1f64f}'),
        6 => rng.char('α'..='ω'),
        _ => rng.char('a'..='z'),
    };
    if character.len_utf8() <= size - out.len() {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(rng.u8(b'a'..=b'z'));
    }
}

fn push_record(out: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    const NAMES: [&str; 6] = ["north", "harbour", "station", "market", "bridge", "garden"];
    let record = format!(
        "{{\"id\":{},\"name\":\"{}-{}\",\"active\":{},\"price\":{}.{:02},\"tags\":[\"{}\",\"{}\"]}},",
        rng.u32(..1_000_000),
        NAMES[rng.usize(..NAMES.len())],
        rng.u16(..1000),
        rng.bool(),
        rng.u16(..500),
        rng.u8(..100),
        NAMES[rng.usize(..NAMES.len())],
        NAMES[rng.usize(..NAMES.len())],
    );
    out.extend_from_slice(record.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 4] = [Kind::Text, Kind::Utf8, Kind::Json, Kind::Binary];

    #[test]
    fn sizes_are_exact_and_variants_differ() {
        for kind in KINDS {
            for size in [0, 1, 2, 3, 20, 125, 1024, 65_537] {
                assert_eq!(payload(kind, size, 1).len(), size);
            }
            assert_eq!(payload(kind, 32, 1), payload(kind, 32, 1));
            assert_ne!(payload(kind, 32, 1), payload(kind, 32, 2));
        }
    }

    #[test]
    fn texts_are_texts() {
        for size in 0..200 {
            assert!(payload(Kind::Text, size, 3).is_ascii());
            assert!(std::str::from_utf8(&payload(Kind::Utf8, size, 3)).is_ok());
        }
        let text = payload(Kind::Utf8, 65_536, 1);
        let characters = std::str::from_utf8(&text).unwrap().chars().count();
        assert!(characters * 2 < text.len(), "mostly multi-byte");
    }
}
