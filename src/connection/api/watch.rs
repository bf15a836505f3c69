//! Foreign event sources, as handlers watch them.

use std::io;

use mio::Interest;
use mio::event::Source;

use super::hub::Hub;
use crate::connection::event::Outcome;
use crate::connection::watch::{WatchId, Watched, watcher};

impl Hub<'_> {
    /// Watches a foreign source in the server's event loop: `handler` is called whenever the source
    /// is readable or writable, as `interest` says. A source is any of `mio`, such as its
    /// `UdpSocket` or a pipe, or with [`Descriptor`](crate::Descriptor) any value that has a file
    /// descriptor.
    ///
    /// The handler is called once per turn of the loop while the source is ready (level-triggered
    /// as in the Perl servers, unlike mio), so it may read a part and leave the rest. Do not watch
    /// for writing while there is nothing to write ([`rewatch`](Self::rewatch)), and end the watch
    /// of a source that has hung up; otherwise the loop spins. The source should be non-blocking,
    /// unless the handler reads or writes only once per call.
    ///
    /// An error or a panic of the handler is logged, and ends the watch. Handle `WouldBlock`: the
    /// source may no longer be ready when the handler reads. Watches continue while the server
    /// shuts down, and do not delay it.
    ///
    /// ```
    /// use mio::net::UdpSocket;
    /// use wsloop::{Server, event::Start};
    ///
    /// let builder = Server::builder().on(Start, |hub, ()| {
    ///     let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
    ///     hub.watch_readable(socket, |hub, watched| {
    ///         let mut datagram = [0; 1500];
    ///         if let Ok(size) = watched.source.recv(&mut datagram) {
    ///             let _ = hub.broadcast_binary(&datagram[..size]);
    ///         }
    ///     })
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// If the kernel cannot watch the source, or watches it already. The source is dropped. Regular
    /// files and `/dev/null` cannot be watched (epoll_ctl(2)). Standard input often is one of
    /// these, under systemd, Docker or nohup: read it on a thread instead, which passes the data on
    /// by a [`Handle`](crate::Handle).
    pub fn watch<S: Source + 'static, R: Outcome<()>>(
        &mut self,
        source: S,
        interest: Interest,
        handler: impl for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> R + 'static,
    ) -> io::Result<WatchId<S>> {
        let watcher = watcher(source, handler);
        self.core
            .shared
            .watches
            .add(interest, watcher)
            .map(WatchId::new)
    }

    /// Watches a source for reading, as [`watch`](Self::watch) does.
    ///
    /// # Errors
    ///
    /// As [`watch`](Self::watch).
    pub fn watch_readable<S: Source + 'static, R: Outcome<()>>(
        &mut self,
        source: S,
        handler: impl for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> R + 'static,
    ) -> io::Result<WatchId<S>> {
        self.watch(source, Interest::READABLE, handler)
    }

    /// Watches a source for writing, as [`watch`](Self::watch) does.
    ///
    /// # Errors
    ///
    /// As [`watch`](Self::watch).
    pub fn watch_writable<S: Source + 'static, R: Outcome<()>>(
        &mut self,
        source: S,
        handler: impl for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> R + 'static,
    ) -> io::Result<WatchId<S>> {
        self.watch(source, Interest::WRITABLE, handler)
    }

    /// Changes the interest of a watch, from the next turn of the loop on.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the source is no longer watched, or the kernel's error.
    pub fn rewatch<S>(&mut self, id: WatchId<S>, interest: Interest) -> io::Result<()> {
        self.core.shared.watches.change(id.key, interest)
    }

    /// Ends a watch and returns the source; `None` if it is no longer watched. The source's own
    /// handler holds the source while it runs: called there, this returns `None`, and the source is
    /// dropped when the handler has returned.
    #[doc(alias = "unwatch_readable")]
    #[doc(alias = "unwatch_writable")]
    pub fn unwatch<S: 'static>(&mut self, id: WatchId<S>) -> Option<S> {
        let mut watcher = self.core.shared.watches.remove(id.key)?;
        let slot: &mut Option<S> = watcher.source_slot().downcast_mut()?;
        slot.take()
    }

    /// Returns whether a source is watched.
    #[doc(alias = "watched_readable")]
    #[doc(alias = "watched_writable")]
    pub fn is_watched<S>(&self, id: WatchId<S>) -> bool {
        self.core.shared.watches.watches.contains_key(&id.key)
    }

    /// Returns the number of watched sources.
    pub fn watched(&self) -> usize {
        self.core.shared.watches.watches.len()
    }
}
