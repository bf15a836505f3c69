//! Listening sockets, and what happens when descriptors run out.

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
use crate::config::{Buffers, Config};
use crate::connection::{Line, Matter};
use crate::proxy::Networks;
use crate::transport::{Socket, TlsConfig, Transport};

/// A listening socket.
pub(crate) struct Listener {
    socket: ListenSocket,
    tls: Option<TlsConfig>,
    /// It was not bound here: others may have it as well.
    given: bool,
    /// The process was started with it.
    pub(super) inherited: bool,
    /// The place that it is of, by its name; those of one place share the pointer.
    pub(super) place: Rc<str>,
    /// The header of the PROXY protocol comes first, and only from these.
    pub(super) proxies: Option<Rc<Networks>>,
    /// The last accept did not say that the kernel's queue is empty.
    pub(super) pending: bool,
    /// Accepting is paused until then, in milliseconds of the reactor.
    pub(super) retry_at: Option<u64>,
    /// How long the next pause lasts, in milliseconds.
    pause: u64,
}

enum ListenSocket {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        path: Option<PathBuf>,
        /// What was bound here. It is removed when the listener closes, if the file is still this
        /// one.
        file: Option<FileId>,
        /// Accepted sockets do not inherit them.
        buffers: Buffers,
    },
    /// The clients are a test's.
    #[cfg(test)]
    Simulated(Rc<dyn Port>),
}

/// A simulated listening socket: what a test has to play.
#[cfg(test)]
pub(crate) trait Port {
    /// Accepts a connection, as accept(2).
    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)>;

    /// Listens, or not any more.
    fn listen(&self, on: bool) -> io::Result<()>;
}

/// What accepting came to.
pub(super) enum Accepting {
    Connection(Transport, Option<SocketAddr>),
    /// The kernel's queue is empty.
    Empty,
    /// Descriptors or memory ran out.
    Exhausted(io::Error),
    /// TLS cannot be started for a connection; it is closed.
    Failed(io::Error, Option<SocketAddr>),
}

impl Listener {
    pub(super) fn bind_tcp(
        addr: SocketAddr,
        only_v6: Option<bool>,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        let domain = Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        // A restarted server gets its port back from connections in TIME_WAIT.
        socket.set_reuse_address(true)?;
        if let Some(only) = only_v6.filter(|_| addr.is_ipv6()) {
            socket.set_only_v6(only)?;
        }
        if config.reuse_port {
            reuse_port(&socket)?;
        }
        // tcp(7): "the socket buffer size must be set prior to the listen(2) or connect(2) calls in
        // order to have it take effect", since the window's scale follows from it.
        set_buffers(&SockRef::from(&socket), config.buffers)?;
        socket.bind(&addr.into())?;
        socket.listen(config.backlog)?;
        Self::tcp(socket.into(), tls, config)
    }

    /// Takes a socket that listens already.
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
        // Accepted sockets inherit these, which saves a system call for each.
        let socket = SockRef::from(&listener);
        socket.set_tcp_nodelay(config.nodelay)?;
        if !config.keepalive.is_zero() {
            // The kernel counts in whole seconds, and Linux up to 32,767.
            let time = config.keepalive.clamp(KEEPALIVE_MIN, KEEPALIVE_MAX);
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
        }
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
        // A socket that nobody listens on was left behind by a server that died. Connecting to
        // any other file is refused as well.
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
        // From here on the file is removed when something fails.
        let listener = Self::new(
            ListenSocket::Unix {
                socket: UnixListener::from_std(OwnedFd::from(socket).into()),
                path: Some(path.to_owned()),
                file: file_id(path).ok(),
                buffers: config.buffers,
            },
            tls,
        );
        // Before the socket listens: until then connecting is refused (connect(2)), so nobody comes
        // in by what the umask allowed.
        if let Some(mode) = mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        SockRef::from(&listener.socket()).listen(config.backlog)?;
        Ok(listener)
    }

    /// Takes a Unix socket that listens already. Its file is left to whoever made it.
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

    /// Listens on a port of a test.
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
            place: Rc::from(""),
            proxies: None,
            pending: true,
            retry_at: None,
            pause: PAUSE_MIN,
        }
    }

    /// Stops listening; returns how to go on. What was bound here is closed; another socket is only
    /// not accepted from, since whoever has it besides would keep its address taken.
    pub(super) fn close(mut self, registry: &mio::Registry) -> Option<Closed> {
        // epoll(7), Q6: if another process has the socket as well, closing it would not do.
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
        if self.given {
            // Who came meanwhile is accepted when it goes on.
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

    /// Leaves the file of a Unix socket where it is when the listener closes.
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

    /// Has the kernel look for packets itself instead of waiting for an interrupt, for so long;
    /// accepted sockets inherit it. A Unix socket has none.
    pub(super) fn busy_poll(&self, time: Duration) -> io::Result<()> {
        match &self.socket {
            ListenSocket::Tcp(socket) => busy_poll(&SockRef::from(socket), time),
            ListenSocket::Unix { .. } => Ok(()),
            #[cfg(test)]
            ListenSocket::Simulated(_) => Ok(()),
        }
    }

    /// Returns the address that is listened on; `None` for a Unix socket.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenSocket::Tcp(socket) => socket.local_addr().ok(),
            ListenSocket::Unix { .. } => None,
            #[cfg(test)]
            ListenSocket::Simulated(_) => None,
        }
    }

    /// Returns the path that is listened on; `None` for TCP, and for a Unix socket without one.
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
                            "a connection keeps the system's buffer sizes: {error}"
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
            // accept(2), "Error handling": the connection died in the queue, or a signal came. What
            // remains is a lack of descriptors or memory, which trying again at once cannot mend.
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

    /// Pauses accepting, longer each time in a row.
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
            // Whoever listens there next makes it anew.
            let _ = fs::remove_file(path);
        }
    }
}

/// Lets other sockets listen on the same address.
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
    // Less than a microsecond is one: zero is off.
    let micros = time.as_micros().clamp(1, i32::MAX as u128) as u32;
    socket.set_busy_poll(micros)
}

#[cfg(not(target_os = "linux"))]
fn busy_poll(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Sets how much the kernel holds for a connection each way, as far as that is wanted.
fn set_buffers(socket: &SockRef<'_>, buffers: Buffers) -> io::Result<()> {
    // The kernel's number is an `int`.
    let most = |bytes: usize| bytes.min(i32::MAX as usize);
    if buffers.recv > 0 {
        socket.set_recv_buffer_size(most(buffers.recv))?;
    }
    if buffers.send > 0 {
        socket.set_send_buffer_size(most(buffers.send))?;
    }
    Ok(())
}

/// Tells a socket that only looks like a listener: accepting from it would fail forever.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn check_listening(socket: &SockRef<'_>) -> io::Result<()> {
    match socket.is_listener()? {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the socket does not listen",
        )),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn check_listening(_: &SockRef<'_>) -> io::Result<()> {
    Ok(())
}

/// What tells a file from another of the same name: its device and inode.
type FileId = (u64, u64);

fn file_id(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The first and the longest pause, in milliseconds.
const PAUSE_MIN: u64 = 50;
const PAUSE_MAX: u64 = 1000;

/// What the kernel takes for the time before the first keep-alive probe.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
