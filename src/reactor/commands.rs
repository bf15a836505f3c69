//! What is asked for from outside the handlers: by other threads, and when the server goes down.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Reactor;
use crate::connection::event::Cause;
use crate::connection::{Command, Hub, Leaving, Order, Phase, tell_of_thread};
use crate::error::{HandlerError, SendError};
use crate::protocol::CloseCode;

impl Reactor {
    /// Carries out what another thread asked for, and leaves for the server what only that can do.
    pub(crate) fn command(&mut self, command: Command) {
        let core = &mut self.core;
        match command {
            Command::Adopt(adoption) => core.adoptions.push(*adoption),
            Command::Run(action) => {
                let run = AssertUnwindSafe(|| action(&mut Hub::new(core)));
                if let Err(panic) = catch_unwind(run) {
                    let error = HandlerError::from_panic(&*panic);
                    core.tell_failed("closure of another thread", &error);
                }
            }
            Command::Broadcast(prepared) => {
                if let Err(error) = Hub::new(core).broadcast_prepared(&prepared) {
                    tell_of_thread(None, "broadcast", &error);
                }
            }
            Command::Send(id, prepared) => {
                let sent = Hub::new(core)
                    .get(id)
                    .map_or(Err(SendError::Gone), |mut conn| {
                        conn.send_prepared(&prepared)
                    });
                if let Err(error) = sent {
                    tell_of_thread(Some(id), "message", &error);
                }
            }
            Command::Disconnect(id, code, reason) => {
                let done = Hub::new(core)
                    .get(id)
                    .map_or(Err(SendError::Gone), |mut conn| {
                        conn.disconnect(code, &reason)
                    });
                if let Err(error) = done {
                    tell_of_thread(Some(id), "close", &error);
                }
            }
            Command::Stop(code) => core.orders.push(Order::Stop(code)),
        }
    }

    /// Tells every client that the server goes down.
    pub(crate) fn close_all(&mut self, code: CloseCode) {
        let called = u64::MAX;
        self.core.leaving = Some(Leaving { code, called });
        for slot in 0..self.core.peers.capacity() {
            let Some(peer) = self.core.peers.get_mut(slot) else {
                continue;
            };
            if peer.phase == Phase::Opening {
                peer.refuse(503);
                self.core.mark(slot);
            } else {
                self.core.close(slot, code, Cause::Shutdown);
            }
        }
    }

    /// Cuts every connection; each that had a `Connect` gets its `Disconnect`.
    pub(crate) fn cut_all(&mut self) {
        for slot in 0..self.core.peers.capacity() {
            self.core.note_cut(slot);
            if let Some(mut dispatch) = self.dispatch(slot) {
                dispatch.cut(Cause::Shutdown);
                self.settle(slot);
            }
        }
        self.end_turn();
    }
}
