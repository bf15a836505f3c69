//! A server with a connection of its own to an engine, as in a process of its own, for tests of
//! single backplanes.

use std::fmt;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};
use wsloop::backplane::Backplane;
use wsloop::backplane::node::NodeStats;
use wsloop::event::{Gap, Recovered, Utf8};
use wsloop::{LoopThreads, Loops, Prepared, Recovery, Sent, Server, Topic};

/// A server whose clients subscribe and publish by text commands: `sub TOPIC`, `leave TOPIC`,
/// `position TOPIC`, `from TOPIC POSITION`, `recent TOPIC COUNT` and `pub TOPIC TEXT`. In the name
/// of a topic `_` stands for a space. Topics whose names begin with `h` have a history.
pub struct Desk {
    stats: Box<dyn Fn() -> NodeStats>,
    port: u16,
    _running: LoopThreads,
}

impl Desk {
    /// Starts a server, and waits until its backplane is connected. `stats` returns the counters of
    /// the backplane.
    ///
    /// # Panics
    ///
    /// Panics if the server does not start, or the backplane does not connect within 30 seconds.
    pub fn start(
        backplane: impl Backplane + Clone + Send + Sync,
        stats: impl Fn() -> NodeStats + 'static,
    ) -> Self {
        // A second initialisation fails.
        let _ = env_logger::builder().is_test(true).try_init();
        let running = Loops::new(1, move |_| {
            Server::builder()
                .listen("127.0.0.1:0")
                .max_topic_size(2000)
                .topics("h", Topic::new().history(100, Duration::from_secs(60)))
                .backplane(backplane.clone())
                .on(Utf8, |conn, text| {
                    let words: Vec<&str> = text.splitn(3, ' ').collect();
                    let topic = words.get(1).unwrap_or(&"").replace('_', " ");
                    let topic = topic.as_str();
                    match words.as_slice() {
                        ["sub", _] => {
                            conn.subscribe(topic)?;
                            conn.send_utf8("subscribed")
                        }
                        ["leave", _] => {
                            conn.unsubscribe(topic);
                            conn.send_utf8("left")
                        }
                        ["position", _] => {
                            let position = conn.server().position(topic);
                            conn.send_utf8(
                                &position.map_or_else(|| "-".into(), |at| at.to_string()),
                            )
                        }
                        ["from", _, at] => match at.parse() {
                            Ok(at) if conn.subscribe_from(topic, at)? == Recovery::Pending => {
                                Ok(Sent::NOTHING)
                            }
                            _ => conn.send_utf8("not pending"),
                        },
                        ["recent", _, count] => {
                            let count = count.parse().unwrap_or_default();
                            conn.subscribe_recent(topic, count)?;
                            Ok(Sent::NOTHING)
                        }
                        ["pub", _, text] => {
                            let message = Prepared::text(text);
                            conn.server()
                                .publish_with(topic, |_| message)
                                .map(Sent::from)
                        }
                        _ => conn.send_utf8("unknown"),
                    }
                })
                .on(Recovered, |conn, (topic, recovery)| {
                    conn.send_utf8(&format!("{topic} {recovery:?}")).map(drop)
                })
                .on(Gap, |hub, lost| {
                    let text = format!("gap {:?}", lost.count);
                    hub.for_each_subscriber(lost.topic, |conn| {
                        conn.send_utf8(&text).expect("it is open");
                    });
                })
        })
        .spawn()
        .expect("it starts");
        let desk = Self {
            stats: Box::new(stats),
            port: running.local_addrs()[0].port(),
            _running: running,
        };
        wait(|| desk.stats().is_connected);
        desk
    }

    /// Returns the counters of the backplane.
    pub fn stats(&self) -> NodeStats {
        (self.stats)()
    }

    /// Connects a client.
    ///
    /// # Panics
    ///
    /// Panics if the server does not accept it.
    pub fn client(&self) -> Guest {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("it is not zero");
        let url = format!("ws://127.0.0.1:{}/", self.port);
        Guest(tungstenite::client(url, stream).expect("it accepts").0)
    }

    /// Returns a client whose subscription the engine has confirmed.
    ///
    /// # Panics
    ///
    /// Panics if it is not confirmed within 30 seconds.
    pub fn subscriber(&self, topic: &str) -> Guest {
        let subscribed = self.stats().subscribed;
        let mut client = self.client();
        assert_eq!(client.ask(&format!("sub {topic}")), "subscribed");
        wait(|| self.stats().subscribed > subscribed);
        client
    }

    /// Waits until the engine has everything that was published.
    ///
    /// # Panics
    ///
    /// Panics if it takes longer than 30 seconds.
    pub fn settle(&self) {
        wait(|| self.stats().sent > 0 && self.stats().waiting_bytes == 0);
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// A client of a [`Desk`].
#[derive(Debug)]
pub struct Guest(WebSocket<TcpStream>);

impl Guest {
    /// Sends a text.
    ///
    /// # Panics
    ///
    /// Panics if the connection is not open.
    pub fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("it is open");
    }

    /// Returns the next message; a binary one in the form of `Debug`.
    ///
    /// # Panics
    ///
    /// Panics if there is none within 20 seconds.
    pub fn read(&mut self) -> String {
        let due = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < due, "a message within the time");
            match self.0.read().expect("a message within the time") {
                Message::Text(text) => return text.as_str().into(),
                Message::Binary(bytes) => return format!("{bytes:?}"),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends a text, and returns the next message.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send) and [`read`](Self::read).
    pub fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.read()
    }
}

/// Waits until something is true.
///
/// # Panics
///
/// Panics if it is not within 30 seconds.
pub fn wait(is_done: impl Fn() -> bool) {
    let due = Instant::now() + Duration::from_secs(30);
    while !is_done() {
        assert!(Instant::now() < due, "it takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}
