//! The node program: two loops, which publish numbered messages at a rate and tell their clients of
//! losses. It is controlled by lines on its standard input.
//!
//! | line | effect |
//! |---|---|
//! | `rate N` | each loop publishes N messages a second to each topic |
//! | `burst TOPIC COUNT SIZE` | the first loop publishes messages of this size at once |
//! | `counts` | writes `counts` and, for each publisher and topic, `PUBLISHER TOPIC LAST` |
//! | `stats` | writes `stats` and the counters of the backplane |
//!
//! It ends with its standard input. Clients send `sub TOPIC`, `from TOPIC POSITION`, or `ping`.
//! They receive `msg TOPIC PUBLISHER NUMBER POSITION PADDING` and `gap TOPIC COUNT`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wsloop::backplane::Backplane;
use wsloop::backplane::node::NodeStats;
use wsloop::event::{Gap, Recovered, Start, Utf8};
use wsloop::{Builder, Hub, Loops, Prepared, Recovery, Sent, Server, Topic};

/// The topics that each node publishes to; those that begin with `h` have a history.
pub const TOPICS: [&str; 4] = ["t0", "t1", "t2", "h0"];

/// How many loops a node has.
pub const LOOPS: usize = 2;

type AnyError = Box<dyn std::error::Error>;

/// Runs the node program with its arguments: engine, name, most waiting bytes, addresses.
///
/// # Errors
///
/// Returns an error if the arguments are wrong, or the server cannot be started.
pub fn main(arguments: &[String]) -> Result<(), AnyError> {
    let [engine, name, max_waiting, addresses @ ..] = arguments else {
        return Err("engine, name, most waiting bytes and addresses are needed".into());
    };
    let max_waiting = max_waiting.parse()?;
    match engine.as_str() {
        "redis" | "redis-sentinel" | "redis-cluster" => {
            let first = addresses.first().ok_or("an address is needed")?;
            let builder = match engine.as_str() {
                "redis" => wsloop_redis::Redis::builder(first),
                "redis-sentinel" => wsloop_redis::Redis::sentinel(addresses, "mymaster"),
                _ => wsloop_redis::Redis::cluster(addresses),
            };
            let redis = builder
                .max_waiting(max_waiting)
                .probe_after(Duration::from_millis(700))
                .command_timeout(Duration::from_secs(2))
                .connect_timeout(Duration::from_secs(1))
                .retry(Duration::from_millis(100), Duration::from_secs(1))
                .start()?;
            let counters = redis.clone();
            serve(name, redis, move || counters.stats())
        }
        "nats" => {
            let nats = wsloop_nats::Nats::builder(&addresses.join(","))
                .max_waiting(max_waiting)
                .probe_after(Duration::from_millis(700))
                .command_timeout(Duration::from_secs(2))
                .connect_timeout(Duration::from_secs(1))
                .retry(Duration::from_millis(100), Duration::from_secs(1))
                .start()?;
            let counters = nats.clone();
            serve(name, nats, move || counters.stats())
        }
        other => Err(format!("unknown engine {other}").into()),
    }
}

/// What the loops and the control of a node share.
#[derive(Default)]
struct Shared {
    rate: AtomicU32,
    burst: Mutex<Option<(String, usize, usize)>>,
    /// The number of the last message, by publisher and topic.
    counts: Mutex<BTreeMap<(String, String), u64>>,
}

/// Runs a node with any backplane.
///
/// # Errors
///
/// Returns an error if the server cannot be started, or standard input cannot be read.
pub fn serve<B: Backplane + Clone + Send + Sync>(
    name: &str,
    backplane: B,
    stats: impl Fn() -> NodeStats,
) -> Result<(), AnyError> {
    let shared = Arc::new(Shared::default());
    let (own, name) = (shared.clone(), name.to_owned());
    let running = Loops::new(LOOPS, move |number| {
        let publisher = Publisher {
            name: format!("{name}.{number}"),
            is_first: number == 0,
            shared: own.clone(),
            carry: 0,
        };
        handlers(publisher).backplane(backplane.clone())
    })
    .spawn()?;
    let mut out = io::stdout();
    let port = running.local_addrs().first().map_or(0, |addr| addr.port());
    writeln!(out, "port {port}")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["rate", rate] => shared.rate.store(rate.parse()?, Ordering::SeqCst),
            ["burst", topic, count, size] => {
                let burst = (String::from(*topic), count.parse()?, size.parse()?);
                *lock(&shared.burst) = Some(burst);
            }
            ["counts"] => {
                write!(out, "counts")?;
                for ((publisher, topic), last) in &*lock(&shared.counts) {
                    write!(out, " {publisher} {topic} {last}")?;
                }
                writeln!(out)?;
            }
            ["stats"] => writeln!(out, "stats {}", written(&stats()))?,
            _ => return Err(format!("unknown line {line}").into()),
        }
        out.flush()?;
    }
    running.shutdown()?;
    Ok(())
}

fn written(stats: &NodeStats) -> String {
    let NodeStats {
        waiting_bytes,
        dropped,
        lost,
        gaps,
        connects,
        silences,
        duplicates,
        sent_again,
        ..
    } = stats;
    format!(
        "waiting {waiting_bytes} dropped {dropped} lost {lost} gaps {gaps} connects {connects} \
         silences {silences} duplicates {duplicates} again {sent_again} connected {}",
        u8::from(stats.is_connected)
    )
}

fn handlers(publisher: Publisher) -> Builder {
    let mut publisher = publisher;
    Server::builder()
        .listen("127.0.0.1:0")
        .max_backlog(64 << 20)
        .topics("h", Topic::new().history(1000, Duration::from_secs(60)))
        .on(Start, move |hub, ()| {
            let shared = publisher.shared.clone();
            let mut publisher = std::mem::replace(
                &mut publisher,
                Publisher {
                    name: String::new(),
                    is_first: false,
                    shared,
                    carry: 0,
                },
            );
            hub.set_interval(STEP, move |hub, _| publisher.step(hub));
        })
        .on(Utf8, |conn, text| {
            let words: Vec<&str> = text.split(' ').collect();
            match words.as_slice() {
                ["ping"] => conn.send_utf8("pong"),
                ["sub", topic] => {
                    conn.subscribe(topic)?;
                    conn.send_utf8(&format!("subscribed {topic}"))
                }
                ["from", topic, position] => match position.parse() {
                    Ok(position) => match conn.subscribe_from(topic, position)? {
                        Recovery::Pending => Ok(Sent::NOTHING),
                        recovery => conn.send_utf8(&format!("recovered {topic} {recovery:?}")),
                    },
                    Err(_) => conn.send_utf8("unknown"),
                },
                _ => conn.send_utf8("unknown"),
            }
        })
        .on(Recovered, |conn, recovered| {
            let (topic, recovery) = recovered;
            let text = format!("recovered {topic} {recovery:?}");
            conn.send_utf8(&text).map(drop)
        })
        .on(Gap, |hub, lost| {
            let count = lost
                .count
                .map_or_else(|| "?".into(), |count| count.to_string());
            let text = format!("gap {} {count}", lost.topic);
            hub.for_each_subscriber(lost.topic, |conn| {
                // A client that cannot be told is a failure of the test that the checker finds.
                let _ = conn.send_utf8(&text);
            });
        })
}

/// The publisher of a loop.
struct Publisher {
    name: String,
    is_first: bool,
    shared: Arc<Shared>,
    /// Thousandths of a message that are due.
    carry: u64,
}

impl Publisher {
    fn step(&mut self, hub: &mut Hub<'_>) -> Result<(), wsloop::SendError> {
        let rate = self.shared.rate.load(Ordering::SeqCst);
        self.carry += u64::from(rate) * STEP.as_millis() as u64;
        let due = self.carry / 1000;
        self.carry %= 1000;
        for topic in TOPICS {
            for _ in 0..due {
                self.publish(hub, topic, 0)?;
            }
        }
        if self.is_first {
            let burst = lock(&self.shared.burst).take();
            if let Some((topic, count, size)) = burst {
                for _ in 0..count {
                    self.publish(hub, &topic, size)?;
                }
            }
        }
        Ok(())
    }

    fn publish(
        &self,
        hub: &mut Hub<'_>,
        topic: &str,
        size: usize,
    ) -> Result<(), wsloop::SendError> {
        let number = {
            let mut counts = lock(&self.shared.counts);
            let key = (self.name.clone(), topic.to_owned());
            let last = counts.entry(key).or_default();
            *last += 1;
            *last
        };
        let name = &self.name;
        let text = |position: String| {
            Prepared::text(&format!(
                "msg {topic} {name} {number} {position} {}",
                "x".repeat(size)
            ))
        };
        let published = hub.publish_with(topic, |position| {
            text(position.map_or_else(|| "-".into(), |position| position.to_string()))
        });
        published.map(drop)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a loop publishes.
const STEP: Duration = Duration::from_millis(10);
