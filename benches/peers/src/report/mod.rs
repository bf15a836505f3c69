//! The comparison: runs servers and loads, keeps the results, and renders the report.

mod aims;
mod cases;
mod certificate;
mod charts;
mod counting;
mod document;
mod machine;
mod options;
mod peers;
mod process;
mod results;
mod spread;
mod tables;
mod timing;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use certificate::Certificate;
use machine::Machine;
use options::{Options, Task};
use peers::{PEERS, Peer};
use results::Results;

/// The files and folders that a run needs.
struct Setup {
    /// The folder of the servers and of this program.
    binaries: PathBuf,
    /// The folder of the servers that are scripts.
    scripts: PathBuf,
    /// The load generator.
    load: PathBuf,
    /// The certificate for TLS.
    certificate: Certificate,
}

impl Setup {
    fn new(scripts: PathBuf) -> Result<Self> {
        let program = std::env::current_exe()?;
        let binaries = program.parent().context("a program is in a folder")?;
        Ok(Self {
            load: timing::beside(binaries)?,
            binaries: binaries.to_owned(),
            scripts,
            certificate: Certificate::new()?,
        })
    }

    /// Returns the command of a peer's server, or why there is none.
    fn command(&self, peer: &Peer) -> Result<Vec<PathBuf>, String> {
        peer.command(&self.binaries, &self.scripts)
    }
}

/// Runs the task of a command line; the command line includes the program's name.
///
/// # Errors
///
/// Fails if the command line is invalid, or if files cannot be read or written. A server that fails
/// is noted in the report; only a smoke test fails with it.
pub fn run(args: impl IntoIterator<Item = String>) -> Result<()> {
    let args: Vec<_> = args.into_iter().collect();
    let command = args.get(1..).unwrap_or_default().join(" ");
    let command = format!("benches/peers/run {command}").trim_end().to_owned();
    let Some(options) = Options::parse(args)? else {
        print!("{}", options::USAGE);
        return Ok(());
    };
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().nth(2).unwrap_or(package);
    let file = options.results.clone();
    let file = file.unwrap_or_else(|| package.join("results.json"));
    let report = options.report.clone();
    let report = report.unwrap_or_else(|| root.join("docs/performance.md"));
    let scripts = package.join("scripts");
    match options.task {
        Task::List => {
            list();
            Ok(())
        }
        Task::Report => document::write(&Results::read(&file)?, &report),
        Task::Smoke => smoke(&options, scripts),
        Task::Time | Task::Count => {
            let mut results = Results::read(&file)?;
            results.machine = Machine::here(root, &scripts, command);
            measure(&options, scripts, &mut results, &file)?;
            document::write(&results, &report)
        }
    }
}

/// Measures the wanted cases; saves the results after each case.
fn measure(options: &Options, scripts: PathBuf, results: &mut Results, file: &Path) -> Result<()> {
    let setup = Setup::new(scripts)?;
    let peers = available(&setup, options, results);
    if options.task == Task::Count {
        let wanted = |case: &cases::Case| options.wants_case(case);
        return counting::run(&setup, wanted, &peers, results, |results| {
            results.write(file)
        });
    }
    for case in cases::CASES.iter().filter(|case| options.wants_case(case)) {
        timing::run(&setup, case, &peers, options.effort, results)?;
        results.write(file)?;
    }
    Ok(())
}

/// Runs a few cases briefly; fails if any server fails.
fn smoke(options: &Options, scripts: PathBuf) -> Result<()> {
    let setup = Setup::new(scripts)?;
    let mut results = Results::default();
    let peers = available(&setup, options, &mut results);
    if peers.is_empty() {
        bail!("there is no server to try");
    }
    for case in cases::CASES.iter().filter(|case| options.wants_case(case)) {
        timing::run(&setup, case, &peers, options.effort, &mut results)?;
    }
    let failures = timing::failures(&results);
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// Returns the wanted peers that are available; notes the others.
fn available(setup: &Setup, options: &Options, results: &mut Results) -> Vec<&'static Peer> {
    let wanted = PEERS.iter().filter(|peer| options.wants_peer(peer));
    let there = wanted.filter(|peer| match setup.command(peer) {
        Ok(_) => {
            results.missing.remove(peer.id);
            true
        }
        Err(why) => {
            eprintln!("{} is left out: {why}", peer.title);
            results.missing.insert(peer.id.into(), why);
            false
        }
    });
    there.collect()
}

fn list() {
    println!("cases:");
    for case in cases::CASES {
        println!("  {:34} {}", case.id, case.title);
    }
    println!("peers:");
    for peer in PEERS {
        println!("  {:34} {}", peer.id, peer.title);
    }
}
