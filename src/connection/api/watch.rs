//! Foreign sources, as handlers watch them.

use std::io;

use mio::Interest;
use mio::event::Source;

use super::hub::Hub;
use crate::connection::event::Outcome;
use crate::connection::watch::{WatchId, Watched, watcher};

impl Hub<'_> {
    /// Watches a foreign source in the server's loop: `handler` is called whenever it can be read
    /// or written to, as `interest` says. Any source of `mio` will do, such as a `UdpSocket` or a
    /// pipe of `mio`, and with [`Descriptor`] anything that has a file descriptor.
    ///
    /// It is called once in each turn of the loop for as long as the source is ready (as with the
    /// Perl servers, not by edges as `mio` has it): a handler may use up as much as it likes. So do
    /// not watch for writing while there is nothing to write ([`rewatch`](Self::rewatch)), and end
    /// the watch of a source that hung up, or the loop will spin. The source should be
    /// non-blocking, unless one read or write for each call is enough.
    ///
    /// An error or a panic of the handler is logged, and ends the watch; `WouldBlock`, which may
    /// come of a readiness that has passed, is to be dealt with. Watches go on while the server
    /// goes down, but do not keep it from that.
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
    /// If the kernel cannot watch the source, or does so already. The source is dropped. Regular files
    /// and `/dev/null` cannot be watched (epoll_ctl(2)): what standard input is under systemd, Docker
    /// or nohup. Read it on a thread instead, which hands over what it reads by a
    /// [`Handle`](crate::Handle).
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

    /// Watches a source for reading, as [`watch`](Self::watch).
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

    /// Watches a source for writing, as [`watch`](Self::watch).
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

    /// Changes what a source is watched for, from the next turn of the loop on.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is not watched any more, or as the kernel tells.
    pub fn rewatch<S>(&mut self, id: WatchId<S>, interest: Interest) -> io::Result<()> {
        self.core.shared.watches.change(id.key, interest)
    }

    /// Ends a watch, and gives the source back; `None` if it is not watched any more. From within
    /// its own handler, too, which holds the source: then it is dropped when that has returned.
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

    /// Returns how many sources are watched.
    pub fn watched(&self) -> usize {
        self.core.shared.watches.watches.len()
    }
}
