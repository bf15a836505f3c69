//! What may be queued for a connection, and what happens beyond it.

use std::sync::Arc;

use super::core::Core;
use super::cursor::Connection;
use super::journal::{Matter, Topic};
use super::peer::{Marks, Peer};
use crate::config::SlowConsumer;
use crate::connection::event::Cause;
use crate::error::SendError;
use crate::protocol::{CloseCode, OpCode};

/// What is queued, as far as that matters when there is too much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Control,
    Message,
    /// A frame of a message that is sent in parts: without it, what follows makes no sense.
    Part,
}

impl Kind {
    pub(super) fn of(opcode: OpCode) -> Self {
        if opcode.is_control() {
            Self::Control
        } else {
            Self::Message
        }
    }
}

/// What becomes of a message that cannot be sent at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Admission {
    Queue,
    /// Memory is short: it is sent if the kernel takes it now.
    Offer,
    Drop,
}

impl Core {
    /// Queues whole frames, or has the kernel take them where memory is short. `Ok(false)` drops
    /// them.
    pub(super) fn queue_pieces(
        &mut self,
        slot: usize,
        pieces: &[&[u8]],
        kind: Kind,
    ) -> Result<bool, SendError> {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        let has_room = kind == Kind::Control || self.budget.has_room(size);
        match self.admit(slot, size, kind, has_room)? {
            Admission::Drop => return Ok(false),
            Admission::Offer => {
                let rest = self.offer(slot, pieces, size)?;
                if let Some(peer) = self.peers.get_mut(slot)
                    && rest > 0
                {
                    peer.keep_rest(pieces.iter().copied(), Ok(size - rest));
                    self.budget.queue(rest);
                }
            }
            Admission::Queue => {
                if let Some(peer) = self.peers.get_mut(slot) {
                    peer.enqueue_frame(pieces, kind);
                }
                self.budget.queue(size);
            }
        }
        self.mark(slot);
        Ok(true)
    }

    /// Queues a message that other connections are sent as well, or has the kernel take it where
    /// memory is short. `Ok(false)` drops it.
    pub(super) fn queue_shared(
        &mut self,
        slot: usize,
        frame: &Arc<[u8]>,
    ) -> Result<bool, SendError> {
        let size = frame.len();
        let has_room = self.budget.has_room_for(frame);
        match self.admit(slot, size, Kind::Message, has_room)? {
            Admission::Drop => return Ok(false),
            Admission::Offer => {
                let rest = self.offer(slot, &[frame], size)?;
                if let Some(peer) = self.peers.get_mut(slot)
                    && rest > 0
                {
                    peer.keep_shared_rest(frame, size - rest);
                    self.budget.queue_shared(frame);
                }
            }
            Admission::Queue => {
                if let Some(peer) = self.peers.get_mut(slot) {
                    peer.enqueue_shared(frame);
                }
                self.budget.queue_shared(frame);
            }
        }
        self.mark(slot);
        Ok(true)
    }

    /// Checks `max_backlog` and `memory_budget`: what becomes of a message of `size` bytes.
    ///
    /// A message is always taken while no more than half of it is queued, so that whoever is read
    /// can be answered, and messages larger than the limit can be sent at all. So the queue holds
    /// at most `max_backlog`, or half of it and one message. Control frames have
    /// [`CONTROL_RESERVE`] beyond it.
    fn admit(
        &mut self,
        slot: usize,
        size: usize,
        kind: Kind,
        has_room: bool,
    ) -> Result<Admission, SendError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Err(SendError::Gone);
        };
        let limit = self.config.limits.max_backlog;
        let reserve = if kind == Kind::Control {
            CONTROL_RESERVE
        } else {
            0
        };
        if !has_room {
            return Ok(Admission::Offer);
        }
        // Whatever is queued up to here, the bytes are taken.
        let room = limit.saturating_add(reserve).saturating_sub(size);
        let room = room.max(limit / 2);
        if peer.backlog() > room && peer.is_held_back() {
            peer.flush_early(self.config.drain_at);
        }
        if peer.slow_consumer == SlowConsumer::DropOldest {
            self.stats.dropped_messages += drop_oldest(peer, room);
        }
        let queued = peer.backlog();
        if queued <= room {
            return Ok(Admission::Queue);
        }
        match peer.slow_consumer {
            SlowConsumer::DropNewest | SlowConsumer::DropOldest if kind != Kind::Part => {
                self.stats.dropped_messages += u64::from(kind == Kind::Message);
                return Ok(Admission::Drop);
            }
            SlowConsumer::Error | SlowConsumer::DropNewest | SlowConsumer::DropOldest => {
                self.stats.refused_messages += u64::from(kind != Kind::Control);
            }
            SlowConsumer::Close => {
                self.stats.refused_messages += u64::from(kind != Kind::Control);
                self.stats.slow_closes += 1;
                let (code, cause) = (CloseCode::POLICY_VIOLATION, Cause::SlowConsumer);
                self.disconnect(slot, code, "max_backlog exceeded", cause)?;
                if let Some(line) = self.admits(Topic::Other(Matter::SlowConsumer)) {
                    line.about(
                        self.who(slot),
                        format_args!("closed: {queued} bytes queued, max_backlog is {limit}"),
                    );
                }
                if let Some(peer) = self.peers.get_mut(slot) {
                    peer.set_too_slow();
                }
            }
        }
        Err(SendError::BacklogFull { queued, limit })
    }

    /// Offers the kernel frames of `size` bytes for which there is no memory, behind what is queued.
    /// Returns how many bytes are left over once it took the first; the caller keeps these.
    ///
    /// # Errors
    ///
    /// [`SendError::NoMemory`] if the kernel took none.
    fn offer(&mut self, slot: usize, pieces: &[&[u8]], size: usize) -> Result<usize, SendError> {
        let drain_at = self.config.drain_at;
        let taken = match self.peers.get_mut(slot) {
            None => return Err(SendError::Gone),
            // What the kernel leaves has to be kept, whatever it is.
            Some(peer) if self.budget.has_rest(size) => peer.write_offered(pieces, drain_at),
            Some(_) => 0,
        };
        // The kernel may have taken what was queued before, or the connection may be broken.
        self.mark(slot);
        if taken == 0 {
            self.stats.budget_refusals += 1;
            let budget = self.budget.limit();
            return Err(SendError::NoMemory { budget });
        }
        Ok(size - taken)
    }
}

impl Peer {
    /// Notes that the slow-consumer policy closed it.
    fn set_too_slow(&mut self) {
        self.marks.set(Marks::TOO_SLOW);
    }

    /// Returns whether the slow-consumer policy closed it, once.
    pub(crate) fn take_too_slow(&mut self) -> bool {
        self.marks.take(Marks::TOO_SLOW)
    }
}

/// Drops the oldest messages until no more than `room` bytes are queued, or no message can be
/// dropped; returns how many were.
fn drop_oldest(peer: &mut Peer, room: usize) -> u64 {
    let mut dropped = 0;
    while let excess @ 1.. = peer.backlog().saturating_sub(room) {
        match peer.drop_oldest(excess) {
            0 => break,
            count => dropped += count,
        }
    }
    dropped
}

/// Bytes that control frames may be queued beyond `max_backlog`.
const CONTROL_RESERVE: usize = 4 << 10;

impl Connection<'_> {
    /// Returns the bytes that were sent to the peer and that the kernel, or TLS, has not taken, to
    /// the byte: what waits in the [`backlog`](Self::backlog), and what the handler that is
    /// running has sent and the kernel was not offered yet. TLS holds back 128 KiB at most.
    #[doc(alias = "bufferedAmount")]
    pub fn buffered_amount(&self) -> usize {
        let offered = if self.core.current == self.slot {
            self.core.out.as_slice().len()
        } else {
            0
        };
        self.peer().backlog() + offered
    }

    /// Returns how far the backlog has to go down for `Drain`, in bytes.
    pub fn drain_at(&self) -> usize {
        self.peer().drain_at(self.core.config.drain_at)
    }

    /// Sets how far the backlog has to go down for `Drain`, in bytes. Default as the server's; see
    /// [`Builder::drain_at`](crate::Builder::drain_at).
    pub fn set_drain_at(&mut self, bytes: usize) {
        self.peer_mut().set_drain_at(bytes);
    }

    /// Returns what happens to messages beyond `max_backlog`.
    pub fn slow_consumer(&self) -> SlowConsumer {
        self.peer().slow_consumer
    }

    /// Sets what happens to messages beyond `max_backlog`, from the next one on. Default as the
    /// server's. What is queued already is not dropped by [`SlowConsumer::DropOldest`].
    pub fn set_slow_consumer(&mut self, policy: SlowConsumer) {
        self.peer_mut().set_slow_consumer(policy);
    }
}
