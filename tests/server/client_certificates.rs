//! The server accepts clients with a certificate of its authority, and refuses others.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::sync::Arc;

use crate::support;
use crate::support::temp::TempDir;
use crate::support::tls::{Identity, Shown, client, client_of, dial};
use crate::support::{Client, REQUEST, Running};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use wsloop::event::*;
use wsloop::{BuildError, Certificates, ClientCertificates, PemProblem, Server};

/// A certificate authority, or an intermediate one.
struct Authority {
    der: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Returns the parameters of a valid client certificate.
fn member(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Authority {
    fn new(name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let cert = params.self_signed(&key).unwrap();
        Self {
            der: cert.der().clone(),
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Issues an intermediate authority.
    fn below(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            der: cert.der().clone(),
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, params: CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![cert.der().clone()], key)
    }
}

/// A server that accepts members, and records the certificates of each client.
struct Club {
    identity: Identity,
    authority: Authority,
    server: Running,
    log: support::Log,
}

impl Club {
    fn new(optional: bool) -> Self {
        let dir = TempDir::new();
        let identity = Identity::in_files(&dir);
        let authority = Authority::new("the club");
        let file = dir.path("clients.pem");
        std::fs::write(&file, &authority.pem).unwrap();
        let clients = ClientCertificates::from_pem(&file)
            .unwrap()
            .optional(optional);
        let tls = Certificates::from_pem(dir.path("chain.pem"), dir.path("key.pem"))
            .unwrap()
            .mutual_config(&clients)
            .unwrap();
        let (sender, log) = support::log();
        let server = Running::start_on(move || {
            let (early, errors) = (sender.clone(), sender.clone());
            let builder = Server::builder().listen_tls("127.0.0.1:0", tls);
            support::echo(builder)
                .on(Connect, move |conn, ()| {
                    early
                        .send(format!("before: {}", conn.peer_certificates().count()))
                        .is_ok()
                })
                .on(Ready, move |conn, ()| {
                    let sizes: Vec<_> = conn.peer_certificates().map(<[u8]>::len).collect();
                    sender.send(format!("shown: {sizes:?}"))
                })
                .on(Error, move |_, fault| {
                    errors.send(format!("error: {fault}"))
                })
        });
        Self {
            identity,
            authority,
            server,
            log,
        }
    }

    fn config(&self, shown: Option<Shown>) -> Arc<ClientConfig> {
        Arc::new(client([&self.identity.certificate], shown))
    }

    #[track_caller]
    fn admits(&self, shown: Option<Shown>) {
        let sizes: Vec<_> = shown.iter().flat_map(|(chain, _)| chain).collect();
        let sizes: Vec<_> = sizes.iter().map(|one| one.len()).collect();
        let stream = dial(&self.config(shown), "localhost", self.server.addr);
        let mut client = Client::over(stream);
        client.upgrade();
        client.expect_alive();
        self.log
            .expect(&["before: 0", &format!("shown: {sizes:?}")]);
    }

    /// Expects that the client receives only an alert, and that the `Error` handler receives the
    /// reason.
    #[track_caller]
    fn refuses(&self, shown: Option<Shown>, named: &str) {
        self.refuses_over(self.config(shown), named);
    }

    #[track_caller]
    fn refuses_over(&self, config: Arc<ClientConfig>, named: &str) {
        let mut stream = dial(&config, "localhost", self.server.addr);
        // With TLS 1.3 the client completes its handshake before the server has checked its
        // certificate.
        let _ = stream.write_all(REQUEST.as_bytes());
        let mut answer = Vec::new();
        let result = stream.read_to_end(&mut answer);
        assert!(result.is_err() && answer.is_empty(), "{result:?}");
        self.log.expect(&["before: 0"]);
        let error = self.log.next();
        assert!(error.starts_with("error: "), "{error}");
        assert!(error.contains(named), "{error}");
        // The refusal does not affect other clients.
        self.admits(Some(self.authority.issue(member("ada"))));
    }
}

#[test]
fn members_are_admitted_and_their_certificates_known() {
    let club = Club::new(false);
    let (chain, key) = club.authority.issue(member("ada"));
    club.admits(Some((chain, key)));
    // A member with an intermediate certificate, who sends both.
    let between = club.authority.below("the committee");
    let (mut chain, key) = between.issue(member("bob"));
    chain.push(between.der);
    club.admits(Some((chain, key)));
}

#[test]
fn whoever_shows_nothing_is_refused() {
    let club = Club::new(false);
    club.refuses(None, "sent no certificates");
}

#[test]
fn or_admitted_if_it_is_optional() {
    let club = Club::new(true);
    club.admits(None);
    club.admits(Some(club.authority.issue(member("ada"))));
    // A certificate that is sent must be valid, even if certificates are optional.
    club.refuses(
        Some(Authority::new("another").issue(member("eve"))),
        "UnknownIssuer",
    );
}

#[test]
fn chains_that_lead_elsewhere_are_refused() {
    let club = Club::new(false);
    // Another authority, even one with the same name.
    for name in ["another", "the club"] {
        let authority = Authority::new(name);
        let (mut chain, key) = authority.issue(member("eve"));
        chain.push(authority.der);
        let named = match name {
            "another" => "UnknownIssuer",
            _ => "BadSignature",
        };
        club.refuses(Some((chain, key)), named);
    }
    // The intermediate certificate is missing.
    let between = club.authority.below("the committee");
    club.refuses(Some(between.issue(member("eve"))), "UnknownIssuer");
    // A member who issues certificates.
    let (mut chain, key) = club.authority.issue(member("ada"));
    let ada = KeyPair::try_from(&key).unwrap();
    let impostor = Issuer::new(member("ada"), ada);
    let own = KeyPair::generate().unwrap();
    let cert = member("eve").signed_by(&own, &impostor).unwrap();
    chain.insert(0, cert.der().clone());
    let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
    club.refuses(Some((chain, key)), "invalid peer certificate");
}

#[test]
fn certificates_out_of_force_or_for_something_else_are_refused() {
    let club = Club::new(false);
    let mut expired = member("eve");
    expired.not_after = date_time_ymd(2020, 1, 1);
    club.refuses(Some(club.authority.issue(expired)), "certificate expired");
    let mut early = member("eve");
    early.not_before = date_time_ymd(3000, 1, 1);
    club.refuses(
        Some(club.authority.issue(early)),
        "certificate not valid yet",
    );
    let mut server = member("eve");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    club.refuses(Some(club.authority.issue(server)), "client authentication");
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let club = Club::new(false);
    // The client sends ada's certificate, which is not secret, but has another key.
    for version in [&TLS12, &TLS13] {
        let (chain, _) = club.authority.issue(member("ada"));
        let (_, key) = club.authority.issue(member("eve"));
        let config = client_of(&[version], [&club.identity.certificate], Some((chain, key)));
        club.refuses_over(Arc::new(config), "BadSignature");
    }
}

#[test]
fn chains_that_cost_work_or_memory_are_refused() {
    let club = Club::new(false);
    // Many candidates for the intermediate certificate: all have its name, and none has its key.
    let (mut chain, key) = club.authority.below("the committee").issue(member("eve"));
    for _ in 0..100 {
        chain.push(club.authority.below("the committee").der);
    }
    club.refuses(Some((chain, key)), "invalid peer certificate");
    // More than the 64 KiB that a handshake message may have.
    let (mut chain, key) = club.authority.issue(member("eve"));
    while chain.iter().map(|one| one.len()).sum::<usize>() < 70_000 {
        chain.push(club.authority.der.clone());
    }
    club.refuses(Some((chain, key)), "");
}

#[test]
fn sessions_are_not_resumed() {
    let club = Club::new(false);
    for version in [&TLS12, &TLS13] {
        let shown = club.authority.issue(member("ada"));
        let config = client_of(&[version], [&club.identity.certificate], Some(shown));
        let config = Arc::new(config);
        for _ in 0..2 {
            let stream = dial(&config, "localhost", club.server.addr);
            let mut client = Client::over(stream);
            client.upgrade();
            client.expect_alive();
            let kind = client.stream.conn.handshake_kind().unwrap();
            assert_ne!(kind, rustls::HandshakeKind::Resumed);
        }
    }
}

#[test]
fn authorities_come_from_a_file_that_is_in_order() {
    let dir = TempDir::new();
    let path = dir.path("clients.pem");
    let problem = || match ClientCertificates::from_pem(&path) {
        Err(BuildError::Pem {
            path: named,
            problem,
        }) => {
            assert_eq!(named, path);
            problem
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(problem(), PemProblem::Unreadable(_)));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(problem(), PemProblem::Empty));
    std::fs::write(&path, "a remark").unwrap();
    assert!(matches!(problem(), PemProblem::NoCertificate));
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, text).unwrap();
    assert!(matches!(problem(), PemProblem::Unusable(_)));
}
