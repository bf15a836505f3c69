//! The cursor over the whole server.

use std::fmt;

use super::core::Core;
use super::cursor::{Connection, ConnectionId};
use super::handle::Handle;
use super::peer::Phase;
use crate::error::SendError;
use crate::protocol::Prepared;
use crate::stats::Stats;

/// The server as handlers reach it, for the time of one call.
pub struct Hub<'s> {
    core: &'s mut Core,
}

impl<'s> Hub<'s> {
    pub(crate) fn new(core: &'s mut Core) -> Self {
        Self { core }
    }

    /// Returns a connection by its number; `None` if it is over.
    pub fn get(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let slot = id.slot as usize;
        let peer = self.core.peers.get(slot)?;
        (peer.serial == id.serial && peer.phase < Phase::Draining)
            .then(|| Connection::new(self.core, slot))
    }

    /// Returns the numbers of the connections that are ready, in no order.
    #[doc(alias = "connections")]
    pub fn ids(&self) -> Vec<ConnectionId> {
        let serial = |slot: usize| self.core.peers.get(slot).map_or(0, |peer| peer.serial);
        let id = |slot| ConnectionId {
            serial: serial(slot),
            slot: slot as u32,
        };
        self.core.ready_slots().map(id).collect()
    }

    /// Calls `action` with each connection that is ready, in no order.
    #[doc(alias = "connections")]
    pub fn for_each(&mut self, mut action: impl FnMut(&mut Connection<'_>)) {
        for slot in 0..self.core.peers.capacity() {
            if self
                .core
                .peers
                .get(slot)
                .is_some_and(|peer| peer.phase == Phase::Open)
            {
                action(&mut Connection::new(self.core, slot));
            }
        }
    }

    /// Sends a text message to every connection that is ready; returns how many it was queued for.
    ///
    /// The message is framed once. One that does not read, so that its backlog is full, is passed
    /// over (see [`SlowConsumer`](crate::SlowConsumer)), as is one whose `max_send_size` is less.
    ///
    /// # Errors
    ///
    /// [`SendError::TooBig`] above the server's `max_send_size`.
    pub fn broadcast_utf8(&mut self, text: &str) -> Result<usize, SendError> {
        self.check_size(text.len())?;
        self.broadcast_prepared(&Prepared::utf8(text))
    }

    /// Sends a binary message to every connection that is ready, as
    /// [`broadcast_utf8`](Self::broadcast_utf8) does.
    ///
    /// # Errors
    ///
    /// As [`broadcast_utf8`](Self::broadcast_utf8).
    pub fn broadcast_binary(&mut self, bytes: &[u8]) -> Result<usize, SendError> {
        self.check_size(bytes.len())?;
        self.broadcast_prepared(&Prepared::binary(bytes))
    }

    /// Sends a message that is framed already to every connection that is ready.
    ///
    /// # Errors
    ///
    /// As [`broadcast_utf8`](Self::broadcast_utf8).
    pub fn broadcast_prepared(&mut self, prepared: &Prepared) -> Result<usize, SendError> {
        self.check_size(prepared.size())?;
        let mut reached = 0;
        self.for_each(|conn| {
            let sent = conn.send_prepared(prepared);
            reached += usize::from(sent.is_ok_and(|bytes| bytes > 0));
        });
        Ok(reached)
    }

    /// Returns how many connections are ready.
    pub fn len(&self) -> usize {
        self.core.ready
    }

    /// Returns whether no connection is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the server's one value of type `T`, made by `T::default()` on first use.
    pub fn shared<T: Default + 'static>(&mut self) -> &mut T {
        self.core.shared.get()
    }

    /// Ends the server: the `Shutdown` event, then the listeners are closed and every client is
    /// sent a Close frame with 1001. [`Server::start`](crate::Server::start) returns when all are
    /// gone, or after `close_timeout`.
    pub fn shutdown(&mut self) {
        self.core.shutdown = true;
    }

    /// Returns a handle that other threads can use.
    pub fn handle(&self) -> Handle {
        self.core.handle.clone()
    }

    /// Returns what the server has counted.
    pub fn stats(&self) -> Stats {
        self.core.stats
    }

    fn check_size(&self, size: usize) -> Result<(), SendError> {
        let limit = self.core.config.limits.max_send_size;
        if size > limit {
            Err(SendError::TooBig { size, limit })
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Hub<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("ready", &self.core.ready)
            .finish_non_exhaustive()
    }
}
