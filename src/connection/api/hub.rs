//! The cursor over the whole server.

use std::fmt;
use std::net::SocketAddr;

use super::connection::{Connection, ConnectionId};
use super::handle::Handle;
use super::sent::Sent;
use crate::connection::core::Core;
use crate::connection::peer::{Peer, Phase};
use crate::connection::shared::Order;
use crate::error::SendError;
use crate::protocol::{CloseCode, Prepared};
use crate::stats::Stats;

/// The server as handlers reach it, for the time of one call.
pub struct Hub<'s> {
    pub(super) core: &'s mut Core,
}

impl<'s> Hub<'s> {
    pub(crate) fn new(core: &'s mut Core) -> Self {
        Self { core }
    }

    /// Returns a connection by its number; `None` if it is over.
    pub fn get(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let slot = id.slot as usize;
        let peer = self.core.peers.get(slot)?;
        (peer.serial == id.serial && peer.phase() < Phase::Lingering && !peer.is_unannounced())
            .then(|| Connection::new(self.core, slot))
    }

    /// Returns a connection by its bare number, as [`ConnectionId::as_u64`] tells it, from a log or
    /// a request for instance; `None` if it is over. It looks at all connections for it: with the
    /// [`ConnectionId`], [`get`](Self::get) looks at one.
    pub fn find(&mut self, number: u64) -> Option<Connection<'_>> {
        let mut peers = self.core.peers.iter();
        let is_it = |peer: &Peer| {
            peer.serial == number && peer.phase() < Phase::Lingering && !peer.is_unannounced()
        };
        let (slot, _) = peers.find(|(_, peer)| is_it(peer))?;
        Some(Connection::new(self.core, slot))
    }

    /// Returns the numbers of the connections that are ready.
    ///
    /// The order is that of their places in memory, where a new connection takes any that is free:
    /// neither by age nor by number, but the same as long as nobody comes or goes. `for_each` and
    /// broadcasts have the same.
    #[doc(alias = "connections")]
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.ids_of(|phase| phase == Phase::Open)
    }

    /// Returns the numbers of all connections that had their `Connect` and not yet their
    /// `Disconnect`: with [`ids`](Self::ids) those whose opening handshake is under way, and those
    /// that are closing.
    pub fn all_ids(&self) -> Vec<ConnectionId> {
        self.ids_of(|phase| phase < Phase::Lingering)
    }

    fn ids_of(&self, wanted: impl Fn(Phase) -> bool) -> Vec<ConnectionId> {
        let peers = self.core.peers.iter();
        peers
            .filter(|(_, peer)| wanted(peer.phase()) && !peer.is_unannounced())
            .map(|(slot, peer)| ConnectionId {
                serial: peer.serial,
                slot: slot as u32,
            })
            .collect()
    }

    /// Calls `action` with each connection that is ready, in the order of [`ids`](Self::ids).
    #[doc(alias = "connections")]
    pub fn for_each(&mut self, mut action: impl FnMut(&mut Connection<'_>)) {
        // Handlers can end connections, but not make new ones: there are never more than now.
        let mut left = self.core.shared.ready;
        for slot in 0..self.core.peers.capacity() {
            if left == 0 {
                return;
            }
            if self
                .core
                .peers
                .get(slot)
                .is_some_and(|peer| peer.phase() == Phase::Open)
            {
                left -= 1;
                action(&mut Connection::new(self.core, slot));
            }
        }
    }

    /// Sends a text message to every connection that is ready; [`Sent::receivers`] tells to how many.
    ///
    /// The message is framed once. A connection whose backlog is full because it does not read is
    /// passed over (see [`SlowConsumer`](crate::SlowConsumer)), as is one whose `max_send_size` is
    /// less.
    ///
    /// # Errors
    ///
    /// [`SendError::TooBig`] above the server's `max_send_size`.
    pub fn broadcast_utf8(&mut self, text: &str) -> Result<Sent, SendError> {
        self.check_size(text.len())?;
        self.broadcast_prepared(&Prepared::utf8(text))
    }

    /// Sends a binary message to every connection that is ready, as
    /// [`broadcast_utf8`](Self::broadcast_utf8) does.
    ///
    /// # Errors
    ///
    /// As [`broadcast_utf8`](Self::broadcast_utf8).
    pub fn broadcast_binary(&mut self, bytes: &[u8]) -> Result<Sent, SendError> {
        self.check_size(bytes.len())?;
        self.broadcast_prepared(&Prepared::binary(bytes))
    }

    /// Sends a message that is framed already to every connection that is ready.
    ///
    /// # Errors
    ///
    /// As [`broadcast_utf8`](Self::broadcast_utf8).
    pub fn broadcast_prepared(&mut self, prepared: &Prepared) -> Result<Sent, SendError> {
        self.check_size(prepared.size())?;
        let mut all = Sent::NOTHING;
        self.for_each(|conn| all.add(conn.send_prepared(prepared).unwrap_or_default()));
        Ok(all)
    }

    /// Sends a message that is framed already to these connections, as
    /// [`broadcast_prepared`](Self::broadcast_prepared) does to all. Connections that are over, or not
    /// ready, are passed over.
    ///
    /// The members of a room, for instance, are found in the application's own data first, since
    /// that is the hub's, too:
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use wsloop::{ConnectionId, Hub, Prepared, SendError, Sent};
    ///
    /// #[derive(Default)]
    /// struct Rooms(HashMap<String, Vec<ConnectionId>>);
    ///
    /// fn say(hub: &mut Hub<'_>, room: &str, text: &str) -> Result<Sent, SendError> {
    ///     let members = hub.shared::<Rooms>().0.get(room).cloned().unwrap_or_default();
    ///     hub.send_to(members, &Prepared::utf8(text))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`broadcast_utf8`](Self::broadcast_utf8).
    pub fn send_to(
        &mut self,
        ids: impl IntoIterator<Item = ConnectionId>,
        prepared: &Prepared,
    ) -> Result<Sent, SendError> {
        self.check_size(prepared.size())?;
        let mut all = Sent::NOTHING;
        for id in ids {
            if let Some(mut conn) = self.get(id) {
                all.add(conn.send_prepared(prepared).unwrap_or_default());
            }
        }
        Ok(all)
    }

    /// Returns how many connections are ready.
    pub fn len(&self) -> usize {
        self.core.shared.ready
    }

    /// Returns whether no connection is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the server's one value of type `T`, made by `T::default()` on first use.
    pub fn shared<T: Default + 'static>(&mut self) -> &mut T {
        self.core.shared.data.get()
    }

    /// Ends the server: the `Shutdown` event, then the listeners are closed and every client is
    /// sent a Close frame with 1001. [`Server::start`](crate::Server::start) returns when all are
    /// gone, or after `close_timeout`.
    pub fn shutdown(&mut self) {
        self.core
            .shared
            .orders
            .push(Order::Stop(CloseCode::GOING_AWAY));
    }

    /// Ends the server as [`shutdown`](Self::shutdown) does, with another code for its clients,
    /// such as 1012 for a restart (RFC 6455, 7.4). Once the server goes down, the code stays.
    ///
    /// # Errors
    ///
    /// [`SendError::BadCloseCode`] for a code that must not be sent; then nothing was done.
    pub fn stop(&mut self, code: impl Into<CloseCode>) -> Result<(), SendError> {
        let code = code.into().sendable()?;
        self.core.shared.orders.push(Order::Stop(code));
        Ok(())
    }

    /// Leaves the listeners to another process that has their sockets as well, when the handlers of
    /// this turn have returned: see
    /// [`Server::hand_over_listeners`](crate::Server::hand_over_listeners).
    pub fn hand_over_listeners(&mut self) {
        self.core.shared.orders.push(Order::HandOver);
    }

    /// Closes the listeners, when the handlers of this turn have returned; connections are kept. New clients are
    /// refused by the kernel, and those that it has not handed over yet are reset. A socket that
    /// was given to the builder or inherited is not closed, only not accepted from: its clients
    /// wait. The server goes on without connections, too.
    pub fn stop_listening(&mut self) {
        self.core.shared.orders.push(Order::StopListening);
    }

    /// Listens again on the addresses of before [`stop_listening`](Self::stop_listening), when the
    /// handlers of this turn have returned. If one cannot be had any more, none is listened on,
    /// which is logged; [`Server::start_listening`](crate::Server::start_listening) returns it, and
    /// says what becomes of names with several addresses.
    pub fn start_listening(&mut self) {
        self.core.shared.orders.push(Order::StartListening);
    }

    /// Returns the first TCP address that is listened on, with the port that the kernel picked.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.core.shared.local_addrs.first().copied()
    }

    /// Returns all TCP addresses that are listened on, in the order they were given.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.core.shared.local_addrs
    }

    /// Returns a handle that other threads can use.
    pub fn handle(&self) -> Handle {
        self.core.shared.handle.clone()
    }

    /// Returns how many bytes all connections hold together, as
    /// [`memory_budget`](crate::Builder::memory_budget) counts them; `None` without a budget. It is
    /// of when each connection was looked at last.
    pub fn memory_used(&self) -> Option<usize> {
        let budget = &self.core.shared.budget;
        budget.is_on().then(|| budget.used())
    }

    /// Returns what the server has counted.
    pub fn stats(&self) -> Stats {
        self.core.shared.stats()
    }

    /// Returns what the server has counted since this was called last, or since it was built. There
    /// is one such count for all who ask; [`Stats::since`] lets everybody have their own.
    ///
    /// ```
    /// # fn tick(hub: &mut wsloop::Hub<'_>) {
    /// let rates = hub.fetch_stats().rates();
    /// # }
    /// ```
    pub fn fetch_stats(&mut self) -> Stats {
        let stats = self.core.shared.stats();
        let last = std::mem::replace(&mut self.core.shared.fetched, stats);
        stats.since(&last)
    }

    fn check_size(&self, size: usize) -> Result<(), SendError> {
        let limit = self.core.shared.config.limits.max_send_size;
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
            .field("ready", &self.core.shared.ready)
            .finish_non_exhaustive()
    }
}
