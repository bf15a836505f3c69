//! Listening sockets, and what happens when descriptors run out.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use crate::config::Config;
use crate::transport::{Socket, TlsConfig, Transport};

/// A listening socket.
pub(super) struct Listener {
    socket: ListenSocket,
    tls: Option<TlsConfig>,
    /// The last accept did not say that the kernel's queue is empty.
    pub(super) pending: bool,
    /// Accepting is paused until then, in milliseconds of the reactor.
    pub(super) retry_at: Option<u64>,
    /// How long the next pause lasts, in milliseconds.
    pause: u64,
}

enum ListenSocket {
    Tcp(TcpListener),
    /// The path is removed when the listener closes, if the file is still this one.
    Unix(UnixListener, PathBuf, FileId),
}

/// What accepting came to.
pub(super) enum Accepting {
    Connection(Transport, Option<SocketAddr>),
    /// The kernel's queue is empty.
    Empty,
    /// Descriptors or memory ran out.
    Exhausted(io::Error),
}

impl Listener {
    pub(super) fn bind_tcp(
        addr: SocketAddr,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        let domain = Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        // A restarted server gets its port back from connections in TIME_WAIT.
        socket.set_reuse_address(true)?;
        if config.reuse_port {
            reuse_port(&socket)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(config.backlog)?;
        Self::adopt(socket.into(), tls, config)
    }

    /// Takes a socket that listens already.
    pub(super) fn adopt(
        listener: StdTcpListener,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Accepted sockets inherit it, which saves a system call for each.
        SockRef::from(&listener).set_tcp_nodelay(config.nodelay)?;
        Ok(Self::new(
            ListenSocket::Tcp(TcpListener::from_std(listener)),
            tls,
        ))
    }

    pub(super) fn bind_unix(
        path: &Path,
        tls: Option<TlsConfig>,
        config: &Config,
    ) -> io::Result<Self> {
        // A socket that nobody listens on was left behind by a server that died. Connecting to
        // any other file is refused as well.
        if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
            probe.set_nonblocking(true)?;
            let refused = probe.connect(&SockAddr::unix(path)?);
            if refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                std::fs::remove_file(path)?;
            }
        }
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(config.backlog)?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into());
        let id = file_id(path).unwrap_or_default();
        Ok(Self::new(
            ListenSocket::Unix(listener, path.to_owned(), id),
            tls,
        ))
    }

    fn new(socket: ListenSocket, tls: Option<TlsConfig>) -> Self {
        Self {
            socket,
            tls,
            pending: true,
            retry_at: None,
            pause: PAUSE_MIN,
        }
    }

    pub(super) fn register(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
    ) -> io::Result<()> {
        match &mut self.socket {
            ListenSocket::Tcp(socket) => registry.register(socket, token, mio::Interest::READABLE),
            ListenSocket::Unix(socket, ..) => {
                registry.register(socket, token, mio::Interest::READABLE)
            }
        }
    }

    /// Has the kernel look for packets itself instead of waiting for an interrupt, for so long;
    /// accepted sockets inherit it. A Unix socket has none.
    pub(super) fn busy_poll(&self, time: Duration) -> io::Result<()> {
        match &self.socket {
            ListenSocket::Tcp(socket) => busy_poll(&SockRef::from(socket), time),
            ListenSocket::Unix(..) => Ok(()),
        }
    }

    /// Returns the address that is listened on; `None` for a Unix socket.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenSocket::Tcp(socket) => socket.local_addr().ok(),
            ListenSocket::Unix(..) => None,
        }
    }

    /// Accepts one connection.
    pub(super) fn accept(&mut self) -> Accepting {
        loop {
            let result = match &self.socket {
                ListenSocket::Tcp(socket) => socket
                    .accept()
                    .map(|(socket, addr)| (Socket::Tcp(socket), Some(addr))),
                ListenSocket::Unix(socket, ..) => socket
                    .accept()
                    .map(|(socket, _)| (Socket::Unix(socket), None)),
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
                            log::error!("cannot start tls for a connection: {error}");
                            continue;
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
        if let ListenSocket::Unix(_, path, id) = &self.socket
            && file_id(path).is_ok_and(|now| now == *id)
        {
            // Whoever listens there next makes it anew.
            let _ = std::fs::remove_file(path);
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

/// What tells a file from another of the same name: its device and inode.
type FileId = (u64, u64);

fn file_id(path: &Path) -> io::Result<FileId> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The first and the longest pause, in milliseconds.
const PAUSE_MIN: u64 = 50;
const PAUSE_MAX: u64 = 1000;
