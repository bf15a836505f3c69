//! Connections that came by no listener.

use super::Reactor;
use crate::connection::{NOBODY, Peer, Phase, Upgraded};

impl Reactor {
    /// Delivers the first event of a connection that was read before, `bytes` of it, and upgraded
    /// or not. What it brought is delivered in the next turn.
    pub(crate) fn welcome_adopted(
        &mut self,
        slot: usize,
        bytes: Vec<u8>,
        upgraded: Option<Box<Upgraded>>,
    ) {
        match upgraded {
            None => self.welcome(slot),
            Some(upgraded) => {
                self.begin_life(slot);
                self.core.current = slot;
                if let Some(mut dispatch) = self.dispatch(slot) {
                    dispatch.open_adopted(*upgraded);
                }
                self.settle(slot);
                self.core.current = NOBODY;
            }
        }
        let lives = |slot| {
            let peer = self.core.peers.get(slot)?;
            Some(peer.phase < Phase::Lingering)
        };
        if lives(slot) != Some(true) || bytes.is_empty() {
            return;
        }
        self.core.stats.bytes_in += bytes.len() as u64;
        if let Some(counts) = self.core.peers.get_mut(slot).and_then(Peer::counts) {
            counts.bytes_in += bytes.len() as u64;
        }
        if let Some(half) = self.halves.get_mut(slot) {
            half.keep_unread(bytes, 0);
        }
        self.enqueue_ready(slot);
    }
}
