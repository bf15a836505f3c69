//! The half of a connection that handlers reach: its sender, its limits, its data.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::backlog::Kind;
#[cfg(feature = "deflate")]
use super::compression::Deflate;
use super::data::Data;
use super::deferral::Deferred;
use super::meters::Meters;
use super::names::{Addr, Names};
use super::outbox::Outbox;
use super::proxied::Proxied;
use super::sending::Sending;
use crate::config::{Config, SlowConsumer};
use crate::connection::event::{Cause, Handlers};
use crate::handshake::{Refusal, Request};
use crate::protocol::{CloseCode, Sender};
use crate::stats::ConnectionStats;
use crate::transport::Transport;

/// Where a connection stands; it only ever goes down this list.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    /// TLS and the opening handshake.
    Opening,
    /// Messages go both ways.
    Open,
    /// Our Close frame is queued or sent, the peer's is awaited.
    Closing,
    /// `Disconnect` was delivered. What is queued leaves, FIN is sent, and what the peer still
    /// sends is thrown away until its FIN, so that no RST destroys what we sent last.
    Lingering,
    /// To be removed at the end of the turn.
    Gone,
}

/// Why a connection ends, as its `Disconnect` will tell.
pub(crate) struct Ending {
    pub(crate) code: CloseCode,
    pub(crate) reason: Box<str>,
    pub(crate) cause: Cause,
}

impl Ending {
    pub(crate) fn new(code: CloseCode, reason: &str, cause: Cause) -> Self {
        Self {
            code,
            reason: reason.into(),
            cause,
        }
    }
}

/// The half of a connection that handlers reach.
pub(crate) struct Peer {
    /// The connection's number in the process, never used again.
    pub(crate) serial: u64,
    pub(crate) transport: Transport,
    pub(crate) sender: Sender,
    pub(crate) phase: Phase,
    /// In `dirty` of the core, to be looked at before the turn ends.
    pub(super) dirty: bool,
    /// Neither an upgrade nor a plain request of it was answered yet.
    pub(crate) half_open: bool,
    /// No event tells of the connection: the header of the PROXY protocol has not come, or the
    /// connection was refused before `Connect`.
    pub(crate) unannounced: bool,
    /// Compression was agreed on.
    deflating: bool,
    /// What happens to messages beyond `max_backlog`.
    pub(super) slow_consumer: SlowConsumer,
    pub(super) marks: Marks,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) passing: Option<Box<Passing>>,
    pub(super) max_recv_size: usize,
    max_send_size: usize,
    /// Larger messages are out of the usual.
    fast_send_size: usize,
    pub(super) names: Names,
    pub(super) addr: Addr,
    pub(super) extras: Option<Box<Extras>>,
}

/// What only some connections have.
#[derive(Default)]
pub(crate) struct Extras {
    /// The application's own values.
    pub(super) data: Data,
    /// Set if compression was agreed on.
    #[cfg(feature = "deflate")]
    pub(super) deflate: Option<Deflate>,
    /// Larger messages may be compressed.
    plain_max: Option<usize>,
    /// What is counted, and when that began, from the reactor's epoch. With `Marks::COUNTED`.
    pub(super) counts: Option<Box<(ConnectionStats, Duration)>>,
    /// With `Marks::METERED`.
    pub(super) meters: Option<Box<Meters>>,
    pub(super) sending: Option<Box<Sending>>,
    /// Set if the connection came through a proxy that is trusted.
    pub(super) proxied: Option<Box<Proxied>>,
    /// How many bytes the peer had acknowledged when the kernel was asked last, and when that was.
    acknowledged: Option<(u64, u64)>,
}

/// What is out of the usual, in one word: the usual is told at a glance.
#[derive(Clone, Copy)]
pub(super) struct Marks(u16);

impl Marks {
    /// `shutdown` was called: no frame, no drain.
    const CUT: u16 = 1;
    /// The kernel did not take everything.
    pub(super) const BLOCKED: u16 = 2;
    /// A sign of life: the kernel took more after it had been full, so the peer reads; or reading
    /// was resumed, and what came before is not to be held against it.
    pub(super) const PROGRESS: u16 = 4;
    /// The slow-consumer policy closed it, and `Error` has not told so yet.
    pub(super) const TOO_SLOW: u16 = 8;
    /// There is an outbox.
    const QUEUED: u16 = 16;
    /// There is more in `passing` than the request.
    const PASSING: u16 = 32;
    /// The phase is another than `Open`.
    pub(super) const NOT_OPEN: u16 = 64;
    /// There is TLS, which may hold something back.
    pub(super) const SECURE: u16 = 128;
    /// The application does not want to read for now.
    pub(super) const PAUSED: u16 = 256;
    /// More than `drain_at` was left over; a `Drain` is due when that is no longer so.
    pub(super) const ABOVE: u16 = 512;
    /// Someone waits to be told when something was sent, or was dropped.
    pub(super) const AWAITED: u16 = 1024;
    /// A message that is sent in parts was begun and has not ended.
    pub(super) const UNDER_WAY: u16 = 2048;
    /// It did not end in order while the server went down.
    pub(super) const LOST: u16 = 4096;
    /// It is measured how fast it sends.
    pub(super) const METERED: u16 = 1 << 13;
    /// It was faster than it may be, and is not read for now.
    pub(super) const HELD_OFF: u16 = 1 << 14;
    /// Its messages and bytes are counted.
    pub(super) const COUNTED: u16 = 1 << 15;

    pub(super) fn has(self, mark: u16) -> bool {
        self.0 & mark != 0
    }

    pub(super) fn set(&mut self, mark: u16) {
        self.0 |= mark;
    }

    pub(super) fn take(&mut self, mark: u16) -> bool {
        let had = self.has(mark);
        self.0 &= !mark;
        had
    }
}

/// What a connection has only while it begins or ends, so that an idle one is small.
#[derive(Default)]
pub(super) struct Passing {
    /// Set from the end of the request to `Ready`, or for good with `keep_requests`.
    request: Option<Rc<Request>>,
    /// Handlers set inside a handler; the reactor moves them into place before the next event.
    registered: Option<Box<Handlers>>,
    /// An HTTP answer that a handler gave.
    refusal: Option<Refusal>,
    /// An opening handshake whose answer was postponed.
    pub(super) deferred: Option<Box<Deferred>>,
    /// Set when the connection began to end.
    ending: Option<Ending>,
    /// What [`Peer::sent_mark`] was when it was looked at last, once the connection began to end.
    sent_mark: u64,
    /// A write failed inside a handler; the reactor has not seen it yet.
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
            dirty: false,
            half_open: true,
            unannounced: false,
            deflating: false,
            slow_consumer: config.slow_consumer,
            marks: Marks(Marks::NOT_OPEN | secure),
            outbox: None,
            passing: None,
            max_recv_size: limits.max_recv_size,
            max_send_size: limits.max_send_size,
            fast_send_size: limits.max_send_size,
            names: Names::default(),
            addr: addr.into(),
            extras: None,
        }
    }

    pub(crate) fn request(&self) -> Option<&Request> {
        self.passing.as_deref()?.request.as_deref()
    }

    /// Returns where handlers of this connection are registered.
    pub(super) fn register(&mut self) -> &mut Handlers {
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

    /// Gives an answer to the opening handshake; the first one counts.
    pub(crate) fn refuse(&mut self, refusal: impl Into<Refusal>) {
        self.passing_mut()
            .refusal
            .get_or_insert_with(|| refusal.into());
    }

    pub(crate) fn take_refusal(&mut self) -> Option<Refusal> {
        self.passing.as_deref_mut()?.refusal.take()
    }

    /// Says why the connection ends; the first cause counts.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.passing_mut().ending.get_or_insert(ending);
    }

    pub(crate) fn take_ending(&mut self) -> Option<Ending> {
        self.passing.as_deref_mut()?.ending.take()
    }

    /// Notes that the Close frame, if one was queued, is lost with what was queued before it.
    pub(crate) fn lose_close(&mut self) {
        if let Some(ending) = self
            .passing
            .as_deref_mut()
            .and_then(|all| all.ending.as_mut())
            && self.phase == Phase::Closing
        {
            ending.code = CloseCode::ABNORMAL;
            ending.reason = Box::default();
        }
    }

    /// Frees what the connection does not need any more, and the request unless it is kept.
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

    /// Returns the place for what passes, all but the request.
    pub(super) fn passing_mut(&mut self) -> &mut Passing {
        self.marks.set(Marks::PASSING);
        self.passing.get_or_insert_default()
    }

    /// Moves on to a later phase.
    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        if phase == Phase::Open {
            self.marks.take(Marks::NOT_OPEN);
        } else {
            self.marks.set(Marks::NOT_OPEN);
        }
    }

    pub(crate) fn max_recv_size(&self) -> usize {
        self.max_recv_size
    }

    pub(super) fn max_send_size(&self) -> usize {
        self.max_send_size
    }

    pub(super) fn set_max_send_size(&mut self, size: usize) {
        self.max_send_size = size;
        let extras = self.extras.as_deref();
        let plain = extras.and_then(|extras| extras.plain_max);
        self.fast_send_size = plain.map_or(size, |plain| plain.min(size));
    }

    /// Returns the size up to which a message goes the usual way.
    #[inline(always)]
    pub(super) fn fast_send_size(&self) -> usize {
        self.fast_send_size
    }

    /// Returns whether compression was agreed on.
    pub(crate) fn is_deflating(&self) -> bool {
        self.deflating
    }

    /// Notes that compression was agreed on: messages from `threshold` on are out of the usual.
    #[cfg(feature = "deflate")]
    pub(super) fn deflates(&mut self, threshold: usize) {
        self.deflating = true;
        self.extras_mut().plain_max = Some(threshold.saturating_sub(1));
        self.set_max_send_size(self.max_send_size);
    }

    /// Returns what only some connections have, if this one does.
    pub(super) fn extras(&self) -> Option<&Extras> {
        self.extras.as_deref()
    }

    /// Returns the same, made on first use.
    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Bytes that the kernel has not taken.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.as_deref().map_or(0, Outbox::len)
    }

    /// Returns how many bytes the kernel took of the queue since this was called last, while nothing
    /// is added to it; the first time that is nothing.
    pub(crate) fn take_sent(&mut self) -> u64 {
        let mark = self.sent_mark();
        let before = match self.passing.as_deref_mut() {
            Some(passing) => std::mem::replace(&mut passing.sent_mark, mark),
            None => mark,
        };
        if before == 0 {
            0
        } else {
            mark.saturating_sub(before)
        }
    }

    /// Notes how many bytes the peer has acknowledged by `now`; returns what was noted before.
    pub(crate) fn note_acknowledged(&mut self, bytes: u64, now: u64) -> Option<(u64, u64)> {
        self.extras_mut().acknowledged.replace((bytes, now))
    }

    /// Returns what was noted of the bytes that the peer has acknowledged, and when.
    pub(crate) fn acknowledged(&self) -> Option<(u64, u64)> {
        self.extras()?.acknowledged
    }

    /// Forgets what was noted of it.
    pub(crate) fn forget_acknowledged(&mut self) {
        if let Some(extras) = self.extras.as_deref_mut() {
            extras.acknowledged = None;
        }
    }

    /// Returns a number that grows by each byte that the kernel takes of the queue.
    fn sent_mark(&self) -> u64 {
        match self.transport.written() {
            Some(written) => written + 1,
            None => u64::MAX - self.backlog() as u64,
        }
    }

    /// Returns about how many bytes of memory the queue takes.
    pub(super) fn queue_held(&self) -> usize {
        self.outbox.as_deref().map_or(0, Outbox::held)
    }

    /// Keeps the request, and those of its parts that outlive it.
    pub(crate) fn remember(&mut self, request: Rc<Request>) {
        let scheme = if self.is_client_secure() { "wss" } else { "ws" };
        let host = self.asked_host(&request).unwrap_or_default();
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        self.names = Names::new(
            &format!("{scheme}://{host}{target}"),
            request.origin(),
            None,
        );
        self.passing.get_or_insert_default().request = Some(request);
    }

    /// Keeps the subprotocol that was agreed on.
    pub(crate) fn set_subprotocol(&mut self, name: &str) {
        self.names = Names::new(self.names.uri(), self.names.origin(), Some(name));
    }

    /// Appends the bytes to what is queued.
    pub(crate) fn enqueue(&mut self, bytes: &[u8]) {
        self.enqueue_frame(&[bytes], Kind::Control);
    }

    /// Appends the pieces of a frame, or of several that belong together, to what is queued.
    pub(super) fn enqueue_frame(&mut self, pieces: &[&[u8]], kind: Kind) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        for piece in pieces {
            outbox.push(piece);
        }
        if is_noted {
            let len = pieces.iter().map(|piece| piece.len()).sum();
            outbox.note(len, kind == Kind::Message);
        }
    }

    /// Appends a message that others are sent too.
    pub(super) fn enqueue_shared(&mut self, bytes: &Arc<[u8]>) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        outbox.push_shared(bytes);
        if is_noted {
            outbox.note(bytes.len(), true);
        }
    }

    /// Queues what a write left of a message that others are sent too; nothing was queued before it.
    pub(super) fn keep_shared_rest(&mut self, bytes: &Arc<[u8]>, taken: usize) {
        let is_noted = self.slow_consumer == SlowConsumer::DropOldest;
        let outbox = self.outbox_mut();
        outbox.begin_shared(bytes, taken);
        if is_noted {
            outbox.note(bytes.len() - taken, false);
        }
        self.marks.set(Marks::BLOCKED);
    }

    /// Returns whether something is queued.
    pub(super) fn is_queued(&self) -> bool {
        self.outbox.is_some()
    }

    fn outbox_mut(&mut self) -> &mut Outbox {
        self.marks.set(Marks::QUEUED);
        self.outbox.get_or_insert_with(Outbox::fresh)
    }

    pub(crate) fn drop_outbox(&mut self) {
        self.marks.take(Marks::QUEUED);
        if let Some(outbox) = self.outbox.take() {
            outbox.recycle();
        }
    }

    /// Returns whether the connection is open, without TLS, not counted, and nothing waits to be
    /// sent, told or done.
    #[inline(always)]
    pub(crate) fn is_quiet(&self) -> bool {
        debug_assert_eq!(self.marks.has(Marks::QUEUED), self.outbox.is_some());
        debug_assert_eq!(self.marks.has(Marks::NOT_OPEN), self.phase != Phase::Open);
        self.marks.0 == 0
    }

    /// Returns whether nothing but a queue keeps the connection from being quiet.
    #[inline(always)]
    pub(crate) fn has_only_queued(&self) -> bool {
        self.marks.0 == Marks::QUEUED
    }

    /// Writes `bytes` to a peer that is quiet; returns whether it took all of them. If not, the rest
    /// is queued or the fault kept, as ever.
    #[inline(always)]
    pub(super) fn write_fast(&mut self, bytes: &[u8]) -> bool {
        match self.transport.write_plain(bytes) {
            Ok(size) if size == bytes.len() => true,
            result => {
                self.write_rest(bytes, result);
                false
            }
        }
    }

    /// Goes on after a write that did not take all of `bytes`.
    #[cold]
    fn write_rest(&mut self, bytes: &[u8], result: io::Result<usize>) {
        let result = match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return self.write_through([bytes]);
            }
            result => result,
        };
        self.keep_rest([bytes], result);
    }

    /// Writes `slices`, none of them empty, at once if nothing is queued before them; queues what
    /// is not taken.
    pub(crate) fn write_through<const N: usize>(&mut self, slices: [&[u8]; N]) {
        if self.is_broken() {
            return;
        }
        let result = match self.outbox {
            None => self.transport.write(&slices.map(IoSlice::new)),
            Some(_) => Ok(0),
        };
        self.keep_rest(slices, result);
    }

    /// Queues what a write left of `slices`, or keeps its fault until the reactor looks.
    pub(super) fn keep_rest<'b>(
        &mut self,
        slices: impl IntoIterator<Item = &'b [u8]>,
        result: io::Result<usize>,
    ) {
        let mut taken = match result {
            Ok(taken) => taken,
            Err(error) => {
                self.set_broken(error);
                return;
            }
        };
        for slice in slices {
            let skip = taken.min(slice.len());
            taken -= skip;
            if skip < slice.len() {
                self.enqueue(&slice[skip..]);
                self.marks.set(Marks::BLOCKED);
            }
        }
    }

    /// Keeps the fault of a write until the reactor looks.
    pub(crate) fn set_broken(&mut self, error: io::Error) {
        self.passing_mut().broken = Some(error);
    }

    /// Takes the fault of a write.
    pub(super) fn take_broken(&mut self) -> Option<io::Error> {
        self.passing.as_deref_mut()?.broken.take()
    }

    pub(super) fn is_broken(&self) -> bool {
        let passing = self.passing.as_deref();
        passing.is_some_and(|passing| passing.broken.is_some())
    }

    /// Cuts the connection: nothing more is sent, not even a Close frame.
    pub(crate) fn cut(&mut self) {
        self.marks.set(Marks::CUT);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.marks.has(Marks::CUT)
    }
}
