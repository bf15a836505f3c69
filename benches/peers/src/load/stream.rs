//! Sockets, plain or with TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use super::options::{Deflate, Options};
use super::socketio;

/// The longest time that an opening handshake may take. Under valgrind a server is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// The size of the receive buffer of a socket that takes little data.
const RECEIVE_BUFFER: usize = 4096;
/// The largest segment of a socket that takes little data, as in an Ethernet.
const SEGMENT: u32 = 1460;
/// The `Sec-WebSocket-Accept` for the key of all requests.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A non-blocking socket.
pub(super) enum Stream {
    /// TCP.
    Plain(mio::net::TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, mio::net::TcpStream>>),
}

impl Stream {
    /// Reads available bytes; returns `None` if there are none.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        };
        not_now(read)
    }

    /// Writes as many bytes as the socket accepts; returns `None` if it accepts none.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let written = match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        };
        not_now(written).map(|written| written.filter(|&written| written > 0))
    }

    /// Writes the TLS records that the socket did not accept before.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) if tls.conn.wants_write() => not_now(tls.flush()).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Returns whether a read that did not fill the buffer has read everything.
    pub(super) fn short_read_is_all(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Returns the socket, for registration.
    pub(super) fn socket(&mut self) -> &mut mio::net::TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &mut tls.sock,
        }
    }
}

fn not_now<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        // The socket is not connected yet.
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(None),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// A connection during its handshake, on a blocking socket.
enum Opening {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Opens connections to one server.
pub(super) struct Connector {
    server: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    /// The opening handshake of the client.
    pub(super) request: Vec<u8>,
    raw: bool,
    deflate: Option<Deflate>,
    /// Whether the sockets take little data.
    narrow: bool,
    opened: u32,
}

impl Connector {
    pub(super) fn new(options: &Options) -> Result<Self> {
        Self::to(options.connect, options)
    }

    /// Creates a connector to another node than the first one.
    pub(super) fn to(server: SocketAddr, options: &Options) -> Result<Self> {
        let offer = match options.deflate {
            None => "",
            Some(Deflate::Shared) => {
                "Sec-WebSocket-Extensions: permessage-deflate; \
                 server_no_context_takeover; client_no_context_takeover\r\n"
            }
            Some(Deflate::Dedicated) => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n",
            if options.socketio {
                socketio::TARGET
            } else {
                "/"
            },
        );
        Ok(Self {
            server,
            tls: options.tls.as_deref().map(client_config).transpose()?,
            request: request.into_bytes(),
            raw: options.raw,
            deflate: options.deflate,
            narrow: false,
            opened: 0,
        })
    }

    /// Lets the sockets that open from now on take little data, until the client reads it.
    pub(super) fn narrow(&mut self) {
        self.narrow = true;
    }

    /// Opens `count` connections, up to the server's 101. Takes each step for all connections
    /// before the next step, so that client and server seldom wait for each other.
    pub(super) fn open(&self, count: usize) -> Result<Vec<Stream>> {
        let mut openings = Vec::with_capacity(count);
        for _ in 0..count {
            openings.push(self.connect()?);
        }
        for opening in &mut openings {
            if let Opening::Tls(tls) = opening {
                // Completes the TLS handshake, and sends the buffered request.
                tls.flush().context("no TLS handshake")?;
            }
        }
        let streams = openings.into_iter().map(|opening| self.upgraded(opening));
        streams.collect()
    }

    /// Connects, and sends the request or the first TLS message.
    fn connect(&self) -> Result<Opening> {
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None)?;
        if self.narrow {
            // Both have to be set before the connection is made. The server's kernel derives the
            // size of its send buffer from the segments, which are 64 KiB on the loopback device.
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
            socket.set_tcp_mss(SEGMENT)?;
        }
        socket
            .connect(&self.server.into())
            .context("cannot connect")?;
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let Some(config) = &self.tls else {
            if !self.raw {
                socket.write_all(&self.request)?;
            }
            return Ok(Opening::Plain(socket));
        };
        let mut conn = self.client(config)?;
        conn.writer().write_all(&self.request)?;
        conn.write_tls(&mut socket)?;
        Ok(Opening::Tls(Box::new(StreamOwned::new(conn, socket))))
    }

    /// Waits for the server's 101.
    fn upgraded(&self, opening: Opening) -> Result<Stream> {
        match opening {
            Opening::Plain(mut socket) => {
                if !self.raw {
                    self.read_head(&mut socket)?;
                }
                socket.set_nonblocking(true)?;
                Ok(Stream::Plain(mio::net::TcpStream::from_std(socket)))
            }
            Opening::Tls(mut tls) => {
                self.read_head(&mut tls)?;
                let (conn, socket) = tls.into_parts();
                socket.set_nonblocking(true)?;
                let socket = mio::net::TcpStream::from_std(socket);
                Ok(Stream::Tls(Box::new(StreamOwned::new(conn, socket))))
            }
        }
    }

    /// Starts to connect. Uses one source address after the other, so that closed connections in
    /// TIME-WAIT do not exhaust the ports.
    pub(super) fn begin(&mut self) -> Result<Stream> {
        self.opened = self.opened.wrapping_add(1);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let host = u8::try_from(self.opened % 100).unwrap_or(0) + 2;
            let source = SocketAddr::from(([127, 0, 0, host], 0));
            socket.bind(&source.into())?;
        }
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            // EINPROGRESS: the connect continues in the background.
            Err(error) if error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(error).context("cannot connect"),
        }
        let socket = mio::net::TcpStream::from_std(socket.into());
        Ok(match &self.tls {
            Some(config) => Stream::Tls(Box::new(StreamOwned::new(self.client(config)?, socket))),
            None => Stream::Plain(socket),
        })
    }

    fn client(&self, config: &Arc<ClientConfig>) -> Result<ClientConnection> {
        let name = ServerName::IpAddress(self.server.ip().into());
        let mut conn = ClientConnection::new(Arc::clone(config), name)?;
        conn.set_buffer_limit(None);
        Ok(conn)
    }

    fn read_head(&self, socket: &mut impl Read) -> Result<()> {
        let (mut head, mut byte) = (Vec::with_capacity(512), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if socket
                .read(&mut byte)
                .context("no answer to the handshake")?
                == 0
            {
                bail!("the server closed during the handshake");
            }
            head.push(byte[0]);
        }
        self.check_head(&head)
    }

    /// Checks the server's response to the request.
    pub(super) fn check_head(&self, head: &[u8]) -> Result<()> {
        let head = String::from_utf8_lossy(head);
        let extended = head.contains("permessage-deflate");
        if !head.starts_with("HTTP/1.1 101") {
            bail!("refused: {}", head.lines().next().unwrap_or_default());
        }
        if !head.contains(ACCEPT) {
            bail!("Sec-WebSocket-Accept is wrong or missing: {head}");
        }
        if extended != self.deflate.is_some() {
            bail!("permessage-deflate is not negotiated as it was asked for: {head}");
        }
        Ok(())
    }
}

/// Trusts one certificate. Sessions are never resumed, so every handshake is a full one.
fn client_config(certificate: &Path) -> Result<Arc<ClientConfig>> {
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
