//! The subjects of topics.
//!
//! The name of a topic may be any text. In a subject, `.` separates tokens, `*` and `>` are
//! wildcards, and spaces end it. So a name is written with percent signs as in a URL:
//!
//! - `%`, `*`, `>`, spaces and control characters become `%` and two hexadecimal digits.
//! - A `.` becomes `%2E` at the beginning, at the end, and behind another `.`, because a token must
//!   not be empty.
//! - The empty name becomes a single `%`.
//!
//! All else stays as it is: `chat.garden` is `chat.garden`. Decoding a subject gives the name, so
//! two names never have the same subject. A `%` that two digits do not follow is in no name, which
//! leaves room for subjects of our own.

/// Returns the subject of a topic.
pub(crate) fn encode(prefix: &str, topic: &str) -> String {
    let mut subject = String::with_capacity(prefix.len() + topic.len());
    subject.push_str(prefix);
    if topic.is_empty() {
        subject.push('%');
    }
    let mut before = '.';
    let mut rest = topic.chars().peekable();
    while let Some(next) = rest.next() {
        let is_escaped = match next {
            '.' => before == '.' || rest.peek().is_none(),
            '%' | '*' | '>' | ' ' => true,
            other => other.is_ascii_control(),
        };
        match is_escaped {
            true => subject.push_str(&format!("%{:02X}", next as u32)),
            false => subject.push(next),
        }
        before = next;
    }
    subject
}

/// Returns whether a text can be what subjects begin with: tokens without wildcards and escapes,
/// each with a `.` behind it.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    let Some(tokens) = prefix.strip_suffix('.') else {
        return false;
    };
    let is_token = |token: &str| {
        let is_special =
            |one: char| one.is_whitespace() || one.is_control() || "*>%$".contains(one);
        !token.is_empty() && !token.contains(is_special)
    };
    tokens.split('.').all(is_token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_readable() {
        for name in ["news", "chat.garden", "prices.EUR-USD", "grün", "a/b:c"] {
            assert_eq!(encode("wsloop.", name), format!("wsloop.{name}"));
        }
        for (name, subject) in [
            ("", "%"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("a..b.", "a.%2Eb%2E"),
            (".a", "%2Ea"),
            ("50 %", "50%20%25"),
            ("a.*", "a.%2A"),
            (">", "%3E"),
            ("a\r\nb", "a%0D%0Ab"),
        ] {
            assert_eq!(encode("", name), subject);
        }
    }

    #[test]
    fn prefixes_are_tokens() {
        for right in ["wsloop.", "app.live."] {
            assert!(is_prefix(right), "{right}");
        }
        for wrong in ["", "wsloop", ".", "a..", "*.", "a b.", "$JS.", "%a."] {
            assert!(!is_prefix(wrong), "{wrong}");
        }
    }

    fn decode(subject: &str) -> String {
        if subject == "%" {
            return String::new();
        }
        let mut parts = subject.split('%');
        let mut name = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (digits, rest) = part.split_at(2);
            let code = u8::from_str_radix(digits, 16).expect("two digits");
            name.push(char::from(code));
            name.push_str(rest);
        }
        name
    }

    proptest! {
        #[test]
        fn subjects_are_valid_and_unique(name in "([.%*> a]|\\PC|\\pC){0,12}") {
            let subject = encode("", &name);
            prop_assert!(async_nats::Subject::validated(&subject).is_ok(), "{}", subject);
            prop_assert!(!subject.contains(['*', '>']));
            prop_assert_eq!(decode(&subject), name);
        }
    }
}
