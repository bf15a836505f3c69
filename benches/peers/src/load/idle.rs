//! Connections that are open and idle.

use std::time::Instant;

use anyhow::{Context, Result};

use super::client::Client;
use super::measure::{Idle, Measure, rounded};
use super::meter::resident;
use super::options::Options;
use super::stream::Connector;

/// Opens the connections, sends one message on each, and reads the server's memory in between.
///
/// One connection with one echo comes first, so that memory that the server allocates once is not
/// charged to the connections.
pub(super) fn run(options: &Options) -> Result<Measure> {
    let pid = options
        .server_pid
        .context("--mode idle needs --server-pid")?;
    let begin = Instant::now();
    let connector = Connector::new(options)?;
    let mut client = Client::new(options)?;
    client.open(&connector, options, 1)?;
    echo_once(&mut client, 0)?;
    let before = resident(pid)?;
    client.open(&connector, options, options.connections)?;
    let open = resident(pid)?;
    // One at a time, like typical traffic on mostly idle connections.
    for number in 1..client.connections.len() {
        echo_once(&mut client, number)?;
    }
    let echoed = resident(pid)?;
    let each = |now: u64| {
        let more = now as f64 - before as f64;
        rounded(more / options.connections as f64, 1)
    };
    let mut measure = Measure::new(client.counts.messages, begin.elapsed().as_secs_f64(), None);
    measure.bytes = client.counts.messages * options.size as u64;
    measure.idle = Some(Idle {
        before,
        open: each(open),
        echoed: each(echoed),
    });
    Ok(measure)
}

fn echo_once(client: &mut Client, number: usize) -> Result<()> {
    let Client {
        connections,
        traffic,
        ..
    } = client;
    connections[number].send_next(traffic, Instant::now())?;
    let mut whole = false;
    while !whole {
        client.turn(|_, _, _| {
            whole = true;
            Ok(())
        })?;
    }
    Ok(())
}
