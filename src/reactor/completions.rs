//! Telling a connection what has been sent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::dispatch::Dispatch;
use crate::connection::event::Drain;
use crate::connection::{Connection, Done, Phase};
use crate::error::{HandlerError, SendError};

impl Dispatch<'_> {
    /// Tells the next `count` of those who wait that their messages have been sent, or dropped.
    pub(super) fn tell_sent(&mut self, count: usize) {
        for _ in 0..count {
            let peer = self.core.peers.get_mut(self.slot);
            let Some((done, result)) = peer.and_then(|peer| peer.take_told(false)) else {
                return;
            };
            if let Err(error) = self.call_done(done, result) {
                self.handler_failed(error);
            }
        }
    }

    /// Tells everybody who still waits, before the `Disconnect`.
    pub(super) fn tell_unsent(&mut self) {
        while let Some((done, result)) = self
            .core
            .peers
            .get_mut(self.slot)
            .and_then(|peer| peer.take_told(true))
        {
            if let Err(error) = self.call_done(done, result) {
                self.tell_failed("handler", &error);
            }
        }
    }

    fn call_done(&mut self, done: Done, result: Result<(), SendError>) -> Result<(), HandlerError> {
        let mut conn = Connection::new(self.core, self.slot);
        // As for every handler: see `call`.
        let called = catch_unwind(AssertUnwindSafe(|| done(&mut conn, result)));
        called.unwrap_or_else(|panic| Err(HandlerError::from_panic(&*panic)))
    }

    /// Delivers a `Drain`.
    pub(super) fn tell_drained(&mut self) {
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        // Who was told of a message may have sent more, or closed.
        peer.set_drained();
        if peer.phase == Phase::Open && !peer.is_cut() {
            self.emit::<Drain>(());
        }
    }

    /// Hands what is queued to the kernel before the end, if somebody waits for it.
    pub(super) fn send_awaited(&mut self) {
        let is_awaited = |peer: &crate::connection::Peer| peer.is_awaited() && !peer.is_cut();
        if !self.core.peers.get(self.slot).is_some_and(is_awaited) {
            return;
        }
        self.core.release_out(self.slot);
        let drain_at = self.core.config.drain_at;
        if let Some(peer) = self.core.peers.get_mut(self.slot) {
            peer.flush_early(drain_at);
        }
    }
}
