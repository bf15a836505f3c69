//! How much memory a connection holds.

use std::sync::Arc;

use super::{Peer, Phase};
use crate::connection::deflate::Deflate;
use crate::connection::limits::Held;
use crate::connection::send::Outbox;
use crate::handshake::Request;

impl Peer {
    /// Returns about how many bytes the connection holds, but for what was received and what the
    /// application keeps. Shared messages in its queue are not among them.
    pub(crate) fn held(&self) -> Held {
        if self.phase == Phase::Gone {
            // It is removed before the turn ends.
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

    /// Yields the messages in the queue that other connections have as well.
    pub(crate) fn shared_messages(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        let queue = self.outbox.as_deref().filter(|_| self.phase < Phase::Gone);
        queue.into_iter().flat_map(Outbox::shared)
    }

    /// Returns whether the peer reads what it is sent, as far as can be told.
    pub(crate) fn reads(&self) -> bool {
        self.backlog() == 0 && !self.transport.holds_back()
    }
}

/// What a connection has in any case, with its socket, its deadlines and its addresses.
const BASE: usize = 512;
