//! Orders of handlers to the server itself: listening, ticks, shutdown.

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

/// A closed listener, and the way to open it again.
pub(super) struct Closed {
    /// As in [`Listener`].
    pub(super) place: Rc<str>,
    /// As in [`Listener`].
    pub(super) proxies: Option<Rc<Networks>>,
    pub(super) how: Reopen,
}

/// The way to open a listener again.
pub(super) enum Reopen {
    /// A given socket, which is still open.
    Given(Listener),
    /// An address, with the setting of `IPV6_V6ONLY`.
    Tcp(SocketAddr, Option<bool>, Option<TlsConfig>),
    /// A path, with the permissions of the file.
    Unix(PathBuf, Option<u32>, Option<TlsConfig>),
    #[cfg(test)]
    Simulated(Rc<dyn super::listener::Port>),
}

impl Closed {
    /// Binds the socket again, unless it is still open.
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
            // As in `build`, failing to set the option is not an error.
            let _ = listener.busy_poll(config.busy_poll);
        }
        Ok(Some(listener))
    }

    fn name(&self) -> String {
        match &self.how {
            Reopen::Given(_) => "a socket that the program passed".into(),
            Reopen::Tcp(addr, ..) => addr.to_string(),
            Reopen::Unix(path, ..) => path.display().to_string(),
            #[cfg(test)]
            Reopen::Simulated(_) => "a simulated port".into(),
        }
    }

    /// Returns whether the listener belongs to this place.
    pub(super) fn is_of(&self, place: &Rc<str>) -> bool {
        Rc::ptr_eq(&self.place, place)
    }
}

/// Copies an error.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Server {
    /// Closes the listeners and keeps the connections. The kernel refuses new clients, and resets
    /// those that still wait in its queue.
    ///
    /// A socket that was given to the builder or inherited is not closed, only no longer accepted
    /// from: its clients wait. The server keeps running, even without connections.
    pub fn stop_listening(&mut self) {
        // Addresses that could not be bound come last, as they did when the others were bound.
        let missing = std::mem::take(&mut self.closed);
        for listener in self.listeners.drain(..) {
            self.closed.extend(listener.close(self.poll.registry()));
        }
        self.closed.extend(missing);
        self.addresses();
    }

    /// Listens again on the addresses that [`stop_listening`](Self::stop_listening) closed, with
    /// the ports that the kernel had picked. Does nothing if the server already listens on them or
    /// is shutting down.
    ///
    /// For a name with several addresses, the server listens on those that can be bound, like
    /// [`Builder::listen`](crate::Builder::listen). Addresses that were missing before are tried
    /// again, even while it listens on the others.
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

    /// Logs the addresses of the listeners, from index `first` on.
    pub(super) fn tell_listening(&self, first: usize) {
        for listener in &self.listeners[first..] {
            Line::free(target::SERVER, log::Level::Info)
                .write(format_args!("listening on {:#}", Listening(listener)));
        }
    }

    /// Updates the local addresses that handlers see.
    pub(super) fn addresses(&mut self) {
        self.reactor.core.shared.local_addrs = self.local_addrs();
    }

    /// Delivers the tick, if it is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let Some(due) = self.next_tick.filter(|due| *due <= now) else {
            return;
        };
        let period = self.reactor.core.shared.config.tick_period;
        if period.is_zero() {
            // A handler switched ticks off in this turn.
            return;
        }
        // The ancestors fired missed ticks back to back; here they are counted (decision 8).
        let missed = ((now - due).as_nanos() / period.as_nanos()) as u64;
        let passed = period.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        self.next_tick = due
            .checked_add(passed)
            .and_then(|due| due.checked_add(period));
        let Reactor { core, handlers, .. } = &mut *self.reactor;
        core.shared.stats.missed_ticks += missed;
        emit_hub::<Tick>(core, handlers, Ticks { now, missed });
    }

    /// Returns whether ticks are delivered, which they are while clients are served.
    fn ticks(&self) -> bool {
        self.state == State::Running || self.reactor.is_winding_down()
    }

    /// Carries out orders, and advances a shutdown.
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
                self.reactor.core.shared.leave_backplanes();
            }
        }
        if self.limited.is_some() {
            self.resume_accepting();
        }
    }

    /// Carries out the orders of this turn.
    #[cold]
    pub(super) fn carry_out(&mut self, now: Instant) {
        while !self.reactor.core.shared.orders.is_empty() {
            let mut orders = std::mem::take(&mut self.reactor.core.shared.orders);
            // A hand-over comes first, before the listeners are closed.
            orders.sort_by_key(|order| !matches!(order, Order::HandOver));
            for order in orders {
                if let Some(siblings) = &self.reactor.core.shared.siblings
                    && order.is_for_all()
                {
                    siblings.tell(order);
                }
                self.obey(now, order);
            }
        }
    }

    /// Carries out one order.
    pub(super) fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::WindDown(plan) => self.wind_down(plan),
            Order::HandOver => self.hand_over_listeners(),
            Order::Rearm => self.reactor.rearm(),
            Order::StartListening => {
                if let Err(error) = self.start_listening() {
                    Line::free(target::SERVER, log::Level::Error).write(format_args!("{error}"));
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
