//! Queueing data that cannot be sent at once, within `max_backlog` and `memory_budget`.

use std::sync::Arc;

use super::PeerMut;
use crate::close_code::CloseCode;
use crate::connection::event::Cause;
use crate::connection::log_lines::{Matter, Topic};
use crate::connection::peer::Marks;
use crate::connection::send::{Admission, Kind, room_before};
use crate::error::SendError;
use crate::limits::SlowConsumer;

impl PeerMut<'_> {
    /// Queues whole frames, or offers them to the kernel if memory is short. `Ok(false)` means that
    /// they were dropped.
    pub(super) fn queue_pieces(&mut self, pieces: &[&[u8]], kind: Kind) -> Result<bool, SendError> {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        let has_room = kind == Kind::Control || self.shared.budget.has_room(size);
        match self.admit(size, kind, has_room)? {
            Admission::Drop => return Ok(false),
            Admission::Offer => {
                let rest = self.offer(pieces, size)?;
                if rest > 0 {
                    self.peer.keep_rest(pieces, Ok(size - rest));
                    self.shared.budget.queue(rest);
                }
            }
            Admission::Queue => {
                self.peer.enqueue_frame(pieces, kind);
                self.shared.budget.queue(size);
            }
        }
        self.mark_dirty();
        Ok(true)
    }

    /// Queues a message that other connections are sent as well, or offers it to the kernel if
    /// memory is short. `Ok(false)` means that it was dropped.
    pub(super) fn queue_shared(&mut self, frame: &Arc<[u8]>) -> Result<bool, SendError> {
        let size = frame.len();
        let has_room = self.shared.budget.has_room_for(frame);
        match self.admit(size, Kind::Message, has_room)? {
            Admission::Drop => return Ok(false),
            Admission::Offer => {
                let rest = self.offer(&[frame], size)?;
                if rest > 0 {
                    self.peer.keep_shared_rest(frame, size - rest);
                    self.shared.budget.queue_shared(frame);
                }
            }
            Admission::Queue => {
                self.peer.enqueue_shared(frame);
                self.shared.budget.queue_shared(frame);
            }
        }
        self.mark_dirty();
        Ok(true)
    }

    /// Decides what happens to a message of `size` bytes, by `max_backlog` and `memory_budget`.
    ///
    /// A message is always accepted while at most half of `max_backlog` is queued, so that every
    /// connection that is read can be answered, and messages larger than the limit can be sent. The
    /// queue therefore holds at most `max_backlog`, or half of it plus one message. Control frames
    /// have a reserve beyond that.
    fn admit(&mut self, size: usize, kind: Kind, has_room: bool) -> Result<Admission, SendError> {
        if !has_room {
            return Ok(Admission::Offer);
        }
        let limit = self.shared.config.limits.max_backlog;
        let room = room_before(size, kind, limit);
        if self.peer.backlog() > room && self.peer.is_held_back() {
            self.flush_early();
        }
        let stats = &mut self.shared.stats;
        if self.peer.slow_consumer() == SlowConsumer::DropOldest {
            stats.dropped_messages += self.peer.drop_above(room);
        }
        let queued = self.peer.backlog();
        if queued <= room {
            return Ok(Admission::Queue);
        }
        match self.peer.slow_consumer() {
            SlowConsumer::DropNewest | SlowConsumer::DropOldest if kind != Kind::Part => {
                stats.dropped_messages += u64::from(kind == Kind::Message);
                return Ok(Admission::Drop);
            }
            policy => {
                stats.refused_messages += u64::from(kind != Kind::Control);
                if policy == SlowConsumer::Close {
                    self.close_slow(queued, limit)?;
                }
            }
        }
        Err(SendError::BacklogFull { queued, limit })
    }

    /// Closes a peer that reads too slowly.
    pub(super) fn close_slow(&mut self, queued: usize, limit: usize) -> Result<(), SendError> {
        self.shared.stats.slow_closes += 1;
        let (code, cause) = (CloseCode::POLICY_VIOLATION, Cause::SlowConsumer);
        self.disconnect(code, "max_backlog exceeded", cause)?;
        if let Some(line) = self.shared.admits(Topic::Other(Matter::SlowConsumer)) {
            line.about(
                self.who(),
                format_args!("closed: {queued} bytes are queued, max_backlog is {limit}"),
            );
        }
        self.peer.marks.set(Marks::TOO_SLOW);
        Ok(())
    }

    /// Offers the kernel frames of `size` bytes for which there is no memory, behind the queued
    /// data. Returns how many bytes are left after it took the first; the caller queues these.
    ///
    /// # Errors
    ///
    /// [`SendError::NoMemory`] if the kernel took none.
    pub(super) fn offer(&mut self, pieces: &[&[u8]], size: usize) -> Result<usize, SendError> {
        let drain_at = self.shared.config.drain_at;
        // The rest has to be queued, whatever its size.
        let taken = match self.shared.budget.has_rest(size) {
            true => self.peer.write_offered(pieces, drain_at),
            false => 0,
        };
        // The kernel may have taken what was queued before, or the connection may be broken.
        self.mark_dirty();
        if taken == 0 {
            self.shared.stats.budget_refusals += 1;
            let budget = self.shared.budget.limit();
            return Err(SendError::NoMemory { budget });
        }
        Ok(size - taken)
    }
}
