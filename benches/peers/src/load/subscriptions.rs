//! The memory of subscriptions.

use std::time::Instant;

use anyhow::{Context, Result};

use super::client::Client;
use super::measure::{Measure, rounded};
use super::meter::resident;
use super::options::Options;
use super::plan::Plan;
use super::stream::Connector;
use super::topics::subscribe;

/// Subscribes each connection to `--each` topics, and reads the server's memory before and after.
///
/// Each connection has one subscription before, and each topic a subscriber, so that the memory of
/// connections and of topics is not charged to the subscriptions.
pub(super) fn run(options: &Options) -> Result<Measure> {
    let pid = options
        .server_pid
        .context("--mode subscriptions needs --server-pid")?;
    let begin = Instant::now();
    let connector = Connector::new(options)?;
    let mut client = Client::new(options)?;
    client.open(&connector, options, options.connections)?;
    let plan = Plan::new(options);
    for number in 0..options.connections {
        subscribe(&mut client, number, plan.topics_of(number).take(1))?;
    }
    let before = resident(pid)?;
    for number in 0..options.connections {
        subscribe(&mut client, number, plan.topics_of(number).skip(1))?;
    }
    let more = resident(pid)? as f64 - before as f64;
    let subscriptions = options.connections * options.each;
    let seconds = begin.elapsed().as_secs_f64();
    let mut measure = Measure::new(subscriptions as u64, seconds, None);
    measure.subscription = Some(rounded(more / subscriptions as f64, 1));
    Ok(measure)
}
