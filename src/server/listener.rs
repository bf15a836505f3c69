//! Listening sockets, and back-off when descriptors run out.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, SockAddr, SockRef, TcpKeepalive, Type};

use super::control::{Closed, Reopen};
use super::inherited::Inherited;
use crate::config::{Buffers, Config};
use crate::connection::{Line, Matter};
use crate::proxy::Networks;
use crate::transport::{Socket, TlsConfig, Transport, set_tcp_limits};

/// A listening socket.
pub(crate) struct Listener {
    socket: ListenSocket,
    tls: Option<TlsConfig>,
    /// Whether the socket was not bound here, so that others may have it as well.
    given: bool,
    /// Whether the process inherited the socket.
    pub(super) inherited: bool,
    /// Whether other loops of the process have duplicates of the socket.
    pub(super) is_shared: bool,
    /// The name of the listener's place; the listeners of a place share the pointer.
    pub(super) place: Rc<str>,
    /// The trusted proxies, if connections must begin with the header of the PROXY protocol.
    pub(super) proxies: Option<Rc<Networks>>,
    /// Whether the kernel's queue may hold connections: the last accept did not find it empty.
    pub(super) pending: bool,
    /// Accepting pauses until this time, in milliseconds of the reactor.
    pub(super) retry_at: Option<u64>,
    /// Length of the next pause, in milliseconds.
    pause: u64,
}

enum ListenSocket {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        path: Option<PathBuf>,
        /// The file that was created here. It is removed when the listener closes, unless another
        /// file has taken its place.
        file: Option<FileId>,
        /// Set on each accepted socket, which does not inherit them.
        buffers: Buffers,
    },
    /// A port whose clients a test provides.
    #[cfg(test)]
    Simulated(Rc<dyn Port>),
}

/// A simulated listening socket, implemented by a test.
#[cfg(test)]
pub(crate) trait Port {
    /// Accepts a connection, like accept(2).
    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)>;

    /// Starts or stops listening.
    fn listen(&self, on: bool) -> io::Result<()>;
}

/// The result of accepting.
pub(super) enum Accepting {
    Connection(Transport, Option<SocketAddr>),
    /// The kernel's queue is empty.
    Empty,
    /// Descriptors or memory ran out.
    Exhausted(io::Error),
    /// TLS cannot be started for a connection, which is closed.
    Failed(io::Error, Option<SocketAddr>),
}

impl Listener {
    pub(super) fn bind_tcp(
        addr: SocketAddr,
        only_v6: Option<bool>,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        let socket = new_tcp(addr, only_v6)?;
        if config.reuse_port {
            reuse_port(&socket)?;
        }
        // tcp(7): "the socket buffer size must be set prior to the listen(2) or connect(2) calls in
        // order to have it take effect", since it determines the window scale.
        set_buffers(&SockRef::from(&socket), config.buffers)?;
        socket.bind(&addr.into())?;
        socket.listen(config.backlog)?;
        Self::tcp(socket.into(), tls, config)
    }

    /// Binds an address and frees it again.
    pub(super) fn probe_tcp(addr: SocketAddr, only_v6: Option<bool>) -> io::Result<()> {
        new_tcp(addr, only_v6)?.bind(&addr.into())
    }

    /// Wraps a socket that already listens.
    pub(super) fn from_listening_tcp(
        listener: StdTcpListener,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        check_listening(&SockRef::from(&listener))?;
        set_buffers(&SockRef::from(&listener), config.buffers)?;
        let mut listener = Self::tcp(listener, tls, config)?;
        listener.given = true;
        Ok(listener)
    }

    fn tcp(listener: StdTcpListener, tls: Option<TlsConfig>, config: &Config) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Accepted sockets inherit these options, which saves a system call for each.
        let socket = SockRef::from(&listener);
        socket.set_tcp_nodelay(config.nodelay)?;
        if !config.tcp_keepalive.is_zero() {
            // The kernel counts whole seconds, on Linux up to 32,767.
            let time = config.tcp_keepalive.clamp(KEEPALIVE_MIN, KEEPALIVE_MAX);
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
        }
        set_tcp_limits(&socket, config.notsent_lowat, config.tcp_user_timeout)?;
        Ok(Self::new(
            ListenSocket::Tcp(TcpListener::from_std(listener)),
            tls,
        ))
    }

    pub(super) fn bind_unix(
        path: &Path,
        mode: Option<u32>,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        // Nothing listens on a socket file that a dead server left behind. Only a socket is probed,
        // because connecting to any other file is refused as well.
        if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
            probe.set_nonblocking(true)?;
            let refused = probe.connect(&SockAddr::unix(path)?);
            if refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                fs::remove_file(path)?;
            }
        }
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // From here on, dropping the listener on an error removes the file.
        let listener = Self::new(
            ListenSocket::Unix {
                socket: UnixListener::from_std(OwnedFd::from(socket).into()),
                path: Some(path.to_owned()),
                file: file_id(path).ok(),
                buffers: config.buffers,
            },
            tls,
        );
        // Before the socket listens: until then connecting is refused (connect(2)), so no client
        // connects with the permissions of the umask.
        if let Some(mode) = mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        SockRef::from(&listener.socket()).listen(config.backlog)?;
        Ok(listener)
    }

    /// Wraps a Unix socket that already listens. Its creator remains responsible for the file.
    pub(super) fn from_listening_unix(
        listener: StdUnixListener,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        check_listening(&SockRef::from(&listener))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let mut listener = Self::new(
            ListenSocket::Unix {
                socket: UnixListener::from_std(listener),
                path: addr.as_pathname().map(Path::to_owned),
                file: None,
                buffers: config.buffers,
            },
            tls,
        );
        listener.given = true;
        Ok(listener)
    }

    /// Wraps a socket that the process inherited.
    pub(super) fn from_inherited(
        socket: Inherited,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        let mut listener = match socket {
            Inherited::Tcp(socket) => Self::from_listening_tcp(socket, tls, config)?,
            Inherited::Unix(socket) => Self::from_listening_unix(socket, tls, config)?,
        };
        listener.inherited = true;
        Ok(listener)
    }

    /// Listens on a simulated port.
    #[cfg(test)]
    pub(crate) fn simulated(port: Rc<dyn Port>) -> io::Result<Self> {
        port.listen(true)?;
        Ok(Self::new(ListenSocket::Simulated(port), None))
    }

    fn new(socket: ListenSocket, tls: Option<TlsConfig>) -> Self {
        Self {
            socket,
            tls,
            given: false,
            inherited: false,
            is_shared: false,
            place: Rc::from(""),
            proxies: None,
            pending: true,
            retry_at: None,
            pause: PAUSE_MIN,
        }
    }

    /// Stops listening; returns the way to open the listener again. A socket that was bound here is
    /// closed. A given socket stays open, since its address may not be free to bind again while
    /// another process has the socket.
    pub(super) fn close(mut self, registry: &mio::Registry) -> Option<Closed> {
        // epoll(7), Q6: closing the socket does not deregister it while another process has it.
        let deregistered = match &mut self.socket {
            ListenSocket::Tcp(socket) => registry.deregister(socket),
            ListenSocket::Unix { socket, .. } => registry.deregister(socket),
            #[cfg(test)]
            ListenSocket::Simulated(_) => Ok(()),
        };
        if let Err(error) = deregistered {
            Line::of(Matter::Socket)
                .write(format_args!("a listener cannot be deregistered: {error}"));
        }
        if self.given || self.is_shared {
            // Clients that arrive meanwhile are accepted when the listener is opened again.
            self.pending = true;
            self.retry_at = None;
            return Some(Closed {
                place: self.place.clone(),
                proxies: self.proxies.clone(),
                how: Reopen::Given(self),
            });
        }
        let tls = self.tls.clone();
        let how = match &self.socket {
            ListenSocket::Tcp(socket) => {
                let addr = socket.local_addr().ok()?;
                let only_v6 = SockRef::from(socket).only_v6().ok();
                Reopen::Tcp(addr, only_v6.filter(|_| addr.is_ipv6()), tls)
            }
            ListenSocket::Unix { path, .. } => {
                let path = path.clone()?;
                let mode = fs::symlink_metadata(&path).map(|file| file.mode() & 0o777);
                Reopen::Unix(path, mode.ok(), tls)
            }
            #[cfg(test)]
            ListenSocket::Simulated(port) => {
                port.listen(false).ok()?;
                Reopen::Simulated(port.clone())
            }
        };
        Some(Closed {
            place: self.place.clone(),
            proxies: self.proxies.clone(),
            how,
        })
    }

    /// Keeps the file of a Unix socket when the listener closes.
    pub(super) fn leave_file(&mut self) {
        if let ListenSocket::Unix { file, .. } = &mut self.socket {
            *file = None;
        }
    }

    /// Returns whether the socket was not bound here, so that others may have it as well.
    pub(super) fn is_given(&self) -> bool {
        self.given
    }

    pub(super) fn register(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
    ) -> io::Result<()> {
        match &mut self.socket {
            ListenSocket::Tcp(socket) => registry.register(socket, token, mio::Interest::READABLE),
            ListenSocket::Unix { socket, .. } => {
                registry.register(socket, token, mio::Interest::READABLE)
            }
            #[cfg(test)]
            ListenSocket::Simulated(_) => Ok(()),
        }
    }

    /// Sets for how long the kernel polls for packets instead of waiting for an interrupt; accepted
    /// sockets inherit this. Does nothing for a Unix socket.
    pub(super) fn busy_poll(&self, time: Duration) -> io::Result<()> {
        match &self.socket {
            ListenSocket::Tcp(socket) => busy_poll(&SockRef::from(socket), time),
            ListenSocket::Unix { .. } => Ok(()),
            #[cfg(test)]
            ListenSocket::Simulated(_) => Ok(()),
        }
    }

    /// Returns the local address; `None` for a Unix socket.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenSocket::Tcp(socket) => socket.local_addr().ok(),
            ListenSocket::Unix { .. } => None,
            #[cfg(test)]
            ListenSocket::Simulated(_) => None,
        }
    }

    /// Returns the path of a Unix socket; `None` for TCP, and for a Unix socket without a path.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.socket {
            ListenSocket::Tcp(_) => None,
            ListenSocket::Unix { path, .. } => path.as_deref(),
            #[cfg(test)]
            ListenSocket::Simulated(_) => None,
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ListenSocket::Tcp(socket) => socket.as_fd(),
            ListenSocket::Unix { socket, .. } => socket.as_fd(),
            #[cfg(test)]
            ListenSocket::Simulated(_) => unreachable!("no handler of a simulation asks for it"),
        }
    }

    /// Accepts one connection.
    pub(super) fn accept(&mut self) -> Accepting {
        loop {
            let result = match &self.socket {
                ListenSocket::Tcp(socket) => socket
                    .accept()
                    .map(|(socket, addr)| (Socket::Tcp(socket), Some(addr))),
                ListenSocket::Unix {
                    socket, buffers, ..
                } => socket.accept().map(|(socket, _)| {
                    if let Err(error) = set_buffers(&SockRef::from(&socket), *buffers) {
                        Line::of(Matter::Socket).write(format_args!(
                            "the buffer sizes of a connection cannot be set: {error}"
                        ));
                    }
                    (Socket::Unix(socket), None)
                }),
                #[cfg(test)]
                ListenSocket::Simulated(port) => port.accept(),
            };
            let error = match result {
                Ok((socket, addr)) => {
                    self.pause = PAUSE_MIN;
                    let transport = match &self.tls {
                        None => Ok(Transport::Plain(socket)),
                        Some(config) => Transport::secure(socket, config),
                    };
                    match transport {
                        Ok(transport) => return Accepting::Connection(transport, addr),
                        Err(error) => {
                            return Accepting::Failed(error, addr);
                        }
                    }
                }
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::WouldBlock {
                self.pending = false;
                self.retry_at = None;
                return Accepting::Empty;
            }
            // accept(2), "Error handling": the connection died in the queue, or a signal
            // interrupted the call. Any other error is a lack of descriptors or memory, and an
            // immediate retry cannot help.
            let passing = [
                io::ErrorKind::ConnectionAborted,
                io::ErrorKind::HostUnreachable,
                io::ErrorKind::Interrupted,
                io::ErrorKind::NetworkDown,
                io::ErrorKind::NetworkUnreachable,
            ];
            if !passing.contains(&error.kind()) {
                return Accepting::Exhausted(error);
            }
        }
    }

    /// Pauses accepting, longer after each further failure.
    pub(super) fn back_off(&mut self, now: u64) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenSocket::Unix { path, file, .. } = &self.socket
            && let (Some(path), Some(file)) = (path, file)
            && file_id(path).is_ok_and(|now| now == *file)
        {
            // The next server creates the file again.
            let _ = fs::remove_file(path);
        }
    }
}

/// Creates a socket for an address, which is not bound yet.
fn new_tcp(addr: SocketAddr, only_v6: Option<bool>) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // Allows a restarted server to bind its port despite connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if let Some(only) = only_v6.filter(|_| addr.is_ipv6()) {
        socket.set_only_v6(only)?;
    }
    Ok(socket)
}

/// Allows other sockets to listen on the same address.
#[cfg(not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin")))]
fn reuse_port(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))]
fn reuse_port(_: &socket2::Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sets SO_BUSY_POLL, an `int` of microseconds.
#[cfg(target_os = "linux")]
fn busy_poll(socket: &SockRef<'_>, time: Duration) -> io::Result<()> {
    // Less than a microsecond becomes one, because zero is off.
    let micros = time.as_micros().clamp(1, i32::MAX as u128) as u32;
    socket.set_busy_poll(micros)
}

#[cfg(not(target_os = "linux"))]
fn busy_poll(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Sets the sizes of the kernel's buffers, where they are configured.
fn set_buffers(socket: &SockRef<'_>, buffers: Buffers) -> io::Result<()> {
    // The kernel takes an `int`.
    let most = |bytes: usize| bytes.min(i32::MAX as usize);
    if buffers.recv > 0 {
        socket.set_recv_buffer_size(most(buffers.recv))?;
    }
    if buffers.send > 0 {
        socket.set_send_buffer_size(most(buffers.send))?;
    }
    Ok(())
}

/// Returns an error for a socket that does not listen: accepting from it would fail forever.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn check_listening(socket: &SockRef<'_>) -> io::Result<()> {
    match socket.is_listener()? {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the socket is not listening",
        )),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn check_listening(_: &SockRef<'_>) -> io::Result<()> {
    Ok(())
}

/// The identity of a file, independent of its name: device and inode.
type FileId = (u64, u64);

fn file_id(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The shortest and the longest pause, in milliseconds.
const PAUSE_MIN: u64 = 50;
const PAUSE_MAX: u64 = 1000;

/// The range that the kernel accepts for the time before the first keep-alive probe.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
