//! Broadcasts: messages of one client that all clients receive.

use std::time::Instant;

use anyhow::Result;

use super::client::{Client, Phases};
use super::measure::Measure;
use super::options::{Options, Span};
use super::stream::Connector;

/// Lets the first connection send a burst, which all connections receive; sends the next burst when
/// the last connection has received the one before.
pub(super) fn run(options: &Options) -> Result<Measure> {
    let connector = Connector::new(options)?;
    let mut client = Client::new(options)?;
    client.open(&connector, options, options.connections)?;
    in_bursts(&mut client, options, |client, round| {
        send(client, usize::try_from(round)?)?;
        Ok(client.connections.len())
    })
}

/// Calls `send`, which sends a burst and returns how many messages are due for it; again when the
/// last of them has arrived.
pub(super) fn in_bursts(
    client: &mut Client,
    options: &Options,
    mut send: impl FnMut(&mut Client, u64) -> Result<usize>,
) -> Result<Measure> {
    let rounds = match options.span {
        Span::Rounds(rounds) => rounds,
        Span::Time { .. } => u64::MAX,
    };
    let mut phases = Phases::begin(client, options)?;
    let mut round = 0;
    while round < rounds && !phases.over(client)? {
        let mut missing = send(client, round)?;
        while missing > 0 {
            client.turn(|_, _, _| {
                missing -= 1;
                Ok(())
            })?;
        }
        round += 1;
    }
    let counted = phases.end(client)?;
    Ok(client.measure(options, counted))
}

fn send(client: &mut Client, round: usize) -> Result<()> {
    let now = Instant::now();
    let Client {
        connections,
        traffic,
        ..
    } = client;
    if let Some((sender, others)) = connections.split_first_mut() {
        for other in others {
            other.awaits(round, now);
        }
        sender.send(round, traffic, now)?;
    }
    Ok(())
}
