//! The handlers of one server, and their records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use wsloop::event::Disconnected;
use wsloop::plain_http::Response;
use wsloop::{
    Compress, Connection, ConnectionId, ConnectionStats, Hub, OpCode, Outgoing, Prepared,
    SendError, Sent, Stats, handshake,
};

use super::Flavour;
use super::tally::{self, Tally};
use crate::checker::Heard;
use crate::message::{Message, Name, Temper};
use crate::options::Serve;
use crate::probe;
use crate::record::ServerRecord;
use crate::topics::{ANY_LATEST, CHANGING, CHAT, NO_KEY, is_stayer};

/// The counts of a connection.
#[derive(Default)]
pub(super) struct Account {
    /// Checks received messages; set when the client has sent its number.
    heard: Option<Heard>,
    echoed: u64,
    pub(super) pushed: u64,
    news: u64,
    pub(super) pings: u64,
    requests: u64,
    /// Messages sent with a completion callback, and callbacks that were called.
    awaited: u64,
    told: u64,
}

impl Account {
    /// Returns the number that the client sent.
    pub(super) fn number(&self) -> Option<u64> {
        self.heard.as_ref().map(|heard| heard.connection)
    }
}

/// The state that the handlers of a server share.
pub(super) struct Desk {
    flavour: Flavour,
    out: Sender<String>,
    active: Arc<AtomicBool>,
    scratch: Vec<u8>,
    rng: fastrand::Rng,
    /// The connections that were open at the last check, and the slow ones among them.
    ids: Vec<ConnectionId>,
    slow: Vec<ConnectionId>,
    ticks: u64,
    /// The number of the last news.
    news: u64,
    /// Pushes per tick.
    pushes: u64,
    /// Closings per tick, and those that are due; whole ones are carried out.
    closings: f64,
    closings_due: f64,
    /// Deliveries to subscribers per tick, and those that are due.
    deliveries: i64,
    deliveries_due: i64,
    /// Publishes by ticks.
    publishes: usize,
    /// Connections that had a `Connect` and no `Disconnect` yet.
    pub(super) alive: i64,
    /// Received messages, and the sum of the statistics of all connections.
    received: u64,
    counted: ConnectionStats,
}

impl Desk {
    pub(super) fn new(
        flavour: Flavour,
        options: &Serve,
        out: Sender<String>,
        active: Arc<AtomicBool>,
    ) -> Self {
        let closings = options.closings / TICKS_PER_SECOND as f64;
        Self {
            flavour,
            out,
            active,
            scratch: Vec::new(),
            rng: fastrand::Rng::with_seed(options.seed ^ flavour as u64),
            ids: Vec::new(),
            slow: Vec::new(),
            ticks: 0,
            news: 0,
            pushes: (options.connections / 2000).max(1) as u64,
            closings: match flavour {
                Flavour::Shared => closings * 0.9,
                Flavour::Dedicated => closings * 0.1,
            },
            closings_due: 0.0,
            deliveries: (options.connections / 40).max(40) as i64,
            deliveries_due: 0,
            publishes: 0,
            alive: 0,
            received: 0,
            counted: ConnectionStats::default(),
        }
    }

    /// Prints a line for the process that started this one.
    fn say(&self, line: String) {
        // If the channel is closed, the process is about to end.
        let _ = self.out.send(line);
    }

    /// Identifies the client by its path.
    pub(super) fn admit(&mut self, conn: &mut Connection<'_>) {
        let path = conn.request().map(|request| request.path());
        let place = path.and_then(|path| {
            let path = path.strip_prefix("/c/")?;
            match path.split_once('/') {
                Some((number, position)) => {
                    Some((number.parse().ok()?, Some(position.parse().ok()?)))
                }
                None => Some((path.parse().ok()?, None)),
            }
        });
        let Some((number, position)) = place else {
            return self.say(format!("fault a path that no client asks for: {path:?}"));
        };
        conn.data::<Account>().heard = Some(Heard::new(number));
        if let Err(error) = tally::join_all(conn, number, position) {
            self.say(format!("fault {number} was not subscribed: {error}"));
        }
    }

    /// Checks a message, and sends it back in one of several ways.
    pub(super) fn receive(
        &mut self,
        conn: &mut Connection<'_>,
        text: Option<&str>,
        payload: &[u8],
    ) {
        self.received += 1;
        let Some(heard) = &mut conn.data::<Account>().heard else {
            return self.say("fault a message of nobody".into());
        };
        let (number, sequence) = (heard.connection, heard.count);
        if let Err(fault) = heard.take(text.is_some(), payload, &mut self.scratch) {
            self.say(format!("fault {number} at the server: {fault}"));
        }
        match echo(conn, text, payload, sequence) {
            Ok(_) => conn.data::<Account>().echoed += 1,
            Err(error) => self.say(format!("fault {number} was not answered: {error}")),
        }
        if sequence % 8 == 3 && self.deliveries_due > 0 {
            let scratch = &mut self.scratch;
            let receivers = match sequence % 16 {
                3 => tally::publish_to_others(conn, CHAT, NO_KEY, scratch),
                _ => tally::publish(&mut conn.server(), ANY_LATEST, 0, scratch),
            };
            self.deliveries_due -= receivers as i64;
        }
    }

    /// Does what is due in this tick: sends messages, closes connections, and reports the status
    /// twice a second.
    pub(super) fn tick(&mut self, hub: &mut Hub<'_>) {
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_SECOND / 2) {
            let (bytes, blocks) = probe::heap();
            let Self { flavour, alive, .. } = *self;
            self.say(format!(
                "status {} {alive} {bytes} {blocks}",
                flavour as usize
            ));
            self.look(hub);
        }
        if !self.active.load(Ordering::Relaxed) || self.ids.is_empty() {
            return;
        }
        let slow = self.slow.len().min(SLOW_PUSHES);
        for turn in 0..self.pushes + slow as u64 {
            let (ids, burst) = match turn < self.pushes {
                true => (&self.ids, 1),
                false => (&self.slow, SLOW_BURST),
            };
            let id = ids[self.rng.usize(..ids.len())];
            for _ in 0..burst {
                if let Some(mut conn) = hub.get(id) {
                    push(&mut conn, &mut self.scratch);
                }
            }
        }
        if self.flavour == Flavour::Shared && self.ticks.is_multiple_of(NEWS_TICKS) {
            self.tell_all(hub);
        }
        self.publish(hub);
        self.closings_due += self.closings;
        while self.closings_due >= 1.0 {
            self.closings_due -= 1.0;
            let id = self.ids[self.rng.usize(..self.ids.len())];
            if let Some(mut conn) = hub.get(id) {
                self.close(&mut conn);
            }
        }
    }

    /// Publishes to all topics in turn, as many messages as are due, and changes a subscription.
    fn publish(&mut self, hub: &mut Hub<'_>) {
        let most = self.deliveries * 4;
        self.deliveries_due = (self.deliveries_due + self.deliveries).min(most);
        for _ in 0..PUBLISHES {
            if self.deliveries_due <= 0 {
                break;
            }
            let topic = tally::topic_of(self.publishes);
            self.publishes += 1;
            // Some messages have no key.
            let key = self.rng.u8(..=NO_KEY);
            let receivers = tally::publish(hub, topic, key, &mut self.scratch);
            self.deliveries_due -= receivers as i64;
        }
        let id = self.ids[self.rng.usize(..self.ids.len())];
        let topic = CHANGING[self.rng.usize(..CHANGING.len())];
        if let Some(mut conn) = hub.get(id)
            && let Some(number) = conn.data::<Account>().number()
            && let Err(error) = tally::change(&mut conn, number, topic)
        {
            self.say(format!("fault {number} was not subscribed again: {error}"));
        }
        for fault in std::mem::take(&mut hub.shared::<Tally>().faults) {
            self.say(format!("fault {fault}"));
        }
    }

    /// Updates the lists of open connections.
    fn look(&mut self, hub: &mut Hub<'_>) {
        let Self { ids, slow, .. } = self;
        ids.clear();
        slow.clear();
        hub.for_each(|conn| {
            let id = conn.id();
            ids.push(id);
            let number = conn.data::<Account>().number();
            if number.is_some_and(|number| Temper::of(number) == Temper::Slow) {
                slow.push(id);
            }
        });
        if ids.is_empty() {
            // Frees the lists at rest, because they would count as the server's memory.
            (*ids, *slow) = (Vec::new(), Vec::new());
        }
    }

    /// Sends a message to every client, and counts it for each.
    fn tell_all(&mut self, hub: &mut Hub<'_>) {
        self.news += 1;
        let message = Message::of(Name::News { number: self.news });
        message.write(&mut self.scratch);
        let prepared = match std::str::from_utf8(&self.scratch) {
            Ok(text) if message.is_text() => Prepared::text(text),
            _ => Prepared::binary(&self.scratch),
        };
        hub.for_each(|conn| {
            if conn.send_prepared(&prepared).is_ok() {
                conn.data::<Account>().news += 1;
            }
        });
    }

    /// Ends a connection in one of several ways.
    fn close(&mut self, conn: &mut Connection<'_>) {
        let number = conn.data::<Account>().number();
        if !conn.is_ready() || number.is_some_and(is_stayer) {
            return;
        }
        match self.rng.u8(..10) {
            0 => conn.abort(),
            1 => conn.set_lifetime(Some(Duration::from_millis(100))),
            2 => {
                conn.set_timer(Duration::ZERO, |_| Err::<(), _>("it is to fail"));
            }
            _ => {
                let code = [1000, 1001, 1008, 3000, 4999][self.rng.usize(..5)];
                tally::close(conn);
                // It is open, and the code is valid.
                let _ = conn.disconnect(code, "the soak closes");
            }
        }
    }

    /// Writes the record of a connection.
    pub(super) fn dismiss(&mut self, conn: &mut Connection<'_>, why: Disconnected<'_>) {
        self.alive -= 1;
        let Some(addr) = conn.peer_addr() else {
            return self.say("fault a client without an address".into());
        };
        let (stats, topics) = (conn.stats(), tally::served(conn));
        let account = conn.data::<Account>();
        if account.awaited != account.told {
            let Account { awaited, told, .. } = account;
            self.say(format!("fault {addr} was told of {told} of {awaited}"));
        }
        let received = account.heard.as_ref().map_or(0, |heard| heard.count);
        if let Some(stats) = stats {
            // The other sent messages are news, from broadcasts, topics and the other thread.
            let own = account.echoed + account.pushed;
            account.news = stats.messages_out.saturating_sub(own);
            if stats.messages_in != received || stats.messages_out < own {
                self.say(format!("fault {addr} has other counts: {stats:?}"));
            }
            self.counted.messages_in += stats.messages_in;
            self.counted.messages_out += stats.messages_out;
        }
        let record = ServerRecord {
            number: account.number(),
            addr,
            why: why.cause.into(),
            code: why.code.as_u16(),
            requests: account.requests,
            pings: account.pings,
            received,
            echoed: account.echoed,
            pushed: account.pushed,
            news: account.news,
            topics: Box::new(topics),
        };
        self.say(format!("gone {record}"));
    }

    /// Prints the server's counters, and compares them with the counts of the handlers.
    pub(super) fn end(&mut self, stats: Stats, mut tally: Tally) {
        let (counted, sum) = (tally::sums(&stats), tally::plain(&tally.sum));
        if counted != sum {
            // The server ended before the last message from the other thread was counted.
            tally.count_from_thread(&stats);
        }
        for fault in tally.faults {
            self.say(format!("fault {fault}"));
        }
        let (mut line, mut published_out) = (String::from("topics"), 0);
        for topic in &tally.lines {
            line.extend(topic.numbers().map(|number| format!(" {number}")));
            published_out += topic.queued + topic.recovered;
        }
        self.say(line);
        if self.flavour == Flavour::Dedicated {
            published_out = 0;
        }
        if stats.messages_in != self.received {
            let received = self.received;
            self.say(format!("fault {received} messages, but {stats:?}"));
        }
        if self.flavour == Flavour::Dedicated {
            let sums = (self.counted.messages_in, self.counted.messages_out);
            if sums != (stats.messages_in, stats.messages_out) {
                self.say(format!("fault sums of {sums:?}, but {stats:?}"));
            }
        }
        if self.alive != 0 {
            self.say(format!("fault {} Disconnects are missing", self.alive));
        }
        let Stats {
            accepted,
            requests,
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
            ..
        } = stats;
        self.say(format!(
            "stats {accepted} {requests} {messages_in} {messages_out} {bytes_in} {bytes_out} \
             {} {} {} {} {} {published_out} {} {} {} {} {} {}",
            stats.refused_messages,
            stats.dropped_pongs,
            stats.ended_in_order,
            stats.cut,
            stats.accept_failures,
            stats.publish_receivers,
            stats.publish_queued,
            stats.publish_conflated,
            stats.publish_dropped,
            stats.publish_refused,
            stats.evicted,
        ));
    }
}

/// Sends a message back.
fn echo(
    conn: &mut Connection<'_>,
    text: Option<&str>,
    payload: &[u8],
    sequence: u64,
) -> Result<Sent, SendError> {
    let opcode = match text {
        Some(_) => OpCode::Text,
        None => OpCode::Binary,
    };
    let (first, rest) = payload.split_at(payload.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    match sequence % 16 {
        11 => conn.send_message(Outgoing::parts(opcode, &[payload]).compress(Compress::Yes)),
        12 => conn.send_message(Outgoing::parts(opcode, &[payload]).compress(Compress::No)),
        13 => conn.send_message(Outgoing::parts(opcode, &[first, second, third])),
        14 => conn.send_message(Outgoing::parts(opcode, &[first, second, third]).in_frames()),
        15 => {
            conn.data::<Account>().awaited += 1;
            let told = |conn: &mut Connection<'_>, _| conn.data::<Account>().told += 1;
            match text {
                Some(text) => conn.send_message(Outgoing::text(text).then(told)),
                None => conn.send_message(Outgoing::binary(payload).then(told)),
            }
        }
        _ => match text {
            Some(text) => conn.send_utf8(text),
            None => conn.send_binary(payload),
        },
    }
}

/// Sends the next message to one client, unless its backlog is full.
pub(super) fn push(conn: &mut Connection<'_>, scratch: &mut Vec<u8>) {
    let account = conn.data::<Account>();
    let Some(connection) = account.number() else {
        return;
    };
    let message = Message::of(Name::Push {
        connection,
        sequence: account.pushed,
    });
    message.write(scratch);
    let sent = match std::str::from_utf8(scratch) {
        Ok(text) if message.is_text() => conn.send_utf8(text),
        _ => conn.send_binary(scratch),
    };
    if sent.is_ok() {
        conn.data::<Account>().pushed += 1;
    }
}

/// Answers a plain request.
pub(super) fn answer(conn: &mut Connection<'_>, request: &handshake::Request) -> Option<Response> {
    let page = request.path().strip_prefix("/page/")?;
    conn.data::<Account>().requests += 1;
    Some(Response::new(200).body(page_of(page)))
}

/// Returns the content of a page.
pub(crate) fn page_of(name: &str) -> String {
    format!("page {name}\n").repeat(20)
}

const TICKS_PER_SECOND: u64 = 20;

/// Ticks between two broadcasts of news.
const NEWS_TICKS: u64 = 20 * TICKS_PER_SECOND;

/// The number of slow clients that receive messages in a tick, and of messages to each.
const SLOW_PUSHES: usize = 2;
const SLOW_BURST: usize = 6;

/// At most this many messages are published in a tick.
const PUBLISHES: usize = 20;
