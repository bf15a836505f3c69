//! The log lines of a server's start: where it listens, where it cannot listen, and which
//! certificates are not valid now.
//!
//! This is a separate program, because the whole process has one logger.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, Once};

use log::{Level, LevelFilter, Log, Metadata, Record};
use support::temp::TempDir;
use wsloop::Server;

/// All lines so far, with their levels and targets.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info && metadata.target().starts_with("wsloop")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (level, target) = (record.level(), record.target());
            let line = format!("{level} {target}: {}", record.args());
            LINES.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
}

/// Returns the lines that contain a text, from all tests of this program.
fn lines_with(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    lines
        .iter()
        .filter(|line| line.contains(text))
        .cloned()
        .collect()
}

#[test]
fn each_listener_has_its_line() {
    install();
    let dir = TempDir::new();
    let path = dir.path("socket");
    let given = TcpListener::bind("127.0.0.1:0").unwrap();
    let given_addr = given.local_addr().unwrap();
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .listen_unix(&path)
        .listener(given)
        .build()
        .unwrap();
    let addr = server.local_addr().unwrap();
    for rounds in 1..3 {
        for shown in [
            addr.to_string(),
            format!("unix:{}", path.display()),
            format!("{given_addr} (given)"),
        ] {
            let line = format!("INFO wsloop::server: listening on {shown}");
            let found = lines_with(&shown);
            assert_eq!(found, vec![line; rounds], "{shown}");
        }
        server.stop_listening();
        server.start_listening().unwrap();
    }
}

#[test]
fn an_address_that_is_left_out_has_its_line() {
    install();
    // No machine has an address of TEST-NET-3 (RFC 5737).
    let addrs: Vec<SocketAddr> = ["203.0.113.7:0", "127.0.0.1:0"]
        .iter()
        .map(|addr| addr.parse().unwrap())
        .collect();
    let server = Server::builder().listen(&addrs[..]).build().unwrap();
    let found = lines_with("203.0.113.7");
    assert_eq!(found.len(), 1, "{found:?}");
    let port = server.local_addr().unwrap().port();
    let begin = format!(
        "WARN wsloop::server: cannot listen on 203.0.113.7:{port}, one of the addresses of "
    );
    assert!(found[0].starts_with(&begin), "{found:?}");
    assert!(found[0].contains("os error"), "{found:?}");
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls {
    use std::fs;
    use std::path::PathBuf;

    use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
    use wsloop::Certificates;

    use super::*;

    type Year = i32;

    fn params(from: Year, to: Year) -> CertificateParams {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params
    }

    /// Writes the files of a chain: an authority and a certificate that it has issued, each with
    /// the years of its validity.
    fn chain(dir: &TempDir, name: &str, own: (Year, Year), issuer: (Year, Year)) -> [PathBuf; 2] {
        let (key, issuer_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let issuer_params = params(issuer.0, issuer.1);
        let authority = issuer_params.self_signed(&issuer_key).unwrap();
        let issuer = Issuer::new(issuer_params, issuer_key);
        let cert = params(own.0, own.1).signed_by(&key, &issuer).unwrap();
        let files = [
            dir.path(&format!("{name}.pem")),
            dir.path(&format!("{name}-key.pem")),
        ];
        fs::write(&files[0], cert.pem() + &authority.pem()).unwrap();
        fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_certificate_out_of_force_is_loaded_with_a_line() {
        install();
        let dir = TempDir::new();
        let good = (2020, 4000);
        for (name, own, issuer, said) in [
            ("good", good, good, vec![]),
            (
                "old",
                (2020, 2021),
                good,
                vec!["1 of the chain expired on Fri, 01 Jan 2021 00:00:00 GMT"],
            ),
            (
                "early",
                (3999, 4000),
                good,
                vec!["1 of the chain is not valid before Fri, 01 Jan 3999 00:00:00 GMT"],
            ),
            (
                "both",
                (2020, 2021),
                (2020, 2022),
                vec![
                    "1 of the chain expired on Fri, 01 Jan 2021 00:00:00 GMT",
                    "2 of the chain expired on Sat, 01 Jan 2022 00:00:00 GMT",
                ],
            ),
        ] {
            let [chain, key] = chain(&dir, name, own, issuer);
            let certificates = Certificates::from_pem(&chain, &key).unwrap();
            let found = lines_with(&chain.display().to_string());
            assert_eq!(found.len(), said.len(), "{name}: {found:?}");
            for (line, said) in found.iter().zip(said) {
                let begin = format!("WARN wsloop::tls: {}: certificate {said}", chain.display());
                assert!(line.starts_with(&begin), "{line}");
            }
            // Each load logs the lines once.
            let before = lines_with(&chain.display().to_string()).len();
            certificates.set_default_pem(&chain, &key).unwrap();
            let after = lines_with(&chain.display().to_string()).len();
            assert_eq!(after, before * 2);
        }
    }

    #[test]
    fn a_listener_with_tls_says_so() {
        install();
        let dir = TempDir::new();
        let [chain, key] = chain(&dir, "listener", (2020, 4000), (2020, 4000));
        let config = wsloop::config_from_pem(chain, key).unwrap();
        let server = Server::builder().listen_tls("127.0.0.1:0", config).build();
        let addr = server.unwrap().local_addr().unwrap();
        let line = format!("INFO wsloop::server: listening on {addr} (TLS)");
        assert_eq!(lines_with(&format!("{addr} ")), [line]);
    }
}
