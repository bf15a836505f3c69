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

/// The server as handlers see it, for the duration of one call.
pub struct Hub<'s> {
    pub(super) core: &'s mut Core,
}

impl<'s> Hub<'s> {
    pub(crate) fn new(core: &'s mut Core) -> Self {
        Self { core }
    }

    /// Returns a connection by its id; `None` if it has ended.
    #[doc(alias = "get_connection")]
    pub fn get(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let slot = id.slot as usize;
        let peer = self.core.peers.get(slot)?;
        (peer.serial == id.serial && peer.phase() < Phase::Lingering && !peer.is_unannounced())
            .then(|| Connection::new(self.core, slot))
    }

    /// Returns a connection by its bare number, as [`ConnectionId::as_u64`] returns it, for
    /// instance from a log line or a request; `None` if it has ended. It searches all connections;
    /// [`get`](Self::get) with a [`ConnectionId`] looks at one.
    #[doc(alias = "get_connection")]
    pub fn find(&mut self, number: u64) -> Option<Connection<'_>> {
        let mut peers = self.core.peers.iter();
        let is_it = |peer: &Peer| {
            peer.serial == number && peer.phase() < Phase::Lingering && !peer.is_unannounced()
        };
        let (slot, _) = peers.find(|(_, peer)| is_it(peer))?;
        Some(Connection::new(self.core, slot))
    }

    /// Returns the ids of the connections that are ready.
    ///
    /// The order is that of their slots. A new connection takes any free slot, so this is neither
    /// the order of age nor of numbers, but it stays the same while no connection begins or ends.
    /// `for_each` and broadcasts use the same order.
    #[doc(alias = "connections")]
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.ids_of(|phase| phase == Phase::Open)
    }

    /// Returns the ids of all connections that had their `Connect` and not yet their `Disconnect`:
    /// those of [`ids`](Self::ids), those in the opening handshake, and those that are closing.
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

    /// Calls `action` for each connection that is ready, in the order of [`ids`](Self::ids).
    #[doc(alias = "connections")]
    pub fn for_each(&mut self, mut action: impl FnMut(&mut Connection<'_>)) {
        // `action` can end connections but not begin new ones, so their number never grows.
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

    /// Sends a text message to all connections that are ready; [`Sent::receivers`] is their number.
    ///
    /// The message is framed once. A connection is passed over if its backlog is full (see
    /// [`SlowConsumer`](crate::SlowConsumer)), or if its own `max_send_size` is less than the size
    /// of the message.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::TooBig`] above the server's `max_send_size`.
    pub fn broadcast_utf8(&mut self, text: &str) -> Result<Sent, SendError> {
        self.check_size(text.len())?;
        self.broadcast_prepared(&Prepared::text(text))
    }

    /// Sends a binary message to all connections that are ready, as
    /// [`broadcast_utf8`](Self::broadcast_utf8) does.
    ///
    /// # Errors
    ///
    /// As [`broadcast_utf8`](Self::broadcast_utf8).
    pub fn broadcast_binary(&mut self, bytes: &[u8]) -> Result<Sent, SendError> {
        self.check_size(bytes.len())?;
        self.broadcast_prepared(&Prepared::binary(bytes))
    }

    /// Sends a prepared message to all connections that are ready.
    ///
    /// # Errors
    ///
    /// As [`broadcast_utf8`](Self::broadcast_utf8).
    pub fn broadcast_prepared(&mut self, prepared: &Prepared) -> Result<Sent, SendError> {
        self.check_size(prepared.size())?;
        let (mut all, mut place) = (Sent::NOTHING, None);
        self.for_each(|conn| all.add(conn.send_to_many(prepared, &mut place)));
        Ok(all)
    }

    /// Sends a prepared message to several connections, as
    /// [`broadcast_prepared`](Self::broadcast_prepared) does to all. Connections that have ended,
    /// or are not ready, are passed over.
    ///
    /// The ids come from the application's own data, for instance the members of a room. They have
    /// to be copied first, because the data belongs to the hub as well:
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
    ///     hub.send_to(members, &Prepared::text(text))
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
        let (mut all, mut place) = (Sent::NOTHING, None);
        for id in ids {
            if let Some(mut conn) = self.get(id) {
                all.add(conn.send_to_many(prepared, &mut place));
            }
        }
        Ok(all)
    }

    /// Returns the number of connections that are ready.
    pub fn len(&self) -> usize {
        self.core.shared.ready
    }

    /// Returns whether no connection is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the server's value of type `T`, created by `T::default()` on first use.
    pub fn shared<T: Default + 'static>(&mut self) -> &mut T {
        self.core.shared.data.get()
    }

    /// Shuts the server down soon: the `Shutdown` event comes, the listeners close, and every
    /// client is sent a Close frame with 1001. [`Server::start`](crate::Server::start) returns when
    /// all connections have ended, after `close_timeout` at the latest.
    pub fn shutdown(&mut self) {
        self.core
            .shared
            .orders
            .push(Order::Stop(CloseCode::GOING_AWAY));
    }

    /// Shuts the server down as [`shutdown`](Self::shutdown) does, with another close code, such as
    /// 1012 for a restart (RFC 6455, 7.4). Once the shutdown has begun, the code cannot be changed.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`], and does nothing, for a code that must not be sent.
    pub fn stop(&mut self, code: impl Into<CloseCode>) -> Result<(), SendError> {
        let code = code.into().sendable()?;
        self.core.shared.orders.push(Order::Stop(code));
        Ok(())
    }

    /// Leaves the listeners to another process that holds the same sockets, when the handlers of
    /// this turn have returned: see
    /// [`Server::hand_over_listeners`](crate::Server::hand_over_listeners).
    pub fn hand_over_listeners(&mut self) {
        self.core.shared.orders.push(Order::HandOver);
    }

    /// Closes the listeners when the handlers of this turn have returned, and keeps the
    /// connections. The kernel refuses new clients, and resets those in the accept queue. A socket
    /// that was given to the builder or inherited is not closed: the server only stops accepting
    /// from it, and its clients wait. The server continues even without connections.
    pub fn stop_listening(&mut self) {
        self.core.shared.orders.push(Order::StopListening);
    }

    /// Listens again on the addresses from before [`stop_listening`](Self::stop_listening), when
    /// the handlers of this turn have returned. If one of them is not available, the server listens
    /// on none, and logs the reason. [`Server::start_listening`](crate::Server::start_listening)
    /// returns the error instead; its documentation covers names with several addresses.
    pub fn start_listening(&mut self) {
        self.core.shared.orders.push(Order::StartListening);
    }

    /// Returns the first TCP address that the server listens on, with the port that the kernel
    /// chose.
    #[doc(alias = "sockaddr")]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.core.shared.local_addrs.first().copied()
    }

    /// Returns all TCP addresses that the server listens on, in the order of the builder.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.core.shared.local_addrs
    }

    /// Returns a handle for use on other threads.
    pub fn handle(&self) -> Handle {
        self.core.shared.handle.clone()
    }

    /// Returns how many bytes all connections hold together, as
    /// [`memory_budget`](crate::Builder::memory_budget) counts them; `None` without a budget. The
    /// share of a connection is updated whenever it is served.
    pub fn memory_used(&self) -> Option<usize> {
        let budget = &self.core.shared.budget;
        budget.is_on().then(|| budget.used())
    }

    /// Returns the server's counters.
    pub fn stats(&self) -> Stats {
        self.core.shared.stats()
    }

    /// Returns the server's counters since the last call, or since the server was built. All
    /// callers share the time of the last call; [`Stats::since`] allows each its own.
    ///
    /// ```
    /// # fn tick(hub: &mut wsloop::Hub<'_>) {
    /// let rates = hub.fetch_stats().rates();
    /// # }
    /// ```
    #[doc(alias = "stats_counter")]
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
