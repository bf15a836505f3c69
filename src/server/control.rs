//! What handlers order of the server itself: listening, ticks, going down.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::binding::{none_of, warn_missed};
use super::listener::Listener;
use super::listening::Listening;
use super::{Server, Source, State};
use crate::config::Config;
use crate::connection::event::{Tick, Ticks};
use crate::connection::{Line, Order, target};
use crate::error::BuildError;
use crate::proxy::Networks;
use crate::reactor::Reactor;
use crate::reactor::emit_hub;
use crate::transport::TlsConfig;

/// A listener that is closed, and how it is opened again.
pub(super) struct Closed {
    /// As in [`Listener`].
    pub(super) place: Rc<str>,
    /// As in [`Listener`].
    pub(super) proxies: Option<Rc<Networks>>,
    pub(super) how: Reopen,
}

/// How a listener is opened again.
pub(super) enum Reopen {
    /// A socket that was given: it is still open.
    Given(Listener),
    /// With `IPV6_V6ONLY`.
    Tcp(SocketAddr, Option<bool>, Option<TlsConfig>),
    /// With the permissions of the file.
    Unix(PathBuf, Option<u32>, Option<TlsConfig>),
    #[cfg(test)]
    Simulated(Rc<dyn super::listener::Port>),
}

impl Closed {
    /// Binds the socket anew, unless it is still open.
    fn open(&self, config: &Config) -> io::Result<Option<Listener>> {
        let mut listener = match &self.how {
            Reopen::Given(_) => return Ok(None),
            Reopen::Tcp(addr, only_v6, tls) => {
                Listener::bind_tcp(*addr, *only_v6, tls.clone(), config)?
            }
            Reopen::Unix(path, mode, tls) => Listener::bind_unix(path, *mode, tls.clone(), config)?,
            #[cfg(test)]
            Reopen::Simulated(port) => Listener::simulated(port.clone())?,
        };
        listener.place = self.place.clone();
        listener.proxies = self.proxies.clone();
        if !config.busy_poll.is_zero() {
            // As when it was built: without the option it goes on.
            let _ = listener.busy_poll(config.busy_poll);
        }
        Ok(Some(listener))
    }

    fn name(&self) -> String {
        match &self.how {
            Reopen::Given(_) => "a socket that was given".into(),
            Reopen::Tcp(addr, ..) => addr.to_string(),
            Reopen::Unix(path, ..) => path.display().to_string(),
            #[cfg(test)]
            Reopen::Simulated(_) => "a simulated port".into(),
        }
    }

    /// Returns whether it is of this place.
    pub(super) fn is_of(&self, place: &Rc<str>) -> bool {
        Rc::ptr_eq(&self.place, place)
    }
}

/// Returns the same error once more.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Server {
    /// Closes the listeners; connections are kept. New clients are refused by the kernel, and those
    /// that it has not handed over yet are reset. A socket that was given to the builder or
    /// inherited is not closed, only not accepted from: its clients wait. The server goes on
    /// without connections, too.
    pub fn stop_listening(&mut self) {
        // Addresses that were missing come last, as they did when the others were bound.
        let missing = std::mem::take(&mut self.closed);
        for listener in self.listeners.drain(..) {
            self.closed.extend(listener.close(self.poll.registry()));
        }
        self.closed.extend(missing);
        self.addresses();
    }

    /// Listens again on the addresses of before [`stop_listening`](Self::stop_listening), with the
    /// ports that the kernel had picked. Does nothing while they are listened on, or when the
    /// server goes down. Of a name with several addresses those are listened on that can be bound,
    /// as by [`Builder::listen`](crate::Builder::listen); those that were missing before are tried
    /// again, also while the others are listened on.
    ///
    /// # Errors
    ///
    /// [`BuildError::Listen`] if an address, or all of a name, cannot be had any more, for instance
    /// because somebody else listens there. Then none of them is listened on; it can be tried
    /// again.
    pub fn start_listening(&mut self) -> Result<(), BuildError> {
        let config = &self.reactor.core.shared.config;
        let opened: Vec<_> = self.closed.iter().map(|one| one.open(config)).collect();
        self.check_opened(&opened)?;
        let first = self.listeners.len();
        let mut missing = Vec::new();
        for (closed, opened) in self.closed.drain(..).zip(opened) {
            match opened {
                Ok(Some(listener)) => self.listeners.push(listener),
                Ok(None) => {
                    if let Reopen::Given(listener) = closed.how {
                        self.listeners.push(listener);
                    }
                }
                Err(error) => {
                    warn_missed(&closed.name(), &closed.place, &error);
                    missing.push(closed);
                }
            }
        }
        self.closed = missing;
        let mut listeners = (first..).zip(&mut self.listeners[first..]);
        let registered = listeners.try_for_each(|(at, listener)| {
            listener.register(self.poll.registry(), Source::Listener(at).token())
        });
        if let Err(error) = registered {
            self.stop_listening();
            return Err(BuildError::EventLoop(error));
        }
        self.addresses();
        self.tell_listening(first);
        Ok(())
    }

    /// Checks that each place has a listener: what could be opened of it now, or one from before.
    fn check_opened(&self, opened: &[io::Result<Option<Listener>>]) -> Result<(), BuildError> {
        for (closed, result) in self.closed.iter().zip(opened) {
            let place = &closed.place;
            let of_place = || {
                let all = self.closed.iter().zip(opened);
                all.filter(|(other, _)| other.is_of(place))
            };
            if result.is_ok()
                || of_place().any(|(_, result)| result.is_ok())
                || self
                    .listeners
                    .iter()
                    .any(|one| Rc::ptr_eq(&one.place, place))
            {
                continue;
            }
            let missed: Vec<_> = of_place()
                .filter_map(|(other, result)| Some((other.name(), copy(result.as_ref().err()?))))
                .collect();
            let address = match missed.len() {
                1 => closed.name(),
                _ => place.to_string(),
            };
            let source = none_of(missed);
            return Err(BuildError::Listen { address, source });
        }
        Ok(())
    }

    /// Logs where the server listens, from this listener on.
    pub(super) fn tell_listening(&self, first: usize) {
        for listener in &self.listeners[first..] {
            Line::free(target::SERVER, log::Level::Info)
                .write(format_args!("listening on {:#}", Listening(listener)));
        }
    }

    /// Tells the handlers where the server listens.
    pub(super) fn addresses(&mut self) {
        self.reactor.core.shared.local_addrs = self.local_addrs();
    }

    /// Delivers the tick that is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let Some(due) = self.next_tick.filter(|due| *due <= now) else {
            return;
        };
        let period = self.reactor.core.shared.config.tick_period;
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
        core.shared.stats.missed_ticks += missed;
        emit_hub::<Tick>(core, handlers, Ticks { now, missed });
    }

    /// Returns whether there may be ticks: they go on while clients are served.
    fn ticks(&self) -> bool {
        self.state == State::Running || self.reactor.is_winding_down()
    }

    /// Carries out what was ordered; goes down, step by step, if that was.
    pub(super) fn stop(&mut self, now: Instant) {
        if !self.reactor.core.shared.orders.is_empty() {
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
        if self.limited.is_some() {
            self.resume_accepting();
        }
    }

    /// Carries out what was ordered in this turn.
    #[cold]
    pub(super) fn carry_out(&mut self, now: Instant) {
        while !self.reactor.core.shared.orders.is_empty() {
            let mut orders = std::mem::take(&mut self.reactor.core.shared.orders);
            // Before the listeners are closed, whichever was asked for first.
            orders.sort_by_key(|order| !matches!(order, Order::HandOver));
            for order in orders {
                match order {
                    Order::WindDown(plan) => self.wind_down(plan),
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
                        let period = self.reactor.core.shared.config.tick_period;
                        self.next_tick = now.checked_add(period).filter(|_| !period.is_zero());
                    }
                    Order::Tick => {}
                }
            }
        }
    }
}
