//! The grammar of `Host` (RFC 7230, 5.4).

use http::uri::Authority;

/// Returns whether `value` is `uri-host [ ":" port ]`.
pub(crate) fn is_host(value: &[u8]) -> bool {
    if value.starts_with(b"[") {
        return is_literal(value);
    }
    let mut parts = value.splitn(2, |byte| *byte == b':');
    let (name, port) = (parts.next(), parts.next());
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(is_of_name);
    name.is_some_and(is_name) && port.is_none_or(is_port)
}

/// Returns whether a byte may occur in a name: `unreserved` or `sub-delims` of RFC 3986, 2.
/// Percent-encoding, which the RFC also allows, is refused: no host name needs it.
fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte)
}

/// Returns whether `value` is an address in brackets, with or without a port.
fn is_literal(value: &[u8]) -> bool {
    // `Authority` accepts brackets, but with any content and any port; either could mislead a check
    // of names.
    let Ok(authority) = Authority::try_from(value) else {
        return false;
    };
    let inside = authority.as_str().strip_prefix('[');
    let parts = inside.and_then(|inside| inside.split_once(']'));
    parts.is_some_and(|(address, rest)| {
        let port = rest.strip_prefix(':');
        is_address(address)
            && (rest.is_empty() || port.is_some_and(|port| is_port(port.as_bytes())))
    })
}

/// Returns whether `text` consists of characters that occur in IPv6 addresses.
fn is_address(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    text.contains(':') && text.bytes().all(known)
}

/// Returns whether `text` is a port, which RFC 3986, 3.2.3 allows to be empty.
fn is_port(text: &[u8]) -> bool {
    let number = text.iter().try_fold(0_u16, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    number.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports() {
        for host in [
            "a",
            "server.example.com:8080",
            "a:",
            "a_b~c",
            "127.0.0.1:0",
            "[::1]",
            "[::1]:",
            "[::ffff:1.2.3.4]:65535",
            // A sub-delimiter is valid in a registered name (RFC 3986, 3.2.2).
            "a,b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn everything_else() {
        let names = [
            "", "a b", "a/b", "a?b", "a#b", "http://a", "\u{e9}", "%61", "a\\b", "a\"b",
        ];
        let ports = [
            ":", ":80", "a:b", "a:65536", "a:+1", "a:-1", "a:1:2", "a:80@b", "[::1]:x",
        ];
        let users = ["u@a", "@a", "u@", "u:p@a:80", "u@[::1]"];
        let brackets = [
            "[",
            "]",
            "[]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]1",
            "x[::1]",
            "[x]",
            "[a]",
            "[::1][::1]",
            "a[",
            "[::1%25eth0]",
            "a:[::1]",
            "[::1]:80:80",
            "[[::1]]",
        ];
        for host in names.iter().chain(&ports).chain(&users).chain(&brackets) {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn every_byte() {
        for byte in 0..=255u8 {
            let allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
            assert_eq!(is_host(&[b'a', byte, b'b']), allowed, "{byte:#x}");
        }
    }
}
