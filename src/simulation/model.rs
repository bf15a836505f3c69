//! The model of each connection, built from its events and the actions of handlers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::checks::Check;
use super::clients::Sense;
use super::output::Told;
use super::world::World;
use crate::config::OverRate;
use crate::connection::event::{Cause, Disconnected};
use crate::connection::{Connection, ConnectionId, Phase};
use crate::error::{ProtocolError, SendError};
use crate::limits::SlowConsumer;
use crate::protocol::{OpCode, Piece};

/// A message that a client must receive, or may.
#[derive(Debug)]
pub(super) struct Item {
    /// Messages are numbered in the order in which they leave.
    pub(super) number: u64,
    pub(super) opcode: OpCode,
    /// What may be written in this place, and the publish that it comes from.
    pub(super) payloads: Vec<(Vec<u8>, Option<u64>)>,
    /// The topic and the key, if another message may take its place.
    pub(super) key: Option<(usize, u8)>,
    /// Whether it must be written.
    pub(super) is_sure: bool,
}

impl Item {
    pub(super) fn new(opcode: OpCode) -> Self {
        Self {
            number: 0,
            opcode,
            payloads: Vec::new(),
            key: None,
            is_sure: true,
        }
    }
}

impl Seen {
    /// Adds a message; returns its number.
    pub(super) fn push(&mut self, item: Item) -> u64 {
        self.sent_count += 1;
        let number = self.sent_count;
        self.sent.push_back(Item { number, ..item });
        number
    }

    /// Takes the message with this payload, and the ones before it. Returns the publish that it
    /// comes from, and the payload of a message that had to be written first; `None` if there is no
    /// such message.
    fn take(&mut self, opcode: OpCode, payload: &[u8]) -> Option<(Option<u64>, Option<Vec<u8>>)> {
        let mut items = self.sent.iter().enumerate();
        let (index, publish) = items.find_map(|(index, item)| {
            let mut payloads = item.payloads.iter();
            let found = payloads.find(|(each, _)| item.opcode == opcode && each == payload);
            found.map(|(_, publish)| (index, *publish))
        })?;
        let mut taken = self.sent.drain(..=index);
        let item = taken.next_back()?;
        let skipped = taken.find(|item| item.is_sure);
        let skipped = skipped.map(|mut item| item.payloads.pop().unwrap_or_default().0);
        drop(taken);
        self.written = item.number;
        // Older messages with the same key must not follow.
        if let Some(publish) = publish.filter(|_| item.key.is_some()) {
            let later = self.sent.iter_mut().filter(|later| later.key == item.key);
            for later in later {
                later.payloads.retain(|(_, each)| *each > Some(publish));
            }
        }
        Some((publish, skipped))
    }
}

/// The model of a connection.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) accepted_at: Option<Duration>,
    /// It could not be registered, and has no events.
    pub(super) unregistered: bool,
    pub(super) id: Option<ConnectionId>,
    pub(super) connected: bool,
    pub(super) disconnected: bool,
    pub(super) ready: bool,
    /// How many of the client's `expected` were delivered.
    pub(super) next: usize,
    piece: Option<(OpCode, Vec<u8>)>,
    /// Accepted messages that are not written yet.
    pub(super) sent: VecDeque<Item>,
    sent_count: u64,
    /// The number of the last message that was written or dropped.
    written: u64,
    /// A message that is sent in parts.
    pub(super) parts: Option<(OpCode, Vec<u8>)>,
    pub(super) pings: VecDeque<Vec<u8>>,
    pub(super) pongs: VecDeque<Vec<u8>>,
    /// Callbacks that must be called, with the numbers of their messages.
    pub(super) callbacks: BTreeMap<u64, u64>,
    pub(super) lifetime: Option<Duration>,
    pub(super) had_lifetime: bool,
    /// Its phase, and since when.
    pub(super) phase: Option<(Phase, Duration)>,
    /// The latest time at which the peer may have shown a sign of life.
    pub(super) heard_at: Duration,
    /// It was held off at the last check.
    pub(super) held_off: bool,
    /// When the server's last keep-alive ping was written.
    pub(super) pinged_at: Duration,
    pub(super) request_at: Option<Duration>,
    /// More than `drain_at` was left in the backlog: a `Drain` is due.
    pub(super) above: bool,
    /// The actions of handlers on it.
    pub(super) did_close: bool,
    pub(super) did_cut: bool,
    pub(super) did_fail: bool,
    pub(super) did_limit: bool,
    pub(super) did_refuse: bool,
    pub(super) is_deferred: bool,
    /// The last turn with messages, and their number.
    in_turn: (u64, usize),
    pub(super) cause: Option<Cause>,
    /// When `close_timeout` begins; each written byte postpones it.
    pub(super) close_from: Duration,
    /// Number of bytes written by the last check.
    pub(super) bytes_written: usize,
    /// The number of the next expected item, and since when it is incomplete.
    pub(super) under_way: (usize, Option<Duration>),
}

impl World {
    /// Returns the client of a connection, and checks that the connection has not ended.
    pub(super) fn client_of(&mut self, conn: &Connection<'_>, event: &'static str) -> usize {
        let id = conn.id();
        let Some(client) = self.names.get(&id.as_u64()).copied() else {
            self.fail(Check::ConnectFirst, || {
                format!("{event} of a connection without Connect")
            });
            return 0;
        };
        self.progress += 1;
        self.note(event, client, 0);
        let gone = self.clients[client].seen.disconnected;
        self.check(!gone, Check::NothingAfterDisconnect, || {
            format!("{event} of client {client}")
        });
        client
    }

    pub(super) fn connected(&mut self, conn: &Connection<'_>) -> usize {
        let client = self.port.accepted.take();
        self.check(client.is_some(), Check::ConnectFirst, || {
            "a second Connect".into()
        });
        let client = client.unwrap_or(0);
        let known = self.names.insert(conn.id().as_u64(), client);
        self.check(known.is_none(), Check::FreshIds, || {
            format!("{} again", conn.id())
        });
        let port = conn.port();
        self.check(port == Some(1024 + client as u16), Check::FreshIds, || {
            format!("client {client} has port {port:?}")
        });
        self.note("Connect", client, 0);
        self.totals.connections += 1;
        let lifetime = self.settings.config.max_lifetime;
        let now = self.now;
        let seen = &mut self.clients[client].seen;
        (seen.connected, seen.id) = (true, Some(conn.id()));
        seen.heard_at = now;
        seen.lifetime = lifetime.map(|lifetime| now + lifetime);
        seen.had_lifetime = lifetime.is_some();
        client
    }

    /// Checks what was delivered against what the client sent.
    pub(super) fn told_of(&mut self, client: usize, sense: Sense) {
        self.totals.messages_in += u64::from(matches!(sense, Sense::Message(..)));
        let now = self.now;
        let state = &mut self.clients[client];
        state.seen.heard_at = now;
        let expected = state.expected.get(state.seen.next);
        let holds = expected
            .is_some_and(|(end, expected)| *expected == sense && *end <= self.lines[client].read);
        if !holds {
            let expected = expected.cloned();
            let read = self.lines[client].read;
            self.fail(Check::MessagesIn, || {
                format!("client {client} of {read} bytes: {sense:?} instead of {expected:?}")
            });
        }
        self.clients[client].seen.next += 1;
    }

    pub(super) fn message(
        &mut self,
        conn: &Connection<'_>,
        opcode: OpCode,
        payload: &[u8],
    ) -> usize {
        let client = self.client_of(conn, "message");
        self.is_wanted(conn, client);
        self.in_share(client);
        // A lowered limit applies from the next frame on.
        let max = match self.clients[client].seen.did_limit {
            true => self.settings.config.limits.max_recv_size,
            false => conn.max_recv_size(),
        };
        self.check(payload.len() <= max, Check::ReceiveLimit, || {
            format!("{} bytes of client {client}", payload.len())
        });
        self.told_of(client, Sense::Message(opcode, payload.to_vec()));
        client
    }

    pub(super) fn piece(&mut self, conn: &Connection<'_>, piece: Piece<'_>) -> usize {
        let client = self.client_of(conn, "piece");
        self.is_wanted(conn, client);
        self.in_share(client);
        let now = self.now;
        let seen = &mut self.clients[client].seen;
        seen.heard_at = now;
        let fits = match &mut seen.piece {
            None => piece.first,
            Some((opcode, _)) => !piece.first && *opcode == piece.opcode,
        };
        let (_, message) = seen.piece.get_or_insert((piece.opcode, Vec::new()));
        message.extend_from_slice(piece.payload);
        let whole = if piece.last { seen.piece.take() } else { None };
        self.check(fits, Check::MessagesIn, || {
            format!("pieces of client {client}")
        });
        if let Some((opcode, message)) = whole {
            self.told_of(client, Sense::Message(opcode, message));
        }
        client
    }

    /// Checks that events of a connection may be delivered.
    pub(super) fn is_wanted(&mut self, conn: &Connection<'_>, client: usize) {
        self.check(conn.is_ready(), Check::NothingAfterClose, || {
            format!("a message of client {client}")
        });
        self.check(!conn.is_paused(), Check::NothingWhilePaused, || {
            format!("a message of client {client}")
        });
    }

    /// Checks that a connection does not exceed its share of a turn.
    fn in_share(&mut self, client: usize) {
        let turn = self.totals.turns;
        let share = self.settings.config.turn_messages;
        let seen = &mut self.clients[client].seen;
        if seen.in_turn.0 != turn {
            seen.in_turn = (turn, 0);
        }
        seen.in_turn.1 += 1;
        let count = seen.in_turn.1;
        self.check(count <= share, Check::TurnShare, || {
            format!("{count} messages of client {client}, whose share is {share}")
        });
    }

    /// Records the result of sending a message.
    pub(super) fn sent(
        &mut self,
        client: usize,
        opcode: OpCode,
        payload: &[u8],
        result: Result<usize, SendError>,
    ) -> Option<u64> {
        let policy = self.settings.config.slow_consumer;
        let seen = &mut self.clients[client].seen;
        match result {
            Ok(0) => {
                let drops = [SlowConsumer::DropNewest, SlowConsumer::DropOldest];
                self.check(drops.contains(&policy), Check::MessagesOut, || {
                    format!("dropped for client {client}")
                });
                None
            }
            Ok(_) => {
                let number = seen.push(Item {
                    payloads: vec![(payload.to_vec(), None)],
                    is_sure: policy != SlowConsumer::DropOldest,
                    ..Item::new(opcode)
                });
                let gone = seen.disconnected;
                self.check(!gone, Check::NothingAfterDisconnect, || {
                    format!("sent to client {client}")
                });
                self.note("sent", client, payload.len());
                Some(number)
            }
            Err(_) => None,
        }
    }

    /// Checks the data written to a client since the last call.
    pub(super) fn parse(&mut self, client: usize) {
        loop {
            let (state, line) = (&mut self.clients[client], &self.lines[client]);
            let (end, told) = match state.output.next(&line.sent) {
                Ok(Some(told)) => told,
                Ok(None) => return,
                Err(fault) => {
                    return self.fail(Check::WholeFrames, || {
                        format!("to client {client}: {fault}")
                    });
                }
            };
            state.told.push_back((end, told.clone()));
            self.look(client);
            match told {
                Told::Answer(status) => self.note("answer", client, status.into()),
                Told::Message(opcode, payload) => self.wrote(client, opcode, &payload),
                Told::Ping(payload) => {
                    let now = self.now;
                    let seen = &mut self.clients[client].seen;
                    if payload.is_empty() {
                        seen.pinged_at = now;
                        continue;
                    }
                    let due = seen.pings.pop_front();
                    let is_due = due.as_ref() == Some(&payload);
                    self.check(is_due, Check::ControlFrames, || {
                        format!("a ping to client {client}: {payload:?} instead of {due:?}")
                    });
                }
                Told::Pong(payload) => {
                    let seen = &mut self.clients[client].seen;
                    let due = seen.pongs.pop_front();
                    let is_due = due.as_ref() == Some(&payload);
                    self.check(is_due, Check::ControlFrames, || {
                        format!("a pong to client {client}: {payload:?} instead of {due:?}")
                    });
                }
                Told::Close(_) => {
                    self.note("close", client, 0);
                    self.forget_dropped(client);
                    let seen = &self.clients[client].seen;
                    let left = seen.sent.len();
                    self.check(left == 0, Check::MessagesOut, || {
                        format!("{left} messages to client {client} were not before its Close")
                    });
                }
            }
        }
    }

    fn wrote(&mut self, client: usize, opcode: OpCode, payload: &[u8]) {
        self.totals.messages_out += 1;
        let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
        match self.clients[client].seen.take(opcode, payload) {
            None => {
                let payload = text(payload);
                let what = format!("to client {client}, and was not sent: {payload:?}");
                self.fail(Check::MessagesOut, || what);
            }
            Some((_, Some(skipped))) => {
                let (is, payload) = (text(&skipped), text(payload));
                let what = format!("to client {client}: {payload:?} instead of {is:?}");
                self.fail(Check::MessagesOut, || what);
            }
            Some((Some(publish), None)) => self.wrote_published(client, publish),
            Some((None, None)) => {}
        }
    }

    /// Forgets dropped messages. Nothing is queued.
    pub(super) fn forget_dropped(&mut self, client: usize) {
        let seen = &mut self.clients[client].seen;
        seen.sent.retain(|item| item.is_sure);
        if seen.sent.is_empty() {
            seen.written = seen.sent_count;
        }
    }

    /// Records that a callback was called.
    pub(super) fn called_back(
        &mut self,
        client: usize,
        callback: u64,
        result: Result<(), SendError>,
    ) {
        self.progress += 1;
        self.note("callback", client, usize::from(result.is_ok()));
        self.parse(client);
        let seen = &mut self.clients[client].seen;
        let Some(number) = seen.callbacks.remove(&callback) else {
            return self.fail(Check::CallbackOnce, || format!("again, of client {client}"));
        };
        let (written, disconnected) = (seen.written, seen.disconnected);
        self.check(!disconnected, Check::CallbackOnce, || {
            format!("after the Disconnect of client {client}")
        });
        if result.is_ok() {
            self.check(number <= written, Check::CallbackOnce, || {
                format!("message {number} to client {client} is not written")
            });
        }
        if result == Err(SendError::Gone) {
            let closing = self.clients[client].seen.phase;
            self.tell(|| format!("callback of client {client} in {closing:?}"));
        }
    }

    pub(super) fn drained(&mut self, client: usize) {
        // With `drain_at` above 0, data that the handler sends may cause the next one.
        let way = &mut self.ways[client];
        let was_full = std::mem::replace(&mut way.was_full, way.is_behind);
        self.check(was_full, Check::DrainOnce, || {
            format!("client {client}, to whom everything was written")
        });
        self.clients[client].seen.above = false;
    }

    pub(super) fn disconnected(&mut self, client: usize, why: Disconnected<'_>) {
        self.tell(|| format!("Disconnect of client {client}: {why}"));
        self.check_cause(client, why);
        let seen = &mut self.clients[client].seen;
        let again = std::mem::replace(&mut seen.disconnected, true);
        seen.cause = Some(why.cause);
        let left = seen.callbacks.len();
        self.check(!again, Check::OneDisconnect, || format!("client {client}"));
        self.check(left == 0, Check::CallbackOnce, || {
            format!("{left} callbacks of client {client} were not called")
        });
    }

    /// Checks that the reported cause of an end is possible.
    fn check_cause(&mut self, client: usize, why: Disconnected<'_>) {
        let (state, line, hand) = (&self.clients[client], &self.lines[client], &self.hand);
        let seen = &state.seen;
        let goes_down = hand.stopping.is_some() || self.is_ending();
        let config = &self.settings.config;
        let (rates, closes) = (config.rates, config.rates.over == OverRate::Close);
        let plausible = match why.cause {
            Cause::Answered => seen.request_at.is_some(),
            // Or by a deadline after the server closed.
            Cause::Cut => seen.did_cut || seen.did_close,
            Cause::Eof => line.fin_read,
            Cause::Handler => seen.did_fail,
            Cause::Handshake(_) => !seen.ready,
            Cause::Io => line.reset_told,
            Cause::Lifetime => seen.had_lifetime,
            Cause::Local => seen.did_close,
            Cause::Peer => state.close.is_some_and(|end| end <= line.read),
            Cause::NoMemory => config.memory_budget < usize::MAX,
            Cause::Protocol(ProtocolError::TimedOut) => !config.message_timeout.is_zero(),
            Cause::Protocol(ProtocolError::TooManyBytes) => closes && rates.bytes.is_some(),
            Cause::Protocol(ProtocolError::TooManyMessages) => closes && rates.messages.is_some(),
            Cause::Protocol(ProtocolError::TooManyPings) => closes && rates.pings.is_some(),
            Cause::Protocol(_) => state.breach.is_some() || seen.did_limit,
            Cause::Shutdown => goes_down,
            Cause::Silent => seen.ready,
            // The kernel need not have been asked: data for others leaves at the end of a turn.
            Cause::SlowConsumer => {
                self.settings.topics || config.slow_consumer == SlowConsumer::Close
            }
        };
        self.check(plausible, Check::Causes, || {
            format!("client {client}: {why}")
        });
    }
}
