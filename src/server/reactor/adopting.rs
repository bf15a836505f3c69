//! Connections that came by no listener.

use super::Reactor;
use crate::connection::{NOBODY, Peer, Phase, Upgraded};

impl Reactor {
    /// Delivers the first event of a connection that was read before, `bytes` of it, and upgraded
    /// or not. What it brought is delivered in the next turn.
    pub(in crate::server) fn welcome_adopted(
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
                if let Some(mut stage) = self.stage(slot) {
                    stage.open_adopted(*upgraded);
                }
                self.settle(slot);
                self.core.current = NOBODY;
            }
        }
        let lives = |slot| {
            let peer = self.core.peers.get(slot)?;
            Some(peer.phase < Phase::Draining)
        };
        if lives(slot) != Some(true) || bytes.is_empty() {
            return;
        }
        self.core.stats.bytes_in += bytes.len() as u64;
        if let Some(counts) = self.core.peers.get_mut(slot).and_then(Peer::counts) {
            counts.bytes_in += bytes.len() as u64;
        }
        if let Some(link) = self.links.get_mut(slot) {
            link.keep_unread(bytes, 0);
        }
        self.wait_turn(slot);
    }
}
