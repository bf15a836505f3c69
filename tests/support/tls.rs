//! TLS for the tests: a certificate in files, and a client that trusts it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};

use super::temp::TempDir;
use super::{Client, PATIENCE};

/// The TLS stream of a client.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A server's configuration, read from files as programs do, and a client's configuration that
/// trusts it.
pub struct Identity {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    pub certificate: CertificateDer<'static>,
}

impl Identity {
    pub fn new() -> Self {
        Self::in_files(&TempDir::new())
    }

    /// Like [`new`](Self::new), with the files `chain.pem` and `key.pem` in a given directory.
    pub fn in_files(dir: &TempDir) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (dir.path("chain.pem"), dir.path("key.pem"));
        std::fs::write(&chain, issued.cert.pem()).unwrap();
        std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
        Self {
            server: wsloop::config_from_pem(chain, key).unwrap(),
            client: Arc::new(client([issued.cert.der()], None)),
            certificate: issued.cert.der().clone(),
        }
    }

    /// Returns the client's side of a session that has not started.
    pub fn session(&self) -> ClientConnection {
        session(&self.client, "localhost")
    }

    /// Connects a client with TLS. The session starts with the first bytes.
    pub fn connect(&self, addr: SocketAddr) -> Client<TlsStream> {
        Client::over(self.stream(addr))
    }

    /// Returns a TLS stream.
    pub fn stream(&self, addr: SocketAddr) -> TlsStream {
        dial(&self.client, "localhost", addr)
    }

    /// Connects a client with TLS, and performs the opening handshake.
    pub fn ready(&self, addr: SocketAddr) -> Client<TlsStream> {
        let mut client = self.connect(addr);
        client.upgrade();
        client
    }
}

/// A client's certificate chain and private key. The key need not match the chain.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Returns a client configuration that trusts these certificates.
pub fn client<'a>(
    trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    shown: Option<Shown>,
) -> ClientConfig {
    client_of(ALL_VERSIONS, trusted, shown)
}

/// Returns a client configuration for these versions of TLS.
pub fn client_of<'a>(
    versions: &[&'static SupportedProtocolVersion],
    trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    shown: Option<Shown>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    // The provider does not depend on that of the server.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let Some((chain, key)) = shown else {
        return builder.with_no_client_auth();
    };
    // Unlike `with_client_auth_cert`, this accepts a key that does not match.
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    builder.with_client_cert_resolver(Arc::new(shown))
}

/// Returns the client's side of a session that has not started, with the requested server name.
pub fn session(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(config.clone(), name).unwrap();
    session.set_buffer_limit(None);
    session
}

/// Returns a TLS stream with the requested server name. The session starts with the first bytes.
pub fn dial(config: &Arc<ClientConfig>, name: &str, addr: SocketAddr) -> TlsStream {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    StreamOwned::new(session(config, name), socket)
}

/// A socket that reads and writes one byte at a time.
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
