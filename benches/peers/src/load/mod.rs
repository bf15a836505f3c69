//! The load generator: one thread, one epoll instance, frames built in advance.
//!
//! The load generator checks every byte of every reply, so a server cannot gain speed by wrong
//! replies. Each connection sends bursts of `--depth` messages. The next burst follows when all
//! replies to the previous one have arrived, or, at a fixed rate, when it is due.

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
mod plan;
mod schedule;
mod sides;
mod slow;
mod socketio;
mod stream;
mod subscriptions;
mod topics;
mod traffic;

pub use measure::{Idle, Latency, Measure};

use anyhow::Result;
use options::{Mode, Options};

/// Runs the load that a command line describes; the command line includes the program's name.
/// Returns `None` if it only asked for the usage, which is printed.
///
/// # Errors
///
/// Fails if the command line is invalid, if the server cannot be reached or closes, or if a reply
/// is not as expected.
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
        Mode::Topics => topics::run(&options),
        Mode::Subscriptions => subscriptions::run(&options),
    };
    measure.map(Some)
}
