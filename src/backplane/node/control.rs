//! What the thread of an engine shares with the program: its counters and its end.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::NodeStats;

/// The counters and the end of the thread of an engine. Clones share them: the thread has one, and
/// so has each value that the program uses the engine with.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
    notify: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Progress {
    stats: NodeStats,
    /// When the thread has to end, whatever waits.
    closes_at: Option<Instant>,
    /// Whether the thread has ended, and everything was sent before.
    end: Option<bool>,
}

/// Tells that the thread has ended, when it is dropped.
pub struct End(Control);

impl Control {
    /// Creates the shared state of a thread, which `notify` wakes, from any thread.
    pub fn new(notify: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            progress: Mutex::default(),
            changed: Condvar::new(),
            notify: Box::new(notify),
        }))
    }

    /// Returns the counters that the thread has published last.
    pub fn stats(&self) -> NodeStats {
        self.progress().stats
    }

    /// Asks the thread to send the waiting messages, for at most this time, and to end. Returns
    /// whether all of them were sent and confirmed. Blocks until then.
    pub fn close(&self, timeout: Duration) -> bool {
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + LONGEST);
        let mut progress = self.progress();
        progress.closes_at = Some(deadline);
        (self.0.notify)();
        loop {
            if let Some(is_sent) = progress.end {
                return is_sent;
            }
            // The thread looks at the deadline itself, and needs little more time.
            let left = deadline.saturating_duration_since(Instant::now()) + MARGIN;
            let waited = self.0.changed.wait_timeout(progress, left);
            let (next, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            if timed_out.timed_out() && next.end.is_none() {
                return false;
            }
            progress = next;
        }
    }

    /// For the thread: publishes the counters. Returns when the thread has to end, if
    /// [`close`](Self::close) was called.
    pub fn update(&self, stats: NodeStats) -> Option<Instant> {
        let mut progress = self.progress();
        progress.stats = stats;
        progress.closes_at
    }

    /// For the thread: returns a value that tells the others when the thread ends, even if it
    /// panics.
    pub fn end(&self) -> End {
        End(self.clone())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing panics while it holds the lock.
        let progress = self.0.progress.lock();
        progress.unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    /// Tells that the thread has ended, and whether everything was sent before.
    pub fn finish(self, is_sent: bool) {
        self.0.progress().end = Some(is_sent);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut progress = self.0.progress();
        progress.end.get_or_insert(false);
        progress.stats.is_connected = false;
        self.0.0.changed.notify_all();
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}

/// The longest wait for the end of the thread.
const LONGEST: Duration = Duration::from_secs(3600 * 24 * 365);

/// How much longer than the deadline the end of the thread may take.
const MARGIN: Duration = Duration::from_secs(2);
