//! Faults of the configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The configuration is wrong, or something that it names is not available. `Debug` prints the same
/// text as `Display`.
#[non_exhaustive]
pub enum BuildError {
    /// The name in [`ClientAddress::Header`](crate::ClientAddress::Header) is not a header name.
    /// Carries it.
    BadHeaderName(String),
    /// A [backplane](crate::backplane) could not be started.
    Backplane(io::Error),
    /// An entry of [`Builder::hosts`](crate::Builder::hosts) is not a host. Carries it.
    BadHost(String),
    /// An entry of [`Place::proxy_protocol`](crate::Place::proxy_protocol) or
    /// [`Builder::trusted_proxies`](crate::Builder::trusted_proxies) is neither an address nor a
    /// network. Carries it.
    BadNetwork(String),
    /// An entry of [`Builder::origins`](crate::Builder::origins) is not an origin. Carries it.
    BadOrigin(String),
    /// Two settings contradict each other, or one has a value that cannot work. Carries the
    /// description.
    Conflict(&'static str),
    /// The event loop could not be created.
    EventLoop(io::Error),
    /// An address could not be resolved or bound.
    Listen {
        /// The address or path, as given to the builder.
        address: String,
        /// The reason. For a name with several addresses it lists each with its own reason; its
        /// kind is the common one, or that of the first address.
        source: io::Error,
    },
    /// There is no listener.
    NoListener,
    /// There is no TLS provider: the feature `tls` includes none, and the process has not installed
    /// one.
    NoProvider,
    /// A file with a certificate chain or a private key cannot be used.
    Pem {
        /// The file, as it was given.
        path: PathBuf,
        /// The problem.
        problem: PemProblem,
    },
    /// The TLS provider that the process has installed cannot be used, for instance because it
    /// lacks the cipher suites of TLS 1.2 or 1.3.
    Provider(Box<dyn std::error::Error + Send + Sync>),
    /// A source that was given to the builder cannot be watched.
    Watch(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHeaderName(name) => write!(f, "{name:?} is not a header name"),
            Self::Backplane(error) => write!(f, "cannot start a backplane: {error}"),
            Self::BadHost(entry) => write!(f, "{entry:?} is not a host name"),
            Self::BadNetwork(entry) => write!(
                f,
                "{entry:?} is neither an address, nor a network such as 10.0.0.0/8, nor \"unix:\""
            ),
            Self::BadOrigin(entry) => write!(f, "{entry:?} is not an origin"),
            Self::Conflict(what) => f.write_str(what),
            Self::EventLoop(error) => write!(f, "cannot create the event loop: {error}"),
            Self::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::NoListener => {
                f.write_str("no listener: call Builder::listen or a similar method")
            }
            Self::NoProvider => f.write_str(
                "no TLS provider: enable the feature aws-lc-rs or ring of wsloop, or call \
                 rustls::crypto::CryptoProvider::install_default first",
            ),
            Self::Pem { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Provider(error) => write!(f, "the TLS provider cannot be used: {error}"),
            Self::Watch(error) => write!(f, "cannot watch a source: {error}"),
        }
    }
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Backplane(error)
            | Self::EventLoop(error)
            | Self::Listen { source: error, .. }
            | Self::Watch(error) => error.source(),
            Self::Pem { problem, .. } => problem.source(),
            Self::Provider(error) => error.source(),
            Self::BadHeaderName(_)
            | Self::BadHost(_)
            | Self::BadNetwork(_)
            | Self::BadOrigin(_)
            | Self::Conflict(_)
            | Self::NoListener
            | Self::NoProvider => None,
        }
    }
}

/// The problem of a PEM file, in [`BuildError::Pem`].
#[non_exhaustive]
#[derive(Debug)]
pub enum PemProblem {
    /// The file contains a certificate where a private key is expected.
    CertificateForKey,
    /// The file is binary: DER or PKCS#12 instead of PEM.
    Der,
    /// The file is empty.
    Empty,
    /// The private key is encrypted; it has to be stored without a passphrase.
    EncryptedKey,
    /// The file contains a private key where certificates are expected.
    KeyForCertificate,
    /// The PEM framing or the base64 in it is malformed.
    Malformed(Box<dyn std::error::Error + Send + Sync>),
    /// The private key does not belong to any certificate of the chain.
    Mismatch {
        /// The file with the chain.
        chain: PathBuf,
    },
    /// The file has no `CERTIFICATE` section.
    NoCertificate,
    /// The file has no private key section (PKCS#8, PKCS#1 or SEC1).
    NoKey,
    /// A section has no end: the file was truncated, or is still being written.
    Truncated {
        /// The line at which the section begins, counted from 1.
        line: usize,
    },
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The PEM is well-formed, but its content cannot be used for TLS.
    Unusable(Box<dyn std::error::Error + Send + Sync>),
    /// The file is UTF-16 text.
    Utf16,
    /// The certificate is not valid for the name that it was given for, or the name is not a DNS
    /// name.
    WrongName {
        /// The name.
        name: String,
        /// The names in the certificate, as rustls shows them.
        presented: Vec<String>,
    },
    /// The server's own certificate, to which the private key belongs, is not the first.
    WrongOrder {
        /// Its position in the file, counted from 1.
        position: usize,
    },
}

impl fmt::Display for PemProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateForKey => f.write_str(
                "a certificate where the private key is expected: are the two files swapped?",
            ),
            Self::KeyForCertificate => f.write_str(
                "a private key where the certificate is expected: are the two files swapped?",
            ),
            Self::Der => f.write_str(
                "binary data (DER or PKCS#12), not PEM; convert a certificate with `openssl x509 \
                 -inform der -in FILE -out NEW`, a key with `openssl pkey -inform der -in FILE \
                 -out NEW`, a PKCS#12 file with `openssl pkcs12 -nodes -in FILE -out NEW`",
            ),
            Self::Empty => f.write_str("the file is empty"),
            Self::EncryptedKey => f.write_str(
                "the private key is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`",
            ),
            Self::Malformed(error) => write!(f, "malformed PEM: {error}"),
            Self::Mismatch { chain } => write!(
                f,
                "the private key does not belong to the certificate in {}; use a key and a certificate \
                 that were issued together",
                chain.display()
            ),
            Self::NoCertificate => f.write_str(
                "no certificate in the file: a section `-----BEGIN CERTIFICATE-----` is needed; a \
                 certificate request (CSR) or PKCS#7 data is not a certificate",
            ),
            Self::NoKey => f.write_str(
                "no private key in the file: a section `-----BEGIN PRIVATE KEY-----`, or one of \
                 `RSA` or `EC`, is needed",
            ),
            Self::Truncated { line } => write!(
                f,
                "the section that begins at line {line} has no end: the file is truncated, copy it \
                 again"
            ),
            Self::Unreadable(error) => {
                write!(f, "cannot read the file: {error}")?;
                if error.kind() == io::ErrorKind::PermissionDenied {
                    f.write_str("; give the server's user permission to read it and to enter its directories")?;
                }
                Ok(())
            }
            Self::Unusable(error) => write!(f, "not usable for TLS: {error}"),
            Self::Utf16 => f.write_str("UTF-16 text; store it as ASCII or UTF-8"),
            Self::WrongName { name, presented } if presented.is_empty() => {
                write!(
                    f,
                    "the certificate has no name {name:?}, or this is not a DNS name"
                )
            }
            Self::WrongName { name, presented } => write!(
                f,
                "the certificate has no name {name:?}, it is for {}; use one of these names, or \
                 issue another certificate",
                presented.join(", ")
            ),
            Self::WrongOrder { position } => write!(
                f,
                "the chain is in the wrong order: the server's own certificate comes first, and \
                 here it is number {position}"
            ),
        }
    }
}

impl std::error::Error for PemProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(error) | Self::Unusable(error) => error.source(),
            Self::Unreadable(error) => error.source(),
            Self::CertificateForKey
            | Self::Der
            | Self::Empty
            | Self::EncryptedKey
            | Self::KeyForCertificate
            | Self::Mismatch { .. }
            | Self::NoCertificate
            | Self::NoKey
            | Self::Truncated { .. }
            | Self::Utf16
            | Self::WrongName { .. }
            | Self::WrongOrder { .. } => None,
        }
    }
}
