//! The resource usage of a process, from `/proc`, and the live heap of this one.

use std::collections::HashSet;
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
    /// CPU time in seconds, and the time in which threads were runnable but did not run.
    pub(crate) cpu: f64,
    pub(crate) waited: f64,
}

impl Reading {
    /// Reads the counters of a process.
    ///
    /// # Errors
    ///
    /// Fails if the process has ended.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no process")?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .context("no VmRSS")?;
        let (mut cpu, mut waited) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end while its directory is read.
            let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let mut words = line
                .split_whitespace()
                .map(|word| word.parse::<u64>().unwrap_or(0));
            cpu += words.next().unwrap_or(0);
            waited += words.next().unwrap_or(0);
        }
        Ok(Self {
            at: Instant::now(),
            resident: resident * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            cpu: cpu as f64 / 1e9,
            waited: waited as f64 / 1e9,
        })
    }

    /// Returns the shares of one processor that were used and waited for since an earlier reading.
    pub(crate) fn load_since(&self, earlier: &Self) -> (f64, f64) {
        let seconds = (self.at - earlier.at).as_secs_f64().max(0.001);
        // The CPU time of a thread that has ended disappears from the sum.
        let share = |now: f64, before: f64| (now - before).max(0.0) / seconds;
        (
            share(self.cpu, earlier.cpu),
            share(self.waited, earlier.waited),
        )
    }
}

/// Returns how many descriptors of a process are open, without netlink sockets: a server opens one
/// when it first asks how much of the sent data a peer has acknowledged, and keeps it.
///
/// # Errors
///
/// Fails if the process has ended.
pub(crate) fn descriptors(pid: u32) -> Result<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/netlink")).unwrap_or_default();
    let inodes = table
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let links: HashSet<_> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let link = fs::read_link(entry?.path()).unwrap_or_default();
        let is_netlink = link.to_str().is_some_and(|link| links.contains(link));
        count += u64::from(!is_netlink);
    }
    Ok(count)
}

/// Returns the live heap of this process, in bytes and in blocks.
pub(crate) fn heap() -> (usize, usize) {
    let stats = INSTRUMENTED_SYSTEM.stats();
    let bytes = stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated);
    (bytes, stats.allocations.wrapping_sub(stats.deallocations))
}

/// Makes the allocator return free memory to the kernel. Otherwise it keeps free memory that lies
/// below memory in use.
#[cfg(target_env = "gnu")]
pub(crate) fn trim() {
    #[expect(unsafe_code, reason = "the declaration is that of malloc_trim(3)")]
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // The result, whether memory was returned, does not matter.
    let _ = malloc_trim(0);
}

/// Other allocators have no such function.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_seen() {
        let pid = std::process::id();
        let (first, (heap_before, _)) = (Reading::of(pid).unwrap(), heap());
        let (held, file) = (vec![1_u8; 32 << 20], fs::File::open("/proc/self/stat"));
        let second = Reading::of(pid).unwrap();
        assert!(second.resident > first.resident + (16 << 20));
        // Other tests allocate memory as well.
        assert!(heap().0 > heap_before + (16 << 20));
        assert!(second.descriptors > 0 && second.cpu > 0.0);
        assert!(descriptors(pid).unwrap() > 0);
        drop((held, file));
        assert!(Reading::of(u32::MAX).is_err());
        assert!(descriptors(u32::MAX).is_err());
    }
}
