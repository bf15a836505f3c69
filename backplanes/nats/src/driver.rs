//! The thread that talks to NATS: it connects, runs a [`Session`] on each connection, and handles
//! the calls of the loops in between.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::ServerAddr;
use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};
use wsloop::backplane::Recover;
use wsloop::backplane::node::{Calls, Control, Node};

use crate::builder::Options;
use crate::connect;
use crate::session::Session;

pub(crate) struct Driver {
    servers: Vec<ServerAddr>,
    pub(crate) options: Options,
    pub(crate) node: Node,
    pub(crate) calls: Calls,
    pub(crate) control: Control,
    pub(crate) notify: Arc<Notify>,
    began: Instant,
    /// Attempts to connect since the last connection that lasted.
    attempts: u32,
    /// When the thread ends, even if messages still wait: after `close`, or without any loop left.
    ends_at: Option<Instant>,
    random: RandomState,
}

/// The thread has to end; the value says whether everything was sent.
pub(crate) struct Over(pub(crate) bool);

impl Driver {
    pub(crate) fn new(
        servers: Vec<ServerAddr>,
        options: Options,
        calls: Calls,
        control: Control,
        notify: Arc<Notify>,
    ) -> Self {
        let mut settings = options.node.clone();
        settings.keeps_history = options.history.is_some();
        Self {
            servers,
            options,
            node: Node::new(settings, Duration::ZERO),
            calls,
            control,
            notify,
            began: Instant::now(),
            attempts: 0,
            ends_at: None,
            random: RandomState::new(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs until `close`, or until no loop is left. Returns whether everything was sent.
    pub(crate) fn run(mut self) -> bool {
        loop {
            // All tasks of a connection end with its runtime.
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let over = runtime.block_on(self.serve());
                    // A look-up of a name may still be under way in a thread.
                    runtime.shutdown_background();
                    if let Some(Over(is_sent)) = over {
                        self.node.disconnected(self.now());
                        self.control.update(self.node.stats());
                        return is_sent;
                    }
                }
                Err(error) => {
                    log::error!("no runtime: {error}");
                    std::thread::sleep(self.pause());
                    self.attempts = self.attempts.saturating_add(1);
                    self.take_calls_away();
                    if let Err(Over(is_sent)) = self.is_needed() {
                        return is_sent;
                    }
                }
            }
        }
    }

    /// Connects, and serves the connection until it ends.
    async fn serve(&mut self) -> Option<Over> {
        let pause = self.pause();
        let connecting =
            connect::connect(self.servers.clone(), self.options.clone(), self.node.id());
        let connecting = async move {
            sleep(pause).await;
            connecting.await
        };
        let connection = match self.while_away(connecting).await {
            Ok(connection) => connection,
            Err(over) => return Some(over),
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                match self.attempts {
                    0 | 1 => log::warn!("cannot connect to NATS: {error}"),
                    _ => log::debug!("cannot connect to NATS: {error}"),
                }
                self.attempts = self.attempts.saturating_add(1);
                return None;
            }
        };
        let server = connection.client.server_info();
        log::info!(
            "connected to NATS {} {}",
            server.server_name,
            server.version
        );
        let since = Instant::now();
        self.node.connected(self.now());
        let end = Session::new(self, connection).run().await;
        let now = self.now();
        self.node.disconnected(now);
        self.control.update(self.node.stats());
        match end {
            Ok(over) => Some(over),
            Err(reason) => {
                log::warn!("the connection to NATS has ended: {reason}");
                // One that ends at once must not be made again and again without a pause.
                self.attempts = match since.elapsed() > LASTING {
                    true => 1,
                    false => self.attempts.saturating_add(1),
                };
                None
            }
        }
    }

    /// Returns the pause before the next attempt to connect.
    fn pause(&self) -> Duration {
        let Some(doublings) = self.attempts.checked_sub(1) else {
            return Duration::ZERO;
        };
        let (first, longest) = self.options.retry;
        let pause = first.saturating_mul(1 << doublings.min(16)).min(longest);
        let percent = 50 + self.random.hash_one(self.now()) % 100;
        pause.saturating_mul(percent as u32) / 100
    }

    /// Handles calls until the future is ready.
    async fn while_away<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Over> {
        let mut future = std::pin::pin!(future);
        loop {
            self.take_calls_away();
            let end = self.is_needed()?;
            let notify = self.notify.clone();
            tokio::select! {
                ready = &mut future => return Ok(ready),
                () = notify.notified() => {}
                () = sleep_until(end.unwrap_or_else(|| Instant::now() + LOOK_AT_LEAST).into()) => {}
            }
        }
    }

    /// Handles calls without a connection: recoveries are gaps.
    fn take_calls_away(&mut self) {
        self.take_calls().into_iter().for_each(Recover::gap);
    }

    /// Handles the calls of the loops; returns the requests for missed messages.
    pub(crate) fn take_calls(&mut self) -> Vec<Recover> {
        let now = self.now();
        let calls = self.calls.take().into_iter();
        calls.filter_map(|call| self.node.call(call, now)).collect()
    }

    /// Publishes the counters. Returns when the thread has to look again because it is to end.
    pub(crate) fn is_needed(&mut self) -> Result<Option<Instant>, Over> {
        let stats = self.node.stats();
        let closes_at = self.control.update(stats);
        if closes_at.is_none() && !self.calls.is_abandoned() {
            return Ok(None);
        }
        let last = *self
            .ends_at
            .get_or_insert_with(|| Instant::now() + ABANDONED);
        let due = closes_at.unwrap_or(last);
        let is_sent = stats.waiting_bytes == 0 && self.calls.waiting_bytes() == 0;
        match is_sent || Instant::now() >= due {
            true => Err(Over(is_sent)),
            false => Ok(Some(due)),
        }
    }
}

/// After so long a connection counts as lasting.
const LASTING: Duration = Duration::from_secs(2);

/// How long the thread tries to send the waiting messages when no loop is left.
const ABANDONED: Duration = Duration::from_secs(5);

/// The thread looks at its state at least so often.
pub(crate) const LOOK_AT_LEAST: Duration = Duration::from_secs(1);
