//! The load generator: one thread, one epoll instance, frames that are built beforehand.
//!
//! Every byte of every reply is checked, so a server cannot be fast by being wrong. Each connection
//! sends bursts of `--depth` messages; the next burst follows when all replies to the one before
//! have come, or at a fixed rate whenever it is due.

mod broadcast;
mod checker;
mod client;
mod connection;
mod echo;
mod frame;
mod handshake;
mod idle;
mod measure;
mod meter;
mod options;
mod payload;
mod schedule;
mod stream;
mod traffic;

pub use measure::{Idle, Latency, Measure};

use anyhow::Result;
use options::{Mode, Options};

/// Runs the load that a command line describes, the program's name included; `None` if it only
/// asked for the usage, which has been printed.
///
/// # Errors
///
/// Fails if the command line is wrong, if the server cannot be reached or closes, and if any reply
/// is not what it has to be.
pub fn run(args: impl IntoIterator<Item = String>) -> Result<Option<Measure>> {
    let Some(options) = Options::parse(args)? else {
        print!("{}", options::USAGE);
        return Ok(None);
    };
    let measure = match options.mode {
        Mode::Echo => echo::run(&options),
        Mode::Handshake => handshake::run(&options),
        Mode::Broadcast => broadcast::run(&options),
        Mode::Idle => idle::run(&options),
    };
    measure.map(Some)
}
