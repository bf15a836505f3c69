//! Histories of topics: keys, scripts, and the form of a message with its position.

use std::time::Duration;

use redis::{Cmd, Script, Value};
use wsloop::Position;
use wsloop::backplane::TopicMessage;
use wsloop::backplane::node::{Decoded, Origin, decode};
use wsloop::backplane::{Recover, Since};

use crate::slots;

/// The scripts, by their hashes. Servers load them when the connection is made.
pub(crate) struct Scripts {
    append: Script,
    recover: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            append: Script::new(include_str!("history/append.lua")),
            recover: Script::new(include_str!("history/recover.lua")),
        }
    }

    /// Returns the commands that load the scripts.
    pub(crate) fn load(&self) -> [Cmd; 2] {
        [
            include_str!("history/append.lua"),
            include_str!("history/recover.lua"),
        ]
        .map(|code| {
            let mut cmd = redis::cmd("SCRIPT");
            cmd.arg("LOAD").arg(code);
            cmd
        })
    }

    /// Returns the command that appends and publishes a message.
    pub(crate) fn append(&self, keys: &Keys, message: &Message<'_>) -> Cmd {
        let Message {
            origin,
            payload,
            settings: (most, age),
            epoch,
            run,
            publish,
        } = message;
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.append.get_hash())
            .arg(2)
            .arg(&keys.state)
            .arg(&keys.messages)
            .arg(&keys.channel)
            .arg(payload)
            .arg(*most)
            .arg(millis(*age))
            .arg(run)
            .arg(format!("{epoch:016x}"))
            .arg(format!("{:x}", origin.node))
            .arg(origin.series)
            .arg(origin.number)
            .arg(u8::from(origin.dropped > 0))
            .arg(publish);
        cmd
    }

    /// Returns the command that reads what a client missed.
    pub(crate) fn recover(&self, keys: &Keys, request: &Recover, run: &str) -> Cmd {
        let (most, age) = request.history();
        let (epoch, count) = match request.since() {
            Since::Position(position) => (format!("{:016x}", position.epoch()), position.offset()),
            Since::Recent(count) => (String::new(), count as u64),
            // A later version asks for something else: the answer is empty.
            _ => (String::new(), 0),
        };
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.recover.get_hash())
            .arg(2)
            .arg(&keys.state)
            .arg(&keys.messages)
            .arg(epoch)
            .arg(count)
            .arg(most)
            .arg(millis(age))
            .arg(run);
        cmd
    }
}

/// A message for a history.
pub(crate) struct Message<'m> {
    pub(crate) origin: Origin,
    /// The envelope.
    pub(crate) payload: Vec<u8>,
    /// The most messages, and their age.
    pub(crate) settings: (usize, Duration),
    /// A random number, if the topic needs an epoch.
    pub(crate) epoch: u64,
    /// The random number of the server's process.
    pub(crate) run: &'m str,
    /// The command for publishing.
    pub(crate) publish: &'static str,
}

/// The channel of a topic and the keys of its history, all in the same slot of a cluster.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) channel: String,
    pub(crate) state: String,
    messages: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, topic: &str) -> Self {
        let channel = format!("{prefix}{topic}");
        let tag = slots::tag_for(&channel);
        let rest = if tag == channel { "" } else { topic };
        let start = own(prefix);
        Self {
            state: format!("{start}{{{tag}}}{rest}:state"),
            messages: format!("{start}{{{tag}}}{rest}:messages"),
            channel,
        }
    }
}

/// Returns the beginning of the keys, if braces in it do not hide the tag.
fn own(prefix: &str) -> String {
    match prefix.contains(['{', '}']) {
        true => String::new(),
        false => format!("{prefix}history:"),
    }
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).map_or(AGE_MAX, |age| age.clamp(1, AGE_MAX))
}

/// Splits a payload into the position, if it has one, and the envelope.
pub(crate) fn split(payload: &[u8]) -> (Option<Position>, &[u8]) {
    read(payload).map_or((None, payload), |(position, rest)| (Some(position), rest))
}

fn read(payload: &[u8]) -> Option<(Position, &[u8])> {
    let rest = payload.strip_prefix(MARK)?;
    let (epoch, rest) = rest.split_at_checked(16)?;
    let colon = rest.iter().take(20).position(|byte| *byte == b':')?;
    let (offset, rest) = (rest.get(..colon)?, rest.get(colon + 1..)?);
    let epoch = u64::from_str_radix(std::str::from_utf8(epoch).ok()?, 16).ok()?;
    let offset = std::str::from_utf8(offset).ok()?.parse().ok()?;
    Some((Position::new(epoch, offset), rest))
}

/// Reads the position that a topic has reached from its state: epoch, offset and run.
pub(crate) fn position(value: &Value, run: &str) -> Option<Position> {
    let Value::Array(fields) = value else {
        return None;
    };
    let [epoch, offset, known] = fields.as_slice() else {
        return None;
    };
    if text(known)? != run {
        // The next message begins an epoch.
        return None;
    }
    let epoch = u64::from_str_radix(text(epoch)?, 16).ok()?;
    Some(Position::new(epoch, text(offset)?.parse().ok()?))
}

/// Reads the answer of the script; `None` is a gap. Messages of `node` with a later number than
/// `until` are left out.
pub(crate) fn messages(
    topic: &str,
    value: &Value,
    node: u64,
    until: (u64, u64),
) -> Option<Vec<TopicMessage>> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [epoch, Value::Array(entries)] = parts.as_slice() else {
        return None;
    };
    if entries.is_empty() {
        return Some(Vec::new());
    }
    let epoch = u64::from_str_radix(text(epoch)?, 16).ok()?;
    let mut messages = Vec::with_capacity(entries.len());
    for entry in entries.iter().rev() {
        let Value::Array(entry) = entry else {
            return None;
        };
        let [id, Value::Array(fields)] = entry.as_slice() else {
            return None;
        };
        let [_, Value::BulkString(envelope)] = fields.as_slice() else {
            return None;
        };
        let (_, offset) = text(id)?.split_once('-')?;
        let position = Position::new(epoch, offset.parse().ok()?);
        match decode(topic, envelope) {
            Decoded::Message(_, origin)
                if origin.node == node && (origin.series, origin.number) > until => {}
            Decoded::Message(message, _) => messages.push(message.at(position)),
            // Only nodes append, so an entry that cannot be read is a loss.
            _ => return None,
        }
    }
    Some(messages)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The mark of a message with a position. An envelope follows, or a payload of another program.
const MARK: &[u8] = b"\xffWH\x01";

/// The longest age: ten years.
const AGE_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stand_in_front_of_the_envelope() {
        let payload = b"\xffWH\x010000000000000abc12:rest";
        let expected = (Some(Position::new(0xabc, 12)), &b"rest"[..]);
        assert_eq!(split(payload), expected);
        let malformed = [
            &b"\xffWH\x01"[..],
            b"\xffWH\x010000000000000abc12",
            b"it rains",
            b"",
        ];
        for other in malformed {
            assert_eq!(split(other), (None, other));
        }
    }

    #[test]
    fn keys_are_in_the_slot_of_the_channel() {
        for prefix in ["wsloop:", "", "{app}:", "a}b{"] {
            for topic in ["news", "{user}", "a}b", ""] {
                let keys = Keys::new(prefix, topic);
                let slot = slots::slot(keys.channel.as_bytes());
                assert_eq!(slots::slot(keys.state.as_bytes()), slot, "{}", keys.state);
                assert_eq!(slots::slot(keys.messages.as_bytes()), slot);
            }
        }
        let keys = Keys::new("wsloop:", "news");
        assert_eq!(keys.state, "wsloop:history:{wsloop:news}:state");
    }
}
