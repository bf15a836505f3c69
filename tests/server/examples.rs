//! The examples do what they say. Each is started on a port of the kernel's choice, talked to, and
//! killed.
//!
//! `cargo test` builds the examples before it runs this. So does `cargo test --examples --test
//! examples`, which runs this alone; without `--examples` it takes what was built before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod page;
mod porting;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use crate::support;
use crate::support::{Client, PATIENCE};

/// An example that runs; it is killed when this is dropped.
struct Example {
    child: Child,
    /// What it says after `listening on`.
    place: String,
    /// The lines of its standard error; they are read until it ends, so that it never blocks.
    errors: Receiver<String>,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Self {
        let binary = binary(name);
        let mut child = Command::new(&binary)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                let path = binary.display();
                panic!("{path}: {error}; `cargo build --examples` builds it")
            });
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, errors) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut example = Self {
            child,
            place: String::new(),
            errors,
        };
        example.place = example.listening();
        example
    }

    fn listening(&self) -> String {
        let mut said = Vec::new();
        while let Ok(line) = self.errors.recv_timeout(PATIENCE) {
            if let Some(place) = line.strip_prefix("listening on ") {
                return place.to_owned();
            }
            said.push(line);
        }
        panic!("the example does not listen, unless it is an old build; it said {said:?}")
    }

    fn addr(&self) -> SocketAddr {
        let addr = self.place.split(' ').next().unwrap();
        addr.parse().unwrap()
    }

    fn ready(&self) -> Client {
        let mut client = Client::connect(self.addr());
        client.upgrade();
        client
    }

    /// A client whose request has this target and these header lines; the answer's status.
    fn request(&self, target: &str, headers: &str) -> (Client, u16) {
        let request = support::REQUEST
            .replace("/chat?room=7", target)
            .replace("\r\n\r\n", &format!("\r\n{headers}\r\n"));
        let mut client = Client::connect(self.addr());
        let status = client.request(request).status;
        (client, status)
    }
}

impl Example {
    /// Sends the example a signal, by its name.
    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success(), "{kill}");
    }

    /// Has the example end as the system does, and sees that the client is told and the exit is
    /// a success.
    fn expect_drain<S: Read + Write>(mut self, signal: &str, client: &mut Client<S>) {
        self.signal(signal);
        let frame = loop {
            let frame = client.read_frame();
            if frame.first == 0x88 {
                break frame;
            }
        };
        assert_eq!(frame.payload, 1001u16.to_be_bytes());
        client.send_close(1001, "");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where cargo puts an example: beside the directory of this test.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    profile.join("examples").join(name)
}

fn expect_echo<S: Read + Write>(client: &mut Client<S>) {
    client.send_text("Grüße");
    client.expect_text("Grüße");
    client.send_frame(0x82, [0, 255, 7]);
    client.expect_frame(0x82, [0, 255, 7]);
    client.send_close(4000, "bye");
    assert_eq!(client.expect_close(4000), "bye");
}

#[test]
fn echo_over_tcp() {
    let example = Example::start("echo", &["127.0.0.1:0"]);
    let mut client = example.ready();
    expect_echo(&mut client);
    client.expect_eof();
}

#[test]
fn echo_over_a_unix_socket() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("echo.sock");
    let place = format!("unix:{}", path.display());
    let example = Example::start("echo", &[&place]);
    assert_eq!(example.place, place);
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(stream);
    client.upgrade();
    expect_echo(&mut client);
    let _ = std::fs::remove_file(&path);
}

#[test]
fn access_log_has_a_line_for_each_connection() {
    let mut example = Example::start("access_log", &["127.0.0.1:0"]);
    let mut lines = BufReader::new(example.child.stdout.take().unwrap()).lines();
    let (mut client, status) = example.request("/a%0a?b=c", "");
    assert_eq!(status, 101);
    let peer = client.stream.local_addr().unwrap();
    client.send_text("hello");
    client.expect_text("hello");
    client.send_close(4000, "by\ne");
    client.expect_close(4000);
    let line = lines.next().unwrap().unwrap();
    let start = format!("{peer} \"ws://example.com/a%0a?b=c\" 4000 ");
    assert!(line.starts_with(&start), "{line}");
    assert!(line.contains(" s 1 in 1 out "), "{line}");
    assert!(line.ends_with("\"closed by the peer\""), "{line}");
    // One that is refused has a line as well, and the reason is in the log of errors.
    let (client, status) = example.request("/", "Origin: https://evil.example\r\n");
    assert_eq!(status, 403);
    drop(client);
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.contains(" 1006 ") && line.ends_with("\"origin refused\""),
        "{line}"
    );
    // Behind the line that says where it listens.
    let mut said = example.errors.recv_timeout(PATIENCE).unwrap();
    while said.contains("wsloop::server") {
        said = example.errors.recv_timeout(PATIENCE).unwrap();
    }
    assert!(
        said.contains("wsloop::handshake") && said.contains("evil.example"),
        "{said}"
    );
}

#[test]
fn chat_keeps_rooms_apart() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let enter = |target| {
        let (client, status) = example.request(target, "");
        assert_eq!(status, 101);
        client
    };
    let mut ada = enter("/garden?nick=ada");
    ada.expect_text("* ada is here");
    let mut bob = enter("/garden?x=y&nick=bob");
    ada.expect_text("* bob is here");
    bob.expect_text("* bob is here");
    let mut eve = enter("/?nick=eve");
    eve.expect_text("* eve is here");

    bob.send_text("hello ada");
    ada.expect_text("bob: hello ada");
    bob.expect_text("bob: hello ada");
    eve.send_text("anybody?");
    eve.expect_text("eve: anybody?");
    bob.send_close(1000, "");
    ada.expect_text("* bob has left");
    ada.send_text("alone");
    ada.expect_text("ada: alone");

    // eve heard nothing of all that, and in the room `lobby` is joined by a guest without a name.
    let mut guest = enter("/lobby");
    let frame = eve.read_frame();
    let notice = String::from_utf8(frame.payload).unwrap();
    assert!(
        notice.starts_with("* guest") && notice.ends_with(" is here"),
        "{notice}"
    );
    guest.expect_text(&notice);
}

#[test]
fn chat_has_bounds() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let long = "x".repeat(31);
    for target in [
        "/two/parts".to_owned(),
        "/sp%20ce".to_owned(),
        format!("/{long}"),
        "/garden?nick=".to_owned(),
        format!("/garden?nick={long}"),
    ] {
        assert_eq!(example.request(&target, "").1, 404, "{target}");
    }
    // Those who were refused were never there.
    let (mut ada, _) = example.request("/garden?nick=ada", "");
    ada.expect_text("* ada is here");
    ada.send_text(&"x".repeat(2001));
    ada.expect_close(1009);
}

#[test]
fn chat_serves_its_page() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let mut client = Client::connect(example.addr());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let page = client.request(get("/garden?nick=ada"));
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(String::from_utf8_lossy(&page.body).contains("new WebSocket"));
    assert_eq!(client.request(get("/favicon.ico")).status, 404);
    assert_eq!(client.request(get("/").replace("GET", "POST")).status, 404);
    // The page's browser upgrades on the same connection, or on another.
    client.upgrade();
}

#[test]
fn chat_checks_the_origin() {
    let example = Example::start("chat", &["127.0.0.1:0", "https://friend.example"]);
    for (origin, status) in [
        ("http://example.com", 101), // the host of the request
        ("https://friend.example", 101),
        ("https://example.com", 101), // the same, behind a proxy
        ("http://example.com:8080", 403),
        ("http://example.com.evil.example", 403),
        ("http://evil.example", 403),
        ("http://friend.example", 403),
        ("null", 403),
    ] {
        let header = format!("Origin: {origin}\r\n");
        assert_eq!(example.request("/", &header).1, status, "{origin}");
    }
}

#[test]
fn adopt_takes_websockets_over_from_hyper() {
    let example = Example::start("adopt", &["127.0.0.1:0"]);
    let mut client = Client::connect(example.addr());
    let page = client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(page.body, b"a page of hyper\n");
    // On the same connection, and the first message in one piece with the request.
    let request = support::REQUEST.replace("/chat?room=7", "/ws");
    client.send_raw([request.as_bytes(), &support::frame(0x81, b"first")].concat());
    assert_eq!(client.response().status, 101);
    client.expect_text("first");
    expect_echo(&mut client);
    client.expect_eof();
    let old = request.replace(": 13", ": 8");
    assert_eq!(Client::connect(example.addr()).request(old).status, 426);
}

#[test]
fn tick_tells_the_time_and_answers() {
    let example = Example::start("tick", &["127.0.0.1:0"]);
    let mut client = example.ready();
    client.send_text("why?");
    let (mut clocks, mut answers) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while clocks < 2 || answers < 1 {
        assert!(
            Instant::now() < deadline,
            "{clocks} clocks, {answers} answers"
        );
        let text = String::from_utf8(client.read_frame().payload).unwrap();
        match text.strip_suffix(" UTC") {
            Some(time) => {
                assert_eq!(time.split(':').map(str::len).collect::<Vec<_>>(), [2, 2, 2]);
                clocks += 1;
            }
            None => {
                assert_eq!(text, "about \"why?\" I know nothing");
                answers += 1;
            }
        }
    }
}

#[test]
fn multicore_reaches_everybody_over_all_loops() {
    let mut example = Example::start("multicore", &["127.0.0.1:0", "2"]);
    let mut stdin = example.child.stdin.take().unwrap();
    let (mut clients, mut loops) = (Vec::new(), HashSet::new());
    while loops.len() < 2 {
        assert!(clients.len() < 1000, "{loops:?}");
        let mut client = example.ready();
        let greeting = String::from_utf8(client.read_frame().payload).unwrap();
        let number = greeting.strip_prefix("you are served by loop ").unwrap();
        assert!(["1", "2"].contains(&number), "{number}");
        loops.insert(number.to_owned());
        clients.push(client);
    }
    clients[0].send_text("hello");
    for client in &mut clients {
        client.expect_text("hello");
    }
    stdin.write_all(b"good evening\n").unwrap();
    for client in &mut clients {
        client.expect_text("good evening");
    }
    stdin.write_all(b"\n").unwrap();
    for client in &mut clients {
        client.expect_close(1001);
        client.send_close(1001, "");
        client.expect_eof();
    }
    drop(clients);
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn examples_drain_when_they_are_to_end() {
    for (name, args) in [
        ("echo", &["127.0.0.1:0"][..]),
        ("multicore", &["127.0.0.1:0", "2"]),
        ("tick", &["127.0.0.1:0"]),
    ] {
        for signal in ["TERM", "INT"] {
            let example = Example::start(name, args);
            let mut client = example.ready();
            example.expect_drain(signal, &mut client);
        }
    }
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let (mut ada, _) = example.request("/garden?nick=ada", "");
    ada.expect_text("* ada is here");
    example.expect_drain("TERM", &mut ada);
}

#[test]
fn a_second_signal_is_obeyed_sooner() {
    let mut example = Example::start("echo", &["127.0.0.1:0"]);
    let (mut first, mut second) = (example.ready(), example.ready());
    example.signal("TERM");
    first.expect_close(1001);
    first.send_close(1001, "");
    // The turn of this one comes in a second, or now.
    example.signal("TERM");
    second.expect_close(1001);
    second.send_close(1001, "");
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn a_signal_before_anybody_came_ends_it_at_once() {
    let mut example = Example::start("echo", &["127.0.0.1:0"]);
    example.signal("TERM");
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn multicore_tells_why_it_cannot_listen() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(binary("multicore"))
        .args([&address, "3"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&address), "{said}");
}

#[cfg(feature = "tls")]
#[test]
fn tls_shows_its_certificate_and_echoes() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use std::sync::Arc;

    let mut example = Example::start("tls", &["127.0.0.1:0"]);
    assert!(example.place.ends_with(" (TLS)"), "{}", example.place);
    let mut pem = String::new();
    let stdout = BufReader::new(example.child.stdout.take().unwrap());
    for line in stdout.lines() {
        pem.push_str(&line.unwrap());
        pem.push('\n');
        if pem.ends_with("-----END CERTIFICATE-----\n") {
            break;
        }
    }
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connect = || {
        let session = ClientConnection::new(Arc::new(config.clone()), name.clone()).unwrap();
        let socket = Client::connect(example.addr()).stream;
        let mut client = Client::over(StreamOwned::new(session, socket));
        client.upgrade();
        client
    };
    expect_echo(&mut connect());
    let mut client = connect();
    example.expect_drain("TERM", &mut client);
}
