//! Completion callbacks, which are called when messages have been sent or dropped.

use super::dispatch::Dispatch;
use crate::connection::event::Drain;
use crate::connection::{Connection, Done, Phase};
use crate::error::{HandlerError, SendError};
use crate::panics::guarded;

impl Dispatch<'_> {
    /// Calls the next `count` callbacks, whose messages have been sent or dropped.
    pub(super) fn complete(&mut self, count: usize) {
        for _ in 0..count {
            let Some((done, result)) = self.conn().peer.take_completion(false) else {
                return;
            };
            if let Err(error) = self.call_done(done, result) {
                self.handler_failed(error);
            }
        }
    }

    /// Calls all callbacks that are left, before the `Disconnect`.
    pub(super) fn complete_all(&mut self) {
        while let Some((done, result)) = self.conn().peer.take_completion(true) {
            if let Err(error) = self.call_done(done, result) {
                self.log_failed("handler", &error);
            }
        }
    }

    fn call_done(&mut self, done: Done, result: Result<(), SendError>) -> Result<(), HandlerError> {
        let mut conn = Connection::new(self.core, self.slot);
        guarded(|| done(&mut conn, result))
    }

    /// Delivers a `Drain`.
    pub(super) fn tell_drained(&mut self) {
        let peer = self.conn().peer;
        // A callback may have sent more, or closed the connection.
        peer.set_drained();
        if peer.phase() == Phase::Open && !peer.is_cut() {
            self.emit::<Drain>(());
        }
    }
}
