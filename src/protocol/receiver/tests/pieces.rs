//! Messages in pieces, including compressed ones.

use super::*;

/// A message: its kind, its payload, and whether it is compressed.
type Whole = (OpCode, Vec<u8>, bool);

/// Decodes `bytes` with large and fragmented messages in pieces; returns the joined messages and
/// the error, if any.
fn joined(bytes: &[u8], cuts: &[usize]) -> (Vec<Whole>, Option<ProtocolError>) {
    let mut receiver = Receiver::new(&limits(100, 2));
    receiver.allow_compressed(true);
    receiver.allow_pieces(true);
    let mut messages = Vec::new();
    let mut under_way: Option<Whole> = None;
    for mut input in pieces(&mut bytes.to_vec(), cuts) {
        loop {
            let (piece, compressed) = match receiver.next(&mut input) {
                Ok(Some(Message::Piece(piece))) => (piece, false),
                Ok(Some(Message::CompressedPiece(piece))) => (piece, true),
                Ok(Some(Message::Text(text))) => {
                    messages.push((OpCode::Text, text.into(), false));
                    continue;
                }
                Ok(Some(Message::Binary(data))) => {
                    messages.push((OpCode::Binary, data.to_vec(), false));
                    continue;
                }
                Ok(Some(Message::Compressed(opcode, data))) => {
                    messages.push((opcode, data.to_vec(), true));
                    continue;
                }
                Ok(Some(_)) => continue,
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            };
            assert_eq!(piece.first, under_way.is_none());
            let message = under_way.get_or_insert((piece.opcode, Vec::new(), compressed));
            assert_eq!((message.0, message.2), (piece.opcode, compressed));
            message.1.extend_from_slice(piece.payload);
            if piece.last {
                messages.extend(under_way.take());
            }
        }
    }
    (messages, None)
}

#[test]
fn compressed_messages_come_in_pieces_as_well() {
    let bytes = [
        frame(0xc1, b"\xffwhole"),
        frame(0x41, b"\xffa"),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x00, &[b'b'; 200]),
        frame(0x80, b""),
        // The largest compressed size of a message of `max_recv_size` bytes, and one more.
        frame(0xc2, &[1; 176]),
        frame(0xc2, &[1; 177]),
        frame(0x02, b"plain"),
        frame(0x80, b""),
    ]
    .concat();
    let mut fragments = b"\xffa".to_vec();
    fragments.extend([b'b'; 200]);
    let expected = vec![
        (OpCode::Text, b"\xffwhole".to_vec(), true),
        (OpCode::Text, fragments, true),
        (OpCode::Binary, vec![1; 176], true),
        (OpCode::Binary, vec![1; 177], true),
        (OpCode::Binary, b"plain".to_vec(), false),
    ];
    for cut in [1, 2, 7, 100, 1000] {
        let (messages, error) = joined(&bytes, &[cut; 1000]);
        assert_eq!((&messages, error), (&expected, None));
    }
    for (wrong, error) in [
        (
            [frame(0x41, b"a"), frame(0xc0, b"b")],
            ProtocolError::ReservedBits(4),
        ),
        (
            [frame(0x41, b"a"), frame(0xc1, b"b")],
            ProtocolError::ContinuationExpected,
        ),
    ] {
        assert_eq!(joined(&wrong.concat(), &[]).1, Some(error));
    }
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_pieces_put_together(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(1usize..40, 0..200),
    ) {
        let mut bytes = frames.concat();
        for at in 0..frames.len() {
            // Every other frame is marked as compressed, if it begins a message.
            let start: usize = frames[..at].iter().map(Vec::len).sum();
            if at % 2 == 0 && matches!(bytes[start] & 0xf, 1 | 2) {
                bytes[start] |= 0x40;
            }
        }
        prop_assert_eq!(joined(&bytes, &[]), joined(&bytes, &cuts));
    }
}
