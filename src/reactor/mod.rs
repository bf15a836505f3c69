//! The connections, whatever tells when they are ready and what time it is.
//!
//! This half of the server knows neither the event queue nor the clock: readiness and time come in
//! as arguments, bytes through `transport`. A simulated network drives the same code as the real one.

mod adopted;
mod answers;
mod commands;
mod completions;
mod deadlines;
mod diagnostics;
mod dispatch;
mod fast_path;
mod http;
mod inflating;
mod input;
mod input_half;
mod memory;
mod proxy_header;
mod timers;
mod watches;
mod wheel;
mod wind_down;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use slab::Slab;

pub(crate) use self::dispatch::emit_hub;
use self::dispatch::{Dispatch, drop_caught};
use self::fast_path::Progress;
pub(crate) use self::fast_path::SocketEvent;
use self::http::answered;
use self::input_half::{Flags, InputHalf};
use self::wheel::{Entry, Wheel};
use self::wind_down::Schedule;
use crate::connection::event::{Accept, Accepted, Cause, Connect, Handlers, Verdict};
use crate::connection::{Core, NOBODY, Peer, Phase, TimerId, Turn};
use crate::error::HandshakeError;
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
    usual: Progress,
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
        let buffer = vec![0; core.config.read_buffer];
        Self {
            core,
            halves: Slab::new(),
            handlers,
            buffer,
            pad: Pad::default(),
            pool: Pool::default(),
            batch: Batch::default(),
            usual: Progress::default(),
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
        self.core.now = now.saturating_duration_since(self.epoch);
        self.now = self.core.now.as_millis() as u64;
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
        let next = deadline.min(self.core.timers.next());
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
        let mut peer = Peer::new(serial, transport, addr, &self.core.config);
        if via != Via::Direct {
            peer.is_of_proxy();
        }
        peer.unannounced = via == Via::Header;
        if self.core.config.connection_stats {
            peer.count(self.core.now);
        }
        if self.core.config.rates.is_limited() {
            peer.measure();
        }
        let same = self.core.peers.insert(peer);
        debug_assert_eq!(slot, same, "the two slabs have the same keys");
        self.core.stats.accepted += 1;
        self.core.half_open += 1;
        (slot, serial)
    }

    /// Removes a connection that is gone, or that `take_in` took and that cannot be served.
    pub(crate) fn dismiss(&mut self, slot: usize) {
        self.core.forget(slot);
        drop_caught((
            self.halves.try_remove(slot),
            self.core.peers.try_remove(slot),
        ));
        let (left, room) = (self.halves.len(), self.halves.capacity());
        if left == 0 {
            // Nobody is there whose next message they would be for.
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

    /// Begins a connection; delivers its first event, unless a proxy has to tell first whose it is.
    pub(crate) fn welcome(&mut self, slot: usize) {
        self.begin_life(slot);
        self.core.current = slot;
        if self
            .core
            .peers
            .get(slot)
            .is_some_and(|peer| !peer.unannounced)
        {
            self.connect(slot);
        }
        self.settle(slot);
        self.core.current = NOBODY;
    }

    /// Delivers the first event of a connection.
    fn connect(&mut self, slot: usize) {
        let verdict = self
            .dispatch(slot)
            .and_then(|mut dispatch| dispatch.emit::<Connect>(()));
        if verdict == Some(Verdict::Refuse)
            && let Some(peer) = self.core.peers.get_mut(slot)
        {
            peer.refuse(403);
        }
    }

    /// Sets the deadlines that a connection has from its beginning.
    fn begin_life(&mut self, slot: usize) {
        self.arm(slot);
        if let Some(lifetime) = self.core.config.max_lifetime {
            let due = self.core.now.saturating_add(lifetime);
            self.core.timers.set_lifetime(slot, Some(due));
        }
    }

    /// Begins a turn: who waits now is served in it, who comes to wait in the next.
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
        if self.core.budget.is_on() {
            self.charge(slot);
        }
    }

    fn settle_all(&mut self, slot: usize) {
        let owes_answer = self.halves.get(slot).is_some_and(InputHalf::owes_answer);
        let is_waiting = |half: &InputHalf| half.flags.has(Flags::ENQUEUED);
        let is_waiting = self.halves.get(slot).is_some_and(is_waiting);
        let Some(mut dispatch) = self.dispatch(slot) else {
            return;
        };
        dispatch.tell_slow_consumer();
        let Some(peer) = dispatch.core.peers.get_mut(slot) else {
            return;
        };
        if peer.phase == Phase::Opening
            && !peer.is_cut()
            && let Some(refusal) = peer.take_refusal()
        {
            // Without TLS there is no one to tell.
            if peer.transport.needs_ssl() {
                peer.cut();
            }
            let error = HandshakeError::Refused(refusal.status());
            match owes_answer {
                true => dispatch.refuse(error, Some(refusal)),
                false => dispatch.leave(Some(answered())),
            }
        } else if let Some((upgrade, decision)) = peer.take_decided()
            && !peer.is_cut()
        {
            dispatch.decide_late(upgrade, decision);
        }
        let drain_at = dispatch.core.config.drain_at;
        // Who has been told in this turn, and has caused more, waits for the next.
        let mut told_sent = is_waiting;
        let mut told_drained = is_waiting;
        loop {
            let Some(peer) = dispatch.core.peers.get_mut(slot) else {
                return;
            };
            if peer.phase == Phase::Gone {
                dispatch.core.discard_out(slot);
                break;
            }
            if peer.is_cut() {
                dispatch.core.note_cut(slot);
                dispatch.cut(Cause::Cut);
                continue;
            }
            dispatch.core.release_out(slot);
            let Some(peer) = dispatch.core.peers.get_mut(slot) else {
                return;
            };
            let flushed = match peer.flush(drain_at) {
                Ok(flushed) => flushed,
                Err(error) => {
                    dispatch.lost(error);
                    continue;
                }
            };
            let sent = peer.count_told();
            let drained = peer.is_drained(flushed, drain_at);
            // A handler that streams to a fast reader is told once in a turn.
            if sent > 0 && !std::mem::replace(&mut told_sent, true) {
                dispatch.tell_sent(sent);
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
        let usual = |half: &InputHalf| half.phase == Phase::Open && !half.flags.has(Flags::PAUSED);
        let Some(peer) = self.core.peers.get_mut(slot) else {
            return false;
        };
        if !self.halves.get(slot).is_some_and(usual) {
            return false;
        }
        if peer.is_quiet() {
            self.core.release_out(slot);
        } else if peer.has_only_queued() && self.core.current != slot {
            if let Err(error) = peer.flush(self.core.config.drain_at)
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
        let (Some(half), Some(peer)) = (self.halves.get_mut(slot), self.core.peers.get_mut(slot))
        else {
            return;
        };
        let phase = peer.phase;
        let mut reads_on = false;
        if peer.take_progress() {
            if self.core.budget.is_on() {
                self.core.budget.note_sent(slot, self.core.now);
            }
            half.hear(self.now);
            if phase >= Phase::Closing {
                // It has its time to answer when it has taken what is before the Close, and until
                // then if it goes on taking that.
                let sent = peer.take_sent();
                half.stamp = match peer.reads() {
                    true => self.now,
                    false => self.core.config.moved_on(half.stamp, sent, self.now),
                };
                reads_on = self.schedule.is_some();
            }
        }
        if phase == Phase::Lingering && peer.backlog() == 0 && !half.flags.has(Flags::FIN) {
            if half.is_done() && !peer.transport.is_secure() {
                // RFC 6455, 7.1.1: the server closes first. Nothing is left on either side, so no
                // RST can come of it, and one call does for both directions (decision 14).
                self.core.set_phase(slot, Phase::Gone);
            } else {
                // The peer may be gone already; nothing more is wanted of it.
                let sent = peer.transport.shutdown_write().unwrap_or(true);
                half.flags.set_if(Flags::FIN, sent);
            }
        }
        if phase == Phase::Lingering && half.flags.has(Flags::FIN) && half.flags.has(Flags::EOF) {
            self.core.set_phase(slot, Phase::Gone);
        }
        let Some(peer) = self.core.peers.get(slot) else {
            return;
        };
        let (before, phase) = (half.phase, peer.phase);
        half.phase = phase;
        if half.flags.has(Flags::PAUSED) && !is_stalled(&self.core, peer) {
            half.flags.clear(Flags::PAUSED);
            half.decoder.unstall(self.now);
            self.requeue(slot);
        }
        if phase == before {
            if reads_on {
                self.arm(slot);
            }
            return;
        }
        let (Some(half), Some(peer)) = (self.halves.get_mut(slot), self.core.peers.get_mut(slot))
        else {
            return;
        };
        half.stamp = self.now;
        if phase >= Phase::Closing {
            peer.take_sent();
            peer.forget_acknowledged();
        }
        if phase >= Phase::Lingering {
            // What is under way is of no use any more.
            half.forget_input();
            self.core.drop_compression(slot);
        }
        if phase == Phase::Gone {
            self.gone.push(slot);
            return;
        }
        self.arm(slot);
    }

    /// Puts a connection with something left to read on the list for the next turn.
    fn requeue(&mut self, slot: usize) {
        let (Some(half), Some(peer)) = (self.halves.get_mut(slot), self.core.peers.get(slot))
        else {
            return;
        };
        if peer.phase == Phase::Gone || !(half.flags.has(Flags::READABLE) || half.has_unread()) {
            return;
        }
        if is_stalled(&self.core, peer) {
            half.flags.set(Flags::PAUSED);
            half.decoder.stall(self.now);
        } else {
            self.enqueue_ready(slot);
        }
    }

    /// Puts a connection on the list for the next turn.
    fn enqueue_ready(&mut self, slot: usize) {
        if let Some(half) = self.halves.get_mut(slot)
            && !half.flags.set(Flags::ENQUEUED)
        {
            self.ready_queue.push(slot);
        }
    }

    /// Settles the connections that were marked, and removes those that are gone. What comes of more
    /// and more of it waits for the next turn.
    #[inline(always)]
    pub(crate) fn end_turn(&mut self) {
        if !self.core.dirty.is_empty() || !self.gone.is_empty() {
            self.settle_marked();
        }
        if self.core.budget.is_on() {
            self.end_budget();
        }
    }

    /// Sees to it that no more is held than may be when the turn ends.
    #[cold]
    fn end_budget(&mut self) {
        if self.core.budget.is_exceeded() {
            self.shed();
            self.settle_marked();
        }
        match self.core.budget.end_turn(self.core.now) {
            Turn::Same => {}
            Turn::Short(look) => self.watch_memory(look),
            Turn::Relieved => {
                if let Some(timer) = self.relief.take() {
                    self.core.timers.clear(timer);
                }
            }
        }
    }

    fn settle_marked(&mut self) {
        for _ in 0..PASSES {
            if self.core.dirty.is_empty() {
                break;
            }
            let empty = std::mem::take(&mut self.settling);
            let mut settling = std::mem::replace(&mut self.core.dirty, empty);
            for slot in settling.drain(..) {
                self.core.unmark(slot);
                self.settle(slot);
            }
            self.settling = settling;
        }
        while let Some(slot) = self.gone.pop() {
            self.dismiss(slot);
        }
    }

    fn dispatch(&mut self, slot: usize) -> Option<Dispatch<'_>> {
        let own = &mut self.halves.get_mut(slot)?.own;
        Some(Dispatch {
            core: &mut self.core,
            own,
            handlers: &mut self.handlers,
            slot,
        })
    }
}

/// What the news of a connection's socket carry: its slot in the low 32 bits and, where there are
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

/// Whether a connection is not read: because it was paused, or because it does not read either and
/// half of `max_backlog` waits for it, or it was faster than it may be. TCP then holds back what it
/// sends, and its own replies never overflow the backlog. Nor is it read while the answer to its
/// opening handshake is postponed.
fn is_stalled(core: &Core, peer: &Peer) -> bool {
    let full = || peer.backlog() > core.config.limits.max_backlog / 2;
    match peer.phase {
        Phase::Open => peer.is_paused() || peer.is_held_off() || full(),
        Phase::Opening => peer.is_deferred() || full(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
