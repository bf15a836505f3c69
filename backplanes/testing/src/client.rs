//! A WebSocket client that notes what it hears.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

/// Something that a client heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When it arrived.
    pub at: Instant,
    /// The topic.
    pub topic: String,
    /// The message or the loss.
    pub what: What,
}

/// What a client heard of a topic.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// A message: publisher and number.
    Message(String, u64),
    /// Messages were lost.
    Gap(Option<u64>),
}

/// A client of a node.
#[derive(Debug)]
pub struct Client {
    /// The name of the node.
    pub node: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Vec<Heard>>,
    /// The longest time until a ping was answered, and when the unanswered one was sent.
    slowest: Mutex<(Duration, Option<Instant>)>,
    has_ended: AtomicBool,
    is_over: AtomicBool,
}

impl Client {
    /// Connects to a node, and subscribes to topics.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot connect.
    pub fn connect(node: &str, port: u16, topics: &[&str]) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let url = format!("ws://127.0.0.1:{port}/");
        let (mut socket, _) = tungstenite::client(url, stream).map_err(io::Error::other)?;
        for topic in topics {
            let text = Message::text(format!("sub {topic}"));
            socket.send(text).map_err(io::Error::other)?;
        }
        let mut left = topics.len();
        while left > 0 {
            let message = socket.read().map_err(io::Error::other)?;
            if message
                .to_text()
                .is_ok_and(|text| text.starts_with("subscribed"))
            {
                left -= 1;
            }
        }
        socket
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(50)))?;
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let thread = thread::spawn(move || {
            own.listen(socket);
            own.has_ended.store(true, Ordering::SeqCst);
        });
        Ok(Self {
            node: node.into(),
            shared,
            thread: Some(thread),
        })
    }

    /// Returns what it has heard.
    pub fn heard(&self) -> MutexGuard<'_, Vec<Heard>> {
        lock(&self.shared.heard)
    }

    /// Returns whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.shared.has_ended.load(Ordering::SeqCst)
    }

    /// Returns the longest time that a ping was not answered.
    pub fn slowest_ping(&self) -> Duration {
        let (slowest, sent) = *lock(&self.shared.slowest);
        slowest.max(sent.map_or(Duration::ZERO, |sent| sent.elapsed()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic was reported.
            let _ = thread.join();
        }
    }
}

/// A client that moves from node to node, and asks each for what it missed in a topic with a
/// history. It notes a loss of unknown size whenever the node cannot say.
#[derive(Debug)]
pub struct Roamer {
    ports: Arc<Mutex<Vec<u16>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    recovered: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Roamer {
    /// Begins, with the ports of the nodes.
    pub fn start(topic: &'static str, ports: Vec<u16>) -> Self {
        let ports = Arc::new(Mutex::new(ports));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let recovered = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let trip = Trip {
            topic,
            position: None,
            heard: heard.clone(),
            recovered: recovered.clone(),
        };
        let (their_ports, their_end) = (ports.clone(), is_over.clone());
        let thread = thread::spawn(move || {
            let mut trip = trip;
            let mut number = 0;
            while !their_end.load(Ordering::SeqCst) {
                let ports = lock(&their_ports).clone();
                number += 1;
                let port = ports.get(number % ports.len().max(1));
                if port.is_some_and(|port| trip.visit(*port).is_err()) {
                    // A node that was killed could not tell of a loss.
                    trip.note(What::Gap(None));
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            ports,
            heard,
            recovered,
            is_over,
            thread: Some(thread),
        }
    }

    /// Sets the ports of the nodes.
    pub fn set_ports(&self, ports: Vec<u16>) {
        *lock(&self.ports) = ports;
    }

    /// Ends; returns what it has heard, and how often it was recovered without a loss.
    pub fn finish(mut self) -> (Vec<Heard>, u64) {
        self.join();
        let heard = std::mem::take(&mut *lock(&self.heard));
        (heard, self.recovered.load(Ordering::SeqCst))
    }

    fn join(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic was reported.
            let _ = thread.join();
        }
    }
}

impl Drop for Roamer {
    fn drop(&mut self) {
        self.join();
    }
}

/// The state of a roaming client.
struct Trip {
    topic: &'static str,
    /// The position of the last message.
    position: Option<String>,
    heard: Arc<Mutex<Vec<Heard>>>,
    recovered: Arc<AtomicU64>,
}

impl Trip {
    fn visit(&mut self, port: u16) -> Result<(), Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        let url = format!("ws://127.0.0.1:{port}/");
        let (mut socket, _) = tungstenite::client(url, stream)?;
        let topic = self.topic;
        match &self.position {
            Some(position) => socket.send(Message::text(format!("from {topic} {position}")))?,
            None => {
                socket.send(Message::text(format!("sub {topic}")))?;
                self.note(What::Gap(None));
            }
        }
        let leaves = Instant::now() + Duration::from_millis(300);
        let due = leaves + Duration::from_secs(20);
        let mut is_leaving = false;
        while Instant::now() < due {
            if Instant::now() > leaves && !is_leaving {
                // A loss is told at the end of the turn, so behind newer messages: it leaves after
                // a later turn.
                socket.send(Message::text("ping"))?;
                is_leaving = true;
            }
            match socket.read() {
                Ok(Message::Text(text)) if text.as_str() == "pong" => return Ok(()),
                Ok(Message::Text(text)) => self.hear(&text),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err("it does not answer".into())
    }

    fn hear(&mut self, text: &str) {
        let words: Vec<&str> = text.splitn(6, ' ').collect();
        match words.as_slice() {
            ["msg", _, publisher, number, position, ..] => {
                let number = number.parse().unwrap_or_default();
                self.note(What::Message((*publisher).into(), number));
                if *position != "-" {
                    self.position = Some((*position).into());
                }
            }
            ["gap", _, count] => self.note(What::Gap(count.parse().ok())),
            ["recovered", ..] if text.contains("Recovered(") => {
                self.recovered.fetch_add(1, Ordering::SeqCst);
            }
            ["recovered", ..] => self.note(What::Gap(None)),
            _ => {}
        }
    }

    fn note(&self, what: What) {
        let heard = Heard {
            at: Instant::now(),
            topic: self.topic.into(),
            what,
        };
        lock(&self.heard).push(heard);
    }
}

impl Shared {
    fn listen(&self, mut socket: WebSocket<TcpStream>) {
        let mut next_ping = Instant::now();
        while !self.is_over.load(Ordering::SeqCst) {
            let now = Instant::now();
            let is_answered = lock(&self.slowest).1.is_none();
            if now >= next_ping && is_answered {
                next_ping = now + Duration::from_millis(100);
                lock(&self.slowest).1 = Some(now);
                if socket.send(Message::text("ping")).is_err() {
                    return;
                }
            }
            match socket.read() {
                Ok(Message::Text(text)) => self.note(&text),
                Ok(Message::Close(_)) => return,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => return,
            }
        }
    }

    fn note(&self, text: &str) {
        let words: Vec<&str> = text.splitn(6, ' ').collect();
        let (topic, what) = match words.as_slice() {
            ["msg", topic, publisher, number, ..] => {
                let number = number.parse().unwrap_or_default();
                (topic, What::Message((*publisher).into(), number))
            }
            ["gap", topic, count] => (topic, What::Gap(count.parse().ok())),
            ["pong"] => {
                let mut slowest = lock(&self.slowest);
                if let Some(sent) = slowest.1.take() {
                    slowest.0 = slowest.0.max(sent.elapsed());
                }
                return;
            }
            _ => return,
        };
        let heard = Heard {
            at: Instant::now(),
            topic: (*topic).into(),
            what,
        };
        lock(&self.heard).push(heard);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
