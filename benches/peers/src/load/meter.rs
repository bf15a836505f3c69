//! Resource usage of the server's process, from `/proc`.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// The nanoseconds of a tick in `/proc/PID/stat`: Linux reports 100 ticks per second to programs.
const TICK: u64 = 10_000_000;

/// A reading of the server's counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    at: Instant,
    run: u64,
    wait: u64,
    user: u64,
    system: u64,
    steal: u64,
}

/// The difference of two readings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Wall-clock seconds.
    pub(super) seconds: f64,
    /// Nanoseconds that the server ran.
    pub(super) run: f64,
    /// Share of `run` that it ran in user space; sampled by the kernel's tick.
    pub(super) user_share: f64,
    /// Share of the time in which it was runnable while another process ran.
    pub(super) wait_share: f64,
    /// Share of the time of one processor that the hypervisor took.
    pub(super) steal_share: f64,
}

impl Reading {
    /// Reads the counters of a process.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let (mut run, mut wait) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")? {
            // A thread may end while its directory is read.
            let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            run += number(&line, 0);
            wait += number(&line, 1);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may contain spaces; the fields after it start with number 3.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let system = fs::read_to_string("/proc/stat")?;
        Ok(Self {
            at: Instant::now(),
            run,
            wait,
            user: number(fields, 11),
            system: number(fields, 12),
            steal: number(&system, 8),
        })
    }

    /// Returns the usage since an earlier reading.
    pub(super) fn since(self, earlier: Self) -> Usage {
        let seconds = (self.at - earlier.at).as_secs_f64();
        let nanos = seconds * 1e9;
        let user = (self.user - earlier.user) as f64;
        let system = (self.system - earlier.system) as f64;
        Usage {
            seconds,
            run: (self.run - earlier.run) as f64,
            user_share: user / (user + system).max(1.0),
            wait_share: (self.wait - earlier.wait) as f64 / nanos,
            steal_share: ((self.steal - earlier.steal) * TICK) as f64 / nanos,
        }
    }
}

/// Returns the resident memory of a process, in bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(number(line, 0) * 1024)
}

fn number(line: &str, field: usize) -> u64 {
    line.split_whitespace()
        .nth(field)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_this_process_is_seen() {
        let pid = std::process::id();
        let before = Reading::of(pid).unwrap();
        // Threads of other tests may end in the meantime, and their CPU time disappears with them.
        let seen = (0..100_000).any(|_| {
            let sum = (0..100_000_u64).fold(0, |sum, at| std::hint::black_box(sum ^ at));
            std::hint::black_box(sum);
            Reading::of(pid).unwrap().since(before).run > 1e6
        });
        assert!(seen);
        assert!(resident(pid).unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Reading::of(u32::MAX).is_err());
        assert!(resident(u32::MAX).is_err());
    }
}
