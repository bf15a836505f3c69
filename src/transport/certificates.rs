//! The certificates of a server, by the name that the client asks for, and whose certificates the
//! clients have to show.

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

/// The certificates of a server: one for each name that clients ask for (SNI, RFC 6066, 3), and one
/// for all others. They can be replaced at any time and from any thread.
///
/// Clones are the same certificates. What is set serves from the next TLS handshake on; open
/// connections live on with what they began with, and a client that resumes an earlier session is
/// shown no certificate.
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
    /// By names in lower case; `*.` stands for one label.
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Makes a store without any certificate. A client that asks for none of those that are set is
    /// refused by an alert; set a default if that is not wanted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a store whose default certificate comes from PEM files, as with
    /// [`config_from_pem`](crate::config_from_pem).
    ///
    /// # Errors
    ///
    /// As [`config_from_pem`](crate::config_from_pem).
    pub fn from_pem(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, BuildError> {
        let certificates = Self::new();
        certificates.set_default_pem(chain, key)?;
        Ok(certificates)
    }

    /// Sets the certificate for clients that ask for no name, or for one that has none, from PEM
    /// files.
    ///
    /// # Errors
    ///
    /// As [`config_from_pem`](crate::config_from_pem); then the old one stays.
    pub fn set_default_pem(
        &self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<(), BuildError> {
        let certificate = pem::certified_key(chain.as_ref(), key.as_ref())?;
        self.set_default(certificate);
        Ok(())
    }

    /// Sets the certificate for clients that ask for no name, or for one that has none.
    pub fn set_default(&self, certificate: CertifiedKey) {
        self.write().default = Some(Arc::new(certificate));
    }

    /// Sets the certificate for a name from PEM files. See [`set`](Self::set).
    ///
    /// # Errors
    ///
    /// As [`config_from_pem`](crate::config_from_pem), and [`PemProblem::WrongName`]; then nothing
    /// changes.
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

    /// Sets the certificate for clients that ask for this name, in place of the one before. The name
    /// is `chat.example.com`, or `*.example.com` for all names with one label more that have none
    /// of their own.
    ///
    /// # Errors
    ///
    /// That of rustls, if the certificate is not valid for the name, or the name is none.
    pub fn set(&self, name: &str, certificate: CertifiedKey) -> Result<(), rustls::Error> {
        let name = name.to_ascii_lowercase();
        // Any name that the wildcard covers, to ask the certificate for.
        let covered = match name.strip_prefix("*.") {
            Some(domain) => format!("any.{domain}"),
            None => name.clone(),
        };
        let covered = DnsName::try_from(covered)
            .map_err(|_| rustls::Error::General(format!("{name:?} is no dns name")))?;
        let own = ParsedCertificate::try_from(certificate.end_entity_cert()?)?;
        verify_server_name(&own, &ServerName::DnsName(covered))?;
        self.write().named.insert(name, Arc::new(certificate));
        Ok(())
    }

    /// Removes the certificate for a name; returns whether there was one. Clients that ask for the
    /// name get the wildcard's or the default from now on.
    pub fn remove(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.write().named.remove(&name).is_some()
    }

    /// Makes a TLS configuration that shows these certificates, with rustls' safe defaults (TLS 1.3
    /// and 1.2), the provider of [`crypto_provider`](crate::crypto_provider) and the protocol
    /// `http/1.1` (RFC 7301). It asks for no certificate of the client.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoProvider`] and [`BuildError::Provider`], if there is no TLS provider or it
    /// cannot be used.
    pub fn config(&self) -> Result<Arc<ServerConfig>, BuildError> {
        let config = pem::defaults()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        Ok(Arc::new(pem::with_alpn(config)))
    }

    /// Makes a TLS configuration as [`config`](Self::config) does, which asks for the client's
    /// certificate (mutual TLS).
    ///
    /// Sessions are not resumed: a resumed one would not show the certificate again, and so outlive
    /// it. That makes each connection a full handshake.
    ///
    /// # Errors
    ///
    /// As [`config`](Self::config).
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
        // rustls gives the name in lower case.
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

/// Whose certificates clients have to show: those that the given authorities issued.
///
/// A certificate has to be in force and meant for clients (RFC 5280, 4.2.1.12), and its chain has
/// to lead to one of the authorities; what does not is refused by an alert in the TLS handshake, at
/// bounded cost. Revocation is not looked at: that takes a
/// [`WebPkiClientVerifier`](rustls::server::WebPkiClientVerifier) and a `ServerConfig` by hand.
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
    /// [`BuildError::Pem`], with the path of the file.
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

    /// Sets whether a client may come without a certificate; one that it shows is checked all the
    /// same. Default false: such a client is refused.
    pub fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    /// Begins a configuration that asks for them.
    fn ask(&self) -> Result<pem::WantsCertificate, BuildError> {
        let builder = pem::defaults()?;
        let provider = builder.crypto_provider().clone();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider);
        let verifier = match self.optional {
            true => verifier.allow_unauthenticated(),
            false => verifier,
        };
        // `from_pem` found an authority, and there are no revocation lists.
        let verifier = verifier
            .build()
            .map_err(|error| BuildError::Provider(Box::new(error)))?;
        Ok(builder.with_client_cert_verifier(verifier))
    }
}
