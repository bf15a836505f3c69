//! Shutdown, at once or gracefully, and the hand-over of listeners to another process.

use std::time::Instant;

use super::{Server, State};
use crate::connection::event::{Shutdown, Stopped};
use crate::connection::{Action, LameDuck, Line, Plan, target};
use crate::protocol::CloseCode;
use crate::reactor::Reactor;
use crate::reactor::emit_hub;

impl Server {
    /// Hands the listeners over to another process that has their sockets as well, for example a
    /// successor: the server no longer accepts from them, and closes its own descriptors. No client
    /// is refused, since all processes with the socket share the kernel's queue; the file of a Unix
    /// socket stays. Connections are kept.
    ///
    /// [`listeners`](Self::listeners) gives the sockets for the other process; call this method
    /// once that process listens. If no other process has them, the sockets are closed for good:
    /// the kernel refuses clients, and resets those in the queue.
    /// [`start_listening`](Self::start_listening) does not restore them.
    pub fn hand_over_listeners(&mut self) {
        for mut listener in self.listeners.drain(..) {
            listener.leave_file();
            self.closed.retain(|closed| !closed.is_of(&listener.place));
            listener.close(self.poll.registry());
        }
        self.addresses();
    }

    /// Begins to shut down: emits `Shutdown`, closes the listeners, and sends a Close frame to all
    /// clients. A drain that is under way closes all remaining clients at once.
    pub(super) fn go_down(&mut self, now: Instant, code: CloseCode) {
        let code = match self.state {
            State::Running => {
                self.announce();
                self.close_listeners();
                code
            }
            State::Stopping(_) => match self.reactor.end_spread() {
                Some(first) => first,
                None => return,
            },
            State::Built | State::Stopped => return,
        };
        self.next_tick = None;
        let deadline = now.checked_add(self.reactor.core.shared.config.close_timeout);
        self.state = State::Stopping(deadline);
        self.reactor.close_all(code);
        self.reactor.end_turn();
    }

    /// Begins to shut down gracefully. The deadline is a timer of the reactor.
    pub(super) fn wind_down(&mut self, plan: Plan) {
        if self.state == State::Running && self.tells_balancers(plan) {
            return;
        }
        match self.state {
            State::Running => {}
            State::Stopping(_) => {
                self.reactor.hasten(plan);
                return self.reactor.end_turn();
            }
            State::Built | State::Stopped => return,
        }
        self.announce();
        self.accept_rest();
        self.close_listeners();
        self.state = State::Stopping(None);
        self.reactor.wind_down(plan);
        self.reactor.end_turn();
    }

    /// Begins to fail health checks before a drain, if `lame_duck` is set and they do not fail yet;
    /// returns whether the drain is postponed.
    fn tells_balancers(&mut self, plan: Plan) -> bool {
        let core = &mut self.reactor.core;
        let time = core.shared.config.lame_duck;
        if time.is_zero() {
            return false;
        }
        if let Some(lame_duck) = core.shared.lame_duck {
            // The time is over, or the drain was requested again.
            core.shared.timers.clear(lame_duck.timer);
            return false;
        }
        let due = core.shared.now.saturating_add(time);
        let timer = core.shared.timers.set(due, Action::LameDuckEnd);
        core.shared.lame_duck = Some(LameDuck { plan, timer });
        Line::free(target::SERVER, log::Level::Info).write(format_args!(
            "health checks fail from now on; the graceful shutdown begins in {time:?}"
        ));
        true
    }

    fn announce(&mut self) {
        let Reactor { core, handlers, .. } = &mut *self.reactor;
        emit_hub::<Shutdown>(core, handlers, ());
    }

    /// Accepts the clients in the kernel's queues, which are reset when a listener closes. The
    /// queue of a given or inherited socket is left to the other processes that have it.
    fn accept_rest(&mut self) {
        for listener in &mut self.listeners {
            listener.pending = !listener.is_given();
        }
        // Connections that ended in this turn make room.
        self.reactor.end_turn();
        self.end_pause();
        // At most as many clients wait now as the queue holds, which the kernel limits as well.
        let now = self.reactor.now();
        let config = &self.reactor.core.shared.config;
        let queue = usize::try_from(config.backlog).unwrap_or(0).min(QUEUE_MAX);
        for _ in 0..=queue / config.turn_accepts {
            if self.accepts_at().is_none_or(|at| at > now) {
                break;
            }
            self.accept(now);
        }
    }

    fn close_listeners(&mut self) {
        for listener in self.listeners.drain(..) {
            listener.close(self.poll.registry());
        }
        self.closed.clear();
        self.addresses();
    }

    /// Reports that the server has stopped.
    #[cold]
    pub(super) fn tell_stopped(&mut self) {
        let stats = self.reactor.core.shared.stats();
        self.reactor.core.shared.log_limits.settle();
        Line::free(target::SERVER, log::Level::Info).write(format_args!(
            "stopped: {} connections ended in order, {} were cut and lost {} bytes",
            stats.ended_in_order, stats.cut, stats.cut_bytes
        ));
        let Reactor { core, handlers, .. } = &mut *self.reactor;
        emit_hub::<Stopped>(core, handlers, stats);
    }
}

/// The longest queue that is emptied before a listener closes.
const QUEUE_MAX: usize = 65_535;
