//! The half of a connection that handlers reach: its sender, its limits, its data.

mod completing;
mod counts;
mod deferred;
mod identity;
mod marks;
mod memory;
mod metering;
mod phase;
mod proxied;
mod reading;
mod writing;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use self::deferred::Deferred;
use self::identity::{Addr, Identity};
pub(crate) use self::marks::Marks;
pub(crate) use self::phase::Ending;
pub use self::phase::Phase;
use self::proxied::Proxied;
use super::callbacks::Done;
use super::data::Data;
use super::deflate::Deflate;
use super::event::Handlers;
use super::limits::Meters;
use super::log_lines::Who;
use super::send::{Completions, Outbox, Partial};
use crate::config::Config;
use crate::handshake::{Refusal, Request};
use crate::limits::SlowConsumer;
use crate::protocol::Sender;
use crate::stats::ConnectionStats;
use crate::topics::ListId;
use crate::transport::Transport;

/// The half of a connection that handlers reach.
pub(crate) struct Peer {
    /// The connection's number in the process, which is never reused.
    pub(crate) serial: u64,
    pub(crate) transport: Transport,
    pub(crate) sender: Sender,
    phase: Phase,
    /// What happens to messages beyond `max_backlog`.
    slow_consumer: SlowConsumer,
    pub(crate) marks: Marks,
    /// The connection's subscriptions.
    pub(crate) topics: ListId,
    outbox: Option<Box<Outbox>>,
    passing: Option<Box<Passing>>,
    max_recv_size: usize,
    max_send_size: usize,
    /// The size of the largest message that takes the fast path, in bytes.
    fast_send_size: usize,
    identity: Identity,
    addr: Addr,
    extras: Option<Box<Extras>>,
}

/// State that only some connections have.
#[derive(Default)]
pub(crate) struct Extras {
    /// The application's own values.
    pub(super) data: Data,
    /// Set if compression was agreed on.
    pub(super) deflate: Option<Deflate>,
    /// The size of the largest message that is not compressed by default, in bytes.
    plain_max: Option<usize>,
    /// The counters, and when counting began, from the reactor's epoch. Set with `Marks::COUNTED`.
    pub(super) counts: Option<Box<(ConnectionStats, Duration)>>,
    /// Set with `Marks::METERED`.
    pub(super) meters: Option<Box<Meters>>,
    pub(super) multipart: Option<Box<Partial>>,
    /// The connection's own low-water mark for `Drain`, in bytes.
    pub(super) drain_at: Option<usize>,
    /// Set with `Marks::AWAITED`.
    pub(super) completions: Option<Box<Completions<Done>>>,
    /// Set if the connection came through a trusted proxy.
    pub(super) proxied: Option<Box<Proxied>>,
    /// How many bytes the peer had acknowledged when that was last recorded, and when that was.
    acknowledged: Option<(u64, u64)>,
}

/// State that a connection has only while it begins or ends, so that an idle one is small.
#[derive(Default)]
pub(super) struct Passing {
    /// The request, from its end to `Ready`, or for good with `keep_requests`.
    request: Option<Rc<Request>>,
    /// Handlers that were set inside a handler; the reactor merges them before the next event.
    registered: Option<Box<Handlers>>,
    /// An HTTP answer that a handler gave.
    refusal: Option<Refusal>,
    /// An opening handshake whose answer is postponed.
    pub(super) deferred: Option<Box<Deferred>>,
    /// Why the connection ends, once it has begun to end.
    ending: Option<Ending>,
    /// The value of [`Peer::sent_mark`] at the last check, once the connection has begun to end.
    sent_mark: u64,
    /// The error of a write inside a handler, which the reactor has not handled yet.
    broken: Option<io::Error>,
}

impl Peer {
    pub(crate) fn new(
        serial: u64,
        transport: Transport,
        addr: Option<SocketAddr>,
        config: &Config,
    ) -> Self {
        let limits = &config.limits;
        let secure = if transport.is_secure() {
            Marks::SECURE
        } else {
            0
        };
        Self {
            serial,
            transport,
            sender: Sender::default(),
            phase: Phase::Opening,
            slow_consumer: config.slow_consumer,
            marks: Marks::new(Marks::NOT_OPEN | Marks::HALF_OPEN | secure),
            topics: ListId::NONE,
            outbox: None,
            passing: None,
            max_recv_size: limits.max_recv_size,
            max_send_size: limits.max_send_size,
            fast_send_size: limits.max_send_size,
            identity: Identity::default(),
            addr: addr.into(),
            extras: None,
        }
    }

    pub(crate) fn request(&self) -> Option<&Request> {
        self.passing.as_deref()?.request.as_deref()
    }

    /// Returns the table of the handlers that are set on this connection.
    pub(crate) fn register(&mut self) -> &mut Handlers {
        self.passing_mut().registered.get_or_insert_default()
    }

    /// Returns whether handlers were set since the last event.
    pub(crate) fn has_registered(&self) -> bool {
        let passing = self.passing.as_deref();
        passing.is_some_and(|passing| passing.registered.is_some())
    }

    /// Takes the handlers that were set since the last event.
    pub(crate) fn take_registered(&mut self) -> Option<Box<Handlers>> {
        let registered = self.passing.as_deref_mut()?.registered.take()?;
        self.tidy(true);
        Some(registered)
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.passing
            .as_deref()
            .is_some_and(|passing| passing.refusal.is_some())
    }

    /// Answers the opening handshake with a refusal; the first one counts.
    pub(crate) fn refuse(&mut self, refusal: impl Into<Refusal>) {
        self.passing_mut()
            .refusal
            .get_or_insert_with(|| refusal.into());
    }

    pub(crate) fn take_refusal(&mut self) -> Option<Refusal> {
        self.passing.as_deref_mut()?.refusal.take()
    }

    /// Frees what the connection no longer needs, including the request unless `keep_request` is
    /// set.
    pub(crate) fn tidy(&mut self, keep_request: bool) {
        let Some(passing) = self.passing.as_deref_mut() else {
            return;
        };
        if !keep_request {
            passing.request = None;
        }
        let Passing {
            request,
            registered,
            refusal,
            deferred,
            ending,
            sent_mark: _,
            broken,
        } = passing;
        if registered.is_none()
            && refusal.is_none()
            && deferred.is_none()
            && ending.is_none()
            && broken.is_none()
        {
            self.marks.take(Marks::PASSING);
            if request.is_none() {
                self.passing = None;
            }
        }
    }

    /// Returns the [`Passing`] state, created on first use, and marks that it holds more than the
    /// request.
    fn passing_mut(&mut self) -> &mut Passing {
        self.marks.set(Marks::PASSING);
        self.passing.get_or_insert_default()
    }

    pub(crate) fn max_recv_size(&self) -> usize {
        self.max_recv_size
    }

    pub(crate) fn max_send_size(&self) -> usize {
        self.max_send_size
    }

    pub(crate) fn set_max_send_size(&mut self, size: usize) {
        self.max_send_size = size;
        let extras = self.extras.as_deref();
        let plain = extras.and_then(|extras| extras.plain_max);
        self.fast_send_size = plain.map_or(size, |plain| plain.min(size));
    }

    /// Returns the size of the largest message that takes the fast path.
    #[inline(always)]
    pub(crate) fn fast_send_size(&self) -> usize {
        self.fast_send_size
    }

    /// Returns whether compression was agreed on.
    pub(crate) fn is_deflating(&self) -> bool {
        self.marks.has(Marks::DEFLATING)
    }

    /// Records that compression was agreed on: messages of `threshold` bytes or more leave the fast
    /// path.
    #[cfg(feature = "deflate")]
    pub(crate) fn set_deflate(&mut self, deflate: Deflate, threshold: usize) {
        self.marks.set(Marks::DEFLATING);
        let extras = self.extras_mut();
        extras.plain_max = Some(threshold.saturating_sub(1));
        extras.deflate = Some(deflate);
        self.set_max_send_size(self.max_send_size);
    }

    /// Returns the state of compression, if it was agreed on.
    pub(crate) fn deflate(&self) -> Option<&Deflate> {
        self.extras()?.deflate.as_ref()
    }

    pub(crate) fn deflate_mut(&mut self) -> Option<&mut Deflate> {
        self.extras.as_deref_mut()?.deflate.as_mut()
    }

    /// Frees the state of compression, since no message is sent or delivered any more.
    pub(crate) fn drop_deflate(&mut self) {
        if let Some(extras) = self.extras.as_deref_mut() {
            extras.deflate = None;
        }
    }

    /// Returns whether no event has announced the connection.
    pub(crate) fn is_unannounced(&self) -> bool {
        self.marks.has(Marks::UNANNOUNCED)
    }

    pub(crate) fn set_unannounced(&mut self, unannounced: bool) {
        self.marks.put(Marks::UNANNOUNCED, unannounced);
    }

    /// Returns the URI, the origin and the subprotocol.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the client's address.
    pub(crate) fn addr(&self) -> Addr {
        self.addr
    }

    /// Returns the policy for messages beyond `max_backlog`.
    pub(crate) fn slow_consumer(&self) -> SlowConsumer {
        self.slow_consumer
    }

    /// Returns, once, whether the slow-consumer policy closed the connection.
    pub(crate) fn take_too_slow(&mut self) -> bool {
        self.marks.take(Marks::TOO_SLOW)
    }

    pub(crate) fn set_max_recv_size(&mut self, size: usize) {
        self.max_recv_size = size;
    }

    /// Records that the connection is settled.
    pub(crate) fn clear_dirty(&mut self) {
        self.marks.take(Marks::DIRTY);
    }

    /// Returns the connection's own value of type `T`, created on first use.
    pub(crate) fn data<T: Default + 'static>(&mut self) -> &mut T {
        self.extras_mut().data.get()
    }

    /// Returns whether the connection was sent neither a 101 nor a response to a plain request.
    pub(crate) fn is_half_open(&self) -> bool {
        self.marks.has(Marks::HALF_OPEN)
    }

    /// Returns the identity that a log line about the connection shows.
    pub(crate) fn who(&self) -> Who {
        Who {
            serial: Some(self.serial),
            peer: self.addr.socket_addr(),
        }
    }

    /// Returns the state that only some connections have, if this one has it.
    fn extras(&self) -> Option<&Extras> {
        self.extras.as_deref()
    }

    /// Returns the same state, created on first use.
    fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Keeps the request, and copies of those parts that outlive it.
    pub(crate) fn remember(&mut self, request: Rc<Request>) {
        let scheme = if self.is_client_secure() { "wss" } else { "ws" };
        let host = self.asked_host(&request).unwrap_or_default();
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        self.identity = Identity::new(
            &format!("{scheme}://{host}{target}"),
            request.origin(),
            None,
        );
        self.passing.get_or_insert_default().request = Some(request);
    }

    /// Keeps the subprotocol that was agreed on.
    pub(crate) fn set_subprotocol(&mut self, name: &str) {
        self.identity = Identity::new(self.identity.uri(), self.identity.origin(), Some(name));
    }
}
