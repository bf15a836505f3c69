//! The model of topics: who is subscribed, what was published, and what each client may receive.
//!
//! The outcome of a publish is known for all receivers together. If it differs between them, the
//! message may or may not reach each of them, but not more of them than the outcome tells.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wsloop::{
    Builder, Compress, Connection, ConnectionId, Hub, OpCode, Outgoing, Position, Prepared,
    Published, Recovery, SendError, SlowConsumer, Topic,
};

use super::{Item, Log};

/// The model of all topics. Topics are given by their indices in [`NAMES`].
#[derive(Default)]
pub(super) struct Model {
    /// The policy of the connections, and whether the numbers of topics are limited.
    pub(super) policy: SlowConsumer,
    is_limited: bool,
    members: [BTreeSet<ConnectionId>; NAMES.len()],
    /// The connections that a handler has aborted. They have left their topics.
    aborted: BTreeSet<ConnectionId>,
    /// The topics for which `Occupied` came, and no `Vacated` after it.
    occupied: BTreeSet<usize>,
    /// For each publish, the number of clients that it may reach.
    reach: Vec<usize>,
    /// The sums of all outcomes.
    sums: Published,
    /// The position of the last message with a history, and the last messages.
    position: Option<Position>,
    kept: Vec<Vec<u8>>,
}

/// What an operation on a topic does, from one byte.
struct Choice {
    topic: usize,
    key: Option<[u8; 1]>,
    size: usize,
    form: u8,
}

impl Choice {
    fn of(how: u8) -> Self {
        let how = usize::from(how);
        let rest = how / NAMES.len();
        Self {
            topic: how % NAMES.len(),
            key: [None, Some([b'a']), Some([b'b'])][rest % 3],
            size: [3000, 10, 600][rest / 3 % 3],
            form: (rest / 9) as u8,
        }
    }
}

/// Adds the settings of the topics.
pub(super) fn settings(mut builder: Builder, is_limited: bool) -> Builder {
    for (topic, name) in NAMES.iter().enumerate() {
        let mut settings = Topic::new();
        if let Some(policy) = own_policy(topic) {
            settings = settings.slow_consumer(policy);
        }
        if topic == HISTORY {
            settings = settings.history(KEPT, Duration::from_secs(3600));
        }
        builder = builder.topics(name, settings);
    }
    if is_limited {
        builder = builder.max_subscriptions(2).max_topics(3);
    }
    builder
}

fn own_policy(topic: usize) -> Option<SlowConsumer> {
    Some(match NAMES[topic] {
        "latest" => SlowConsumer::Conflate,
        "oldest" => SlowConsumer::DropOldest,
        "newest" => SlowConsumer::DropNewest,
        "error" => SlowConsumer::Error,
        "close" => SlowConsumer::Close,
        _ => return None,
    })
}

/// Performs an operation on a topic for a connection: `what` chooses it, and `how` the topic.
pub(super) fn act(conn: &mut Connection<'_>, log: &RefCell<Log>, what: u8, how: u8) {
    match what {
        0 => subscribe(conn, log, how),
        1 => unsubscribe(conn, log, how),
        2 => publish(&mut conn.server(), log, how),
        3 => publish_to_others(conn, log, how),
        4 => subscribe_from(conn, log, how),
        _ => subscribe_recent(conn, log, how),
    }
}

fn subscribe(conn: &mut Connection<'_>, log: &RefCell<Log>, how: u8) {
    let topic = Choice::of(how).topic;
    let result = conn.subscribe(NAMES[topic]);
    let was_member = log.borrow().topics.members[topic].contains(&conn.id());
    if subscribed(conn, log, topic, result.as_ref().err()) {
        assert_eq!(result.ok(), Some(!was_member), "a subscription");
    }
}

/// Checks whether a subscription may fail, and records it otherwise.
fn subscribed(
    conn: &mut Connection<'_>,
    log: &RefCell<Log>,
    topic: usize,
    error: Option<&SendError>,
) -> bool {
    let topics = conn.topics().len();
    let mut log = log.borrow_mut();
    let model = &mut log.topics;
    let is_open = model.is_open(conn);
    let was_member = model.members[topic].contains(&conn.id());
    match error {
        None => {
            assert!(is_open, "subscribed before or after the open phase");
            model.members[topic].insert(conn.id());
            return true;
        }
        Some(SendError::NotReady | SendError::Closing | SendError::Gone) => assert!(!is_open),
        Some(SendError::TooManySubscriptions { .. }) => {
            assert!(model.is_limited && topics == 2 && !was_member);
        }
        Some(SendError::TooManyTopics { .. }) => {
            assert!(model.is_limited && model.members[topic].is_empty());
        }
        Some(error) => panic!("a subscription: {error}"),
    }
    false
}

fn subscribe_from(conn: &mut Connection<'_>, log: &RefCell<Log>, how: u8) {
    let (position, was_member, kept) = {
        let log = log.borrow();
        let model = &log.topics;
        let Some(position) = model.position else {
            return;
        };
        let was_member = model.members[HISTORY].contains(&conn.id());
        (position, was_member, model.kept.clone())
    };
    // One offset is that of a later message.
    let offset = (position.offset() + 1).saturating_sub(u64::from(how % 6));
    let is_known = how & 0x80 == 0;
    let epoch = position.epoch() ^ u64::from(!is_known);
    let buffered = conn.buffered_amount();
    let result = conn.subscribe_from(NAMES[HISTORY], Position::new(epoch, offset));
    if !subscribed(conn, log, HISTORY, result.as_ref().err()) {
        return;
    }
    let missed = position.offset().checked_sub(offset);
    let missed = missed.and_then(|count| kept.len().checked_sub(count as usize));
    let missed = missed.filter(|_| is_known).map(|first| &kept[first..]);
    let log = &mut log.borrow_mut();
    match (result, missed) {
        (Ok(Recovery::Recovered(count)), Some(missed)) => {
            assert!(!was_member && count == missed.len(), "{count} recovered");
            log.recovered(conn.id(), missed);
        }
        (Ok(Recovery::Gap), missed) => {
            let size = |missed: &[Vec<u8>]| missed.iter().map(|message| message.len() + 10).sum();
            let size = missed.map_or(usize::MAX, size);
            let is_large = size > 0 && buffered.saturating_add(size) > log.max_backlog / 2;
            let is_under_way = log.seen(conn).parts.is_some();
            assert!(was_member || is_large || is_under_way, "a gap");
        }
        (result, _) => panic!("{result:?} after {offset} at {position}"),
    }
}

fn subscribe_recent(conn: &mut Connection<'_>, log: &RefCell<Log>, how: u8) {
    let was_member = log.borrow().topics.members[HISTORY].contains(&conn.id());
    let most = usize::from(how % 5);
    let result = conn.subscribe_recent(NAMES[HISTORY], most);
    if !subscribed(conn, log, HISTORY, result.as_ref().err()) {
        return;
    }
    let count = result.unwrap_or_default();
    let log = &mut log.borrow_mut();
    let kept = log.topics.kept.clone();
    assert!(count <= most.min(kept.len()) && (count == 0 || !was_member));
    log.recovered(conn.id(), &kept[kept.len() - count..]);
}

fn unsubscribe(conn: &mut Connection<'_>, log: &RefCell<Log>, how: u8) {
    let topic = Choice::of(how).topic;
    let was_there = conn.unsubscribe(NAMES[topic]);
    let model = &mut log.borrow_mut().topics;
    let is_open = model.is_open(conn);
    let members = &mut model.members[topic];
    match is_open {
        true => assert_eq!(members.remove(&conn.id()), was_there),
        // The connection has left its topics already.
        false => assert!(!was_there || members.remove(&conn.id())),
    }
}

/// Returns the connections that a publish must reach.
fn receivers(
    hub: &mut Hub<'_>,
    log: &RefCell<Log>,
    topic: usize,
    except: Option<ConnectionId>,
) -> Vec<ConnectionId> {
    let model = &log.borrow().topics;
    let members = model.members[topic].iter().copied();
    let is_open = |id: &ConnectionId| hub.get(*id).is_some_and(|conn| model.is_open(&conn));
    let open: Vec<_> = members.filter(is_open).collect();
    let mut found: Vec<_> = hub.subscribers(NAMES[topic]).collect();
    found.sort_unstable();
    assert_eq!(found, open, "the subscribers of {}", NAMES[topic]);
    open.into_iter().filter(|id| Some(*id) != except).collect()
}

/// Publishes a message to all subscribers.
pub(super) fn publish(hub: &mut Hub<'_>, log: &RefCell<Log>, how: u8) {
    let choice = Choice::of(how);
    let receivers = receivers(hub, log, choice.topic, None);
    let (name, payload) = (NAMES[choice.topic], payload(log, &choice));
    let result = match choice.form {
        0 => hub.publish(name, keyed(Outgoing::text(&payload), &choice)),
        1 if choice.key.is_none() => hub.publish_with(name, |_| Prepared::text(&payload)),
        1 => {
            let message = Prepared::text(&payload).compress(Compress::No);
            hub.publish(name, keyed(Outgoing::prepared(&message), &choice))
        }
        _ => {
            let (front, back) = payload.as_bytes().split_at(payload.len() / 2);
            let parts = [front, b"", back];
            let message = Outgoing::parts(OpCode::Text, &parts).in_frames();
            hub.publish(name, keyed(message, &choice))
        }
    };
    published(hub, log, &choice, &receivers, &payload, result);
}

fn publish_to_others(conn: &mut Connection<'_>, log: &RefCell<Log>, how: u8) {
    let (choice, id) = (Choice::of(how), conn.id());
    let receivers = receivers(&mut conn.server(), log, choice.topic, Some(id));
    let payload = payload(log, &choice);
    let compress = [Compress::Auto, Compress::No][usize::from(choice.form & 1)];
    let message = keyed(Outgoing::text(&payload), &choice).compress(compress);
    let result = conn.publish(NAMES[choice.topic], message);
    let hub = &mut conn.server();
    published(hub, log, &choice, &receivers, &payload, result);
}

/// Returns the content of the next message: its number, and filling.
fn payload(log: &RefCell<Log>, choice: &Choice) -> String {
    let number = log.borrow().topics.reach.len();
    format!("{MARK}{number:06}{}", "x".repeat(choice.size))
}

/// Returns the number of a published message.
fn number_of(payload: &[u8]) -> Option<usize> {
    let digits = payload.strip_prefix(MARK.as_bytes())?.get(..6)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn keyed<'m>(message: Outgoing<'m>, choice: &'m Choice) -> Outgoing<'m> {
    match &choice.key {
        Some(key) => message.key(key),
        None => message,
    }
}

/// Checks the outcome of a publish, and records what the clients may receive.
fn published(
    hub: &mut Hub<'_>,
    log: &RefCell<Log>,
    choice: &Choice,
    receivers: &[ConnectionId],
    payload: &str,
    result: Result<Published, SendError>,
) {
    let log = &mut log.borrow_mut();
    let topic = choice.topic;
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(SendError::TooManyTopics { .. }) => {
            let model = &log.topics;
            assert!(model.is_limited && topic == HISTORY && model.position.is_none());
            return;
        }
        Err(error) => panic!("a publish: {error}"),
    };
    let Published {
        receivers: count,
        queued,
        conflated,
        dropped,
        refused,
        ..
    } = outcome;
    assert_eq!(count, receivers.len(), "receivers of {}", NAMES[topic]);
    assert_eq!(count, queued + conflated + dropped + refused, "{outcome:?}");
    let policy = own_policy(topic).unwrap_or(log.topics.policy);
    assert!(conflated == 0 || policy == SlowConsumer::Conflate && choice.key.is_some());
    let drops = !matches!(policy, SlowConsumer::Error | SlowConsumer::Close);
    assert!(drops || dropped == 0, "{outcome:?} with {policy:?}");
    log.topics.reach.push(queued + conflated);
    log.topics.sums += outcome;
    log.topics.sums.bytes = 0;
    log.topics.sums.position = None;
    assert_eq!(log.topics.sums, sums(hub), "what the server counted");
    log.topics.keep(topic, outcome.position, payload);
    for id in receivers {
        let seen = log.seen.get_mut(id).expect("it is connected");
        if conflated > 0 {
            replace(&mut seen.sent, choice, payload, conflated == count);
        }
        if queued > 0 {
            let is_droppable = policy == SlowConsumer::DropOldest;
            seen.sent.push(Item {
                opcode: OpCode::Text,
                payloads: vec![payload.as_bytes().to_vec()],
                key: choice.key.map(|[key]| (topic, key)),
                is_sure: queued == count && !is_droppable,
            });
        }
    }
}

/// Records that a message took the place of another one with the same key, or may have.
fn replace(sent: &mut [Item], choice: &Choice, payload: &str, is_sure: bool) {
    let key = choice.key.map(|[key]| (choice.topic, key));
    let mut items: Vec<_> = sent.iter_mut().filter(|item| item.key == key).collect();
    match items.last_mut() {
        None => assert!(!is_sure, "nothing is there to be replaced"),
        Some(last) if is_sure && last.is_sure => last.payloads = vec![payload.as_bytes().to_vec()],
        Some(_) => {
            for item in items {
                item.payloads.push(payload.as_bytes().to_vec());
                item.is_sure = false;
            }
        }
    }
}

/// Returns the sums of all outcomes that the server has counted.
fn sums(hub: &Hub<'_>) -> Published {
    let stats = hub.stats();
    let mut sums = Published::default();
    sums.receivers = stats.publish_receivers as usize;
    sums.queued = stats.publish_queued as usize;
    sums.conflated = stats.publish_conflated as usize;
    sums.dropped = stats.publish_dropped as usize;
    sums.refused = stats.publish_refused as usize;
    sums
}

impl Model {
    pub(super) fn new(policy: SlowConsumer, is_limited: bool) -> Self {
        Self {
            policy,
            is_limited,
            ..Self::default()
        }
    }

    pub(super) fn aborted(&mut self, id: ConnectionId) {
        self.aborted.insert(id);
    }

    /// Returns whether the connection can be subscribed.
    fn is_open(&self, conn: &Connection<'_>) -> bool {
        conn.is_ready() && !self.aborted.contains(&conn.id())
    }

    /// Records a message of the topic with a history.
    fn keep(&mut self, topic: usize, position: Option<Position>, payload: &str) {
        assert_eq!(position.is_some(), topic == HISTORY);
        let Some(position) = position else {
            return;
        };
        match self.position {
            Some(last) => {
                assert_eq!(position, Position::new(last.epoch(), last.offset() + 1));
            }
            None => assert_eq!(position.offset(), 1),
        }
        self.position = Some(position);
        self.kept.push(payload.as_bytes().to_vec());
        if self.kept.len() > KEPT {
            self.kept.remove(0);
        }
    }

    /// Records an `Occupied` or a `Vacated`.
    pub(super) fn told(&mut self, hub: &Hub<'_>, name: &str, is_occupied: bool) {
        let topic = NAMES.iter().position(|known| *known == name);
        let topic = topic.expect("a topic of this name");
        let is_new = match is_occupied {
            true => self.occupied.insert(topic),
            false => self.occupied.remove(&topic),
        };
        assert!(is_new, "{name} is told twice to be occupied: {is_occupied}");
        assert_eq!(hub.subscribers(name).len() > 0, is_occupied);
    }

    /// Checks the topics of a connection that ends, and forgets them.
    pub(super) fn leave(&mut self, conn: &Connection<'_>) {
        let listed: BTreeSet<&str> = conn.topics().collect();
        let mut known = BTreeSet::new();
        for (members, name) in self.members.iter_mut().zip(NAMES) {
            if members.remove(&conn.id()) {
                known.insert(*name);
            }
        }
        assert_eq!(listed, known, "the topics of a connection");
    }

    /// Checks that nothing but the history is left after all connections have ended.
    pub(super) fn check_end(&self, hub: &Hub<'_>) {
        assert_eq!(hub.subscriptions(), 0);
        assert_eq!(hub.topic_count(), usize::from(self.position.is_some()));
        assert!(self.occupied.is_empty(), "{:?} left", self.occupied);
    }

    /// Checks that each message reached at most as many clients as it was sent to.
    pub(super) fn check_reach(&self, received: &[Vec<u8>]) {
        let mut counts = BTreeMap::new();
        for number in received.iter().filter_map(|payload| number_of(payload)) {
            *counts.entry(number).or_insert(0) += 1;
        }
        for (number, count) in counts {
            let reach = self.reach.get(number).copied().unwrap_or(0);
            assert!(
                count <= reach,
                "{number} reached {count} instead of {reach}"
            );
        }
    }
}

impl Log {
    /// Records messages that were sent from the history.
    fn recovered(&mut self, id: ConnectionId, messages: &[Vec<u8>]) {
        for message in messages {
            if let Some(reach) =
                number_of(message).and_then(|number| self.topics.reach.get_mut(number))
            {
                *reach += 1;
            }
            self.sent(id, OpCode::Text, message);
        }
    }
}

const NAMES: &[&str] = &[
    "plain", "latest", "oldest", "newest", "error", "close", "history",
];

const HISTORY: usize = 6;

/// The number of messages that the history keeps.
const KEPT: usize = 3;

/// What published messages begin with.
const MARK: &str = "published ";
