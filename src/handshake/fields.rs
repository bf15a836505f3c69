//! Header lines that a handler adds to a response.

use crate::AnswerError;
use crate::tokens::{is_field_text, is_token};

/// Header lines as they are sent, each checked before it was added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    /// Appends a line, unless it would break the answer apart or belongs to the handshake.
    pub(crate) fn append(&mut self, name: &str, value: &str) -> Result<(), AnswerError> {
        if !is_token(name.as_bytes()) || !is_field_text(value.as_bytes()) {
            return Err(AnswerError::BadHeader);
        }
        if is_owned(name) {
            return Err(AnswerError::ReservedHeader);
        }
        for part in [name, ": ", value, "\r\n"] {
            self.0.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }

    /// Appends a `Set-Cookie` of a name, a value and attributes such as `Path=/; HttpOnly`.
    pub(crate) fn append_cookie(
        &mut self,
        name: &str,
        value: &str,
        attributes: &str,
    ) -> Result<(), AnswerError> {
        // RFC 6265, 4.1.1: cookie-pair = cookie-name "=" cookie-value, the name a token, the value
        // "US-ASCII characters excluding CTLs, whitespace DQUOTE, comma, semicolon, and backslash",
        // possibly in quotes.
        let bare = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(value);
        let octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        if !is_token(name.as_bytes()) || !bare.bytes().all(octet) {
            return Err(AnswerError::BadHeader);
        }
        let line = match attributes.is_empty() {
            true => format!("{name}={value}"),
            false => format!("{name}={value}; {attributes}"),
        };
        self.append("Set-Cookie", &line)
    }

    /// Returns whether there is a line with this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        // No value contains an LF, so every line begins with a name.
        self.0.split(|byte| *byte == b'\n').any(|line| {
            line.split_at_checked(name.len())
                .is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":")
                })
        })
    }

    /// Appends the lines to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// Returns whether only the handshake itself may write a header with this name.
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
    fn cookies_are_well_formed() {
        let mut fields = Fields::default();
        fields.append_cookie("id", "31d4=", "").unwrap();
        fields
            .append_cookie("q", "\"a\"", "Path=/; HttpOnly")
            .unwrap();
        fields.append_cookie("none", "", "Max-Age=0").unwrap();
        for (name, value, attributes) in [
            ("", "a", ""),
            ("a b", "a", ""),
            ("a=b", "a", ""),
            ("a", "b c", ""),
            ("a", "b;c", ""),
            ("a", "b,c", ""),
            ("a", "b\"c", ""),
            ("a", "\"", ""),
            ("a", "\"b\"c\"", ""),
            ("a", "b\\c", ""),
            ("a", "b\r\nX: y", ""),
            ("a", "\u{e9}", ""),
            ("a", "b", "Path=/\r\nX: y"),
        ] {
            let result = fields.append_cookie(name, value, attributes);
            assert_eq!(
                result,
                Err(AnswerError::BadHeader),
                "{name}={value}; {attributes}"
            );
        }
        let mut out = Vec::new();
        fields.encode(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Set-Cookie: id=31d4=\r\nSet-Cookie: q=\"a\"; Path=/; HttpOnly\r\n\
             Set-Cookie: none=; Max-Age=0\r\n"
        );
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
        ] {
            let result = fields.append(name, value);
            assert_eq!(result, Err(AnswerError::BadHeader), "{name:?}");
        }
        for (name, value) in [
            ("upgrade", "h2c"),
            ("CONNECTION", "close"),
            ("Content-length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("sec-websocket-accept", "x"),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
            ("Sec-WebSocket-", "x"),
        ] {
            let result = fields.append(name, value);
            assert_eq!(result, Err(AnswerError::ReservedHeader), "{name:?}");
        }
    }
}
