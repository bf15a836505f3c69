//! A certificate for the servers with TLS, made for one run.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

/// The files of a certificate, which are removed with this value.
pub(super) struct Certificate {
    folder: PathBuf,
    /// The certificate in PEM.
    pub(super) certificate: String,
    /// Its key in PEM.
    pub(super) key: String,
}

impl Certificate {
    /// Makes a certificate for the local host, with a key on the curve P-256.
    pub(super) fn new() -> Result<Self> {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        let folder = std::env::temp_dir().join(format!("wsloop-peers-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self {
            certificate: certificate.display().to_string(),
            key: key.display().to_string(),
            folder,
        })
    }

    /// A file beside them, for what a tool writes.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // What is in the folder for temporary files may also stay there.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
