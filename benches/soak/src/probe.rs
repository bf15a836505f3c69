//! What a process uses, from `/proc`, and what this one has allocated.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use stats_alloc::INSTRUMENTED_SYSTEM;

/// A reading of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
    pub(crate) descriptors: u64,
    /// Processor time, in seconds.
    pub(crate) cpu: f64,
}

impl Reading {
    /// # Errors
    ///
    /// Fails if the process is gone.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no process")?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .context("no VmRSS")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold spaces; what follows it starts with field 3.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Self {
            at: Instant::now(),
            resident: resident * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            cpu: ticks as f64 / TICKS_PER_SECOND,
        })
    }

    /// Returns the share of one processor that was used since an earlier reading.
    pub(crate) fn load_since(&self, earlier: &Self) -> f64 {
        let seconds = (self.at - earlier.at).as_secs_f64();
        (self.cpu - earlier.cpu) / seconds.max(0.001)
    }
}

/// Bytes that this process has allocated and not freed.
pub(crate) fn heap() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated)
}

/// Linux shows 100 of them a second to all programs.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_seen() {
        let pid = std::process::id();
        let (first, heap_before) = (Reading::of(pid).unwrap(), heap());
        let (held, file) = (vec![1_u8; 32 << 20], fs::File::open("/proc/self/stat"));
        let second = Reading::of(pid).unwrap();
        assert!(second.resident > first.resident + (16 << 20));
        // Other tests hold memory, too.
        assert!(heap() > heap_before + (16 << 20));
        assert!(second.descriptors > 0 && second.cpu >= first.cpu);
        drop((held, file));
        assert!(Reading::of(u32::MAX).is_err());
    }
}
