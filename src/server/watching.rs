//! Foreign event sources in the event queue.

use std::io;

use mio::event::{Event, Source as EventSource};
use mio::{Interest, Registry};

use super::{Builder, Server, Source};
use crate::connection::event::Outcome;
use crate::connection::{Hub, Readiness, Registrar, Watched, watcher};

/// The event queue, as handlers use it.
pub(super) struct EventRegistrar(Registry);

impl EventRegistrar {
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        registry.try_clone().map(Self)
    }
}

impl Registrar for EventRegistrar {
    fn register(
        &self,
        source: &mut dyn EventSource,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        self.0
            .register(source, Source::Watch(key).token(), interest)
    }

    fn reregister(
        &self,
        source: &mut dyn EventSource,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        self.0
            .reregister(source, Source::Watch(key).token(), interest)
    }

    fn deregister(&self, source: &mut dyn EventSource) -> io::Result<()> {
        self.0.deregister(source)
    }
}

/// Returns the readiness of a watched source from an event.
pub(super) fn readiness(event: &Event) -> Readiness {
    let hangup = event.is_read_closed() || event.is_write_closed() || event.is_error();
    Readiness {
        readable: event.is_readable() || event.is_read_closed() || event.is_error(),
        writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        hangup,
    }
}

impl Server {
    /// Calls the handlers of the watched sources that are ready.
    pub(super) fn serve_watches(&mut self) {
        for (key, readiness) in self.ready.drain(..) {
            self.reactor.serve_watch(key, readiness);
        }
    }
}

impl Builder {
    /// Watches a foreign source in the server's loop from the start, like [`Hub::watch`].
    pub fn watch<S: EventSource + 'static, R: Outcome<()>>(
        mut self,
        source: S,
        interest: Interest,
        handler: impl for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> R + 'static,
    ) -> Self {
        self.watches.push((interest, watcher(source, handler)));
        self
    }

    /// Watches a foreign source for reading, like [`Hub::watch_readable`].
    ///
    /// ```
    /// use mio::net::UdpSocket;
    /// use wsloop::Server;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
    /// let builder = Server::builder().watch_readable(socket, |hub, watched| {
    ///     let mut datagram = [0; 1500];
    ///     if let Ok(size) = watched.source.recv(&mut datagram) {
    ///         let _ = hub.broadcast_binary(&datagram[..size]);
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_readable<S: EventSource + 'static, R: Outcome<()>>(
        self,
        source: S,
        handler: impl for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> R + 'static,
    ) -> Self {
        self.watch(source, Interest::READABLE, handler)
    }

    /// Watches a foreign source for writing, like [`Hub::watch_writable`].
    pub fn watch_writable<S: EventSource + 'static, R: Outcome<()>>(
        self,
        source: S,
        handler: impl for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> R + 'static,
    ) -> Self {
        self.watch(source, Interest::WRITABLE, handler)
    }
}
