//! Tests of the fast path.

use super::*;
use crate::client_frames;
use crate::limits::Limits;
use crate::protocol::{Message, OpCode, Receiver};
use proptest::prelude::*;

/// Encodes a client's frame, followed by more bytes.
fn frame(first: u8, payload: &[u8], behind: &[u8]) -> Vec<u8> {
    [&client_frames::frame(first, payload), behind].concat()
}

#[test]
fn only_short_whole_messages_are_taken() {
    let mut pad = Pad::default();
    let mut taken = |bytes: &[u8], end: usize, max: usize| {
        take_short(bytes, 0, end, max, &mut pad).map(|short| SHORT_HEAD + short.len())
    };
    let hello = frame(0x81, b"Hello", &[0xee; 180]);
    assert_eq!(taken(&hello, 11, 5), Some(11));
    assert_eq!(taken(&hello, hello.len(), 5), Some(11));
    assert_eq!(taken(&hello, 10, 5), None, "cut");
    assert_eq!(taken(&hello, 11, 4), None, "above the limit");
    assert_eq!(taken(&hello[..11], 11, 5), None, "no block to read");
    assert_eq!(taken(&[], 0, 5), None);
    let unmasked = [&[0x81, 0x05], &[b'x'; 180][..]].concat();
    assert_eq!(taken(&unmasked, 60, 99), None);
    for first in [0x80, 0x89, 0x8a, 0x88, 0x01, 0x02] {
        let bytes = frame(first, b"Hello", &[0; 180]);
        assert_eq!(taken(&bytes, 11, 99), None, "{first:#x}");
    }
    let reserved = [&[0xc1, 0x85], &[0; 180][..]].concat();
    assert_eq!(taken(&reserved, 60, 99), None);
    let long = frame(0x82, &[7; 126], &[0; 180]);
    assert_eq!(taken(&long, long.len(), 999), None);
}

#[test]
fn whole_messages_of_any_size_are_taken() {
    for (first, opcode) in [(0x81, OpCode::Text), (0x82, OpCode::Binary)] {
        for len in [2, 125, 126, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let mut bytes = frame(first, &payload, b"behind");
            let end = bytes.len() - 6;
            assert_eq!(take_whole(&mut &mut bytes[..end - 1], len), None, "cut");
            assert_eq!(
                take_whole(&mut &mut bytes[..], len - 1),
                None,
                "above the limit"
            );
            let mut input = &mut bytes[..];
            let taken = take_whole(&mut input, len);
            assert!(taken == Some((opcode, &mut payload.clone()[..])), "{len}");
            assert_eq!(input, b"behind");
        }
    }
    let others: [&[u8]; 9] = [
        b"",
        b"\x81\x02keyhi",
        b"\x81\x82key",
        b"\x01\x82keys__",
        b"\x80\x82keys__",
        b"\x89\x82keys__",
        b"\xc1\x82keys__",
        b"\x81\xfe\x00\x02keys__",
        b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x02keys__",
    ];
    for other in others {
        let mut bytes = other.to_vec();
        let mut input = &mut bytes[..];
        assert_eq!(take_whole(&mut input, 99), None, "{other:x?}");
        assert_eq!(input, other, "nothing is taken");
    }
    let mut endless = *b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffkeys__";
    assert_eq!(take_whole(&mut &mut endless[..], usize::MAX), None);
}

#[test]
fn text_must_be_utf8_to_its_last_byte() {
    let mut pad = Pad::default();
    // The bytes after the message do not complete its last character.
    for text in [&b"\xe2\x82"[..], b"aaaaaaaaaaaaaaa\xc3", b"\xff", b"ab\x80"] {
        let bytes = frame(0x81, text, &[0xac; 180]);
        assert!(take_short(&bytes, 0, bytes.len(), 99, &mut pad).is_none());
    }
}

proptest! {
    /// The fast path takes the message that the decoder finds in the same bytes.
    #[test]
    fn the_decoder_finds_the_same(
        payload in prop_oneof![
            any::<String>().prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..130),
        ],
        text: bool,
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let first = if text { 0x81 } else { 0x82 };
        let mut bytes = frame(first, &payload, &behind);
        let mut pad = Pad::default();
        let room = bytes.len();
        bytes.extend_from_slice(&[0xdd; 180]);
        let short = take_short(&bytes, 0, room, 4096, &mut pad);
        let mut receiver = Receiver::new(&Limits::default());
        let mut clear = bytes.clone();
        let mut input = &mut clear[..room];
        let whole = receiver.next(&mut input);
        match short {
            Some(short) => {
                prop_assert_eq!(SHORT_HEAD + short.len(), room - input.len());
                let message = match short {
                    Short::Binary(bytes) => Message::Binary(bytes),
                    Short::Text(text) => Message::Text(text),
                };
                prop_assert_eq!(Ok(Some(message)), whole);
            }
            None => prop_assert!(payload.len() > 125 || whole.is_err()),
        }
    }

    /// A batch takes the same messages as taking them one by one.
    #[test]
    fn a_batch_is_its_messages(
        payloads in prop::collection::vec(
            prop_oneof![
                3 => any::<String>().prop_map(|text| (false, text.into_bytes())),
                1 => prop::collection::vec(any::<u8>(), 0..130).prop_map(|bytes| (true, bytes)),
                1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| (false, bytes)),
            ],
            0..80,
        ),
    ) {
        let frames = payloads.iter().map(|(binary, payload)| {
            let first = if *binary { 0x82 } else { 0x81 };
            frame(first, payload, &[])
        });
        let mut bytes = frames.collect::<Vec<_>>().concat();
        let end = bytes.len();
        bytes.extend_from_slice(&[0xdd; 180]);
        let (mut batch, mut pad) = (Batch::default(), Pad::default());
        let mut at = 0;
        while at < end {
            let first = take_short(&bytes, at, end, 4096, &mut pad).map(|short| short.len());
            match batch.fill(&bytes, at, end, 4096, 20) {
                Some(Shorts::Binary(all, lens)) => {
                    prop_assert!(!lens.is_empty() && lens.len() <= 20);
                    let mut rest = all;
                    for len in lens {
                        let (payload, next) = rest.split_at(usize::from(*len));
                        let short = take_short(&bytes, at, end, 4096, &mut pad);
                        prop_assert_eq!(short, Some(Short::Binary(payload)));
                        rest = next;
                        at += SHORT_HEAD + payload.len();
                    }
                    prop_assert!(rest.is_empty());
                }
                Some(Shorts::Text(all, lens)) => {
                    prop_assert!(!lens.is_empty() && lens.len() <= 20);
                    let mut rest = all;
                    for len in lens {
                        let short = take_short(&bytes, at, end, 4096, &mut pad);
                        let Some((payload, next)) = rest.split_at_checked(usize::from(*len))
                        else {
                            prop_assert!(short.is_none(), "no text by itself");
                            return Ok(());
                        };
                        prop_assert_eq!(short, Some(Short::Text(payload)));
                        rest = next;
                        at += SHORT_HEAD + payload.len();
                    }
                    prop_assert!(rest.is_empty());
                }
                // One of the messages is invalid, which the decoder reports, or the first is
                // longer.
                None => match first {
                    Some(len) => at += SHORT_HEAD + len,
                    None => return Ok(()),
                },
            }
        }
    }
}
