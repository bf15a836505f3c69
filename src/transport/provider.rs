//! The cryptography behind TLS.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::BuildError;

/// Returns the TLS provider that [`config_from_pem`](crate::config_from_pem),
/// [`Certificates`](crate::Certificates) and [`ClientCertificates`](crate::ClientCertificates) use,
/// for a `ServerConfig` made by hand.
///
/// It is the one that the process has installed with [`CryptoProvider::install_default`]; else
/// aws-lc-rs with the feature `aws-lc-rs`, else ring with the feature `ring`. It is looked up
/// whenever a file is read or a configuration is made; nothing is installed here.
///
/// `ServerConfig::builder()` of rustls panics where several crates have enabled both providers and
/// the process has installed none; `ServerConfig::builder_with_provider` with this one does not.
///
/// # Errors
///
/// [`BuildError::NoProvider`], if there is none of these.
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

/// Returns the provider that this crate's features bring.
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
