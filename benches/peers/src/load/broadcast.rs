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
    let rounds = match options.span {
        Span::Rounds(rounds) => usize::try_from(rounds)?,
        Span::Time { .. } => usize::MAX,
    };
    let mut phases = Phases::begin(&mut client, options)?;
    let mut round = 0;
    while round < rounds && !phases.over(&mut client)? {
        send(&mut client, round)?;
        let mut missing = client.connections.len();
        while missing > 0 {
            client.turn(|_, _, _| {
                missing -= 1;
                Ok(())
            })?;
        }
        round += 1;
    }
    let (seconds, usage, wire_payload) = phases.end(&client)?;
    Ok(client.measure(options, seconds, usage, wire_payload))
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
