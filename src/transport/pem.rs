//! A TLS configuration from PEM files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WantsServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ConfigBuilder, WantsVerifier};

use crate::error::{BuildError, PemProblem};

/// Reads a certificate chain and its private key from PEM files, and makes a TLS configuration.
///
/// The chain starts with the server's own certificate. The key may be PKCS#8, PKCS#1 or SEC1, not
/// encrypted, and may stand in the same file. Sections of other kinds are skipped.
///
/// The configuration has rustls' safe defaults (TLS 1.3 and 1.2, aws-lc-rs), asks for no client
/// certificate and offers the protocol `http/1.1` (RFC 7301).
/// [`Certificates`](crate::Certificates) does more: several of them, by name, which can be replaced,
/// and certificates of the clients. What else a server may need is a change to a clone of the
/// configuration, or a [`ServerConfig`] built by hand.
///
/// # Errors
///
/// [`BuildError::Pem`], with the path of the file at fault.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> wsloop::Result<()> {
/// let config = wsloop::config_from_pem("chain.pem", "key.pem")?;
/// # drop(config);
/// # Ok(())
/// # }
/// ```
pub fn config_from_pem(
    certificates: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> Result<Arc<ServerConfig>, BuildError> {
    let certificate = certified_key(certificates.as_ref(), key.as_ref())?;
    let config = defaults()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    Ok(Arc::new(with_alpn(config)))
}

/// A configuration that lacks only the certificates.
pub(super) type WantsCertificate = ConfigBuilder<ServerConfig, WantsServerCert>;

/// Begins a configuration with the versions and algorithms that rustls deems safe.
pub(super) fn defaults() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    // Named here, so that what another crate installs for the whole process changes nothing.
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
}

/// Offers the protocol that carries WebSocket's opening handshake.
pub(super) fn with_alpn(mut config: ServerConfig) -> ServerConfig {
    // RFC 7301, 3.2: a server that shares no protocol with what the client offers must refuse it.
    // Browsers offer `http/1.1` for a WebSocket; a client that offers nothing is served as well.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Reads a certificate chain and its key, and holds them against each other.
pub(super) fn certified_key(
    chain_path: &Path,
    key_path: &Path,
) -> Result<CertifiedKey, BuildError> {
    let chain = chain(chain_path)?;
    let key = read_key(key_path).map_err(|problem| at(key_path, problem))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(
        |error| match error {
            rustls::Error::InconsistentKeys(_) => at(key_path, PemProblem::Mismatch),
            rustls::Error::InvalidCertificate(_) => at(chain_path, unusable(error)),
            _ => at(key_path, unusable(error)),
        },
    )
}

/// Reads the certificates of a file, one at least.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    read_chain(path).map_err(|problem| at(path, problem))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemProblem> {
    let text = fs::read(path).map_err(PemProblem::Unreadable)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    if chain.is_empty() {
        return Err(PemProblem::NoCertificate);
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemProblem> {
    let text = fs::read(path).map_err(PemProblem::Unreadable)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        // The parser skips the first form as a section of no known kind (RFC 7468, 11), and
        // stumbles over the headers of the second (RFC 1421, 4.6).
        _ if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY")
            || contains(&text, b"Proc-Type: 4,ENCRYPTED") =>
        {
            PemProblem::EncryptedKey
        }
        pem::Error::NoItemsFound => PemProblem::NoKey,
        error => malformed(error),
    })
}

fn contains(text: &[u8], phrase: &[u8]) -> bool {
    text.windows(phrase.len()).any(|window| window == phrase)
}

pub(super) fn at(path: &Path, problem: PemProblem) -> BuildError {
    BuildError::Pem {
        path: path.to_owned(),
        problem,
    }
}

fn malformed(error: pem::Error) -> PemProblem {
    PemProblem::Malformed(Box::new(error))
}

pub(super) fn unusable(error: rustls::Error) -> PemProblem {
    PemProblem::Unusable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::path::PathBuf;
    use std::process;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD as BASE64;
    use rcgen::{CertifiedKey, KeyPair};

    use super::*;

    /// A directory of this test's own, removed with it.
    struct Files(PathBuf);

    impl Files {
        fn new(test: &str) -> Self {
            let name = format!("wsloop-pem-{}-{test}", process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn issue() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn problem(chain: &Path, key: &Path, at_fault: &Path) -> PemProblem {
        match config_from_pem(chain, key) {
            Err(BuildError::Pem { path, problem }) => {
                assert_eq!(path, at_fault);
                problem
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_chain_and_its_key_are_accepted() {
        let files = Files::new("good");
        let (cert, key) = issue();
        let chain_path = files.write("chain.pem", format!("a remark\n{cert}{}", issue().0));
        let key_path = files.write("key.pem", &key);
        let config = config_from_pem(&chain_path, &key_path).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);

        let both = files.write("both.pem", format!("{key}{cert}"));
        config_from_pem(&both, &both).unwrap();
        let dos = files.write("dos.pem", format!("{key}{cert}").replace('\n', "\r\n"));
        config_from_pem(&dos, &dos).unwrap();
    }

    #[test]
    fn older_key_encodings_are_accepted() {
        let files = Files::new("older");
        // PKCS#8 wraps the older encodings: they start behind a prefix of known length.
        for (algorithm, prefix, label) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, 29, "EC PRIVATE KEY"),
            (&rcgen::PKCS_RSA_SHA256, 26, "RSA PRIVATE KEY"),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let cert = rcgen::CertificateParams::new(["localhost".to_owned()])
                .unwrap()
                .self_signed(&key)
                .unwrap();
            let body = BASE64.encode(&key.serialize_der()[prefix..]);
            let chain_path = files.write("chain.pem", cert.pem());
            let key_path = files.write(
                "key.pem",
                format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"),
            );
            config_from_pem(&chain_path, &key_path).unwrap();
        }
    }

    #[test]
    fn every_problem_has_its_name_and_its_file() {
        let files = Files::new("bad");
        let (cert, key) = issue();
        let good_cert = files.write("good-cert.pem", &cert);
        let good_key = files.write("good-key.pem", &key);

        let missing = files.0.join("missing.pem");
        let found = problem(&missing, &good_key, &missing);
        assert!(matches!(found, PemProblem::Unreadable(_)), "{found:?}");
        assert!(found.source().is_some());
        let found = problem(&good_cert, &files.0, &files.0);
        assert!(matches!(found, PemProblem::Unreadable(_)), "{found:?}");

        let empty = files.write("empty.pem", "");
        let found = problem(&empty, &good_key, &empty);
        assert!(matches!(found, PemProblem::NoCertificate), "{found:?}");
        let found = problem(&good_key, &good_key, &good_key);
        assert!(matches!(found, PemProblem::NoCertificate), "{found:?}");
        let found = problem(&good_cert, &good_cert, &good_cert);
        assert!(matches!(found, PemProblem::NoKey), "{found:?}");
        let found = problem(&good_cert, &empty, &empty);
        assert!(matches!(found, PemProblem::NoKey), "{found:?}");

        for (name, text) in [
            ("cut.pem", &cert[..cert.len() / 2]),
            (
                "base64.pem",
                "-----BEGIN CERTIFICATE-----\n~~~~\n-----END CERTIFICATE-----\n",
            ),
            ("start.pem", "-----BEGIN CERTIFICATE\n"),
        ] {
            let bad = files.write(name, text);
            let found = problem(&bad, &good_key, &bad);
            assert!(matches!(found, PemProblem::Malformed(_)), "{found:?}");
            assert!(found.to_string().starts_with("malformed pem: "));
        }
        let cut = files.write("cut-key.pem", &key[..key.len() / 2]);
        let found = problem(&good_cert, &cut, &cut);
        assert!(matches!(found, PemProblem::Malformed(_)), "{found:?}");

        let pkcs8 = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let sec1 = key.replace("PRIVATE KEY", "EC PRIVATE KEY").replacen(
            "-----\n",
            "-----\nProc-Type: 4,ENCRYPTED\n\n",
            1,
        );
        for text in [pkcs8, sec1] {
            let bad = files.write("encrypted.pem", text);
            let found = problem(&good_cert, &bad, &bad);
            assert!(matches!(found, PemProblem::EncryptedKey), "{found:?}");
        }

        let other_key = files.write("other-key.pem", issue().1);
        let found = problem(&good_cert, &other_key, &other_key);
        assert!(matches!(found, PemProblem::Mismatch), "{found:?}");

        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let bad = files.write("no-key.pem", no_key);
        let found = problem(&good_cert, &bad, &bad);
        assert!(matches!(found, PemProblem::Unusable(_)), "{found:?}");
        let no_cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let bad = files.write("no-cert.pem", no_cert);
        let found = problem(&bad, &good_key, &bad);
        assert!(matches!(found, PemProblem::Unusable(_)), "{found:?}");
    }
}
