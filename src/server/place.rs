//! Places to listen on.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::binding::Binding;
use super::control::{Closed, Reopen};
use super::inherited;
use super::listener::Listener;
use super::seats::{Seat, Seating};
use crate::config::Config;
use crate::error::BuildError;
use crate::proxy::Networks;
use crate::transport::TlsConfig;

/// A place to listen on, for [`Builder::listener`](crate::Builder::listener): an address or a path
/// to bind, a socket that already listens, or sockets that the process inherited.
///
/// ```
/// use std::os::unix::net::UnixListener;
/// use wsloop::{Place, Server};
///
/// # fn sockets(ready: UnixListener) {
/// let builder = Server::builder()
///     .listener(Place::tcp("[::]:8080").only_v6(true))
///     .listener(Place::unix("/run/chat/socket").mode(0o660))
///     .listener(Place::inherited("chat"))
///     .listener(ready);
/// # }
/// ```
#[must_use]
pub struct Place {
    /// The name, for error messages.
    name: String,
    kind: Kind,
    tls: Option<TlsConfig>,
    /// The permissions of a Unix socket's file.
    mode: Option<u32>,
    only_v6: Option<bool>,
    /// Whether the program itself lets others listen on the address.
    pub(super) reuse_port: bool,
    /// The trusted proxies, if connections must begin with the header of the PROXY protocol.
    proxies: Option<Vec<String>>,
}

enum Kind {
    Addrs(io::Result<Vec<SocketAddr>>),
    Path(PathBuf),
    Tcp(TcpListener),
    Unix(UnixListener),
    /// The inherited sockets with this name, or all that are left.
    Inherited(Option<String>),
}

impl Place {
    /// Makes a place of a TCP address, IPv4 or IPv6, or of a name or list of several addresses,
    /// like [`Builder::listen`](crate::Builder::listen). Names are resolved at once.
    pub fn tcp(addr: impl ToSocketAddrs + fmt::Debug) -> Self {
        let addrs = addr.to_socket_addrs().map(Iterator::collect);
        let name = format!("{addr:?}").trim_matches('"').to_owned();
        Self::new(name, Kind::Addrs(addrs))
    }

    /// Makes a place of a Unix socket. A socket file that a dead server left there is replaced; the
    /// file is removed when the listener closes.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self::new(path.display().to_string(), Kind::Path(path.to_owned()))
    }

    /// Makes a place of the sockets with this name that the process inherited from systemd or
    /// another program with its protocol (sd_listen_fds(3)): descriptors from 3 on, with their
    /// number in `LISTEN_FDS`, their names in `LISTEN_FDNAMES` (`FileDescriptorName=` of a socket
    /// unit), and the process that they are meant for in `LISTEN_PID`. Without names, all are
    /// called `unknown`.
    ///
    /// Each must be a listening TCP or Unix stream socket. A process can take each socket only
    /// once, for any of its servers and even if building that server fails. The file of a Unix
    /// socket is not removed.
    ///
    /// A missing `LISTEN_PID`, as with tools that start the process through another, is not an
    /// error. [`build`](crate::Builder::build) removes `LISTEN_FDS` and `LISTEN_PID` from the
    /// environment, so that no child process uses the sockets. Call it before starting a thread
    /// whose C code reads the environment (see [`std::env::remove_var`]).
    pub fn inherited(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::new(
            format!("inherited sockets named {name:?}"),
            Kind::Inherited(Some(name)),
        )
    }

    /// Makes a place of all inherited sockets that are not taken yet; see
    /// [`inherited`](Self::inherited). Add this place after those with names.
    pub fn all_inherited() -> Self {
        Self::new("inherited sockets".into(), Kind::Inherited(None))
    }

    /// Enables TLS. Default off.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: std::sync::Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the permissions of the Unix socket's file, for example `0o660`: processes that may
    /// write to the file may connect. They take effect before any client can connect. Default:
    /// those of the umask.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets whether an IPv6 address refuses IPv4 clients (IPV6_V6ONLY), so that the server can
    /// listen on `[::]` and `0.0.0.0` at the same time. Default: the system's setting; on Linux
    /// `[::]` accepts both, unless `net.ipv6.bindv6only` is set. It has no effect on IPv4
    /// addresses.
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = Some(only);
        self
    }

    /// Accepts connections only from these proxies, each beginning with the header of the PROXY
    /// protocol, version 1 or 2: `["127.0.0.1", "10.0.0.0/8", "unix:"]`, with the syntax of
    /// [`Networks`](crate::proxy::Networks). Default off.
    ///
    /// The header names the client, whose address then replaces the proxy's for events and logs,
    /// [`Connection::peer_addr`](crate::Connection::peer_addr) and the limits per address. With
    /// `PP2_TYPE_SSL` (HAProxy: `send-proxy-v2-ssl`) it also says whether the client uses TLS, for
    /// [`Connection::request_uri`](crate::Connection::request_uri) and
    /// [`origins(["self"])`](crate::Builder::origins). With `tls`, the header comes before TLS.
    ///
    /// For the proxy's own connections (`LOCAL`, health checks) and for unknown clients
    /// (`UNKNOWN`), the address is the proxy's. Header and handshake together must arrive within
    /// [`handshake_timeout`](crate::Builder::handshake_timeout). The header is limited to 107 bytes
    /// in version 1, and to 4,096 in version 2.
    ///
    /// Connections from other addresses, and connections without the header, are refused: otherwise
    /// any client could claim another address. Both are counted
    /// ([`RefusalReason`](crate::RefusalReason)) and logged, and cause no event other than
    /// [`Accept`](crate::event::Accept). The limits per address do not apply to the proxy's own
    /// connections; connections of unknown clients count for the proxy's address. For both,
    /// forwarding headers are ignored.
    pub fn proxy_protocol<S: Into<String>>(mut self, proxies: impl IntoIterator<Item = S>) -> Self {
        self.proxies = Some(proxies.into_iter().map(Into::into).collect());
        self
    }

    fn new(name: String, kind: Kind) -> Self {
        Self {
            name,
            kind,
            tls: None,
            mode: None,
            only_v6: None,
            reuse_port: false,
            proxies: None,
        }
    }

    /// Opens the listeners of the place. Addresses that cannot be bound are added to `missing`, if
    /// others can.
    pub(super) fn open(
        self,
        config: &Config,
        listeners: &mut Vec<Listener>,
        missing: &mut Vec<Closed>,
        seating: &mut Seating<'_>,
    ) -> Result<(), BuildError> {
        if self.mode.is_some() && !matches!(self.kind, Kind::Path(_)) {
            return Err(BuildError::Conflict(
                "mode is set for a place that is not the path of a Unix socket",
            ));
        }
        if self.only_v6.is_some() && !matches!(self.kind, Kind::Addrs(_)) {
            return Err(BuildError::Conflict(
                "only_v6 is set for a place that is not a TCP address",
            ));
        }
        let proxies = self.proxies.as_ref().map(Networks::new).transpose();
        let proxies = proxies?.map(Rc::new);
        let address = self.name.clone();
        let place: Rc<str> = self.name.as_str().into();
        let first = listeners.len();
        let missed = self
            .listen(config, listeners, seating)
            .map_err(|source| BuildError::Listen { address, source })?;
        for listener in &mut listeners[first..] {
            listener.place = place.clone();
            listener.proxies = proxies.clone();
        }
        missing.extend(missed.into_iter().map(|how| Closed {
            place: place.clone(),
            proxies: proxies.clone(),
            how,
        }));
        Ok(())
    }

    /// Opens the listeners; returns the addresses that could not be bound.
    fn listen(
        self,
        config: &Config,
        listeners: &mut Vec<Listener>,
        seating: &mut Seating<'_>,
    ) -> io::Result<Vec<Reopen>> {
        let tls = self.tls;
        if let Some(seats) = seating.next_place(&self.name) {
            for seat in seats {
                let tls = tls.clone();
                listeners.push(match seat {
                    Seat::Bind(addr, only_v6) => Listener::bind_tcp(addr, only_v6, tls, config)?,
                    Seat::Tcp(socket) => Listener::from_listening_tcp(socket, tls, config)?,
                    Seat::Unix(socket) => Listener::from_listening_unix(socket, tls, config)?,
                    Seat::Inherited(socket) => Listener::from_inherited(socket, tls, config)?,
                });
            }
            return Ok(Vec::new());
        }
        seating.begin_place(&self.name);
        match self.kind {
            Kind::Tcp(socket) => {
                seating.offer(|| Ok(Seat::Tcp(socket.try_clone()?)))?;
                listeners.push(Listener::from_listening_tcp(socket, tls, config)?);
            }
            Kind::Unix(socket) => {
                seating.offer(|| Ok(Seat::Unix(socket.try_clone()?)))?;
                listeners.push(Listener::from_listening_unix(socket, tls, config)?);
            }
            Kind::Path(path) => {
                let mut listener = Listener::bind_unix(&path, self.mode, tls, config)?;
                listener.is_shared = seating.is_shared();
                let socket = listener.socket();
                seating.offer(|| Ok(Seat::Unix(socket.try_clone_to_owned()?.into())))?;
                listeners.push(listener);
            }
            Kind::Inherited(name) => {
                let sockets = inherited::take(name.as_deref())?;
                for socket in seating.share_out(sockets)? {
                    listeners.push(Listener::from_inherited(socket, tls.clone(), config)?);
                }
            }
            Kind::Addrs(addrs) => {
                let binding = Binding {
                    name: &self.name,
                    only_v6: self.only_v6,
                    tls: tls.clone(),
                    config,
                    // The loops share the address among themselves only.
                    is_exclusive: seating.is_shared() && !self.reuse_port,
                };
                let bound = binding.bind(addrs?)?;
                for addr in bound.listeners.iter().filter_map(Listener::local_addr) {
                    seating.offer(|| Ok(Seat::Bind(addr, bound.only_v6)))?;
                }
                listeners.extend(bound.listeners);
                let only_v6 = bound.only_v6;
                let again = |addr| Reopen::Tcp(addr, only_v6, tls.clone());
                return Ok(bound.missing.into_iter().map(again).collect());
            }
        }
        Ok(Vec::new())
    }
}

/// Makes a place of a listening socket, which is made non-blocking.
impl From<TcpListener> for Place {
    fn from(listener: TcpListener) -> Self {
        let name = listener
            .local_addr()
            .map_or_else(|_| "socket".into(), |addr| addr.to_string());
        Self::new(name, Kind::Tcp(listener))
    }
}

/// Makes a place of a listening Unix socket, which is made non-blocking. Its file is not removed.
impl From<UnixListener> for Place {
    fn from(listener: UnixListener) -> Self {
        let addr = listener.local_addr().ok();
        let path = addr.as_ref().and_then(|addr| addr.as_pathname());
        let name = path.map_or_else(|| "Unix socket".into(), |path| path.display().to_string());
        Self::new(name, Kind::Unix(listener))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("name", &self.name)
            .field("tls", &self.tls.is_some())
            .field("mode", &self.mode)
            .field("only_v6", &self.only_v6)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}
