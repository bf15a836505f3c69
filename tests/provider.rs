//! The TLS provider is the one that the process has installed, or else that of the crate's
//! features.
//!
//! This is a separate program, because a provider is installed for the whole process.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::error::Error as _;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use support::Running;
use support::temp::TempDir;
use support::tls::Identity;
use wsloop::{BuildError, Certificates, ClientCertificates, Server};

/// Writes files with a certificate for `localhost` and its key.
fn files(dir: &TempDir) -> [std::path::PathBuf; 2] {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = [dir.path("chain.pem"), dir.path("key.pem")];
    std::fs::write(&files[0], issued.cert.pem()).unwrap();
    std::fs::write(&files[1], issued.signing_key.serialize_pem()).unwrap();
    files
}

/// Without an installed provider, that of the features is used. If there is none, an error names
/// the remedy.
fn without_an_installed_one([chain, key]: &[std::path::PathBuf; 2]) {
    let built_in = cfg!(any(feature = "aws-lc-rs", feature = "ring"));
    assert_eq!(wsloop::crypto_provider().is_ok(), built_in);
    let clients = ClientCertificates::from_pem(chain).unwrap();
    let results = [
        wsloop::config_from_pem(chain, key),
        Certificates::new().config(),
        Certificates::new().mutual_config(&clients),
    ];
    for result in results {
        match result {
            Ok(config) => {
                assert!(built_in);
                // ring has no post-quantum key exchange; aws-lc-rs takes precedence over it.
                let provider = config.crypto_provider();
                let mut groups = provider.kx_groups.iter().map(|group| group.name());
                let has = groups.any(|name| name == rustls::NamedGroup::X25519MLKEM768);
                assert_eq!(has, cfg!(feature = "aws-lc-rs"));
            }
            Err(error) => {
                assert!(!built_in);
                assert!(matches!(error, BuildError::NoProvider), "{error}");
                assert!(error.to_string().contains("install_default"), "{error}");
                assert!(error.source().is_none());
            }
        }
    }
    let certificates = Certificates::new();
    let set = certificates.set_default_pem(chain, key);
    assert_eq!(set.is_ok(), built_in);
    // None of this has installed a provider.
    assert!(CryptoProvider::get_default().is_none());
}

#[test]
fn an_installed_provider_goes_before_the_built_in_one() {
    let dir = TempDir::new();
    let files = files(&dir);
    without_an_installed_one(&files);

    // A custom provider with a single cipher suite and a single group.
    let own = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    };
    own.install_default().unwrap();
    let installed = CryptoProvider::get_default().unwrap();
    assert!(Arc::ptr_eq(&wsloop::crypto_provider().unwrap(), installed));
    let certificates = Certificates::from_pem(&files[0], &files[1]).unwrap();
    let clients = ClientCertificates::from_pem(&files[0]).unwrap();
    for config in [
        wsloop::config_from_pem(&files[0], &files[1]),
        certificates.config(),
        certificates.mutual_config(&clients),
    ] {
        assert!(Arc::ptr_eq(config.unwrap().crypto_provider(), installed));
    }

    let identity = Identity::in_files(&dir);
    let tls = identity.server.clone();
    let server =
        Running::start_on(move || support::echo(Server::builder().listen_tls("127.0.0.1:0", tls)));
    let mut client = identity.ready(server.addr);
    client.expect_alive();
    let suite = client.stream.conn.negotiated_cipher_suite().unwrap();
    assert_eq!(
        suite.suite(),
        rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
    );
}
