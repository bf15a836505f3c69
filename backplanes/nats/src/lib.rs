#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod builder;
mod chain;
mod connect;
mod driver;
mod history;
mod session;
mod subject;

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::ServerAddr;
use tokio::sync::Notify;
use wsloop::backplane::node::{self, Link, NodeStats};
use wsloop::backplane::{Backplane, Inbox, Publish, Recover};

use self::builder::Options;
pub use self::builder::{Builder, Error, Storage};
use self::driver::Driver;

/// The [`Backplane`] of a process: one thread and its connection to NATS, for all loops.
///
/// Each loop gets a clone. The thread ends after [`close`](Self::close), or when all clones are
/// dropped and what waited was sent.
#[derive(Clone)]
pub struct Nats {
    link: Link,
    shared: Arc<Shared>,
}

/// What the thread and the clones share.
pub(crate) struct Shared {
    notify: Notify,
    state: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    stats: NodeStats,
    /// When the thread has to end, whatever waits.
    closes_at: Option<Instant>,
    /// Whether the thread has ended, and everything was sent before.
    end: Option<bool>,
}

impl Nats {
    /// Connects with default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`]. A server that is not available is not an error.
    pub fn new(urls: &str) -> Result<Self, Error> {
        Self::builder(urls).start()
    }

    /// Plans a connection to one of these servers, which are one server or one cluster:
    /// `nats://[user:password@]host[:port]`, or `tls://` for TLS, with commas between several.
    /// Other servers of the cluster are not discovered.
    pub fn builder(urls: &str) -> Builder {
        Builder::new(urls)
    }

    fn spawn(servers: Vec<ServerAddr>, options: Options) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            notify: Notify::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let waker = shared.clone();
        let (link, calls) =
            node::channel(options.max_waiting, options.history.is_some(), move || {
                waker.notify.notify_one();
            });
        let end = End(shared.clone());
        thread::Builder::new()
            .name("wsloop-nats".into())
            .spawn(move || {
                let driver = Driver::new(servers, options, calls, end.0.clone());
                let is_sent = driver.run();
                end.0.progress().end = Some(is_sent);
            })
            .map_err(Error::Thread)?;
        Ok(Self { link, shared })
    }

    /// Returns the counters.
    pub fn stats(&self) -> NodeStats {
        self.shared.progress().stats
    }

    /// Sends what waits, for at most this time, and ends the thread. Returns whether everything was
    /// sent and confirmed. Blocks until then, so it is not for handlers; call it after the loops
    /// have ended. What is published later is not sent.
    pub fn close(&self, timeout: Duration) -> bool {
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + LONGEST);
        let mut progress = self.shared.progress();
        progress.closes_at = Some(deadline);
        self.shared.notify.notify_one();
        loop {
            if let Some(is_sent) = progress.end {
                return is_sent;
            }
            // The thread looks at the deadline itself, and needs little more time.
            let left = deadline.saturating_duration_since(Instant::now()) + MARGIN;
            let waited = self.shared.changed.wait_timeout(progress, left);
            let (next, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            if timed_out.timed_out() && next.end.is_none() {
                return false;
            }
            progress = next;
        }
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a loop calls or the end is wanted.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Publishes the counters; returns when the thread has to end, if it has to.
    pub(crate) fn update(&self, stats: NodeStats) -> Option<Instant> {
        let mut progress = self.progress();
        progress.stats = stats;
        progress.closes_at
    }
}

/// Tells the clones that the thread has ended, even if it panics.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        let mut progress = self.0.progress();
        progress.end.get_or_insert(false);
        progress.stats.is_connected = false;
        self.0.changed.notify_all();
    }
}

impl Backplane for Nats {
    fn start(&mut self, inbox: Inbox) -> io::Result<()> {
        self.link.start(inbox)
    }

    fn occupied(&mut self, topic: &str) {
        self.link.occupied(topic);
    }

    fn vacated(&mut self, topic: &str) {
        self.link.vacated(topic);
    }

    fn publish(&mut self, publish: &mut Publish<'_>) {
        self.link.publish(publish);
    }

    fn flush(&mut self) {
        self.link.flush();
    }

    fn keeps_history(&self) -> bool {
        self.link.keeps_history()
    }

    fn recover(&mut self, request: Recover) {
        self.link.recover(request);
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The longest wait for the end of the thread.
const LONGEST: Duration = Duration::from_secs(3600 * 24 * 365);

/// How much longer than the deadline the end of the thread may take.
const MARGIN: Duration = Duration::from_secs(2);
