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
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_nats::ServerAddr;
use tokio::sync::Notify;
use wsloop::backplane::node::{self, Control, Link, NodeStats};
use wsloop::backplane::{Backplane, Inbox, Publish, Recover};

use self::builder::Options;
pub use self::builder::{Builder, Error, Storage};
use self::driver::Driver;

/// The [`Backplane`] of a process: one thread and its connection to NATS, for all loops.
///
/// Each loop gets a clone. The thread ends after [`close`](Self::close), or when all clones are
/// dropped and the waiting messages were sent.
#[derive(Clone)]
pub struct Nats {
    link: Link,
    control: Control,
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
        let notify = Arc::new(Notify::new());
        let wake = |notify: Arc<Notify>| move || notify.notify_one();
        let (link, calls) = node::channel(
            options.node.max_waiting,
            options.history.is_some(),
            wake(notify.clone()),
        );
        let control = Control::new(wake(notify.clone()));
        let of_thread = control.clone();
        thread::Builder::new()
            .name("wsloop-nats".into())
            .spawn(move || {
                let end = of_thread.end();
                let driver = Driver::new(servers, options, calls, of_thread, notify);
                end.finish(driver.run());
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
