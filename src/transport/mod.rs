//! The byte streams: TCP, Unix sockets, TLS over either, and a simulated socket in tests.
//!
//! All I/O is non-blocking and edge-triggered (epoll(7), Q9): a short read has drained the socket,
//! a short write has filled it.

#[cfg(target_os = "linux")]
mod delivery;
#[cfg(not(target_os = "linux"))]
#[path = "no_delivery.rs"]
mod delivery;
mod socket;

#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod provider;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
#[cfg(feature = "tls")]
mod validity;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::BorrowedFd;

use crate::reasons::TlsFailure;

#[cfg(feature = "tls")]
pub use certificates::{Certificates, ClientCertificates};
pub(crate) use delivery::Deliveries;
#[cfg(feature = "tls")]
pub use pem::config_from_pem;
#[cfg(feature = "tls")]
pub use provider::crypto_provider;
pub use socket::StreamSocket;
#[cfg(test)]
pub(crate) use socket::Wire;
pub(crate) use socket::{Socket, set_tcp_limits};
pub(crate) use tls::{Tls, TlsConfig};

/// The state of the bytes that the kernel accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Delivery {
    /// Bytes that the peer has acknowledged since the connection began.
    pub(crate) acknowledged: u64,
    /// Bytes that the peer has not acknowledged.
    pub(crate) waiting: usize,
}

/// The result of one read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Received {
    /// Number of bytes read.
    pub(crate) bytes: usize,
    /// Whether the kernel has nothing more; an event announces further bytes.
    pub(crate) drained: bool,
    /// Whether the peer has ended its side.
    pub(crate) eof: bool,
    /// Whether the kernel had nothing at all, not even an end.
    pub(crate) blocked: bool,
}

impl Received {
    /// Interprets the result of a read into `room` bytes; `None` if the read was interrupted.
    pub(crate) fn of(result: io::Result<usize>, room: usize) -> io::Result<Option<Self>> {
        match result {
            Ok(bytes) => Ok(Some(Self {
                bytes,
                drained: bytes < room,
                eof: bytes == 0,
                blocked: false,
            })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(Self {
                drained: true,
                blocked: true,
                ..Self::default()
            })),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A socket, and the TLS session over it if there is one.
pub(crate) enum Transport {
    /// The socket without TLS.
    Plain(Socket),
    /// TLS over the socket.
    Secure(Socket, Box<Tls>),
}

impl Transport {
    /// Makes the server's side of a TLS session over `socket`.
    pub(crate) fn secure(socket: Socket, config: &TlsConfig) -> io::Result<Self> {
        Tls::new(config.clone()).map(|session| Self::Secure(socket, Box::new(session)))
    }

    /// Reads at most once from the kernel, except where TLS needs more bytes.
    ///
    /// The first bytes go to `landing` (never with TLS), the others to `buffer`; `scratch` takes
    /// TLS records. Returns the number of bytes in `landing`, and the result for all bytes.
    pub(crate) fn read(
        &mut self,
        landing: &mut [u8],
        buffer: &mut [u8],
        scratch: &mut Vec<u8>,
    ) -> io::Result<(usize, Received)> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Secure(socket, session) => {
                if scratch.len() < buffer.len() {
                    scratch.resize(buffer.len(), 0);
                }
                return Ok((0, session.read(socket, buffer, scratch)?));
            }
        };
        let room = landing.len() + buffer.len();
        loop {
            let result = if landing.is_empty() {
                socket.read(buffer)
            } else {
                let mut slices = [IoSliceMut::new(landing), IoSliceMut::new(buffer)];
                socket.read_vectored(&mut slices)
            };
            if let Some(received) = Received::of(result, room).transpose() {
                return received.map(|received| (received.bytes.min(landing.len()), received));
            }
        }
    }

    /// Reads once from a socket without TLS, and fills the parts in order.
    pub(crate) fn read_parts(&mut self, parts: [&mut [u8]; 3]) -> io::Result<Received> {
        let room = parts.iter().map(|part| part.len()).sum();
        let mut slices = parts.map(IoSliceMut::new);
        loop {
            let result = self.socket_mut().read_vectored(&mut slices);
            if let Some(received) = Received::of(result, room).transpose() {
                return received;
            }
        }
    }

    /// Reads once from a socket without TLS, and returns the kernel's result; `None` with TLS. See
    /// [`Received::of`].
    #[inline(always)]
    pub(crate) fn read_plain(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Some(socket.read(buffer)),
            Self::Secure(..) => None,
        }
    }

    /// Writes once to a socket without TLS, and returns the kernel's result; writes nothing with
    /// TLS.
    #[inline(always)]
    pub(crate) fn write_plain(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(..) => Ok(0),
        }
    }

    /// Writes as much of `slices` as the kernel or TLS accepts; returns 0 if that is nothing.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Secure(socket, session) => return session.write(socket, slices),
        };
        loop {
            let result = match slices {
                [slice] => socket.write(slice),
                slices => socket.write_vectored(slices),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Writes the ciphertext that TLS holds back; returns whether none is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Secure(socket, session) => session.flush(socket),
        }
    }

    /// Ends the server's side with close_notify and FIN. Returns whether that is done; if not, the
    /// kernel must first accept the ciphertext that TLS holds back.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<bool> {
        if let Self::Secure(socket, session) = self {
            session.close_notify(socket)?;
            if !session.flush(socket)? {
                return Ok(false);
            }
        }
        self.socket_mut().shutdown_write()?;
        Ok(true)
    }

    /// Returns whether the TLS handshake is still under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secure(_, session) => session.is_handshaking(),
        }
    }

    /// Returns whether the TLS handshake has begun and is not complete.
    pub(crate) fn is_shaking_hands(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secure(_, session) => session.is_handshaking() && session.has_begun(),
        }
    }

    /// Returns the reason of the TLS failure, if `error` is one.
    pub(crate) fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        match self {
            Self::Plain(_) => None,
            Self::Secure(_, session) => session.failure(error),
        }
    }

    /// Returns the name that the peer requested (SNI), also during the TLS handshake.
    pub(crate) fn asked_name(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Secure(_, session) => session.server_name(),
        }
    }

    /// Returns received bytes without TLS until [`begin`](Self::begin): the header of the PROXY
    /// protocol comes before TLS.
    pub(crate) fn wait_for_header(&mut self) {
        if let Self::Secure(_, session) = self {
            session.wait_for_header();
        }
    }

    /// Begins TLS after the header of the PROXY protocol, with the bytes that arrived after it in
    /// `early`. Returns whether the transport uses TLS.
    pub(crate) fn begin(&mut self, early: &[u8]) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secure(_, session) => {
                session.begin(early);
                true
            }
        }
    }

    /// Returns the socket of a TLS connection whose client sends plain HTTP, for a plain response.
    pub(crate) fn plain_http(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Secure(socket, session) if session.is_plain_http() => Some(socket),
            _ => None,
        }
    }

    /// Returns the approximate memory of the TLS session, and the ciphertext that it holds back, in
    /// bytes.
    pub(crate) fn held(&self) -> (usize, usize) {
        match self {
            Self::Plain(_) => (0, 0),
            Self::Secure(_, session) => session.held(),
        }
    }

    /// Returns how many bytes of ciphertext the kernel has accepted; `None` without TLS.
    pub(crate) fn written(&self) -> Option<u64> {
        match self {
            Self::Plain(_) => None,
            Self::Secure(_, session) => Some(session.written()),
        }
    }

    /// Returns whether the kernel has accepted ciphertext since the last call.
    pub(crate) fn take_progress(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secure(_, session) => session.take_progress(),
        }
    }

    /// Returns whether TLS holds back ciphertext that the kernel has not accepted.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secure(_, session) => session.wants_write(),
        }
    }

    /// Returns the peer's certificate chain in DER, its own certificate first; none before the TLS
    /// handshake is complete.
    pub(crate) fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.session().into_iter().flat_map(Tls::peer_certificates)
    }

    /// Returns the name that the peer requested (SNI), if any.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.session()?.server_name()
    }

    /// Returns the TLS session once its handshake is complete.
    fn session(&self) -> Option<&Tls> {
        match self {
            Self::Secure(_, session) if !session.is_handshaking() => Some(session),
            _ => None,
        }
    }

    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(..))
    }

    pub(crate) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) | Self::Secure(socket, _) => socket,
        }
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) | Self::Secure(socket, _) => socket,
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket().fd()
    }
}
