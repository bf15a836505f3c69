//! Stream sockets.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use socket2::SockRef;

/// A connected, non-blocking stream socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A socket whose other end is a test.
    #[cfg(test)]
    Simulated(Box<dyn Wire>),
}

/// An accepted socket from another server in the process, for
/// [`Handle::adopt`](crate::Handle::adopt): made from a `TcpStream` or a `UnixStream` of std.
#[derive(Debug)]
pub struct StreamSocket(StdStream);

#[derive(Debug)]
enum StdStream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl From<std::net::TcpStream> for StreamSocket {
    fn from(socket: std::net::TcpStream) -> Self {
        Self(StdStream::Tcp(socket))
    }
}

impl From<std::os::unix::net::UnixStream> for StreamSocket {
    fn from(socket: std::os::unix::net::UnixStream) -> Self {
        Self(StdStream::Unix(socket))
    }
}

impl StreamSocket {
    /// Configures the socket like those of listeners; returns it and the peer's address.
    pub(crate) fn into_socket(self, nodelay: bool) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self.0 {
            StdStream::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(nodelay)?;
                let addr = socket.peer_addr()?;
                Ok((Socket::Tcp(TcpStream::from_std(socket)), Some(addr)))
            }
            StdStream::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(socket)), None))
            }
        }
    }
}

/// Sets how much unsent data the kernel takes (TCP_NOTSENT_LOWAT), and how long sent data may stay
/// unacknowledged (TCP_USER_TIMEOUT), where the system can. Zero changes nothing.
#[cfg(any(target_os = "android", target_os = "linux"))]
pub(crate) fn set_tcp_limits(
    socket: &SockRef<'_>,
    notsent_lowat: u32,
    user_timeout: Duration,
) -> io::Result<()> {
    if notsent_lowat > 0 {
        socket.set_tcp_notsent_lowat(notsent_lowat)?;
    }
    if !user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(user_timeout))?;
    }
    Ok(())
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub(crate) fn set_tcp_limits(_: &SockRef<'_>, _: u32, _: Duration) -> io::Result<()> {
    Ok(())
}

/// A simulated socket, implemented by a test.
#[cfg(test)]
pub(crate) trait Wire {
    /// Reads as readv(2).
    fn receive(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Writes as writev(2).
    fn transmit(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Returns the state of the sent bytes, if it is known.
    fn delivery(&self) -> Option<super::Delivery> {
        None
    }

    /// Sets the token for all further events of the socket.
    fn register(&mut self, _token: mio::Token) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
impl Read for dyn Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive(buffers)
    }
}

#[cfg(test)]
impl Write for dyn Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.transmit(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.transmit(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// Sends FIN after the written bytes.
    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(test)]
            Self::Simulated(wire) => wire.shutdown_write(),
        }
    }

    /// Has the kernel accept little data beyond what it has sent, where it can.
    pub(crate) fn limit_unsent(&self, bytes: u32) {
        if let Self::Tcp(socket) = self {
            // Without it, more outdated data is sent.
            let _ = set_tcp_limits(&SockRef::from(socket), bytes, Duration::ZERO);
        }
    }

    /// Returns whether Nagle's algorithm is off; true for a Unix socket, which has none.
    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(socket) => socket.nodelay(),
            _ => Ok(true),
        }
    }

    /// Switches Nagle's algorithm off (TCP_NODELAY) or on.
    pub(crate) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nodelay(nodelay),
            _ => Ok(()),
        }
    }

    /// Returns the address that the peer connected to; `None` for a Unix socket.
    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(socket) => Some(socket.as_fd()),
            Self::Unix(socket) => Some(socket.as_fd()),
            #[cfg(test)]
            Self::Simulated(_) => None,
        }
    }

    /// Registers the socket for both readiness edges; called once.
    pub(crate) fn register(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
    ) -> io::Result<()> {
        let interests = mio::Interest::READABLE | mio::Interest::WRITABLE;
        match self {
            Self::Tcp(socket) => registry.register(socket, token, interests),
            Self::Unix(socket) => registry.register(socket, token, interests),
            #[cfg(test)]
            Self::Simulated(wire) => wire.register(token),
        }
    }
}

/// Calls the same method on each kind of socket.
macro_rules! either {
    ($self:ident, $socket:ident => $call:expr) => {
        match $self {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
            #[cfg(test)]
            Socket::Simulated($socket) => $call,
        }
    };
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, socket => socket.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        either!(self, socket => socket.read_vectored(buffers))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, socket => socket.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, socket => socket.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
