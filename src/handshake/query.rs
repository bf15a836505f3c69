//! Queries as pairs, decoded like a form or `URLSearchParams`.

use std::borrow::Cow;

/// Yields the decoded names and values of a query. Skips pairs that are not UTF-8.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    // WHATWG URL, 5.1: the sequences between "&"; empty ones are skipped, and the value follows the
    // first "=".
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        })
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                // WHATWG URL, 1.3: a "%" that two hexadecimal digits do not follow is kept.
                _ => b'%',
            },
            _ => *first,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        for (query, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("room=7", &[("room", "7")]),
            ("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
            ("flag&empty=&=x", &[("flag", ""), ("empty", ""), ("", "x")]),
            ("a=b=c?/", &[("a", "b=c?/")]),
            ("na%6De=z%C3%BCrich+west%2B", &[("name", "zürich west+")]),
            ("%3d%26=%3D%26", &[("=&", "=&")]),
            // Not percent-encoded bytes.
            (
                "a=%&b=%4&c=%4g&d=%%41",
                &[("a", "%"), ("b", "%4"), ("c", "%4g"), ("d", "%A")],
            ),
            // Not UTF-8.
            ("a=%ff&%C3=1&b=2", &[("b", "2")]),
        ] {
            let pairs: Vec<_> = pairs(query).collect();
            let pairs: Vec<_> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
            assert_eq!(pairs, expected, "{query}");
        }
    }
}
