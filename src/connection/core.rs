//! All connections of a server, and the state that they share.

use slab::Slab;

use super::api::handle::Handle;
use super::entry::PeerMut;
use super::peer::Peer;
use super::shared::Shared;
use crate::config::Config;

/// Everything that a handler can reach. Only the reactor adds and removes peers, and it removes
/// none while a handler runs.
pub(crate) struct Core {
    pub(crate) peers: Slab<Peer>,
    pub(crate) shared: Shared,
}

impl Core {
    pub(crate) fn new(config: Config, handle: Handle) -> Self {
        Self {
            peers: Slab::new(),
            shared: Shared::new(config, handle),
        }
    }

    /// Returns a connection together with the shared state: the only way to change both.
    #[inline(always)]
    pub(crate) fn peer(&mut self, slot: usize) -> Option<PeerMut<'_>> {
        let Self { peers, shared } = self;
        let peer = peers.get_mut(slot)?;
        Some(PeerMut { peer, shared, slot })
    }

    /// Returns a connection that is known to exist: its handler runs, or the reactor has just
    /// looked it up.
    #[inline(always)]
    pub(crate) fn occupied(&mut self, slot: usize) -> PeerMut<'_> {
        self.peer(slot).expect(OCCUPIED)
    }
}

/// The reason why a slot is known to be occupied.
pub(super) const OCCUPIED: &str = "the reactor removes a connection at the end of a turn only";

/// A slot that no connection has.
pub(crate) const NOBODY: usize = usize::MAX;
