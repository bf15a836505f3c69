//! The grammar of HTTP header values: tokens, and lists of them (RFC 7230, 3.2.6 and 7).

/// Returns whether `byte` may occur in a token.
pub(crate) const fn is_tchar(byte: u8) -> bool {
    // RFC 7230, 3.2.6: "any VCHAR, except delimiters"
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
        || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Returns whether `text` is a token.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_tchar(*byte))
}

/// Returns whether `text` can be sent as a header value or a reason phrase.
pub(crate) fn is_field_text(text: &[u8]) -> bool {
    // RFC 7230, 3.1.2 and 3.2: HTAB, SP, VCHAR and obs-text. CR and LF would end the line and
    // inject another one.
    text.iter()
        .all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// Returns `text` without surrounding white space.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = text.iter().position(|byte| !blank(byte)) else {
        return &[];
    };
    let last = text.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    text.get(first..=last).unwrap_or_default()
}

/// Yields the non-empty elements of a comma-separated list, without surrounding white space.
///
/// A comma inside a quoted string does not separate elements, so text after it is never taken for
/// one; an unterminated string extends to the end of the value. The value is read once from front
/// to end, whatever it contains.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let separates = move |byte: &u8| {
        let is_comma = *byte == b',' && !quoted;
        if escaped {
            escaped = false;
        } else if quoted && *byte == b'\\' {
            escaped = true;
        } else if *byte == b'"' {
            quoted = !quoted;
        }
        is_comma
    };
    // RFC 9110, 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list
    // elements".
    value
        .split(separates)
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Returns whether the list in `value` contains the element `token`, compared without regard to
/// case. Other elements may be malformed.
pub(crate) fn has_token(value: &[u8], token: &str) -> bool {
    elements(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_and_controls_are_no_tchar() {
        let allowed: Vec<u8> = (0..=255).filter(|byte| is_tchar(*byte)).collect();
        assert_eq!(
            String::from_utf8_lossy(&allowed),
            "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"
        );
        assert!(is_token(b"graphql-transport-ws"));
        assert!(!is_token(b""));
        assert!(!is_token(b"a b"));
    }

    #[test]
    fn text_has_no_controls_but_tab() {
        for byte in 0..=255u8 {
            assert_eq!(
                is_field_text(&[b'a', byte]),
                byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
            );
        }
    }

    #[test]
    fn lists_skip_white_space_and_empty_elements() {
        let list = |value: &'static [u8]| elements(value).collect::<Vec<_>>();
        assert_eq!(
            list(b"keep-alive, Upgrade"),
            [&b"keep-alive"[..], b"Upgrade"]
        );
        assert_eq!(list(b" ,\ta ,,b\t, "), [b"a", b"b"]);
        assert!(list(b"").is_empty());
        assert!(list(b" , \t,").is_empty());
    }

    #[test]
    fn tokens_match_whole_and_in_any_case() {
        assert!(has_token(b"keep-alive, Upgrade", "upgrade"));
        assert!(has_token(b"TLS/1.0,,WebSocket", "websocket"));
        // Other elements may be malformed.
        for value in [
            "websocket, \u{e9}",
            "a b, websocket",
            "\"a, b\", websocket",
            "websocket, \"a",
            "a=\"\\\"\", websocket",
        ] {
            assert!(has_token(value.as_bytes(), "websocket"), "{value}");
        }
        for value in [
            "",
            "websocketx",
            "xwebsocket",
            "websocket/13",
            "web socket",
            "websocket;q=1",
            "\"websocket\"",
            "\"a, websocket, b\"",
            "\"a, \\\", websocket",
            "a\", websocket, \"b",
        ] {
            assert!(!has_token(value.as_bytes(), "websocket"), "{value}");
        }
    }
}
