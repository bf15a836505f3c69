//! A certificate for the servers with TLS, generated for one run.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

/// The files of a certificate. They are removed when this is dropped.
pub(super) struct Certificate {
    folder: PathBuf,
    /// The certificate in PEM.
    pub(super) certificate: String,
    /// The private key in PEM.
    pub(super) key: String,
}

impl Certificate {
    /// Generates a self-signed certificate for the local host, with a P-256 key.
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

    /// Returns a path in the same folder, for the output of a tool.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // A folder that cannot be removed may stay among the temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
