//! Topics: messages of one client that the subscribers of a topic receive.

use std::time::Instant;

use anyhow::{Context, Result};

use super::broadcast::in_bursts;
use super::client::{Client, Phases};
use super::measure::Measure;
use super::meter::resident;
use super::options::Options;
use super::plan::{self, Plan};
use super::schedule::Schedule;
use super::slow::Slow;
use super::stream::Connector;

/// Opens subscribers and a publisher, which is not subscribed; then publishes, at a rate if there
/// is one. Otherwise a burst follows when the last subscriber has received the one before.
pub(super) fn run(options: &Options) -> Result<Measure> {
    let connector = Connector::new(options)?;
    let mut client = Client::new(options)?;
    client.open(&connector, options, options.connections + 1)?;
    let plan = Plan::new(options);
    for number in 0..options.connections {
        subscribe(&mut client, number, plan.topics_of(number))?;
    }
    let slow = Slow::open(connector, options, &plan)?;
    let mut publisher = Publisher {
        plan,
        subscribers: plan.subscribers(options.connections),
        next: 0,
        latest: vec![None; plan.keys()],
    };
    let memory = || options.server_pid.map(resident).transpose();
    let before = memory()?;
    let mut measure = match options.rate {
        Some(rate) => at_a_rate(&mut client, &mut publisher, options, rate),
        None => in_bursts(&mut client, options, |client, _| {
            publisher.publish(client, options.depth, Instant::now())
        }),
    }?;
    if let (Some(_), Some(before), Some(after)) = (options.keys, before, memory()?) {
        measure.growth = Some(after as f64 - before as f64);
    }
    slow.catch_up(&client.traffic, &plan, &publisher.latest)?;
    Ok(measure)
}

/// Subscribes a connection, and waits until the server has done so.
pub(super) fn subscribe(
    client: &mut Client,
    number: usize,
    topics: impl Iterator<Item = usize>,
) -> Result<()> {
    let done = client.pongs + 1;
    client.connections[number].send_frames(plan::subscribe(topics), &client.traffic)?;
    while client.pongs < done {
        client.turn(|_, _, _| Ok(()))?;
    }
    Ok(())
}

fn at_a_rate(
    client: &mut Client,
    publisher: &mut Publisher,
    options: &Options,
    rate: f64,
) -> Result<Measure> {
    let mut schedule = Schedule::new(rate);
    let mut phases = Phases::begin(client, options)?;
    while !phases.over(client)? {
        let begin = phases.began();
        while let Some((_, at)) = schedule.due(begin.elapsed()) {
            publisher.publish(client, 1, begin + at)?;
        }
        client.turn(|_, _, _| Ok(()))?;
    }
    client.end_at_rate(options, &phases)
}

/// The last connection, which publishes.
struct Publisher {
    plan: Plan,
    /// The receivers by topic.
    subscribers: Vec<Vec<usize>>,
    /// The number of the next message.
    next: usize,
    /// The last message of each key.
    latest: Vec<Option<usize>>,
}

impl Publisher {
    /// Publishes the next messages in one write; their latency counts from `at`. Returns the number
    /// of deliveries.
    fn publish(&mut self, client: &mut Client, count: usize, at: Instant) -> Result<usize> {
        let Client {
            connections,
            traffic,
            ..
        } = client;
        let (publisher, receivers) = connections.split_last_mut().context("no publisher")?;
        let (mut frames, mut deliveries) = (Vec::new(), 0);
        for _ in 0..count {
            let message = self.next % traffic.variants();
            self.next += 1;
            frames.extend_from_slice(&traffic.burst(message).request);
            self.latest[self.plan.key(message)] = Some(message);
            let subscribers = &self.subscribers[self.plan.topic(message)];
            deliveries += subscribers.len();
            for &receiver in subscribers {
                receivers[receiver].awaits(message, at);
            }
        }
        publisher.send_frames(frames, traffic)?;
        Ok(deliveries)
    }
}
