//! Header lines that a handler adds to an answer.

use super::tokens::{is_text, is_token};
use crate::SendError;

/// Header lines in the form in which they are sent, each checked before it was added.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<u8>);

impl Fields {
    /// Appends a line, unless it would break the answer apart or belongs to the handshake.
    pub(super) fn append(&mut self, name: &str, value: &str) -> Result<(), SendError> {
        let well_formed = is_token(name.as_bytes()) && is_text(value.as_bytes());
        if !well_formed || is_owned(name) {
            return Err(SendError::BadResponse);
        }
        for part in [name, ": ", value, "\r\n"] {
            self.0.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }

    /// Returns whether there is a line of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        // No value has an LF, so every line begins with a name.
        self.0.split(|byte| *byte == b'\n').any(|line| {
            line.split_at_checked(name.len())
                .is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":")
                })
        })
    }

    /// Appends the lines to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// Returns whether only the handshake itself may write a header of this name.
fn is_owned(name: &str) -> bool {
    let name = name.as_bytes();
    OWNED
        .iter()
        .any(|owned| name.eq_ignore_ascii_case(owned.as_bytes()))
        || name
            .get(..OWNED_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(OWNED_PREFIX.as_bytes()))
}

const OWNED: [&str; 4] = [
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "Upgrade",
];
const OWNED_PREFIX: &str = "Sec-WebSocket-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_in_order() {
        let mut fields = Fields::default();
        fields.append("Set-Cookie", "a=1").unwrap();
        fields.append("set-cookie", "b=2").unwrap();
        fields.append("X-Empty", "").unwrap();
        fields.append("X-Text", "tab\tand \u{e9}").unwrap();
        let mut out = Vec::new();
        fields.encode(&mut out);
        let expected =
            "Set-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty: \r\nX-Text: tab\tand \u{e9}\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(fields.contains("SET-COOKIE") && fields.contains("x-text"));
        assert!(!fields.contains("x") && !fields.contains("tab") && !fields.contains("x-empty:"));
    }

    #[test]
    fn nothing_is_injected() {
        let mut fields = Fields::default();
        for byte in (0..=255u8).map(char::from).filter(char::is_ascii) {
            let value = fields.append("X", &format!("a{byte}b"));
            assert_eq!(
                value.is_err(),
                byte.is_ascii_control() && byte != '\t',
                "{byte:?}"
            );
            let name = fields.append(&format!("a{byte}b"), "x");
            assert_eq!(name.is_err(), !is_token(&[byte as u8]), "{byte:?}");
        }
        for (name, value) in [
            ("", "x"),
            ("X", "a\r\nSet-Cookie: b=c"),
            ("X\r\nY", "a"),
            ("X: a\r\nY", "b"),
            ("\u{e9}", "a"),
            ("upgrade", "h2c"),
            ("CONNECTION", "close"),
            ("Content-length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("sec-websocket-accept", "x"),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
            ("Sec-WebSocket-", "x"),
        ] {
            assert_eq!(
                fields.append(name, value),
                Err(SendError::BadResponse),
                "{name:?}"
            );
        }
    }
}
