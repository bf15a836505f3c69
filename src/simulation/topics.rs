//! The model of topics: who is subscribed, what was published, and which results are possible.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::acts::draw;
use super::checks::Check;
use super::handlers::Shared;
use super::model::Item;
use super::random::Random;
use super::sends::message;
use super::world::World;
use crate::connection::{Connection, ConnectionId, Handle, Hub, Outgoing, Phase};
use crate::error::SendError;
use crate::limits::SlowConsumer;
use crate::protocol::{OpCode, Prepared};
use crate::server::Server;
use crate::stats::Stats;
use crate::topics::{Position, Published, Recovery, Topic, TopicLimits};

/// The names of all topics.
const NAMES: &[&str] = &[
    "plain.1",
    "plain.2",
    "latest.1",
    "latest.2",
    "oldest",
    "newest",
    "error",
    "close",
    "history",
    "a longer name",
];

/// How many messages a history keeps, and for how long.
const KEPT: usize = 6;
const AGE: Duration = Duration::from_millis(150);

/// The model of all topics. Topics are given by their indices in [`NAMES`].
#[derive(Default)]
pub(super) struct Model {
    /// The subscribers of each topic. One whose connection is not open any more counts as a
    /// subscriber only for itself, until its `Disconnect`.
    members: BTreeMap<usize, BTreeSet<usize>>,
    /// The topics for which `Occupied` came, and no `Vacated` after it.
    told: BTreeSet<usize>,
    /// What was published to the topic with a history, by epoch, the current one last.
    kept: Vec<(u64, Vec<Kept>)>,
    /// How many clients may receive each publish whose outcome differed between receivers, and how
    /// many did.
    mixed: BTreeMap<u64, (usize, usize)>,
    /// The sums of all outcomes.
    sums: Published,
    /// The receivers of a publish that another thread is about to make, and the sums before it.
    posted: Option<(Receivers, Published)>,
}

struct Kept {
    offset: u64,
    at: Duration,
    payload: Vec<u8>,
}

/// A message that is published.
struct Sent {
    topic: usize,
    key: Option<u8>,
    number: u64,
    payload: Vec<u8>,
}

/// The subscribers that a publish reaches.
type Receivers = BTreeSet<usize>;

/// Returns settings for some topics.
pub(super) fn settings() -> Vec<(Box<str>, Topic)> {
    let policy = |policy| Topic::new().slow_consumer(policy);
    [
        ("latest.", policy(SlowConsumer::Conflate)),
        ("oldest", policy(SlowConsumer::DropOldest)),
        ("newest", policy(SlowConsumer::DropNewest)),
        ("error", policy(SlowConsumer::Error)),
        ("close", policy(SlowConsumer::Close)),
        ("history", Topic::new().history(KEPT, AGE)),
    ]
    .map(|(prefix, topic)| (prefix.into(), topic))
    .into()
}

pub(super) fn limits(random: &mut Random) -> TopicLimits {
    TopicLimits {
        subscriptions: random.pick(&[64, 64, 2]),
        topics: random.pick(&[100_000, 100_000, 3]),
        name_size: random.pick(&[200, 10]),
    }
}

impl World {
    /// Returns the policy of a topic, or that of the connections.
    fn policy_of(&self, topic: usize) -> SlowConsumer {
        match NAMES[topic] {
            "latest.1" | "latest.2" => SlowConsumer::Conflate,
            "oldest" => SlowConsumer::DropOldest,
            "newest" => SlowConsumer::DropNewest,
            "error" => SlowConsumer::Error,
            "close" => SlowConsumer::Close,
            _ => self.settings.config.slow_consumer,
        }
    }

    fn is_member(&self, topic: usize, client: usize) -> bool {
        let members = self.topics.members.get(&topic);
        members.is_some_and(|members| members.contains(&client))
    }

    fn topics_of(&self, client: usize) -> BTreeSet<&'static str> {
        let topics = (0..NAMES.len()).filter(|topic| self.is_member(*topic, client));
        topics.map(|topic| NAMES[topic]).collect()
    }

    /// Checks the topics of a connection that ends, and forgets them.
    pub(super) fn leave_topics(&mut self, conn: &Connection<'_>, client: usize) {
        let told: BTreeSet<&str> = conn.topics().collect();
        let known = self.topics_of(client);
        self.check(told == known, Check::Topics, || {
            format!("client {client} ends in {told:?} instead of {known:?}")
        });
        for members in self.topics.members.values_mut() {
            members.remove(&client);
        }
    }

    /// Records that a payload of a publish was written to a client.
    pub(super) fn wrote_published(&mut self, client: usize, publish: u64) {
        if let Some((most, count)) = self.topics.mixed.get_mut(&publish) {
            *count += 1;
            let (most, count) = (*most, *count);
            self.check(count <= most, Check::MessagesOut, || {
                format!("a message for {most} clients reached {count}, the last is {client}")
            });
        }
    }

    /// Records the outcome of a publish.
    fn published(&mut self, sent: &Sent, receivers: &Receivers, outcome: Published) {
        let Published {
            receivers: count,
            queued,
            conflated,
            dropped,
            refused,
            position,
            ..
        } = outcome;
        let topic = sent.topic;
        self.note("publish", topic, count);
        let known = receivers.len();
        self.check(count == known, Check::Topics, || {
            let name = NAMES[topic];
            format!("{name} has {count} receivers instead of {receivers:?}")
        });
        let sum = queued + conflated + dropped + refused;
        self.check(sum == count, Check::Statistics, || {
            format!("an outcome that does not add up: {outcome:?}")
        });
        let policy = self.policy_of(topic);
        let drops = matches!(
            policy,
            SlowConsumer::Conflate | SlowConsumer::DropNewest | SlowConsumer::DropOldest
        );
        let is_possible = (drops || dropped == 0)
            && (conflated == 0 || policy == SlowConsumer::Conflate && sent.key.is_some());
        self.check(is_possible, Check::Answers, || {
            format!("published to {}: {outcome:?}", NAMES[topic])
        });
        let sums = &mut self.topics.sums;
        sums.receivers += count;
        sums.queued += queued;
        sums.conflated += conflated;
        sums.dropped += dropped;
        sums.refused += refused;
        self.keep(sent, position);
        if sum != count || count != known {
            return;
        }
        let is_mixed = ![queued, conflated, dropped + refused].contains(&count);
        if is_mixed {
            let most = queued + conflated;
            self.topics.mixed.insert(sent.number, (most, 0));
        }
        for client in receivers.iter().copied() {
            if conflated > 0 {
                self.replace(client, sent, conflated == count);
            }
            if queued > 0 {
                self.append(client, sent, queued == count);
            }
        }
    }

    /// Adds a published message to what a client must receive, or, unless `is_sure`, may receive.
    fn append(&mut self, client: usize, sent: &Sent, is_sure: bool) {
        let own = self.settings.config.slow_consumer == SlowConsumer::DropOldest;
        let droppable = match NAMES[sent.topic] {
            "oldest" => true,
            "latest.1" | "latest.2" | "newest" | "error" | "close" => false,
            _ => own,
        };
        let item = Item {
            payloads: vec![(sent.payload.clone(), Some(sent.number))],
            key: sent.key.map(|key| (sent.topic, key)),
            is_sure: is_sure && !droppable,
            ..Item::new(OpCode::Text)
        };
        let number = self.clients[client].seen.push(item);
        self.note("published", client, number as usize);
    }

    /// Records that a published message took the place of another one, or may have.
    fn replace(&mut self, client: usize, sent: &Sent, is_sure: bool) {
        let key = sent.key.map(|key| (sent.topic, key));
        let items = &mut self.clients[client].seen.sent;
        let mut items: Vec<_> = items.iter_mut().filter(|item| item.key == key).collect();
        let payload = (sent.payload.clone(), Some(sent.number));
        match items.last_mut() {
            None => {
                let name = NAMES[sent.topic];
                self.check(!is_sure, Check::MessagesOut, || {
                    format!("nothing of {name} is there to be replaced for client {client}")
                });
            }
            Some(last) if is_sure && last.is_sure => last.payloads = vec![payload],
            Some(_) => {
                for item in items {
                    item.payloads.push(payload.clone());
                    item.is_sure = false;
                }
            }
        }
    }

    /// Records a message of the topic with a history.
    fn keep(&mut self, sent: &Sent, position: Option<Position>) {
        let has_history = sent.topic == HISTORY;
        self.check(has_history == position.is_some(), Check::History, || {
            format!("{} is at {position:?}", NAMES[sent.topic])
        });
        let Some(position) = position else {
            return;
        };
        let now = self.turn_at();
        // The topic may have been removed since, if nobody was in it and nothing kept.
        let is_short = self.settings.config.memory_budget < usize::MAX;
        let kept = &mut self.topics.kept;
        let last = kept.last().map(|(epoch, _)| *epoch);
        if last != Some(position.epoch()) {
            let newest = kept.last().and_then(|(_, kept)| kept.last());
            let is_gone = is_short || newest.is_none_or(|newest| newest.at + AGE <= now);
            kept.push((position.epoch(), Vec::new()));
            self.check(is_gone, Check::History, || {
                format!("a new epoch, {position}, although messages of {last:?} are kept")
            });
        }
        if let Some((_, kept)) = self.topics.kept.last_mut() {
            let due = kept.last().map_or(1, |last| last.offset + 1);
            kept.push(Kept {
                offset: position.offset(),
                at: now,
                payload: sent.payload.clone(),
            });
            self.check(position.offset() == due, Check::History, || {
                format!("{position} instead of offset {due}")
            });
        }
    }

    /// Checks what a recovery returned, and records what it sent.
    fn recovered(&mut self, client: usize, asked: &Asked, recovery: Recovery) {
        let now = self.turn_at();
        let Asked {
            position,
            was_member,
            buffered,
        } = *asked;
        let kept = self.topics.kept.last();
        let kept = kept.filter(|(epoch, _)| *epoch == position.epoch());
        let missed: Option<Vec<&Kept>> = kept.and_then(|(_, kept)| {
            let last = kept.last().map_or(0, |last| last.offset);
            let missed = kept.iter().filter(|kept| kept.offset > position.offset());
            (position.offset() <= last).then(|| missed.collect())
        });
        let missed = missed.filter(|missed| {
            let is_kept = |kept: &&Kept| kept.at + AGE > now;
            missed.len() <= KEPT && missed.iter().all(is_kept)
        });
        // A topic without subscribers and kept messages is forgotten.
        let is_old = kept.is_none_or(|(_, kept)| {
            let newest = kept.last();
            newest.is_none_or(|newest| newest.at + AGE <= now)
        });
        let Recovery::Recovered(count) = recovery else {
            let config = &self.settings.config;
            let size = |missed: Vec<&Kept>| -> usize {
                missed.iter().map(|kept| kept.payload.len() + 10).sum()
            };
            let is_large = missed
                .map(size)
                .is_none_or(|size| size > 0 && buffered + size > config.limits.max_backlog / 2);
            let is_under_way = self.clients[client].seen.parts.is_some();
            let is_short = config.memory_budget < usize::MAX;
            let is_right = was_member || is_old || is_large || is_under_way || is_short;
            return self.check(is_right, Check::History, || {
                format!("a gap after {position} for client {client}")
            });
        };
        let payloads: Option<Vec<Vec<u8>>> = missed.map(|missed| {
            let payloads = missed.iter().map(|kept| kept.payload.clone());
            payloads.collect()
        });
        let known = payloads.as_ref().map(Vec::len);
        let is_right = known == Some(count) && !was_member;
        self.check(is_right, Check::History, || {
            format!("{count} messages after {position} for client {client} instead of {known:?}")
        });
        for payload in payloads.into_iter().flatten() {
            let size = payload.len();
            self.sent(client, OpCode::Text, &payload, Ok(size.max(1)));
        }
    }

    /// Checks what holds after every turn: who is subscribed, and what was counted.
    pub(super) fn check_topics(&mut self, server: &Server) {
        let core = &server.reactor.core;
        let topics = &core.shared.topics;
        let clients: BTreeMap<usize, usize> = core
            .peers
            .iter()
            .filter_map(|(slot, peer)| Some((slot, *self.names.get(&peer.serial)?)))
            .collect();
        let open: BTreeSet<usize> = core
            .peers
            .iter()
            .filter(|(_, peer)| peer.phase() == Phase::Open && !peer.is_cut())
            .filter_map(|(slot, _)| clients.get(&slot).copied())
            .collect();
        let mut count = 0;
        for (topic, name) in NAMES.iter().enumerate() {
            let members = topics.members(name).iter();
            let members: Vec<_> = members
                .map(|member| clients.get(&(member.slot as usize)).copied())
                .collect();
            count += members.len();
            let found: BTreeSet<_> = members.iter().flatten().copied().collect();
            let known = self.topics.members.get(&topic).into_iter().flatten();
            let known: BTreeSet<_> = known.copied().filter(|each| open.contains(each)).collect();
            let is_right = found == known && members.len() == known.len();
            self.check(is_right, Check::Topics, || {
                format!("{name} has {members:?} instead of {known:?}")
            });
        }
        let counted = topics.subscriptions();
        self.check(count == counted, Check::Topics, || {
            format!("{counted} subscriptions are counted instead of {count}")
        });
        let limit = core.shared.config.topic_limits.topics;
        self.check(topics.len() <= limit, Check::Topics, || {
            format!("{} topics of {limit}", topics.len())
        });
        for (slot, peer) in &core.peers {
            if let Some(client) = clients.get(&slot).copied()
                && !self.clients[client].seen.disconnected
            {
                let listed: BTreeSet<_> = topics.names_of(peer.topics).collect();
                let known = self.topics_of(client);
                self.check(listed == known, Check::Topics, || {
                    format!("client {client} is in {listed:?} instead of {known:?}")
                });
            }
        }
        let sums = sums(&server.stats());
        let known = self.topics.sums;
        self.check(sums == known, Check::Statistics, || {
            format!("{sums:?} are counted instead of {known:?}")
        });
    }

    /// Checks, before the server sleeps, that all changes of topics were told.
    pub(super) fn check_told(&mut self, server: &Server) {
        let topics = &server.reactor.core.shared.topics;
        let is_occupied = |topic: &usize| !topics.members(NAMES[*topic]).is_empty();
        let occupied: BTreeSet<_> = (0..NAMES.len()).filter(is_occupied).collect();
        let told = &self.topics.told;
        let is_right = *told == occupied && !topics.has_changes();
        let what = format!("{told:?} are told to be occupied, and {occupied:?} are");
        self.check(is_right, Check::Topics, || what);
    }

    /// Records an `Occupied` or `Vacated`.
    pub(super) fn told_of_topic(&mut self, hub: &Hub<'_>, name: &str, is_occupied: bool) {
        self.progress += 1;
        let topic = NAMES.iter().position(|each| *each == name);
        let topic = topic.unwrap_or(NAMES.len());
        self.note("topic", topic, is_occupied.into());
        let is_new = match is_occupied {
            true => self.topics.told.insert(topic),
            false => self.topics.told.remove(&topic),
        };
        let has_members = hub.subscribers(name).len() > 0;
        self.check(is_new && has_members == is_occupied, Check::Topics, || {
            format!("{name} is told to be occupied: {is_occupied}")
        });
    }
}

/// Returns the sums of all outcomes that the server counted.
fn sums(stats: &Stats) -> Published {
    Published {
        receivers: stats.publish_receivers as usize,
        queued: stats.publish_queued as usize,
        conflated: stats.publish_conflated as usize,
        dropped: stats.publish_dropped as usize,
        refused: stats.publish_refused as usize,
        ..Published::default()
    }
}

/// Subscribes a connection to some topics, mostly one, and checks the results.
pub(super) fn subscribe(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let (first, count) = draw(world, |world| {
        let random = &mut world.hand.random;
        (
            random.below(NAMES.len()),
            random.pick(&[1, 1, 3, NAMES.len()]),
        )
    });
    for topic in (first..first + count).map(|topic| topic % NAMES.len()) {
        let recovers = topic == HISTORY && draw(world, |world| world.hand.random.chance(700));
        if recovers {
            recover(conn, world, client);
        } else {
            let result = conn.subscribe(NAMES[topic]);
            subscribed(conn, world, client, topic, result);
        }
    }
}

fn subscribed(
    conn: &mut Connection<'_>,
    world: &Shared,
    client: usize,
    topic: usize,
    result: Result<bool, SendError>,
) -> bool {
    let topics = conn.server().topic_count();
    let world = &mut *world.borrow_mut();
    world.note("subscribe", client, topic);
    let is_open = conn.is_ready() && !world.clients[client].seen.did_cut;
    let was_member = world.is_member(topic, client);
    let limits = world.settings.config.topic_limits;
    let is_right = match &result {
        Ok(is_new) => is_open && *is_new != was_member,
        Err(SendError::Closing | SendError::NotReady | SendError::Gone) => !is_open,
        Err(SendError::TooManySubscriptions { limit }) => {
            let count = world.topics_of(client).len();
            !was_member && *limit == limits.subscriptions && count >= *limit
        }
        Err(SendError::TooManyTopics { limit }) => {
            !was_member && *limit == limits.topics && topics >= *limit
        }
        Err(SendError::TopicNameTooLong { size, limit }) => {
            *size == NAMES[topic].len() && *limit == limits.name_size && size > limit
        }
        Err(_) => false,
    };
    world.check(is_right, Check::Topics, || {
        format!(
            "a subscription of client {client} to {}: {result:?}",
            NAMES[topic]
        )
    });
    if result.is_ok() {
        world
            .topics
            .members
            .entry(topic)
            .or_default()
            .insert(client);
    }
    result.is_ok()
}

/// What a recovery depends on.
struct Asked {
    position: Position,
    was_member: bool,
    buffered: usize,
}

/// Subscribes a connection from a position that some client may have seen.
fn recover(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let position = draw(world, |world| {
        let (epoch, kept) = world.topics.kept.last()?;
        let last = kept.last()?.offset;
        let back = world.hand.random.below(KEPT + 2) as u64;
        let ahead = u64::from(world.hand.random.chance(50));
        Some(Position::new(*epoch, last.saturating_sub(back) + ahead))
    });
    let Some(position) = position else {
        return;
    };
    let asked = Asked {
        position,
        was_member: world.borrow().is_member(HISTORY, client),
        buffered: conn.buffered_amount(),
    };
    let result = conn.subscribe_from(NAMES[HISTORY], position);
    let is_new = result.map(|_| !asked.was_member);
    if subscribed(conn, world, client, HISTORY, is_new)
        && let Ok(recovery) = result
    {
        world.borrow_mut().recovered(client, &asked, recovery);
    }
}

/// Ends a subscription, and checks the result.
pub(super) fn unsubscribe(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let topic = draw(world, |world| {
        let random = &mut world.hand.random;
        let any = random.below(NAMES.len());
        // Mostly one that it is subscribed to.
        let mut topics = (0..NAMES.len()).cycle().skip(any).take(NAMES.len());
        topics
            .find(|topic| world.is_member(*topic, client))
            .unwrap_or(any)
    });
    unsubscribe_from(conn, world, client, topic);
}

fn unsubscribe_from(conn: &mut Connection<'_>, world: &Shared, client: usize, topic: usize) {
    let was_there = conn.unsubscribe(NAMES[topic]);
    let world = &mut *world.borrow_mut();
    world.note("unsubscribe", client, topic);
    let members = world.topics.members.entry(topic).or_default();
    let was_member = members.remove(&client);
    world.check(was_there == was_member, Check::Topics, || {
        format!("client {client} leaves {}: {was_there}", NAMES[topic])
    });
}

/// Draws a message, and the topic and key for it.
fn draw_sent(world: &Shared) -> Sent {
    let most = world.borrow().settings.config.limits.max_send_size;
    let payload = message(world, 9000.min(most)).into_bytes();
    draw(world, |world| {
        let number = world.hand.number();
        let random = &mut world.hand.random;
        let is_keyed = random.chance(700);
        Sent {
            topic: random.below(NAMES.len()),
            key: is_keyed.then(|| random.below(3) as u8),
            number,
            payload,
        }
    })
}

/// Returns the connections that a publish must reach.
fn receivers(hub: &mut Hub<'_>, world: &Shared, topic: usize, except: Option<usize>) -> Receivers {
    let members: Vec<_> = {
        let world = world.borrow();
        let members = world.topics.members.get(&topic).into_iter().flatten();
        let ids = members.map(|client| (*client, world.clients[*client].seen.id));
        ids.collect()
    };
    let is_open = |(client, id): (usize, Option<_>)| {
        let conn = id.and_then(|id| hub.get(id));
        let is_open = conn.is_some_and(|conn| conn.is_ready());
        let is_cut = world.borrow().clients[client].seen.did_cut;
        (is_open && !is_cut && Some(client) != except).then_some(client)
    };
    members.into_iter().filter_map(is_open).collect()
}

/// Returns the connections that the kernel takes no more data for, with their backlogs.
fn full(hub: &mut Hub<'_>, world: &Shared, receivers: &Receivers) -> Vec<(ConnectionId, usize)> {
    let world = world.borrow();
    let full = receivers
        .iter()
        .filter(|client| world.lines[**client].is_full);
    let ids = full.filter_map(|client| world.clients[*client].seen.id);
    let backlog_of = |id| {
        let conn = hub.get(id)?;
        let backlog = conn.backlog();
        (conn.is_congested() && backlog > 0).then_some((id, backlog))
    };
    ids.filter_map(backlog_of).collect()
}

/// Checks that a publish did not queue more than `max_backlog` for them.
fn check_full(hub: &mut Hub<'_>, world: &Shared, before: &[(ConnectionId, usize)], size: usize) {
    let limit = world.borrow().settings.config.limits.max_backlog;
    // Up to half of the limit, a message of any size is accepted, and control frames have 4 KiB.
    let limit = limit.max(limit / 2 + size) + (4 << 10);
    for (id, before) in before {
        let Some(conn) = hub.get(*id) else {
            continue;
        };
        // The policy may have closed the connection, with a Close frame.
        let (backlog, most) = (conn.backlog(), limit.max(before + 127));
        world
            .borrow_mut()
            .check(backlog <= most, Check::Backlog, || {
                format!("a publish of {size} bytes to {id}: {before} bytes were queued, now {backlog}, and {most} are allowed")
            });
    }
}

/// Publishes some messages to topics, mostly one.
pub(super) fn publish(hub: &mut Hub<'_>, world: &Shared) {
    let count = draw(world, |world| world.hand.random.pick(&[1, 1, 1, 2, 5, 20]));
    for _ in 0..count {
        publish_one(hub, world);
    }
}

/// Publishes a message to a topic.
fn publish_one(hub: &mut Hub<'_>, world: &Shared) {
    let sent = draw_sent(world);
    let receivers = receivers(hub, world, sent.topic, None);
    let full = full(hub, world, &receivers);
    let name = NAMES[sent.topic];
    let text = String::from_utf8_lossy(&sent.payload);
    let key = sent.key.map(|key| [key]);
    let result = match draw(world, |world| world.hand.random.below(3)) {
        0 if sent.key.is_none() => hub.publish_with(name, |_| Prepared::text(&text)),
        1 => {
            let prepared = Prepared::text(&text);
            hub.publish(name, with_key(Outgoing::prepared(&prepared), key.as_ref()))
        }
        _ => hub.publish(name, with_key(Outgoing::text(&text), key.as_ref())),
    };
    outcome(world, &sent, &receivers, result);
    check_full(hub, world, &full, sent.payload.len());
    // Somebody leaves in the turn in which it was sent the message.
    let leaver = draw(world, |world| {
        let leaves = world.hand.random.chance(150);
        let client = receivers.first().copied().filter(|_| leaves)?;
        Some((client, world.clients[client].seen.id?))
    });
    if let Some((client, id)) = leaver
        && let Some(mut conn) = hub.get(id)
    {
        unsubscribe_from(&mut conn, world, client, sent.topic);
    }
}

/// Publishes a message to all subscribers but the connection.
pub(super) fn publish_to_others(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let sent = draw_sent(world);
    let receivers = receivers(&mut conn.server(), world, sent.topic, Some(client));
    let text = String::from_utf8_lossy(&sent.payload);
    let key = sent.key.map(|key| [key]);
    let result = conn.publish(
        NAMES[sent.topic],
        with_key(Outgoing::text(&text), key.as_ref()),
    );
    outcome(world, &sent, &receivers, result);
}

fn with_key<'m>(message: Outgoing<'m>, key: Option<&'m [u8; 1]>) -> Outgoing<'m> {
    match key {
        Some(key) => message.key(key),
        None => message,
    }
}

fn outcome(
    world: &Shared,
    sent: &Sent,
    receivers: &Receivers,
    result: Result<Published, SendError>,
) {
    let world = &mut *world.borrow_mut();
    let limits = world.settings.config.topic_limits;
    match result {
        Ok(outcome) => world.published(sent, receivers, outcome),
        Err(SendError::TooManyTopics { .. }) if sent.topic == HISTORY && limits.topics < 100 => {}
        Err(error) => world.fail(Check::Answers, || {
            format!("a publish to {}: {error}", NAMES[sent.topic])
        }),
    }
}

/// Publishes a message from another thread. What became of it is known from the counters.
pub(super) fn publish_from_thread(handle: &Handle, world: &Shared) -> Result<(), SendError> {
    let sent = draw_sent(world);
    let (topic, payload) = (sent.topic, sent.payload.clone());
    let text = String::from_utf8_lossy(&payload).into_owned();
    let key = sent.key.map(|key| [key]);
    handle.run(move |hub| {
        let world = world_of(hub);
        let receivers = receivers(hub, &world, topic, None);
        let before = sums(&hub.stats());
        world.borrow_mut().topics.posted = Some((receivers, before));
    })?;
    handle.publish(NAMES[topic], with_key(Outgoing::text(&text), key.as_ref()))?;
    handle.run(move |hub| {
        let world = world_of(hub);
        let position = hub.position(NAMES[topic]).filter(|_| topic == HISTORY);
        let after = sums(&hub.stats());
        let posted = world.borrow_mut().topics.posted.take();
        let Some((receivers, before)) = posted else {
            return;
        };
        let outcome = Published {
            receivers: after.receivers - before.receivers,
            queued: after.queued - before.queued,
            conflated: after.conflated - before.conflated,
            dropped: after.dropped - before.dropped,
            refused: after.refused - before.refused,
            position,
            ..Published::default()
        };
        world.borrow_mut().published(&sent, &receivers, outcome);
    })
}

fn world_of(hub: &mut Hub<'_>) -> Shared {
    let world = hub.shared::<Option<Shared>>().clone();
    world.expect("it was put there")
}

/// The index of the topic with a history.
const HISTORY: usize = 8;
