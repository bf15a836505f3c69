//! The form in which a message of a topic travels through an engine.
//!
//! ```text
//! FF 57 4C 01   mark: FF is in no text, then "WL" and the version
//! flags         1 byte: binary 01, compressed 02, not compressed 04, with a key 08
//! node          8 bytes, big-endian: a random number of the process, new at each start
//! series        varint: the numbering of the topic in that process
//! number        varint: counts the messages of the topic in the series, from 1 on
//! dropped       varint: messages of the topic just before it that the process had to drop
//! key           if there is one: varint of its size, and its bytes
//! payload       the rest
//! ```
//!
//! A varint has 7 bits in each byte, the lowest first; the top bit says that another byte follows.

use crate::backplane::TopicMessage;
use crate::protocol::{Compress, OpCode, Prepared};

/// Where a message comes from.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The process, by a random number that is new at each start.
    pub node: u64,
    /// The numbering of the topic in the process. It changes when the process forgets the topic.
    pub series: u64,
    /// The number of the message in the series, from 1 on.
    pub number: u64,
    /// How many messages of the topic just before this one the process had to drop.
    pub dropped: u64,
}

impl Origin {
    /// Creates an origin without dropped messages.
    pub const fn new(node: u64, series: u64, number: u64) -> Self {
        Self {
            node,
            series,
            number,
            dropped: 0,
        }
    }
}

/// A payload from an engine.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A message of a node, with its origin.
    Message(TopicMessage, Origin),
    /// A payload without an envelope, from another program.
    Foreign(TopicMessage),
    /// The payload has the mark of an envelope and is malformed, or of a later version.
    Malformed,
}

/// Puts a message into an envelope.
pub fn encode(message: &TopicMessage, origin: &Origin) -> Vec<u8> {
    let prepared = message.message();
    let payload = prepared.payload();
    let key = message.message_key();
    let mut flags = match prepared.compression() {
        Compress::Auto => 0,
        Compress::Yes => COMPRESSED,
        Compress::No => NOT_COMPRESSED,
    };
    if prepared.opcode() == OpCode::Binary {
        flags |= BINARY;
    }
    if key.is_some() {
        flags |= KEY;
    }
    let size = MARK.len() + HEAD_MAX + key.map_or(0, <[u8]>::len) + payload.len();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&MARK);
    bytes.push(flags);
    bytes.extend_from_slice(&origin.node.to_be_bytes());
    for number in [origin.series, origin.number, origin.dropped] {
        put(&mut bytes, number);
    }
    if let Some(key) = key {
        put(&mut bytes, key.len() as u64);
        bytes.extend_from_slice(key);
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// Reads a payload from an engine.
pub fn decode(topic: &str, bytes: &[u8]) -> Decoded {
    match bytes.strip_prefix(&MARK[..MARK.len() - 1]) {
        None => Decoded::Foreign(TopicMessage::from_payload(topic, bytes)),
        Some(rest) => match read(topic, rest) {
            Some((message, origin)) => Decoded::Message(message, origin),
            None => Decoded::Malformed,
        },
    }
}

fn read(topic: &str, mut rest: &[u8]) -> Option<(TopicMessage, Origin)> {
    let rest = &mut rest;
    let [version, flags] = *take(rest, 2)? else {
        return None;
    };
    let known = BINARY | COMPRESSED | NOT_COMPRESSED | KEY;
    if version != MARK[3] || flags & !known != 0 {
        return None;
    }
    let node = u64::from_be_bytes(take(rest, 8)?.try_into().ok()?);
    let origin = Origin {
        node,
        series: number(rest)?,
        number: number(rest)?,
        dropped: number(rest)?,
    };
    let key = match flags & KEY {
        0 => None,
        _ => {
            let size = number(rest)?;
            Some(take(rest, usize::try_from(size).ok()?)?)
        }
    };
    let message = match flags & BINARY {
        0 => Prepared::text(simdutf8::basic::from_utf8(rest).ok()?),
        _ => Prepared::binary(rest),
    };
    let compress = match flags & (COMPRESSED | NOT_COMPRESSED) {
        0 => Compress::Auto,
        COMPRESSED => Compress::Yes,
        _ => Compress::No,
    };
    let message = TopicMessage::new(topic, message.compress(compress));
    let message = match key {
        Some(key) => message.key(key),
        None => message,
    };
    Some((message, origin))
}

/// Takes the first bytes; `None` if there are fewer.
fn take<'b>(bytes: &mut &'b [u8], size: usize) -> Option<&'b [u8]> {
    let (first, rest) = bytes.split_at_checked(size)?;
    *bytes = rest;
    Some(first)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(bytes, 1)? else {
            return None;
        };
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The mark of an envelope, with the version as its last byte.
const MARK: [u8; 4] = [0xff, b'W', b'L', 1];

const BINARY: u8 = 1;
const COMPRESSED: u8 = 2;
const NOT_COMPRESSED: u8 = 4;
const KEY: u8 = 8;

/// Most bytes of flags, node and four varints.
const HEAD_MAX: usize = 1 + 8 + 4 * 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(message: &TopicMessage) -> &[u8] {
        message.message().frame()
    }

    #[test]
    fn the_form_is_as_documented() {
        let message = TopicMessage::new("a", Prepared::binary(b"payload")).key(*b"key");
        let origin = Origin {
            dropped: 2,
            ..Origin::new(0x0102_0304_0506_0708, 1, 300)
        };
        assert_eq!(
            encode(&message, &origin),
            b"\xffWL\x01\x09\x01\x02\x03\x04\x05\x06\x07\x08\x01\xac\x02\x02\x03keypayload"
        );
    }

    #[test]
    fn payloads_of_other_programs_are_texts_or_binary() {
        let Decoded::Foreign(text) = decode("a", "grün".as_bytes()) else {
            panic!("it has no mark");
        };
        assert_eq!(frame(&text), Prepared::text("grün").frame());
        for bytes in [&b"\xff"[..], b"\xffW", b"\xfe\xff"] {
            let Decoded::Foreign(binary) = decode("a", bytes) else {
                panic!("it has no mark");
            };
            assert_eq!(frame(&binary), Prepared::binary(bytes).frame());
        }
    }

    #[test]
    fn malformed_envelopes_are_recognised() {
        let message = TopicMessage::new("a", Prepared::text("x")).key(*b"key");
        let whole = encode(&message, &Origin::new(1, 2, 3));
        for size in 3..whole.len() - 1 {
            assert!(
                matches!(decode("a", &whole[..size]), Decoded::Malformed),
                "{size}"
            );
        }
        let mut later = whole.clone();
        later[3] = 2;
        let mut flags = whole.clone();
        flags[4] |= 0x80;
        let mut text = whole;
        *text.last_mut().expect("the payload") = 0xff;
        let mut large = b"\xffWL\x01\x00\0\0\0\0\0\0\0\0".to_vec();
        large.extend_from_slice(&[0xff; 10]);
        for bytes in [later, flags, text, large] {
            assert!(
                matches!(decode("a", &bytes), Decoded::Malformed),
                "{bytes:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            payload: Vec<u8>,
            key: Option<Vec<u8>>,
            node: u64,
            series: u64,
            number: u64,
            dropped: u64,
        ) {
            let mut message = TopicMessage::new("a", Prepared::binary(&payload));
            if let Some(key) = &key {
                message = message.key(key.as_slice());
            }
            let origin = Origin { node, series, number, dropped };
            let Decoded::Message(decoded, from) = decode("a", &encode(&message, &origin)) else {
                panic!("it is well-formed");
            };
            prop_assert_eq!(from, origin);
            prop_assert_eq!(frame(&decoded), frame(&message));
            prop_assert_eq!(decoded.message_key(), key.as_deref());
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>) {
            let _ = decode("a", &bytes);
            let _ = decode("a", &[&MARK[..], &bytes].concat());
        }
    }
}
