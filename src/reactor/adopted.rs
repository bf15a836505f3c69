//! Connections that another HTTP server of the process has accepted.

use super::Reactor;
use crate::connection::{NOBODY, Phase, Upgraded};

impl Reactor {
    /// Begins an adopted connection, which may be upgraded already. `bytes` were read from it
    /// before; they are processed in the next turn.
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
                self.core.shared.current = slot;
                if let Some(mut dispatch) = self.dispatch(slot) {
                    dispatch.open_adopted(*upgraded);
                }
                self.settle(slot);
                self.core.shared.current = NOBODY;
            }
        }
        let Some((half, mut conn)) = self.both(slot) else {
            return;
        };
        if conn.peer.phase() >= Phase::Lingering || bytes.is_empty() {
            return;
        }
        conn.count_bytes_read(bytes.len());
        half.keep_unread(bytes, 0);
        self.enqueue_ready(slot);
    }
}
