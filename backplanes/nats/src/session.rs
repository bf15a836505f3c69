//! The work on one connection.
//!
//! # Confirmations
//!
//! The server handles what comes on a connection in order. So the session publishes a message to a
//! subject of its own, a barrier: when it comes back, the server has all subscriptions and messages
//! from before it. (The `flush` of the client library only writes to the socket.) Messages for the
//! stream are confirmed one by one, by the answers of JetStream.
//!
//! # Positions
//!
//! A loop claims a position for a topic ([`Node::subscribed`], [`Node::received`]) only if each
//! message of the stream up to it was delivered to the loop, was announced as lost, or is older
//! than the subscription:
//!
//! 1. Before a topic is subscribed, the last sequence number of the stream is read. Messages up to
//!    this number were stored before the subscription: they are older, or they belong to the loss
//!    that [`Node::subscribed`] announces if the subscription was interrupted. If such a message is
//!    heard nevertheless, it is delivered, and claims nothing.
//! 2. Each message that the stream sends out has its own number, and that of the message of the
//!    topic before it. The server does not send the messages of several publishers strictly in the
//!    order of their numbers (seen with 2.9), only those of each publisher. So messages are
//!    delivered as they come, but a number is claimed only when all messages of the topic before it
//!    were heard ([`Chain`]). If one does not come within a second, its loss is announced.
//! 3. Nothing is claimed until the subscription is confirmed, which announces the loss: what came
//!    until then is claimed together with it, after the announcement.
//! 4. The answer of JetStream to a message of our own claims nothing, because messages before it
//!    may be on their way. Its copy through the subscription does.
//! 5. If the client library had to drop messages, the numbers show it, too. In addition, the loss
//!    is announced for all topics, as those without a history have no such numbers.
//!
//! A recovery reads the stream when the subscription of the topic is confirmed and JetStream has
//! answered for all messages from before the request. So a message is in the answer, or it comes
//! through the subscription, or both: then a client hears it twice at the seam, but it misses none.
//!
//! [`Node::received`]: wsloop::backplane::node::Node::received
//! [`Node::subscribed`]: wsloop::backplane::node::Node::subscribed

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, Event, Message, PublishErrorKind, Subscriber};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep_until, timeout};
use tokio_stream::StreamExt;
use wsloop::Position;
use wsloop::backplane::node::{Check, Waiting};
use wsloop::backplane::{Recover, TopicMessage};

use crate::chain::{Chain, Link};
use crate::connect::{Connection, with_source};
use crate::driver::{Driver, LOOK_AT_LEAST, Over};
use crate::history::{self, Stored, Stream, Wanted};
use crate::subject;

pub(crate) struct Session<'d> {
    driver: &'d mut Driver,
    client: Client,
    events: UnboundedReceiver<Event>,
    stream: Option<Arc<Stream>>,
    /// What the subjects of this node begin with.
    own: String,
    topics: HashMap<Arc<str>, Topic>,
    /// Topics with messages before which others are missing.
    broken: HashSet<Arc<str>>,
    sender: Sender<Heard>,
    heard: Receiver<Heard>,
    /// Counts subscriptions.
    last_serial: u64,
    /// Messages that were handed to the client and are not confirmed.
    flights: VecDeque<Flight>,
    /// The number of the first flight; all are numbered.
    first_flight: u64,
    /// Flights before this number were before a barrier that has come back.
    passed: u64,
    barriers: VecDeque<Barrier>,
    last_barrier: u64,
    /// Whether something is under way that no barrier follows yet.
    is_open: bool,
    /// Topics whose subscription no barrier follows yet.
    requested: Vec<(Arc<str>, u64)>,
    tasks: JoinSet<Done>,
    reading: usize,
    asked: VecDeque<Asked>,
    /// When it looked at the time last.
    looked: Instant,
}

/// The subscription of a topic.
struct Topic {
    serial: u64,
    /// Passes its messages on; `None` if its subject is too long.
    task: Option<JoinHandle<()>>,
    is_confirmed: bool,
    /// Which messages of the stream were heard.
    chain: Chain,
}

/// A message that was handed to the client.
struct Flight {
    since: Instant,
    state: Flown,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Flown {
    /// A barrier confirms it.
    Plain,
    /// JetStream answers it.
    Stored,
    Confirmed,
    Refused,
}

/// A message to this node that has not come back.
struct Barrier {
    number: u64,
    since: Instant,
    /// The number of the next flight.
    flights: u64,
    requested: Vec<(Arc<str>, u64)>,
}

/// A request for missed messages.
struct Asked {
    request: Recover,
    /// Flights before this number must be confirmed.
    after: u64,
    /// The last message that this node had published to the topic.
    until: (u64, u64),
    due: Instant,
}

/// Something that came through a subscription.
enum Heard {
    Topic(Arc<str>, u64, Message),
    Own(Message),
}

/// The result of a task.
enum Done {
    /// The last sequence number of the stream, before these topics are subscribed.
    Last(Vec<Arc<str>>, Result<u64, String>),
    Read(Recover, Result<Option<Vec<TopicMessage>>, String>),
}

/// Why the session ends.
type End = String;

impl<'d> Session<'d> {
    pub(crate) fn new(driver: &'d mut Driver, connection: Connection) -> Self {
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        Self {
            driver,
            client: connection.client,
            events: connection.events,
            stream: connection.stream.map(Arc::new),
            own: connection.own,
            topics: HashMap::new(),
            broken: HashSet::new(),
            sender,
            heard,
            last_serial: 0,
            flights: VecDeque::new(),
            first_flight: 0,
            passed: 0,
            barriers: VecDeque::new(),
            last_barrier: 0,
            is_open: false,
            requested: Vec::new(),
            tasks: JoinSet::new(),
            reading: 0,
            asked: VecDeque::new(),
            looked: Instant::now(),
        }
    }

    /// Serves the connection. Returns why it ended, or that the thread has to end.
    pub(crate) async fn run(mut self) -> Result<Over, End> {
        let own = within(self.client.subscribe(format!("{}in.>", self.own))).await?;
        self.forward(own, Heard::Own);
        self.is_open = true;
        let mut batch = Vec::new();
        loop {
            self.take_calls();
            self.work().await?;
            let end = match self.driver.is_needed() {
                Ok(end) => end,
                Err(over) => return Ok(over),
            };
            let due = self.due(end);
            let notify = self.driver.notify.clone();
            tokio::select! {
                count = self.heard.recv_many(&mut batch, HEARD_MAX), if batch.is_empty() => {
                    debug_assert!(count > 0, "a sender is kept");
                    for heard in batch.drain(..) {
                        self.hear(heard)?;
                    }
                }
                Some(event) = self.events.recv() => self.note(event)?,
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.finish(done).await?,
                    Err(error) => return Err(error.to_string()),
                },
                () = notify.notified() => {}
                () = sleep_until(due.into()) => self.look().await?,
            }
        }
    }

    /// Returns when the session has to look at the time.
    fn due(&self, end: Option<Instant>) -> Instant {
        let now = Instant::now();
        let mut due = self.looked + LOOK_AT_LEAST;
        if let Some(end) = end {
            due = due.min(end);
        }
        if let Some(wait) = self.driver.node.timeout(self.driver.now()) {
            due = due.min(now + wait);
        }
        let limit = self.driver.options.command_timeout;
        let first = self.flights.front().map(|flight| flight.since + limit);
        let barrier = self.barriers.front().map(|barrier| barrier.since + limit);
        let asked = self.asked.front().map(|asked| asked.due);
        for other in [first, barrier, asked].into_iter().flatten() {
            due = due.min(other);
        }
        due
    }

    fn take_calls(&mut self) {
        let now = Instant::now();
        for request in self.driver.take_calls() {
            let node = &self.driver.node;
            let flights = self.first_flight + self.flights.len() as u64;
            self.asked.push_back(Asked {
                after: flights + node.waiting() as u64,
                until: node.last_number(request.topic()),
                due: now + self.driver.options.command_timeout,
                request,
            });
        }
    }

    /// Hands messages, subscriptions and requests that are due to the client.
    async fn work(&mut self) -> Result<(), End> {
        let now = self.driver.now();
        loop {
            let names = self.driver.node.next_subscribe(now, SUBSCRIBED_AT_ONCE);
            if names.is_empty() {
                break;
            }
            match &self.stream {
                None => self.subscribe(names, 0).await?,
                Some(stream) => {
                    let (client, stream) = (self.client.clone(), stream.clone());
                    self.tasks
                        .spawn(async move { Done::Last(names, stream.last(&client).await) });
                }
            }
        }
        loop {
            let names = self.driver.node.next_unsubscribe(now, SUBSCRIBED_AT_ONCE);
            if names.is_empty() {
                break;
            }
            for name in names {
                let topic = self.topics.remove(&name);
                if let Some(task) = topic.and_then(|topic| topic.task) {
                    // Its subscription ends with it.
                    task.abort();
                }
            }
        }
        self.settle();
        while self.flights.len() < FLIGHTS_MAX
            && let Some(message) = self.driver.node.next_publish()
        {
            self.publish(&message).await?;
        }
        let last = self.barriers.back().map_or(0, |barrier| barrier.flights);
        let flights = self.first_flight + self.flights.len() as u64;
        let is_due = self.barriers.is_empty() || flights - last.min(flights) >= BARRIER_AFTER;
        if self.is_open && is_due {
            self.send_barrier().await?;
        }
        self.read_histories();
        Ok(())
    }

    /// Subscribes topics; everything of the stream up to `reached` is older.
    async fn subscribe(&mut self, names: Vec<Arc<str>>, reached: u64) -> Result<(), End> {
        for name in names {
            self.last_serial += 1;
            let serial = self.last_serial;
            let subject = subject::encode(&self.driver.options.prefix, &name);
            let task = if subject.len() > SUBJECT_MAX {
                log::error!("topic {name:?} is too long for a subject of NATS");
                None
            } else {
                let subscriber = within(self.client.subscribe(subject)).await?;
                let topic = name.clone();
                let heard = move |message| Heard::Topic(topic.clone(), serial, message);
                Some(self.forward(subscriber, heard))
            };
            let topic = Topic {
                serial,
                task,
                is_confirmed: false,
                chain: Chain::new(reached, Instant::now()),
            };
            self.topics.insert(name.clone(), topic);
            self.requested.push((name, serial));
        }
        self.is_open = true;
        Ok(())
    }

    /// Passes the messages of a subscription on to the session.
    fn forward(
        &self,
        mut subscriber: Subscriber,
        heard: impl Fn(Message) -> Heard + Send + 'static,
    ) -> JoinHandle<()> {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                if sender.send(heard(message)).await.is_err() {
                    return;
                }
            }
        })
    }

    async fn publish(&mut self, message: &Waiting) -> Result<(), End> {
        let number = self.first_flight + self.flights.len() as u64;
        let stream = self.stream.as_ref().filter(|_| message.history().is_some());
        let subject = match stream {
            Some(stream) => stream.subject(message.topic()),
            None => subject::encode(&self.driver.options.prefix, message.topic()),
        };
        let payload = message.payload();
        let size = payload.len();
        let mut state = match stream {
            Some(_) => Flown::Stored,
            None => Flown::Plain,
        };
        if subject.len() > SUBJECT_MAX {
            state = Flown::Refused;
        } else {
            let sent = match stream {
                Some(_) => {
                    let origin = message.origin();
                    let headers = history::headers(origin.node, origin.series, origin.number);
                    let reply = format!("{}in.stored.{number}", self.own);
                    let publish = self.client.publish_with_reply_and_headers(
                        subject,
                        reply,
                        headers,
                        payload.into(),
                    );
                    timeout(HAND_OVER, publish).await
                }
                None => timeout(HAND_OVER, self.client.publish(subject, payload.into())).await,
            };
            match sent.map_err(|_| TOO_SLOW)? {
                Ok(()) => {}
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    log::warn!("a message of {size} bytes is too large for NATS");
                    state = Flown::Refused;
                }
                Err(error) => return Err(with_source(&error)),
            }
        }
        self.flights.push_back(Flight {
            since: Instant::now(),
            state,
        });
        // One that was refused is settled when the session wakes next.
        self.is_open |= state != Flown::Stored;
        Ok(())
    }

    /// Tells the node which messages are confirmed.
    fn settle(&mut self) {
        while let Some(first) = self.flights.front() {
            match first.state {
                Flown::Confirmed => self.driver.node.confirmed(1),
                Flown::Plain if self.first_flight < self.passed => self.driver.node.confirmed(1),
                Flown::Refused => self.driver.node.rejected(),
                Flown::Plain | Flown::Stored => break,
            }
            self.flights.pop_front();
            self.first_flight += 1;
        }
    }

    async fn send_barrier(&mut self) -> Result<(), End> {
        self.last_barrier += 1;
        let number = self.last_barrier;
        let subject = format!("{}in.barrier.{number}", self.own);
        within(self.client.publish(subject, "".into())).await?;
        self.barriers.push_back(Barrier {
            number,
            since: Instant::now(),
            flights: self.first_flight + self.flights.len() as u64,
            requested: std::mem::take(&mut self.requested),
        });
        self.is_open = false;
        Ok(())
    }

    fn hear(&mut self, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Own(message) => self.hear_own(&message),
            Heard::Topic(name, serial, message) => self.hear_topic(&name, serial, &message),
        }
    }

    fn hear_own(&mut self, message: &Message) -> Result<(), End> {
        let now = self.driver.now();
        self.driver.node.heard(now);
        let what = message.subject.strip_prefix(self.own.as_str());
        let what = what.and_then(|what| what.strip_prefix("in.")?.split_once('.'));
        let Some((what, number)) = what else {
            return Ok(());
        };
        let Ok(number) = number.parse::<u64>() else {
            return Ok(());
        };
        match what {
            "barrier" => {
                while let Some(barrier) = pop_if(&mut self.barriers, |one| one.number <= number) {
                    self.passed = self.passed.max(barrier.flights);
                    for (name, serial) in barrier.requested {
                        self.confirm(&name, serial, now);
                    }
                }
            }
            "stored" => {
                let at = number.checked_sub(self.first_flight);
                let at = at.and_then(|at| usize::try_from(at).ok());
                let Some(flight) = at.and_then(|at| self.flights.get_mut(at)) else {
                    return Ok(());
                };
                flight.state = match Stored::read(message) {
                    Stored::Yes => Flown::Confirmed,
                    Stored::Refused(reason) => {
                        log::warn!("JetStream has refused a message: {reason}");
                        Flown::Refused
                    }
                    Stored::NoStream => return Err("the stream is not available".into()),
                };
            }
            _ => {}
        }
        Ok(())
    }

    /// The server has confirmed the subscription of a topic.
    fn confirm(&mut self, name: &Arc<str>, serial: u64, now: Duration) {
        let topic = self.topics.get_mut(name);
        let Some(topic) = topic.filter(|topic| topic.serial == serial) else {
            return;
        };
        topic.is_confirmed = true;
        let reached = topic.chain.reached();
        let stream = self.stream.as_ref();
        let position = stream.map(|stream| Position::new(stream.epoch, reached));
        self.driver.node.subscribed(name, position, now);
    }

    fn hear_topic(&mut self, name: &Arc<str>, serial: u64, message: &Message) -> Result<(), End> {
        let topic = self.topics.get_mut(name);
        let Some(topic) = topic.filter(|topic| topic.serial == serial) else {
            return Ok(());
        };
        let now = self.driver.now();
        let mut position = None;
        let stream = self.stream.as_ref();
        if let Some(stream) = stream
            && let Some((number, before)) = stream.numbers(message)
        {
            match topic.chain.hear(number, before, Instant::now()) {
                Link::Old => {}
                Link::Impossible => return Err("the stream has begun anew".into()),
                Link::Next if topic.is_confirmed => {
                    position = Some(Position::new(stream.epoch, topic.chain.reached()));
                }
                Link::Next | Link::Waits => {}
            }
            if topic.chain.is_broken() {
                self.broken.insert(name.clone());
            }
        }
        let node = &mut self.driver.node;
        node.received(name, &message.payload, position, now);
        Ok(())
    }

    /// Handles an event of the client.
    fn note(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::SlowConsumer(_) => {
                log::warn!("messages were lost in the client: more came than it keeps");
                let names: Vec<Arc<str>> = self.topics.keys().cloned().collect();
                names.iter().for_each(|name| self.driver.node.lost(name));
            }
            Event::Disconnected | Event::Closed => return Err("it was closed".into()),
            Event::ServerError(error) => log::warn!("NATS: {error}"),
            Event::ClientError(error) => log::warn!("NATS client: {error}"),
            Event::LameDuckMode => log::info!("the server of NATS is about to end"),
            _ => {}
        }
        // If very many events came at once, the client has dropped some.
        self.is_up()
    }

    fn is_up(&self) -> Result<(), End> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err("it was closed".into()),
        }
    }

    /// Looks whether something takes too long.
    async fn look(&mut self) -> Result<(), End> {
        self.looked = Instant::now();
        self.is_up()?;
        let now = self.driver.now();
        match self.driver.node.check(now) {
            Check::Probe => self.send_barrier().await?,
            Check::Reconnect => return Err("the server is silent".into()),
            _ => {}
        }
        self.mend();
        let limit = self.driver.options.command_timeout;
        let flight = self.flights.front().map(|flight| flight.since);
        let barrier = self.barriers.front().map(|barrier| barrier.since);
        if flight
            .into_iter()
            .chain(barrier)
            .any(|since| since.elapsed() >= limit)
        {
            return Err("the server does not confirm".into());
        }
        let now = Instant::now();
        while let Some(late) = pop_if(&mut self.asked, |asked| asked.due <= now) {
            late.request.gap();
        }
        Ok(())
    }

    /// Announces the messages that do not come.
    fn mend(&mut self) {
        let now = Instant::now();
        let Self {
            topics,
            driver,
            stream,
            ..
        } = self;
        self.broken.retain(|name| {
            let Some(topic) = topics.get_mut(name) else {
                return false;
            };
            if topic.is_confirmed {
                let before = topic.chain.reached();
                if topic.chain.give_up(now) {
                    driver.node.lost(name);
                }
                let reached = topic.chain.reached();
                if let Some(stream) = stream
                    && reached > before
                {
                    // The messages behind the missing ones were delivered without a position.
                    let position = Position::new(stream.epoch, reached);
                    driver.node.reached(name, position);
                }
            }
            topic.chain.is_broken()
        });
    }

    /// Begins to read the histories that clients wait for.
    fn read_histories(&mut self) {
        let Some(stream) = &self.stream else {
            self.asked.drain(..).for_each(|asked| asked.request.gap());
            return;
        };
        let mut at = 0;
        while let Some(asked) = self.asked.get(at)
            && self.reading < READING_MAX
        {
            let node = &self.driver.node;
            let is_sent =
                self.first_flight >= asked.after || node.waiting() == 0 && node.unconfirmed() == 0;
            if !is_sent || !node.is_subscribed(asked.request.topic()) {
                at += 1;
                continue;
            }
            let Some(Asked { request, until, .. }) = self.asked.remove(at) else {
                return;
            };
            self.last_serial += 1;
            self.reading += 1;
            let wanted = Wanted {
                topic: request.topic().into(),
                since: request.since(),
                history: request.history(),
                node: node.id(),
                until,
                inbox: format!("{}read.{}", self.own, self.last_serial),
            };
            let (client, stream) = (self.client.clone(), stream.clone());
            self.tasks.spawn(async move {
                let read = stream.read(&client, &wanted).await;
                Done::Read(request, read)
            });
        }
    }

    async fn finish(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Last(names, last) => self.subscribe(names, last?).await,
            Done::Read(request, read) => {
                self.reading -= 1;
                match read? {
                    Some(messages) => request.recovered(messages),
                    None => request.gap(),
                }
                Ok(())
            }
        }
    }
}

/// Takes the first one out, if it is meant.
fn pop_if<T>(queue: &mut VecDeque<T>, is_meant: impl FnOnce(&T) -> bool) -> Option<T> {
    queue
        .front()
        .is_some_and(is_meant)
        .then(|| queue.pop_front())?
}

/// Hands a command to the client, which has room for it unless something is wrong.
async fn within<T, E: std::error::Error>(
    command: impl Future<Output = Result<T, E>>,
) -> Result<T, End> {
    let result = timeout(HAND_OVER, command).await;
    result
        .map_err(|_| TOO_SLOW)?
        .map_err(|error| with_source(&error))
}

const TOO_SLOW: &str = "the client takes no commands";

/// How long the client may take to accept a command.
const HAND_OVER: Duration = Duration::from_secs(2);

/// How many messages from the subscriptions wait for the session.
const HEARD_MAX: usize = 1024;

/// Most messages that are not confirmed; with the other commands, less than the client takes.
const FLIGHTS_MAX: usize = 4096;

/// How many topics are subscribed at once.
const SUBSCRIBED_AT_ONCE: usize = 512;

/// If a barrier is under way, the next one comes after so many messages.
const BARRIER_AFTER: u64 = 256;

/// How many histories are read at the same time.
const READING_MAX: usize = 16;

/// The longest subject, in bytes. The server takes 4096 for a line with two subjects.
const SUBJECT_MAX: usize = 3000;
