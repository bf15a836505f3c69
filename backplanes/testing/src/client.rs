//! A WebSocket client that notes what it hears.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

/// Something that a client heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// The topic.
    pub topic: String,
    /// What.
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
