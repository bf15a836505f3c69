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

/// A client's TLS stream.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A server's configuration, read from files as programs do, and a client's that trusts it.
pub struct Identity {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    pub certificate: CertificateDer<'static>,
}

impl Identity {
    pub fn new() -> Self {
        Self::in_files(&TempDir::new())
    }

    /// One whose files, `chain.pem` and `key.pem`, are of further use.
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

    /// The client's half of a session that has not begun.
    pub fn session(&self) -> ClientConnection {
        session(&self.client, "localhost")
    }

    /// A client over TLS. Its session begins with the first bytes.
    pub fn connect(&self, addr: SocketAddr) -> Client<TlsStream> {
        Client::over(self.stream(addr))
    }

    /// A stream of TLS.
    pub fn stream(&self, addr: SocketAddr) -> TlsStream {
        dial(&self.client, "localhost", addr)
    }

    /// A client over TLS whose opening handshake is done.
    pub fn ready(&self, addr: SocketAddr) -> Client<TlsStream> {
        let mut client = self.connect(addr);
        client.upgrade();
        client
    }
}

/// What a client shows of itself: a chain, and the key that is to be that of its first.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client that trusts these certificates.
pub fn client<'a>(
    trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    shown: Option<Shown>,
) -> ClientConfig {
    client_of(ALL_VERSIONS, trusted, shown)
}

/// A client that speaks these versions of TLS.
pub fn client_of<'a>(
    versions: &[&'static SupportedProtocolVersion],
    trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    shown: Option<Shown>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    // Whatever the server's is.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let Some((chain, key)) = shown else {
        return builder.with_no_client_auth();
    };
    // Unlike `with_client_auth_cert` this takes a key that does not fit.
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    builder.with_client_cert_resolver(Arc::new(shown))
}

/// The client's half of a session that has not begun, with the server that it asks for.
pub fn session(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(config.clone(), name).unwrap();
    session.set_buffer_limit(None);
    session
}

/// A stream of TLS, with the server that it asks for. Its session begins with the first bytes.
pub fn dial(config: &Arc<ClientConfig>, name: &str, addr: SocketAddr) -> TlsStream {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    StreamOwned::new(session(config, name), socket)
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
