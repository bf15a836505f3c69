//! The thread that talks to Redis.
//!
//! # Positions
//!
//! A loop claims a position for a topic ([`Node::subscribed`], [`Node::received`]) only if each
//! message up to it was delivered to the loop, was announced as lost, or is older than the
//! subscription. This holds because of the order on the connection of the subscriptions:
//!
//! 1. The server appends a message and publishes it in one step, so the channel has the messages
//!    of a topic in the order of their offsets, without a hole while the connection lives.
//! 2. The position is read on the same connection, after the subscription was confirmed. So each
//!    message with an offset up to it was published before the subscription (and belongs to the
//!    loss that [`Node::subscribed`] announces, if the subscription was interrupted), or lies
//!    before the answer on the connection.
//! 3. Messages that come between the request and the answer are kept back. If there are any, the
//!    claimed position is the one before the first of them, because no message between the
//!    subscription and that message can be missing. Then they are delivered, each with its own
//!    position. If there are none, the position that was read is claimed: the events of the
//!    connection are handled before its answer.
//! 4. The loss is announced before the position is claimed, and before any later message.
//!
//! A recovery reads the history after the subscription was confirmed. So a message is in the
//! answer, or it comes through the subscription, or both: then a client hears it twice at the seam,
//! but it misses none.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesOrdered;
use redis::aio::ConnectionLike;
use redis::{Pipeline, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::{sleep_until, timeout};
use wsloop::Position;
use wsloop::backplane::Recover;
use wsloop::backplane::node::{Call, Calls, Check, Control, Node};

use crate::builder::{Options, Target};
use crate::connect::{self, Event, Servers};
use crate::history::{self, Keys, Scripts};
use crate::subscribing::{Pending, by_server, publish_command};

pub(crate) struct Driver {
    target: Arc<Target>,
    options: Options,
    scripts: Arc<Scripts>,
    node: Node,
    calls: Calls,
    control: Control,
    notify: Arc<Notify>,
    began: Instant,
    state: State,
    /// Attempts to connect since the last connection that lasted.
    attempts: u32,
    /// Requests for missed messages, in their order, until what waited before them was sent.
    asked: VecDeque<Asked>,
    /// Requests whose topics are not subscribed yet.
    unsubscribed: Vec<Asked>,
    /// Requests that are to be sent.
    ready: VecDeque<Asked>,
    /// How many messages loops have published.
    published: u64,
    random: RandomState,
    drawn: u64,
}

enum State {
    /// The next attempt is at this time.
    Away(Instant),
    Connecting(Pending<Result<Session, RedisError>>),
    Up(Box<Session>),
}

/// The connections, and what is under way on them.
struct Session {
    servers: Servers,
    events: UnboundedReceiver<Event>,
    /// Messages under way, in their order.
    batches: FuturesOrdered<Pending<Outcome>>,
    /// One change of subscriptions at a time, so that they come in their order.
    change: Option<Pending<Result<Change, RedisError>>>,
    /// Topics whose subscription was requested, and the messages that came before the answer.
    kept_back: HashMap<Arc<str>, Vec<Vec<u8>>>,
    since: Instant,
    next_probe: Instant,
    /// The servers that have not answered the last probe.
    silent: Vec<bool>,
}

/// A request for missed messages.
struct Asked {
    request: Recover,
    /// How many messages had been published when it came.
    at: u64,
    /// The last of them in its topic.
    until: (u64, u64),
    due: Instant,
}

/// What a command is for.
enum Purpose {
    Publish,
    Recover(Asked),
}

/// The answers to a batch, in the order of its commands.
struct Outcome {
    purposes: Vec<Purpose>,
    answers: Result<Vec<Value>, RedisError>,
}

/// A finished change of subscriptions.
enum Change {
    /// With the positions that the topics have reached, and the topics that are not permitted.
    Subscribed(Vec<(Arc<str>, Option<Position>)>, Vec<Arc<str>>),
    Unsubscribed,
}

/// Why the thread goes on.
enum Wake {
    Calls,
    Connected(Result<Session, RedisError>),
    Events(Vec<Event>),
    Batch(Outcome),
    Change(Result<Change, RedisError>),
    Time,
}

impl Driver {
    pub(crate) fn new(
        target: Target,
        options: Options,
        calls: Calls,
        control: Control,
        notify: Arc<Notify>,
    ) -> Self {
        let began = Instant::now();
        Self {
            target: Arc::new(target),
            node: Node::new(options.node.clone(), Duration::ZERO),
            options,
            scripts: Arc::new(Scripts::new()),
            calls,
            control,
            notify,
            began,
            state: State::Away(began),
            attempts: 0,
            asked: VecDeque::new(),
            unsubscribed: Vec::new(),
            ready: VecDeque::new(),
            published: 0,
            random: RandomState::new(),
            drawn: 0,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.random.hash_one(self.drawn)
    }

    /// Runs until `close`, or until no loop is left. Returns whether everything was sent.
    pub(crate) async fn run(mut self) -> bool {
        let mut ends_at = None;
        loop {
            self.take_calls();
            self.work();
            let stats = self.node.stats();
            let closes_at = self.control.update(stats);
            if closes_at.is_some() || self.calls.is_abandoned() {
                let last = *ends_at.get_or_insert_with(|| Instant::now() + ABANDONED);
                let is_sent = stats.waiting_bytes == 0 && self.calls.waiting_bytes() == 0;
                if is_sent || Instant::now() >= closes_at.unwrap_or(last) {
                    return is_sent;
                }
            }
            let end = closes_at.or(ends_at);
            let wake = self.wait(end).await;
            self.handle(wake);
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, end: Option<Instant>) -> Wake {
        let mut due = end.unwrap_or_else(|| Instant::now() + LOOK_AT_LEAST);
        let now = self.began.elapsed();
        match &mut self.state {
            State::Away(until) => {
                due = due.min(*until);
                tokio::select! {
                    () = self.notify.notified() => Wake::Calls,
                    () = sleep_until(due.into()) => Wake::Time,
                }
            }
            State::Connecting(connecting) => tokio::select! {
                () = self.notify.notified() => Wake::Calls,
                session = connecting => Wake::Connected(session),
                () = sleep_until(due.into()) => Wake::Time,
            },
            State::Up(session) => {
                if let Some(timeout) = self.node.timeout(now) {
                    due = due.min(Instant::now() + timeout);
                }
                due = due.min(session.next_probe);
                let oldest = self.asked.front().into_iter();
                for asked in oldest.chain(self.unsubscribed.first()) {
                    due = due.min(asked.due);
                }
                let Session {
                    events,
                    batches,
                    change,
                    ..
                } = &mut **session;
                let mut arrived = Vec::new();
                tokio::select! {
                    count = events.recv_many(&mut arrived, EVENTS_MAX) => match count {
                        // All connections have ended.
                        0 => Wake::Change(Err(connect::failure("the connection has ended"))),
                        _ => Wake::Events(arrived),
                    },
                    Some(outcome) = batches.next(), if !batches.is_empty() => Wake::Batch(outcome),
                    change = maybe(change), if change.is_some() => Wake::Change(change),
                    () = self.notify.notified() => Wake::Calls,
                    () = sleep_until(due.into()) => Wake::Time,
                }
            }
        }
    }

    fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Calls | Wake::Time => {}
            Wake::Connected(Ok(session)) => self.connected(session),
            Wake::Connected(Err(error)) => {
                let pause = self.pause();
                log::warn!("Redis cannot be reached, next attempt in {pause:.1?}: {error}");
            }
            Wake::Events(events) => events.into_iter().for_each(|event| self.event(event)),
            Wake::Batch(outcome) => self.answered(outcome),
            Wake::Change(Ok(change)) => self.changed(change),
            Wake::Change(Err(error)) => self.broken(&error.to_string()),
        }
    }

    fn take_calls(&mut self) {
        for call in self.calls.take() {
            if matches!(call, Call::Publish(..)) {
                self.published += 1;
            }
            let now = self.now();
            let Some(request) = self.node.call(call, now) else {
                continue;
            };
            if !matches!(self.state, State::Up(_)) || self.asked.len() >= ASKED_MAX {
                request.gap();
                continue;
            }
            self.asked.push_back(Asked {
                at: self.published,
                until: self.node.last_number(request.topic()),
                due: Instant::now() + self.options.command_timeout,
                request,
            });
        }
    }

    /// Begins whatever can be begun.
    fn work(&mut self) {
        match &self.state {
            State::Away(until) if *until <= Instant::now() => self.connect(),
            State::Away(_) | State::Connecting(_) => {}
            State::Up(_) => {
                self.probe();
                self.change_subscriptions();
                self.expire();
                while self.send_batch() {}
            }
        }
    }

    fn connect(&mut self) {
        let (target, scripts) = (self.target.clone(), self.scripts.clone());
        let options = self.options.clone();
        let probes = format!("{}node:{:016x}", options.prefix, self.node.id());
        self.state = State::Connecting(Box::pin(async move {
            let (sender, events) = mpsc::unbounded_channel();
            // Finding the servers and connecting to them are limited on their own; this is for what
            // comes between, so that a frozen server cannot hold the thread up.
            let longest = options.connect_timeout.saturating_mul(4) + options.command_timeout;
            let connecting = connect::connect(&target, &options, &scripts, probes, sender);
            let servers = match timeout(longest, connecting).await {
                Ok(servers) => servers?,
                Err(_) => return Err(connect::failure("it took too long")),
            };
            let now = Instant::now();
            Ok(Session {
                silent: vec![false; servers.all.len()],
                servers,
                events,
                batches: FuturesOrdered::new(),
                change: None,
                kept_back: HashMap::new(),
                since: now,
                next_probe: now + options.node.probe_after,
            })
        }));
    }

    fn connected(&mut self, session: Session) {
        log::info!("connected to Redis ({} servers)", session.servers.all.len());
        self.state = State::Up(Box::new(session));
        let now = self.now();
        self.node.connected(now);
    }

    /// Plans the next attempt to connect; returns the pause before it.
    fn pause(&mut self) -> Duration {
        let (first, longest) = self.options.retry;
        let pause = first
            .saturating_mul(1 << self.attempts.min(16))
            .min(longest);
        self.attempts = self.attempts.saturating_add(1);
        let part = (self.draw() % 1000) as u32;
        let pause = pause / 2 + pause / 2 * part / 1000;
        self.state = State::Away(Instant::now() + pause);
        pause
    }

    /// Gives the connections up: if one is broken, all are.
    fn broken(&mut self, reason: &str) {
        let State::Up(session) = &self.state else {
            return;
        };
        if session.since.elapsed() > LASTED {
            self.attempts = 0;
        }
        let pause = self.pause();
        log::warn!("the connection to Redis is lost, next attempt in {pause:.1?}: {reason}");
        let now = self.now();
        self.node.disconnected(now);
        // Requests for missed messages are answered with gaps when they are dropped.
        self.asked.clear();
        self.unsubscribed.clear();
        self.ready.clear();
    }

    /// Looks for silent servers.
    fn probe(&mut self) {
        let now = self.now();
        let mut is_due = match self.node.check(now) {
            Check::Reconnect => return self.broken("it is silent"),
            check => check == Check::Probe,
        };
        let State::Up(session) = &mut self.state else {
            return;
        };
        if session.servers.is_cluster() && session.next_probe <= Instant::now() {
            // The node hears all servers as one, so each is probed.
            if session.silent.contains(&true) {
                return self.broken("a server is silent");
            }
            session.silent.fill(true);
            is_due = true;
        }
        if session.next_probe <= Instant::now() {
            session.next_probe = Instant::now() + self.options.node.probe_after;
        }
        if is_due {
            let publish = publish_command(&session.servers);
            for server in &session.servers.all {
                let mut conn = server.publisher.clone();
                let mut cmd = redis::cmd(publish);
                cmd.arg(&server.probes).arg("probe");
                // The probe is answered by the message that comes back, not by this reply.
                tokio::spawn(async move { drop(conn.req_packed_command(&cmd).await) });
            }
        }
    }

    /// Subscribes and unsubscribes channels, if no change is under way.
    fn change_subscriptions(&mut self) {
        let now = self.now();
        let State::Up(session) = &mut self.state else {
            return;
        };
        if session.change.is_some() {
            return;
        }
        let left = self.node.next_unsubscribe(now, CHANNELS_MAX);
        if !left.is_empty() {
            let names = by_server(&session.servers, &self.options.prefix, left);
            let changes = session
                .servers
                .changes(names, "UNSUBSCRIBE", "SUNSUBSCRIBE");
            session.change = Some(Box::pin(async move {
                try_join_all(changes).await?;
                Ok(Change::Unsubscribed)
            }));
            return;
        }
        let wanted = self.node.next_subscribe(now, CHANNELS_MAX);
        if wanted.is_empty() {
            return;
        }
        for name in &wanted {
            session.kept_back.insert(name.clone(), Vec::new());
        }
        let names = by_server(&session.servers, &self.options.prefix, wanted);
        let has_history = self.options.node.keeps_history;
        let reads = names.clone().into_iter().map(|(number, keys)| {
            let server = &session.servers.all[number];
            (server.subscriber.clone(), server.run.clone(), keys)
        });
        let reads: Vec<_> = reads.collect();
        let changes = session.servers.changes(names, "SUBSCRIBE", "SSUBSCRIBE");
        session.change = Some(Box::pin(async move {
            let refused = try_join_all(changes).await?.concat();
            let reads = reads.into_iter().map(|(mut conn, run, keys)| async move {
                let mut reached = vec![None; keys.len()];
                if has_history {
                    let mut pipeline = Pipeline::with_capacity(keys.len());
                    for (_, keys) in &keys {
                        let cmd = pipeline.cmd("HMGET").arg(&keys.state);
                        cmd.arg("epoch").arg("offset").arg("run");
                    }
                    let answers = conn.req_packed_commands(&pipeline, 0, keys.len()).await?;
                    for (reached, answer) in reached.iter_mut().zip(answers) {
                        *reached = history::position(&answer.extract_error()?, &run);
                    }
                }
                let names = keys.into_iter().map(|(name, _)| name);
                Ok::<_, RedisError>(names.zip(reached).collect::<Vec<_>>())
            });
            let all = try_join_all(reads).await?;
            Ok(Change::Subscribed(all.concat(), refused))
        }));
    }

    fn changed(&mut self, change: Change) {
        let State::Up(session) = &mut self.state else {
            return;
        };
        session.change = None;
        let Change::Subscribed(mut names, refused) = change else {
            return;
        };
        for name in &refused {
            log::error!("Redis does not permit to subscribe to the topic {name}");
            session.kept_back.remove(name);
        }
        names.retain(|(name, _)| !refused.contains(name));
        // What came before the answer.
        let mut arrived = Vec::new();
        while let Ok(event) = session.events.try_recv() {
            arrived.push(event);
        }
        arrived.into_iter().for_each(|event| self.event(event));
        for (name, reached) in names {
            let now = self.now();
            let State::Up(session) = &mut self.state else {
                return;
            };
            let kept_back = session.kept_back.remove(&name).unwrap_or_default();
            let first = kept_back
                .iter()
                .find_map(|payload| history::split(payload).0);
            let reached = match first {
                Some(first) => {
                    let before = first.offset().saturating_sub(1);
                    Some(Position::new(first.epoch(), before))
                }
                None => reached,
            };
            self.node.subscribed(&name, reached, now);
            for payload in kept_back {
                self.receive(&name, &payload);
            }
        }
        let (ready, rest) = std::mem::take(&mut self.unsubscribed)
            .into_iter()
            .partition(|asked| self.node.is_subscribed(asked.request.topic()));
        self.unsubscribed = rest;
        let ready: Vec<Asked> = ready;
        self.ready.extend(ready);
    }

    fn receive(&mut self, name: &str, payload: &[u8]) {
        let now = self.now();
        let (position, envelope) = history::split(payload);
        self.node.received(name, envelope, position, now);
    }

    fn event(&mut self, (number, push): Event) {
        let now = self.now();
        let State::Up(session) = &mut self.state else {
            return;
        };
        match push.kind {
            PushKind::Message | PushKind::SMessage => {}
            PushKind::Disconnection => return self.broken("it was closed"),
            PushKind::SUnsubscribe => {}
            _ => return self.node.heard(now),
        }
        let [Value::BulkString(channel), payload] = push.data.as_slice() else {
            return;
        };
        let Ok(channel) = std::str::from_utf8(channel) else {
            return;
        };
        if session
            .servers
            .all
            .get(number)
            .is_some_and(|server| server.probes == channel)
        {
            if let Some(silent) = session.silent.get_mut(number) {
                *silent = false;
            }
            return self.node.heard(now);
        }
        let Some(name) = channel.strip_prefix(&*self.options.prefix) else {
            return;
        };
        let Value::BulkString(payload) = payload else {
            // The number of subscriptions that are left.
            if self.node.is_subscribed(name) {
                self.broken("a slot of the cluster has moved");
            }
            return;
        };
        match session.kept_back.get_mut(name) {
            Some(kept_back) => {
                kept_back.push(payload.clone());
                self.node.heard(now);
            }
            None => self.receive(name, payload),
        }
    }

    /// Answers requests that have waited too long.
    fn expire(&mut self) {
        let now = Instant::now();
        while self.asked.front().is_some_and(|asked| asked.due <= now) {
            self.asked.pop_front();
        }
        if self
            .unsubscribed
            .first()
            .is_some_and(|asked| asked.due <= now)
        {
            self.unsubscribed.retain(|asked| asked.due > now);
        }
    }

    /// Sends messages and requests; returns whether there may be more to send.
    fn send_batch(&mut self) -> bool {
        let epoch = self.draw();
        let State::Up(session) = &mut self.state else {
            return false;
        };
        if session.batches.len() >= BATCHES_MAX {
            return false;
        }
        let publish = publish_command(&session.servers);
        let count = session.servers.all.len();
        let mut pipelines: Vec<Pipeline> = (0..count).map(|_| Pipeline::new()).collect();
        let (mut purposes, mut targets) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while purposes.len() < BATCH_MAX
            && bytes < BATCH_BYTES
            && let Some(waiting) = self.node.next_publish()
        {
            let channel = format!("{}{}", self.options.prefix, waiting.topic());
            let number = session.servers.of(&channel);
            let payload = waiting.payload();
            bytes += payload.len();
            let cmd = match waiting.history() {
                Some(settings) => {
                    let keys = Keys::new(&self.options.prefix, waiting.topic());
                    let message = history::Message {
                        origin: waiting.origin(),
                        payload,
                        settings,
                        epoch: epoch.wrapping_add(purposes.len() as u64),
                        run: &session.servers.all[number].run,
                        publish,
                    };
                    self.scripts.append(&keys, &message)
                }
                None => {
                    let mut cmd = redis::cmd(publish);
                    cmd.arg(&channel).arg(payload);
                    cmd
                }
            };
            pipelines[number].add_command(cmd);
            purposes.push(Purpose::Publish);
            targets.push(number);
        }
        // Requests follow when all messages were handed over that were published before them.
        let waiting = self.node.waiting() as u64;
        while let Some(asked) = self.asked.front()
            && waiting <= self.published - asked.at
            && let Some(asked) = self.asked.pop_front()
        {
            match self.node.is_subscribed(asked.request.topic()) {
                true => self.ready.push_back(asked),
                false => self.unsubscribed.push(asked),
            }
        }
        for asked in self.ready.drain(..self.ready.len().min(READS_MAX)) {
            let keys = Keys::new(&self.options.prefix, asked.request.topic());
            let number = session.servers.of(&keys.channel);
            let run = &session.servers.all[number].run;
            pipelines[number].add_command(self.scripts.recover(&keys, &asked.request, run));
            purposes.push(Purpose::Recover(asked));
            targets.push(number);
        }
        if purposes.is_empty() {
            return false;
        }
        let requests = pipelines.into_iter().zip(&session.servers.all);
        let requests = requests.map(|(pipeline, server)| {
            let mut conn = server.publisher.clone();
            async move {
                match pipeline.len() {
                    0 => Ok(Vec::new()),
                    count => conn.req_packed_commands(&pipeline, 0, count).await,
                }
            }
        });
        let requests: Vec<_> = requests.collect();
        session.batches.push_back(Box::pin(async move {
            let answers = try_join_all(requests).await.map(|answers| {
                let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
                let in_order = targets.iter().filter_map(|number| answers[*number].next());
                in_order.collect()
            });
            Outcome { purposes, answers }
        }));
        true
    }

    /// Handles the answers to a batch.
    fn answered(&mut self, Outcome { purposes, answers }: Outcome) {
        let answers: Vec<Value> = match answers {
            Ok(answers) => answers,
            Err(error) => return self.broken(&error.to_string()),
        };
        let mut answers = answers.into_iter();
        for purpose in purposes {
            let Some(answer) = answers.next() else {
                return self.broken("an answer is missing");
            };
            match (purpose, answer.extract_error()) {
                (_, Err(error)) if is_fatal(&error) => return self.broken(&error.to_string()),
                (Purpose::Publish, Ok(_)) => self.node.confirmed(1),
                (Purpose::Publish, Err(error)) => {
                    log::error!("Redis has refused a message, which is lost: {error}");
                    self.node.rejected();
                }
                (Purpose::Recover(asked), Ok(answer)) => {
                    let Asked { request, until, .. } = asked;
                    let id = self.node.id();
                    match history::messages(request.topic(), &answer, id, until) {
                        Some(messages) => request.recovered(messages),
                        None => request.gap(),
                    }
                }
                (Purpose::Recover(asked), Err(error)) => {
                    log::error!("Redis cannot read a history: {error}");
                    asked.request.gap();
                }
            }
        }
    }
}

/// Returns whether an error of the server concerns the connection, and not only the command.
fn is_fatal(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    !matches!(
        code,
        "ERR" | "OOM" | "NOPERM" | "WRONGTYPE" | "MISCONF" | "NOREPLICAS"
    )
}

/// Waits for a future that is there.
async fn maybe<T>(future: &mut Option<Pending<T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The most channels in one command.
const CHANNELS_MAX: usize = 512;

/// The most messages and bytes in a batch, and batches under way.
const BATCH_MAX: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
const BATCHES_MAX: usize = 8;

/// The most requests for missed messages in a batch, and the most that wait.
const READS_MAX: usize = 16;
const ASKED_MAX: usize = 100_000;

/// The most events that are handled at a time.
const EVENTS_MAX: usize = 1024;

/// A connection that lasted so long is followed by the shortest pause.
const LASTED: Duration = Duration::from_secs(5);

/// How often the thread looks for its end.
const LOOK_AT_LEAST: Duration = Duration::from_secs(60);

/// How long the thread tries to send the waiting messages when no loop is left.
const ABANDONED: Duration = Duration::from_secs(1);
