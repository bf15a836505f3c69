//! The cryptography provider of TLS.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::BuildError;

/// Returns the TLS provider of [`config_from_pem`](crate::config_from_pem),
/// [`Certificates`](crate::Certificates) and [`ClientCertificates`](crate::ClientCertificates), for
/// a `ServerConfig` built by hand.
///
/// That is the provider that the process installed with [`CryptoProvider::install_default`];
/// otherwise aws-lc-rs with the feature `aws-lc-rs`, otherwise ring with the feature `ring`. It is
/// looked up for each file and each configuration, and never installed.
///
/// `ServerConfig::builder()` of rustls panics if several crates have enabled both providers and the
/// process has installed none; `ServerConfig::builder_with_provider` with this provider does not.
///
/// # Errors
///
/// Returns [`BuildError::NoProvider`] if there is none of these.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wsloop::rustls::ServerConfig;
///
/// # if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) { return Ok(()) }
/// let builder = ServerConfig::builder_with_provider(wsloop::crypto_provider()?)
///     .with_safe_default_protocol_versions()?
///     .with_no_client_auth();
/// # drop(builder);
/// # Ok(())
/// # }
/// ```
pub fn crypto_provider() -> Result<Arc<CryptoProvider>, BuildError> {
    CryptoProvider::get_default()
        .cloned()
        .or_else(built_in)
        .ok_or(BuildError::NoProvider)
}

/// Returns the provider of this crate's features.
#[cfg(feature = "aws-lc-rs")]
fn built_in() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn built_in() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
fn built_in() -> Option<Arc<CryptoProvider>> {
    None
}
