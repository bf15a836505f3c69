mod pieces;

use proptest::prelude::*;

use super::*;
use crate::client_frames::frame;
use crate::protocol::CloseCode;

fn limits(max_recv_size: usize, max_fragments: usize) -> Limits {
    Limits {
        max_recv_size,
        max_fragments,
        ..Limits::default()
    }
}

/// Cuts `bytes` into pieces of the sizes in `cuts`, and the rest.
fn pieces<'b>(bytes: &'b mut [u8], cuts: &[usize]) -> Vec<&'b mut [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied();
    while !rest.is_empty() {
        let size = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (piece, behind) = rest.split_at_mut(size);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Decodes `bytes` in pieces of the sizes in `cuts`, then the rest at once; returns the messages as
/// text, up to the first error.
fn events(receiver: &mut Receiver, bytes: &[u8], cuts: &[usize]) -> Vec<String> {
    let mut events = Vec::new();
    for mut input in pieces(&mut bytes.to_vec(), cuts) {
        loop {
            match receiver.next(&mut input) {
                Ok(Some(message)) => events.push(format!("{message:?}")),
                Ok(None) => break,
                Err(error) => events.push(format!("{error:?}")),
            }
        }
        assert!(input.is_empty());
    }
    events
}

fn all(bytes: &[u8]) -> Vec<String> {
    events(&mut Receiver::new(&Limits::default()), bytes, &[])
}

#[test]
fn whole_messages_are_not_copied() {
    let mut bytes = frame(0x82, b"payload");
    let range = bytes.as_ptr_range();
    let mut receiver = Receiver::new(&Limits::default());
    let mut input = &mut bytes[..];
    let Ok(Some(Message::Binary(payload))) = receiver.next(&mut input) else {
        panic!()
    };
    assert_eq!(payload, b"payload");
    assert!(range.contains(&payload.as_ptr()));
    assert!(receiver.decoder.partial.is_none());
}

#[test]
fn control_frames_come_between_fragments() {
    let bytes = [
        frame(0x01, "Hé".as_bytes()),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x8a, b"pong"),
        frame(0x80, b"llo"),
        frame(0x82, b"next"),
    ]
    .concat();
    let expected = [
        "Ping([112, 105, 110, 103])",
        "Pong([112, 111, 110, 103])",
        "Text(\"Héllo\")",
        "Binary([110, 101, 120, 116])",
    ];
    assert_eq!(all(&bytes), expected);
    assert_eq!(
        events(&mut Receiver::new(&Limits::default()), &bytes, &[1; 999]),
        expected
    );
}

#[test]
fn fragments_keep_their_order() {
    assert_eq!(all(&frame(0x80, b"x")), ["ContinuationUnexpected"]);
    assert_eq!(all(&frame(0x00, b"x")), ["ContinuationUnexpected"]);
    let bytes = [frame(0x01, b"a"), frame(0x81, b"b")].concat();
    assert_eq!(all(&bytes), ["ContinuationExpected"]);
    let bytes = [frame(0x02, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat();
    assert_eq!(all(&bytes), ["Binary([97, 98])", "ContinuationUnexpected"]);
}

#[test]
fn bad_text_fails_at_its_first_byte() {
    // The frame announces 1000 bytes; the fifth is wrong, and nothing follows it.
    let whole = frame(0x81, &[b"good\xff".as_slice(), &[b'x'; 995]].concat());
    let mut receiver = Receiver::new(&Limits::default());
    let upto = 8 + 4;
    assert_eq!(events(&mut receiver, &whole[..upto], &[]), [""; 0]);
    assert_eq!(events(&mut receiver, &whole[upto..=upto], &[]), ["BadUtf8"]);

    // A character may be cut by a fragment, but not by the end of the message.
    let bytes = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\xac")].concat();
    assert_eq!(all(&bytes), ["Text(\"€\")"]);
    let bytes = [frame(0x01, b"\xe2"), frame(0x80, b"\x82")].concat();
    assert_eq!(all(&bytes), ["BadUtf8"]);
    assert_eq!(all(&frame(0x81, b"\xe2\x82")), ["BadUtf8"]);
}

#[test]
fn nothing_follows_a_close() {
    let bytes = [
        frame(0x88, b"\x03\xe8bye"),
        frame(0x81, b"late"),
        vec![0xff; 50],
    ]
    .concat();
    let close = CloseFrame {
        code: CloseCode::NORMAL,
        reason: "bye",
    };
    assert_eq!(all(&bytes), [format!("Close({close:?})")]);
    assert_eq!(all(&frame(0x88, b"\x03")), ["BadCloseLength"]);
    assert_eq!(all(&frame(0x88, b"\x03\xed")), ["BadCloseCode(1005)"]);
    assert_eq!(all(&frame(0x88, b"\x03\xe8\xff")), ["BadUtf8"]);
}

#[test]
fn nothing_follows_a_fault() {
    let bytes = [frame(0xc1, b"x"), frame(0x81, b"late")].concat();
    assert_eq!(all(&bytes), ["ReservedBits(4)"]);
    assert_eq!(
        events(&mut Receiver::new(&Limits::default()), &bytes, &[1; 99]),
        ["ReservedBits(4)"]
    );
}

#[test]
fn size_is_checked_at_the_header() {
    let exact = frame(0x82, &[7; 10]);
    let mut receiver = Receiver::new(&limits(10, 10));
    assert_eq!(events(&mut receiver, &exact, &[]).len(), 1);

    let header = &frame(0x82, &[7; 11])[..6];
    let mut receiver = Receiver::new(&limits(10, 10));
    assert_eq!(
        events(&mut receiver, header, &[]),
        ["MessageTooBig { size: 11, limit: 10 }"]
    );

    // The limit applies to the sum of all fragments.
    let bytes = [frame(0x02, &[7; 6]), frame(0x80, &[7; 5])[..6].to_vec()].concat();
    let mut receiver = Receiver::new(&limits(10, 10));
    assert_eq!(
        events(&mut receiver, &bytes, &[]),
        ["MessageTooBig { size: 11, limit: 10 }"]
    );

    for len in [1 << 31, (1 << 31) + 1, 1 << 32, 1u64 << 62, i64::MAX as u64] {
        let mut bytes = frame(0x02, b"first");
        Header {
            fin: true,
            rsv: 0,
            opcode: OpCode::Continuation,
            mask: Some([0; 4]),
            len,
        }
        .encode(&mut bytes);
        let size = len.saturating_add(5);
        assert_eq!(
            all(&bytes),
            [format!("MessageTooBig {{ size: {size}, limit: 65536 }}")]
        );
    }
}

#[test]
fn a_huge_announcement_costs_nothing_without_a_limit() {
    let mut bytes = Vec::new();
    let len = 1 << 62;
    Header {
        fin: true,
        rsv: 0,
        opcode: OpCode::Binary,
        mask: Some([0; 4]),
        len,
    }
    .encode(&mut bytes);
    bytes.extend_from_slice(b"only this");
    let mut receiver = Receiver::new(&limits(usize::MAX, 10));
    assert_eq!(events(&mut receiver, &bytes, &[]), [""; 0]);
    assert!(receiver.is_partial());
    assert_eq!(
        receiver.landing().map(|landing| landing.len()),
        Some(Assembly::LANDING_MIN)
    );
}

#[test]
fn a_cut_leaves_nothing_behind() {
    let (text, ping) = (frame(0x81, b"hello"), frame(0x89, b"hello"));
    for cut in 1..text.len() {
        for bytes in [&text, &ping] {
            let mut receiver = Receiver::new(&limits(10, 10));
            assert_eq!(events(&mut receiver, bytes, &[cut]).len(), 1);
            assert!(
                !receiver.is_partial() && receiver.decoder.is_idle(),
                "{cut}"
            );
        }
        // Between fragments the message is kept.
        let bytes = [&frame(0x01, b"a")[..], &ping, &frame(0x80, b"b")].concat();
        let mut receiver = Receiver::new(&limits(10, 10));
        let seen = events(&mut receiver, &bytes, &[7 + cut]);
        assert_eq!(seen, ["Ping([104, 101, 108, 108, 111])", "Text(\"ab\")"]);
        assert!(receiver.decoder.is_idle(), "{cut}");
    }
}

#[test]
fn fragments_are_counted() {
    let bytes = [frame(0x01, b""), frame(0x00, b""), frame(0x80, b"x")].concat();
    assert_eq!(
        events(&mut Receiver::new(&limits(10, 3)), &bytes, &[]),
        ["Text(\"x\")"]
    );
    let mut receiver = Receiver::new(&limits(10, 2));
    assert_eq!(
        events(&mut receiver, &bytes, &[]),
        ["TooManyFragments { limit: 2 }"]
    );

    // A million empty fragments cost no memory.
    let mut receiver = Receiver::new(&limits(10, usize::MAX));
    let mut bytes = frame(0x01, b"");
    bytes.extend(frame(0x00, b"").repeat(1_000_000));
    assert_eq!(events(&mut receiver, &bytes, &[]), [""; 0]);
    assert_eq!(
        receiver
            .decoder
            .partial
            .as_deref()
            .map(|partial| partial.assembly.len()),
        Some(0)
    );
}

#[test]
fn large_frames_land_in_their_message() {
    let payload: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    let bytes = frame(0x82, &payload);
    let mut receiver = Receiver::new(&limits(usize::MAX, 10));
    assert!(receiver.landing().is_none());
    assert_eq!(events(&mut receiver, &bytes[..1000], &[]), [""; 0]);
    let mut at = 1000;
    while let Some(landing) = receiver.landing() {
        // Odd sizes, so that the mask has to be rotated.
        let size = landing.len().min(bytes.len() - at).min(10_007);
        landing[..size].copy_from_slice(&bytes[at..at + size]);
        receiver.landed(size);
        at += size;
    }
    assert!(bytes.len() - at < Assembly::LANDING_MIN);
    let mut rest = bytes[at..].to_vec();
    let mut input = &mut rest[..];
    assert_eq!(
        receiver.next(&mut input),
        Ok(Some(Message::Binary(&payload)))
    );
    assert_eq!(receiver.next(&mut input), Ok(None));
    assert!(receiver.decoder.partial.is_none());
}

#[test]
fn a_frame_may_end_with_the_landing() {
    let text = "é".repeat(50_000);
    let bytes = frame(0x81, text.as_bytes());
    let mut receiver = Receiver::new(&limits(usize::MAX, 10));
    assert_eq!(events(&mut receiver, &bytes[..15], &[]), [""; 0]);
    let mut at = 15;
    while let Some(landing) = receiver.landing() {
        let size = landing.len();
        landing.copy_from_slice(&bytes[at..at + size]);
        receiver.landed(size);
        at += size;
    }
    assert_eq!(
        events(&mut receiver, &bytes[at..], &[3; 99_999]),
        [format!("Text({text:?})")]
    );

    let mut receiver = Receiver::new(&limits(usize::MAX, 10));
    assert_eq!(events(&mut receiver, &bytes[..15], &[]), [""; 0]);
    receiver.landing().expect("large")[0] = bytes[15] ^ 0xff;
    receiver.landed(1);
    assert_eq!(events(&mut receiver, &bytes[16..], &[]), ["BadUtf8"]);
}

#[test]
fn a_failed_text_has_no_landing() {
    let bytes = frame(0x81, &[0xff; 300_000]);
    let mut receiver = Receiver::new(&limits(usize::MAX, 10));
    assert_eq!(events(&mut receiver, &bytes[..15], &[]), ["BadUtf8"]);
    assert!(receiver.landing().is_none());
    receiver.landed(100);
    assert_eq!(events(&mut receiver, &bytes, &[]), [""; 0]);
}

#[test]
fn landed_fragments_are_checked_when_their_frame_is_whole() {
    let text = "é".repeat(50_000);
    let (first, last) = text.as_bytes().split_at(99_999);
    for wrong in [false, true] {
        let mut bytes = [frame(0x01, first), frame(0x89, b"p"), frame(0x80, last)].concat();
        bytes[50_000] ^= u8::from(wrong) << 7;
        let mut receiver = Receiver::new(&limits(usize::MAX, 10));
        assert_eq!(events(&mut receiver, &bytes[..15], &[]), [""; 0]);
        let size = receiver.landing().expect("large").len();
        receiver
            .landing()
            .expect("large")
            .copy_from_slice(&bytes[15..15 + size]);
        receiver.landed(size);
        let expected = match wrong {
            false => vec!["Ping([112])".to_owned(), format!("Text({text:?})")],
            true => vec!["BadUtf8".to_owned()],
        };
        assert_eq!(events(&mut receiver, &bytes[15 + size..], &[]), expected);
    }
}

#[test]
fn a_large_message_is_expected_after_a_large_one() {
    let bounds = Bounds::new(1 << 20, 10);
    let mut pool = Pool::default();
    let mut decoder = Decoder::default();
    let payload: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
    let bytes = frame(0x82, &payload);
    let mut receive = |decoder: &mut Decoder, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        let size = match decoder.next(&mut input, bounds) {
            Ok(Some(Message::Binary(payload))) => Some(payload.len()),
            Ok(None) => None,
            other => panic!("{other:?}"),
        };
        decoder.recycle(&mut pool);
        size
    };
    assert_eq!(receive(&mut decoder, &bytes), Some(200_000));
    assert_eq!(decoder.expects(), None, "it was whole in one input");
    assert_eq!(receive(&mut decoder, &bytes[..100_000]), None);
    assert_eq!(decoder.expects(), None, "one is under way");
    assert_eq!(receive(&mut decoder, &bytes[100_000..]), Some(200_000));
    assert_eq!(decoder.expects(), Some(200_000));

    let head = bytes.first_chunk().expect("a large header");
    let mut body = vec![0; 200_000];
    body[..150_000].copy_from_slice(&bytes[14..150_014]);
    assert!(decoder.begin_with_buffer(head, &mut body, 150_000, bounds));
    assert!(body.is_empty() && decoder.expects().is_none());
    let mut rest = bytes[150_014..].to_vec();
    let mut input = &mut rest[..];
    let whole = decoder.next(&mut input, bounds);
    assert_eq!(whole, Ok(Some(Message::Binary(&payload))));
    decoder.recycle(&mut pool);

    // None of these begins a large message.
    let others = [
        frame(0x82, &[7; 60_000]),
        frame(0x8a, &[7; 100]),
        frame(0x80, &payload),
        frame(0x82, &vec![0; (1 << 20) + 1]),
    ];
    for bytes in others {
        let mut decoder = Decoder {
            large: 200_000,
            ..Decoder::default()
        };
        let mut body = vec![0; 200_000];
        let head = bytes.first_chunk().expect("a header");
        assert!(!decoder.begin_with_buffer(head, &mut body, 70_000, bounds));
        assert!(body.len() == 200_000 && decoder.is_idle());
    }
    // A large buffer would be out of proportion to the few bytes that arrived.
    let mut decoder = Decoder {
        large: 200_000,
        ..Decoder::default()
    };
    assert!(!decoder.begin_with_buffer(head, &mut vec![0; 200_000], 10, bounds));
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x00, 0x89, 0x8a, 0x81, 0x82, 0x89, 0xc1,
    ]);
    let payload = prop_oneof![
        4 => any::<String>().prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..100),
        1 => prop::collection::vec(any::<u8>(), 0..400),
    ];
    (first, payload).prop_map(|(first, mut payload)| {
        if first & 0x8 != 0 {
            payload.truncate(125);
        }
        frame(first, &payload)
    })
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_messages(
        frames in prop::collection::vec(any_frame(), 0..12),
        close in any::<Option<u16>>(),
        cuts in prop::collection::vec(1usize..40, 0..200),
    ) {
        let mut bytes = frames.concat();
        if let Some(code) = close {
            bytes.extend(frame(0x88, &code.to_be_bytes()));
        }
        let whole = events(&mut Receiver::new(&limits(300, 4)), &bytes, &[]);
        let cut = events(&mut Receiver::new(&limits(300, 4)), &bytes, &cuts);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn any_bytes_are_taken(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(1usize..40, 0..50),
    ) {
        let whole = events(&mut Receiver::new(&Limits::default()), &bytes, &[]);
        let cut = events(&mut Receiver::new(&Limits::default()), &bytes, &cuts);
        prop_assert_eq!(whole, cut);
    }
}

#[test]
fn a_message_s_beginning_is_known_whenever_it_was() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    for begun in [
        0,
        1,
        1 << 32,
        (1 << 32) - 1,
        (7 << 32) + 5,
        49 * DAY,
        400 * DAY,
    ] {
        let mut decoder = Decoder::default();
        let bounds = Bounds::new(1000, 1000);
        let still = |_, _| panic!("nothing came since it was looked at");
        decoder.look(begun, still);
        assert_eq!(decoder.since(begun), None);
        let mut bytes = frame(0x81, b"12345");
        let (first, rest) = bytes.split_at_mut(8);
        assert_eq!(decoder.next(&mut &mut *first, bounds), Ok(None));
        assert_eq!(decoder.since(begun), None);
        // A mark of zero is raised to one, so a millisecond may be lost.
        let about = |time: Option<u64>| time.is_some_and(|time| time.abs_diff(begun) <= 1);
        decoder.look(begun, still);
        assert!(about(decoder.since(begun)), "{begun}");
        for later in [1, 60_000, DAY, 20 * DAY] {
            decoder.look(begun + later, still);
            assert!(about(decoder.since(begun + later)), "{begun} {later}");
        }
        // Time in which the connection is not read does not count.
        decoder.stall(begun + 2_000);
        decoder.stall(begun + 3_000);
        assert_eq!(decoder.since(begun + 5_000), None);
        decoder.unstall(begun + 9_000);
        decoder.unstall(begun + 9_500);
        let since = decoder.since(begun + 9_500).unwrap();
        assert!(since.abs_diff(begun + 7_000) <= 2, "{since}");
        // Bytes that arrive move the start, as the caller decides.
        let (more, mut rest) = rest.split_at_mut(2);
        assert_eq!(decoder.next(&mut &mut *more, bounds), Ok(None));
        decoder.look(begun + 9_500, |since, came| since + 100 * came);
        let moved = decoder.since(begun + 9_500).unwrap();
        assert!(moved.abs_diff(since + 200) <= 2, "{moved}");
        let message = decoder.next(&mut rest, bounds);
        assert_eq!(message, Ok(Some(Message::Text("12345"))));
    }
}
