//! Counters and log lines: clients that are refused, connections that are failed.

mod text;

use std::fmt;
use std::io;

use http::header;
use log::Level;

use self::text::{Refused, Stripped, Tls, means_websocket};
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
                "refused: a PROXY protocol header on a port without Place::proxy_protocol"
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
                "refused: {error}, which Place::proxy_protocol requires; the first bytes are {}",
                Shown(begin)
            );
            line.about(self.who(), text);
        }
    }

    /// Counts and logs that a connection ended within its PROXY protocol header.
    pub(super) fn log_header_cut(&mut self) {
        let reason = RefusalReason::BadProxyHeader;
        if let Some(line) = self.count_refused(reason, Level::Info) {
            let text = "the connection ended within its PROXY protocol header";
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
            let text = format_args!("a WebSocket request is answered as a plain request: {told}");
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
        self.log_end(format_args!("ended without a request, as TCP probes do"));
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
                let text = "no PROXY protocol header came within handshake_timeout";
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
            .body("400 Bad Request\nthis port requires TLS: use https or wss")
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
                    "hint: the client offers the subprotocols {}, and the server selected none: browsers \
                     close such a connection. List the server's subprotocols with \
                     Builder::subprotocols, or select one in the Handshake handler",
                    Shown(offered.as_bytes())
                ),
            );
        }
    }

    /// Warns, once, that a page of another host connects and nothing checks its origin.
    pub(super) fn warn_unchecked_origin(&mut self, request: &Request) {
        let shared = &self.core.shared;
        let Some(origin) = request.origin() else {
            return;
        };
        if log::max_level() < Level::Warn
            || shared.config.origins.is_some()
            || shared.log_limits.was_given(Hint::OriginUnchecked)
            || self.has::<event::Origin>()
            || self.has::<event::Handshake>()
        {
            return;
        }
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
                    "a page of the origin {} connects, and the server does not check origins: any web \
                     page may connect. List the allowed origins with Builder::origins (\"*\" for \
                     all), or check them in an Origin or Handshake handler",
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
                "hint: origins lists \"self\", and the refused origin differs from Host only in \
                 the port. Behind a proxy, forward Host unchanged (nginx: proxy_set_header Host \
                 $http_host), or list the origin itself"
            ),
            Some(Hint::OriginProxy) => format_args!(
                "hint: origins lists \"self\", and Host looks like the name of an upstream server. \
                 Behind a proxy, forward Host unchanged (nginx: proxy_set_header Host $host), or \
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

/// The first byte of a TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
