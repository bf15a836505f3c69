//! The connections, whatever tells when they are ready and what time it is.
//!
//! This half of the server knows neither the event queue nor the clock: readiness and time come in
//! as arguments, bytes through `transport`. A simulated network drives the same code as the real one.

mod adopted;
mod commands;
mod completions;
mod deadlines;
mod diagnostics;
mod dispatch;
mod ending;
mod fast_path;
mod http;
mod inflating;
mod input;
mod input_half;
mod memory;
mod opening;
mod proxy_header;
mod timers;
mod watches;
mod wheel;
mod wind_down;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use slab::Slab;

use self::dispatch::Dispatch;
pub(crate) use self::dispatch::emit_hub;
use self::fast_path::Progress;
pub(crate) use self::fast_path::SocketEvent;
use self::input_half::{Flags, InputHalf};
use self::wheel::{Entry, Wheel};
use self::wind_down::Schedule;
use crate::connection::drop_guarded;
use crate::connection::event::{Accept, Accepted, Cause, Connect, Handlers, Verdict};
use crate::connection::{Core, NOBODY, Peer, PeerMut, Phase, TimerId, Turn};
use crate::protocol::{Batch, Pad, Pool};
use crate::transport::{Deliveries, Transport};

/// How a connection came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Via {
    /// From the client itself, as far as the server knows.
    Direct,
    /// From a proxy that tells its clients with their requests.
    Proxy,
    /// From a proxy that tells the client by the header of the PROXY protocol.
    Header,
}

pub(crate) struct Reactor {
    pub(crate) core: Core,
    /// The halves that no handler can reach; the same keys as `core.peers`. Only `take_in` and
    /// `dismiss` change the two slabs, together.
    halves: Slab<InputHalf>,
    pub(crate) handlers: Handlers,
    /// What every connection is read into; never cleared.
    buffer: Vec<u8>,
    /// What short messages are unmasked to.
    pad: Pad,
    /// Buffers of large messages.
    pool: Pool,
    /// Where short messages that came together are unmasked to.
    batch: Batch,
    progress: Progress,
    /// TLS records on their way to the buffer; empty without TLS.
    scratch: Vec<u8>,
    wheel: Wheel,
    expired: Vec<Entry>,
    /// Connections that used up their share of a turn, or were unblocked.
    ready_queue: Vec<usize>,
    /// Those of them that are served in this turn.
    serving: Vec<usize>,
    /// Connections that were marked, while they are looked at.
    settling: Vec<usize>,
    /// Connections to be removed at the end of the turn.
    gone: Vec<usize>,
    /// Who is closed when, while the server drains.
    schedule: Option<Box<Schedule>>,
    /// Set while memory is short.
    relief: Option<TimerId>,
    deliveries: Deliveries,
    epoch: Instant,
    now: u64,
}

/// Numbers the connections of all servers in the process.
static SERIAL: AtomicU64 = AtomicU64::new(1);

impl Reactor {
    pub(crate) fn new(core: Core, handlers: Handlers, now: Instant) -> Self {
        let buffer = vec![0; core.shared.config.read_buffer];
        Self {
            core,
            halves: Slab::new(),
            handlers,
            buffer,
            pad: Pad::default(),
            pool: Pool::default(),
            batch: Batch::default(),
            progress: Progress::default(),
            scratch: Vec::new(),
            wheel: Wheel::new(),
            expired: Vec::new(),
            ready_queue: Vec::new(),
            serving: Vec::new(),
            settling: Vec::new(),
            gone: Vec::new(),
            schedule: None,
            relief: None,
            deliveries: Deliveries::default(),
            epoch: now,
            now: 0,
        }
    }

    /// Sets the time of the turn, in milliseconds since the epoch.
    pub(crate) fn set_now(&mut self, now: Instant) -> u64 {
        self.core.shared.now = now.saturating_duration_since(self.epoch);
        self.now = self.core.shared.now.as_millis() as u64;
        self.now
    }

    /// Returns the time of the turn, in milliseconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Returns when something is due, in milliseconds since the epoch; 0 if connections wait.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if !self.ready_queue.is_empty() {
            return Some(0);
        }
        let deadline = self.wheel.next().unwrap_or(u64::MAX);
        let next = deadline.min(self.core.shared.timers.next());
        (next < u64::MAX).then_some(next)
    }

    /// Takes in a connection; returns its key and its number. Its events begin with `welcome`.
    pub(crate) fn take_in(
        &mut self,
        mut transport: Transport,
        addr: Option<SocketAddr>,
        via: Via,
    ) -> (usize, u64) {
        let accepted = Accepted {
            peer: addr,
            socket: transport.fd(),
        };
        emit_hub::<Accept>(&mut self.core, &mut self.handlers, accepted);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let slot = self.halves.insert(InputHalf::new(self.now));
        if via == Via::Header {
            transport.wait_for_header();
        }
        let shared = &mut self.core.shared;
        let mut peer = Peer::new(serial, transport, addr, &shared.config);
        if via != Via::Direct {
            peer.is_of_proxy();
        }
        peer.set_unannounced(via == Via::Header);
        if shared.config.connection_stats {
            peer.count(shared.now);
        }
        if shared.config.rates.is_limited() {
            peer.measure();
        }
        shared.stats.accepted += 1;
        shared.half_open += 1;
        let same = self.core.peers.insert(peer);
        debug_assert_eq!(slot, same, "the two slabs have the same keys");
        (slot, serial)
    }

    /// Removes a connection that is gone, or that `take_in` took and that cannot be served.
    pub(crate) fn dismiss(&mut self, slot: usize) {
        if let Some(mut conn) = self.core.peer(slot) {
            conn.forget();
        }
        drop_guarded((
            self.halves.try_remove(slot),
            self.core.peers.try_remove(slot),
        ));
        let (left, room) = (self.halves.len(), self.halves.capacity());
        if left == 0 {
            // No connection is there whose next message they would be for.
            self.pool = Pool::default();
        }
        // At the powers of two, so that it costs next to nothing for each.
        if room > SHRINK_MIN && left <= room / 4 && (left.is_power_of_two() || left == 0) {
            self.shrink();
        }
    }

    /// Gives back the room of connections that are gone, as far as it lies behind those that are
    /// there: broadcasts look at all places.
    #[cold]
    fn shrink(&mut self) {
        self.halves.shrink_to_fit();
        self.core.peers.shrink_to_fit();
    }

    /// Begins a connection; delivers its first event, unless a proxy has to name its client first.
    pub(crate) fn welcome(&mut self, slot: usize) {
        self.begin_life(slot);
        self.core.shared.current = slot;
        let is_announced = |peer: &Peer| !peer.is_unannounced();
        if self.core.peers.get(slot).is_some_and(is_announced) {
            self.connect(slot);
        }
        self.settle(slot);
        self.core.shared.current = NOBODY;
    }

    /// Delivers the first event of a connection.
    fn connect(&mut self, slot: usize) {
        if let Some(mut dispatch) = self.dispatch(slot)
            && dispatch.emit::<Connect>(()) == Some(Verdict::Refuse)
        {
            dispatch.conn().peer.refuse(403);
        }
    }

    /// Sets the deadlines that a connection has from its beginning.
    fn begin_life(&mut self, slot: usize) {
        self.arm(slot);
        let shared = &mut self.core.shared;
        if let Some(lifetime) = shared.config.max_lifetime {
            let due = shared.now.saturating_add(lifetime);
            shared.timers.set_lifetime(slot, Some(due));
        }
    }

    /// Begins a turn: connections that are in the ready queue now are served in it, those that are
    /// put there later in the next.
    pub(crate) fn begin_turn(&mut self) {
        self.serving.append(&mut self.ready_queue);
    }

    /// Serves the connections that were left over from the turn before.
    pub(crate) fn serve_ready_queue(&mut self) {
        let mut serving = std::mem::take(&mut self.serving);
        for slot in serving.drain(..) {
            let Some(half) = self.halves.get_mut(slot) else {
                continue;
            };
            if half.flags.clear(Flags::ENQUEUED) {
                self.serve(slot);
            }
        }
        self.serving = serving;
    }

    /// Brings a connection from what handlers asked for to what the socket and the deadlines
    /// have: sends, refuses, closes, ends.
    pub(crate) fn settle(&mut self, slot: usize) {
        if !self.send_only(slot) {
            self.settle_all(slot);
        }
        if self.core.shared.budget.is_on() {
            self.charge(slot);
        }
    }

    fn settle_all(&mut self, slot: usize) {
        let Some(half) = self.halves.get(slot) else {
            return;
        };
        let owes_answer = half.owes_answer();
        let is_enqueued = half.flags.has(Flags::ENQUEUED);
        let Some(mut dispatch) = self.dispatch(slot) else {
            return;
        };
        dispatch.tell_slow_consumer();
        dispatch.answer_opening(owes_answer);
        // A connection whose callbacks ran in this turn, and caused more, waits for the next.
        let mut told_sent = is_enqueued;
        let mut told_drained = is_enqueued;
        loop {
            let mut conn = dispatch.conn();
            if conn.peer.phase() == Phase::Gone {
                conn.discard_replies();
                break;
            }
            if conn.peer.is_cut() {
                conn.note_cut();
                dispatch.cut(Cause::Cut);
                continue;
            }
            conn.release_replies();
            let drain_at = conn.shared.config.drain_at;
            let flushed = match conn.peer.flush(drain_at) {
                Ok(flushed) => flushed,
                Err(error) => {
                    dispatch.lost(error);
                    continue;
                }
            };
            let sent = conn.peer.ready_completions();
            let drained = conn.peer.is_drained(flushed, drain_at);
            // A handler that streams to a fast reader is called once in a turn.
            if sent > 0 && !std::mem::replace(&mut told_sent, true) {
                dispatch.complete(sent);
            } else if drained && !std::mem::replace(&mut told_drained, true) {
                dispatch.tell_drained();
            } else {
                if sent > 0 || drained {
                    self.enqueue_ready(slot);
                }
                break;
            }
        }
        self.end_http(slot);
        self.finish(slot);
    }

    /// Sends the replies, or what a broadcast queued; returns whether that was all there is to do. It
    /// is nearly always.
    fn send_only(&mut self, slot: usize) -> bool {
        let is_plain = |half: &InputHalf| !half.flags.has(Flags::PAUSED);
        if !self.halves.get(slot).is_some_and(is_plain) {
            return false;
        }
        let Some(mut conn) = self.core.peer(slot) else {
            return false;
        };
        if conn.peer.has_entered() {
            return false;
        }
        if conn.peer.is_quiet() {
            conn.release_replies();
        } else if conn.peer.has_only_queued() && !conn.is_current() {
            if let Err(error) = conn.peer.flush(conn.shared.config.drain_at)
                && let Some(mut dispatch) = self.dispatch(slot)
            {
                dispatch.lost(error);
            }
        } else {
            return false;
        }
        self.core.peers.get(slot).is_some_and(Peer::is_quiet)
    }

    /// Ends what is to end, and sets the deadline of a new phase.
    fn finish(&mut self, slot: usize) {
        let drains = self.schedule.is_some();
        let now = self.now;
        let Some((half, mut conn)) = self.both(slot) else {
            return;
        };
        let phase = conn.peer.phase();
        let mut reads_on = false;
        if conn.peer.take_progress() {
            if conn.shared.budget.is_on() {
                conn.shared.budget.note_sent(slot, conn.shared.now);
            }
            half.hear(now, phase);
            if phase >= Phase::Closing {
                // It has its time to answer when it has taken what is before the Close, and until
                // then if it goes on taking that.
                let sent = conn.peer.take_sent();
                half.stamp = match conn.peer.reads() {
                    true => now,
                    false => conn.shared.config.moved_on(half.stamp, sent, now),
                };
                reads_on = drains;
            }
        }
        if phase == Phase::Lingering && conn.peer.backlog() == 0 && !half.flags.has(Flags::FIN) {
            if half.is_done() && !conn.peer.transport.is_secure() {
                // RFC 6455, 7.1.1: the server closes first. Nothing is left on either side, so no
                // RST can come of it, and one call does for both directions (decision 14).
                conn.enter(Phase::Gone, None);
            } else {
                // The peer may be gone already; nothing more is wanted of it.
                let sent = conn.peer.transport.shutdown_write().unwrap_or(true);
                half.flags.set_if(Flags::FIN, sent);
            }
        }
        if phase == Phase::Lingering && half.flags.has(Flags::FIN) && half.flags.has(Flags::EOF) {
            conn.enter(Phase::Gone, None);
        }
        let phase = conn.peer.phase();
        let entered = conn.peer.take_entered();
        if entered {
            half.stamp = now;
            if phase >= Phase::Closing {
                conn.peer.take_sent();
                conn.peer.forget_acknowledged();
            }
        }
        let goes_on = half.flags.has(Flags::PAUSED) && !conn.is_stalled();
        if goes_on {
            half.flags.clear(Flags::PAUSED);
            half.decoder.unstall(now);
        }
        if entered && phase >= Phase::Lingering {
            // What is under way is of no use any more.
            half.forget_input();
            conn.peer.drop_deflate();
        }
        if goes_on {
            self.requeue(slot);
        }
        if entered && phase == Phase::Gone {
            self.gone.push(slot);
        } else if entered || reads_on {
            self.arm(slot);
        }
    }

    /// Puts a connection with something left to read into the ready queue.
    fn requeue(&mut self, slot: usize) {
        let now = self.now;
        let Some((half, conn)) = self.both(slot) else {
            return;
        };
        let has_more = half.flags.has(Flags::READABLE) || half.has_unread();
        if conn.peer.phase() == Phase::Gone || !has_more {
            return;
        }
        if conn.is_stalled() {
            half.flags.set(Flags::PAUSED);
            half.decoder.stall(now);
        } else {
            self.enqueue_ready(slot);
        }
    }

    /// Puts a connection into the ready queue, which is served in the next turn.
    fn enqueue_ready(&mut self, slot: usize) {
        if let Some(half) = self.halves.get_mut(slot)
            && !half.flags.set(Flags::ENQUEUED)
        {
            self.ready_queue.push(slot);
        }
    }

    /// Settles the connections that are marked dirty, and removes those that are gone. What comes of
    /// more and more of it waits for the next turn.
    #[inline(always)]
    pub(crate) fn end_turn(&mut self) {
        if !self.core.shared.dirty.is_empty() || !self.gone.is_empty() {
            self.settle_dirty();
        }
        if self.core.shared.budget.is_on() {
            self.end_budget();
        }
    }

    /// Sees to it that no more memory is held than may be when the turn ends.
    #[cold]
    fn end_budget(&mut self) {
        if self.core.shared.budget.is_exceeded() {
            self.shed();
            self.settle_dirty();
        }
        let shared = &mut self.core.shared;
        match shared.budget.end_turn(shared.now) {
            Turn::Same => {}
            Turn::Short(look) => self.watch_memory(look),
            Turn::Relieved => {
                if let Some(timer) = self.relief.take() {
                    shared.timers.clear(timer);
                }
            }
        }
    }

    fn settle_dirty(&mut self) {
        for _ in 0..PASSES {
            if self.core.shared.dirty.is_empty() {
                break;
            }
            let empty = std::mem::take(&mut self.settling);
            let mut settling = std::mem::replace(&mut self.core.shared.dirty, empty);
            for slot in settling.drain(..) {
                if let Some(peer) = self.core.peers.get_mut(slot) {
                    peer.clear_dirty();
                }
                self.settle(slot);
            }
            self.settling = settling;
        }
        while let Some(slot) = self.gone.pop() {
            self.dismiss(slot);
        }
    }

    /// Returns both halves of a connection.
    #[inline(always)]
    fn both(&mut self, slot: usize) -> Option<(&mut InputHalf, PeerMut<'_>)> {
        Some((self.halves.get_mut(slot)?, self.core.peer(slot)?))
    }

    fn dispatch(&mut self, slot: usize) -> Option<Dispatch<'_>> {
        let own = &mut self.halves.get_mut(slot)?.own;
        let (core, handlers) = (&mut self.core, &mut self.handlers);
        Some(Dispatch::new(core, own, handlers, slot))
    }
}

/// What an event of a connection's socket carries: its slot in the low 32 bits and, where there are
/// more, bits of its number above them, so that news of a socket that is gone are told from those
/// of the next one in its slot. The top bit is clear.
pub(crate) fn connection_tag(slot: usize, serial: u64) -> usize {
    ((serial << 32) as usize & (usize::MAX >> 1)) | slot
}

/// How often the end of a turn looks at the connections that handlers marked, which may have caused
/// more of that: two whose completions send to each other would never let it end.
const PASSES: usize = 8;

/// So much room is always kept, in connections.
const SHRINK_MIN: usize = 1024;

/// The slot's bits of a tag.
const SLOTS: usize = if usize::BITS > 32 {
    u32::MAX as usize
} else {
    usize::MAX >> 1
};

#[cfg(test)]
mod tests;
