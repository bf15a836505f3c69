//! The price ticker: authorisation, and what a fast and a slow client receive.

use std::collections::HashMap;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::Example;
use crate::support::{Client, PATIENCE};

/// The prices that a client has received, by symbol.
#[derive(Default)]
struct Received(HashMap<String, Symbol>);

struct Symbol {
    /// The number of the first price.
    first: u64,
    /// The number of the latest price.
    latest: u64,
    /// How many prices were received.
    prices: u64,
}

impl Received {
    /// Reads a message. Takes note of a price, whose number must be higher than that of the one
    /// before; returns any other text.
    #[track_caller]
    fn read(&mut self, client: &mut Client) -> Option<String> {
        let frame = client.read_frame();
        assert_eq!(frame.first, 0x81, "{frame:?}");
        let text = String::from_utf8(frame.payload).unwrap();
        let Some(price) = text.strip_prefix("price ") else {
            return Some(text);
        };
        let [symbol, number, value] = price.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        assert!(value.parse::<f64>().unwrap() > 0.0, "{text}");
        let number = number.parse().unwrap();
        let known = self.0.entry(symbol.to_owned());
        known
            .and_modify(|symbol| {
                assert!(symbol.latest < number, "{text} after {}", symbol.latest);
                symbol.latest = number;
                symbol.prices += 1;
            })
            .or_insert(Symbol {
                first: number,
                latest: number,
                prices: 1,
            });
        None
    }

    /// Reads messages until one that is not a price, and returns it.
    #[track_caller]
    fn read_text(&mut self, client: &mut Client) -> String {
        loop {
            if let Some(text) = self.read(client) {
                return text;
            }
        }
    }

    /// Returns how many prices did not come, between the first one and the latest.
    fn skipped(&self) -> u64 {
        let symbols = self.0.values();
        symbols
            .map(|symbol| symbol.latest - symbol.first + 1 - symbol.prices)
            .sum()
    }
}

/// Connects a client with a receive buffer of this size, and performs the opening handshake.
fn client(example: &Example, buffer: usize) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(buffer).unwrap();
    socket.connect(&example.addr().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(socket.into());
    client.upgrade();
    client
}

/// Requests the statistics, and returns the number before this word in them.
fn count(client: &mut Client, received: &mut Received, word: &str) -> u64 {
    client.send_text("stats");
    let stats = received.read_text(client);
    let words: Vec<_> = stats.split([' ', ',']).collect();
    let at = words.iter().position(|each| *each == word).unwrap();
    words[at - 1].parse().unwrap()
}

#[test]
fn prices_are_conflated_for_a_slow_client_only() {
    // The fast client's buffer holds the prices of more than ten seconds, in case the test has to
    // wait for the processor.
    let example = Example::start("prices", &["127.0.0.1:0", "10"]);
    let mut slow = client(&example, 2 << 10);
    let mut fast = client(&example, 1 << 20);
    let (mut slowly, mut quickly) = (Received::default(), Received::default());
    for (client, received) in [(&mut slow, &mut slowly), (&mut fast, &mut quickly)] {
        client.send_text("subscribe fx");
        assert_eq!(received.read_text(client), "subscribed fx");
        assert_eq!(received.0.len(), 4);
    }

    // The slow client does not read until a hundred prices have been replaced by newer ones.
    let deadline = Instant::now() + 6 * PATIENCE;
    let mut conflated = 0;
    while conflated < 100 {
        assert!(Instant::now() < deadline, "{conflated} conflated");
        quickly.read(&mut fast);
        conflated = count(&mut fast, &mut quickly, "conflated");
    }
    assert_eq!(quickly.skipped(), 0);
    assert_eq!(count(&mut fast, &mut quickly, "dropped"), 0);
    assert_eq!(count(&mut fast, &mut quickly, "refused"), 0);

    // When it reads again, it receives the latest prices.
    let goal = quickly.0;
    while goal
        .iter()
        .any(|(symbol, goal)| slowly.0[symbol].latest < goal.latest)
    {
        slowly.read(&mut slow);
    }
    assert!(slowly.skipped() >= conflated);
}

#[test]
fn prices_checks_who_may_subscribe() {
    let example = Example::start("prices", &["127.0.0.1:0", "10"]);
    let mut client = example.ready();
    for (command, answer) in [
        ("subscribe metals", "error no access to metals"),
        ("subscribe wheat", "error no access to wheat"),
        ("subscribe ", "error no access to "),
        ("subscribe", "error unknown command"),
        ("hello fx", "error unknown command"),
        ("unsubscribe fx", "unsubscribed fx"),
    ] {
        client.send_text(command);
        client.expect_text(answer);
    }
    let (mut customer, status) = example.request("/?token=a1", "");
    assert_eq!(status, 101);
    let mut received = Received::default();
    customer.send_text("subscribe metals");
    assert_eq!(received.read_text(&mut customer), "subscribed metals");
    while received.0["XAUUSD"].prices < 10 {
        assert_eq!(received.read(&mut customer), None);
    }
    assert_eq!(received.skipped(), 0);
    // No price follows the answer to this.
    customer.send_text("unsubscribe metals");
    assert_eq!(received.read_text(&mut customer), "unsubscribed metals");
    for _ in 0..10 {
        customer.send_text("hello");
        customer.expect_text("error unknown command");
    }
    assert_eq!(
        example.request("/", "Origin: https://evil.example\r\n").1,
        403
    );
}

#[test]
fn prices_serves_its_page() {
    let example = Example::start("prices", &["127.0.0.1:0"]);
    let mut client = Client::connect(example.addr());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let page = client.request(get("/?token=a1"));
    assert_eq!(page.status, 200);
    let content_type = page.header("content-type");
    assert_eq!(content_type, Some("text/html; charset=utf-8"));
    assert!(String::from_utf8_lossy(&page.body).contains("new WebSocket"));
    assert_eq!(client.request(get("/favicon.ico")).status, 404);
}
