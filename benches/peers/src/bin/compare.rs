//! Runs the load generator against each server in turn and writes the report.
//!
//! `compare --help` lists the options; `benches/peers/run` builds everything first.

use std::process::ExitCode;

fn main() -> ExitCode {
    match wsloop_peers::report::run(std::env::args()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
