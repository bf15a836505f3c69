//! Event sources of the application in the server's loop: other sockets, pipes, anything that has
//! readiness.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use mio::Interest;
use mio::event::Source;
use mio::unix::SourceFd;

use super::api::hub::Hub;
use super::log_lines::{Line, Matter};
use crate::connection::event::Outcome;
use crate::error::HandlerError;

/// The number of a watched source of type `S`. Its server never reuses it, so one that outlives its
/// watch is harmless.
pub struct WatchId<S> {
    pub(super) key: usize,
    source: PhantomData<fn() -> S>,
}

impl<S> WatchId<S> {
    pub(super) fn new(key: usize) -> Self {
        Self {
            key,
            source: PhantomData,
        }
    }
}

// Implemented by hand, because derives would require the same traits of `S`.
impl<S> Clone for WatchId<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for WatchId<S> {}

impl<S> PartialEq for WatchId<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<S> Eq for WatchId<S> {}

impl<S> fmt::Debug for WatchId<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchId").field(&self.key).finish()
    }
}

/// A watched source that is ready.
///
/// A source that failed, or that the other side has closed, counts as ready for everything: the
/// next read or write reports the error or the end.
#[non_exhaustive]
#[derive(Debug)]
pub struct Watched<'p, S> {
    /// The source. It must not be replaced by another one, which the event queue would not watch.
    pub source: &'p mut S,
    /// The number of the watch, to end it.
    pub id: WatchId<S>,
    /// Whether the source can be read.
    pub readable: bool,
    /// Whether the source can be written to.
    pub writable: bool,
    /// Whether the other side has closed one direction or both, or an error is pending.
    pub hangup: bool,
}

/// The readiness of a source that an event reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) hangup: bool,
}

/// Anything with a file descriptor as a source: sockets of `std`, pipes, a child's output.
///
/// Regular files have no readiness; watching one is an error. Bytes that a reader has buffered do
/// not count as readiness: read from the descriptor itself.
///
/// ```no_run
/// use std::io::{self, Read};
/// use std::process::{Command, Stdio};
/// use wsloop::{Descriptor, Server, event::Start};
///
/// let builder = Server::builder().on(Start, |hub, ()| {
///     let child = Command::new("uptime").stdout(Stdio::piped()).spawn()?;
///     let output = child.stdout.ok_or(io::ErrorKind::BrokenPipe)?;
///     hub.watch_readable(Descriptor(output), |hub, watched| {
///         let mut bytes = [0; 4096];
///         let size = watched.source.0.read(&mut bytes)?;
///         if size == 0 {
///             hub.unwatch(watched.id);
///         }
///         hub.broadcast_binary(&bytes[..size]).map_err(io::Error::other)
///     })
/// });
/// ```
#[expect(clippy::exhaustive_structs, reason = "a wrapper")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptor<T>(pub T);

impl<T: AsFd> Source for Descriptor<T> {
    fn register(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_fd().as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_fd().as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &mio::Registry) -> io::Result<()> {
        SourceFd(&self.0.as_fd().as_raw_fd()).deregister(registry)
    }
}

/// The part of the server's event queue that is needed here.
pub(crate) trait Registrar {
    fn register(&self, source: &mut dyn Source, key: usize, interest: Interest) -> io::Result<()>;

    /// Registers a source again; if it is ready, another event follows.
    fn reregister(&self, source: &mut dyn Source, key: usize, interest: Interest)
    -> io::Result<()>;

    fn deregister(&self, source: &mut dyn Source) -> io::Result<()>;
}

/// A source of any type, with its handler.
pub(crate) trait Watcher {
    fn source(&mut self) -> &mut dyn Source;

    fn call(
        &mut self,
        hub: &mut Hub<'_>,
        key: usize,
        readiness: Readiness,
    ) -> Result<(), HandlerError>;

    /// Returns the source as an `Option<S>`, from which it may be taken.
    fn source_slot(&mut self) -> &mut dyn std::any::Any;
}

struct Pair<S, F> {
    /// `Some` until the source is given back at the end of the watch.
    source: Option<S>,
    handler: F,
}

impl<S, F> Watcher for Pair<S, F>
where
    S: Source + 'static,
    F: for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> Result<(), HandlerError> + 'static,
{
    fn source(&mut self) -> &mut dyn Source {
        self.source
            .as_mut()
            .expect("the source is taken only when the watch ends")
    }

    fn call(
        &mut self,
        hub: &mut Hub<'_>,
        key: usize,
        readiness: Readiness,
    ) -> Result<(), HandlerError> {
        let Readiness {
            readable,
            writable,
            hangup,
        } = readiness;
        let watched = Watched {
            source: self
                .source
                .as_mut()
                .expect("the source is taken only when the watch ends"),
            id: WatchId::new(key),
            readable,
            writable,
            hangup,
        };
        (self.handler)(hub, watched)
    }

    fn source_slot(&mut self) -> &mut dyn std::any::Any {
        &mut self.source
    }
}

/// Boxes a source with its handler.
pub(crate) fn watcher<S: Source + 'static, R: Outcome<()>>(
    source: S,
    mut handler: impl for<'t, 'p> FnMut(&mut Hub<'t>, Watched<'p, S>) -> R + 'static,
) -> Box<dyn Watcher> {
    Box::new(Pair {
        source: Some(source),
        handler: move |hub: &mut Hub<'_>, watched: Watched<'_, S>| {
            handler(hub, watched).into_outcome()
        },
    })
}

pub(super) struct Watch {
    interest: Interest,
    /// `None` while its handler runs.
    watcher: Option<Box<dyn Watcher>>,
}

/// The watched sources of a server.
#[derive(Default)]
pub(crate) struct Watches {
    pub(super) watches: BTreeMap<usize, Watch>,
    /// `None` only where there is no event queue.
    registrar: Option<Box<dyn Registrar>>,
    last: usize,
}

impl Watches {
    /// Sets the event queue that sources are registered with.
    pub(crate) fn set_registrar(&mut self, registrar: Box<dyn Registrar>) {
        self.registrar = Some(registrar);
    }

    fn registrar(&self) -> io::Result<&dyn Registrar> {
        let registrar = self.registrar.as_deref();
        registrar.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Registers a source; returns its key.
    pub(crate) fn add(
        &mut self,
        interest: Interest,
        mut watcher: Box<dyn Watcher>,
    ) -> io::Result<usize> {
        let mut key = self.last;
        loop {
            key = (key + 1) & KEYS;
            if !self.watches.contains_key(&key) {
                break;
            }
        }
        self.registrar()?
            .register(watcher.source(), key, interest)
            .map_err(explained)?;
        self.last = key;
        let watch = Watch {
            interest,
            watcher: Some(watcher),
        };
        self.watches.insert(key, watch);
        Ok(key)
    }

    /// Changes the interest of a watch: at once, or when its running handler has returned.
    pub(super) fn change(&mut self, key: usize, interest: Interest) -> io::Result<()> {
        let watch = self.watches.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        if let Some(watcher) = watch.watcher.as_deref_mut() {
            let registrar = self.registrar.as_deref();
            registrar.ok_or(io::ErrorKind::Unsupported)?.reregister(
                watcher.source(),
                key,
                interest,
            )?;
        }
        watch.interest = interest;
        Ok(())
    }

    /// Ends a watch; returns its source and handler, unless the handler is running.
    pub(crate) fn remove(&mut self, key: usize) -> Option<Box<dyn Watcher>> {
        let mut watcher = self.watches.remove(&key)?.watcher?;
        self.deregister(watcher.source());
        Some(watcher)
    }

    fn deregister(&self, source: &mut dyn Source) {
        if let Some(registrar) = self.registrar.as_deref()
            && let Err(error) = registrar.deregister(source)
        {
            Line::of(Matter::Socket).write(format_args!(
                "a watched source cannot be deregistered: {error}"
            ));
        }
    }

    /// Takes a source and its handler for a call; `None` if the source is not watched any more.
    pub(crate) fn begin(&mut self, key: usize) -> Option<Box<dyn Watcher>> {
        self.watches.get_mut(&key)?.watcher.take()
    }

    /// Puts a source and its handler back after the call, and watches the source again. Returns
    /// them if the watch was ended meanwhile, or if it cannot continue.
    ///
    /// The kernel reports edges. Because the source is registered again, an event comes as long as
    /// it is ready: the handler need not read everything in one call.
    pub(crate) fn finish(
        &mut self,
        key: usize,
        mut watcher: Box<dyn Watcher>,
    ) -> Option<Box<dyn Watcher>> {
        let Some(watch) = self.watches.get_mut(&key) else {
            self.deregister(watcher.source());
            return Some(watcher);
        };
        let interest = watch.interest;
        let again = self
            .registrar()
            .and_then(|registrar| registrar.reregister(watcher.source(), key, interest));
        if let Err(error) = again {
            Line::of(Matter::Watch).write(format_args!(
                "a watched source cannot be watched any more: {error}"
            ));
            self.watches.remove(&key);
            self.deregister(watcher.source());
            return Some(watcher);
        }
        if let Some(watch) = self.watches.get_mut(&key) {
            watch.watcher = Some(watcher);
        }
        None
    }
}

/// Says what helps where the kernel cannot watch a source.
fn explained(error: io::Error) -> io::Error {
    // epoll_ctl(2), EPERM: "The target file fd does not support epoll. This error can occur if fd
    // refers to, for example, a regular file or a directory." /dev/null is one as well.
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    io::Error::new(
        error.kind(),
        "the kernel cannot watch this descriptor: it is neither a socket nor a pipe nor a terminal, \
         but for instance a regular file or /dev/null; read it on another thread, and pass the \
         data to the server through a Handle",
    )
}

/// The bits of a key; the server uses the others to tell its tokens apart.
const KEYS: usize = usize::MAX >> 3;
