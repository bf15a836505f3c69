//! A price ticker with topics: a client that reads too slowly gets the latest price of each symbol
//! instead of every price.
//!
//! ```text
//! cargo run --release --example prices [ADDRESS] [MILLISECONDS]
//! ```
//!
//! The address is `127.0.0.1:9017` unless given, and the prices change every 50 ms. To try it, open
//! `http://127.0.0.1:9017/?token=a1` in a browser, or subscribe from a terminal:
//!
//! ```text
//! python3 -m websockets 'ws://127.0.0.1:9017/?token=a1'
//! subscribe fx
//! ```
//!
//! `unsubscribe fx` and `stats` are commands, too. Everybody may subscribe to the market `fx`, and
//! clients with the token `a1` to `metals`. A price is a line with the symbol, a number that counts
//! its prices, and the value: `price EURUSD 17 1.08213`. To see what a slow client gets, let the
//! prices change every millisecond, stop the client in the terminal with Ctrl-Z for ten seconds,
//! and continue it with `fg`: at one point the numbers jump to the latest prices.

mod logger;

use std::env;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use wsloop::event::{Handshake, Request, Start, Utf8};
use wsloop::plain_http::Response;
use wsloop::{Connection, Hub, Outgoing, SendError, Sent, Server, SlowConsumer, Topic};

/// The topic, the symbol and the first value of each price.
const LISTED: [(&str, &str, f64); 6] = [
    ("prices.fx", "AUDUSD", 0.6601),
    ("prices.fx", "EURUSD", 1.0821),
    ("prices.fx", "GBPUSD", 1.2695),
    ("prices.fx", "USDJPY", 151.32),
    ("prices.metals", "XAGUSD", 27.914),
    ("prices.metals", "XAUUSD", 2350.1),
];

/// The current prices. The server has one such value, in `shared`.
#[derive(Default)]
struct Exchange(Vec<Price>);

#[derive(Clone)]
struct Price {
    topic: &'static str,
    symbol: &'static str,
    number: u64,
    value: f64,
}

/// Whether a client has paid. Each connection has one such value, in `data`.
#[derive(Default)]
struct Customer(bool);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    logger::init();
    let mut args = env::args().skip(1);
    let address = args.next();
    let period = args.next().map_or(Ok(50), |given| given.parse())?;
    let conflate = Topic::new().slow_consumer(SlowConsumer::Conflate);
    Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9017"))
        .max_recv_size(100)
        // Pages of this host, and clients that are not browsers.
        .origins(["self", "none"])
        .topics("prices.", conflate)
        .on(Request, |_, request| {
            let page = Response::new(200).header("Content-Type", "text/html; charset=utf-8");
            (request.path() == "/").then(|| page.body(include_str!("prices.html")))
        })
        .on(Handshake, |conn, upgrade| {
            let token = upgrade.request().query_param("token");
            conn.data::<Customer>().0 = token.as_deref() == Some("a1");
        })
        .on(Utf8, |conn, text| match text.split_once(' ') {
            Some(("subscribe", market)) => subscribe(conn, market),
            Some(("unsubscribe", market)) => {
                conn.unsubscribe(&format!("prices.{market}"));
                conn.send_utf8(&format!("unsubscribed {market}"))
            }
            None if text == "stats" => stats(conn),
            _ => conn.send_utf8("error unknown command"),
        })
        .on(Start, move |hub, ()| {
            eprintln!("listening on {:?}", hub.local_addrs());
            let listed = LISTED.map(|(topic, symbol, value)| Price {
                topic,
                symbol,
                number: 0,
                value,
            });
            hub.shared::<Exchange>().0.extend(listed);
            hub.set_interval(Duration::from_millis(period), |hub, _| publish(hub));
        })
        .run()?;
    Ok(())
}

/// Changes all prices and publishes them. The key is the symbol: while prices wait for a slow
/// client, a new one takes the place of the older one of its symbol.
fn publish(hub: &mut Hub<'_>) -> Result<(), SendError> {
    let prices = &mut hub.shared::<Exchange>().0;
    prices.iter_mut().for_each(Price::change);
    for price in prices.clone() {
        hub.publish(price.topic, Outgoing::text(&price.line()).key(price.symbol))?;
    }
    Ok(())
}

/// Subscribes a client to a market, and sends it the current prices. It misses none, because calls
/// take effect in the order of the program. A client that is subscribed already has been sent them.
fn subscribe(conn: &mut Connection<'_>, market: &str) -> Result<Sent, SendError> {
    let topic = format!("prices.{market}");
    // The client chooses the name, and the library does not know who may read what.
    if !may_read(conn, &topic) {
        return conn.send_utf8(&format!("error no access to {market}"));
    }
    if !conn.subscribe(&topic)? {
        return conn.send_utf8(&format!("subscribed {market}"));
    }
    let prices = conn.shared::<Exchange>().0.clone();
    for price in prices.iter().filter(|price| price.topic == topic) {
        conn.send_utf8(&price.line())?;
    }
    conn.send_utf8(&format!("subscribed {market}"))
}

/// Returns whether a client may subscribe to a topic. Unknown names are refused.
fn may_read(conn: &mut Connection<'_>, topic: &str) -> bool {
    topic == "prices.fx" || topic == "prices.metals" && conn.data::<Customer>().0
}

/// Tells a client what became of all messages that were published.
fn stats(conn: &mut Connection<'_>) -> Result<Sent, SendError> {
    let stats = conn.server().stats();
    let (queued, conflated) = (stats.publish_queued, stats.publish_conflated);
    let (dropped, refused) = (stats.publish_dropped, stats.publish_refused);
    conn.send_utf8(&format!(
        "stats {queued} queued, {conflated} conflated, {dropped} dropped, {refused} refused"
    ))
}

impl Price {
    /// Changes the price at random, but in the same way in each run.
    fn change(&mut self) {
        self.number += 1;
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let random = hasher.hash_one((self.symbol, self.number)) as f64 / u64::MAX as f64;
        self.value *= 1.0 + (random - 0.5) / 1000.0;
    }

    fn line(&self) -> String {
        format!("price {} {} {:.5}", self.symbol, self.number, self.value)
    }
}
