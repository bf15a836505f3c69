//! The server's certificates by the requested name, and the authorities of client certificates.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustls::client::verify_server_name;
use rustls::pki_types::{DnsName, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig};

use super::pem::{self, at};
use crate::error::{BuildError, PemProblem};

/// The certificates of a server: one for each name that clients request (SNI, RFC 6066, 3), and a
/// default for all others. They can be replaced at any time and from any thread.
///
/// Clones share the same certificates. A change takes effect from the next TLS handshake on: open
/// connections keep their certificate, and a client that resumes an earlier session gets none.
///
/// ```no_run
/// use wsloop::{Certificates, Server};
///
/// # fn main() -> wsloop::Result<()> {
/// let certificates = Certificates::from_pem("chain.pem", "key.pem")?;
/// certificates.set_pem("chat.example.com", "chat.pem", "chat-key.pem")?;
/// let server = Server::builder()
///     .listen_tls("0.0.0.0:443", certificates.config()?)
///     .build()?;
/// std::thread::spawn(move || {
///     // Whenever the files were renewed:
///     certificates.set_default_pem("chain.pem", "key.pem")
/// });
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Certificates {
    table: Arc<RwLock<Table>>,
}

#[derive(Default)]
struct Table {
    default: Option<Arc<CertifiedKey>>,
    /// Keyed by name in lower case; `*.` stands for one label.
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Makes an empty store. A client that requests no name, or one without a certificate, is
    /// refused with an alert unless a default is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a store whose default certificate comes from PEM files, as with
    /// [`config_from_pem`](crate::config_from_pem).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`config_from_pem`](crate::config_from_pem).
    pub fn from_pem(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, BuildError> {
        let certificates = Self::new();
        certificates.set_default_pem(chain, key)?;
        Ok(certificates)
    }

    /// Sets the default certificate, for clients that request no name or one without a certificate,
    /// from PEM files.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`config_from_pem`](crate::config_from_pem); the old certificate then
    /// stays.
    pub fn set_default_pem(
        &self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<(), BuildError> {
        let certificate = pem::certified_key(chain.as_ref(), key.as_ref())?;
        self.set_default(certificate);
        Ok(())
    }

    /// Sets the default certificate, for clients that request no name or one without a certificate.
    pub fn set_default(&self, certificate: CertifiedKey) {
        self.write().default = Some(Arc::new(certificate));
    }

    /// Sets the certificate for a name from PEM files. See [`set`](Self::set).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`config_from_pem`](crate::config_from_pem), and
    /// [`PemProblem::WrongName`]; nothing changes then.
    pub fn set_pem(
        &self,
        name: &str,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<(), BuildError> {
        let chain = chain.as_ref();
        let certificate = pem::certified_key(chain, key.as_ref())?;
        self.set(name, certificate).map_err(|error| {
            let presented = match error {
                rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                    presented,
                    ..
                }) => presented,
                _ => Vec::new(),
            };
            let name = name.to_owned();
            at(chain, PemProblem::WrongName { name, presented })
        })
    }

    /// Sets the certificate for clients that request this name, and replaces an earlier one. The
    /// name is `chat.example.com`, or `*.example.com` for all names with one more label that have
    /// no certificate of their own.
    ///
    /// # Errors
    ///
    /// Returns the error of rustls if the certificate is not valid for the name, or the name is not
    /// a DNS name.
    pub fn set(&self, name: &str, certificate: CertifiedKey) -> Result<(), rustls::Error> {
        let name = name.to_ascii_lowercase();
        // A name that the wildcard covers, to verify the certificate against.
        let covered = match name.strip_prefix("*.") {
            Some(domain) => format!("any.{domain}"),
            None => name.clone(),
        };
        let covered = DnsName::try_from(covered)
            .map_err(|_| rustls::Error::General(format!("{name:?} is not a DNS name")))?;
        let own = ParsedCertificate::try_from(certificate.end_entity_cert()?)?;
        verify_server_name(&own, &ServerName::DnsName(covered))?;
        self.write().named.insert(name, Arc::new(certificate));
        Ok(())
    }

    /// Removes the certificate for a name; returns whether there was one. Clients that request the
    /// name then get the wildcard's certificate or the default.
    pub fn remove(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.write().named.remove(&name).is_some()
    }

    /// Makes a TLS configuration with these certificates, rustls' safe defaults (TLS 1.3 and 1.2),
    /// the provider of [`crypto_provider`](crate::crypto_provider) and the protocol `http/1.1`
    /// (RFC 7301). It requests no client certificate.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::NoProvider`] if there is no TLS provider, and [`BuildError::Provider`]
    /// if it cannot be used.
    pub fn config(&self) -> Result<Arc<ServerConfig>, BuildError> {
        let config = pem::defaults()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        Ok(Arc::new(pem::with_alpn(config)))
    }

    /// Makes a TLS configuration like [`config`](Self::config) that also requests the client's
    /// certificate (mutual TLS).
    ///
    /// Sessions are not resumed, because a client does not present its certificate again when it
    /// resumes a session, which could so outlive the certificate. Each connection is a full
    /// handshake.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`config`](Self::config).
    pub fn mutual_config(
        &self,
        clients: &ClientCertificates,
    ) -> Result<Arc<ServerConfig>, BuildError> {
        let mut config = clients.ask()?.with_cert_resolver(Arc::new(self.clone()));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(pem::with_alpn(config)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Returns the certificate for a name in lower case.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.named.get(name).or_else(|| {
            // RFC 9525, 6.3: the wildcard stands for exactly one label.
            let (_, domain) = name.split_once('.')?;
            self.named.get(&format!("*.{domain}"))
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.read();
        // rustls provides the name in lower case.
        let named = hello.server_name().and_then(|name| table.find(name));
        named.or(table.default.as_ref()).cloned()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.read();
        f.debug_struct("Certificates")
            .field("default", &table.default.is_some())
            .field("named", &table.named.keys())
            .finish()
    }
}

/// The authorities that issue client certificates.
///
/// A client certificate must be currently valid and meant for clients (RFC 5280, 4.2.1.12), and its
/// chain must lead to one of the authorities; others are refused with an alert in the TLS
/// handshake, at bounded cost. Revocation is not checked: that requires a
/// [`WebPkiClientVerifier`](rustls::server::WebPkiClientVerifier) and a `ServerConfig` built by
/// hand.
///
/// ```no_run
/// use wsloop::{Certificates, ClientCertificates, Server, event::Handshake};
///
/// # fn main() -> wsloop::Result<()> {
/// let certificates = Certificates::from_pem("chain.pem", "key.pem")?;
/// let clients = ClientCertificates::from_pem("clients-ca.pem")?.optional(true);
/// let builder = Server::builder()
///     .listen_tls("0.0.0.0:443", certificates.mutual_config(&clients)?)
///     .on(Handshake, |conn, _| conn.peer_certificates().next().is_some());
/// # drop(builder);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientCertificates {
    roots: Arc<RootCertStore>,
    optional: bool,
}

impl ClientCertificates {
    /// Reads the certificates of the authorities from a PEM file.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::Pem`] with the path of the file.
    pub fn from_pem(authorities: impl AsRef<Path>) -> Result<Self, BuildError> {
        let path = authorities.as_ref();
        let mut roots = RootCertStore::empty();
        for authority in pem::chain(path)? {
            roots
                .add(authority)
                .map_err(|error| at(path, pem::unusable(error)))?;
        }
        Ok(Self {
            roots: Arc::new(roots),
            optional: false,
        })
    }

    /// Sets whether a client may connect without a certificate; a presented one is verified in any
    /// event. Default `false`.
    pub fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    /// Begins a configuration that requests client certificates.
    fn ask(&self) -> Result<pem::WantsCertificate, BuildError> {
        let builder = pem::defaults()?;
        let provider = builder.crypto_provider().clone();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider);
        let verifier = match self.optional {
            true => verifier.allow_unauthenticated(),
            false => verifier,
        };
        // Cannot fail: `from_pem` found an authority, and there are no revocation lists.
        let verifier = verifier
            .build()
            .map_err(|error| BuildError::Provider(Box::new(error)))?;
        Ok(builder.with_client_cert_verifier(verifier))
    }
}
