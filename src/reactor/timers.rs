//! Timers of the application and of the server: calls those that are due.

use std::time::Duration;

use super::Reactor;
use crate::close_code::CloseCode;
use crate::connection::event::{Cause, Ticks};
use crate::connection::{Action, Connection, Ending, Hub, NOBODY, Order, Phase, drop_guarded};
use crate::error::HandlerError;
use crate::panics::guarded;

impl Reactor {
    /// Calls the timers that are due. Timers that these set fire in the next turn at the earliest.
    #[cold]
    pub(super) fn fire_timers(&mut self) {
        let now = self.core.shared.now;
        for id in self.core.shared.timers.due(now) {
            let Some((mut action, missed)) = self.core.shared.timers.begin(id, now) else {
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
                Action::WindDownEnd => {
                    self.end_wind_down();
                    false
                }
                Action::WindDownStep => {
                    self.close_next();
                    false
                }
                Action::Hub(action) => {
                    let core = &mut self.core;
                    let result = guarded(|| action(&mut Hub::new(core), ticks));
                    if let Err(error) = &result {
                        core.shared.log_failed(&format!("timer {id}"), error);
                    }
                    result.is_err()
                }
                Action::LameDuckEnd => {
                    if let Some(lame_duck) = self.core.shared.lame_duck {
                        self.core
                            .shared
                            .orders
                            .push(Order::WindDown(lame_duck.plan));
                    }
                    false
                }
                Action::Relieve => {
                    self.relieve();
                    false
                }
                Action::ReportSuppressed => {
                    self.core.shared.log_limits.settle();
                    false
                }
                Action::Expire(due) => {
                    self.expire_histories(*due);
                    false
                }
                Action::Lifetime(slot) => {
                    self.outlived(*slot);
                    false
                }
            };
            drop_guarded(self.core.shared.timers.finish(id, action, failed));
        }
    }

    /// Drops the messages of histories that have expired.
    fn expire_histories(&mut self, due: Duration) {
        let shared = &mut self.core.shared;
        if let Some(next) = shared.topics.expire(due, shared.now) {
            shared.timers.set(next, Action::Expire(next));
        }
    }

    /// Calls a timer of a connection, as one of its handlers; returns whether it failed.
    fn fire_one(
        &mut self,
        slot: usize,
        action: impl FnOnce(&mut Connection<'_>) -> Result<(), HandlerError>,
    ) -> bool {
        debug_assert!(
            self.core.shared.out.is_empty(),
            "the last connection was settled"
        );
        self.core.shared.current = slot;
        let conn = &mut Connection::new(&mut self.core, slot);
        let result = guarded(|| action(conn));
        let failed = result.is_err();
        if let Err(error) = result
            && let Some(mut dispatch) = self.dispatch(slot)
        {
            dispatch.handler_failed(error);
        }
        self.settle(slot);
        self.core.shared.current = NOBODY;
        failed
    }

    /// Ends a connection that has reached its maximum lifetime.
    fn outlived(&mut self, slot: usize) {
        let Some(mut conn) = self.core.peer(slot) else {
            return;
        };
        if conn.peer.phase() == Phase::Opening {
            conn.peer.refuse(503);
            conn.peer.end(Ending::abnormal(Cause::Lifetime));
            conn.mark_dirty();
        } else {
            conn.close(CloseCode::GOING_AWAY, Cause::Lifetime);
        }
    }
}
