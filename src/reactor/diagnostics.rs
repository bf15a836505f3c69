//! Counters and log lines: clients that are refused, connections that are failed.

use std::fmt;
use std::io;

use http::{HeaderName, Version, header};
use log::Level;

use super::dispatch::Dispatch;
use crate::connection::event;
use crate::connection::{Clean, Hint, Line, Matter, Shown, Topic, Who};
use crate::error::{HandlerError, HandshakeError, ProtocolError};
use crate::handshake::{Head, Origins, Refusal, Request};
use crate::proxy::Header;
use crate::reasons::{RefusalReason, TlsFailure};

impl Dispatch<'_> {
    /// Returns the identity that a log line about this connection shows.
    pub(super) fn who(&self) -> Who {
        self.peer().who()
    }

    /// Logs that a handler of this connection failed.
    pub(super) fn log_failed(&mut self, what: &str, error: &HandlerError) {
        if let Some(line) = self.core.shared.admits(Topic::Other(Matter::Handler)) {
            line.about(self.who(), format_args!("{what} failed: {}", Clean(error)));
        }
    }

    /// Counts and logs that the peer broke the protocol or a limit.
    pub(super) fn log_breach(&mut self, error: ProtocolError) {
        let reason = error.reason();
        self.core.shared.stats.count_failure(reason);
        if let Some(line) = self.core.shared.admits(Topic::Protocol(reason)) {
            let code = error.close_code();
            line.about(self.who(), format_args!("failed with {code}: {error}"));
        }
    }

    /// Counts and logs that the opening handshake is refused; the request is the connection's own.
    pub(super) fn log_refused(&mut self, error: HandshakeError) {
        let level = self.count_refused(error.reason(), Level::Info);
        let Some(line) = level else { return };
        let hint = self.hint_of(error);
        let told = Refused {
            error,
            request: self.peer().request(),
            head: None,
        };
        line.about(self.who(), format_args!("{told}"));
        self.give(hint);
    }

    /// Does the same for an invalid request, which the connection does not keep.
    pub(super) fn log_refused_of(&mut self, error: HandshakeError, request: &Request) {
        // A request that does not mention WebSocket at all is only a matter of HTTP.
        let level = match means_websocket(request) {
            true => Level::Info,
            false => Level::Debug,
        };
        let Some(line) = self.count_refused(error.reason(), level) else {
            return;
        };
        let told = Refused {
            error,
            request: Some(request),
            head: None,
        };
        line.about(self.who(), format_args!("{told}"));
    }

    /// Does the same for data that could not be parsed as a request.
    pub(super) fn log_unreadable(&mut self, error: HandshakeError, head: Option<Head<'_>>) {
        let is_tls = head.is_some_and(|head| head.bytes.first() == Some(&TLS_HANDSHAKE));
        let reason = match is_tls {
            true => RefusalReason::TlsHello,
            false => error.reason(),
        };
        let Some(line) = self.count_refused(reason, Level::Info) else {
            return;
        };
        if is_tls {
            let text = format_args!("refused: a TLS client on a port without TLS");
            return line.about(self.who(), text);
        }
        if head.is_some_and(|head| Header::is_begun(head.bytes)) {
            let text = format_args!(
                "refused: the header of the PROXY protocol on a port without Place::proxy_protocol"
            );
            return line.about(self.who(), text);
        }
        let told = Refused {
            error,
            request: None,
            head,
        };
        line.about(self.who(), format_args!("{told}"));
    }

    /// Counts and logs that a connection does not begin with a PROXY protocol header.
    pub(super) fn log_bad_header(&mut self, bytes: &[u8]) {
        let error = HandshakeError::BadProxyHeader;
        if let Some(line) = self.count_refused(error.reason(), Level::Info) {
            let begin = bytes
                .get(..bytes.len().min(HEADER_SHOWN))
                .unwrap_or_default();
            let text = format_args!(
                "refused: {error} came first, as Place::proxy_protocol needs it, but {}",
                Shown(begin)
            );
            line.about(self.who(), text);
        }
    }

    /// Counts and logs that a connection ended within its PROXY protocol header.
    pub(super) fn log_header_cut(&mut self) {
        let reason = RefusalReason::BadProxyHeader;
        if let Some(line) = self.count_refused(reason, Level::Info) {
            let text = "the connection ended in the middle of the header of the PROXY protocol";
            line.about(self.who(), format_args!("{text}"));
        }
    }

    /// Logs that a plain request was meant to open a WebSocket, if it was: a proxy removed its
    /// `Upgrade`.
    pub(super) fn log_stripped(&mut self, request: &Request) {
        if log::max_level() >= Level::Info
            && means_websocket(request)
            && let Some(line) = self
                .core
                .shared
                .admits(Topic::Refusal(RefusalReason::NotUpgrade))
        {
            let told = Stripped(request);
            let text = format_args!("a WebSocket request is answered as a plain one: {told}");
            line.about(self.who(), text);
        }
    }

    fn count_refused(&mut self, reason: RefusalReason, level: Level) -> Option<Line> {
        self.core.shared.stats.count_refusal(reason);
        self.core.shared.admits_at(Topic::Refusal(reason), level)
    }

    /// Counts a connection that ended without a request, as TCP probes do. It is not an error.
    pub(super) fn log_probe(&mut self) {
        self.core.shared.stats.probes += 1;
        self.log_end(format_args!("ended before a request, as a TCP probe does"));
    }

    /// Logs the end of the connection at debug level.
    pub(super) fn log_end(&self, text: fmt::Arguments<'_>) {
        if log::max_level() >= Level::Debug {
            Line::of(Matter::End).about(self.who(), text);
        }
    }

    /// Counts and logs that the opening handshake timed out before there was a request to answer.
    pub(super) fn log_overdue(&mut self, error: HandshakeError) {
        if self.peer().transport.is_shaking_hands() {
            return self.log_tls(TlsFailure::TimedOut, None);
        }
        if self.peer().is_unannounced() {
            if let Some(line) = self.count_refused(error.reason(), Level::Info) {
                let text = "no header of the PROXY protocol came within handshake_timeout";
                line.about(self.who(), format_args!("{text}"));
            }
            return;
        }
        // Browsers open connections in advance, and then may send nothing on them.
        if let Some(line) = self.count_refused(error.reason(), Level::Debug) {
            let text = format_args!("no request came within handshake_timeout");
            line.about(self.who(), text);
        }
    }

    /// Counts and logs that TLS failed.
    pub(super) fn log_tls(&mut self, failure: TlsFailure, error: Option<&io::Error>) {
        self.core.shared.stats.count_tls_failure(failure);
        let Some(line) = self.core.shared.admits(Topic::Tls(failure)) else {
            return;
        };
        let told = Tls {
            failure,
            name: self.peer().transport.asked_name(),
            error,
        };
        line.about(self.who(), format_args!("{told}"));
    }

    /// Answers a client that speaks plain HTTP on a TLS port, as far as the kernel takes the answer
    /// at once. Returns whether the client does.
    pub(super) fn answer_plain_http(&mut self) -> bool {
        let conn = self.conn();
        let now = (conn.shared.wall_clock)();
        let Some(socket) = conn.peer.transport.plain_http() else {
            return false;
        };
        let mut answer = Vec::new();
        Refusal::new(400)
            .body("400 Bad Request\nthis port is for TLS: use https or wss")
            .encode(now, &mut answer);
        let _ = io::Write::write(socket, &answer);
        true
    }

    /// Logs, once, that clients offer subprotocols while the server has none.
    pub(super) fn hint_subprotocols(&mut self, request: &Request) {
        if log::max_level() >= Level::Info
            && let Some(offered) = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL)
            && self.core.shared.hint(Hint::Subprotocols)
        {
            Line::free(Topic::Refusal(RefusalReason::Refused).target(), Level::Info).about(
                self.who(),
                format_args!(
                    "hint: the client offers the subprotocols {}, and none was agreed on: a browser \
                     closes such a connection. Name those of the server with Builder::subprotocols, \
                     or pick one in the Handshake handler",
                    Shown(offered.as_bytes())
                ),
            );
        }
    }

    /// Warns, once, that a page of another host connects and nothing checks its origin.
    pub(super) fn warn_unchecked_origin(&mut self, request: &Request) {
        if log::max_level() < Level::Warn
            || self.core.shared.config.origins.is_some()
            || self.has::<event::Origin>()
            || self.has::<event::Handshake>()
        {
            return;
        }
        let Some(origin) = request.origin() else {
            return;
        };
        let peer = self.peer();
        let is_self = Origins::new(["self"]).is_ok_and(|own| {
            own.allow(
                Some(origin),
                peer.asked_host(request),
                peer.is_client_secure(),
            )
        });
        if !is_self && self.core.shared.hint(Hint::OriginUnchecked) {
            Line::free(
                Topic::Refusal(RefusalReason::OriginRefused).target(),
                Level::Warn,
            )
            .about(
                self.who(),
                format_args!(
                    "a page of {} connects, and nothing checks origins: any web page may connect. \
                     Name the allowed ones with Builder::origins (\"*\" for all), or check them in \
                     an Origin or Handshake handler",
                    Shown(origin.as_bytes())
                ),
            );
        }
    }

    /// Returns the hint that explains a refusal, if it was not given before.
    fn hint_of(&mut self, error: HandshakeError) -> Option<Hint> {
        if error != HandshakeError::OriginRefused {
            return None;
        }
        let peer = self.peer();
        let secure = peer.is_client_secure();
        let request = peer.request()?;
        let origins = self.core.shared.config.origins.as_ref()?;
        let (origin, host) = (request.origin()?, peer.asked_host(request)?);
        let hint = match origins.is_other_port(origin, host, secure) {
            true => Hint::OriginPort,
            false if origins.is_proxied(origin, host) => Hint::OriginProxy,
            false => return None,
        };
        self.core.shared.hint(hint).then_some(hint)
    }

    fn give(&self, hint: Option<Hint>) {
        let text = match hint {
            Some(Hint::OriginPort) => format_args!(
                "hint: origins lists \"self\", and the refused origin differs from Host by the port \
                 alone. Behind a proxy, pass Host on as it came (nginx: proxy_set_header Host \
                 $http_host), or list the origin itself"
            ),
            Some(Hint::OriginProxy) => format_args!(
                "hint: origins lists \"self\", and Host looks like the name of an upstream server. \
                 Behind a proxy, pass Host on as it came (nginx: proxy_set_header Host $host), or \
                 list the origin itself"
            ),
            Some(Hint::OriginUnchecked | Hint::Subprotocols) | None => return,
        };
        Line::free(
            Topic::Refusal(RefusalReason::OriginRefused).target(),
            Level::Info,
        )
        .about(self.who(), text);
    }
}

/// How many bytes are shown of data that is not a PROXY protocol header.
const HEADER_SHOWN: usize = 40;

/// Returns whether a request was meant to open a WebSocket.
fn means_websocket(request: &Request) -> bool {
    request.has(header::SEC_WEBSOCKET_KEY)
        || request.has(header::SEC_WEBSOCKET_VERSION)
        || request.lists(header::UPGRADE, "websocket")
}

/// A refusal, with the values that explain it.
struct Refused<'a> {
    error: HandshakeError,
    /// The request, if it could be parsed.
    request: Option<&'a Request>,
    /// The data that could not be parsed as a request.
    head: Option<Head<'a>>,
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, .. } = *self;
        write!(f, "handshake refused with {}", error.status().as_u16())?;
        if let HandshakeError::Refused(_) = error {
            f.write_str(" by a handler, or because the server goes down")?;
        } else {
            write!(f, ": {error}")?;
        }
        if let Some(request) = self.request {
            self.values(f, request)?;
        }
        match self.head {
            Some(head) => self.bytes(f, head),
            None => Ok(()),
        }
    }
}

impl Refused<'_> {
    /// Writes the values of a parsed request that explain the refusal.
    fn values(&self, f: &mut fmt::Formatter<'_>, request: &Request) -> fmt::Result {
        let show =
            |f: &mut fmt::Formatter<'_>, name: HeaderName| write!(f, "{}", Values(request, name));
        match self.error {
            HandshakeError::BadHeader => {
                show(f, header::HOST)?;
                show(f, header::ORIGIN)?;
                // Some applications put a secret into this header.
                write!(f, "{}", Names(request, header::SEC_WEBSOCKET_PROTOCOL))
            }
            HandshakeError::BadKey => show(f, header::SEC_WEBSOCKET_KEY),
            HandshakeError::BadTarget => {
                write!(
                    f,
                    ", target {}",
                    Target(request.uri().to_string().as_bytes())
                )?;
                show(f, header::HOST)
            }
            HandshakeError::BodyProhibited => {
                show(f, header::CONTENT_LENGTH)?;
                show(f, header::TRANSFER_ENCODING)
            }
            HandshakeError::ConnectionNotUpgrade => {
                show(f, header::CONNECTION)?;
                write!(f, ": {}", Stripped(request))
            }
            HandshakeError::DuplicateHeader(name) => {
                match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(name) => show(f, name),
                    Err(_) => Ok(()),
                }
            }
            HandshakeError::Expectation => show(f, header::EXPECT),
            HandshakeError::HostNotServed => show(f, header::HOST),
            HandshakeError::MethodNotGet => {
                write!(
                    f,
                    ", method {}",
                    Shown(request.method().as_str().as_bytes())
                )
            }
            HandshakeError::NotUpgrade => {
                show(f, header::UPGRADE)?;
                match means_websocket(request) {
                    true => write!(f, ": {}", Stripped(request)),
                    false => Ok(()),
                }
            }
            HandshakeError::OriginRefused => {
                show(f, header::ORIGIN)?;
                show(f, header::HOST)
            }
            HandshakeError::UnsupportedVersion => show(f, header::SEC_WEBSOCKET_VERSION),
            _ => Ok(()),
        }
    }

    /// Writes what is wrong with a head that could not be parsed.
    fn bytes(&self, f: &mut fmt::Formatter<'_>, head: Head<'_>) -> fmt::Result {
        match self.error {
            HandshakeError::HeadTooBig { .. } | HandshakeError::TooManyHeaders { .. } => {
                let Some((name, size)) = head.largest() else {
                    return Ok(());
                };
                write!(
                    f,
                    "; the largest header is {} with {size} bytes",
                    Shown(name)
                )
            }
            HandshakeError::HttpVersion => write!(
                f,
                ", request line {}: a proxy that speaks HTTP/1.0 to this server cannot open a \
                 WebSocket (nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, \
                 proxy_set_header Connection \"upgrade\")",
                Target(head.request_line())
            ),
            HandshakeError::BadRequestLine | HandshakeError::BadTarget => {
                write!(f, ", request line {}", Target(head.request_line()))
            }
            HandshakeError::BadHeader => {
                let (name, line) = head.malformed();
                match is_secret(name) {
                    true => write!(f, ", in {} of {} bytes", Shown(name), line.len()),
                    false => write!(f, ", line {}", Shown(line)),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The likely reason why a request lacks the headers of an opening handshake.
struct Stripped<'a>(&'a Request);

impl fmt::Display for Stripped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.version() == Version::HTTP_10 {
            f.write_str("a proxy speaks HTTP/1.0 to this server (nginx: proxy_http_version 1.1)")
        } else {
            f.write_str(
                "a proxy took Upgrade or Connection away (nginx: proxy_set_header Upgrade \
                 $http_upgrade, proxy_set_header Connection \"upgrade\")",
            )
        }
    }
}

/// All values of a header, if it is present.
struct Values<'a>(&'a Request, HeaderName);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.0.headers().get_all(&self.1).iter();
        for value in values.by_ref().take(VALUES) {
            write!(f, ", {} {}", self.1, Shown(value.as_bytes()))?;
        }
        match values.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A header's length without its value, if it is present.
struct Names<'a>(&'a Request, HeaderName);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.headers().get(&self.1) {
            Some(value) => write!(f, ", {} of {} bytes", self.1, value.len()),
            None => Ok(()),
        }
    }
}

/// A request target without its query, which may hold secrets.
struct Target<'a>(&'a [u8]);

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == b'?');
        let shown = self
            .0
            .get(..end.unwrap_or(self.0.len()))
            .unwrap_or_default();
        write!(f, "{}", Shown(shown))?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and a query of {more} bytes"),
        }
    }
}

/// A failure of TLS, with its details.
struct Tls<'a> {
    failure: TlsFailure,
    name: Option<&'a str>,
    error: Option<&'a io::Error>,
}

impl fmt::Display for Tls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS failed: {}", self.failure.words())?;
        if let Some(name) = self.name {
            write!(f, ", server name {}", Shown(name.as_bytes()))?;
        }
        match self.error {
            // The TLS session's error may contain bytes from the peer.
            Some(error) if self.failure != TlsFailure::PlainHttp => {
                write!(f, " ({})", Clean(error))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether a header's value may be a secret, judged by its name.
fn is_secret(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    [&b"auth"[..], b"cookie", b"key", b"protocol", b"token"]
        .iter()
        .any(|part| name.windows(part.len()).any(|window| window == *part))
}

/// The first byte of a TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How many values of one header are shown.
const VALUES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "Cookie",
            "set-cookie2",
            "Authorization",
            "X-Auth",
            "x-api-key",
            "X-Token",
        ] {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
        for name in ["Host", "", "Origin", "Upgrade", "Connection"] {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn queries_are_not_shown() {
        assert_eq!(
            Target(b"GET /a?token=s3cret HTTP/1.1").to_string(),
            "\"GET /a\" and a query of 22 bytes"
        );
        assert_eq!(Target(b"GET /a").to_string(), "\"GET /a\"");
    }
}
