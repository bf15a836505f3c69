//! Where the server listens, its handlers, and building it.

use std::fmt;
use std::net::ToSocketAddrs;
use std::path::Path;

use super::{Builder, check};
use crate::backplane::Outlets;
use crate::connection::event::{Event, Outcome};
use crate::connection::{Line, Matter};
use crate::error::{self, BuildError};
use crate::handshake::{Hosts, Origins};
use crate::server::Server;
use crate::server::loops::Member;
use crate::server::place::Place;
use crate::server::seats::Seating;

impl Builder {
    /// Listens on a TCP address, IPv4 or IPv6: `"127.0.0.1:8080"`, `"[::1]:8080"`, `("0.0.0.0",
    /// 8080)`, or a [`SocketAddr`](std::net::SocketAddr). With port 0 the kernel chooses a port.
    /// Can be called several times.
    ///
    /// A name such as `"localhost:8080"`, or a list of addresses, is bound at each address that is
    /// available. The other addresses are logged at `warn` (target `wsloop::server`) with the
    /// reason, and [`start_listening`](crate::Server::start_listening) tries them again.
    /// [`build`](Self::build) fails only if no address can be bound; the error lists all. Port 0
    /// becomes the same port for all addresses, if one is free at each; otherwise that is logged
    /// and each has its own. If a list has both `[::]` and `0.0.0.0`, the first is for IPv6 only.
    #[doc(alias = "port")]
    pub fn listen(self, addr: impl ToSocketAddrs + fmt::Debug) -> Self {
        self.listener(Place::tcp(addr))
    }

    /// Listens on a TCP address with TLS.
    ///
    /// [`config_from_pem`](crate::config_from_pem) creates a configuration from files, and
    /// [`Certificates`](crate::Certificates) creates one whose certificates can be replaced at run
    /// time.
    #[cfg(feature = "tls")]
    pub fn listen_tls(
        self,
        addr: impl ToSocketAddrs + fmt::Debug,
        tls: std::sync::Arc<rustls::ServerConfig>,
    ) -> Self {
        self.listener(Place::tcp(addr).tls(tls))
    }

    /// Listens on a Unix socket. A socket file that a dead server left behind is replaced; the file
    /// is removed when the listener closes.
    pub fn listen_unix(self, path: impl AsRef<Path>) -> Self {
        self.listener(Place::unix(path))
    }

    /// Listens on all sockets that the process has inherited, for instance from systemd, and that
    /// were not taken yet. [`Place::inherited`] takes them by name.
    pub fn listen_inherited(self) -> Self {
        self.listener(Place::all_inherited())
    }

    /// Listens at a [`Place`]; the methods above are short forms of this one. A place is an address
    /// or a path with settings of its own, or a socket that is listening already: a
    /// [`TcpListener`](std::net::TcpListener) or a
    /// [`UnixListener`](std::os::unix::net::UnixListener), which becomes non-blocking.
    pub fn listener(mut self, place: impl Into<Place>) -> Self {
        self.places.push(place.into());
        self
    }

    /// Registers the server's handler for an event; it replaces the previous one. A connection's
    /// own handler for the event takes precedence.
    ///
    /// The event is a type in [`event`](crate::event):
    ///
    /// ```
    /// use wsloop::{Server, event::{Connect, Utf8}};
    ///
    /// let builder = Server::builder().on(Connect, |conn, ()| {
    ///     let mut count = 0;
    ///     conn.on(Utf8, move |conn, text| {
    ///         count += 1;
    ///         conn.send_utf8(&format!("{count}: {text}"))
    ///     });
    /// });
    /// ```
    ///
    /// A misspelt name, a handler with wrong arguments or a wrong return value does not compile:
    ///
    /// ```compile_fail
    /// use wsloop::{Server, event::Utf8};
    /// let builder = Server::builder().on(Utf8, |conn, bytes: &[u8]| ());
    /// ```
    ///
    /// An event of the server cannot be registered on a connection:
    ///
    /// ```compile_fail
    /// use wsloop::{Server, event::{Connect, Tick}};
    /// let builder = Server::builder().on(Connect, |conn, ()| conn.on(Tick, |_, _| ()));
    /// ```
    ///
    /// A connection cannot be kept beyond the call:
    ///
    /// ```compile_fail
    /// use wsloop::{Server, event::Connect};
    /// let mut kept = None;
    /// let builder = Server::builder().on(Connect, move |conn, ()| kept = Some(conn));
    /// ```
    #[doc(alias = "on_connect")]
    #[doc(alias = "on_tick")]
    #[doc(alias = "on_shutdown")]
    #[doc(alias = "on_accept")]
    pub fn on<E: Event, R: Outcome<E::Output>>(
        mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) -> Self {
        self.handlers.set::<E, R>(handler);
        self
    }

    /// Adds a handler for an event, which is called after the registered ones, in the order of
    /// registration. The first refusal counts, and the remaining handlers are not called; an error
    /// ends the sequence in the same way. [`on`](Self::on) replaces all of them.
    ///
    /// ```
    /// use wsloop::{Server, event::{Connect, Utf8}};
    ///
    /// let builder = Server::builder()
    ///     .add_on(Connect, |conn, ()| conn.ip().is_none_or(|ip| ip.is_loopback()))
    ///     .add_on(Connect, |conn, ()| log::info!("{} has connected", conn.id()))
    ///     .add_on(Utf8, |conn, text| log::info!("{}: {text}", conn.id()))
    ///     .add_on(Utf8, |conn, text| conn.send_utf8(text));
    /// ```
    pub fn add_on<E: Event, R: Outcome<E::Output>>(
        mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) -> Self {
        self.handlers.add::<E, R>(handler);
        self
    }

    /// Builds the server and runs it until it is shut down: [`build`](Self::build), then
    /// [`Server::start`].
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn run(self) -> error::Result<()> {
        Ok(self.build()?.start()?)
    }

    /// Binds the listeners and creates the server, which serves clients once it is started. For
    /// each listener a line at `info` (target `wsloop::server`) has its address and whether it uses
    /// TLS.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] if there is no listener, if an address cannot be bound, or if
    /// settings contradict each other.
    pub fn build(self) -> Result<Server, BuildError> {
        self.build_in(Seating::Alone, None)
    }

    /// Builds a server, which may be one of several loops.
    pub(in crate::server) fn build_in(
        self,
        mut seating: Seating<'_>,
        member: Option<Member>,
    ) -> Result<Server, BuildError> {
        let Self {
            mut config,
            handlers,
            places,
            watches,
            origins,
            hosts,
            proxies,
            headless,
            backplanes,
        } = self;
        check(&config)?;
        config.origins = origins.map(Origins::new).transpose()?;
        config.hosts = hosts.map(Hosts::new).transpose()?;
        config.forwarding = proxies.check()?;
        if places.is_empty() && !headless {
            return Err(BuildError::NoListener);
        }
        let (mut listeners, mut missing) = (Vec::new(), Vec::new());
        let reuse_port = config.reuse_port;
        config.reuse_port |= seating.is_shared() || matches!(seating, Seating::Other(_));
        for mut place in places {
            place.reuse_port = reuse_port;
            place.open(&config, &mut listeners, &mut missing, &mut seating)?;
        }
        if let Seating::Other(seats) = &seating
            && seats.differ()
        {
            return Err(BuildError::Conflict(
                "the builder of one loop has other places to listen on than that of the first",
            ));
        }
        if !config.busy_poll.is_zero()
            && let Some(error) = listeners
                .iter()
                .find_map(|listener| listener.busy_poll(config.busy_poll).err())
        {
            Line::of(Matter::Socket).write(format_args!(
                "busy_poll continues without the option SO_BUSY_POLL: {error}"
            ));
        }
        let (port, siblings) = match member {
            Some(Member { port, siblings }) => (Some(port), Some(siblings)),
            None => (None, None),
        };
        let outlets = Outlets::new(port, backplanes);
        let mut server = Server::new(config, handlers, listeners, watches, outlets)?;
        server.reactor.core.shared.siblings = siblings;
        server.closed = missing;
        Ok(server)
    }
}
