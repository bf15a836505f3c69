//! The handlers of the simulated server. They record all events, and perform random actions of an
//! application.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use super::acts::{act, draw};
use super::checks::Check;
use super::clients::Sense;
use super::random::Random;
use super::topics::publish;
use super::world::World;
use crate::connection::event::{
    Binary, Connect, Disconnect, Drain, Error, Fragment, Handlers, Handshake, Occupied, PeerClose,
    Ping, Pong, Ready, Request, Shutdown, Start, Stopped, Tick, Utf8, Vacated,
};
use crate::connection::{Connection, Sent, TimerId};
use crate::error::Fault;
use crate::handshake::Upgrade;
use crate::plain_http::Response;
use crate::protocol::{Compress, OpCode};

pub(super) type Shared = Rc<RefCell<World>>;

/// What handlers have started that concerns the whole server.
pub(super) struct Hand {
    pub(super) random: Random,
    /// Timers that must fire.
    pub(super) timers: BTreeMap<u64, Timer>,
    numbered: u64,
    /// The interval whose callback runs.
    pub(super) firing: Option<u64>,
    pub(super) next_tick: Option<Duration>,
    /// When the server must have stopped.
    pub(super) stopping: Option<Duration>,
    /// When the wind-down began.
    pub(super) draining: Option<Duration>,
    /// When a stop ended a wind-down.
    pub(super) drain_ended: Duration,
    /// Whether `Shutdown` and `Stopped` were delivered.
    pub(super) is_down: bool,
    pub(super) is_stopped: bool,
    pub(super) ordered: Vec<Ordered>,
    /// When a handler last changed a deadline.
    pub(super) settings_at: Duration,
}

pub(super) struct Timer {
    pub(super) due: Duration,
    /// The client with whose connection it ends.
    pub(super) client: Option<usize>,
    pub(super) every: Option<Duration>,
    pub(super) id: Option<TimerId>,
}

/// How a handler ends the server.
#[derive(Clone, Copy)]
pub(super) enum Ordered {
    Stop,
    Drain(Duration),
}

impl Hand {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            random: Random::new(random.next()),
            timers: BTreeMap::new(),
            numbered: 0,
            firing: None,
            next_tick: None,
            stopping: None,
            draining: None,
            drain_ended: Duration::ZERO,
            is_down: false,
            is_stopped: false,
            ordered: Vec::new(),
            settings_at: Duration::ZERO,
        }
    }

    /// Returns a unique number.
    pub(super) fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }
}

impl World {
    /// Records that the server is to end.
    pub(super) fn order(&mut self, ordered: Ordered) {
        if self.hand.is_down {
            self.carry_out(ordered);
        } else {
            self.hand.ordered.push(ordered);
        }
    }

    fn carry_out(&mut self, ordered: Ordered) {
        let close_timeout = self.settings.config.close_timeout;
        let now = self.now;
        let hand = &mut self.hand;
        let (after, is_first) = match ordered {
            Ordered::Stop => (close_timeout, hand.stopping.is_none()),
            Ordered::Drain(deadline) => (deadline, hand.stopping.is_none()),
        };
        let due = now + after;
        match ordered {
            _ if is_first => {
                hand.stopping = Some(due);
                if matches!(ordered, Ordered::Drain(_)) {
                    hand.draining = Some(now);
                }
            }
            // A stop ends a wind-down at once; the deadline is that of the stop.
            Ordered::Stop if hand.draining.take().is_some() => {
                hand.stopping = Some(due);
                hand.drain_ended = now;
            }
            Ordered::Drain(_) if hand.draining.is_some() => {
                hand.stopping = hand.stopping.map(|before| before.min(due));
            }
            _ => {}
        }
    }

    fn went_down(&mut self) {
        self.note("Shutdown", 0, 0);
        let again = std::mem::replace(&mut self.hand.is_down, true);
        self.check(!again, Check::Answers, || "Shutdown came twice".into());
        let ordered = std::mem::take(&mut self.hand.ordered);
        self.check(!ordered.is_empty(), Check::Answers, || {
            "nobody wanted a Shutdown".into()
        });
        for ordered in ordered {
            self.carry_out(ordered);
        }
    }

    fn ticked(&mut self, missed: u64) {
        self.note("Tick", 0, missed as usize);
        self.progress += 1;
        let (now, period) = (self.turn_at(), self.settings.config.tick_period);
        let Some(due) = self.hand.next_tick else {
            return self.fail(Check::Deadlines, || "a tick of no period".into());
        };
        let passed = now.saturating_sub(due).as_nanos() / period.as_nanos();
        self.check(
            due <= now && u128::from(missed) == passed,
            Check::Deadlines,
            || format!("a tick that was due at {due:?}, {missed} missed"),
        );
        self.hand.next_tick = Some(due + period * (missed as u32 + 1));
    }
}

/// Registers all handlers.
pub(super) fn handlers(world: &Shared) -> Handlers {
    let mut handlers = Handlers::default();
    /// Registers a handler that has access to the world.
    macro_rules! on {
        ($event:ident, $returns:ty, |$conn:ident, $payload:ident, $world:ident| $body:expr) => {{
            let world = world.clone();
            handlers.set::<$event, $returns>(move |$conn, $payload| {
                let $world = &world;
                $body
            });
        }};
    }
    let (pieces, plain) = {
        let settings = &world.borrow().settings;
        (settings.pieces, settings.plain)
    };
    on!(Connect, bool, |conn, _payload, world| {
        let client = world.borrow_mut().connected(conn);
        let refuses = chooses(world, |world| world.settings.refuses);
        world.borrow_mut().clients[client].seen.did_refuse |= refuses;
        !refuses
    });
    on!(Handshake, bool, |conn, upgrade, world| handshake(
        conn, upgrade, world
    ));
    on!(Ready, Result<(), &'static str>, |conn, _payload, world| {
        {
            let world = &mut *world.borrow_mut();
            let client = world.client_of(conn, "Ready");
            let seen = &mut world.clients[client].seen;
            (seen.heard_at, seen.is_deferred) = (world.now, false);
            let again = std::mem::replace(&mut seen.ready, true);
            world.check(!again, Check::MessagesIn, || format!("Ready twice, client {client}"));
        }
        act(conn, world)
    });
    on!(Utf8, Result<(), &'static str>, |conn, text, world| {
        let client = world.borrow_mut().message(conn, OpCode::Text, text.as_bytes());
        echo(conn, world, client, OpCode::Text, text.as_bytes());
        act(conn, world)
    });
    on!(Binary, Result<(), &'static str>, |conn, bytes, world| {
        let client = world.borrow_mut().message(conn, OpCode::Binary, bytes);
        echo(conn, world, client, OpCode::Binary, bytes);
        act(conn, world)
    });
    if pieces {
        on!(Fragment, Result<(), &'static str>, |conn, piece, world| {
            world.borrow_mut().piece(conn, piece);
            act(conn, world)
        });
    }
    on!(Ping, bool, |conn, payload, world| {
        let world = &mut *world.borrow_mut();
        let client = world.client_of(conn, "Ping");
        world.is_wanted(conn, client);
        world.told_of(client, Sense::Ping(payload.to_vec()));
        let answers = !world.hand.random.chance(100);
        if answers {
            world.clients[client].seen.pongs.push_back(payload.to_vec());
        }
        answers
    });
    on!(Pong, Result<(), &'static str>, |conn, payload, world| {
        let client = world.borrow_mut().client_of(conn, "Pong");
        world.borrow_mut().is_wanted(conn, client);
        world.borrow_mut().told_of(client, Sense::Pong(payload.to_vec()));
        act(conn, world)
    });
    on!(Drain, Result<(), &'static str>, |conn, _payload, world| {
        {
            let world = &mut *world.borrow_mut();
            let client = world.client_of(conn, "Drain");
            world.drained(client);
        }
        act(conn, world)
    });
    on!(PeerClose, Result<(), &'static str>, |conn, close, world| {
        {
            let world = &mut *world.borrow_mut();
            let client = world.client_of(conn, "PeerClose");
            if let Some(close) = close {
                let mut body = Vec::new();
                if close.code.is_sendable() {
                    body.extend(close.code.as_u16().to_be_bytes());
                    body.extend(close.reason.as_bytes());
                }
                world.told_of(client, Sense::Close(body));
            }
        }
        act(conn, world)
    });
    on!(Error, (), |conn, fault, world| {
        let client = world.borrow_mut().client_of(conn, "Error");
        if matches!(fault, Fault::NoMemory) {
            let world = &mut *world.borrow_mut();
            world.shed_at = Some(world.turn);
        }
        world
            .borrow()
            .tell(|| format!("Error of client {client}: {fault}"));
    });
    on!(Disconnect, Result<(), &'static str>, |conn, why, world| {
        let refused = [
            conn.send_utf8("late").is_err(),
            conn.ping(b"late").is_err(),
            conn.start_message(OpCode::Text, Compress::Auto).is_err(),
            conn.subscribe("plain.1").is_err(),
        ];
        let world = &mut *world.borrow_mut();
        let client = world.client_of(conn, "Disconnect");
        world.check(refused == [true; 4], Check::NothingAfterDisconnect, || {
            format!("sent to client {client}")
        });
        world.leave_topics(conn, client);
        world.disconnected(client, why);
        world.hand.timers.retain(|_, timer| timer.client != Some(client));
        // The result of this handler has no effect.
        match world.is_calm || world.hand.random.chance(900) {
            true => Ok(()),
            false => Err("at the end"),
        }
    });
    if plain {
        on!(Request, Option<Response>, |conn, request, world| {
            {
                let world = &mut *world.borrow_mut();
                let client = world.client_of(conn, "Request");
                world.clients[client].seen.request_at = Some(world.now);
                let known = world.clients[client].breach.is_none();
                if known {
                    world.told_of(client, Sense::Plain);
                }
            }
            let _ = act(conn, world);
            Some(Response::new(200).body(request.body()))
        });
    }
    on!(Occupied, (), |hub, topic, world| {
        world.borrow_mut().told_of_topic(hub, topic, true);
        if !world.borrow().is_calm && draw(world, |world| world.hand.random.chance(200)) {
            publish(hub, world);
        }
    });
    on!(Vacated, (), |hub, topic, world| world
        .borrow_mut()
        .told_of_topic(hub, topic, false));
    on!(Start, (), |_hub, _payload, world| world
        .borrow_mut()
        .note("Start", 0, 0));
    on!(Tick, (), |_hub, ticks, world| world
        .borrow_mut()
        .ticked(ticks.missed));
    on!(Shutdown, (), |_hub, _payload, world| world
        .borrow_mut()
        .went_down());
    on!(Stopped, (), |_hub, stats, world| {
        let world = &mut *world.borrow_mut();
        world.note("Stopped", 0, stats.cut as usize);
        let again = std::mem::replace(&mut world.hand.is_stopped, true);
        world.check(!again, Check::Answers, || "Stopped came twice".into());
    });
    handlers
}

/// Echoes a message.
pub(super) fn echo(
    conn: &mut Connection<'_>,
    world: &Shared,
    client: usize,
    opcode: OpCode,
    payload: &[u8],
) {
    if world.borrow().settings.echoes {
        let result = match std::str::from_utf8(payload) {
            Ok(text) if opcode == OpCode::Text => conn.send_utf8(text),
            _ => conn.send_binary(payload),
        };
        let result = result.map(Sent::bytes);
        world.borrow_mut().sent(client, opcode, payload, result);
    }
}

/// Decides at random whether something is done; never in the phase without faults.
fn chooses(world: &Shared, in_a_thousand: impl Fn(&World) -> usize) -> bool {
    let world = &mut *world.borrow_mut();
    let in_a_thousand = in_a_thousand(world);
    !world.is_calm && world.hand.random.chance(in_a_thousand)
}

fn handshake(conn: &mut Connection<'_>, upgrade: &mut Upgrade, world: &Shared) -> bool {
    let client = world.borrow_mut().client_of(conn, "Handshake");
    if upgrade.error().is_some() {
        return true;
    }
    world.borrow_mut().told_of(client, Sense::Upgrade);
    if chooses(world, |world| world.settings.refuses) {
        world.borrow_mut().clients[client].seen.did_refuse = true;
        return false;
    }
    if chooses(world, |world| world.settings.defers) {
        let done = upgrade.defer();
        let world = &mut *world.borrow_mut();
        world.check(done.is_ok(), Check::Answers, || {
            format!("a deferral: {done:?}")
        });
        world.clients[client].seen.is_deferred = true;
    }
    if chooses(world, |world| world.settings.failing / 4) {
        world.borrow_mut().clients[client].seen.did_fail = true;
        // No message of it is wanted.
        resume_unwind(Box::new("planted"));
    }
    true
}
