//! The phases of a run.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::child::{ServerStats, Servers, Word};
use crate::client::Counts;
use crate::fleet::{Fleet, Rates};
use crate::ledger::{Faults, Totals};
use crate::options::Options;
use crate::probe::{self, Reading};
use crate::series::{Phase, Sample, Series};
use crate::stream::client_config;
use crate::topics::Lines;
use crate::verdict::{Level, check_levels, check_sums, check_topics};

/// The result of a run.
pub(crate) struct Outcome {
    /// The duration of the load.
    pub(crate) loaded: Duration,
    pub(crate) took: Duration,
    pub(crate) totals: Totals,
    pub(crate) counts: Counts,
    pub(crate) stats: ServerStats,
    pub(crate) topics: Lines,
    pub(crate) faults: Faults,
    /// The levels before the first connection, after the first load, and after the long load.
    pub(crate) pristine: Level,
    pub(crate) warmed: Level,
    pub(crate) after: Level,
    /// Round trips during the load, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// The number of connections that the drain at the end closed.
    pub(crate) drained: usize,
    pub(crate) samples: Vec<Sample>,
}

/// A run in progress.
struct Run<'o> {
    options: &'o Options,
    servers: Servers,
    fleet: Fleet,
    series: Series,
    began: Instant,
    phase: Phase,
    interval: Duration,
    sampled: Instant,
    counts: Counts,
    server: Reading,
    load: Reading,
    /// The last reported number of each server.
    alive: [i64; 2],
    heap: u64,
    blocks: u64,
    stats: ServerStats,
    topics: Lines,
    latency: Histogram<u64>,
}

/// Runs all phases.
///
/// # Errors
///
/// Fails if the run cannot continue. Faults of the servers are in the outcome.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    let needed = (options.connections * 2 + 2 * FURTHER) as u64;
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    if limit < needed {
        eprintln!("{limit} descriptors are allowed, about {needed} may be needed");
    }
    let load = Duration::from_secs_f64(options.minutes * 60.0);
    // The sum of all time limits, and the time in which the clients connect.
    let life = load + load / 6 + Duration::from_secs(600 + options.connections as u64 / 20);
    thread::spawn(move || {
        thread::sleep(life + Duration::from_secs(10));
        eprintln!("the run does not end");
        // The servers exit at the end of their standard input.
        process::exit(2)
    });
    std::fs::create_dir_all(&options.out)?;
    let began = Instant::now();
    let servers = Servers::start(options, life)?;
    let tls = client_config(&servers.certificate)?;
    let run = Run {
        options,
        fleet: Fleet::new(servers.addresses, tls, options.seed)?,
        series: Series::new(&options.out.join("soak.csv"))?,
        began,
        phase: Phase::Rest,
        interval: Duration::from_millis(match options.minutes {
            minutes if minutes < 1.0 => 500,
            minutes if minutes < 10.0 => 1000,
            _ => 5000,
        }),
        sampled: began,
        counts: Counts::default(),
        server: Reading::of(servers.pid())?,
        load: Reading::of(process::id())?,
        alive: [0; 2],
        heap: 0,
        blocks: 0,
        stats: ServerStats::default(),
        topics: Lines::default(),
        latency: Histogram::new_with_bounds(1, 120_000_000, 3)?,
        servers,
    };
    run.all(load)
}

impl Run<'_> {
    fn all(mut self, load: Duration) -> Result<Outcome> {
        let settle = (load / 8).clamp(SETTLE_MIN, SETTLE_MAX);
        let pristine = self.settle(SETTLE_MIN, u64::MAX)?;
        self.phase = Phase::Warm;
        self.fill(self.options.connections)?;
        self.exchange((load / 6).clamp(WARM_MIN, WARM_MAX))?;
        self.empty()?;
        let warmed = self.settle(settle, pristine.descriptors)?;

        self.phase = Phase::Fill;
        self.fill(self.options.connections)?;
        self.sample()?;
        self.latency.reset();
        self.phase = Phase::Load;
        let start = Instant::now();
        self.exchange(load)?;
        self.sample()?;
        let loaded = start.elapsed();
        let latency = self.latency.clone();
        self.phase = Phase::Rest;
        self.empty()?;
        let after = self.settle(settle, pristine.descriptors)?;

        self.phase = Phase::Drain;
        self.fill((self.options.connections / 10).max(10))?;
        self.exchange(WARM_MIN)?;
        let cut_before = self.fleet.ledger.totals.cut();
        let drained = self.drain()?;
        let (fleet, series) = (self.fleet, self.series);
        let mut ledger = fleet.ledger;
        ledger.close();
        check_sums(&ledger.totals, cut_before, &self.stats, &mut ledger.faults);
        check_topics(
            &ledger.totals,
            &self.stats,
            &self.topics,
            &mut ledger.faults,
        );
        check_levels(&pristine, &warmed, &after, &mut ledger.faults);
        Ok(Outcome {
            loaded,
            took: self.began.elapsed(),
            totals: ledger.totals,
            counts: fleet.context.counts,
            stats: self.stats,
            topics: self.topics,
            faults: ledger.faults,
            pristine,
            warmed,
            after,
            latency,
            drained,
            samples: series.samples,
        })
    }

    /// Waits until enough clients are open.
    fn fill(&mut self, connections: usize) -> Result<()> {
        // The target is higher, because some clients always connect or disconnect.
        self.fleet.come(connections + connections / 50 + 2);
        let patience = FILL_PATIENCE + Duration::from_secs(connections as u64 / 50);
        let full = self.until(patience, |run| run.fleet.open() >= connections)?;
        if !full {
            bail!("{} of {connections} clients are open", self.fleet.open());
        }
        Ok(())
    }

    /// Keeps all clients and the servers busy for a time.
    fn exchange(&mut self, time: Duration) -> Result<()> {
        let Options { rate, churn, .. } = *self.options;
        self.fleet.rates = Some(Rates {
            messages: rate,
            churn,
            visits: churn / 3.0,
        });
        self.servers.order("go")?;
        self.until(time, |_| false)?;
        self.servers.order("rest")?;
        self.fleet.rates = None;
        Ok(())
    }

    /// Makes all clients close in an orderly way.
    fn empty(&mut self) -> Result<()> {
        self.fleet.leave();
        if !self.until(EMPTY_PATIENCE, |run| run.is_empty())? {
            let (left, alive) = (self.fleet.sockets(), self.alive);
            let fault = format!("{left} clients and {alive:?} connections do not end");
            self.fleet.ledger.faults.add(fault);
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.fleet.sockets() == 0 && self.alive == [0; 2] && self.fleet.ledger.unsettled() == 0
    }

    /// Waits for a time, and until at most this number of descriptors is open; then returns the
    /// level of the servers.
    fn settle(&mut self, time: Duration, descriptors: u64) -> Result<Level> {
        self.until(time, |_| false)?;
        let pid = self.servers.pid();
        // A server's socket may outlive its connection by `close_timeout`.
        let end = Instant::now() + SETTLE_MAX;
        while probe::descriptors(pid)? > descriptors && Instant::now() < end {
            self.until(SETTLE_MIN / 2, |_| false)?;
        }
        let (resident, descriptors) = (Reading::of(pid)?.resident, probe::descriptors(pid)?);
        self.servers.order("trim")?;
        // Waits until the servers have reported their status again.
        self.until(TRIM_PATIENCE, |_| false)?;
        Ok(Level {
            resident,
            trimmed: Reading::of(pid)?.resident,
            heap: self.heap,
            blocks: self.blocks,
            descriptors,
        })
    }

    /// Drains the servers, and returns how many clients they had.
    fn drain(&mut self) -> Result<usize> {
        let clients = self.fleet.open();
        self.fleet.come(0);
        self.fleet.read_on();
        self.servers.order("drain")?;
        let ended = self.until(DRAIN_PATIENCE, |run| run.fleet.sockets() == 0)?;
        if !ended {
            let left = self.fleet.sockets();
            let fault = format!("{left} clients are left after the drain");
            self.fleet.ledger.faults.add(fault);
        }
        let status = self.servers.wait(DRAIN_PATIENCE)?;
        if !status.success() {
            bail!("the servers ended with {status}");
        }
        // The reading thread ends at the end of its input.
        while let Ok(word) = self.servers.words.recv() {
            self.take(word);
        }
        Ok(clients)
    }

    /// Runs the loop for a time or until a condition holds; returns whether it holds.
    fn until(&mut self, time: Duration, holds: impl Fn(&Self) -> bool) -> Result<bool> {
        let end = Instant::now() + time;
        loop {
            self.fleet.turn()?;
            while let Ok(word) = self.servers.words.try_recv() {
                self.take(word);
            }
            let now = Instant::now();
            if now - self.sampled >= self.interval {
                self.sample()
                    .context("the servers' process cannot be read")?;
                self.fleet.ledger.overdue(now);
            }
            if holds(self) {
                return Ok(true);
            }
            if now >= end {
                return Ok(false);
            }
        }
    }

    fn take(&mut self, word: Word) {
        match word {
            Word::Gone(record) => self.fleet.ledger.server(record, Instant::now()),
            Word::Fault(fault) => self.fleet.ledger.faults.add(fault),
            Word::Stats(stats) => self.stats.add(&stats),
            Word::Topics(lines) => {
                for (sum, line) in self.topics.iter_mut().zip(lines.iter()) {
                    sum.add(line);
                }
            }
            Word::Status {
                server,
                alive,
                heap,
                blocks,
            } => {
                if let Some(place) = self.alive.get_mut(server) {
                    *place = alive;
                }
                (self.heap, self.blocks) = (heap, blocks);
            }
        }
    }

    fn sample(&mut self) -> Result<()> {
        let (server, load) = match self.phase {
            // The servers may end during the reading.
            Phase::Drain => match Reading::of(self.servers.pid()) {
                Ok(server) => (server, Reading::of(process::id())?),
                Err(_) => return Ok(()),
            },
            _ => (
                Reading::of(self.servers.pid())?,
                Reading::of(process::id())?,
            ),
        };
        let counts = self.fleet.context.counts;
        let seconds = (server.at - self.server.at).as_secs_f64().max(0.001);
        let per_second = |now: u64, before: u64| (now - before) as f64 / seconds;
        let open = self.fleet.open();
        let (server_cpu, server_waited) = server.load_since(&self.server);
        let (load_cpu, load_waited) = load.load_since(&self.load);
        let latency = &mut self.fleet.context.latency;
        let sample = Sample {
            seconds: self.began.elapsed().as_secs_f64(),
            phase: self.phase,
            open,
            alive: self.alive.iter().sum(),
            resident: server.resident,
            heap: self.heap,
            descriptors: server.descriptors,
            sent: per_second(counts.sent, self.counts.sent),
            received: per_second(counts.received, self.counts.received),
            median: latency.value_at_quantile(0.5),
            p99: latency.value_at_quantile(0.99),
            longest: latency.max(),
            server_cpu,
            load_cpu,
            waited: server_waited + load_waited,
            load_resident: load.resident,
            faults: self.fleet.ledger.faults.count,
        };
        self.latency.add(&*latency)?;
        latency.reset();
        eprintln!(
            "{:6.0} s {:5?} {:6} open {:6.1} MB {:6} fds {:6.0} in/s p50 {:5} p99 {:6} us cpu {:.2}+{:.2} waited {:.2} faults {}",
            sample.seconds,
            sample.phase,
            sample.open,
            sample.resident as f64 / 1e6,
            sample.descriptors,
            sample.received,
            sample.median,
            sample.p99,
            sample.server_cpu,
            sample.load_cpu,
            sample.waited,
            sample.faults,
        );
        self.series.add(sample)?;
        (self.server, self.load, self.counts) = (server, load, counts);
        self.sampled = Instant::now();
        Ok(())
    }
}

/// Descriptors besides those of the requested connections.
const FURTHER: usize = 200;

const SETTLE_MIN: Duration = Duration::from_secs(1);
const SETTLE_MAX: Duration = Duration::from_secs(20);
const WARM_MIN: Duration = Duration::from_millis(1500);
const WARM_MAX: Duration = Duration::from_secs(300);
const TRIM_PATIENCE: Duration = Duration::from_millis(1200);
const FILL_PATIENCE: Duration = Duration::from_secs(20);
const EMPTY_PATIENCE: Duration = Duration::from_secs(90);
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);
