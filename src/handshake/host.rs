//! The grammar of `Host` (RFC 7230, 5.4).

use http::uri::Authority;

/// Returns whether `value` is `uri-host [ ":" port ]`.
pub(super) fn is_host(value: &[u8]) -> bool {
    // `Authority` knows the characters, but allows user information, brackets anywhere, any port
    // and a host that is empty; a check of names could be led astray by each.
    let Ok(authority) = Authority::try_from(value) else {
        return false;
    };
    let text = authority.as_str();
    if let Some(bracketed) = text.strip_prefix('[') {
        return bracketed.split_once(']').is_some_and(|(address, port)| {
            is_address(address) && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    !name.is_empty() && !name.contains(['@', '[', ']']) && is_port(port)
}

/// Returns whether `text` is of the characters that IPv6 addresses are written in.
fn is_address(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    text.contains(':') && text.bytes().all(known)
}

/// Returns whether `text` is a port, which RFC 3986, 3.2.3 allows to be empty.
fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text.is_empty() || text.parse::<u16>().is_ok())
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
            // A sub-delimiter is legal in a registered name (RFC 3986, 3.2.2).
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
