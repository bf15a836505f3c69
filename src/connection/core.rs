//! Everything that a handler can reach, of all connections.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use slab::Slab;

use super::addresses::Addresses;
use super::adoption::Adoption;
use super::backlog::Kind;
use super::budget::Budget;
#[cfg(feature = "deflate")]
use super::compression::Compression;
use super::data::Data;
use super::gather::{Gather, WRITE_THROUGH};
use super::handle::Handle;
use super::journal::{Journal, Matter, Topic};
use super::peer::{Ending, Peer, Phase};
use super::timers::{TimerId, Timers};
use super::watch::Watches;
use crate::config::Config;
use crate::connection::event::Cause;
use crate::error::SendError;
use crate::protocol::{CloseCode, CloseFrame, Compress, FrameHead, OpCode, Prepared};
use crate::stats::Stats;

/// Everything that a handler can reach. Only the reactor adds and removes peers.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) peers: Slab<Peer>,
    /// The connection whose events are being delivered, or [`NOBODY`].
    pub(crate) current: usize,
    /// What `current` was sent and the kernel was not offered yet.
    pub(crate) out: Gather,
    #[cfg(feature = "deflate")]
    pub(crate) compression: Compression,
    /// Where compressed messages are expanded.
    pub(crate) room: Vec<u8>,
    /// Connections to look at before the turn ends.
    pub(crate) dirty: Vec<usize>,
    /// Connections whose opening handshake is done and that are not closing.
    pub(crate) ready: usize,
    /// Connections of which neither an upgrade nor a plain request was answered yet.
    pub(crate) half_open: usize,
    pub(crate) addresses: Addresses,
    pub(crate) budget: Budget,
    /// What the server is to do at the end of the turn.
    pub(crate) orders: Vec<Order>,
    /// The TCP addresses that are listened on; the server keeps them up to date.
    pub(crate) local_addrs: Vec<SocketAddr>,
    pub(crate) handle: Handle,
    /// When this turn of the loop began, from the reactor's epoch.
    pub(crate) now: Duration,
    pub(crate) timers: Timers,
    pub(crate) watches: Watches,
    pub(super) shared: Data,
    pub(crate) stats: Stats,
    pub(crate) journal: Journal,
    /// As it was when `fetch_stats` was called last.
    pub(super) fetched: Stats,
    /// Connections of other servers in the process, to be taken in.
    pub(crate) adoptions: Vec<Adoption>,
    /// What day and time it is, for answers.
    pub(crate) wall_clock: fn() -> SystemTime,
    /// Set when the server goes down.
    pub(crate) leaving: Option<Leaving>,
    /// The drain that begins when health checks have failed for `lame_duck`.
    pub(crate) lame_duck: Option<LameDuck>,
}

/// A drain that is to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LameDuck {
    pub(crate) plan: Plan,
    /// When it begins.
    pub(crate) timer: TimerId,
}

/// What connections have to know of a server that goes down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    /// What clients are closed with.
    pub(crate) code: CloseCode,
    /// Connections up to this number have had their turn to be closed: who gets ready only now is
    /// closed at once.
    pub(crate) called: u64,
}

/// What only the server itself can do: handlers ask for it, and it is done when they have returned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Go down without loss.
    Drain(Plan),
    /// Leave the listeners to another process that has their sockets.
    HandOver,
    /// Look anew at the deadlines of all connections: a setting has changed.
    Rearm,
    StartListening,
    /// Go down; every client is closed with this code.
    Stop(CloseCode),
    StopListening,
    /// Count ticks anew: `tick_period` has changed.
    Tick,
}

/// How a server is to go down without loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What is left after this is cut.
    pub(crate) deadline: Duration,
    pub(crate) code: CloseCode,
    /// Over how long the clients are closed.
    pub(crate) spread: Duration,
}

impl Core {
    pub(crate) fn new(config: Config, handle: Handle) -> Self {
        Self {
            // What the kernel does not take then counts as backlog.
            out: Gather::new(config.limits.max_backlog / 2),
            #[cfg(feature = "deflate")]
            compression: Compression::new(config.deflate.clone()),
            room: Vec::new(),
            addresses: Addresses::new(config.addresses),
            budget: Budget::new(config.memory_budget, config.memory_relief),
            config,
            peers: Slab::new(),
            current: NOBODY,
            dirty: Vec::new(),
            ready: 0,
            half_open: 0,
            orders: Vec::new(),
            local_addrs: Vec::new(),
            handle,
            now: Duration::ZERO,
            timers: Timers::default(),
            watches: Watches::default(),
            shared: Data::default(),
            stats: Stats::default(),
            journal: Journal::new(),
            fetched: Stats::default(),
            adoptions: Vec::new(),
            wall_clock: SystemTime::now,
            leaving: None,
            lame_duck: None,
        }
    }

    /// Returns whether the server goes down, or has begun to tell that it will.
    pub(crate) fn is_going_down(&self) -> bool {
        self.leaving.is_some() || self.lame_duck.is_some()
    }

    /// Asks the reactor to look at a connection before the turn ends.
    pub(crate) fn mark(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot)
            && !std::mem::replace(&mut peer.dirty, true)
        {
            self.dirty.push(slot);
        }
    }

    /// Moves a connection on to a later phase.
    pub(crate) fn set_phase(&mut self, slot: usize, phase: Phase) {
        let unsent = match phase {
            Phase::Gone => self.unsent(slot),
            _ => 0,
        };
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        if unsent > 0 && peer.phase < Phase::Gone {
            self.stats.lost += 1;
            self.stats.lost_bytes += unsent as u64;
            if let Some(line) = self.admits(Topic::Other(Matter::Lost)) {
                line.about(
                    self.who(slot),
                    format_args!("{unsent} bytes for it are lost"),
                );
            }
        }
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        self.ready += usize::from(phase == Phase::Open);
        self.ready -= usize::from(peer.phase == Phase::Open);
        peer.set_phase(phase);
        if phase > Phase::Opening {
            self.opened(slot);
        }
    }

    /// Notes that a connection is half open no more: it was answered, or is over.
    pub(crate) fn opened(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot)
            && std::mem::take(&mut peer.half_open)
        {
            self.half_open -= 1;
            self.addresses.opened(peer.counted());
        }
    }

    /// Notes that a connection is about to be removed.
    pub(crate) fn forget(&mut self, slot: usize) {
        // One that could not be watched was never answered.
        self.opened(slot);
        self.count_left(slot);
        self.budget.forget(slot);
        if let Some(peer) = self.peers.get(slot) {
            self.addresses.left(peer.counted(), self.now);
        }
    }

    /// Notes that a connection that was marked is looked at.
    pub(crate) fn unmark(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.dirty = false;
        }
    }

    /// Sends a message or a control frame; returns its size on the wire.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        slot: usize,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<usize, SendError> {
        // The usual message: not large, to whom is being read, and nothing queued before it.
        if self.current == slot
            && let Some(peer) = self.peers.get(slot)
            && peer.is_quiet()
            && payload.len() <= peer.fast_send_size()
            && let Some((size, room)) = self.out.make_room(opcode, payload.len())
        {
            // The copy comes last: nothing has to be kept across it.
            self.stats.count_out(!opcode.is_control(), size);
            room.copy_from_slice(payload);
            return Ok(size);
        }
        self.send_any(slot, opcode, payload, Compress::Auto)
    }

    #[inline(never)]
    pub(super) fn send_any(
        &mut self,
        slot: usize,
        opcode: OpCode,
        payload: &[u8],
        compress: Compress,
    ) -> Result<usize, SendError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Err(SendError::Gone);
        };
        if peer.phase != Phase::Open {
            return Err(unsendable(peer.phase));
        }
        let kind = Kind::of(opcode);
        if kind == Kind::Message && peer.is_under_way() {
            return Err(SendError::MessageUnderWay);
        }
        let head = peer
            .sender
            .head(opcode, payload.len(), peer.max_send_size())?;
        let Some(deflated) = self.deflate(slot, opcode, payload, compress) else {
            return self.send_frame(slot, kind, &head, payload);
        };
        let head = FrameHead::new(opcode, deflated.len()).compressed();
        let sent = self.send_frame(slot, kind, &head, &deflated);
        self.after_deflated(slot, deflated, sent)
    }

    /// Sends a frame to a connection that is open, or queues it.
    fn send_frame(
        &mut self,
        slot: usize,
        kind: Kind,
        head: &FrameHead,
        payload: &[u8],
    ) -> Result<usize, SendError> {
        let size = head.len() + payload.len();
        if !self.reply(slot, head, payload) && !self.queue_pieces(slot, &[head, payload], kind)? {
            return Ok(0);
        }
        self.count_all(slot, kind == Kind::Message, size);
        Ok(size)
    }

    /// Sends a message that was framed before.
    pub(crate) fn send_prepared(
        &mut self,
        slot: usize,
        prepared: &Prepared,
    ) -> Result<usize, SendError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Err(SendError::Gone);
        };
        if !peer.takes_messages() {
            return Err(match peer.phase {
                Phase::Open => SendError::MessageUnderWay,
                phase => unsendable(phase),
            });
        }
        let (size, limit) = (prepared.size(), peer.max_send_size());
        if size > limit {
            return Err(SendError::TooBig { size, limit });
        }
        let deflating = peer.is_deflating();
        let frame = match deflating {
            true => self.deflate_prepared(slot, prepared),
            false => prepared.frame(),
        };
        let Some(peer) = self.peers.get_mut(slot) else {
            return Err(SendError::Gone);
        };
        let size = frame.len();
        // The usual receiver of a broadcast: another connection, whose backlog `admit` would allow.
        if self.current != slot
            && peer.backlog() <= self.config.limits.max_backlog / 2
            && !self.budget.is_on()
        {
            peer.enqueue_shared(frame);
            peer.count_out(true, size);
            if !peer.dirty {
                self.mark(slot);
            }
            self.stats.count_out(true, size);
            return Ok(size);
        }
        if !self.reply(slot, &[], frame) && !self.queue_shared(slot, frame)? {
            return Ok(0);
        }
        self.count_all(slot, true, size);
        Ok(size)
    }

    /// Sends to the connection whose events are being delivered, if it is this one and nothing is
    /// queued before.
    fn reply(&mut self, slot: usize, head: &[u8], payload: &[u8]) -> bool {
        let Some(peer) = self.peers.get_mut(slot) else {
            return false;
        };
        if self.current != slot || peer.is_queued() {
            return false;
        }
        if payload.len() >= WRITE_THROUGH {
            // What was collected takes the header along.
            self.out.push(head);
            if self.out.is_empty() {
                peer.write_through([payload]);
            } else {
                peer.write_through([self.out.as_slice(), payload]);
            }
            self.out.clear();
            return true;
        }
        self.out.push(head);
        self.out.push(payload);
        if self.out.is_full() {
            self.release_out(slot);
        }
        true
    }

    /// Starts the closing handshake (RFC 6455, 7.1.2). Before the opening one is done, refuses it.
    pub(crate) fn disconnect(
        &mut self,
        slot: usize,
        code: CloseCode,
        reason: &str,
        cause: Cause,
    ) -> Result<(), SendError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Err(SendError::Gone);
        };
        match peer.phase {
            Phase::Opening => {
                CloseFrame { code, reason }.encode(&mut Vec::new())?;
                peer.refuse(403);
                peer.end(Ending::new(code, reason, cause));
            }
            Phase::Open => {
                self.send_close(slot, code, reason)?;
                if let Some(peer) = self.peers.get_mut(slot) {
                    peer.end(Ending::new(code, reason, cause));
                }
                self.set_phase(slot, Phase::Closing);
            }
            Phase::Closing | Phase::Lingering | Phase::Gone => return Ok(()),
        }
        self.mark(slot);
        Ok(())
    }

    /// Starts the closing handshake for a cause of the server's own, without a reason.
    pub(crate) fn close(&mut self, slot: usize, code: CloseCode, cause: Cause) {
        let done = self.disconnect(slot, code, "", cause);
        debug_assert!(done.is_ok(), "the server's own codes can be sent");
    }

    /// Sends a Close frame, behind everything that was sent before.
    pub(crate) fn send_close(
        &mut self,
        slot: usize,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), SendError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Err(SendError::Gone);
        };
        let mut frame = Vec::new();
        peer.sender.close(code, reason, &mut frame)?;
        self.append(slot, &frame);
        Ok(())
    }

    /// Returns what was counted up to this turn.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            time: self.now,
            ..self.stats
        }
    }

    /// Counts a message that came out of the usual way, for the connection as well.
    pub(crate) fn count_in(&mut self, slot: usize) {
        self.stats.messages_in += 1;
        if let Some(counts) = self.peers.get_mut(slot).and_then(Peer::counts) {
            counts.messages_in += 1;
        }
    }

    /// Counts what is sent out of the usual way, for the connection as well.
    pub(super) fn count_all(&mut self, slot: usize, is_message: bool, size: usize) {
        self.stats.count_out(is_message, size);
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.count_out(is_message, size);
        }
    }

    /// Queues bytes behind everything that was sent to the connection, whatever is queued.
    pub(crate) fn append(&mut self, slot: usize, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        self.stats.bytes_out += bytes.len() as u64;
        peer.count_out(false, bytes.len());
        if self.current == slot && !peer.is_queued() {
            self.out.push(bytes);
            // What the kernel does not take counts as backlog from now on.
            if self.out.is_full() {
                self.release_out(slot);
            }
        } else {
            peer.enqueue(bytes);
        }
        self.mark(slot);
    }

    /// Offers the kernel what `current` was sent, if it is this connection.
    pub(crate) fn release_out(&mut self, slot: usize) {
        if self.current != slot || self.out.is_empty() {
            return;
        }
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.write_through([self.out.as_slice()]);
        }
        self.out.clear();
    }

    /// Offers the kernel what `current` was sent: `slot`, which is quiet and stays so if this
    /// returns true.
    #[inline(always)]
    pub(crate) fn release_fast(&mut self, slot: usize) -> bool {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.is_quiet()) else {
            return false;
        };
        let done = self.out.is_empty() || peer.write_fast(self.out.as_slice());
        self.out.empty();
        done
    }

    /// Forgets what `current` was sent, if it is this connection: it is cut.
    pub(crate) fn discard_out(&mut self, slot: usize) {
        if self.current == slot {
            self.out.clear();
        }
    }
}

/// No connection's slot.
pub(crate) const NOBODY: usize = usize::MAX;

/// Why nothing can be sent in `phase`.
pub(super) fn unsendable(phase: Phase) -> SendError {
    match phase {
        Phase::Opening => SendError::NotReady,
        Phase::Open | Phase::Closing | Phase::Lingering => SendError::Closing,
        Phase::Gone => SendError::Gone,
    }
}

/// `FrameHead` is copied on the hot path; it stays small.
const _: () = assert!(size_of::<FrameHead>() <= 16);
