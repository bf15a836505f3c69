use proptest::prelude::*;

use super::*;
use crate::error::ProtocolError;

/// Inflates as a peer that keeps its context, without limits.
fn expand(inflater: &mut Inflater, bytes: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let mut room = Vec::new();
    inflater
        .message(
            bytes,
            Context::Keep,
            InflateLimits::new(1 << 30, usize::MAX),
            &mut room,
        )
        .map(<[u8]>::to_vec)
}

fn compress(deflater: &mut Deflater, takeover: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = b"before".to_vec();
    assert!(deflater.message(payload, Context::keep_if(takeover), &mut out));
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

/// Inflates a message that arrives in `chunks`, into rooms of `sizes` in turn.
fn expand_pieces(
    inflater: &mut Inflater,
    chunks: &[&[u8]],
    takeover: bool,
    max_ratio: usize,
    sizes: &[usize],
) -> Result<Vec<u8>, ProtocolError> {
    let mut sizes = sizes.iter().copied().cycle();
    let mut whole = Vec::new();
    inflater.begin(Context::keep_if(takeover), max_ratio);
    for (at, chunk) in chunks.iter().enumerate() {
        let last = at + 1 == chunks.len();
        let mut input = *chunk;
        loop {
            let mut room = vec![0xee; sizes.next().unwrap_or(1)];
            let (made, ended) = inflater.piece(&mut input, last, &mut room)?;
            whole.extend_from_slice(&room[..made]);
            if made < room.len() || ended {
                assert!(input.is_empty());
                assert_eq!(ended, last);
                break;
            }
        }
    }
    let size: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    assert_eq!(inflater.taken(), size as u64);
    Ok(whole)
}

/// Cuts bytes at `cuts`, each taken modulo the length of the rest.
fn cut<'b>(mut bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut chunks = Vec::new();
    for cut in cuts {
        let (chunk, rest) = bytes.split_at(cut % (bytes.len() + 1));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}

/// Compresses a message in parts; returns the output for each.
fn compress_parts(deflater: &mut Deflater, takeover: bool, parts: &[&[u8]]) -> Vec<Vec<u8>> {
    if !takeover {
        deflater.forget();
    }
    let last = parts.len() - 1;
    let frames = parts.iter().enumerate().map(|(at, part)| {
        let mut out = b"before".to_vec();
        match at == last {
            true => deflater.end(part, &mut out),
            false => deflater.part(part, &mut out),
        }
        out.split_off(6)
    });
    frames.collect()
}

/// RFC 7692, 7.2.3.
#[test]
fn the_examples_of_the_rfc_are_expanded() {
    let examples: [&[&[u8]]; 6] = [
        &[b"\xf2\x48\xcd\xc9\xc9\x07\x00"],
        // Two messages that share a window.
        &[b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xf2\x00\x11\x00\x00"],
        &[
            b"\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"\xf2\x48\xcd\xc9\xc9\x07\x00",
        ],
        // An uncompressed block, one that is marked as the last, and two blocks.
        &[b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"],
        &[b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"],
        &[b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"],
    ];
    for example in examples {
        let mut inflater = Inflater::new();
        for message in example {
            assert_eq!(
                expand(&mut inflater, message).unwrap(),
                b"Hello",
                "{example:x?}"
            );
        }
    }
    assert_eq!(expand(&mut Inflater::new(), b"\x00"), Ok(Vec::new()));
}

#[test]
fn the_example_of_the_rfc_is_made() {
    let mut deflater = Deflater::new(6, 15);
    assert_eq!(
        compress(&mut deflater, true, b"Hello"),
        b"\xf2\x48\xcd\xc9\xc9\x07\x00"
    );
    assert_eq!(
        compress(&mut deflater, true, b"Hello"),
        b"\xf2\x00\x11\x00\x00"
    );
    assert_eq!(
        compress(&mut deflater, false, b"Hello"),
        b"\xf2\x48\xcd\xc9\xc9\x07\x00"
    );
    assert_eq!(compress(&mut deflater, false, b""), b"\0");
    assert_eq!(compress(&mut deflater, true, b""), b"\0");
    deflater.forget();
    assert_eq!(
        compress(&mut deflater, true, b"Hello"),
        b"\xf2\x48\xcd\xc9\xc9\x07\x00"
    );
}

#[test]
fn a_block_that_is_the_last_may_be_followed_by_others() {
    let mut inflater = Inflater::new();
    let last = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    let bytes = [&last[..], last, b"\xf2\x48\xcd\xc9\xc9\x07\x00"].concat();
    assert_eq!(expand(&mut inflater, &bytes).unwrap(), b"HelloHelloHello");
}

#[test]
fn a_bomb_costs_its_limit_at_most() {
    // CVE-2018-1000518 and similar ones: a ratio of a thousand to one.
    let mut deflater = Deflater::new(9, 15);
    let bomb = compress(&mut deflater, false, &vec![0; 8 << 20]);
    assert!(bomb.len() < 9_000, "{}", bomb.len());
    for limit in [0, 1, 4095, 4096, 65_536, 1 << 20] {
        let mut room = Vec::new();
        let error = Inflater::new()
            .message(
                &bomb,
                Context::Keep,
                InflateLimits::new(limit, usize::MAX),
                &mut room,
            )
            .expect_err("too big");
        let size = limit as u64 + 1;
        assert_eq!(error, ProtocolError::MessageTooBig { size, limit });
        assert!(room.capacity() <= limit + 1, "{}", room.capacity());
    }
}

#[test]
fn the_limit_is_exact_and_the_room_is_used_again() {
    let mut deflater = Deflater::new(1, 15);
    let mut inflater = Inflater::new();
    let mut room = vec![0xee; 100_000];
    for size in [
        0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 99_999, 100_000, 100_001,
    ] {
        let bytes = compress(&mut deflater, false, &vec![7; size]);
        let whole = inflater.message(
            &bytes,
            Context::Reset,
            InflateLimits::new(size, usize::MAX),
            &mut room,
        );
        assert!(whole.is_ok_and(|whole| *whole == vec![7; size]), "{size}");
        if size > 0 {
            let error = inflater.message(
                &bytes,
                Context::Reset,
                InflateLimits::new(size - 1, usize::MAX),
                &mut room,
            );
            assert!(error.is_err(), "{size}");
        }
    }
}

#[test]
fn ratios_are_held_to_above_what_is_always_allowed() {
    let mut deflater = Deflater::new(6, 15);
    let mut room = Vec::new();
    let zeros = compress(&mut deflater, false, &vec![0; 65_536]);
    let mut expand = |bytes: &[u8], ratio| {
        let result = Inflater::new()
            .message(
                bytes,
                Context::Keep,
                InflateLimits::new(usize::MAX, ratio),
                &mut room,
            )
            .map(<[u8]>::len);
        (result, room.capacity())
    };
    assert_eq!(expand(&zeros, 1).0, Ok(65_536));
    let zeros = compress(&mut deflater, false, &vec![0; 3 << 20]);
    let (result, memory) = expand(&zeros, 100);
    assert_eq!(result, Err(ProtocolError::RatioTooHigh { limit: 100 }));
    assert!(memory <= 100 * zeros.len() + 1);
    assert_eq!(expand(&zeros, 1100).0, Ok(3 << 20));
}

#[test]
fn bad_streams_are_refused() {
    for bad in [
        &b"\x07"[..],                        // a block of the reserved type
        b"\x00\x05\x00\xfb\xff\x48",         // a stored block with a wrong length
        b"\xf2\x00\x11\x00\x00",             // a reference to nothing
        b"\x04\x00\xff\xff\xff\xff\xff\xff", // impossible code lengths
    ] {
        assert_eq!(
            expand(&mut Inflater::new(), bad),
            Err(ProtocolError::BadDeflate),
            "{bad:x?}"
        );
    }
}

#[test]
fn messages_that_stand_by_themselves_are_expanded_whatever_their_shape() {
    let noise = |size: usize| -> Vec<u8> {
        let next = |last: &u32| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(Some(7), next)
            .map(|number| (number >> 24) as u8)
            .take(size)
            .collect()
    };
    let far = noise(16_000);
    let mut shapes = vec![
        // Repetitions at once, and at the largest distance.
        [&far[..], &far].concat(),
        [&far[..500], &vec![b'-'; 31_768][..], &far[..500]].concat(),
        noise(32_768),
        b"ab".repeat(16_384),
        b"abc".repeat(10_922),
        (0..=255).collect(),
        (0..32_768u32)
            .map(|at| (at.leading_zeros() + 60) as u8)
            .collect(),
        (0..32_768u32).map(|at| (at / 128) as u8).collect(),
    ];
    shapes.extend((1..600).map(|size| vec![b'x'; size]));
    shapes.extend((1..40).map(&noise));
    // Lengths and distances of every code.
    for distance in [
        1, 2, 3, 4, 5, 7, 9, 13, 24, 25, 48, 49, 700, 1025, 4097, 24_576, 24_577,
    ] {
        for len in [
            4, 10, 11, 18, 19, 34, 35, 66, 67, 130, 131, 257, 258, 259, 517,
        ] {
            let first = noise(len.min(distance));
            let gap = vec![b'='; distance - first.len()];
            shapes.push(
                [
                    &first[..],
                    &gap,
                    &first.repeat(len / first.len() + 1)[..len],
                ]
                .concat(),
            );
        }
    }
    let mut deflater = Deflater::new(1, 15);
    let mut room = Vec::new();
    for shape in shapes {
        let bytes = compress(&mut deflater, false, &shape);
        assert!(
            bytes.len() <= shape.len() + 6,
            "{} of {}",
            bytes.len(),
            shape.len()
        );
        let whole = Inflater::new()
            .message(
                &bytes,
                Context::Reset,
                InflateLimits::new(shape.len(), usize::MAX),
                &mut room,
            )
            .map(<[u8]>::to_vec);
        assert!(
            whole.is_ok_and(|whole| whole == shape),
            "{} bytes",
            shape.len()
        );
    }
}

#[test]
fn a_message_by_itself_leaves_the_others_their_context() {
    let mut deflater = Deflater::new(1, 15);
    let mut inflater = Inflater::new();
    let text = b"a text that comes again, a text that comes again".as_slice();
    for takeover in [true, false, true, true, false, false, true] {
        let bytes = compress(&mut deflater, takeover, text);
        assert_eq!(expand(&mut inflater, &bytes).unwrap(), text);
    }
}

/// RFC 7692, 7.2.3.1: "Hello" in two frames.
#[test]
fn a_message_may_come_in_any_pieces() {
    let bytes = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    for at in 0..=bytes.len() {
        let (first, last) = bytes.split_at(at);
        let mut inflater = Inflater::new();
        for takeover in [false, true, true] {
            let whole = expand_pieces(&mut inflater, &[first, last], takeover, 1000, &[1]);
            assert_eq!(whole.unwrap(), b"Hello", "{at}");
        }
    }
}

#[test]
fn what_is_too_large_goes_on_in_pieces() {
    let payload: Vec<u8> = (0..100_000u32).map(|at| (at / 7 * at) as u8).collect();
    let mut deflater = Deflater::new(6, 15);
    let mut inflater = Inflater::new();
    let mut room = Vec::new();
    for limit in [0, 1, 4095, 4096, 50_000, 99_999] {
        let bytes = compress(&mut deflater, true, &payload);
        let result = inflater.message(
            &bytes,
            Context::Keep,
            InflateLimits::new(limit, usize::MAX),
            &mut room,
        );
        let size = limit as u64 + 1;
        assert_eq!(result, Err(ProtocolError::MessageTooBig { size, limit }));
        let mut whole = room[..=limit].to_vec();
        let mut rest = &bytes[inflater.taken() as usize..];
        let mut ended = false;
        while !ended {
            let mut piece = [0; 1000];
            let (made, end) = inflater.piece(&mut rest, true, &mut piece).unwrap();
            whole.extend_from_slice(&piece[..made]);
            ended = end;
        }
        assert!(whole == payload, "{limit}");
    }
}

#[test]
fn a_bomb_in_pieces_costs_a_piece_at_a_time() {
    let mut deflater = Deflater::new(9, 15);
    let bomb = compress(&mut deflater, false, &vec![0; 8 << 20]);
    let mut inflater = Inflater::new();
    inflater.begin(Context::Keep, usize::MAX);
    let mut input = &bomb[..];
    let mut room = [1; 1000];
    assert_eq!(
        inflater.piece(&mut input, true, &mut room),
        Ok((1000, false))
    );
    assert!(input.len() > bomb.len() - 100 && room == [0; 1000]);
    // The ratio applies to the bytes that have arrived so far.
    let chunks: Vec<&[u8]> = bomb.chunks(100).collect();
    let result = expand_pieces(&mut inflater, &chunks, false, 100, &[4096]);
    assert_eq!(result, Err(ProtocolError::RatioTooHigh { limit: 100 }));
    assert!(inflater.taken() <= 700, "{}", inflater.taken());
    let whole = expand_pieces(&mut inflater, &chunks, false, 1100, &[4096]);
    assert_eq!(whole.unwrap().len(), 8 << 20);
}

#[test]
fn parts_that_were_not_sent_are_not_referred_to() {
    let mut deflater = Deflater::new(6, 15);
    let mut inflater = Inflater::new();
    let text = b"a text that comes again, a text that comes again".as_slice();
    let other = b"something else, a text that comes again, and is not sent".as_slice();
    for _ in 0..3 {
        let mut sent = Vec::new();
        for lost in [false, true, true, false] {
            if lost {
                deflater.part(other, &mut Vec::new());
                deflater.forget();
            }
            deflater.part(text, &mut sent);
        }
        deflater.end(b"", &mut Vec::new());
        deflater.end(other, &mut Vec::new());
        deflater.forget();
        deflater.end(text, &mut sent);
        assert_eq!(expand(&mut inflater, &sent).unwrap(), text.repeat(5));
        let whole = compress(&mut deflater, true, text);
        assert_eq!(expand(&mut inflater, &whole).unwrap(), text);
    }
}

#[test]
fn the_end_of_a_message_may_be_empty() {
    let mut deflater = Deflater::new(6, 15);
    let empty = compress_parts(&mut deflater, true, &[b"", b""]);
    assert_eq!(empty, [b"".to_vec(), b"\0".to_vec()]);
    let frames = compress_parts(&mut deflater, true, &[b"Hello", b""]);
    // RFC 7692, 7.2.1: only the end of the message is sent without the tail.
    assert_eq!(frames[0], b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff");
    assert_eq!(frames[1], b"\x00");
    assert_eq!(
        expand(&mut Inflater::new(), &frames.concat()).unwrap(),
        b"Hello"
    );
}

/// Texts with many repetitions, and noise.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = prop::sample::select(vec![
        "{\"id\":",
        "\"name\":",
        "harbour",
        ",",
        "17",
        "\u{e9}t\u{e9}",
        "\n",
    ]);
    let text = prop::collection::vec(word, 0..600).prop_map(|words| words.concat().into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..3000);
    prop::collection::vec(prop_oneof![text, noise], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_compressed_is_expanded(
        messages in messages(), level in 0u32..=9, bits in 9u8..=15, takeover in any::<bool>()
    ) {
        let mut deflater = Deflater::new(level, bits);
        let (mut inflater, mut room) = (Inflater::new(), Vec::new());
        for message in messages {
            let bytes = compress(&mut deflater, takeover, &message);
            prop_assert!(bytes.len() <= message.len() + message.len() / 8 + 64);
            let whole = inflater.message(&bytes, Context::keep_if(takeover), InflateLimits::new(message.len(), usize::MAX), &mut room);
            prop_assert_eq!(whole.unwrap(), message);
        }
    }

    /// A message does not depend on its cuts on either side, and neither do the next ones.
    #[test]
    fn parts_make_the_same_message(
        messages in messages(), level in 0u32..=9, bits in 9u8..=15, takeover in any::<bool>(),
        cuts in prop::collection::vec(any::<usize>(), 0..5),
        wire in prop::collection::vec(any::<usize>(), 0..5),
        rooms in prop::collection::vec(1usize..3000, 1..4),
    ) {
        let mut deflater = Deflater::new(level, bits);
        let (mut inflater, mut room) = (Inflater::new(), Vec::new());
        for (at, message) in messages.iter().enumerate() {
            let parts = cut(message, &cuts);
            let bytes = match at % 3 {
                0 => {
                    let frames = compress_parts(&mut deflater, takeover, &parts);
                    // The peer can inflate each part when it arrives.
                    let mut alone = Inflater::new();
                    alone.begin(Context::Reset, usize::MAX);
                    for (frame, part) in frames.iter().zip(&parts).take(usize::from(!takeover)) {
                        let mut room = vec![0; part.len() + 1];
                        let made = alone.piece(&mut &frame[..], false, &mut room).unwrap();
                        prop_assert!(frame.is_empty() || parts.len() == 1 || made.0 == part.len());
                    }
                    frames.concat()
                }
                1 => {
                    let mut out = Vec::new();
                    prop_assert!(deflater.gathered(&parts, Context::keep_if(takeover), &mut out));
                    out
                }
                _ => compress(&mut deflater, takeover, message),
            };
            if at % 2 == 0 {
                let chunks = cut(&bytes, &wire);
                let ratio = usize::MAX;
                let whole = expand_pieces(&mut inflater, &chunks, takeover, ratio, &rooms);
                prop_assert_eq!(&whole.unwrap(), message);
            } else {
                let whole = inflater.message(&bytes, Context::keep_if(takeover), InflateLimits::new(message.len(), usize::MAX), &mut room);
                prop_assert_eq!(whole.unwrap(), message);
            }
        }
    }

    #[test]
    fn any_bytes_are_taken_in_pieces(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        wire in prop::collection::vec(any::<usize>(), 0..5),
    ) {
        let mut inflater = Inflater::new();
        let chunks = cut(&bytes, &wire);
        let mut left = 1 << 20;
        inflater.begin(Context::Keep, 50);
        'all: for (at, chunk) in chunks.iter().enumerate() {
            let mut input = *chunk;
            loop {
                let mut room = [0; 100];
                let Ok((made, ended)) = inflater.piece(&mut input, at + 1 == chunks.len(), &mut room)
                else {
                    break 'all;
                };
                left -= made;
                if made < room.len() || ended {
                    break;
                }
            }
        }
        prop_assert!(left >= (1 << 20) - (100 * 1024));
    }

    #[test]
    fn any_bytes_are_taken(
        bytes in prop::collection::vec(any::<u8>(), 0..2000), more in prop::collection::vec(any::<u8>(), 0..50)
    ) {
        let (mut inflater, mut room) = (Inflater::new(), Vec::new());
        for bytes in [bytes, more] {
            if let Ok(message) = inflater.message(&bytes, Context::Keep, InflateLimits::new(10_000, 50), &mut room) {
                prop_assert!(message.len() <= 10_000);
            }
            prop_assert!(room.capacity() <= 10_001);
        }
    }
}
