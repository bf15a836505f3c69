//! Admission of clients, within the limits of the server, of proxies, and of addresses.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use mio::Registry;

use super::accept_pauses::{Pauses, Why};
use super::event_queue::Source;
use super::listener::Accepting;
use super::{Server, State};
use crate::close_code::CloseCode;
use crate::connection::{Adoption, Core, Matter, Topic, Who};
use crate::handshake::Refusal;
use crate::protocol::Sender;
use crate::proxy::Networks;
use crate::reactor::{Reactor, Via, connection_tag};
use crate::reasons::TlsFailure;
use crate::transport::Transport;

/// A limit of the server at which accepting pauses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AcceptLimit {
    Connections,
    HalfOpen,
    Memory,
}

impl AcceptLimit {
    /// Returns the limit that is reached, if any.
    pub(crate) fn reached(core: &Core) -> Option<Self> {
        let shared = &core.shared;
        if core.peers.len() >= shared.config.max_connections {
            Some(Self::Connections)
        } else if shared.half_open >= shared.config.max_half_open {
            Some(Self::HalfOpen)
        } else if shared.budget.keeps_out() {
            Some(Self::Memory)
        } else {
            None
        }
    }

    /// Counts that accepting pauses, unless it already did, and logs it.
    fn pause(self, before: &mut Option<Self>, pauses: &mut Pauses, core: &mut Core) {
        let shared = &mut core.shared;
        let now = shared.now.as_millis() as u64;
        let is_new = *before != Some(self);
        if is_new {
            if let Some(before) = before.replace(self) {
                pauses.resume(before.into(), now);
            }
            let stats = &mut shared.stats;
            *match self {
                Self::Connections => &mut stats.accept_pauses,
                Self::HalfOpen => &mut stats.half_open_pauses,
                Self::Memory => &mut stats.budget_pauses,
            } += 1;
        }
        let config = &shared.config;
        let (name, value) = match self {
            Self::Connections => ("max_connections", config.max_connections),
            Self::HalfOpen => ("max_half_open", config.max_half_open),
            Self::Memory => ("three quarters of memory_budget", shared.budget.limit()),
        };
        let why = self.into();
        match self {
            Self::Memory => {
                pauses.pause(why, now, format_args!("{name} ({value} bytes) are in use"));
            }
            _ => {
                pauses.pause(why, now, format_args!("{name} of {value} is reached"));
            }
        }
    }
}

impl From<AcceptLimit> for Why {
    fn from(limit: AcceptLimit) -> Self {
        match limit {
            AcceptLimit::Connections => Self::Connections,
            AcceptLimit::HalfOpen => Self::HalfOpen,
            AcceptLimit::Memory => Self::Memory,
        }
    }
}

/// A client that may become a connection.
struct Candidate<'a> {
    transport: Transport,
    addr: Option<SocketAddr>,
    /// The proxies that may connect, if connections must begin with the header of the PROXY
    /// protocol.
    proxies: Option<&'a Networks>,
    /// Whether another server completed its opening handshake.
    is_upgraded: bool,
}

impl Candidate<'_> {
    /// Makes the client a connection, if the limits of its address allow one, and registers it with
    /// the event queue; returns its slot. A client that is refused gets an answer.
    fn admit(self, reactor: &mut Reactor, registry: &Registry) -> Option<usize> {
        let Self {
            transport,
            addr,
            proxies,
            is_upgraded,
        } = self;
        let shared = &mut reactor.core.shared;
        let ip = addr.map(|addr| addr.ip());
        let via = match proxies {
            Some(proxies) if !proxies.contains(ip) => {
                shared.log_no_proxy(addr);
                turn_away(transport, 403, is_upgraded);
                return None;
            }
            Some(_) => Via::Header,
            None if shared.trusts(ip) => Via::Proxy,
            None => Via::Direct,
        };
        // A proxy's clients are counted when the proxy has reported their address.
        if via == Via::Direct {
            let admitted = shared.addresses.admit(addr, shared.now, &mut shared.stats);
            if let Err(error) = admitted {
                shared.log_over_address(error, addr);
                turn_away(transport, 429, is_upgraded);
                return None;
            }
        }
        let (slot, serial) = reactor.take_in(transport, addr, via);
        let mut conn = reactor.core.peer(slot)?;
        let token = Source::Connection(connection_tag(slot, serial)).token();
        match conn.peer.transport.socket_mut().register(registry, token) {
            Ok(()) => Some(slot),
            Err(error) => {
                conn.log_unwatched(&error);
                reactor.dismiss(slot);
                None
            }
        }
    }
}

impl Server {
    /// Returns when to accept again, if a listener has pending clients: 0 for at once.
    pub(super) fn accepts_at(&self) -> Option<u64> {
        let pending = self.listeners.iter().filter(|listener| listener.pending);
        let next = pending.map(|listener| listener.retry_at.unwrap_or(0)).min();
        match self.limited {
            None => next,
            // Only to log that accepting still pauses.
            Some(limit) => Some(next?.max(self.pauses.next(limit.into())?)),
        }
    }

    /// Accepts clients from the pending listeners, within the limits.
    #[inline(never)]
    pub(super) fn accept(&mut self, now: u64) {
        let Self {
            reactor,
            poll,
            listeners,
            limited,
            pauses,
            ..
        } = self;
        for listener in listeners.iter_mut().filter(|listener| listener.pending) {
            if listener.retry_at.is_some_and(|at| at > now) {
                continue;
            }
            for _ in 0..reactor.core.shared.config.turn_accepts {
                if let Some(limit) = AcceptLimit::reached(&reactor.core) {
                    limit.pause(limited, pauses, &mut reactor.core);
                    return;
                }
                if let Some(limit) = limited.take() {
                    pauses.resume(limit.into(), now);
                }
                match listener.accept() {
                    Accepting::Empty => {
                        pauses.resume(Why::Resources, now);
                        break;
                    }
                    Accepting::Failed(error, addr) => {
                        let shared = &mut reactor.core.shared;
                        shared.stats.count_tls_failure(TlsFailure::Other);
                        if let Some(line) = shared.admits(Topic::Tls(TlsFailure::Other)) {
                            let text = format_args!("TLS cannot be started: {error}");
                            line.about(Who::refused(addr), text);
                        }
                    }
                    Accepting::Exhausted(error) => {
                        pauses.pause(Why::Resources, now, format_args!("{}", Lack(&error)));
                        reactor.core.shared.stats.accept_failures += 1;
                        listener.back_off(now);
                        break;
                    }
                    Accepting::Connection(transport, addr) => {
                        listener.retry_at = None;
                        pauses.resume(Why::Resources, now);
                        let candidate = Candidate {
                            transport,
                            addr,
                            proxies: listener.proxies.as_deref(),
                            is_upgraded: false,
                        };
                        if let Some(slot) = candidate.admit(reactor, poll.registry()) {
                            reactor.welcome(slot);
                        }
                    }
                }
            }
        }
    }

    /// Admits the connections that were passed to [`Hub::adopt`](crate::Hub::adopt) and similar
    /// methods.
    pub(super) fn take_over(&mut self) {
        for adoption in std::mem::take(&mut self.reactor.core.shared.adoptions) {
            let Adoption {
                stream,
                bytes,
                upgraded,
            } = adoption;
            let is_upgraded = upgraded.is_some();
            let core = &mut self.reactor.core;
            let is_full = AcceptLimit::reached(core).is_some();
            let is_refused = is_full || self.state != State::Running;
            let topic = Topic::Other(Matter::Adoption);
            if is_refused && let Some(line) = core.shared.admits(topic) {
                line.write(format_args!(
                    "an adopted connection is refused: a limit is reached, or the server is shutting down"
                ));
            }
            let (socket, addr) = match stream.into_socket(core.shared.config.nodelay) {
                Ok(adopted) => adopted,
                Err(error) => {
                    if !is_refused && let Some(line) = core.shared.admits(topic) {
                        line.write(format_args!(
                            "an adopted connection cannot be used: {error}"
                        ));
                    }
                    continue;
                }
            };
            let transport = Transport::Plain(socket);
            if is_refused {
                turn_away(transport, 503, is_upgraded);
                continue;
            }
            let candidate = Candidate {
                transport,
                addr,
                proxies: None,
                is_upgraded,
            };
            if let Some(slot) = candidate.admit(&mut self.reactor, self.poll.registry()) {
                self.reactor.welcome_adopted(slot, bytes, upgraded);
            }
        }
    }

    /// Ends a pause in accepting, if no limit is reached any more.
    #[cold]
    pub(super) fn resume_accepting(&mut self) {
        if AcceptLimit::reached(&self.reactor.core).is_none() {
            self.end_pause();
        }
    }

    /// Ends a pause in accepting, even if a limit is reached.
    pub(super) fn end_pause(&mut self) {
        if let Some(limit) = self.limited.take() {
            self.pauses.resume(limit.into(), self.reactor.now());
        }
    }
}

/// Refuses a client with an HTTP status or a Close frame, as far as its socket accepts that at
/// once. Nothing can be sent before a TLS handshake.
fn turn_away(transport: Transport, status: u16, is_upgraded: bool) {
    let Transport::Plain(mut socket) = transport else {
        return;
    };
    let mut answer = Vec::new();
    match is_upgraded {
        false => Refusal::new(status).encode(SystemTime::now(), &mut answer),
        true => {
            // RFC 6455, 7.4 and the registry that it created: 1013 is "Try Again Later".
            let code = CloseCode::TRY_AGAIN_LATER;
            let closed = Sender::default().close(code, "", &mut answer);
            debug_assert!(closed.is_ok(), "1013 may be sent");
        }
    }
    let _ = socket.write(&answer);
}

/// An error that prevents accepting, shown with a remedy.
struct Lack<'a>(&'a std::io::Error);

impl fmt::Display for Lack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot accept: {}", self.0)?;
        match self.0.raw_os_error() {
            Some(EMFILE) => f.write_str(" (raise the process's limit: ulimit -n, LimitNOFILE=)"),
            Some(ENFILE) => f.write_str(" (raise the system's limit: sysctl fs.file-max)"),
            _ => Ok(()),
        }
    }
}

/// The errors of accept(2) when the system or the process has no descriptors left. The numbers are
/// the same on every Unix that mio supports.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
