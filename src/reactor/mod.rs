//! The reactor: all connections of a server, driven by readiness and time that come in as
//! arguments.
//!
//! It uses neither the event queue nor the clock, and bytes go through `transport`. A simulated
//! network drives the same code as the real one.

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
mod settling;
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
use crate::connection::event::{Accept, Accepted, Connect, Handlers, Verdict};
use crate::connection::{Core, NOBODY, Peer, PeerMut, TimerId};
use crate::protocol::{Batch, Pad, Pool};
use crate::transport::{Deliveries, Transport};

/// How a connection reached the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Via {
    /// Directly from the client, as far as the server knows.
    Direct,
    /// From a trusted proxy, whose requests name the client.
    Proxy,
    /// From a proxy that names the client in a PROXY protocol header.
    Header,
}

pub(crate) struct Reactor {
    pub(crate) core: Core,
    /// The halves of connections that handlers cannot reach, with the same keys as `core.peers`.
    /// Only `take_in` and `dismiss` change the two slabs, together.
    halves: Slab<InputHalf>,
    pub(crate) handlers: Handlers,
    /// The buffer that all connections are read into; never cleared.
    buffer: Vec<u8>,
    /// The memory that a single short message is unmasked into.
    pad: Pad,
    /// Buffers of large messages, for reuse.
    pool: Pool,
    /// The memory that a run of short messages is unmasked into.
    batch: Batch,
    progress: Progress,
    /// The buffer that TLS records are read into; empty without TLS.
    scratch: Vec<u8>,
    wheel: Wheel,
    expired: Vec<Entry>,
    /// Connections that have input to process or callbacks to call in the next turn.
    ready_queue: Vec<usize>,
    /// Connections that were taken from the ready queue for this turn.
    serving: Vec<usize>,
    /// Dirty connections, while they are settled.
    settling: Vec<usize>,
    /// Connections to remove at the end of the turn.
    gone: Vec<usize>,
    /// When each client is closed, during a graceful shutdown.
    schedule: Option<Box<Schedule>>,
    /// The timer of the next check for connections to close, while memory is short.
    relief: Option<TimerId>,
    deliveries: Deliveries,
    epoch: Instant,
    now: u64,
}

/// The next connection number, for all servers in the process.
static SERIAL: AtomicU64 = AtomicU64::new(1);

impl Reactor {
    pub(crate) fn new(mut core: Core, handlers: Handlers, now: Instant) -> Self {
        core.shared.epoch = Some(now);
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

    /// Counts the time from another instant, for a clock that several loops share.
    #[cfg(test)]
    pub(crate) fn set_epoch(&mut self, epoch: Instant) {
        self.epoch = epoch;
        self.core.shared.epoch = Some(epoch);
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

    /// Returns the next deadline, in milliseconds since the epoch; 0 if the ready queue is not
    /// empty.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if !self.ready_queue.is_empty() {
            return Some(0);
        }
        let deadline = self.wheel.next().unwrap_or(u64::MAX);
        let next = deadline.min(self.core.shared.timers.next());
        (next < u64::MAX).then_some(next)
    }

    /// Adds a connection; returns its key and its number. [`welcome`](Self::welcome) begins its
    /// events.
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

    /// Removes a connection that has ended, or a new one that the event queue cannot watch.
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
            // No connection is left that could use the buffers.
            self.pool = Pool::default();
        }
        // Only at powers of two, so that the cost of each removal is negligible.
        if room > SHRINK_MIN && left <= room / 4 && (left.is_power_of_two() || left == 0) {
            self.shrink();
        }
    }

    /// Frees the vacant slots behind the last connection, since a broadcast visits every slot.
    #[cold]
    fn shrink(&mut self) {
        self.halves.shrink_to_fit();
        self.core.peers.shrink_to_fit();
    }

    /// Begins a connection; delivers `Connect`, unless a PROXY protocol header has to come first.
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

    /// Delivers `Connect`, the first event of a connection.
    fn connect(&mut self, slot: usize) {
        if let Some(mut dispatch) = self.dispatch(slot)
            && dispatch.emit::<Connect>(()) == Some(Verdict::Refuse)
        {
            dispatch.conn().peer.refuse(403);
        }
    }

    /// Sets the deadlines that count from the beginning of a connection.
    fn begin_life(&mut self, slot: usize) {
        self.arm(slot);
        let shared = &mut self.core.shared;
        if let Some(lifetime) = shared.config.max_lifetime {
            let due = shared.now.saturating_add(lifetime);
            shared.timers.set_lifetime(slot, Some(due));
        }
    }

    /// Begins a turn, which serves the connections that are in the ready queue now. Connections
    /// that are put there later wait for the next turn.
    pub(crate) fn begin_turn(&mut self) {
        self.serving.append(&mut self.ready_queue);
    }

    /// Serves the connections that `begin_turn` took from the ready queue.
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

/// Returns the tag that a connection's socket events carry.
///
/// The slot is in the low 32 bits. On 64-bit systems, bits of the connection's number are above
/// them, so that a late event of an earlier connection in the slot is recognised. The top bit is
/// clear.
pub(crate) fn connection_tag(slot: usize, serial: u64) -> usize {
    ((serial << 32) as usize & (usize::MAX >> 1)) | slot
}

/// The slabs are shrunk only above this capacity, in connections.
const SHRINK_MIN: usize = 1024;

/// The bits of a tag that hold the slot.
const SLOTS: usize = if usize::BITS > 32 {
    u32::MAX as usize
} else {
    usize::MAX >> 1
};

#[cfg(test)]
mod tests;
