//! The parts of a backplane that connects processes through an engine, without I/O.
//!
//! A process is a node. Its loops have a [`Link`] each, and one thread talks to the engine. That
//! thread takes the [`Call`]s of the loops from [`Calls`], gives them to a [`Node`], and does what
//! the node asks for: it subscribes and unsubscribes channels of the engine, sends messages, and
//! reconnects. Everything that the thread receives goes back to the node, which delivers it to the
//! loops. `wsloop-redis` and `wsloop-nats` are examples.
//!
//! ```
//! use std::time::Duration;
//! use wsloop::backplane::node::{self, Node, Settings};
//!
//! let (link, calls) = node::channel(16 << 20, false, || { /* wake the thread */ });
//! let mut node = Node::new(Settings::default(), Duration::ZERO);
//!
//! let mut server = wsloop::Server::builder().listen("127.0.0.1:0").backplane(link).build()?;
//! server.hub().publish("news", "it rains")?;
//! server.turn(Some(Duration::ZERO))?;
//!
//! // In the thread of the engine, once it is connected:
//! let now = Duration::from_millis(1);
//! node.connected(now);
//! for call in calls.take() {
//!     node.call(call, now);
//! }
//! let message = node.next_publish().expect("it was published");
//! assert_eq!(message.topic(), "news");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod control;
mod envelope;
mod numbers;
mod outbox;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

pub use self::control::{Control, End};
pub use self::envelope::{Decoded, Origin, decode, encode};
use self::numbers::{Incoming, Outgoing, Verdict};
pub use self::outbox::{Call, Calls, Link, channel};
use super::{Inbox, Recover, TopicMessage};
use crate::topics::Position;

/// The settings of a [`Node`].
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most bytes of messages that wait for the engine, those included that it has not confirmed.
    /// Beyond it the oldest are dropped, and the other nodes are told. Default 16 MiB.
    pub max_waiting: usize,
    /// How long a topic stays subscribed after its last subscriber has left. Default 5 s.
    pub grace: Duration,
    /// After so long without anything from the engine, a probe goes through it to this node; after
    /// as long again the connection counts as broken. Default 5 s.
    pub probe_after: Duration,
    /// Over how long the topics are subscribed again after a reconnect, so that not all nodes do it
    /// at the same time. Default 100 ms.
    pub resubscribe_over: Duration,
    /// Whether the engine keeps the histories of topics. Default no.
    pub keeps_history: bool,
    /// Most topics that messages were published to and whose numbers are remembered. Default
    /// 100,000.
    pub max_numbered: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_waiting: 16 << 20,
            grace: Duration::from_secs(5),
            probe_after: Duration::from_secs(5),
            resubscribe_over: Duration::from_millis(100),
            keeps_history: false,
            max_numbered: 100_000,
        }
    }
}

/// The counters of a node since it was created.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeStats {
    /// Messages that loops published.
    pub published: u64,
    /// Messages that were handed to the engine.
    pub sent: u64,
    /// Messages that were handed to the engine again after a reconnect.
    pub sent_again: u64,
    /// Messages dropped because too much waited for the engine.
    pub dropped: u64,
    /// Messages from other nodes and programs.
    pub received: u64,
    /// Those of them without an envelope, from other programs.
    pub foreign: u64,
    /// Those of them that were received before.
    pub duplicates: u64,
    /// Payloads with a malformed envelope, which are discarded.
    pub malformed: u64,
    /// Messages of other nodes that were lost, as far as their number is known.
    pub lost: u64,
    /// How often an unknown number of messages of a topic may have been lost.
    pub gaps: u64,
    /// How often the connection to the engine was made.
    pub connects: u64,
    /// How often it was given up because the engine was silent.
    pub silences: u64,
    /// Topics with a subscriber on this node.
    pub topics: usize,
    /// Topics whose subscription the engine has confirmed.
    pub subscribed: usize,
    /// Bytes of messages that wait for the engine or its confirmation.
    pub waiting_bytes: usize,
    /// Whether the engine is connected.
    pub is_connected: bool,
}

/// What [`Node::check`] asks for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// Nothing.
    Fine,
    /// A message through the engine to this node: any payload on a channel of its own. Whatever
    /// arrives is reported by [`Node::heard`].
    Probe,
    /// The engine is silent: the connection is to be closed and made again.
    Reconnect,
}

/// A message for the engine.
#[derive(Clone, Debug)]
pub struct Waiting {
    message: TopicMessage,
    history: Option<(usize, Duration)>,
    origin: Origin,
    /// Whether it was handed to the engine before.
    is_repeated: bool,
}

impl Waiting {
    /// Returns the name of the topic.
    pub fn topic(&self) -> &str {
        self.message.topic()
    }

    /// Returns the envelope.
    pub fn payload(&self) -> Vec<u8> {
        encode(&self.message, &self.origin)
    }

    /// Returns where the message comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the most messages and their age in the history of the topic, if it has one that the
    /// engine keeps.
    pub fn history(&self) -> Option<(usize, Duration)> {
        self.history
    }

    /// Returns whether the message was handed to the engine before a reconnect, without a
    /// confirmation. It may be there already.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }
}

/// The state of a node: the topics that its loops want, the messages for the engine, and what was
/// received. Times are from any fixed moment.
pub struct Node {
    id: u64,
    settings: Settings,
    loops: BTreeMap<usize, Inbox>,
    topics: HashMap<Arc<str>, Topic>,
    /// Topics to subscribe, from some time on.
    to_subscribe: BTreeSet<(Duration, Arc<str>)>,
    /// Topics without subscribers, and when they are unsubscribed.
    to_leave: BTreeSet<(Duration, Arc<str>)>,
    outgoing: Outgoing,
    waiting: VecDeque<Waiting>,
    /// Messages that the engine has not confirmed.
    unconfirmed: VecDeque<Waiting>,
    /// Bytes of both, and of those that the engine has not confirmed.
    bytes: usize,
    unconfirmed_bytes: usize,
    heard: Duration,
    is_probing: bool,
    is_connected: bool,
    was_connected: bool,
    subscribed: usize,
    stats: NodeStats,
}

/// A topic of interest.
struct Topic {
    /// The loops that have subscribers.
    loops: Vec<usize>,
    state: State,
    incoming: Incoming,
    /// The subscription was interrupted, and the loops are told when it is there again.
    is_interrupted: bool,
    /// The last position that was delivered.
    reached: Option<Position>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// To be subscribed, from this time on.
    Wanted(Duration),
    /// The engine was asked.
    Requested,
    /// The engine has confirmed it.
    Subscribed,
    /// Nobody wants it; it is to be unsubscribed at this time.
    Leaving(Duration),
}

impl Node {
    /// Creates a node, with a random number that tells it from all others.
    pub fn new(settings: Settings, now: Duration) -> Self {
        let id = RandomState::new().hash_one(now);
        Self {
            id,
            loops: BTreeMap::new(),
            topics: HashMap::new(),
            to_subscribe: BTreeSet::new(),
            to_leave: BTreeSet::new(),
            outgoing: Outgoing::new(settings.max_numbered.max(2)),
            waiting: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            bytes: 0,
            unconfirmed_bytes: 0,
            heard: now,
            is_probing: false,
            is_connected: false,
            was_connected: false,
            subscribed: 0,
            stats: NodeStats::default(),
            settings,
        }
    }

    /// Returns the random number of the node.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the counters.
    pub fn stats(&self) -> NodeStats {
        NodeStats {
            topics: self.topics.len() - self.to_leave.len(),
            subscribed: self.subscribed,
            waiting_bytes: self.bytes,
            is_connected: self.is_connected,
            ..self.stats
        }
    }

    /// Handles a call of a loop. Returns a request for missed messages, which the engine has to
    /// answer, after it has been handed everything that waits.
    pub fn call(&mut self, call: Call, now: Duration) -> Option<Recover> {
        match call {
            Call::Join(number, inbox) => _ = self.loops.insert(number, inbox),
            Call::Leave(number) => {
                self.loops.remove(&number);
                let topics = self.topics.iter();
                let left = topics.filter(|(_, topic)| topic.loops.contains(&number));
                let left: Vec<Arc<str>> = left.map(|(name, _)| name.clone()).collect();
                left.iter().for_each(|name| self.vacated(number, name, now));
            }
            Call::Occupied(number, topic) => self.occupied(number, &topic, now),
            Call::Vacated(number, topic) => self.vacated(number, &topic, now),
            Call::Publish(number, message, history) => self.publish(number, message, history),
            Call::Dropped(topic, count) => {
                self.stats.published += count;
                self.stats.dropped += count;
                self.outgoing.skip(&topic, count);
                if self.settings.keeps_history {
                    // The other loops had no other way to these messages, if they were kept.
                    self.tell_lost(&topic, Some(count));
                }
            }
            Call::Recover(request) => return Some(request),
        }
        None
    }

    fn occupied(&mut self, number: usize, name: &Arc<str>, now: Duration) {
        if let Some(topic) = self.topics.get_mut(name) {
            if !topic.loops.contains(&number) {
                topic.loops.push(number);
            }
            if let State::Leaving(due) = topic.state {
                // It was never unsubscribed.
                self.to_leave.remove(&(due, name.clone()));
                topic.state = State::Subscribed;
                self.subscribed += 1;
            }
            if topic.state == State::Subscribed
                && let Some(reached) = topic.reached
                && let Some(inbox) = self.loops.get(&number)
            {
                inbox.reached(name, reached);
            }
            return;
        }
        let topic = Topic {
            loops: vec![number],
            state: State::Wanted(now),
            incoming: Incoming::default(),
            is_interrupted: false,
            reached: None,
        };
        self.topics.insert(name.clone(), topic);
        self.to_subscribe.insert((now, name.clone()));
    }

    fn vacated(&mut self, number: usize, name: &Arc<str>, now: Duration) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        topic.loops.retain(|other| *other != number);
        if !topic.loops.is_empty() {
            return;
        }
        match topic.state {
            State::Wanted(from) => {
                self.to_subscribe.remove(&(from, name.clone()));
                self.topics.remove(name);
            }
            State::Subscribed => {
                self.subscribed -= 1;
                self.leave(name, now);
            }
            // It is left when the engine has confirmed it.
            State::Requested | State::Leaving(_) => {}
        }
    }

    /// Plans to unsubscribe a topic.
    fn leave(&mut self, name: &Arc<str>, now: Duration) {
        let due = now.saturating_add(self.settings.grace);
        if let Some(topic) = self.topics.get_mut(name) {
            topic.state = State::Leaving(due);
            self.to_leave.insert((due, name.clone()));
        }
    }

    fn publish(
        &mut self,
        number: usize,
        message: TopicMessage,
        history: Option<(usize, Duration)>,
    ) {
        self.stats.published += 1;
        let history = history.filter(|_| self.settings.keeps_history);
        let topic = message.shared_topic().clone();
        if history.is_some()
            && let Some(known) = self.topics.get(&topic)
        {
            // The loops leave such messages to their engine, so that they come in its order.
            for other in known.loops.iter().filter(|other| **other != number) {
                if let Some(inbox) = self.loops.get(other) {
                    inbox.deliver([message.clone()]);
                }
            }
        }
        let (series, number) = self.outgoing.next(&topic);
        let origin = Origin::new(self.id, series, number);
        self.bytes += message.held();
        self.waiting.push_back(Waiting {
            message,
            history,
            origin,
            is_repeated: false,
        });
        while self.bytes > self.settings.max_waiting {
            // What the engine may have is not dropped, as it may be delivered.
            let Some(oldest) = self.waiting.pop_front() else {
                break;
            };
            self.bytes -= oldest.message.held();
            self.drop_one(&oldest);
        }
    }

    /// Counts a message as dropped; the next one of its topic tells the other nodes.
    fn drop_one(&mut self, message: &Waiting) {
        self.stats.dropped += 1;
        let untold = message.origin.dropped;
        self.outgoing
            .drop_some(message.message.shared_topic(), 1 + untold);
    }

    /// Returns the next message for the engine, if it is connected and keeps up. The engine has to
    /// [confirm](Self::confirmed) it; until then it is kept for a reconnect.
    pub fn next_publish(&mut self) -> Option<Waiting> {
        if !self.has_publish() {
            return None;
        }
        let mut next = self.waiting.pop_front()?;
        // One that is sent again may not have told of earlier ones yet.
        let topic = next.message.shared_topic();
        next.origin.dropped += self.outgoing.take_dropped(topic, next.origin.series);
        match next.is_repeated {
            true => self.stats.sent_again += 1,
            false => self.stats.sent += 1,
        }
        self.unconfirmed_bytes += next.message.held();
        self.unconfirmed.push_back(next.clone());
        Some(next)
    }

    /// Returns whether messages wait that [`next_publish`](Self::next_publish) returns.
    pub fn has_publish(&self) -> bool {
        // The rest waits where the oldest can be dropped.
        let window = self.settings.max_waiting / 2;
        self.is_connected && !self.waiting.is_empty() && self.unconfirmed_bytes < window
    }

    /// Returns how many messages wait for [`next_publish`](Self::next_publish).
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many messages the engine has not confirmed.
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Notes that the engine has so many more messages, in the order of
    /// [`next_publish`](Self::next_publish).
    pub fn confirmed(&mut self, count: usize) {
        for message in self.unconfirmed.drain(..count.min(self.unconfirmed.len())) {
            self.bytes -= message.message.held();
            self.unconfirmed_bytes -= message.message.held();
        }
    }

    /// Notes that the engine has refused the oldest message that it had not confirmed. The message
    /// counts as dropped.
    pub fn rejected(&mut self) {
        if let Some(message) = self.unconfirmed.pop_front() {
            self.bytes -= message.message.held();
            self.unconfirmed_bytes -= message.message.held();
            self.drop_one(&message);
        }
    }

    /// Returns the series and the number of the last message that the loops have published to a
    /// topic: of two, the later message has the larger pair. An answer to a [`Recover`] must not
    /// contain messages of this node that are later than the request.
    pub fn last_number(&self, topic: &str) -> (u64, u64) {
        self.outgoing.last(topic)
    }

    /// Returns whether the engine has confirmed the subscription of a topic, and it has not been
    /// left since. A client can be recovered only then: messages that come between the answer and
    /// the subscription would be missing.
    pub fn is_subscribed(&self, name: &str) -> bool {
        let topic = self.topics.get(name);
        topic.is_some_and(|topic| matches!(topic.state, State::Subscribed | State::Leaving(_)))
    }

    /// Notes that the connection to the engine was made. All topics have to be subscribed again.
    pub fn connected(&mut self, now: Duration) {
        self.stats.connects += 1;
        self.is_connected = true;
        self.heard = now;
        self.is_probing = false;
        let over = self.settings.resubscribe_over.as_nanos() as u64;
        let is_again = std::mem::replace(&mut self.was_connected, true);
        let spread = RandomState::new();
        let mut to_subscribe = std::mem::take(&mut self.to_subscribe);
        for (name, topic) in &mut self.topics {
            if let State::Wanted(from) = topic.state {
                let delay = match is_again {
                    true => spread.hash_one(name) % over.max(1),
                    false => 0,
                };
                let due = now.saturating_add(Duration::from_nanos(delay));
                to_subscribe.remove(&(from, name.clone()));
                to_subscribe.insert((due, name.clone()));
                topic.state = State::Wanted(due);
            }
        }
        self.to_subscribe = to_subscribe;
    }

    /// Notes that the connection to the engine is broken. Messages without a confirmation are sent
    /// again after the next [`connected`](Self::connected); receivers recognise repetitions.
    pub fn disconnected(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.is_connected, false) {
            return;
        }
        self.subscribed = 0;
        for (due, name) in std::mem::take(&mut self.to_leave) {
            if self
                .topics
                .get(&name)
                .is_some_and(|topic| topic.state == State::Leaving(due))
            {
                self.topics.remove(&name);
            }
        }
        self.topics.retain(|_, topic| !topic.loops.is_empty());
        for (name, topic) in &mut self.topics {
            match topic.state {
                // No message was missed before the first confirmation.
                State::Requested if !topic.is_interrupted => {}
                State::Wanted(_) => continue,
                _ => topic.is_interrupted = true,
            }
            topic.state = State::Wanted(now);
            self.to_subscribe.insert((now, name.clone()));
        }
        self.unconfirmed_bytes = 0;
        for mut message in self.unconfirmed.drain(..).rev() {
            message.is_repeated = true;
            self.waiting.push_front(message);
        }
    }

    /// Returns topics to subscribe now, at most so many. [`subscribed`](Self::subscribed) has to
    /// follow for each when the engine confirms it.
    pub fn next_subscribe(&mut self, now: Duration, most: usize) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        while self.is_connected
            && names.len() < most
            && let Some((due, _)) = self.to_subscribe.first()
            && *due <= now
            && let Some((_, name)) = self.to_subscribe.pop_first()
        {
            if let Some(topic) = self.topics.get_mut(&name) {
                topic.state = State::Requested;
                names.push(name);
            }
        }
        names
    }

    /// Notes that the engine has confirmed the subscription of a topic. `position` is the position
    /// of its last message, if the engine keeps its history. The loops are told if the subscription
    /// was interrupted.
    pub fn subscribed(&mut self, name: &str, position: Option<Position>, now: Duration) {
        let Some((name, topic)) = self.topics.get_key_value(name) else {
            return;
        };
        if topic.state != State::Requested {
            return;
        }
        let name = name.clone();
        let Some(topic) = self.topics.get_mut(&name) else {
            return;
        };
        if topic.loops.is_empty() {
            return self.leave(&name, now);
        }
        topic.state = State::Subscribed;
        self.subscribed += 1;
        if std::mem::take(&mut topic.is_interrupted) {
            self.stats.gaps += 1;
            topic.incoming.lose();
            for inbox in inboxes(&self.loops, &topic.loops) {
                inbox.lost(&name, None);
            }
        }
        if let Some(position) = position.or(topic.reached) {
            self.reached(&name, position);
        }
    }

    /// Notes that all messages of a topic up to this position were delivered or announced as lost,
    /// and tells the loops. [`received`](Self::received) does so for the messages that it is given.
    pub fn reached(&mut self, name: &str, position: Position) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.reached = Some(position);
            for inbox in inboxes(&self.loops, &topic.loops) {
                inbox.reached(name, position);
            }
        }
    }

    /// Returns topics to unsubscribe now, at most so many. They are forgotten.
    pub fn next_unsubscribe(&mut self, now: Duration, most: usize) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        while names.len() < most
            && let Some((due, _)) = self.to_leave.first()
            && *due <= now
            && let Some((_, name)) = self.to_leave.pop_first()
        {
            self.topics.remove(&name);
            names.push(name);
        }
        names
    }

    /// Notes that messages of a topic may have been lost, an unknown number, although the
    /// connection is there: for instance because the engine's client library has dropped some.
    pub fn lost(&mut self, name: &str) {
        if let Some(topic) = self.topics.get_mut(name) {
            self.stats.gaps += 1;
            topic.incoming.lose();
            self.tell_lost(name, None);
        }
    }

    /// Tells the loops that want a topic that messages of it were lost.
    fn tell_lost(&self, name: &str, count: Option<u64>) {
        let loops = self.topics.get(name).map_or(&[][..], |topic| &topic.loops);
        for inbox in inboxes(&self.loops, loops) {
            inbox.lost(name, count);
        }
    }

    /// Notes that something has come from the engine on the connection of the subscriptions.
    pub fn heard(&mut self, now: Duration) {
        self.heard = now;
        self.is_probing = false;
    }

    /// Handles a payload that the engine has delivered on the channel of a topic, with the position
    /// of the message if the engine keeps its history.
    pub fn received(
        &mut self,
        name: &str,
        payload: &[u8],
        position: Option<Position>,
        now: Duration,
    ) {
        self.heard(now);
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        let (message, lost) = match decode(name, payload) {
            Decoded::Message(_, origin) if origin.node == self.id => {
                // The loops have it already.
                if let Some(position) = position {
                    self.reached(name, position);
                }
                return;
            }
            Decoded::Message(message, origin) => match topic.incoming.receive(&origin, now) {
                Verdict::New(lost) => (message, lost),
                Verdict::Duplicate => {
                    self.stats.duplicates += 1;
                    return;
                }
            },
            Decoded::Foreign(message) => {
                self.stats.foreign += 1;
                (message, 0)
            }
            Decoded::Malformed => {
                self.stats.malformed += 1;
                return;
            }
        };
        self.stats.received += 1;
        self.stats.lost += lost;
        let message = match position {
            Some(position) => {
                topic.reached = Some(position);
                message.at(position)
            }
            None => message,
        };
        for inbox in inboxes(&self.loops, &topic.loops) {
            if lost > 0 {
                inbox.lost(name, Some(lost));
            }
            inbox.deliver([message.clone()]);
        }
    }

    /// Returns whether the engine is silent, and what to do. Call it when
    /// [`timeout`](Self::timeout) is over.
    pub fn check(&mut self, now: Duration) -> Check {
        let due = self.heard.saturating_add(self.settings.probe_after);
        if !self.is_connected || now < due {
            return Check::Fine;
        }
        self.heard = now;
        match std::mem::replace(&mut self.is_probing, true) {
            false => Check::Probe,
            true => {
                self.is_probing = false;
                self.stats.silences += 1;
                Check::Reconnect
            }
        }
    }

    /// Returns how long the thread may wait until a topic is to be subscribed or unsubscribed, or
    /// the engine is to be checked; `None` while it is not connected.
    pub fn timeout(&self, now: Duration) -> Option<Duration> {
        if !self.is_connected {
            return None;
        }
        let mut due = self.heard.saturating_add(self.settings.probe_after);
        for (other, _) in self
            .to_subscribe
            .first()
            .into_iter()
            .chain(self.to_leave.first())
        {
            due = due.min(*other);
        }
        Some(due.saturating_sub(now))
    }
}

/// Returns the inboxes of some loops.
fn inboxes<'n>(
    all: &'n BTreeMap<usize, Inbox>,
    numbers: &'n [usize],
) -> impl Iterator<Item = &'n Inbox> {
    numbers.iter().filter_map(|number| all.get(number))
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
