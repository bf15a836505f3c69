//! A request head in the types of the `http` crate.

use std::borrow::Cow;
use std::str;

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

use super::query;
use crate::tokens::{elements, is_token, trim};

/// The request that a client sends to open a WebSocket, or a plain HTTP request.
///
/// It holds what the client sent, valid or not; [`accept_key`](Self::accept_key) checks that it is
/// an opening handshake, which has no body.
#[derive(Clone, Debug)]
pub struct Request(http::Request<Vec<u8>>);

impl Request {
    pub(super) fn new(method: Method, uri: Uri, version: Version, headers: HeaderMap) -> Self {
        let mut request = http::Request::new(Vec::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        Self(request)
    }

    /// Returns the approximate memory in use, without the body, in bytes.
    pub(crate) fn held(&self) -> usize {
        let line = |(name, value): (&http::HeaderName, &HeaderValue)| {
            LINE + name.as_str().len() + value.len()
        };
        let lines: usize = self.headers().iter().map(line).sum();
        let target = self
            .uri()
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        size_of::<Self>() + target + lines
    }

    /// Sets the body.
    pub(crate) fn set_body(&mut self, body: Vec<u8>) {
        *self.0.body_mut() = body;
    }

    /// Returns the body, decoded if it was chunked; empty if there is none.
    pub fn body(&self) -> &[u8] {
        self.0.body()
    }

    /// Returns the method, `GET` in every opening handshake.
    pub fn method(&self) -> &Method {
        self.0.method()
    }

    /// Returns the request target: a path with its query, or an absolute URI.
    #[doc(alias = "resource_name")]
    pub fn uri(&self) -> &Uri {
        self.0.uri()
    }

    /// Returns the version: HTTP/1.1, or for a plain request also HTTP/1.0.
    pub fn version(&self) -> Version {
        self.0.version()
    }

    /// Returns all headers.
    #[doc(alias = "fields")]
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// Returns the first value of a header, if it is visible ASCII.
    ///
    /// For other values, such as a user name in UTF-8 that a proxy added, it returns `None`: see
    /// [`header_bytes`](Self::header_bytes).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Returns the first value of a header as the received bytes, without surrounding white space.
    ///
    /// RFC 9110, 5.5 leaves the meaning of bytes above 127 open; most senders mean UTF-8.
    ///
    /// ```
    /// # fn user(request: &wsloop::handshake::Request) -> Option<&str> {
    /// std::str::from_utf8(request.header_bytes("X-Remote-User")?).ok()
    /// # }
    /// ```
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers().get(name).map(HeaderValue::as_bytes)
    }

    /// Returns the value of `Host`, with the port if the client sent one.
    pub fn host(&self) -> Option<&str> {
        self.headers().get(header::HOST)?.to_str().ok()
    }

    /// Returns the value of `Origin`: the origin of the page that opens the connection (RFC 6454).
    pub fn origin(&self) -> Option<&str> {
        self.headers().get(header::ORIGIN)?.to_str().ok()
    }

    /// Returns the path, percent-encoded as the client sent it.
    pub fn path(&self) -> &str {
        self.uri().path()
    }

    /// Returns the query, which follows the `?`, percent-encoded as the client sent it.
    pub fn query(&self) -> Option<&str> {
        self.uri().query()
    }

    /// Yields the names and values of the query in the client's order, decoded like those of a
    /// form: `%41` is an `A`, and `+` a space. Pairs that are not UTF-8 are skipped.
    #[doc(alias = "query_form")]
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.query().into_iter().flat_map(query::pairs)
    }

    /// Returns the decoded value of the first pair with this name in the query.
    ///
    /// ```
    /// use wsloop::{Server, event::Handshake};
    ///
    /// let builder = Server::builder().on(Handshake, |_, upgrade| {
    ///     upgrade.request().query_param("token").as_deref() == Some("s3cret")
    /// });
    /// ```
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs()
            .find(|pair| pair.0 == name)
            .map(|pair| pair.1)
    }

    /// Yields the cookies as names and values, in the client's order.
    ///
    /// A quoted value keeps its quotes, which are part of it (RFC 6265, 4.1.1). Elements that are
    /// not a pair or not UTF-8 are skipped.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        // RFC 6265, 4.2.1: cookie-string = cookie-pair *( ";" SP cookie-pair ). A client sends one
        // header line (5.4); several are treated like one.
        let lines = self.headers().get_all(header::COOKIE).into_iter();
        lines
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|pair| {
                let (name, value) = str::from_utf8(trim(pair)).ok()?.split_once('=')?;
                (!name.is_empty()).then_some((name, value))
            })
    }

    /// Returns the value of the first cookie with this name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies()
            .find(|cookie| cookie.0 == name)
            .map(|cookie| cookie.1)
    }

    /// Yields the subprotocols that the client offers, in order of its preference (RFC 6455, 4.1).
    /// Elements that are not tokens are skipped.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        // RFC 6455, 11.3.4: the header "MAY appear multiple times in an HTTP request (which is
        // logically the same as a single header field that contains all values)"
        let lines = self
            .headers()
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .into_iter();
        lines
            .flat_map(|line| elements(line.as_bytes()))
            .filter(|element| is_token(element))
            .filter_map(|element| str::from_utf8(element).ok())
    }
}

impl From<Request> for http::Request<()> {
    fn from(request: Request) -> Self {
        request.0.map(drop)
    }
}

impl From<Request> for http::Request<Vec<u8>> {
    fn from(request: Request) -> Self {
        request.0
    }
}

/// Converts a request that another HTTP server has parsed.
impl From<http::Request<()>> for Request {
    fn from(request: http::Request<()>) -> Self {
        Self(request.map(|()| Vec::new()))
    }
}

/// Approximate memory per header besides name and value, in bytes.
const LINE: usize = 128;

#[cfg(test)]
mod tests {
    use super::super::samples::{SAMPLE, altered, request};

    #[test]
    fn parts_of_the_sample() {
        let request = request(SAMPLE);
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri(), "/chat");
        assert_eq!(request.version(), http::Version::HTTP_11);
        assert_eq!(request.headers().len(), 7);
        assert_eq!(request.host(), Some("server.example.com"));
        assert_eq!(request.origin(), Some("http://example.com"));
        assert_eq!(request.header("UPGRADE"), Some("websocket"));
        assert_eq!(request.header("no such"), None);
        assert_eq!((request.path(), request.query()), ("/chat", None));
        assert!(request.subprotocols().eq(["chat", "superchat"]));
        let request = http::Request::<()>::from(request);
        assert_eq!(request.uri().path(), "/chat");
        assert_eq!(
            super::Request::from(request).header("upgrade"),
            Some("websocket")
        );
    }

    #[test]
    fn queries_are_kept() {
        let request = altered("/chat", "/c%20t?a=1&b=%3F?");
        assert_eq!(
            (request.path(), request.query()),
            ("/c%20t", Some("a=1&b=%3F?"))
        );
        assert_eq!(request.query_param("b").as_deref(), Some("??"));
        assert_eq!(request.query_param("c"), None);
        let pairs = [("a".into(), "1".into()), ("b".into(), "??".into())];
        assert!(request.query_pairs().eq(pairs));
        let request = altered("/chat", "http://server.example.com?x");
        assert_eq!((request.path(), request.query()), ("/", Some("x")));
    }

    #[test]
    fn cookies_come_in_order() {
        let request = altered(
            "Origin:",
            "Cookie: a=1; b=\"2\";;\tc=3=4; none; =x; a=5\r\ncookie: \u{e9}=\u{fc}; d=\r\nOrigin:",
        );
        let expected = [
            ("a", "1"),
            ("b", "\"2\""),
            ("c", "3=4"),
            ("a", "5"),
            ("\u{e9}", "\u{fc}"),
            ("d", ""),
        ];
        assert!(request.cookies().eq(expected));
        assert_eq!(request.cookie("a"), Some("1"));
        assert_eq!(request.cookie("d"), Some(""));
        assert_eq!(request.cookie("A"), None);
    }

    #[test]
    fn subprotocols_run_over_several_lines() {
        let request = altered("chat, superchat", "b,, a\r\nSec-WebSocket-Protocol: c");
        assert!(request.subprotocols().eq(["b", "a", "c"]));
    }

    #[test]
    fn values_that_are_not_ascii_are_no_strings() {
        let request = altered("Origin: http://", "Origin: http://\u{e9}");
        assert_eq!(request.origin(), None);
        assert!(request.headers().contains_key("origin"));
    }
}
