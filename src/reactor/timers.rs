//! Timers of the application: what is due is called.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Reactor;
use super::dispatch::drop_caught;
use crate::connection::event::{Cause, Ticks};
use crate::connection::{Action, Connection, Ending, Hub, NOBODY, Order, Phase};
use crate::error::HandlerError;
use crate::protocol::CloseCode;

impl Reactor {
    /// Calls the timers that are due. What they set themselves comes in the next turn.
    #[cold]
    pub(super) fn fire_timers(&mut self) {
        let now = self.core.now;
        for id in self.core.timers.due(now) {
            let Some((mut action, missed)) = self.core.timers.begin(id, now) else {
                continue;
            };
            let ticks = Ticks {
                now: self.epoch + now,
                missed,
            };
            let failed = match &mut action {
                Action::Connection(slot, action) => {
                    let slot = *slot;
                    self.fire_one(slot, |conn| action(conn, ticks))
                }
                Action::DrainEnd => {
                    self.end_drain();
                    false
                }
                Action::DrainStep => {
                    self.close_next();
                    false
                }
                Action::Hub(action) => {
                    let core = &mut self.core;
                    let call = AssertUnwindSafe(|| action(&mut Hub::new(core), ticks));
                    let result = catch_unwind(call)
                        .unwrap_or_else(|panic| Err(HandlerError::from_panic(&*panic)));
                    if let Err(error) = &result {
                        self.core.tell_failed(&format!("timer {id}"), error);
                    }
                    result.is_err()
                }
                Action::LameDuckEnd => {
                    if let Some(lame_duck) = self.core.lame_duck {
                        self.core.orders.push(Order::Drain(lame_duck.plan));
                    }
                    false
                }
                Action::Relieve => {
                    self.relieve();
                    false
                }
                Action::LeftOut => {
                    self.core.journal.settle();
                    false
                }
                Action::Lifetime(slot) => {
                    self.outlived(*slot);
                    false
                }
            };
            drop_caught(self.core.timers.finish(id, action, failed));
        }
    }

    /// Calls the timer of a connection, as a handler of it; returns whether it failed.
    fn fire_one(
        &mut self,
        slot: usize,
        action: impl FnOnce(&mut Connection<'_>) -> Result<(), HandlerError>,
    ) -> bool {
        debug_assert!(self.core.out.is_empty(), "the last connection was settled");
        self.core.current = slot;
        let conn = &mut Connection::new(&mut self.core, slot);
        let result = catch_unwind(AssertUnwindSafe(|| action(conn)))
            .unwrap_or_else(|panic| Err(HandlerError::from_panic(&*panic)));
        let failed = result.is_err();
        if let Err(error) = result
            && let Some(mut dispatch) = self.dispatch(slot)
        {
            dispatch.handler_failed(error);
        }
        self.settle(slot);
        self.core.current = NOBODY;
        failed
    }

    /// Ends a connection that is older than it may become.
    fn outlived(&mut self, slot: usize) {
        let Some(peer) = self.core.peers.get_mut(slot) else {
            return;
        };
        if peer.phase == Phase::Opening {
            peer.refuse(503);
            peer.end(Ending::new(CloseCode::ABNORMAL, "", Cause::Lifetime));
            self.core.mark(slot);
        } else {
            self.core
                .close(slot, CloseCode::GOING_AWAY, Cause::Lifetime);
        }
    }
}
