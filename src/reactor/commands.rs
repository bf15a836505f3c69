//! Requests from outside the handlers: commands of other threads, and the shutdown of the server.

use super::Reactor;
use crate::close_code::CloseCode;
use crate::connection::event::Cause;
use crate::connection::{Command, Hub, Leaving, Order, Phase, log_of_thread};
use crate::error::SendError;
use crate::panics::guard;

impl Reactor {
    /// Carries out a command of another thread. What only the server can do is queued for it.
    pub(crate) fn command(&mut self, command: Command) {
        let core = &mut self.core;
        match command {
            Command::Adopt(adoption) => core.shared.adoptions.push(*adoption),
            Command::Run(action) => {
                if let Err(error) = guard(|| action(&mut Hub::new(core))) {
                    core.shared
                        .log_failed("closure from another thread", &error);
                }
            }
            Command::Broadcast(prepared) => {
                if let Err(error) = Hub::new(core).broadcast_prepared(&prepared) {
                    log_of_thread(None, "broadcast", &error);
                }
            }
            Command::Publish(message) => message.publish(&mut Hub::new(core)),
            Command::Send(id, prepared) => {
                let sent = Hub::new(core)
                    .get(id)
                    .map_or(Err(SendError::Gone), |mut conn| {
                        conn.send_prepared(&prepared)
                    });
                if let Err(error) = sent {
                    log_of_thread(Some(id), "message", &error);
                }
            }
            Command::Disconnect(id, code, reason) => {
                let done = Hub::new(core)
                    .get(id)
                    .map_or(Err(SendError::Gone), |mut conn| {
                        conn.disconnect(code, &reason)
                    });
                if let Err(error) = done {
                    log_of_thread(Some(id), "close", &error);
                }
            }
            Command::Order(_) | Command::Listeners(_) => {
                debug_assert!(false, "the server itself carries them out");
            }
            Command::Stop(code) => core.shared.orders.push(Order::Stop(code)),
        }
    }

    /// Closes every connection because the server shuts down: with a Close frame, or with 503
    /// during the opening handshake.
    pub(crate) fn close_all(&mut self, code: CloseCode) {
        let called = u64::MAX;
        self.core.shared.leaving = Some(Leaving { code, called });
        for slot in 0..self.core.peers.capacity() {
            let Some(mut conn) = self.core.peer(slot) else {
                continue;
            };
            if conn.peer.phase() == Phase::Opening {
                conn.peer.refuse(503);
                conn.mark_dirty();
            } else {
                conn.close(code, Cause::Shutdown);
            }
        }
    }

    /// Cuts every connection; each that had a `Connect` gets its `Disconnect`.
    pub(crate) fn cut_all(&mut self) {
        for slot in 0..self.core.peers.capacity() {
            if let Some(mut dispatch) = self.dispatch(slot) {
                dispatch.conn().note_cut();
                dispatch.cut(Cause::Shutdown);
                self.settle(slot);
            }
        }
        self.end_turn();
    }
}
