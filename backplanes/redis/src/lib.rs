#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod builder;
mod connect;
mod driver;
mod history;
mod slots;
mod subscribing;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use wsloop::backplane::node::{self, Control, Link, NodeStats};
use wsloop::backplane::{Backplane, Inbox, Publish, Recover};

pub use self::builder::{Builder, Error};
use self::builder::{Options, Target};
use self::driver::Driver;

/// The [`Backplane`] of a process: one thread and its connections to Redis, for all loops.
///
/// Each loop gets a clone. The thread ends after [`close`](Self::close), or when all clones are
/// dropped and the waiting messages were sent.
#[derive(Clone)]
pub struct Redis {
    link: Link,
    control: Control,
}

impl Redis {
    /// Connects to one server, with default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`]. A server that is not available is not an error.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::builder(url).start()
    }

    /// Plans a connection to one server: `redis://[user:password@]host[:port][/database]`, or
    /// `rediss://` for TLS.
    pub fn builder(url: &str) -> Builder {
        Builder::single(url)
    }

    /// Plans a connection to the primary of this name, which one of the sentinels knows.
    pub fn sentinel<U: Into<String>>(urls: impl IntoIterator<Item = U>, name: &str) -> Builder {
        Builder::sentinel(urls.into_iter().map(Into::into).collect(), name)
    }

    /// Plans connections to the primaries of a Redis Cluster (7.0 or later), some nodes of which
    /// are given. The channels are sharded: `SPUBLISH` and `SSUBSCRIBE`.
    pub fn cluster<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Builder {
        Builder::cluster(urls.into_iter().map(Into::into).collect())
    }

    fn start(target: Target, options: Options) -> Result<Self, Error> {
        let notify = Arc::new(Notify::new());
        let wake = |notify: Arc<Notify>| move || notify.notify_one();
        let settings = &options.node;
        let (link, calls) = node::channel(
            settings.max_waiting,
            settings.keeps_history,
            wake(notify.clone()),
        );
        let control = Control::new(wake(notify.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let of_thread = control.clone();
        thread::Builder::new()
            .name("wsloop-redis".into())
            .spawn(move || {
                let end = of_thread.end();
                let driver = Driver::new(target, options, calls, of_thread, notify);
                end.finish(runtime.block_on(driver.run()));
            })
            .map_err(Error::Thread)?;
        Ok(Self { link, control })
    }

    /// Returns the counters.
    pub fn stats(&self) -> NodeStats {
        self.control.stats()
    }

    /// Sends the waiting messages, for at most this time, and ends the thread. Returns whether all
    /// of them were sent and confirmed. Blocks until then, so it is not for handlers; call it after
    /// the loops have ended. Messages that are published later are not sent.
    pub fn close(&self, timeout: Duration) -> bool {
        self.control.close(timeout)
    }
}

impl Backplane for Redis {
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

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
