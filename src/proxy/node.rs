//! Addresses as proxies write them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Parses an address with or without a port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::7`,
/// `[2001:db8::7]`, `[2001:db8::7]:80` (RFC 7239, 6, and other forms in use). The port is 0 if
/// there is none, or an obfuscated one (`_p1`). Returns `None` for `unknown`, for obfuscated
/// addresses, and for malformed ones.
pub(super) fn read(text: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(text).ok()?;
    if let Some(inside) = text.strip_prefix('[') {
        let (ip, rest) = inside.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => read_port(port)?,
            None if rest.is_empty() => 0,
            None => return None,
        };
        return Some(canonical(ip.parse::<Ipv6Addr>().ok()?.into(), port));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(canonical(ip, 0));
    }
    let (ip, port) = text.split_once(':')?;
    let ip = ip.parse::<std::net::Ipv4Addr>().ok()?;
    Some(SocketAddr::new(ip.into(), read_port(port)?))
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// Parses a port: digits only, because `parse` would also accept a sign, or an obfuscated port.
fn read_port(text: &str) -> Option<u16> {
    if let Some(name) = text.strip_prefix('_') {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        return (!name.is_empty() && name.bytes().all(known)).then_some(0);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, addr) in [
            ("192.0.2.7", "192.0.2.7:0"),
            ("192.0.2.7:65535", "192.0.2.7:65535"),
            ("2001:db8::7", "[2001:db8::7]:0"),
            ("[2001:db8::7]", "[2001:db8::7]:0"),
            ("[2001:db8::7]:80", "[2001:db8::7]:80"),
            ("::ffff:192.0.2.7", "192.0.2.7:0"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7:1"),
            ("192.0.2.7:_p1", "192.0.2.7:0"),
            ("[2001:db8::7]:_a.b-c_", "[2001:db8::7]:0"),
        ] {
            assert_eq!(read(text.as_bytes()), addr.parse().ok(), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "-",
            "localhost",
            "192.0.2",
            "192.0.2.256",
            "0300.0.2.7",
            "192.0.2.7:",
            "192.0.2.7:+1",
            "192.0.2.7:_",
            "192.0.2.7:_a b",
            "192.0.2.7:65536",
            "192.0.2.7:1:2",
            "192.0.2.7 ",
            "[192.0.2.7]",
            "[2001:db8::7",
            "[2001:db8::7]80",
            "[2001:db8::7]:",
            "2001:db8::7]:80",
            "fe80::1%eth0",
            "\"192.0.2.7\"",
            "192.0.2.7\u{e9}",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read(b"192.0.2.7\xff"), None);
    }
}
