//! Loads a WebSocket server, checks every reply, and prints the results as JSON.
//!
//! `load --help` lists the options.

use std::process::ExitCode;

fn main() -> ExitCode {
    let figures = wsloop_peers::load::run(std::env::args())
        .and_then(|measure| Ok(measure.map(|m| serde_json::to_string(&m)).transpose()?));
    match figures {
        Ok(figures) => {
            if let Some(figures) = figures {
                println!("{figures}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
