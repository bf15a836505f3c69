//! TLS configurations from PEM files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ServerConfig, WantsServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ConfigBuilder, WantsVerifier};

use super::provider::crypto_provider;
use super::validity;
use crate::error::{BuildError, PemProblem};

/// Reads a certificate chain and its private key from PEM files, and makes a TLS configuration.
///
/// The chain starts with the server's own certificate. The key must be unencrypted PKCS#8, PKCS#1
/// or SEC1, and may be in the same file. Sections of other kinds are skipped; line ends,
/// indentation and byte order marks do not matter. A certificate that is not valid at present, or
/// expires within a week, is not an error: a line at `warn` (target `wsloop::tls`) names the file
/// and the date.
///
/// The configuration has rustls' safe defaults (TLS 1.3 and 1.2) with the provider of
/// [`crypto_provider`](crate::crypto_provider), requests no client certificate and offers the
/// protocol `http/1.1` (RFC 7301). [`Certificates`](crate::Certificates) supports more: several
/// certificates by name, which can be replaced, and client certificates. For other needs, change a
/// clone of the configuration or build a [`ServerConfig`] by hand.
///
/// # Errors
///
/// Returns [`BuildError::Pem`] with the path of the faulty file, [`BuildError::NoProvider`] if
/// there is no TLS provider, and [`BuildError::Provider`] if it cannot be used.
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
    let config = defaults()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    Ok(Arc::new(with_alpn(config)))
}

/// A configuration that lacks only the certificates.
pub(super) type WantsCertificate = ConfigBuilder<ServerConfig, WantsServerCert>;

/// Begins a configuration with the versions and algorithms that rustls considers safe.
pub(super) fn defaults() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, BuildError> {
    ServerConfig::builder_with_provider(crypto_provider()?)
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError::Provider(Box::new(error)))
}

/// Offers the protocol that carries WebSocket's opening handshake.
pub(super) fn with_alpn(mut config: ServerConfig) -> ServerConfig {
    // RFC 7301, 3.2: a server that shares no protocol with the client's offer must refuse it.
    // Browsers offer `http/1.1` for a WebSocket; a client without an offer is served as well.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Reads a certificate chain and its key, and checks that they match.
pub(super) fn certified_key(
    chain_path: &Path,
    key_path: &Path,
) -> Result<CertifiedKey, BuildError> {
    let provider = crypto_provider()?;
    let chain = chain(chain_path)?;
    let key = read_key(key_path).map_err(|problem| at(key_path, problem))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| at(key_path, unusable(error)))?;
    let mut certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A provider may not reveal the public key.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(match position(&mut certified) {
                Some(position) => at(chain_path, PemProblem::WrongOrder { position }),
                None => {
                    let chain = chain_path.to_owned();
                    at(key_path, PemProblem::Mismatch { chain })
                }
            });
        }
        Err(error) => return Err(at(chain_path, unusable(error))),
    }
    validity::warn(chain_path, &certified.cert, UnixTime::now());
    Ok(certified)
}

/// Returns the position, from 1 on, of the certificate that the key belongs to.
fn position(certified: &mut CertifiedKey) -> Option<usize> {
    let mut chain = std::mem::take(&mut certified.cert).into_iter();
    let found = chain.position(|certificate| {
        certified.cert = vec![certificate];
        certified.keys_match().is_ok()
    });
    found.map(|index| index + 1)
}

/// Reads the certificates of a file, at least one.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    read_chain(path).map_err(|problem| at(path, problem))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemProblem> {
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    match chain.is_empty() {
        false => Ok(chain),
        true if contains(&text, b"PRIVATE KEY-----") => Err(PemProblem::KeyForCertificate),
        true => Err(PemProblem::NoCertificate),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemProblem> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        // The parser skips the first form as a section of an unknown kind (RFC 7468, 11), and fails
        // on the headers of the second (RFC 1421, 4.6).
        _ if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY")
            || contains(&text, b"Proc-Type: 4,ENCRYPTED") =>
        {
            PemProblem::EncryptedKey
        }
        pem::Error::NoItemsFound if contains(&text, b"BEGIN CERTIFICATE-----") => {
            PemProblem::CertificateForKey
        }
        pem::Error::NoItemsFound => PemProblem::NoKey,
        error => malformed(error),
    })
}

/// Reads a file, and returns its text in the form that the parser accepts.
fn read(path: &Path) -> Result<Vec<u8>, PemProblem> {
    let bytes = fs::read(path).map_err(PemProblem::Unreadable)?;
    if bytes.trim_ascii().is_empty() {
        return Err(PemProblem::Empty);
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(PemProblem::Utf16);
    }
    // The tag of a SEQUENCE (X.690, 8.9), and bytes that do not occur in text.
    let is_binary = bytes.iter().any(|byte| *byte == 0 || *byte >= 0x80);
    if bytes.first() == Some(&0x30) && is_binary && !contains(&bytes, b"-----BEGIN ") {
        return Err(PemProblem::Der);
    }
    plain_lines(&bytes)
}

/// Returns the text without byte order marks, indentation, and missing line ends between sections,
/// which editors and `cat` leave.
fn plain_lines(bytes: &[u8]) -> Result<Vec<u8>, PemProblem> {
    let mut text = Vec::with_capacity(bytes.len());
    // The line at which the current section begins.
    let mut open = None;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        // A single carriage return may also end a line.
        for part in line.split(|byte| *byte == b'\r') {
            let mut rest = part;
            while !rest.is_empty() {
                let glued = rest
                    .windows(GLUED.len())
                    .position(|window| window == GLUED)
                    .map_or(rest.len(), |at| at + 5);
                let (piece, behind) = rest.split_at(glued);
                rest = behind;
                let piece = piece.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(piece);
                let piece = piece.trim_ascii();
                if piece.starts_with(b"-----BEGIN ") {
                    if let Some(line) = open.replace(number) {
                        return Err(PemProblem::Truncated { line });
                    }
                } else if piece.starts_with(b"-----END ") {
                    open = None;
                }
                text.extend_from_slice(piece);
                text.push(b'\n');
            }
        }
    }
    match open {
        Some(line) => Err(PemProblem::Truncated { line }),
        None => Ok(text),
    }
}

/// The end of a section and the start of the next, without a line end between them.
const GLUED: &[u8] = b"----------BEGIN ";

fn contains(text: &[u8], phrase: &[u8]) -> bool {
    text.windows(phrase.len()).any(|window| window == phrase)
}

pub(super) fn at(path: &Path, problem: PemProblem) -> BuildError {
    BuildError::Pem {
        path: path.to_owned(),
        problem,
    }
}

/// Describes in words an error that the parser shows as numbers of bytes.
fn malformed(error: pem::Error) -> PemProblem {
    PemProblem::Malformed(match error {
        pem::Error::IllegalSectionStart { line } => {
            let shown = line[..line.len().min(80)].escape_ascii();
            format!("the line \"{shown}\" does not end with five hyphens").into()
        }
        pem::Error::MissingSectionEnd { end_marker } => {
            let shown = end_marker[..end_marker.len().min(80)].escape_ascii();
            format!("the section {shown} has no end line of that name").into()
        }
        pem::Error::Base64Decode(_) => {
            "a section is not valid base64: the file is damaged, copy it again".into()
        }
        error => Box::new(error),
    })
}

pub(super) fn unusable(error: rustls::Error) -> PemProblem {
    PemProblem::Unusable(match error {
        // The text of the error mentions a peer.
        rustls::Error::InvalidCertificate(error) => {
            format!("the certificate is malformed ({error})").into()
        }
        error => Box::new(error),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD as BASE64;
    use rcgen::{CertifiedKey, KeyPair};

    use super::*;

    /// A temporary directory of one test, removed on drop.
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
        // PKCS#8 wraps the older encodings: they start after a prefix of known length.
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
    fn what_editors_and_concatenation_add_does_not_matter() {
        let files = Files::new("dressed");
        let (cert, key) = issue();
        let other = issue().0;
        let bom = "\u{feff}";
        for text in [
            // A byte order mark, and one in the middle as `cat` leaves it.
            format!("{bom}{cert}{bom}{key}"),
            format!("{cert}{key}").replace('\n', "\r"),
            format!("{cert}{key}").replace('\n', "  \r\n    "),
            // Concatenated files without a final line end.
            format!("{}{}{}", cert.trim_end(), other.trim_end(), key.trim_end()),
        ] {
            let both = files.write("both.pem", &text);
            config_from_pem(&both, &both).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
        let chain_path = files.write("chain.pem", format!("{}{other}", cert.trim_end()));
        assert_eq!(chain(&chain_path).unwrap().len(), 2);
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
        let found = problem(&good_cert, &files.0, &files.0);
        assert!(matches!(found, PemProblem::Unreadable(_)), "{found:?}");
        assert!(found.to_string().contains("directory"), "{found}");

        for text in ["", "\n", " \r\n"] {
            let empty = files.write("empty.pem", text);
            let found = problem(&empty, &good_key, &empty);
            assert!(matches!(found, PemProblem::Empty), "{found:?}");
            let found = problem(&good_cert, &empty, &empty);
            assert!(matches!(found, PemProblem::Empty), "{found:?}");
        }
        let remark = files.write("remark.pem", "a remark\n");
        let found = problem(&remark, &good_key, &remark);
        assert!(matches!(found, PemProblem::NoCertificate), "{found:?}");
        let found = problem(&good_cert, &remark, &remark);
        assert!(matches!(found, PemProblem::NoKey), "{found:?}");
        let found = problem(&good_key, &good_key, &good_key);
        assert!(matches!(found, PemProblem::KeyForCertificate), "{found:?}");
        let found = problem(&good_cert, &good_cert, &good_cert);
        assert!(matches!(found, PemProblem::CertificateForKey), "{found:?}");

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
            assert!(found.to_string().contains("openssl pkey"), "{found}");
        }

        let other_key = files.write("other-key.pem", issue().1);
        let found = problem(&good_cert, &other_key, &other_key);
        assert!(matches!(found, PemProblem::Mismatch { .. }), "{found:?}");
        assert!(found.to_string().contains("good-cert.pem"), "{found}");

        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let bad = files.write("no-key.pem", no_key);
        let found = problem(&good_cert, &bad, &bad);
        assert!(matches!(found, PemProblem::Unusable(_)), "{found:?}");
        let no_cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let bad = files.write("no-cert.pem", no_cert);
        let found = problem(&bad, &good_key, &bad);
        assert!(matches!(found, PemProblem::Unusable(_)), "{found:?}");
        assert!(!found.to_string().contains("peer"), "{found}");
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_says_so_in_words() {
        let files = Files::new("cut");
        let (cert, key) = issue();
        let good_cert = files.write("good-cert.pem", &cert);
        let good_key = files.write("good-key.pem", &key);
        let begin = "-----BEGIN CERTIFICATE-----".len();
        // An end line without its last hyphens does not count.
        for length in (begin..cert.trim_end().len()).step_by(7) {
            let bad = files.write("cut.pem", &cert[..length]);
            let found = problem(&bad, &good_key, &bad);
            let named = matches!(
                found,
                PemProblem::Truncated { line: 1 } | PemProblem::Malformed(_)
            );
            assert!(named, "{length}: {found:?}");
            assert!(!found.to_string().contains("45, 45"), "{found}");
        }
        let cut = files.write("cut-key.pem", &key[..key.len() / 2]);
        let found = problem(&good_cert, &cut, &cut);
        assert!(
            matches!(found, PemProblem::Truncated { line: 1 }),
            "{found:?}"
        );
        // The parser would take the next section for a part of the first.
        let lines = cert.lines().count();
        let half = &cert[..cert.len() / 2];
        let two = files.write("two.pem", format!("{cert}{half}\n{}", issue().0));
        match problem(&two, &good_key, &two) {
            PemProblem::Truncated { line } => assert_eq!(line, lines + 1),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn malformed_text_is_shown_as_text() {
        let files = Files::new("malformed");
        let (cert, key) = issue();
        let good_key = files.write("good-key.pem", key);
        for (text, shown) in [
            (cert.replacen("M", "~~", 1), "not valid base64"),
            (
                cert.replacen("CERTIFICATE-----", "CERTIFICATE", 1),
                r#""-----BEGIN CERTIFICATE""#,
            ),
            (
                cert.replace("-----END CERTIFICATE-----", "-----END CERT-----"),
                "the section CERTIFICATE has no end line",
            ),
        ] {
            let bad = files.write("bad.pem", text);
            let found = problem(&bad, &good_key, &bad);
            assert!(matches!(found, PemProblem::Malformed(_)), "{found:?}");
            assert!(found.to_string().starts_with("malformed PEM: "));
            assert!(found.to_string().contains(shown), "{found}");
        }
    }

    #[test]
    fn other_forms_of_files_are_named() {
        let files = Files::new("forms");
        let (good_cert, good_key) = issue();
        let good_cert = files.write("good-cert.pem", good_cert);
        let good_key = files.write("good-key.pem", good_key);
        // From some 200 bytes to 48 for the smallest key.
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            let cert = params.self_signed(&key).unwrap();
            let bad = files.write("cert.der", cert.der());
            let found = problem(&bad, &good_key, &bad);
            assert!(matches!(found, PemProblem::Der), "{found:?}");
            let bad = files.write("key.der", key.serialize_der());
            let found = problem(&good_cert, &bad, &bad);
            assert!(matches!(found, PemProblem::Der), "{found:?}");
            assert!(found.to_string().contains("openssl pkey -inform der"));
        }
        for (mark, bytes) in [
            (u16::to_le_bytes as fn(u16) -> [u8; 2], "little"),
            (u16::to_be_bytes, "big"),
        ] {
            let text: Vec<u8> = "\u{feff}-----BEGIN CERTIFICATE-----"
                .encode_utf16()
                .flat_map(mark)
                .collect();
            let bad = files.write(bytes, text);
            let found = problem(&bad, &good_key, &bad);
            assert!(matches!(found, PemProblem::Utf16), "{found:?}");
        }
    }

    #[test]
    fn a_chain_in_the_wrong_order_is_not_the_fault_of_the_key() {
        let files = Files::new("order");
        let (cert, key) = issue();
        let key_path = files.write("key.pem", key);
        for before in 1..3 {
            let others: String = (0..before).map(|_| issue().0).collect();
            let chain_path = files.write("chain.pem", format!("{others}{cert}{}", issue().0));
            match problem(&chain_path, &key_path, &chain_path) {
                PemProblem::WrongOrder { position } => assert_eq!(position, before + 1),
                other => panic!("{other:?}"),
            }
        }
    }
}
