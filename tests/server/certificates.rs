//! The server presents the certificate for the name that a client asks for, and the new certificate
//! after a replacement.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use crate::support;
use crate::support::temp::TempDir;
use crate::support::tls::{TlsStream, client, dial, session};
use crate::support::{Client, PATIENCE, REQUEST, Running};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, StreamOwned};
use wsloop::event::*;
use wsloop::{BuildError, Certificates, PemProblem, Place, Server};

/// A certificate in files.
struct Issued {
    chain: PathBuf,
    key: PathBuf,
    der: CertificateDer<'static>,
}

fn issue(dir: &TempDir, file: &str, names: &[&str]) -> Issued {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let issued = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (
        dir.path(&format!("{file}.pem")),
        dir.path(&format!("{file}-key.pem")),
    );
    std::fs::write(&chain, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    Issued {
        chain,
        key,
        der: issued.cert.der().clone(),
    }
}

/// Returns a client configuration that trusts all of them. It never resumes sessions, because a
/// resumed session does not show a certificate.
fn trusting(issued: &[&Issued]) -> Arc<ClientConfig> {
    let mut config = client(issued.iter().map(|one| &one.der), None);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Returns the certificate that a client receives when it asks for a name.
#[track_caller]
fn shown(config: &Arc<ClientConfig>, name: &str, addr: SocketAddr) -> CertificateDer<'static> {
    certificate(&connect(config, name, addr))
}

#[track_caller]
fn connect(config: &Arc<ClientConfig>, name: &str, addr: SocketAddr) -> Client<TlsStream> {
    let mut client = Client::over(dial(config, name, addr));
    client.upgrade();
    client
}

fn certificate(client: &Client<TlsStream>) -> CertificateDer<'static> {
    let chain = client.stream.conn.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

/// Expects the TLS handshake to fail; returns the error that the client sees.
fn refused(config: &Arc<ClientConfig>, name: &str, addr: SocketAddr) -> String {
    let mut stream = dial(config, name, addr);
    let error = loop {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) if !stream.conn.is_handshaking() => panic!("it was not refused"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    error.to_string()
}

fn serve(certificates: &Certificates) -> Running {
    let tls = certificates.config().unwrap();
    Running::start_on(move || support::echo(Server::builder().listen_tls("127.0.0.1:0", tls)))
}

#[test]
fn by_name_by_wildcard_and_for_all_others() {
    let dir = TempDir::new();
    let all = issue(&dir, "all", &["localhost", "else.example", "127.0.0.1"]);
    let chat = issue(&dir, "chat", &["chat.example.com", "x.chat.example.com"]);
    let wild = issue(&dir, "wild", &["*.example.com"]);
    let certificates = Certificates::from_pem(&all.chain, &all.key).unwrap();
    certificates
        .set_pem("Chat.Example.com", &chat.chain, &chat.key)
        .unwrap();
    certificates
        .set_pem("*.example.com", &wild.chain, &wild.key)
        .unwrap();
    let server = serve(&certificates);
    let config = trusting(&[&all, &chat, &wild]);
    let shown = |name| shown(&config, name, server.addr);
    assert_eq!(shown("chat.example.com"), chat.der);
    assert_eq!(shown("CHAT.example.COM"), chat.der);
    assert_eq!(shown("game.example.com"), wild.der);
    assert_eq!(shown("localhost"), all.der);
    // A client that sends no server name.
    assert_eq!(shown("127.0.0.1"), all.der);
    // The client rejects the default certificate for names that it does not cover.
    for name in ["example.com", "a.b.example.com"] {
        let error = refused(&config, name, server.addr);
        assert!(error.contains("not valid for name"), "{error}");
    }
    assert!(certificates.remove("chat.EXAMPLE.com"));
    assert!(!certificates.remove("chat.example.com"));
    assert_eq!(shown("chat.example.com"), wild.der);
}

#[test]
fn without_a_default_other_names_are_refused() {
    let dir = TempDir::new();
    let chat = issue(&dir, "chat", &["chat.example.com", "127.0.0.1"]);
    let wild = issue(&dir, "wild", &["*.game.example.com"]);
    let certificates = Certificates::new();
    let server = serve(&certificates);
    let config = trusting(&[&chat, &wild]);
    let refused = |name| {
        let error = refused(&config, name, server.addr);
        assert!(error.contains("AccessDenied"), "{error}");
    };
    refused("chat.example.com");
    certificates
        .set_pem("chat.example.com", &chat.chain, &chat.key)
        .unwrap();
    connect(&config, "chat.example.com", server.addr).expect_alive();
    refused("game.example.com");
    refused("127.0.0.1");
    // A wildcard matches exactly one label.
    certificates
        .set_pem("*.game.example.com", &wild.chain, &wild.key)
        .unwrap();
    connect(&config, "a.game.example.com", server.addr).expect_alive();
    refused("game.example.com");
    refused("a.b.game.example.com");
}

#[test]
fn a_new_certificate_serves_new_connections_and_old_ones_live_on() {
    let dir = TempDir::new();
    let old = issue(&dir, "old", &["localhost"]);
    let new = issue(&dir, "new", &["localhost"]);
    let certificates = Certificates::from_pem(&old.chain, &old.key).unwrap();
    let server = serve(&certificates);
    let config = trusting(&[&old, &new]);
    let mut early = connect(&config, "localhost", server.addr);
    assert_eq!(certificate(&early), old.der);
    // This client is in the middle of its handshake, and has not sent a name yet.
    let waiting = dial(&config, "localhost", server.addr);
    let thread = {
        let (chain, key) = (new.chain.clone(), new.key.clone());
        let certificates = certificates.clone();
        std::thread::spawn(move || certificates.set_default_pem(chain, key))
    };
    thread.join().unwrap().unwrap();
    let mut late = connect(&config, "localhost", server.addr);
    assert_eq!(certificate(&late), new.der);
    let mut waiting = Client::over(waiting);
    waiting.upgrade();
    assert_eq!(certificate(&waiting), new.der);
    for client in [&mut early, &mut late, &mut waiting] {
        client.expect_alive();
    }
    assert_eq!(server.handle.broadcast_utf8("to all"), Ok(()));
    for client in [&mut early, &mut late, &mut waiting] {
        client.expect_text("to all");
    }
}

#[test]
fn a_session_may_be_resumed() {
    let dir = TempDir::new();
    let issued = issue(&dir, "one", &["localhost"]);
    let certificates = Certificates::from_pem(&issued.chain, &issued.key).unwrap();
    let server = serve(&certificates);
    let config = Arc::new(client([&issued.der], None));
    let mut first = connect(&config, "localhost", server.addr);
    first.expect_alive();
    drop(first);
    let mut second = connect(&config, "localhost", server.addr);
    second.expect_alive();
    let kind = second.stream.conn.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));
}

#[test]
fn files_that_are_wrong_change_nothing() {
    let dir = TempDir::new();
    let good = issue(&dir, "good", &["localhost"]);
    let other = issue(&dir, "other", &["chat.example.com"]);
    let certificates = Certificates::from_pem(&good.chain, &good.key).unwrap();
    let missing = dir.path("missing.pem");
    for (result, file) in [
        (certificates.set_default_pem(&missing, &good.key), &missing),
        (
            certificates.set_default_pem(&good.chain, &missing),
            &missing,
        ),
        (
            certificates.set_default_pem(&good.chain, &other.key),
            &other.key,
        ),
        (
            certificates.set_pem("chat.example.com", &good.key, &good.key),
            &good.key,
        ),
    ] {
        let Err(BuildError::Pem { path, .. }) = result else {
            panic!("{result:?}");
        };
        assert_eq!(path, *file);
    }
    // A certificate is only valid for its own names.
    for name in [
        "game.example.com",
        "*.example.com",
        "*.chat.example.com",
        "example.com",
        "*",
        "*.",
        "",
        "127.0.0.1",
        "two words",
        "*.*.com",
    ] {
        let result = certificates.set_pem(name, &other.chain, &other.key);
        assert!(
            matches!(
                result,
                Err(BuildError::Pem {
                    problem: PemProblem::WrongName { .. },
                    ..
                })
            ),
            "{name}: {result:?}"
        );
        let text = result.unwrap_err().to_string();
        assert!(text.contains(&format!("{name:?}")), "{text}");
    }
    let text = certificates.set_pem("example.com", &good.chain, &good.key);
    let text = text.unwrap_err().to_string();
    assert!(text.contains(r#"it is for DnsName("localhost")"#), "{text}");
    let server = serve(&certificates);
    let config = trusting(&[&good, &other]);
    assert_eq!(shown(&config, "localhost", server.addr), good.der);
}

#[test]
fn the_protocol_is_http_1_1() {
    let dir = TempDir::new();
    let issued = issue(&dir, "one", &["localhost"]);
    let certificates = Certificates::from_pem(&issued.chain, &issued.key).unwrap();
    let server = serve(&certificates);
    let offering = |names: &[&str]| {
        let mut config = client([&issued.der], None);
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    for (names, agreed) in [
        (&["http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["h2", "http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = connect(&offering(names), "localhost", server.addr);
        assert_eq!(client.stream.conn.alpn_protocol(), agreed);
    }
    let error = refused(&offering(&["h2"]), "localhost", server.addr);
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn handlers_know_the_name_that_was_asked_for() {
    let dir = TempDir::new();
    let issued = issue(&dir, "one", &["chat.example.com", "127.0.0.1"]);
    let tls = Certificates::from_pem(&issued.chain, &issued.key)
        .unwrap()
        .config()
        .unwrap();
    let (sender, log) = support::log();
    let server = Running::start_on(move || {
        let later = sender.clone();
        Server::builder()
            .listen_tls("127.0.0.1:0", tls)
            .listen("127.0.0.1:0")
            .on(Connect, move |conn, ()| {
                sender.send(format!("{:?}", conn.server_name())).is_ok()
            })
            .on(Handshake, move |conn, _| {
                later.send(format!("{:?}", conn.server_name())).is_ok()
            })
    });
    let config = trusting(&[&issued]);
    let _one = connect(&config, "chat.EXAMPLE.com", server.addr);
    log.expect(&["None", r#"Some("chat.example.com")"#]);
    let _other = connect(&config, "127.0.0.1", server.addr);
    log.expect(&["None", "None"]);
    let mut plain = Client::connect(server.addrs[1]);
    assert_eq!(plain.request(REQUEST).status, 101);
    log.expect(&["None", "None"]);
}

#[test]
fn over_a_unix_socket() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let issued = issue(&dir, "one", &["localhost"]);
    let certificates = Certificates::from_pem(&issued.chain, &issued.key).unwrap();
    let place = Place::unix(&path)
        .mode(0o600)
        .tls(certificates.config().unwrap());
    let server = Running::start_on(move || support::echo(Server::builder().listener(place)));
    let socket = UnixStream::connect(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let session = session(&trusting(&[&issued]), "localhost");
    let mut client = Client::over(StreamOwned::new(session, socket));
    client.upgrade();
    client.expect_alive();
    drop(client);
    server.stop();
}

#[test]
fn a_server_tells_where_it_speaks_tls() {
    let dir = TempDir::new();
    let issued = issue(&dir, "one", &["localhost"]);
    let certificates = Certificates::from_pem(&issued.chain, &issued.key).unwrap();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .listen_tls("127.0.0.1:0", certificates.config().unwrap())
        .build()
        .unwrap();
    let secure: Vec<_> = server.listeners().map(|one| one.is_tls()).collect();
    assert_eq!(secure, [false, true]);
    let shown: Vec<_> = server.listeners().map(|one| format!("{one:#}")).collect();
    let [plain, tls] = server.local_addrs()[..] else {
        panic!("two listeners")
    };
    assert_eq!(shown, [plain.to_string(), format!("{tls} (TLS)")]);
}

#[test]
fn keys_stay_out_of_logs() {
    let dir = TempDir::new();
    let issued = issue(&dir, "one", &["localhost"]);
    let certificates = Certificates::from_pem(&issued.chain, &issued.key).unwrap();
    certificates
        .set_pem("localhost", &issued.chain, &issued.key)
        .unwrap();
    assert_eq!(
        format!("{certificates:?}"),
        r#"Certificates { default: true, named: ["localhost"] }"#
    );
}
