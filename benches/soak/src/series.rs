//! What is measured all the time.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Since the beginning of the run.
    pub(crate) seconds: f64,
    pub(crate) phase: Phase,
    /// Clients that exchange messages.
    pub(crate) open: usize,
    /// Connections of the servers, in any state.
    pub(crate) alive: i64,
    /// Of the servers' process, in bytes.
    pub(crate) resident: u64,
    pub(crate) heap: u64,
    pub(crate) descriptors: u64,
    /// Messages per second, from and to the clients.
    pub(crate) sent: f64,
    pub(crate) received: f64,
    /// Round trips, in microseconds.
    pub(crate) median: u64,
    pub(crate) p99: u64,
    pub(crate) longest: u64,
    /// Shares of a processor that the two processes used, and that all their threads waited for.
    pub(crate) server_cpu: f64,
    pub(crate) load_cpu: f64,
    pub(crate) waited: f64,
    /// Of the load's process, in bytes.
    pub(crate) load_resident: u64,
    pub(crate) faults: u64,
}

/// What the run is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The load comes and goes once, for a baseline.
    Warm,
    /// Clients come.
    Fill,
    Load,
    /// Everybody goes, or has gone.
    Rest,
    Drain,
}

/// All rows, also in a file that grows with them.
pub(crate) struct Series {
    pub(crate) samples: Vec<Sample>,
    file: File,
}

impl Series {
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        writeln!(file, "{HEAD}")?;
        let samples = Vec::new();
        Ok(Self { samples, file })
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub(crate) fn add(&mut self, sample: Sample) -> Result<()> {
        let Sample {
            seconds,
            phase,
            open,
            alive,
            resident,
            heap,
            descriptors,
            sent,
            received,
            median,
            p99,
            longest,
            server_cpu,
            load_cpu,
            waited,
            load_resident,
            faults,
        } = &sample;
        writeln!(
            self.file,
            "{seconds:.1},{phase:?},{open},{alive},{resident},{heap},{descriptors},{sent:.0},\
             {received:.0},{median},{p99},{longest},{server_cpu:.3},{load_cpu:.3},{waited:.3},\
             {load_resident},{faults}"
        )?;
        self.samples.push(sample);
        Ok(())
    }
}

const HEAD: &str = "seconds,phase,open,alive,resident,heap,descriptors,sent,received,median_us,\
                    p99_us,longest_us,server_cpu,load_cpu,waited,load_resident,faults";
