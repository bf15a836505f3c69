//! The sockets of the clients, plain or with TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// A non-blocking socket.
pub(crate) struct Stream {
    pub(crate) socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Got {
    Bytes(usize),
    /// Nothing is available.
    Nothing,
    /// The end of the stream, orderly or by a reset.
    End,
}

impl Stream {
    /// Starts to connect, from one of several local addresses, so that ports do not run out.
    ///
    /// # Errors
    ///
    /// Returns the errors of the kernel.
    pub(crate) fn connect(
        server: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        number: u64,
        small_buffer: bool,
    ) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if small_buffer {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        let host = (number % SOURCES) as u8 + 2;
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into())?;
        match socket.connect(&server.into()) {
            Ok(()) => {}
            // EINPROGRESS: the connect continues in the background.
            Err(error) if error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(error).context("cannot connect"),
        }
        let session = |config| {
            let name = ServerName::IpAddress(server.ip().into());
            ClientConnection::new(Arc::clone(config), name).map(Box::new)
        };
        Ok(Self {
            socket: TcpStream::from_std(socket.into()),
            tls: tls.map(session).transpose()?,
        })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads available bytes.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        loop {
            let Some(tls) = &mut self.tls else {
                return got(self.socket.read(buffer));
            };
            match tls.reader().read(buffer) {
                Ok(0) => return Ok(Got::End),
                Ok(size) => return Ok(Got::Bytes(size)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end without a close_notify. The Close frame shows whether the stream is
                // complete.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Got::End),
                Err(error) => return Err(error),
            }
            match got(tls.read_tls(&mut self.socket))? {
                Got::Nothing => return Ok(Got::Nothing),
                // The remaining data comes first; then the reader reports the end.
                Got::End if tls.is_handshaking() => return Ok(Got::End),
                Got::End | Got::Bytes(_) => {}
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            self.flush()?;
        }
    }

    /// Writes as many bytes as the socket accepts, and returns their number.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return match self.socket.write(bytes) {
                Err(error) if is_not_yet(&error) => Ok(0),
                written => written,
            };
        };
        if tls.is_handshaking() {
            self.flush()?;
            return Ok(0);
        }
        let mut taken = 0;
        loop {
            let Some(tls) = &mut self.tls else {
                return Ok(taken);
            };
            let more = match taken < bytes.len() {
                true => tls.writer().write(&bytes[taken..])?,
                false => 0,
            };
            taken += more;
            if !self.flush()? || more == 0 {
                return Ok(taken);
            }
        }
    }

    /// Writes TLS records to the socket; returns whether it accepted all of them.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Ok(true);
        };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if is_not_yet(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Shuts down the sending side: sends a close_notify if there is TLS, and a FIN. Errors do not
    /// matter, because the stream is over.
    pub(crate) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        let _ = self.flush();
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Makes the kernel reset the connection when the socket is closed.
    pub(crate) fn reset(&mut self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Writes only the first part of a record, or of the first TLS message.
    pub(crate) fn write_half_record(&mut self, bytes: &[u8]) {
        let Some(tls) = &mut self.tls else {
            return;
        };
        let mut record = Vec::new();
        // The client gives up the stream after this, so an error does not matter.
        let _ = tls.writer().write(bytes);
        let _ = tls.write_tls(&mut record);
        let _ = self.socket.write(&record[..record.len() / 2]);
    }
}

fn got(read: io::Result<usize>) -> io::Result<Got> {
    match read {
        Ok(0) => Ok(Got::End),
        Ok(size) => Ok(Got::Bytes(size)),
        Err(error) if is_not_yet(&error) => Ok(Got::Nothing),
        Err(error) if is_end(&error) => Ok(Got::End),
        Err(error) => Err(error),
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    // NotConnected means that the socket is not connected yet.
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}

/// Returns whether an error means that the peer has closed the connection.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}

/// Trusts one certificate. Sessions are never resumed, so every handshake is a full one.
///
/// # Errors
///
/// Fails if the file contains no certificate.
pub(crate) fn client_config(certificate: &Path) -> Result<Arc<ClientConfig>> {
    let certificate = CertificateDer::from_pem_file(certificate)
        .with_context(|| format!("{} holds no certificate", certificate.display()))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The number of local addresses of clients.
const SOURCES: u64 = 50;

/// The receive buffer of a slow client, in bytes.
const SMALL_BUFFER: usize = 16 << 10;
