//! Tests of the examples. Each example is started on a free port, used, and killed.
//!
//! `cargo test` builds the examples before it runs these tests. So does
//! `cargo test --examples --test server examples`, which runs only these; without `--examples` they
//! use the existing binaries.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod page;
mod porting;
mod prices;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support;
use crate::support::process::spawn_example;
use crate::support::{Client, PATIENCE};

/// A running example. It is killed when this is dropped.
struct Example {
    child: Child,
    /// The text that it prints after `listening on`.
    place: String,
    /// The lines of its standard error.
    errors: Receiver<String>,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Self {
        Self::start_with(name, args, Stdio::piped())
    }

    fn start_with(name: &str, args: &[&str], stdin: Stdio) -> Self {
        let mut command = Command::new(binary(name));
        command.args(args).stdin(stdin).stdout(Stdio::piped());
        let (child, errors) = spawn_example(&mut command);
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
        // Some examples print a list of addresses.
        addr.trim_matches(['[', ']']).parse().unwrap()
    }

    fn ready(&self) -> Client {
        let mut client = Client::connect(self.addr());
        client.upgrade();
        client
    }

    /// Sends a request with this target and these header lines; returns the client and the status.
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
    /// Sends the example a signal.
    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success(), "{kill}");
    }

    /// Sends the example a signal that ends it; checks that the client receives a Close frame, and
    /// that the exit status is a success.
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

/// Returns the path of an example: cargo puts it beside the directory of this test.
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
fn echo_sends_messages_back() {
    let example = Example::start("echo", &["127.0.0.1:0"]);
    let mut client = example.ready();
    expect_echo(&mut client);
    client.expect_eof();
}

#[test]
fn conformance_over_tcp() {
    let example = Example::start("conformance", &["127.0.0.1:0"]);
    let mut client = example.ready();
    let large = vec![7; 1 << 20];
    client.send_frame(0x82, &large);
    client.expect_frame(0x82, large);
    expect_echo(&mut client);
    client.expect_eof();
}

#[cfg(feature = "deflate")]
#[test]
fn conformance_compresses_as_it_is_told() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    for (args, first) in [
        (&["127.0.0.1:0"][..], 0x81),
        (&["127.0.0.1:0", "shared"], 0xc1),
        (&["127.0.0.1:0", "dedicated"], 0xc1),
    ] {
        let example = Example::start("conformance", args);
        let (mut client, status) = example.request("/", offer);
        assert_eq!(status, 101);
        client.send_text("short");
        assert_eq!(client.read_frame().first, first, "{args:?}");
    }
}

#[test]
fn conformance_over_a_unix_socket() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance.sock");
    let place = format!("unix:{}", path.display());
    let example = Example::start("conformance", &[&place]);
    assert_eq!(example.place, place);
    let mut client = Client::connect_unix(&path);
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
    // A refused connection has a line as well, and the error log contains the reason.
    let (client, status) = example.request("/", "Origin: https://evil.example\r\n");
    assert_eq!(status, 403);
    drop(client);
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.contains(" 1006 ") && line.ends_with("\"origin refused\""),
        "{line}"
    );
    // The lines about the listeners come first.
    let mut said = example.errors.recv_timeout(PATIENCE).unwrap();
    while said.contains("wsloop::server") {
        said = example.errors.recv_timeout(PATIENCE).unwrap();
    }
    assert!(
        said.contains("wsloop::handshake") && said.contains("evil.example"),
        "{said}"
    );
}

impl Example {
    /// Connects a guest of the chat, and reads its `welcome`.
    #[track_caller]
    fn guest(&self, target: &str) -> (Client, Value) {
        let (mut client, status) = self.request(target, "");
        assert_eq!(status, 101, "{target}");
        let welcome = heard(&mut client);
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        (client, welcome)
    }
}

/// Returns the next message of the chat.
fn heard(client: &mut Client) -> Value {
    let frame = client.read_frame();
    assert_eq!(frame.first, 0x81);
    serde_json::from_slice(&frame.payload).unwrap()
}

/// Expects a message of the chat, and returns it; ignores the fields that depend on the time.
#[track_caller]
fn expect_said(client: &mut Client, nick: &str, text: &str) -> Value {
    let said = heard(client);
    assert_eq!(
        (&said["type"], &said["nick"]),
        (&json!("say"), &json!(nick)),
        "{said}"
    );
    assert_eq!(said["text"], text);
    assert!(said["at"].as_u64() > Some(1_500_000_000), "{said}");
    said
}

#[test]
fn chat_keeps_rooms_apart() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let (mut ada, welcome) = example.guest("/?room=garden&nick=ada");
    let members = |names: &[&str]| json!({"type": "welcome", "room": "garden", "nick": names.last(), "members": names});
    assert_eq!(welcome, members(&["ada"]));
    let (mut bob, welcome) = example.guest("/?nick=bob&x=y&room=garden");
    assert_eq!(welcome, members(&["ada", "bob"]));
    assert_eq!(heard(&mut ada), json!({"type": "join", "nick": "bob"}));
    let (mut eve, _) = example.guest("/?nick=eve");

    bob.send_text(r#"{"text": "hello \"ada\"", "id": "7"}"#);
    for client in [&mut ada, &mut bob] {
        assert_eq!(expect_said(client, "bob", "hello \"ada\"")["id"], "7");
    }
    eve.send_text(r#"{"text": "anybody?"}"#);
    expect_said(&mut eve, "eve", "anybody?");
    bob.send_close(1000, "");
    assert_eq!(heard(&mut ada), json!({"type": "leave", "nick": "bob"}));
    ada.send_text(r#"{"text": "alone"}"#);
    expect_said(&mut ada, "ada", "alone");

    // eve has received nothing of that. In the room `lobby` she is joined by a guest without a
    // name.
    let (mut guest, status) = example.request("/", "");
    assert_eq!(status, 101);
    let join = heard(&mut eve);
    assert!(
        join["nick"].as_str().unwrap().starts_with("guest"),
        "{join}"
    );
    // The guest receives the messages that were sent before it joined.
    expect_said(&mut guest, "eve", "anybody?");
    let welcome = heard(&mut guest);
    assert_eq!(welcome["members"], json!(["eve", join["nick"]]));
}

#[test]
fn chat_keeps_what_was_said_last() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let (mut ada, _) = example.guest("/?nick=ada");
    let mut ids = HashSet::new();
    for number in 0..60 {
        ada.send_text(&json!({"text": number.to_string()}).to_string());
        let said = expect_said(&mut ada, "ada", &number.to_string());
        ids.insert(said["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 60);
    let (mut bob, status) = example.request("/?nick=bob", "");
    assert_eq!(status, 101);
    for number in 10..60 {
        expect_said(&mut bob, "ada", &number.to_string());
    }
    assert_eq!(heard(&mut bob)["type"], "welcome");
    // A room is forgotten when all guests have left.
    bob.send_close(1000, "");
    assert_eq!(heard(&mut ada), json!({"type": "join", "nick": "bob"}));
    assert_eq!(heard(&mut ada), json!({"type": "leave", "nick": "bob"}));
    ada.send_close(1000, "");
    ada.expect_close(1000);
    example.guest("/?nick=eve");
}

#[test]
fn chat_takes_names_of_any_script() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let crabs = "%F0%9F%A6%80".repeat(30);
    for (given, name) in [
        ("J%C3%BCrgen", "Jürgen"),
        ("%E5%B0%8F%E6%9E%97", "小林"),
        ("%D9%84%D9%8A%D9%84%D9%89", "ليلى"),
        ("+the+%22gardener%22%20", "the \"gardener\""),
        ("%3Cb%3E%26amp%3B", "<b>&amp;"),
        ("a/b%2Fc", "a/b/c"),
        (&crabs, &"🦀".repeat(30)),
    ] {
        let (_client, welcome) = example.guest(&format!("/?room={given}&nick={given}"));
        assert_eq!(
            (&welcome["room"], &welcome["nick"]),
            (&json!(name), &json!(name))
        );
    }
}

#[test]
fn chat_has_bounds() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    for (name, value) in [
        ("nick", ""),
        ("room", ""),
        ("nick", "+%20"),
        ("nick", "a%0Ab"),
        ("room", "a%00"),
        ("nick", "a%C2%85b"),
        ("room", &"x".repeat(31)),
        ("nick", &"%C3%BC".repeat(31)),
    ] {
        let target = format!("/?{name}={value}");
        let mut client = Client::connect(example.addr());
        let upgrade = support::REQUEST.replace("/chat?room=7", &target);
        // Both the page and the WebSocket are refused, with a reason.
        let page = format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n");
        for request in [page, upgrade] {
            let answer = client.request(request);
            let why = String::from_utf8(answer.body).unwrap();
            assert_eq!(answer.status, 400, "{target}");
            assert!(
                why.contains(name) && why.contains("1 to 30 characters"),
                "{why}"
            );
        }
    }
    assert_eq!(example.request("/garden", "").1, 404);
    // Refused guests were never members.
    let (mut ada, welcome) = example.guest("/?nick=ada");
    assert_eq!(welcome["members"], json!(["ada"]));
    for wrong in [
        "hello",
        r#""hello""#,
        "{}",
        r#"{"text": 1}"#,
        r#"{"text": ""}"#,
        "[]",
    ] {
        ada.send_text(wrong);
        assert_eq!(heard(&mut ada)["type"], "error", "{wrong}");
    }
    ada.send_text(&"x".repeat(4001));
    ada.expect_close(1009);
}

#[test]
fn chat_serves_its_page() {
    let example = Example::start("chat", &["127.0.0.1:0"]);
    let mut client = Client::connect(example.addr());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let page = client.request(get("/?room=garden&nick=ada"));
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(String::from_utf8_lossy(&page.body).contains("new WebSocket"));
    assert_eq!(client.request(get("/favicon.ico")).status, 404);
    assert_eq!(client.request(get("/").replace("GET", "POST")).status, 405);
    // The browser upgrades on the same connection or on another one.
    let upgrade = support::REQUEST.replace("/chat?room=7", "/");
    assert_eq!(client.request(upgrade).status, 101);
}

#[test]
fn chat_checks_the_origin() {
    let example = Example::start("chat", &["127.0.0.1:0", "https://friend.example"]);
    for (origin, status) in [
        ("http://example.com", 101), // the host of the request
        ("https://friend.example", 101),
        ("https://example.com", 101), // the same host, behind a proxy
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
    // On the same connection, with the first message in one write with the request.
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
fn json_in_and_out() {
    let example = Example::start("json", &["127.0.0.1:0"]);
    let mut client = example.ready();
    for (order, reply) in [
        (
            json!({"type": "add", "numbers": [1, 2, 3.5]}),
            json!({"type": "sum", "sum": 6.5}),
        ),
        (
            json!({"type": "greet", "name": "J\u{fc}rgen \"J\""}),
            json!({"type": "greeting", "text": "Hello, J\u{fc}rgen \"J\"!"}),
        ),
    ] {
        client.send_text(&order.to_string());
        assert_eq!(heard(&mut client), reply);
    }
    // JSON that is no order.
    for order in [
        "{}",
        "7",
        r#"{"type": "dance"}"#,
        r#"{"type": "add", "numbers": ["1"]}"#,
    ] {
        client.send_text(order);
        assert_eq!(heard(&mut client)["type"], "error", "{order}");
    }
    for malformed in ["", "hello", r#"{"type": "greet""#] {
        let mut client = example.ready();
        client.send_text(malformed);
        assert_eq!(client.expect_close(1007), "not JSON");
    }
    client.send_frame(0x82, "{}");
    assert_eq!(client.expect_close(1003), "text only");
}

#[test]
fn auth_knows_its_users() {
    let example = Example::start("auth", &["127.0.0.1:0"]);
    for (target, headers, status) in [
        ("/", "", 401),
        ("/?token=b2", "", 401),
        ("/?token=", "Cookie: session=b2\r\n", 401),
        ("/", "Cookie: session=a1\r\n", 401),
        ("/", "Cookie: token=a1\r\n", 401),
        ("/?token=a1", "Origin: https://evil.example\r\n", 403),
    ] {
        let (_, found) = example.request(target, headers);
        assert_eq!(found, status, "{target} {headers}");
    }
    let (mut ada, status) = example.request("/?x=y&token=a1", "");
    assert_eq!(status, 101);
    ada.expect_text("hello ada");
    // The look-up of a session takes its time, in which others are served.
    let request = support::request_with("Cookie: session=b2\r\n");
    let mut bob = Client::connect(example.addr());
    bob.send_raw([request.as_bytes(), &support::frame(0x81, b"early")].concat());
    ada.send_text("anybody?");
    ada.expect_text("ada: anybody?");
    assert_eq!(bob.response().status, 101);
    bob.expect_text("hello bob");
    for client in [&mut ada, &mut bob] {
        client.expect_text("bob: early");
    }
}

#[test]
fn own_loop_broadcasts_datagrams() {
    let example = Example::start("own_loop", &["127.0.0.1:0"]);
    let mut client = example.ready();
    client.expect_alive();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for text in ["one\n", "two"] {
        sender.send_to(text.as_bytes(), example.addr()).unwrap();
        client.expect_text(text.trim_end());
    }
    expect_echo(&mut client);
}

// The test in the example itself.
#[path = "../../examples/own_loop.rs"]
#[allow(dead_code, reason = "its main function")]
mod own_loop;

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
        assert!(["0", "1"].contains(&number), "{number}");
        loops.insert(number.to_owned());
        clients.push(client);
    }
    // The first and the last client are on different loops.
    let last = clients.len() - 1;
    for (from, text) in [(0, "hello"), (last, "hello again")] {
        clients[from].send_text(text);
        for client in &mut clients {
            client.expect_text(text);
        }
    }
    stdin.write_all(b"good evening\n").unwrap();
    for client in &mut clients {
        client.expect_text("good evening");
    }
    stdin.write_all(b"\n").unwrap();
    for client in &mut clients {
        client.answer_close(1001);
    }
    drop(clients);
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn examples_drain_when_they_are_to_end() {
    for (name, args) in [
        ("conformance", &["127.0.0.1:0"][..]),
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
    let (mut ada, _) = example.guest("/?room=garden&nick=ada");
    example.expect_drain("TERM", &mut ada);
}

#[test]
fn a_second_signal_is_obeyed_sooner() {
    let mut example = Example::start("conformance", &["127.0.0.1:0"]);
    let (mut first, mut second) = (example.ready(), example.ready());
    example.signal("TERM");
    first.expect_close(1001);
    first.send_close(1001, "");
    // The second client would be closed a second later; the second signal closes it now.
    example.signal("TERM");
    second.expect_close(1001);
    second.send_close(1001, "");
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn a_signal_before_anybody_came_ends_it_at_once() {
    let mut example = Example::start("conformance", &["127.0.0.1:0"]);
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
