//! TLS for the tests: a certificate in files, and a client that trusts it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::temp::TempDir;
use super::{Client, PATIENCE};

/// A client's TLS stream.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A server's configuration, read from files as programs do, and a client's that trusts it.
pub struct Identity {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

impl Identity {
    pub fn new() -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let dir = TempDir::new();
        let (chain, key) = (dir.path("chain.pem"), dir.path("key.pem"));
        std::fs::write(&chain, issued.cert.pem()).unwrap();
        std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
        Self {
            server: wsloop::config_from_pem(chain, key).unwrap(),
            client: trusting(issued.cert.der()),
        }
    }

    /// The client's half of a session that has not begun.
    pub fn session(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(self.client.clone(), name).unwrap();
        session.set_buffer_limit(None);
        session
    }

    /// A client over TLS. Its session begins with the first bytes.
    pub fn connect(&self, addr: SocketAddr) -> Client<TlsStream> {
        Client::over(self.stream(addr))
    }

    /// A stream of TLS.
    pub fn stream(&self, addr: SocketAddr) -> TlsStream {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        StreamOwned::new(self.session(), socket)
    }

    /// A client over TLS whose opening handshake is done.
    pub fn ready(&self, addr: SocketAddr) -> Client<TlsStream> {
        let mut client = self.connect(addr);
        client.upgrade();
        client
    }
}

fn trusting(certificate: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A socket that takes and gives one byte at a time.
pub struct Trickle<S>(pub S);

impl<S: Read> Read for Trickle<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let size = buf.len().min(1);
        self.0.read(&mut buf[..size])
    }
}

impl<S: Write> Write for Trickle<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(&buf[..buf.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
