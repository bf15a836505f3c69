//! Validation of opening handshakes (RFC 6455, 4.2.1).

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Version, header};

use super::host::is_host;
use super::key::AcceptKey;
use super::request::Request;
use crate::error::HandshakeError;
use crate::tokens::has_token;

impl Request {
    /// Checks that the request is an opening handshake, and returns its `Sec-WebSocket-Accept`.
    ///
    /// The checks run in this order, and the first that fails determines the error:
    ///
    /// 1. the method is GET;
    /// 2. the target is a path, or an absolute `http`, `https`, `ws` or `wss` URI;
    /// 3. there is one well-formed `Host`, equal to the authority of an absolute target;
    /// 4. no body is announced: there is no `Transfer-Encoding`, and no `Content-Length` except a
    ///    single 0;
    /// 5. `Upgrade` lists `websocket`, and `Connection` lists `upgrade`;
    /// 6. `Sec-WebSocket-Version` is 13;
    /// 7. `Sec-WebSocket-Key` is the base64 of 16 bytes;
    /// 8. there is at most one `Origin`, and it is ASCII.
    ///
    /// Lists are parsed leniently: malformed elements of `Upgrade`, `Connection`,
    /// `Sec-WebSocket-Protocol` and `Sec-WebSocket-Extensions` are ignored. `docs/handshake.md`
    /// gives the reason for each rule.
    ///
    /// # Errors
    ///
    /// Returns the error of the first rule that the request breaks.
    pub fn accept_key(&self) -> Result<AcceptKey, HandshakeError> {
        if self.method() != Method::GET {
            return Err(HandshakeError::MethodNotGet);
        }
        if !self.has_resource_name() {
            return Err(HandshakeError::BadTarget);
        }
        self.check_host()?;
        // This server would read a body as frames, and the next hop as a request. An empty body is
        // no body (RFC 9112, 6.3); java.net.http, Dart, Mojolicious and others announce one.
        if self.has(header::TRANSFER_ENCODING) || !self.is_length_zero() {
            return Err(HandshakeError::BodyProhibited);
        }
        // RFC 6455, 4.2.1: "An |Upgrade| header field containing the value "websocket", treated
        // as an ASCII case-insensitive value."
        if !self.lists(header::UPGRADE, "websocket") {
            return Err(HandshakeError::NotUpgrade);
        }
        // "A |Connection| header field that includes the token "Upgrade""
        if !self.lists(header::CONNECTION, "upgrade") {
            return Err(HandshakeError::ConnectionNotUpgrade);
        }
        // RFC 6455, 11.3.5: it "MUST NOT appear more than once in an HTTP request."
        let version = self.single(header::SEC_WEBSOCKET_VERSION, "sec-websocket-version")?;
        if version.is_none_or(|version| version != "13") {
            return Err(HandshakeError::UnsupportedVersion);
        }
        // RFC 6455, 11.3.1 says the same about the key.
        let key = self
            .single(header::SEC_WEBSOCKET_KEY, "sec-websocket-key")?
            .ok_or(HandshakeError::MissingHeader("sec-websocket-key"))?;
        let accept = AcceptKey::derive(key.as_bytes())?;
        // RFC 6454, 7.3: "the user agent MUST NOT include more than one Origin header field". With
        // two, a check could look at one and trust the other. An origin is also ASCII (6.2); any
        // other value must never pass for a request without one.
        let origin = self.single(header::ORIGIN, "origin")?;
        if origin.is_some_and(|origin| origin.to_str().is_err()) {
            return Err(HandshakeError::BadHeader);
        }
        Ok(accept)
    }

    /// Returns whether the request asks for an upgrade to `websocket`, valid or not.
    pub(crate) fn asks_for_websocket(&self) -> bool {
        // RFC 9110, 7.8: "A server MUST ignore an Upgrade header field that is received in an
        // HTTP/1.0 request."
        self.version() != Version::HTTP_10 && self.lists(header::UPGRADE, "websocket")
    }

    /// Returns whether the client may send another request after this one (RFC 9112, 9.3).
    pub(crate) fn keeps_alive(&self) -> bool {
        match self.version() {
            Version::HTTP_10 => self.lists(header::CONNECTION, "keep-alive"),
            _ => !self.lists(header::CONNECTION, "close"),
        }
    }

    /// Checks the target and the host of a request that is not an opening handshake.
    pub(crate) fn check_plain(&self) -> Result<(), HandshakeError> {
        // RFC 9112, 3.2.4: "The asterisk-form of request-target is only used for a server-wide
        // OPTIONS request".
        let everything = self.method() == Method::OPTIONS && self.path() == "*";
        if !everything && !self.has_resource_name() {
            return Err(HandshakeError::BadTarget);
        }
        // HTTP/1.0 has no `Host`.
        if self.version() == Version::HTTP_10 && !self.has(header::HOST) {
            return Ok(());
        }
        self.check_host()
    }

    /// Returns whether the target names a resource (RFC 6455, 4.2.1, item 1).
    fn has_resource_name(&self) -> bool {
        let Some(scheme) = self.uri().scheme_str() else {
            // Excludes `*` and an authority, which are targets of other methods.
            return self.path().starts_with('/');
        };
        ["http", "https", "ws", "wss"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    }

    fn check_host(&self) -> Result<(), HandshakeError> {
        // RFC 7230, 5.4: "A server MUST respond with a 400 (Bad Request) status code to any
        // HTTP/1.1 request message that lacks a Host header field and to any request message that
        // contains more than one Host header field or a Host header field with an invalid
        // field-value."
        let host = self
            .single(header::HOST, "host")?
            .ok_or(HandshakeError::MissingHeader("host"))?;
        if !is_host(host.as_bytes()) {
            return Err(HandshakeError::BadHeader);
        }
        // "If the target URI includes an authority component, then a client MUST send a field-value
        // for Host that is identical to that authority component". With two names for one server, a
        // check could look at one and a proxy at the other. RFC 9110, 4.2.3: the scheme's default
        // port is equivalent to no port.
        let scheme = self.uri().scheme_str().unwrap_or_default();
        match self.uri().authority() {
            Some(named) if !is_same(host.as_bytes(), named, scheme) => {
                Err(HandshakeError::BadTarget)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the request has no `Content-Length`, or a single one of 0.
    fn is_length_zero(&self) -> bool {
        let mut lengths = self.headers().get_all(header::CONTENT_LENGTH).into_iter();
        // RFC 9110, 8.6: Content-Length = 1*DIGIT. Another recipient may interpret several lines or
        // a list differently, even if all values are 0.
        let is_zero = |length: &HeaderValue| {
            let length = length.as_bytes();
            !length.is_empty() && length.iter().all(|digit| *digit == b'0')
        };
        lengths.next().is_none_or(is_zero) && lengths.next().is_none()
    }

    pub(crate) fn has(&self, name: HeaderName) -> bool {
        self.headers().contains_key(name)
    }

    /// Returns whether the header, over all of its lines, lists this token.
    pub(crate) fn lists(&self, name: HeaderName, token: &str) -> bool {
        self.headers()
            .get_all(name)
            .iter()
            .any(|line| has_token(line.as_bytes(), token))
    }

    /// Returns the value of a header that may occur only once.
    fn single(
        &self,
        name: HeaderName,
        shown: &'static str,
    ) -> Result<Option<&HeaderValue>, HandshakeError> {
        let mut values = self.headers().get_all(name).into_iter();
        let first = values.next();
        match values.next() {
            Some(_) => Err(HandshakeError::DuplicateHeader(shown)),
            None => Ok(first),
        }
    }
}

/// Returns whether a well-formed `Host` equals the authority of a URI with this scheme.
fn is_same(host: &[u8], named: &Authority, scheme: &str) -> bool {
    if host.eq_ignore_ascii_case(named.as_str().as_bytes()) {
        return true;
    }
    let Ok(host) = Authority::try_from(host) else {
        return false;
    };
    let own = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => 80,
        _ => 443,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(own);
    // An authority may have user information before the host; `Host` never has.
    !named.as_str().contains('@')
        && host.host().eq_ignore_ascii_case(named.host())
        && port(&host) == port(named)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{SAMPLE, altered, request};
    use super::*;

    /// Checks the sample with one of its parts replaced.
    fn check(from: &str, to: &str) -> Result<AcceptKey, HandshakeError> {
        altered(from, to).accept_key()
    }

    #[test]
    fn sample_is_accepted() {
        let accept = request(SAMPLE).accept_key().unwrap();
        assert_eq!(accept.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_mandatory_header_missing_or_doubled() {
        let missing = HandshakeError::MissingHeader;
        let double = HandshakeError::DuplicateHeader;
        for (line, without, twice) in [
            (
                "Host: server.example.com",
                Some(missing("host")),
                Some(double("host")),
            ),
            ("Upgrade: websocket", Some(HandshakeError::NotUpgrade), None),
            (
                "Connection: Upgrade",
                Some(HandshakeError::ConnectionNotUpgrade),
                None,
            ),
            (
                "Sec-WebSocket-Version: 13",
                Some(HandshakeError::UnsupportedVersion),
                Some(double("sec-websocket-version")),
            ),
            (
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                Some(missing("sec-websocket-key")),
                Some(double("sec-websocket-key")),
            ),
            ("Origin: http://example.com", None, Some(double("origin"))),
            ("Sec-WebSocket-Protocol: chat, superchat", None, None),
        ] {
            let line = format!("{line}\r\n");
            assert_eq!(check(&line, "").err(), without, "no {line}");
            assert_eq!(check(&line, &line.repeat(2)).err(), twice, "two {line}");
        }
    }

    #[test]
    fn methods_and_targets() {
        for method in ["POST", "HEAD", "get", "OPTIONS", "CONNECT", "X"] {
            assert_eq!(check("GET", method), Err(HandshakeError::MethodNotGet));
        }
        for target in [
            "/",
            "//",
            "/?",
            "http://server.example.com/",
            "wss://SERVER.example.com",
            "http://server.example.com:80/",
            "WS://server.example.com:80/",
            "https://server.example.com:443/",
            "wss://server.example.com:",
        ] {
            assert!(check("/chat", target).is_ok(), "{target}");
        }
        for target in [
            "*",
            "server.example.com",
            "server.example.com:80",
            "ftp://server.example.com/",
            "http://other.example.com/",
            "http://server.example.com:443/",
            "https://server.example.com:80/",
            "http://server.example.com:8080/",
            "http://a@server.example.com/",
        ] {
            assert_eq!(
                check("/chat", target),
                Err(HandshakeError::BadTarget),
                "{target}"
            );
        }
    }

    #[test]
    fn hosts_are_well_formed() {
        assert!(check("server.example.com", "[::1]:8080").is_ok());
        for host in ["", "a b", "u@a", "a:65536", "\u{e9}"] {
            let result = check("server.example.com", host);
            assert_eq!(result, Err(HandshakeError::BadHeader), "{host}");
        }
    }

    #[test]
    fn bodies_are_prohibited() {
        for line in [
            "Content-Length: 5",
            "Content-Length: +5, 5",
            "Content-Length: +0",
            "Content-Length: -0",
            "Content-Length: 0x0",
            "Content-Length: 0.0",
            "Content-Length: 0, 0",
            "Content-Length: 0\r\nContent-Length: 0",
            "Content-Length: 0\r\nContent-Length: 5",
            "content-length:",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            "TRANSFER-ENCODING: xchunked\r\nContent-Length: 1",
        ] {
            let result = check("Origin:", &format!("{line}\r\nOrigin:"));
            assert_eq!(result, Err(HandshakeError::BodyProhibited), "{line}");
        }
    }

    #[test]
    fn an_empty_body_is_none() {
        for line in [
            "Content-Length: 0",
            "content-length:0",
            "Content-Length: 00 ",
        ] {
            let result = check("Origin:", &format!("{line}\r\nOrigin:"));
            assert!(result.is_ok(), "{line}");
        }
    }

    #[test]
    fn an_origin_that_is_not_ascii_is_not_taken_for_none() {
        let result = check("Origin: http://", "Origin: http://\u{e9}");
        assert_eq!(result, Err(HandshakeError::BadHeader));
    }

    #[test]
    fn upgrades_and_connections_are_lists() {
        for value in [
            "WebSocket",
            "h2c, websocket",
            ",websocket,",
            "h2c\r\nUpgrade: websocket",
        ] {
            assert!(
                check(": websocket", &format!(": {value}")).is_ok(),
                "{value}"
            );
        }
        for value in [
            "",
            "websocketx",
            "\"websocket\"",
            "websocket/13",
            "h2c",
            "web, socket",
        ] {
            let result = check(": websocket", &format!(": {value}"));
            assert_eq!(result, Err(HandshakeError::NotUpgrade), "{value}");
        }
        for value in [
            "upgrade",
            "keep-alive, UPGRADE",
            "close\r\nConnection: upgrade",
        ] {
            assert!(
                check("n: Upgrade", &format!("n: {value}")).is_ok(),
                "{value}"
            );
        }
        for value in ["", "keep-alive", "upgraded", "\"keep-alive, upgrade\""] {
            let result = check("n: Upgrade", &format!("n: {value}"));
            assert_eq!(result, Err(HandshakeError::ConnectionNotUpgrade), "{value}");
        }
    }

    #[test]
    fn versions_and_keys() {
        for version in [
            "", "8", "12", "14", "013", "13.0", "13, 8", "13,13", "+13", "\u{e9}",
        ] {
            let result = check(": 13", &format!(": {version}"));
            assert_eq!(result, Err(HandshakeError::UnsupportedVersion), "{version}");
        }
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ==, x",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZQ=x",
            "dGhlIHNhbXBsZSBub25jZ-==",
            "\u{e9}",
        ] {
            let result = check("dGhlIHNhbXBsZSBub25jZQ==", key);
            assert_eq!(result, Err(HandshakeError::BadKey), "{key}");
        }
    }

    #[test]
    fn the_spare_bits_of_a_key_do_not_matter() {
        // The first is the example of RFC 6455, 4.1, item 7.
        for (key, accept) in [
            ("AQIDBAUGBwgJCgsMDQ4PEC==", "OfS0wDaT5NoxF2gqm7Zj2YtetzM="),
            ("dGhlIHNhbXBsZSBub25jZf==", "X6f47m0G5NixFYe1pmdqfXnTIjI="),
        ] {
            let accepted = check("dGhlIHNhbXBsZSBub25jZQ==", key).unwrap();
            // The digest is that of the value as received (4.2.2).
            assert_eq!(accepted.as_str(), accept, "{key}");
        }
    }

    #[test]
    fn whatever_is_in_a_list_of_subprotocols_is_no_reason_to_refuse() {
        for (offer, expected) in [
            ("a", "a"),
            ("a,b", "a b"),
            (",a, ,B,b", "a B b"),
            ("a\r\nSec-WebSocket-Protocol: b", "a b"),
            ("", ""),
            (",", ""),
            ("a b, c", "c"),
            ("a/b", ""),
            ("a,a", "a a"),
            ("\"a\", b", "b"),
            ("\"a, b\", c", "c"),
            ("\"a, b", ""),
            ("\u{e9}, a", "a"),
            ("a\r\nSec-WebSocket-Protocol:", "a"),
        ] {
            let request = altered("chat, superchat", offer);
            assert!(request.accept_key().is_ok(), "{offer}");
            let offered: Vec<_> = request.subprotocols().collect();
            assert_eq!(offered.join(" "), expected, "{offer}");
        }
    }

    #[test]
    fn the_first_broken_rule_is_named() {
        let head = "POST * HTTP/1.1\r\n\r\n";
        assert_eq!(
            request(head).accept_key(),
            Err(HandshakeError::MethodNotGet)
        );
        let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(request(head).accept_key(), Err(HandshakeError::NotUpgrade));
        let head = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        let (request, taken) = super::super::Parser::new(&Default::default())
            .parse(head.as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(taken, head.len() - 1);
        assert_eq!(request.accept_key(), Err(HandshakeError::BodyProhibited));
    }
}
