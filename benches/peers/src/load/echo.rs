//! Echoes: messages that return on their connection.

use std::time::Instant;

use anyhow::Result;

use super::client::{Client, Phases};
use super::measure::Measure;
use super::options::{Options, Span};
use super::schedule::Schedule;
use super::stream::Connector;

/// Runs echoes: at a rate if there is one, otherwise each burst follows as soon as the replies to
/// the previous one are complete.
pub(super) fn run(options: &Options) -> Result<Measure> {
    let connector = Connector::new(options)?;
    let mut client = Client::new(options)?;
    client.open(&connector, options, options.connections + options.idle)?;
    match options.rate {
        Some(rate) => at_a_rate(&mut client, options, rate),
        None => closed_loop(&mut client, options),
    }
}

fn closed_loop(client: &mut Client, options: &Options) -> Result<Measure> {
    let rounds = match options.span {
        Span::Rounds(rounds) => rounds,
        Span::Time { .. } => u64::MAX,
    };
    let mut phases = Phases::begin(client, options)?;
    let mut busy = 0;
    if rounds > 0 {
        let Client {
            connections,
            traffic,
            ..
        } = client;
        for connection in &mut connections[..options.connections] {
            connection.send_next(traffic, Instant::now())?;
        }
        busy = options.connections;
    }
    while busy > 0 && !phases.over(client)? {
        client.turn(|connection, _, traffic| {
            if connection.rounds < rounds {
                connection.send_next(traffic, Instant::now())
            } else {
                busy -= 1;
                Ok(())
            }
        })?;
    }
    let counted = phases.end(client)?;
    Ok(client.measure(options, counted))
}

fn at_a_rate(client: &mut Client, options: &Options, rate: f64) -> Result<Measure> {
    let mut schedule = Schedule::new(rate);
    let mut phases = Phases::begin(client, options)?;
    while !phases.over(client)? {
        let begin = phases.began();
        while let Some((number, at)) = schedule.due(begin.elapsed()) {
            let connections = options.connections as u64;
            let turn = usize::try_from(number % connections).unwrap_or_default();
            let Client {
                connections,
                traffic,
                ..
            } = client;
            connections[turn].send_next(traffic, begin + at)?;
        }
        client.turn(|_, _, _| Ok(()))?;
    }
    client.end_at_rate(options, &phases)
}
