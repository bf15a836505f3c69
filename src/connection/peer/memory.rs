//! How much memory a connection holds.

use std::sync::Arc;

use super::{Peer, Phase};
use crate::connection::deflate::Deflate;
use crate::connection::limits::Held;
use crate::connection::send::Outbox;
use crate::handshake::Request;

impl Peer {
    /// Returns about how many bytes the connection holds, without received data, the application's
    /// values, and shared messages in its queue.
    pub(crate) fn held(&self) -> Held {
        if self.phase == Phase::Gone {
            // The connection is removed before the turn ends.
            return Held::default();
        }
        let extras = self.extras();
        let deflate = extras.and_then(|extras| extras.deflate.as_ref());
        let compressors = deflate.map_or(0, Deflate::held);
        let request = self.request().map_or(0, Request::held);
        let names = self.identity.held() + request;
        let (session, held_back) = self.transport.held();
        Held {
            fixed: BASE + names + session + compressors,
            unsent: self.queue_held() + held_back,
            received: 0,
        }
    }

    /// Yields the messages in the queue that other connections are sent as well.
    pub(crate) fn shared_messages(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        let queue = self.outbox.as_deref().filter(|_| self.phase < Phase::Gone);
        queue.into_iter().flat_map(Outbox::shared)
    }

    /// Returns whether the peer reads, as far as is known: no data waits to be sent.
    pub(crate) fn reads(&self) -> bool {
        self.backlog() == 0 && !self.transport.holds_back()
    }
}

/// The memory of any connection, with its socket, its deadlines and its addresses, in bytes.
const BASE: usize = 512;
