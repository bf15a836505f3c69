//! Publishes to topics, and counts what became of each message.

use wsloop::{
    Connection, Hub, Outgoing, Position, Prepared, Published, Recovery, SendError, Stats,
};

use crate::message::{Message, Name};
use crate::topics::{
    HISTORY, Head, Latest, Line, Lines, NO_KEY, Part, Served, THREAD, TOPICS, conflating,
};

/// The counts of a server. It is a value that the server keeps for the handlers.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) lines: Lines,
    /// How often at least one subscriber did not get a message of the topic, or got another one in
    /// its place.
    unsure: [u64; TOPICS.len()],
    /// The last message of each key that reached all subscribers.
    latest: Latest,
    /// The sum of all outcomes.
    pub(super) sum: Published,
    pub(super) faults: Vec<String>,
}

/// The counts of a topic when a connection subscribed to it.
#[derive(Clone, Copy)]
struct Mark {
    publishes: u64,
    unsure: u64,
    evicted: u64,
}

/// The topics of one connection.
#[derive(Default)]
pub(super) struct Subscriptions {
    joined: [Option<Mark>; TOPICS.len()],
    /// Where the connection left the topic with a history.
    left_at: Option<Position>,
    served: Served,
}

impl Tally {
    fn mark(&self, topic: usize) -> Mark {
        let Line {
            publishes, evicted, ..
        } = self.lines[topic];
        Mark {
            publishes,
            unsure: self.unsure[topic] + evicted,
            evicted,
        }
    }

    /// Counts the outcome of a publish.
    fn count(&mut self, head: &Head, outcome: &Published, evicted: u64) {
        let topic = usize::from(head.topic);
        let Published {
            receivers,
            queued,
            conflated,
            dropped,
            refused,
            ..
        } = *outcome;
        let line = Line {
            publishes: 1,
            receivers: receivers as u64,
            queued: queued as u64,
            conflated: conflated as u64,
            dropped: dropped as u64,
            refused: refused as u64,
            evicted,
            recovered: 0,
        };
        self.lines[topic].add(&line);
        self.unsure[topic] += u64::from(queued < receivers);
        self.sum += *outcome;
        if let Some(at) = conflating(topic)
            && dropped + refused == 0
        {
            self.latest[at][usize::from(head.key)] = head.number;
        }
    }

    /// Counts a message from another thread: that part of the server's sums that no handler has
    /// published.
    pub(super) fn count_from_thread(&mut self, stats: &Stats) {
        let outcome = since(&sums(stats), &self.sum);
        let head = Head {
            topic: THREAD as u8,
            key: 0,
            epoch: 0,
            number: self.lines[THREAD].publishes + 1,
        };
        self.count(&head, &outcome, 0);
    }
}

impl Subscriptions {
    /// Counts what was published since the connection subscribed.
    fn leave(&mut self, topic: usize, tally: &Tally) {
        let Some(mark) = self.joined[topic].take() else {
            return;
        };
        let now = tally.mark(topic);
        let Part { sent, unsure } = &mut self.served.parts[topic];
        *sent += now.publishes - mark.publishes;
        *unsure += now.unsure - mark.unsure;
        self.served.evicted += now.evicted - mark.evicted;
        if let Some(at) = conflating(topic) {
            let newer = |number: u64| match number > mark.publishes {
                true => number,
                false => 0,
            };
            self.served.latest[at] = tally.latest[at].map(newer);
        }
    }

    /// Counts what was published to a connection until it begins to close or ends.
    fn leave_all(&mut self, tally: &Tally, is_exact: bool) {
        self.served.is_exact |= is_exact;
        for topic in 0..TOPICS.len() {
            self.leave(topic, tally);
        }
    }
}

/// Subscribes a new connection to the topics that are for it. `position` is that of the last
/// message with history that an earlier connection has received.
pub(super) fn join_all(
    conn: &mut Connection<'_>,
    number: u64,
    position: Option<Position>,
) -> Result<(), SendError> {
    let topics = TOPICS.iter().enumerate();
    for (topic, _) in topics.filter(|(_, topic)| topic.is_for(number)) {
        join(conn, topic, position)?;
    }
    Ok(())
}

fn join(
    conn: &mut Connection<'_>,
    topic: usize,
    position: Option<Position>,
) -> Result<(), SendError> {
    let name = TOPICS[topic].name;
    let (mut recovered, mut is_gap) = (0, false);
    match position.filter(|_| topic == HISTORY) {
        None => _ = conn.subscribe(name)?,
        Some(position) => {
            let recovery = conn.subscribe_from(name, position)?;
            let now = conn.server().position(name);
            let now = now.filter(|now| now.epoch() == position.epoch());
            let missed = now.and_then(|now| now.offset().checked_sub(position.offset()));
            let is_right = match recovery {
                Recovery::Recovered(count) => missed == Some(count as u64),
                _ => missed != Some(0),
            };
            if !is_right {
                let fault = format!("{recovery:?} after {position}, at {now:?}");
                conn.shared::<Tally>().faults.push(fault);
            }
            match recovery {
                Recovery::Recovered(count) => recovered = count as u64,
                _ => is_gap = true,
            }
        }
    }
    let offset = conn.server().position(name).map_or(0, Position::offset);
    let tally = conn.shared::<Tally>();
    tally.lines[topic].recovered += recovered;
    let mark = tally.mark(topic);
    let subscriptions = conn.data::<Subscriptions>();
    subscriptions.joined[topic] = Some(mark);
    subscriptions.served.parts[topic].sent += recovered;
    if topic == HISTORY {
        match subscriptions.left_at.take() {
            None => subscriptions.served.history_after = offset - recovered,
            Some(_) => subscriptions.served.gaps += u64::from(is_gap),
        }
    }
    Ok(())
}

/// Ends a subscription, or begins one that was ended before.
pub(super) fn change(
    conn: &mut Connection<'_>,
    number: u64,
    topic: usize,
) -> Result<(), SendError> {
    if !conn.is_ready() || !TOPICS[topic].is_for(number) {
        return Ok(());
    }
    if conn.unsubscribe(TOPICS[topic].name) {
        let position = conn.server().position(TOPICS[HISTORY].name);
        with_tally(conn, |subscriptions, tally| {
            subscriptions.leave(topic, tally);
        });
        if topic == HISTORY {
            conn.data::<Subscriptions>().left_at = position;
        }
        return Ok(());
    }
    let position = conn.data::<Subscriptions>().left_at;
    join(conn, topic, position)
}

/// Counts what was published to a connection that begins to close now.
pub(super) fn close(conn: &mut Connection<'_>) {
    with_tally(conn, |subscriptions, tally| {
        subscriptions.leave_all(tally, true);
    });
}

/// Returns what was published to a connection that has ended.
pub(super) fn served(conn: &mut Connection<'_>) -> Served {
    with_tally(conn, |subscriptions, tally| {
        subscriptions.leave_all(tally, false);
    });
    std::mem::take(&mut conn.data::<Subscriptions>().served)
}

fn with_tally(conn: &mut Connection<'_>, action: impl FnOnce(&mut Subscriptions, &Tally)) {
    let mut subscriptions = std::mem::take(conn.data::<Subscriptions>());
    action(&mut subscriptions, conn.shared::<Tally>());
    *conn.data::<Subscriptions>() = subscriptions;
}

/// Publishes the next message of a topic; returns the number of its receivers.
pub(super) fn publish(hub: &mut Hub<'_>, topic: usize, key: u8, scratch: &mut Vec<u8>) -> u64 {
    let before = hub.stats();
    let mut head = next(hub.shared::<Tally>(), topic, key);
    let name = TOPICS[topic].name;
    let outcome = match topic {
        HISTORY => hub.publish_with(name, |position| {
            if let Some(position) = position {
                (head.epoch, head.number) = (position.epoch(), position.offset());
            }
            match write(&head, scratch) {
                Some(text) => Prepared::text(text),
                None => Prepared::binary(scratch),
            }
        }),
        _ => hub.publish(name, keyed(message(&head, scratch), &[key])),
    };
    account(hub, &head, outcome, &before)
}

/// Publishes the next message of a topic to all subscribers but one; returns the number of its
/// receivers.
pub(super) fn publish_to_others(
    conn: &mut Connection<'_>,
    topic: usize,
    key: u8,
    scratch: &mut Vec<u8>,
) -> u64 {
    let before = conn.server().stats();
    let head = next(conn.shared::<Tally>(), topic, key);
    let outcome = conn.publish(TOPICS[topic].name, keyed(message(&head, scratch), &[key]));
    let is_own = outcome.is_ok();
    let receivers = account(&mut conn.server(), &head, outcome, &before);
    let subscriptions = conn.data::<Subscriptions>();
    if is_own && let Some(mark) = &mut subscriptions.joined[topic] {
        // It was not published to this connection.
        mark.publishes += 1;
    }
    receivers
}

fn next(tally: &Tally, topic: usize, key: u8) -> Head {
    Head {
        topic: topic as u8,
        key,
        epoch: 0,
        number: tally.lines[topic].publishes + 1,
    }
}

/// Writes a message; returns it if it is a text.
fn write<'s>(head: &Head, scratch: &'s mut Vec<u8>) -> Option<&'s str> {
    let message = Message::of(Name::Published(*head));
    message.write(scratch);
    let text = std::str::from_utf8(scratch).ok();
    text.filter(|_| message.is_text())
}

pub(super) fn message<'s>(head: &Head, scratch: &'s mut Vec<u8>) -> Outgoing<'s> {
    let is_text = write(head, scratch).is_some();
    match std::str::from_utf8(scratch) {
        Ok(text) if is_text => Outgoing::text(text),
        _ => Outgoing::binary(scratch),
    }
}

fn keyed<'m>(message: Outgoing<'m>, key: &'m [u8; 1]) -> Outgoing<'m> {
    match key {
        [NO_KEY] => message,
        key => message.key(key),
    }
}

/// Counts a publish, after checking that its outcome adds up and is what the server counted.
fn account(
    hub: &mut Hub<'_>,
    head: &Head,
    outcome: Result<Published, SendError>,
    before: &Stats,
) -> u64 {
    let after = hub.stats();
    let evicted = after.evicted - before.evicted;
    let counted = since(&sums(&after), &sums(before));
    let tally = hub.shared::<Tally>();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            tally.faults.push(format!("{head:?} was refused: {error}"));
            return 0;
        }
    };
    if plain(&outcome) != counted || !adds_up(&outcome) {
        let fault = format!("{head:?} had {outcome:?}, and {counted:?} was counted");
        tally.faults.push(fault);
    }
    if usize::from(head.topic) == HISTORY && outcome.position.is_none() {
        tally.faults.push(format!("{head:?} has no position"));
    }
    tally.count(head, &outcome, evicted);
    outcome.receivers as u64
}

/// Returns whether each receiver had one of the outcomes.
fn adds_up(outcome: &Published) -> bool {
    let Published {
        receivers,
        queued,
        conflated,
        dropped,
        refused,
        ..
    } = *outcome;
    receivers == queued + conflated + dropped + refused
}

/// Returns the sums that the server has counted.
pub(super) fn sums(stats: &Stats) -> Published {
    let mut sums = Published::default();
    sums.receivers = stats.publish_receivers as usize;
    sums.queued = stats.publish_queued as usize;
    sums.conflated = stats.publish_conflated as usize;
    sums.dropped = stats.publish_dropped as usize;
    sums.refused = stats.publish_refused as usize;
    sums
}

fn since(now: &Published, before: &Published) -> Published {
    let mut since = Published::default();
    since.receivers = now.receivers - before.receivers;
    since.queued = now.queued - before.queued;
    since.conflated = now.conflated - before.conflated;
    since.dropped = now.dropped - before.dropped;
    since.refused = now.refused - before.refused;
    since
}

/// Returns the numbers of receivers alone.
pub(super) fn plain(outcome: &Published) -> Published {
    since(outcome, &Published::default())
}

/// Returns the topics to which a tick publishes in turn: all but that of the other thread.
pub(super) fn topic_of(turn: usize) -> usize {
    1 + turn % (TOPICS.len() - 1)
}
