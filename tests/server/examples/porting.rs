//! The examples that were ported from Perl.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::Example;
use crate::support::{self, Client, PATIENCE, Response};

/// The lines that an example writes to its standard output.
struct Said(Receiver<String>);

impl Said {
    fn of(example: &mut Example) -> Self {
        let stdout = BufReader::new(example.child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self(lines)
    }

    #[track_caller]
    fn expect(&self, line: &str) {
        assert_eq!(self.0.recv_timeout(PATIENCE).unwrap(), line);
    }

    /// Expects a line after its first word, which is the id of a connection.
    #[track_caller]
    fn expect_of_one(&self, rest: &str) {
        let line = self.0.recv_timeout(PATIENCE).unwrap();
        assert_eq!(line.split_once(' ').unwrap().1, rest);
    }

    /// Expects that there are no more lines, because the example has ended.
    #[track_caller]
    fn expect_end(&self) {
        let error = self.0.recv_timeout(PATIENCE).unwrap_err();
        assert_eq!(error, mpsc::RecvTimeoutError::Disconnected);
    }
}

/// Sends a request with another target and additional header lines; returns the response.
#[track_caller]
fn ask(client: &mut Client, target: &str, headers: &[&str]) -> Response {
    let mut request = support::REQUEST.replace("/chat?room=7", target);
    for header in headers {
        let end = request.len() - 2;
        request.insert_str(end, &format!("{header}\r\n"));
    }
    client.request(request)
}

#[test]
fn porting_echo() {
    let example = Example::start("porting", &["echo", "127.0.0.1:0"]);
    example.ready().expect_alive();
}

#[test]
fn porting_broadcast() {
    let example = Example::start("porting", &["broadcast", "127.0.0.1:0"]);
    let (mut ada, mut bob) = (example.ready(), example.ready());
    bob.send_text("one");
    bob.send_text("two");
    ada.send_text("three");
    for client in [&mut ada, &mut bob] {
        let (mut texts, mut ticks) = (Vec::new(), 0);
        while texts.len() < 3 || ticks < 1 {
            let text = String::from_utf8(client.read_frame().payload).unwrap();
            match text.starts_with("tick ") {
                true => ticks += 1,
                false => texts.push(text),
            }
        }
        texts.sort();
        assert_eq!(texts, ["1: one", "1: three", "2: two"]);
    }
}

/// Reads the next text that is not a tick of the relay.
#[track_caller]
fn expect_relayed(client: &mut Client, text: &str) {
    loop {
        let frame = client.read_frame();
        if !frame.payload.starts_with(b"up for ") {
            assert_eq!((frame.first, frame.payload), (0x81, text.into()));
            return;
        }
    }
}

/// Reads the next frame that is not a tick of the relay.
#[track_caller]
fn relayed(client: &mut Client) -> support::Frame {
    loop {
        let frame = client.read_frame();
        if !frame.payload.starts_with(b"up for ") {
            return frame;
        }
    }
}

#[test]
fn relay_has_every_handler_of_net_websocket_server() {
    let mut example = Example::start("relay", &["127.0.0.1:0"]);
    let said = Said::of(&mut example);
    let mut stdin = example.child.stdin.take().unwrap();
    // A page of another origin is refused, and its `disconnect` is reported.
    for headers in [&[][..], &["Origin: http://example.com.evil.test"]] {
        let mut client = Client::connect(example.addr());
        assert_eq!(ask(&mut client, "/", headers).status, 403);
        said.expect_of_one("has left: no close frame");
    }
    let enter = || {
        let mut client = Client::connect(example.addr());
        let answer = ask(&mut client, "/", &["Origin: http://example.com"]);
        assert_eq!(answer.status, 101);
        expect_relayed(&mut client, "hello 127.0.0.1");
        client
    };
    let (mut ada, mut bob) = (enter(), enter());
    for (text, both_get) in [("one", "1: one"), ("two", "2: two")] {
        bob.send_text(text);
        expect_relayed(&mut ada, both_get);
        expect_relayed(&mut bob, both_get);
    }
    // Each connection has its own count.
    ada.send_text("three");
    expect_relayed(&mut bob, "1: three");
    expect_relayed(&mut ada, "1: three");
    ada.send_frame(0x82, [0, 255]);
    for client in [&mut ada, &mut bob] {
        let frame = relayed(client);
        assert_eq!((frame.first, frame.payload), (0x82, vec![0, 255]));
    }
    // On standard input a line may arrive in parts, and several lines at once.
    stdin.write_all(b"goo").unwrap();
    stdin.flush().unwrap();
    stdin
        .write_all(b"d evening\nlast round\nlast \xff\n")
        .unwrap();
    for client in [&mut ada, &mut bob] {
        expect_relayed(client, "operator: good evening");
        expect_relayed(client, "operator: last round");
        expect_relayed(client, "operator: last \u{fffd}");
    }
    // The end of standard input ends nothing.
    drop(stdin);
    // Pings are answered, and pongs are reported.
    ada.send_frame(0x89, "alive?");
    let frame = relayed(&mut ada);
    assert_eq!((frame.first, frame.payload), (0x8a, b"alive?".to_vec()));
    ada.send_frame(0x8a, "a pong that nobody asked for");
    said.expect_of_one("is alive");
    // A tick.
    let tick = loop {
        let frame = bob.read_frame();
        if frame.payload.starts_with(b"up for ") {
            break frame;
        }
    };
    assert_eq!(tick.first, 0x81);
    ada.send_text("quit");
    let frame = relayed(&mut ada);
    assert_eq!(
        (frame.first, &frame.payload[2..]),
        (0x88, &b"as you wish"[..])
    );
    assert_eq!(frame.payload[..2], 4000_u16.to_be_bytes());
    ada.send_close(4000, "as you wish");
    ada.expect_eof();
    said.expect_of_one("has left: 4000");
    let mut eve = enter();
    eve.send_text(&"x".repeat(1001));
    let frame = relayed(&mut eve);
    assert_eq!(
        (frame.first, &frame.payload[..2]),
        (0x88, &1009_u16.to_be_bytes()[..])
    );
    said.expect_of_one("has left: 1009");
    drop(eve);
    // A signal ends the server: a last message, and 1001 for all clients.
    bob.send_text("five");
    expect_relayed(&mut bob, "3: five");
    example.signal("TERM");
    expect_relayed(&mut bob, "good bye");
    bob.answer_close(1001);
    drop(bob);
    said.expect_of_one("has left: 1001");
    said.expect_end();
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn relay_serves_whatever_its_standard_input_is() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("relay.txt");
    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    for stdin in [Stdio::null(), File::open(&path).unwrap().into()] {
        let example = Example::start_with("relay", &["127.0.0.1:0"], stdin);
        let mut client = Client::connect(example.addr());
        let answer = ask(&mut client, "/", &["Origin: http://example.com"]);
        assert_eq!(answer.status, 101);
        client.send_text("hello");
        expect_relayed(&mut client, "hello 127.0.0.1");
        expect_relayed(&mut client, "1: hello");
    }
    let _ = std::fs::remove_file(&path);
}

/// Sends an opening handshake to the club, as a member does.
#[track_caller]
fn ask_club(addr: SocketAddr, target: &str, key: &str, protocols: &str) -> (Client, Response) {
    let mut client = Client::connect(addr);
    let cookie = format!("Cookie: a=b; key={key}");
    let protocols = format!("Sec-WebSocket-Protocol: {protocols}");
    let headers = ["Origin: https://club.example", &cookie, &protocols];
    let answer = ask(&mut client, target, &headers);
    (client, answer)
}

#[test]
fn members_lets_in_whom_it_should() {
    let mut example = Example::start("members", &["127.0.0.1:0"]);
    let said = Said::of(&mut example);
    let addr = example.addr();
    for origin in [
        &[][..],
        &["Origin: https://elsewhere.example"],
        &["Origin: null"],
    ] {
        assert_eq!(ask(&mut Client::connect(addr), "/club", origin).status, 403);
    }
    assert_eq!(ask_club(addr, "/pub", "a1", "club.v1").1.status, 404);
    let (_, answer) = ask_club(addr, "/club", "zz", "club.v1");
    assert_eq!((answer.status, &*answer.body), (401, &b"members only"[..]));
    assert_eq!(answer.header("www-authenticate"), Some("Cookie"));

    let (mut ada, answer) = ask_club(addr, "/club", "a1", "club.v1, club.v2, x");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-protocol"), Some("club.v2"));
    assert_eq!(answer.header("x-member"), Some("ada"));
    assert_eq!(answer.header("set-cookie"), Some("seen=yes; Path=/"));
    ada.expect_text("welcome, ada (club.v2)");
    let (mut bob, answer) = ask_club(addr, "/club", "b2", "other");
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, None)
    );
    bob.expect_text("welcome, bob (none)");
    let (_, answer) = ask_club(addr, "/club", "e3", "club.v1");
    assert_eq!(answer.status_line, "HTTP/1.1 503 No Seat");
    assert_eq!(answer.body, b"the club is full");

    // Refused clients have not left the club; bob has.
    drop(bob);
    ada.expect_text("* bob has left");
    said.expect("bob said 0 things and left: 1006");
}

#[cfg(target_os = "linux")]
#[test]
fn members_refuses_an_address() {
    use socket2::{Domain, Socket, Type};

    let example = Example::start("members", &["127.0.0.1:0"]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from: SocketAddr = "127.0.0.66:0".parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&example.addr().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(std::net::TcpStream::from(socket));
    assert_eq!(client.response().status, 403);
}

#[test]
fn members_has_every_handler_of_websocket_connection() {
    let mut example = Example::start("members", &["127.0.0.1:0"]);
    let said = Said::of(&mut example);
    let addr = example.addr();
    let enter = |key| ask_club(addr, "/club", key, "club.v1").0;
    let mut ada = enter("a1");
    ada.expect_text("welcome, ada (club.v1)");
    let mut bob = enter("b2");
    bob.expect_text("welcome, bob (club.v1)");

    bob.send_text("Grüße");
    ada.expect_text("bob: Grüße");
    bob.expect_text("bob: Grüße");
    // The handler refuses the second ping, which therefore has no pong.
    for (payload, pong) in [
        ("loud", Some("loud")),
        ("quiet", None),
        ("again", Some("again")),
    ] {
        bob.send_frame(0x89, payload);
        if let Some(pong) = pong {
            bob.expect_frame(0x8a, pong);
        }
    }
    bob.send_frame(0x8a, "");
    said.expect("bob is there");
    bob.send_frame(0x82, [1]);
    assert_eq!(bob.expect_close(1003), "text only");
    bob.send_close(1003, "");
    bob.expect_eof();
    said.expect("bob said 1 things and left: 1003");
    ada.expect_text("* bob has left");

    let mut eve = enter("e3");
    eve.expect_text("welcome, eve (club.v1)");
    eve.send_text("/quit");
    assert_eq!(eve.expect_close(4000), "as you wish");
    eve.send_close(4000, "as you wish");
    eve.expect_eof();
    said.expect("eve said 0 things and left: 4000");
    ada.expect_text("* eve has left");

    let mut bob = enter("b2");
    bob.expect_text("welcome, bob (club.v1)");
    bob.send_text("/cut");
    assert_eq!(bob.read_to_end(), b"", "no close frame");
    said.expect("bob said 0 things and left: 1006");
    ada.expect_text("* bob has left");

    ada.send_text("/close");
    ada.expect_text("* the club closes");
    ada.answer_close(1001);
    said.expect("ada said 0 things and left: 1001");
    said.expect_end();
    assert!(example.child.wait().unwrap().success());
}

#[cfg(feature = "deflate")]
mod board {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    fn open(addr: SocketAddr, name: &str, headers: &[&str]) -> (Client, Response) {
        let mut client = Client::connect(addr);
        let answer = ask(&mut client, &format!("/board?x=y&name={name}"), headers);
        (client, answer)
    }

    /// Sends a plain request; returns the status and the body.
    #[track_caller]
    fn http(client: &mut Client, line: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let answer = client.request(format!(
            "{line} HTTP/1.1\r\nHost: example.com\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ));
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    #[test]
    fn requests_and_sockets_share_a_port() {
        let mut example = Example::start("board", &["127.0.0.1:0"]);
        let said = Said::of(&mut example);
        let addr = example.addr();
        let mut web = Client::connect(addr);
        assert_eq!(http(&mut web, "GET /notes", "", ""), (200, String::new()));

        let (mut ada, answer) = open(addr, "ada", &[]);
        assert_eq!((answer.status, answer.header("x-notes")), (101, Some("0")));
        ada.expect_text("hello ada");
        assert_eq!(http(&mut web, "POST /notes", "", "dinner at eight").0, 201);
        ada.expect_text("dinner at eight");
        ada.send_text("I come");
        ada.expect_text("ada: I come");
        let (mut bob, answer) = open(addr, "bob", &["Origin: http://example.com"]);
        assert_eq!((answer.status, answer.header("x-notes")), (101, Some("2")));
        bob.expect_text("hello bob");
        let notes = "dinner at eight\nada: I come\n";
        assert_eq!(http(&mut web, "GET /notes", "", ""), (200, notes.into()));

        // One frame for each note.
        bob.send_text("all");
        bob.expect_frame(0x01, "dinner at eight\n");
        bob.expect_frame(0x80, "ada: I come\n");
        // This client has not negotiated compression.
        bob.send_text("archive");
        bob.expect_text(notes);
        said.expect("bob has the archive");
        let stats = "{\"readers\":2,\"notes\":2,\"messages_in\":3,\"messages_out\":6}";
        assert_eq!(http(&mut web, "GET /stats", "", ""), (200, stats.into()));

        // Invalid requests, and requests that only a page of this host may send.
        assert_eq!(http(&mut web, "GET /", "", "").0, 404);
        let origin = "Origin: http://evil.test\r\n";
        for target in ["POST /notes", "POST /stop"] {
            assert_eq!(http(&mut web, target, origin, "x").0, 403);
        }
        let long = "x".repeat(4097);
        assert_eq!(http(&mut web, "POST /notes", "", &long).0, 413);

        // The end of the server, with a close code.
        let mut web = Client::connect(addr);
        assert_eq!(http(&mut web, "POST /stop", "", "").0, 202);
        for (client, name, posted) in [(&mut ada, "ada", 1), (&mut bob, "bob", 0)] {
            client.answer_close(1012);
            said.expect(&format!("{name} put up {posted} and left: 1012"));
        }
        drop((ada, bob, web));
        said.expect_end();
        assert!(example.child.wait().unwrap().success());
    }

    #[test]
    fn handshakes_are_accepted_and_refused() {
        let mut example = Example::start("board", &["127.0.0.1:0"]);
        let said = Said::of(&mut example);
        let addr = example.addr();
        let (_, answer) = open(addr, "", &[]);
        assert_eq!(answer.status_line, "HTTP/1.1 400 No Name");
        assert_eq!(answer.body, b"who are you?");
        let answer = ask(&mut Client::connect(addr), "/other?name=ada", &[]);
        assert_eq!((answer.status, &*answer.body), (404, &b"no such board"[..]));
        let (_, answer) = open(addr, "ada", &["Origin: http://evil.test"]);
        assert_eq!(answer.status, 403);
        // An invalid request is reported, and receives the default response.
        let old = support::REQUEST.replace("Version: 13", "Version: 8");
        let answer = Client::connect(addr).request(old);
        assert_eq!(
            (answer.status, answer.header("sec-websocket-version")),
            (426, Some("13"))
        );
        said.expect("bad request: Sec-WebSocket-Version is not 13");
    }

    #[test]
    fn closes_errors_and_pings() {
        let mut example = Example::start("board", &["127.0.0.1:0"]);
        let said = Said::of(&mut example);
        let addr = example.addr();
        let enter = || {
            let (mut client, answer) = open(addr, "ada", &[]);
            assert_eq!(answer.status, 101);
            client.expect_text("hello ada");
            client
        };
        let mut ada = enter();
        ada.send_frame(0x89, "?");
        ada.expect_frame(0x8a, "?");
        said.expect("ada asks");
        // The server echoes the peer's code, unless the handler closes.
        ada.send_close(4000, "bye");
        assert_eq!(ada.expect_close(4000), "bye");
        said.expect("ada put up 0 and left: 4000");
        let mut ada = enter();
        ada.send_close(4001, "bye");
        assert_eq!(ada.expect_close(4002), "come back");
        said.expect("ada put up 0 and left: 4001");
        let mut ada = enter();
        ada.send_frame(0x82, "x");
        assert_eq!(ada.expect_close(1003), "text only");
        ada.send_close(1003, "");
        said.expect("ada put up 0 and left: 1003");
        let mut ada = enter();
        ada.send_frame(0x81, [0xff]);
        ada.expect_close(1007);
        said.expect("ada: text is not UTF-8");
        said.expect("ada put up 0 and left: 1007");
    }

    #[test]
    fn the_archive_is_compressed() {
        let mut example = Example::start("board", &["127.0.0.1:0"]);
        let said = Said::of(&mut example);
        let extension = "Sec-WebSocket-Extensions: permessage-deflate";
        let (mut ada, answer) = open(example.addr(), "ada", &[extension]);
        let agreed = answer.header("sec-websocket-extensions").unwrap();
        assert!(agreed.starts_with("permessage-deflate"), "{agreed}");
        ada.expect_text("hello ada");
        // Messages below the threshold and messages in several frames are not compressed.
        ada.send_text("aaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        ada.expect_text("ada: aaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        ada.send_text("all");
        ada.expect_frame(0x81, "ada: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
        ada.send_text("archive");
        let frame = ada.read_frame();
        assert_eq!(frame.first, 0xc1, "RSV1");
        let mut text = Vec::with_capacity(1000);
        let bytes = [&frame.payload[..], &[0, 0, 0xff, 0xff]].concat();
        Decompress::new(false)
            .decompress_vec(&bytes, &mut text, FlushDecompress::Sync)
            .unwrap();
        assert_eq!(text, b"ada: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
        said.expect("ada has the archive");
    }
}
