//! Request headers in which proxies report the client of a request.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use super::Networks;
use super::node;
use crate::error::BuildError;
use crate::handshake::is_host;

/// The header in which proxies report the client's address. Every trusted proxy must set the header
/// or append to it: a value that a proxy only passes on comes from the client.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientAddress {
    /// `X-Forwarded-For`: a list of addresses, that of the nearest hop last.
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list of elements with `for`, `proto` and `host`, the nearest hop
    /// last.
    Forwarded,
    /// A header with this name that has an address, or a list like `X-Forwarded-For`: `X-Real-IP`,
    /// `CF-Connecting-IP`. [`Builder::build`](crate::Builder::build) returns an error for a name
    /// that is not a header name.
    Header(String),
}

/// The client of a request, as trusted proxies report it.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Client<'r> {
    /// The address; the port is 0 if no proxy gave one. `None` for a peer over a Unix socket for
    /// which no proxy gave an address.
    pub addr: Option<SocketAddr>,
    /// Whether the client uses TLS, if a proxy reported it and [`Forwarding::with_scheme`] is on.
    pub secure: Option<bool>,
    /// The host that the client requested, if a proxy reported it and [`Forwarding::with_host`] is
    /// on.
    pub host: Option<Cow<'r, str>>,
}

/// Finds the client of a request that arrives through proxies.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use wsloop::proxy::{ClientAddress, Forwarding, Networks};
///
/// let proxies = Networks::new(["10.0.0.0/8"])?;
/// let forwarding = Forwarding::new(proxies, ClientAddress::XForwardedFor)?;
/// let mut headers = HeaderMap::new();
/// // The client itself wrote the first address.
/// let value = HeaderValue::from_static("6.6.6.6, 192.0.2.7, 10.0.0.2");
/// headers.insert("x-forwarded-for", value);
/// let client = forwarding.client(&headers, Some("10.0.0.1:4000".parse().unwrap()));
/// assert_eq!(client.addr, Some("192.0.2.7:0".parse().unwrap()));
/// # Ok::<(), wsloop::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Forwarding {
    trusted: Networks,
    name: HeaderName,
    /// Whether the header is `Forwarded`, which has the scheme and the host beside the address.
    elements: bool,
    scheme: bool,
    host: bool,
}

impl Forwarding {
    /// Makes a configuration that trusts these proxies and reads this header.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::BadHeaderName`] if the name is not a header name.
    pub fn new(trusted: Networks, address: ClientAddress) -> Result<Self, BuildError> {
        let elements = address == ClientAddress::Forwarded;
        let name = match address {
            ClientAddress::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ClientAddress::Forwarded => header::FORWARDED,
            ClientAddress::Header(name) => {
                name.parse().map_err(|_| BuildError::BadHeaderName(name))?
            }
        };
        Ok(Self {
            trusted,
            name,
            elements,
            scheme: false,
            host: false,
        })
    }

    /// Enables the scheme: `proto` of `Forwarded`, otherwise the last value of `X-Forwarded-Proto`,
    /// which the nearest proxy must set.
    #[must_use]
    pub fn with_scheme(self, on: bool) -> Self {
        Self { scheme: on, ..self }
    }

    /// Enables the host: `host` of `Forwarded`, otherwise the last value of `X-Forwarded-Host`,
    /// which the nearest proxy must set.
    #[must_use]
    pub fn with_host(self, on: bool) -> Self {
        Self { host: on, ..self }
    }

    /// Returns whether a peer with this address is a trusted proxy; `None` is a peer over a Unix
    /// socket.
    pub fn trusts(&self, ip: Option<IpAddr>) -> bool {
        self.trusted.contains(ip)
    }

    /// Finds the client of a request from `peer`; `None` is a peer over a Unix socket.
    ///
    /// The list is read from its end, which the nearest proxy wrote. Each address counts because a
    /// trusted proxy reported it, and the first untrusted address is the client's. An invalid
    /// element ends the search at the address before it. All lines of the header form one list
    /// (RFC 9110, 5.2). Elements before the client's own address are not read.
    pub fn client<'r>(&self, headers: &'r HeaderMap, peer: Option<SocketAddr>) -> Client<'r> {
        let mut client = Client {
            addr: peer,
            ..Client::default()
        };
        let lines = headers.get_all(&self.name).iter().rev();
        let mut list = lines.flat_map(|line| Backwards {
            rest: Some(line.as_bytes()),
            quoted: self.elements,
        });
        while self.trusts(client.addr.map(|addr| addr.ip())) {
            // `Some(None)` is an element that cannot be delimited.
            let Some(Some(text)) = list.next() else { break };
            let addr = if self.elements {
                let Some(element) = Element::read(text) else {
                    break;
                };
                client.secure = element.proto.as_deref().and_then(is_secure);
                client.host = element.host.filter(|host| is_host(host.as_bytes()));
                element.node.and_then(|name| node::read(name.as_bytes()))
            } else {
                node::read(text)
            };
            let Some(addr) = addr else { break };
            client.addr = Some(addr);
        }
        if !self.trusts(peer.map(|addr| addr.ip())) {
            return client;
        }
        if !self.elements {
            if self.scheme {
                client.secure = last(headers, "x-forwarded-proto").and_then(is_secure);
            }
            if self.host {
                let host =
                    last(headers, "x-forwarded-host").filter(|host| is_host(host.as_bytes()));
                client.host = host.map(Cow::Borrowed);
            }
        }
        client.secure = client.secure.filter(|_| self.scheme);
        client.host = client.host.filter(|_| self.host);
        client
    }
}

/// Returns whether a scheme uses TLS; `None` for schemes other than HTTP and WebSocket.
fn is_secure(scheme: &str) -> Option<bool> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        Some(true)
    } else {
        (is("http") || is("ws")).then_some(false)
    }
}

/// Returns the last element of a list, which the nearest proxy wrote.
fn last<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    let lines = headers.get_all(name).iter().rev();
    let mut list = lines.flat_map(|line| Backwards {
        rest: Some(line.as_bytes()),
        quoted: false,
    });
    str::from_utf8(list.next()??).ok()
}

/// The elements of a list from last to first, without empty ones (RFC 9110, 5.6.1.2).
///
/// The direction matters for security: a client writes its part before the proxies, so nothing that
/// it leaves open there, such as a quote, can hide what they append.
struct Backwards<'r> {
    rest: Option<&'r [u8]>,
    /// Whether a comma in quotes does not separate elements.
    quoted: bool,
}

impl<'r> Iterator for Backwards<'r> {
    /// `None` if the start of the element cannot be determined.
    type Item = Option<&'r [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest.take()?;
            let Some(comma) = self.comma(rest) else {
                return Some(None);
            };
            let (before, element) = match comma {
                None => (None, rest),
                Some(at) => (rest.get(..at), rest.get(at + 1..).unwrap_or_default()),
            };
            self.rest = before;
            let element = element.trim_ascii();
            if !element.is_empty() {
                return Some(Some(element));
            }
        }
    }
}

impl Backwards<'_> {
    /// Returns the position of the last separating comma; the outer `None` means unbalanced quotes.
    fn comma(&self, list: &[u8]) -> Option<Option<usize>> {
        if !self.quoted {
            return Some(list.iter().rposition(|byte| *byte == b','));
        }
        let mut inside = false;
        let mut end = list.len();
        while let Some((last, before)) = list.get(..end).and_then(<[u8]>::split_last) {
            end -= 1;
            match last {
                b'"' => {
                    let escapes = before.iter().rev().take_while(|byte| **byte == b'\\');
                    let escapes = escapes.count();
                    end -= escapes;
                    if escapes % 2 == 0 {
                        inside = !inside;
                    } else if !inside {
                        // An escaped quote cannot end a quoted string.
                        return None;
                    }
                }
                b',' if !inside => return Some(Some(end)),
                _ => {}
            }
        }
        (!inside).then_some(None)
    }
}

/// An element of `Forwarded`.
#[derive(Debug, Default, Eq, PartialEq)]
struct Element<'r> {
    /// `for`.
    node: Option<Cow<'r, str>>,
    proto: Option<Cow<'r, str>>,
    host: Option<Cow<'r, str>>,
}

impl<'r> Element<'r> {
    /// Parses `[ forwarded-pair ] *( ";" [ forwarded-pair ] )` (RFC 7239, 4). Accepts white space
    /// around pairs, and values without the quotes that they need, as some proxies write them.
    /// Returns `None` if the element is malformed or repeats a parameter.
    fn read(text: &'r [u8]) -> Option<Self> {
        let mut rest = str::from_utf8(text).ok()?;
        let mut element = Self::default();
        loop {
            rest = rest.trim_start_matches(BLANKS);
            if let Some(next) = rest.strip_prefix(';') {
                rest = next;
                continue;
            }
            if rest.is_empty() {
                return Some(element);
            }
            let (name, behind) = rest.split_once('=')?;
            let (value, behind) = read_value(behind)?;
            let place = match name.to_ascii_lowercase().as_str() {
                "for" => Some(&mut element.node),
                "proto" => Some(&mut element.proto),
                "host" => Some(&mut element.host),
                _ if crate::tokens::is_token(name.as_bytes()) => None,
                _ => return None,
            };
            if let Some(place) = place
                && place.replace(value).is_some()
            {
                return None;
            }
            rest = behind.trim_start_matches(BLANKS);
            if !rest.is_empty() && !rest.starts_with(';') {
                return None;
            }
        }
    }
}

/// Parses a value, quoted or not; returns it and the rest of the text.
fn read_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t', '"', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.into(), rest)).filter(|_| !value.is_empty());
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value.into(), quoted.get(at + 1..)?)),
            '\\' => value.push(letters.next()?.1),
            _ => value.push(letter),
        }
    }
    None
}

const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1:4000";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn forwarding(address: ClientAddress) -> Forwarding {
        let proxies = Networks::new(["10.0.0.0/8", "2001:db8:a::/48"]).unwrap();
        Forwarding::new(proxies, address)
            .unwrap()
            .with_scheme(true)
            .with_host(true)
    }

    /// Finds the address for a request with these lines of `X-Forwarded-For` from a proxy.
    fn by_list(lines: &[&str]) -> String {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| ("X-Forwarded-For", *line))
            .collect();
        let client = forwarding(ClientAddress::XForwardedFor);
        let headers = headers(&lines);
        let client = client.client(&headers, PROXY.parse().ok());
        client.addr.unwrap().to_string()
    }

    /// Finds the client of a request with these lines of `Forwarded` from a proxy.
    fn by_elements(lines: &[&str]) -> (String, Option<bool>, Option<String>) {
        let lines: Vec<_> = lines.iter().map(|line| ("Forwarded", *line)).collect();
        let forwarding = forwarding(ClientAddress::Forwarded);
        let headers = headers(&lines);
        let client = forwarding.client(&headers, PROXY.parse().ok());
        let host = client.host.map(Cow::into_owned);
        (client.addr.unwrap().to_string(), client.secure, host)
    }

    #[test]
    fn a_list_is_read_from_its_end_past_trusted_hops() {
        for (lines, addr) in [
            (&["192.0.2.7"][..], "192.0.2.7:0"),
            (&["192.0.2.7:81"], "192.0.2.7:81"),
            (&["2001:db8::7"], "[2001:db8::7]:0"),
            (&["[2001:db8::7]:81"], "[2001:db8::7]:81"),
            (&["6.6.6.6, 192.0.2.7"], "192.0.2.7:0"),
            (&["6.6.6.6, 192.0.2.7, 10.0.0.2"], "192.0.2.7:0"),
            (
                &["6.6.6.6,192.0.2.7,2001:db8:a::1 , 10.9.9.9"],
                "192.0.2.7:0",
            ),
            (&["6.6.6.6", "192.0.2.7", "10.0.0.2"], "192.0.2.7:0"),
            // Empty elements are skipped.
            (&["192.0.2.7,, ,"], "192.0.2.7:0"),
            (&["192.0.2.7", "", ","], "192.0.2.7:0"),
            // With trusted proxies only, the farthest one.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
            // An invalid element ends the search at the last valid hop.
            (&[""], PROXY),
            (&["unknown"], PROXY),
            (&["192.0.2.7, unknown"], PROXY),
            (&["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2:0"),
            (&["192.0.2.7 10.0.0.2"], PROXY),
            (&["\"192.0.2.7\""], PROXY),
            (&["192.0.2.7\u{e9}"], PROXY),
            (&["::ffff:192.0.2.7, ::ffff:10.0.0.2"], "192.0.2.7:0"),
        ] {
            assert_eq!(by_list(lines), addr, "{lines:?}");
        }
        assert_eq!(by_list(&[]), PROXY);
    }

    #[test]
    fn nothing_is_believed_of_others() {
        let lines = [
            ("X-Forwarded-For", "10.0.0.2"),
            ("X-Real-IP", "10.0.0.2"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "example.com"),
            ("Forwarded", "for=10.0.0.2;proto=https;host=example.com"),
        ];
        let headers = headers(&lines);
        for address in [
            ClientAddress::XForwardedFor,
            ClientAddress::Forwarded,
            ClientAddress::Header("X-Real-IP".into()),
        ] {
            let forwarding = forwarding(address);
            for peer in [Some("192.0.2.1:1"), Some("[2001:db8:b::1]:1"), None] {
                let peer = peer.and_then(|peer| peer.parse().ok());
                let client = forwarding.client(&headers, peer);
                let nothing = Client {
                    addr: peer,
                    ..Client::default()
                };
                assert_eq!(client, nothing);
            }
        }
    }

    #[test]
    fn one_header_and_no_other() {
        let lines = [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Real-IP", "192.0.2.7"),
            ("Forwarded", "for=7.7.7.7"),
        ];
        let headers = headers(&lines);
        for (address, addr) in [
            (ClientAddress::XForwardedFor, "6.6.6.6:0"),
            (ClientAddress::Forwarded, "7.7.7.7:0"),
            (ClientAddress::Header("x-real-ip".into()), "192.0.2.7:0"),
            (ClientAddress::Header("X-Other".into()), PROXY),
        ] {
            let forwarding = forwarding(address);
            let client = forwarding.client(&headers, PROXY.parse().ok());
            assert_eq!(client.addr, addr.parse().ok());
        }
        let none = Forwarding::new(Networks::default(), ClientAddress::Header("a b".into()));
        assert!(matches!(none, Err(BuildError::BadHeaderName(name)) if name == "a b"));
    }

    #[test]
    fn scheme_and_host_beside_a_list() {
        let forwarding = forwarding(ClientAddress::XForwardedFor);
        let plain = forwarding.clone().with_scheme(false).with_host(false);
        for (list, proto, host, expected) in [
            ("192.0.2.7", "https", "a.test", (Some(true), Some("a.test"))),
            (
                "192.0.2.7",
                "HTTP",
                "a.test:81",
                (Some(false), Some("a.test:81")),
            ),
            // The client wrote values before the proxy did.
            (
                "192.0.2.7",
                "https, http",
                "evil.test, a.test",
                (Some(false), Some("a.test")),
            ),
            // Behind two proxies as well, the nearest one counts.
            (
                "192.0.2.7, 10.0.0.2",
                "https, http",
                "a.test, b.test",
                (Some(false), Some("b.test")),
            ),
            (
                "192.0.2.7, 10.0.0.2",
                "wss",
                "a.test",
                (Some(true), Some("a.test")),
            ),
            ("192.0.2.7", "ftp", "a test", (None, None)),
            ("192.0.2.7", "", "", (None, None)),
            ("192.0.2.7", "https", "u@a.test", (Some(true), None)),
            // The scheme and the host do not depend on the address.
            ("unknown", "https", "a.test", (Some(true), Some("a.test"))),
        ] {
            let lines = [
                ("X-Forwarded-For", list),
                ("X-Forwarded-Proto", proto),
                ("X-Forwarded-Host", host),
            ];
            let headers = headers(&lines);
            let client = forwarding.client(&headers, PROXY.parse().ok());
            assert_eq!(
                (client.secure, client.host.as_deref()),
                expected,
                "{lines:?}"
            );
            let client = plain.client(&headers, PROXY.parse().ok());
            assert_eq!((client.secure, client.host), (None, None), "not asked for");
        }
    }

    #[test]
    fn elements_of_forwarded() {
        let only = |addr: &str| (addr.to_owned(), None, None);
        for (lines, expected) in [
            (&["for=192.0.2.7"][..], only("192.0.2.7:0")),
            (&["FOR=192.0.2.7"], only("192.0.2.7:0")),
            (&["for=\"192.0.2.7:81\""], only("192.0.2.7:81")),
            (&["for=\"[2001:db8::7]:81\""], only("[2001:db8::7]:81")),
            (&["for=[2001:db8::7]"], only("[2001:db8::7]:0")),
            (&["for=2001:db8::7"], only("[2001:db8::7]:0")),
            (
                &["for=6.6.6.6, for=192.0.2.7;proto=https;host=a.test, for=10.0.0.2;proto=http"],
                ("192.0.2.7:0".into(), Some(true), Some("a.test".into())),
            ),
            (
                &[
                    "for=6.6.6.6",
                    "for=192.0.2.7 ; Proto=\"http\" ;; by=_x;host=\"a.test:81\"",
                ],
                ("192.0.2.7:0".into(), Some(false), Some("a.test:81".into())),
            ),
            // Without an address, the proxy's other parameters still count.
            (
                &["for=unknown;proto=https"],
                (PROXY.into(), Some(true), None),
            ),
            (
                &["for=_hidden;proto=https"],
                (PROXY.into(), Some(true), None),
            ),
            (&["proto=https"], (PROXY.into(), Some(true), None)),
            // Malformed.
            (&["192.0.2.7"], only(PROXY)),
            (&["for="], only(PROXY)),
            (&["for=192.0.2.7;for=6.6.6.6"], only(PROXY)),
            (&["for=192.0.2.7 proto=https"], only(PROXY)),
            (&["for=\"192.0.2.7\"x"], only(PROXY)),
            (&["for=\"192.0.2.7"], only(PROXY)),
            (&["for=\"192.0.2.7\\\""], only(PROXY)),
            (&["f r=192.0.2.7"], only(PROXY)),
            (&["=192.0.2.7"], only(PROXY)),
        ] {
            assert_eq!(by_elements(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn quotes_hide_nothing_that_a_proxy_wrote_and_show_nothing_that_a_client_did() {
        let real = "192.0.2.7:0";
        for line in [
            // The client leaves a quote open before the part that the proxy appends.
            "for=\", for=192.0.2.7",
            "for=6.6.6.6;x=\", for=192.0.2.7",
            "for=6.6.6.6;x=\", for=\"192.0.2.7\"",
            "x=\"\\, for=\"192.0.2.7\";by=\"_a\"",
            "\\\", for=192.0.2.7",
            // The proxy quotes a host that the client chose, with a comma and a quote in it.
            "for=192.0.2.7;host=\"a,for=6.6.6.6\"",
            "for=192.0.2.7;host=\"a\\\",for=6.6.6.6\"",
            "for=192.0.2.7;host=\"a\\\\\"",
            "for=6.6.6.6,for=192.0.2.7;host=\"a\\\",for=6.6.6.6;x=\\\"b\"",
        ] {
            assert_eq!(by_elements(&[line]).0, real, "{line}");
        }
    }

    #[test]
    fn a_list_of_any_length_is_read_once() {
        // Each would take hours if bytes were read more than a few times.
        for unit in [
            "10.0.0.1,",
            "\"",
            "\\\"",
            "\\",
            ",",
            "a=\"b\";",
            "for=10.0.0.1,",
        ] {
            let value = unit.repeat(4_000_000 / unit.len());
            for name in ["x-forwarded-for", "forwarded"] {
                let headers = headers(&[(name, &value)]);
                for address in [ClientAddress::XForwardedFor, ClientAddress::Forwarded] {
                    let _ = forwarding(address).client(&headers, PROXY.parse().ok());
                }
            }
        }
    }
}
