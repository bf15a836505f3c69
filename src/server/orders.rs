//! What handlers order of the server itself: listening, ticks, going down.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use super::full::Full;
use super::listener::Listener;
use super::reactor::Reactor;
use super::stage::emit_hub;
use super::{Server, Source, State};
use crate::config::Config;
use crate::connection::{Line, Order, target};
use crate::error::{BuildError, Result};
use crate::event::{Tick, Ticks};
use crate::transport::TlsConfig;

/// A listener that `stop_listening` has stopped, and how it goes on.
pub(super) enum Closed {
    /// A socket that was given: it is still open.
    Given(Listener),
    /// With `IPV6_V6ONLY`.
    Tcp(SocketAddr, Option<bool>, Option<TlsConfig>),
    /// With the permissions of the file.
    Unix(PathBuf, Option<u32>, Option<TlsConfig>),
    #[cfg(test)]
    Simulated(std::rc::Rc<dyn super::listener::Port>),
}

impl Closed {
    /// Binds the socket anew, unless it is still open.
    fn open(&self, config: &Config) -> io::Result<Option<Listener>> {
        let listener = match self {
            Self::Given(_) => return Ok(None),
            Self::Tcp(addr, only_v6, tls) => {
                Listener::bind_tcp(*addr, *only_v6, tls.clone(), config)?
            }
            Self::Unix(path, mode, tls) => Listener::bind_unix(path, *mode, tls.clone(), config)?,
            #[cfg(test)]
            Self::Simulated(port) => Listener::simulated(port.clone())?,
        };
        if !config.busy_poll.is_zero() {
            // As when it was built: without the option it goes on.
            let _ = listener.busy_poll(config.busy_poll);
        }
        Ok(Some(listener))
    }

    fn name(&self) -> String {
        match self {
            Self::Given(_) => "a socket that was given".into(),
            Self::Tcp(addr, ..) => addr.to_string(),
            Self::Unix(path, ..) => path.display().to_string(),
            #[cfg(test)]
            Self::Simulated(_) => "a simulated port".into(),
        }
    }
}

impl Server {
    /// Closes the listeners; connections are kept. New clients are refused by the kernel, and those
    /// that it has not handed over yet are reset. A socket that was given to the builder or
    /// inherited is not closed, only not accepted from: its clients wait. The server goes on
    /// without connections, too.
    pub fn stop_listening(&mut self) {
        for listener in self.listeners.drain(..) {
            self.closed.extend(listener.close(self.poll.registry()));
        }
        self.addresses();
    }

    /// Listens again on the addresses of before [`stop_listening`](Self::stop_listening), with the
    /// ports that the kernel had picked. Does nothing while they are listened on, or when the
    /// server goes down.
    ///
    /// # Errors
    ///
    /// [`BuildError::Listen`] if an address cannot be had any more, for instance because somebody
    /// else listens there. Then none of them is listened on; it can be tried again.
    pub fn start_listening(&mut self) -> Result<()> {
        let mut opened = Vec::new();
        for closed in &self.closed {
            let listener = closed.open(&self.reactor.core.config);
            opened.push(listener.map_err(|source| BuildError::Listen {
                address: closed.name(),
                source,
            })?);
        }
        let first = self.listeners.len();
        for (closed, opened) in self.closed.drain(..).zip(opened) {
            let given = match closed {
                Closed::Given(listener) => Some(listener),
                _ => None,
            };
            self.listeners.extend(opened.or(given));
        }
        let mut listeners = (first..).zip(&mut self.listeners[first..]);
        let registered = listeners.try_for_each(|(at, listener)| {
            listener.register(self.poll.registry(), Source::Listener(at).token())
        });
        if let Err(error) = registered {
            self.stop_listening();
            return Err(BuildError::EventLoop(error).into());
        }
        self.addresses();
        Ok(())
    }

    /// Tells the handlers where the server listens.
    pub(super) fn addresses(&mut self) {
        self.reactor.core.local_addrs = self.local_addrs();
    }

    /// Delivers the tick that is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let Some(due) = self.next_tick.filter(|due| *due <= now) else {
            return;
        };
        let period = self.reactor.core.config.tick_period;
        if period.is_zero() {
            // Switched off in this turn.
            return;
        }
        // Ancestors fired missed ticks back to back; here they are counted (decision 8).
        let missed = ((now - due).as_nanos() / period.as_nanos()) as u64;
        let passed = period.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        self.next_tick = due
            .checked_add(passed)
            .and_then(|due| due.checked_add(period));
        let Reactor { core, handlers, .. } = &mut *self.reactor;
        core.stats.missed_ticks += missed;
        emit_hub::<Tick>(core, handlers, Ticks { now, missed });
    }

    /// Returns whether there may be ticks: they go on while clients are served.
    fn ticks(&self) -> bool {
        self.state == State::Running || self.reactor.is_draining()
    }

    /// Carries out what was ordered; goes down, step by step, if that was.
    pub(super) fn stop(&mut self, now: Instant) {
        if !self.reactor.core.orders.is_empty() {
            self.carry_out(now);
        }
        if let State::Stopping(deadline) = self.state {
            if deadline.is_some_and(|deadline| now >= deadline) {
                self.reactor.cut_all();
            }
            if self.reactor.core.peers.is_empty() {
                self.state = State::Stopped;
                self.commands = None;
                self.tell_stopped();
            }
        }
        if self.full.is_some() {
            self.resume();
        }
    }

    /// Ends a pause of accepting, if there is room again.
    #[cold]
    fn resume(&mut self) {
        if Full::of(&self.reactor.core).is_none()
            && let Some(full) = self.full.take()
        {
            self.pauses.resume(full.into(), self.reactor.now());
        }
    }

    /// Carries out what was ordered in this turn.
    #[cold]
    pub(super) fn carry_out(&mut self, now: Instant) {
        while !self.reactor.core.orders.is_empty() {
            let mut orders = std::mem::take(&mut self.reactor.core.orders);
            // Before the listeners are closed, whichever was asked for first.
            orders.sort_by_key(|order| !matches!(order, Order::HandOver));
            for order in orders {
                match order {
                    Order::Drain(plan) => self.drain(plan),
                    Order::HandOver => self.hand_over_listeners(),
                    Order::Rearm => self.reactor.rearm(),
                    Order::StartListening => {
                        if let Err(error) = self.start_listening() {
                            Line::free(target::SERVER, log::Level::Error)
                                .write(format_args!("{error}"));
                        }
                    }
                    Order::Stop(code) => self.go_down(now, code),
                    Order::StopListening => self.stop_listening(),
                    Order::Tick if self.ticks() => {
                        let period = self.reactor.core.config.tick_period;
                        self.next_tick = now.checked_add(period).filter(|_| !period.is_zero());
                    }
                    Order::Tick => {}
                }
            }
        }
    }
}
