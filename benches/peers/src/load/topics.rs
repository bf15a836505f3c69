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
use super::sides;
use super::slow::Slow;
use super::stream::Connector;

/// Deliveries that are on their way during `--heat`.
const HEAT: usize = 64;

/// Opens subscribers and a publisher, which is not subscribed; then publishes, at a rate if there
/// is one. Otherwise a burst follows when the last subscriber has received the one before.
pub(super) fn run(options: &Options) -> Result<Measure> {
    let connector = Connector::new(options)?;
    let mut client = Client::new(options)?;
    match options.has_sides() {
        true => sides::open(&mut client, options)?,
        false => client.open(&connector, options, options.connections + 1)?,
    }
    let plan = Plan::new(options);
    for number in 0..options.connections {
        subscribe(&mut client, number, plan.topics_of(number))?;
    }
    client.turn_for(options.settle)?;
    let slow = Slow::open(connector, options, &plan)?;
    let mut publisher = Publisher {
        plan,
        subscribers: plan.subscribers(options.connections),
        next: 0,
        latest: vec![None; plan.keys()],
    };
    if !options.heat.is_zero() {
        publisher.heat(&mut client, options)?;
    }
    let memory = || options.server_pid.map(resident).transpose();
    let before = memory()?;
    let mut measure = match (options.rate, options.window) {
        (Some(rate), _) => at_a_rate(&mut client, &mut publisher, options, rate),
        (None, Some(window)) => in_a_window(&mut client, &mut publisher, options, window),
        (None, None) => in_bursts(&mut client, options, |client, _| {
            publisher.publish(client, options.depth, Instant::now())
        }),
    }?;
    if let (Some(_), Some(before), Some(after)) = (options.keys, before, memory()?) {
        measure.growth = Some(after as f64 - before as f64);
    }
    if options.has_sides() || options.window.is_some() {
        client.drain()?;
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
    let frames = plan::subscribe(topics, client.traffic.socketio);
    client.connections[number].send_frames(frames, &client.traffic)?;
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

/// Publishes a burst whenever fewer messages than `window` are on their way, so that the servers
/// always have work.
fn in_a_window(
    client: &mut Client,
    publisher: &mut Publisher,
    options: &Options,
    window: usize,
) -> Result<Measure> {
    // On average a message has this many receivers.
    let receivers = (options.connections * options.each).div_ceil(options.topics);
    let mut phases = Phases::begin(client, options)?;
    let mut missing = 0;
    while !phases.over(client)? {
        publisher.fill(client, options.depth, window * receivers, &mut missing)?;
    }
    let counted = phases.end(client)?;
    Ok(client.measure(options, counted))
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
    /// Publishes for the time of `--heat`.
    fn heat(&mut self, client: &mut Client, options: &Options) -> Result<()> {
        let end = Instant::now() + options.heat;
        let mut missing = 0;
        while Instant::now() < end {
            self.fill(client, 1, HEAT, &mut missing)?;
        }
        client.drain()
    }

    /// Publishes until `limit` deliveries are missing, and then waits for some of them.
    fn fill(
        &mut self,
        client: &mut Client,
        burst: usize,
        limit: usize,
        missing: &mut usize,
    ) -> Result<()> {
        while *missing < limit {
            *missing += self.publish(client, burst, Instant::now())?;
        }
        client.turn(|_, _, _| {
            *missing -= 1;
            Ok(())
        })
    }

    /// Publishes the next messages in one write; their latency counts from `at`. Returns the number
    /// of deliveries.
    fn publish(&mut self, client: &mut Client, count: usize, at: Instant) -> Result<usize> {
        let Client {
            connections,
            traffic,
            counts,
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
        counts.published += count as u64;
        Ok(deliveries)
    }
}
