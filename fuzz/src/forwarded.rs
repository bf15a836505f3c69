//! Forwarding headers: a client's own values must never hide or change the values that its proxy
//! appends, and an independent second parser must find the same client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use wsloop::proxy::{Client, ClientAddress, Forwarding, Networks};

use crate::input::Input;

/// Settings (1 byte), then the values of the header lines, each after its length (1 byte).
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let settings = input.byte();
    let elements = settings & 1 != 0;
    let address = match elements {
        true => ClientAddress::Forwarded,
        false => ClientAddress::XForwardedFor,
    };
    let proxies = Networks::new(TRUSTED).expect("good entries");
    let forwarding = Forwarding::new(proxies, address).expect("a good name");
    let forwarding = forwarding.with_scheme(true).with_host(true);
    let name = match elements {
        true => "forwarded",
        false => "x-forwarded-for",
    };
    let name = HeaderName::from_static(name);
    let mut headers = HeaderMap::new();
    let mut lines: Vec<Vec<u8>> = Vec::new();
    while !input.is_empty() {
        let len = usize::from(input.byte());
        let line = input.bytes(len);
        // Values that the request parser accepts.
        if let Ok(value) = HeaderValue::from_bytes(line.trim_ascii()) {
            lines.push(value.as_bytes().to_vec());
            headers.append(name.clone(), value);
        }
    }
    for (header, bit) in [("x-forwarded-proto", 2), ("x-forwarded-host", 4)] {
        if settings & bit != 0
            && let Some(value) = lines.first()
        {
            let value = HeaderValue::from_bytes(value).expect("it was one");
            headers.insert(header, value);
        }
    }

    // Headers from other peers must be ignored.
    for stranger in ["192.0.2.1:1", "[2001:db8::1]:1"].map(|addr| addr.parse().ok()) {
        let client = forwarding.client(&headers, stranger);
        let nothing = (stranger, None, None);
        assert_eq!((client.addr, client.secure, client.host), nothing);
    }
    let peer: Option<SocketAddr> = PROXY.parse().ok();
    let client = forwarding.client(&headers, peer);
    let owned = |client: &Client<'_>| {
        let host = client.host.clone().map(|host| host.into_owned());
        (client.addr, client.secure, host)
    };
    let found = owned(&client);
    if let Some(host) = &found.2 {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\"<>\\^`{|}%".contains(&byte);
        assert!(!host.is_empty() && host.bytes().all(plain), "{host:?}");
    }
    let expected = match elements {
        true => by_elements(&lines),
        false => Some(by_list(&lines)),
    };
    if let Some(expected) = expected {
        assert_eq!(found.0, expected, "{lines:?}");
    }

    // A proxy appends its client to the last line, or adds a line.
    let real: Option<SocketAddr> = "203.0.113.9:0".parse().ok();
    let added = match elements {
        true => "for=203.0.113.9;proto=https;host=real.test",
        false => "203.0.113.9",
    };
    let mut own_line = headers.clone();
    own_line.append(name.clone(), HeaderValue::from_static(added));
    let mut same_line = HeaderMap::new();
    let (last, before) = lines
        .split_last()
        .map_or((&[][..], &[][..]), |(last, before)| (last, before));
    for line in before {
        same_line.append(
            name.clone(),
            HeaderValue::from_bytes(line).expect("it was one"),
        );
    }
    let joined = [last, b", ", added.as_bytes()].concat();
    same_line.append(name, HeaderValue::from_bytes(&joined).expect("both were"));
    for headers in [own_line, same_line] {
        let client = forwarding.client(&headers, peer);
        assert_eq!(client.addr, real, "{lines:?}");
        if elements {
            assert_eq!(
                (client.secure, client.host.as_deref()),
                (Some(true), Some("real.test"))
            );
        }
    }
}

const TRUSTED: [&str; 3] = ["10.0.0.0/8", "::ffff:172.16.0.0/108", "2001:db8:a::/48"];
const PROXY: &str = "10.0.0.1:4000";

fn is_trusted(addr: SocketAddr) -> bool {
    match addr.ip() {
        IpAddr::V4(ip) => {
            ip.octets()[0] == 10 || (ip.octets()[0] == 172 && ip.octets()[1] & 0xf0 == 16)
        }
        IpAddr::V6(ip) => ip.segments()[..3] == [0x2001, 0xdb8, 0xa],
    }
}

/// Parses an address with or without a port.
fn addr(text: &str) -> Option<SocketAddr> {
    let plain = |ip: IpAddr| SocketAddr::new(ip.to_canonical(), 0);
    let with_port = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    if text.contains('+') || text.contains('%') {
        return None;
    }
    if let Some((ip, name)) = text.rsplit_once(":_") {
        let known = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let whole = ip.ends_with(']') || !ip.contains(':');
        let good = !name.is_empty() && name.chars().all(known) && whole;
        return addr(ip).filter(|_| good);
    }
    if let Ok(ip) = text.parse() {
        return Some(plain(ip));
    }
    if let Some(inside) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        return Some(plain(inside.parse::<Ipv6Addr>().ok()?.into()));
    }
    text.parse().ok().map(with_port)
}

/// Returns the first address, from the end of the list on, that is not a trusted proxy.
fn walk<'e>(backwards: impl Iterator<Item = &'e str>) -> Option<SocketAddr> {
    let mut at = PROXY.parse().ok();
    for element in backwards {
        let Some(next) = addr(element) else { break };
        at = Some(next);
        if !is_trusted(next) {
            break;
        }
    }
    at
}

/// Finds the client in `X-Forwarded-For`: joins all lines, and splits them at the commas.
fn by_list(lines: &[Vec<u8>]) -> Option<SocketAddr> {
    let joined = lines.join(&b","[..]);
    let elements: Vec<_> = joined
        .split(|byte| *byte == b',')
        .map(|element| element.trim_ascii())
        .filter(|element| !element.is_empty())
        .map(|element| str::from_utf8(element).unwrap_or("?"))
        .collect();
    walk(elements.into_iter().rev())
}

/// Finds the client in `Forwarded`, from the first element to the last; returns `None` if the
/// header violates RFC 7239.
fn by_elements(lines: &[Vec<u8>]) -> Option<Option<SocketAddr>> {
    let mut nodes = Vec::new();
    for line in lines {
        let mut rest = str::from_utf8(line).ok()?;
        if rest.is_empty() {
            continue;
        }
        loop {
            let (mut node, mut known) = (None, Vec::new());
            // Parses the pairs of an element.
            loop {
                let end = rest.find(|letter: char| !is_token(letter))?;
                let (name, behind) = rest.split_at(end);
                let (value, behind) = value(behind.strip_prefix('=')?)?;
                let name = name.to_ascii_lowercase();
                if name.is_empty() || known.contains(&name) {
                    return None;
                }
                if name == "for" {
                    node = Some(value);
                }
                known.push(name);
                rest = behind;
                match behind.strip_prefix(';') {
                    Some(behind) => rest = behind,
                    None => break,
                }
            }
            nodes.push(node.unwrap_or_default());
            if rest.is_empty() {
                break;
            }
            rest = rest.trim_start_matches([' ', '\t']).strip_prefix(',')?;
            rest = rest.trim_start_matches([' ', '\t']);
        }
    }
    Some(walk(nodes.iter().rev().map(String::as_str)))
}

/// Returns a token or a quoted string, and the text after it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text
            .find(|letter: char| !is_token(letter))
            .unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        return (!token.is_empty()).then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    loop {
        let letter = rest.chars().next()?;
        rest = &rest[letter.len_utf8()..];
        match letter {
            '"' => return Some((value, rest)),
            '\\' => {
                let escaped = rest.chars().next()?;
                value.push(escaped);
                rest = &rest[escaped.len_utf8()..];
            }
            _ => value.push(letter),
        }
    }
}

fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}
