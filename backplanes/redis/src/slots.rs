//! Slots of a Redis Cluster, and the keys that lie in the slot of a channel.

/// Returns the slot of a key or channel: CRC-16 (XMODEM) of its tag, if it has one.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let hashed = tag(key).unwrap_or(key);
    crc16(hashed) % COUNT
}

/// Returns the part between the first `{` and the next `}`, if it is not empty.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let from = key.iter().position(|byte| *byte == b'{')? + 1;
    let size = key.get(from..)?.iter().position(|byte| *byte == b'}')?;
    key.get(from..from + size).filter(|tag| !tag.is_empty())
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let mixed = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(mixed, |crc: u16, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

/// Returns a tag with the slot of this channel, for its keys.
pub(crate) fn tag_for(channel: &str) -> String {
    if let Some(tag) = tag(channel.as_bytes()).and_then(|tag| std::str::from_utf8(tag).ok()) {
        return tag.into();
    }
    if !channel.contains(['{', '}']) && !channel.is_empty() {
        return channel.into();
    }
    // The channel cannot stand in braces: a number that hashes to the same slot can.
    let wanted = slot(channel.as_bytes());
    with_slot(String::new(), "", |slot| slot == wanted)
}

/// Appends the smallest number to `start`, with `end` after it, whose slot is wanted.
pub(crate) fn with_slot(start: String, end: &str, is_wanted: impl Fn(u16) -> bool) -> String {
    let numbered = (0u32..1 << 24).map(|number| format!("{start}{number}{end}"));
    let mut fitting = numbered.filter(|name| is_wanted(slot(name.as_bytes())));
    // Each slot has about a thousand of these numbers.
    fitting.next().unwrap_or(start)
}

/// The number of slots.
pub(crate) const COUNT: u16 = 16384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % COUNT);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn keys_lie_in_the_slot_of_their_channel() {
        for channel in [
            "wsloop:news",
            "a{b}c",
            "a{{b}c",
            "a}b",
            "{}",
            "a{",
            "a{}b{c}",
        ] {
            let key = format!("{{{}}}:{channel}", tag_for(channel));
            assert_eq!(slot(key.as_bytes()), slot(channel.as_bytes()), "{channel}");
        }
    }
}
