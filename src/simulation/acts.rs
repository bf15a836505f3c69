//! The random actions of handlers: everything that an application may do with a server.

use std::panic::resume_unwind;
use std::time::Duration;

use super::checks::Check;
use super::handlers::{Ordered, Shared, Timer, echo};
use super::sends::{broadcast, message, parts, send, send_much, send_then, send_with, when_sent};
use super::topics::{publish, publish_from_thread, publish_to_others, subscribe, unsubscribe};
use super::world::{Happening, World};
use crate::connection::event::{Binary, Utf8};
use crate::connection::{Connection, ConnectionId, Handle, Hub, Phase, WindDown};
use crate::protocol::{CloseCode, OpCode};

/// Performs a random action, or none. An error is returned by the handler.
pub(super) fn act(conn: &mut Connection<'_>, world: &Shared) -> Result<(), &'static str> {
    let client = {
        let world = &mut *world.borrow_mut();
        let client = world.names.get(&conn.id().as_u64()).copied();
        let wild = world.settings.wild;
        if world.is_calm || !world.hand.random.chance(wild) {
            return Ok(());
        }
        client.unwrap_or(0)
    };
    if draw(world, |world| {
        world.hand.random.chance(world.settings.failing)
    }) {
        {
            let world = &mut *world.borrow_mut();
            world.clients[client].seen.did_fail = true;
            // A failure ends an interval.
            if let Some(number) = world.hand.firing.take() {
                world.hand.timers.remove(&number);
            }
        }
        if draw(world, |world| world.hand.random.chance(500)) {
            return Err("planted");
        }
        // Unlike `panic!`, this prints no message.
        resume_unwind(Box::new("planted"));
    }
    let most = if world.borrow().settings.topics {
        42
    } else {
        30
    };
    let what = draw(world, |world| world.hand.random.below(most));
    match what {
        0..=2 => send(conn, world, client),
        3 => send_much(conn, world, client),
        4 => send_with(conn, world, client),
        5 => to_another(conn, world),
        6 => broadcast(&mut conn.server(), world),
        7..=9 => parts(conn, world, client),
        10..=12 => send_then(conn, world, client),
        13 => when_sent(conn, world, client),
        14 if draw(world, |world| world.hand.random.chance(200)) => close(conn, world, client),
        15 if draw(world, |world| world.hand.random.chance(200)) => cut(conn, world, client),
        16 => conn.pause(),
        17 => resume(conn, world, client),
        18..=20 => set_timer(conn, world, client),
        21 => set_hub_timer(&mut conn.server(), world),
        22 => own_handlers(conn),
        23 => control(conn, world, client),
        24 => limits(conn, world, client),
        25 => deadlines(conn, world, client),
        26 if world.borrow().settings.stops => order(&mut conn.server(), world),
        27 => {
            let world = &mut *world.borrow_mut();
            let at = world.now + world.hand.random.micros(0..=5000);
            world.plan(at, Happening::Thread);
        }
        28 => answer_another(&mut conn.server(), world),
        30..=33 => subscribe(conn, world, client),
        34 => unsubscribe(conn, world, client),
        35..=37 => publish_to_others(conn, world, client),
        38..=41 => publish(&mut conn.server(), world),
        _ => {}
    }
    Ok(())
}

pub(super) fn draw<T>(world: &Shared, choose: impl FnOnce(&mut World) -> T) -> T {
    choose(&mut world.borrow_mut())
}

/// Returns the number of a random connection, which may have ended.
fn somebody(world: &Shared) -> Option<(usize, ConnectionId)> {
    draw(world, |world| {
        let client = world.hand.random.below(world.clients.len());
        Some((client, world.clients[client].seen.id?))
    })
}

fn to_another(conn: &mut Connection<'_>, world: &Shared) {
    let Some((client, id)) = somebody(world) else {
        return;
    };
    // A connection is not found any more while its last callbacks run, before its `Disconnect`.
    let gone = world.borrow().clients[client].seen.disconnected || id == conn.id();
    let mut hub = conn.server();
    let Some(mut other) = hub.get(id) else {
        let what = || format!("client {client} is there, and is not found");
        return world.borrow_mut().check(gone, Check::FreshIds, what);
    };
    let gone = world.borrow().clients[client].seen.disconnected;
    let same = other.port() == Some(1024 + client as u16);
    world
        .borrow_mut()
        .check(same && !gone, Check::FreshIds, || {
            format!("client {client} is somebody else, or gone")
        });
    let most = if world.borrow().settings.topics {
        12
    } else {
        8
    };
    match draw(world, |world| world.hand.random.below(most)) {
        0 => close(&mut other, world, client),
        1 => cut(&mut other, world, client),
        2 => other.pause(),
        3 => resume(&mut other, world, client),
        8..=10 => subscribe(&mut other, world, client),
        11 => unsubscribe(&mut other, world, client),
        _ => send(&mut other, world, client),
    }
}

fn close(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    world.borrow_mut().note("disconnect", client, 0);
    world.borrow_mut().clients[client].seen.did_close = true;
    let done = conn.disconnect(4000, "by a handler");
    world.borrow_mut().check(done.is_ok(), Check::Answers, || {
        format!("a close of client {client}: {done:?}")
    });
}

/// Resumes reading. The silence during the pause does not count.
fn resume(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    if conn.is_paused() {
        let now = world.borrow().turn_at();
        world.borrow_mut().clients[client].seen.heard_at = now;
        conn.resume();
    }
}

fn cut(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    world.borrow_mut().note("shutdown", client, 0);
    world.borrow_mut().clients[client].seen.did_cut = true;
    conn.abort();
}

impl World {
    /// Records that a timer has fired; returns whether it is a known one.
    fn fired(&mut self, number: u64) -> bool {
        let now = self.turn_at();
        self.progress += 1;
        let timer = self.hand.timers.remove(&number);
        let Some(timer) = timer else {
            self.fail(Check::Deadlines, || {
                "a timer that was over has fired".into()
            });
            return false;
        };
        self.note("timer", timer.client.unwrap_or(0), number as usize);
        let due = timer.due;
        self.check(due <= now, Check::Deadlines, || {
            format!("a timer of {due:?} is early")
        });
        if let Some(every) = timer.every {
            let missed = (now.saturating_sub(due).as_nanos() / every.as_nanos()) as u32;
            let due = due + every * (missed + 1);
            self.hand.timers.insert(number, Timer { due, ..timer });
        }
        true
    }

    fn timer(&mut self, client: Option<usize>, after: Duration, every: bool) -> u64 {
        let number = self.hand.number();
        let due = self.turn_at() + after;
        let timer = Timer {
            due,
            client,
            every: every.then_some(after),
            id: None,
        };
        self.hand.timers.insert(number, timer);
        number
    }
}

fn set_timer(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    if conn.phase() >= Phase::Lingering {
        return;
    }
    let (after, what) = draw(world, |world| {
        (
            world.hand.random.micros(0..=50_000),
            world.hand.random.below(4),
        )
    });
    if what == 0 {
        // The timer may belong to another connection; it is removed all the same.
        let timer = draw(world, |world| {
            let (number, timer) = world.hand.timers.iter().next()?;
            Some((*number, timer.id?))
        });
        if let Some((number, id)) = timer {
            world.borrow_mut().hand.timers.remove(&number);
            let was = conn.clear_timer(id);
            let what = || "a timer that was to come was not found".into();
            world.borrow_mut().check(was, Check::Answers, what);
        }
        return;
    }
    let every = what == 1 && after > Duration::from_millis(5);
    let number = draw(world, |world| world.timer(Some(client), after, every));
    let shared = world.clone();
    let id = match every {
        true => conn.set_interval(after, move |conn, _| {
            shared.borrow_mut().fired(number);
            shared.borrow_mut().hand.firing = Some(number);
            act(conn, &shared)?;
            shared.borrow_mut().hand.firing = None;
            Ok::<_, &'static str>(())
        }),
        false => conn.set_timer(after, move |conn| {
            shared.borrow_mut().fired(number);
            act(conn, &shared)
        }),
    };
    if let Some(timer) = world.borrow_mut().hand.timers.get_mut(&number) {
        // Intervals are never cleared here, because a failure ends them.
        timer.id = Some(id).filter(|_| !every);
    }
}

fn set_hub_timer(hub: &mut Hub<'_>, world: &Shared) {
    let after = draw(world, |world| world.hand.random.micros(0..=50_000));
    let number = draw(world, |world| world.timer(None, after, false));
    let shared = world.clone();
    hub.set_timer(after, move |hub| {
        shared.borrow_mut().fired(number);
        if shared.borrow().is_calm {
            return;
        }
        if shared.borrow().settings.topics && draw(&shared, |world| world.hand.random.chance(700)) {
            publish(hub, &shared);
        } else {
            broadcast(hub, &shared);
        }
    });
}

/// Gives the connection handlers of its own, which do the same as the server's.
fn own_handlers(conn: &mut Connection<'_>) {
    conn.on(Utf8, |conn, text: &str| {
        served(conn, OpCode::Text, text.as_bytes())
    });
    conn.on(Binary, |conn, bytes: &[u8]| {
        served(conn, OpCode::Binary, bytes)
    });
}

fn served(conn: &mut Connection<'_>, opcode: OpCode, payload: &[u8]) -> Result<(), &'static str> {
    let world = conn
        .shared::<Option<Shared>>()
        .clone()
        .expect("it was put there");
    let client = world.borrow_mut().message(conn, opcode, payload);
    echo(conn, &world, client, opcode, payload);
    act(conn, &world)
}

fn control(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let mut text = message(world, 100);
    text.truncate(125);
    let payload = text.into_bytes();
    let is_ping = draw(world, |world| world.hand.random.chance(500));
    let result = match is_ping {
        true => conn.ping(&payload),
        false => conn.pong(&payload),
    };
    let seen = &mut world.borrow_mut().clients[client].seen;
    // One may be dropped if very much is queued.
    let is_sent = result.is_ok_and(|sent| sent.bytes() > 0);
    match is_ping {
        _ if !is_sent => {}
        true => seen.pings.push_back(payload),
        false => seen.pongs.push_back(payload),
    }
}

fn limits(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let (what, size) = draw(world, |world| {
        let most = world.settings.config.limits.max_recv_size;
        (
            world.hand.random.below(2),
            world.hand.random.within(100..=most),
        )
    });
    if what == 0 {
        conn.set_drain_at(size);
    } else {
        world.borrow_mut().clients[client].seen.did_limit = true;
        conn.set_max_recv_size(size);
    }
}

fn deadlines(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let (what, after) = draw(world, |world| {
        (
            world.hand.random.below(4),
            world.hand.random.millis(10..=300),
        )
    });
    let now = world.borrow().turn_at();
    match what {
        0 => {
            conn.set_lifetime(Some(after));
            let seen = &mut world.borrow_mut().clients[client].seen;
            (seen.lifetime, seen.had_lifetime) = (Some(now + after), true);
        }
        1 => {
            conn.set_lifetime(None);
            world.borrow_mut().clients[client].seen.lifetime = None;
        }
        2 => conn.server().set_silence_max(after),
        _ => conn.server().set_idle_timeout(after),
    }
    if what >= 2 {
        world.borrow_mut().hand.settings_at = now;
    }
}

/// Stops or starts listening, stops the server, or winds it down.
fn order(hub: &mut Hub<'_>, world: &Shared) {
    let (what, after, spread) = draw(world, |world| {
        let random = &mut world.hand.random;
        (
            random.below(5),
            random.millis(0..=500),
            random.millis(0..=300),
        )
    });
    match what {
        0 => hub.stop_listening(),
        1 => hub.start_listening(),
        2 => {
            world.borrow_mut().order(Ordered::Stop);
            hub.shutdown();
        }
        _ => {
            world.borrow_mut().order(Ordered::Drain(after));
            let done = hub.wind_down(
                WindDown::within(after)
                    .spread(spread)
                    .code(CloseCode::SERVICE_RESTART),
            );
            let what = || format!("a drain: {done:?}");
            world.borrow_mut().check(done.is_ok(), Check::Answers, what);
        }
    }
}

/// Answers a deferred opening handshake.
pub(super) fn answer_another(hub: &mut Hub<'_>, world: &Shared) {
    let waiting = world
        .borrow()
        .clients
        .iter()
        .position(|client| client.seen.is_deferred && !client.seen.disconnected);
    let Some(client) = waiting else {
        return;
    };
    world.borrow_mut().clients[client].seen.is_deferred = false;
    let id = world.borrow().clients[client].seen.id;
    if let Some(mut conn) = id.and_then(|id| hub.get(id)) {
        let _ = conn.answer(|_, _| ());
    }
}

/// Performs a random action of another thread with its handle.
pub(super) fn call(handle: &Handle, world: &Shared) {
    let Some((client, id)) = somebody(world) else {
        return;
    };
    // The closures must be `Send`, so they take the world from the server's data.
    let most = if world.borrow().settings.topics { 5 } else { 3 };
    let done = match draw(world, |world| world.hand.random.below(most)) {
        3 | 4 => publish_from_thread(handle, world),
        0 => handle.run(|hub| {
            let world = hub.shared::<Option<Shared>>().clone();
            broadcast(hub, &world.expect("it was put there"));
        }),
        1 => handle.run(move |hub| {
            let world = hub
                .shared::<Option<Shared>>()
                .clone()
                .expect("it was put there");
            if let Some(mut conn) = hub.get(id) {
                send(&mut conn, &world, client);
            }
        }),
        _ => {
            world.borrow_mut().clients[client].seen.did_close = true;
            handle.disconnect(id, 4001, "by a thread")
        }
    };
    let world = &mut *world.borrow_mut();
    let is_over = world.hand.is_stopped || world.is_ending();
    world.check(done.is_ok() || is_over, Check::Answers, || {
        format!("a handle: {done:?}")
    });
}
