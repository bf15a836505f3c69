//! Two processes of the example, with guests on both.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};
use wsloop_backplane_testing::processes::Process;
use wsloop_backplane_testing::{Engine, nats, redis};

/// A process of the example.
struct Chat {
    _process: Process,
    lines: Receiver<String>,
    port: u16,
}

impl Chat {
    fn start(url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsloop-example-cluster"));
        command
            .args(["127.0.0.1:0", url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process(command.spawn().expect("it starts"));
        let out = process.0.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut chat = Self {
            _process: process,
            lines,
            port: 0,
        };
        let line = chat.wait_for("listening on ");
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        chat.port = port.expect("a port");
        chat.wait_for("the engine is there");
        chat
    }

    fn wait_for(&self, part: &str) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .expect("a line within the time");
            if line.contains(part) {
                return line;
            }
        }
    }

    fn guest(&self, nick: &str) -> Guest {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("it is not zero");
        let url = format!("ws://127.0.0.1:{}/?room=garden&nick={nick}", self.port);
        let (socket, _) = tungstenite::client(url, stream).expect("it accepts");
        Guest(socket)
    }
}

struct Guest(WebSocket<TcpStream>);

impl Guest {
    fn say(&mut self, text: &str) {
        let message = format!(r#"{{"text": "{text}"}}"#);
        self.0.send(Message::text(message)).expect("it is open");
    }

    /// Returns the next message that contains all parts.
    fn wait_for(&mut self, parts: &[&str]) -> String {
        let due = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < due, "{parts:?} does not come");
            let message = self
                .0
                .read()
                .unwrap_or_else(|error| panic!("{parts:?}: {error}"));
            let Message::Text(text) = message else {
                continue;
            };
            if parts.iter().all(|part| text.contains(part)) {
                return text.as_str().into();
            }
        }
    }
}

fn try_engine(engine: &mut dyn Engine, keeps: bool) {
    let port = engine.port().expect("it has one");
    let url = engine.addresses(port).remove(0);
    let [one, other] = [(), ()].map(|()| Chat::start(&url));
    let mut ann = one.guest("ann");
    ann.wait_for(&["welcome", r#"["ann"]"#]);
    // The subscription of the first guest takes a moment.
    thread::sleep(Duration::from_millis(500));
    let mut bob = other.guest("bob");
    bob.wait_for(&["welcome", r#"["bob"]"#]);
    ann.wait_for(&["join", "bob"]);
    bob.say("hello");
    bob.wait_for(&["say", "hello"]);
    ann.wait_for(&["say", "bob", "hello"]);
    thread::sleep(Duration::from_millis(500));
    ann.say("how are you");
    bob.wait_for(&["say", "ann", "how are you"]);

    // A guest that comes later gets what was said, and then the welcome.
    let mut cid = other.guest("cid");
    cid.wait_for(&["hello"]);
    cid.wait_for(&["how are you"]);
    cid.wait_for(&["welcome", r#"["bob","cid"]"#]);
    ann.wait_for(&["join", "cid"]);

    // Without the engine, those of one process hear each other.
    engine.kill().expect("it runs");
    one.wait_for("the engine is away");
    other.wait_for("the engine is away");
    bob.say("alone");
    cid.wait_for(&["say", "bob", "alone"]);
    let mut dan = other.guest("dan");
    dan.wait_for(&["cannot be loaded"]);
    dan.wait_for(&["welcome"]);
    engine.start().expect("it starts");
    for chat in [&one, &other] {
        let mut parts = vec!["the engine is there", "may have been lost"];
        while !parts.is_empty() {
            let line = chat.wait_for("");
            parts.retain(|part| !line.contains(part));
        }
    }
    // Once for each of the two topics of the room.
    for _ in 0..2 {
        ann.wait_for(&["may be missing"]);
        bob.wait_for(&["may be missing"]);
    }
    bob.say("again");
    ann.wait_for(&["say", "bob", "again"]);
    drop(cid);
    ann.wait_for(&["leave", "cid"]);
    if keeps {
        let mut eve = one.guest("eve");
        eve.wait_for(&["hello"]);
        eve.wait_for(&["alone"]);
        eve.wait_for(&["again"]);
    }
}

#[test]
fn guests_of_two_processes_talk_through_nats() {
    let engine = nats::Nats::start("").expect("it starts");
    if let Some(mut engine) = engine {
        try_engine(&mut engine, true);
    }
}

#[test]
fn guests_of_two_processes_talk_through_redis() {
    let engine = redis::Redis::start(&[]).expect("it starts");
    if let Some(mut engine) = engine {
        try_engine(&mut engine, false);
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
