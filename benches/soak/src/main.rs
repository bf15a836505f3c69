//! Keeps a wsloop server under load for a time, and accounts for every message.
//!
//! `soak --help` lists the options; `docs/reliability.md` describes a run.

mod chart;
mod checker;
mod child;
mod client;
#[path = "../../../src/client_frames.rs"]
mod client_frames;
mod fleet;
mod frame;
mod ledger;
mod message;
mod options;
mod probe;
mod record;
mod report;
mod run;
mod series;
mod serve;
mod stream;
mod topics;
mod verdict;

use std::alloc::System;
use std::process::ExitCode;

use anyhow::Result;
use options::Task;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    match soak() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak() -> Result<ExitCode> {
    match Task::parse(std::env::args())? {
        Task::Help => print!("{}", options::USAGE),
        Task::Publish { from, docs } => report::publish(&from, &docs)?,
        Task::Serve(options) => serve::run(&options)?,
        Task::Run(options) => {
            let outcome = run::run(&options)?;
            print!("{}", report::write(&options, &outcome)?);
            if outcome.faults.count > 0 {
                eprintln!("{} faults", outcome.faults.count);
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
