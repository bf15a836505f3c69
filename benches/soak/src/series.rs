//! The samples of a run.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// One sample, a row of the file.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Seconds since the start of the run.
    pub(crate) seconds: f64,
    pub(crate) phase: Phase,
    /// Clients that exchange messages.
    pub(crate) open: usize,
    /// Connections of the servers in any state.
    pub(crate) alive: i64,
    /// Memory of the servers' process, in bytes.
    pub(crate) resident: u64,
    pub(crate) heap: u64,
    pub(crate) descriptors: u64,
    /// Messages per second that the clients sent and received.
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
    /// Resident memory of the load's process, in bytes.
    pub(crate) load_resident: u64,
    pub(crate) faults: u64,
}

/// The phase of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The first load, to measure the baseline.
    Warm,
    /// Clients connect.
    Fill,
    Load,
    /// Clients disconnect or have disconnected.
    Rest,
    Drain,
}

/// All samples, which are also written to a file.
pub(crate) struct Series {
    pub(crate) samples: Vec<Sample>,
    file: File,
}

impl Series {
    /// Creates the file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        writeln!(file, "{HEAD}")?;
        let samples = Vec::new();
        Ok(Self { samples, file })
    }

    /// Adds a sample.
    ///
    /// # Errors
    ///
    /// Fails if the sample cannot be written.
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
