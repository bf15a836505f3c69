//! The handlers of both loops, and what they do at random.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::model::Pending;
use super::scene::{Publishing, Scene, Shared};
use super::settings::{HISTORIES, KEPT, Kind, LATEST, NAMES};
use crate::backplane::Since;
use crate::connection::event::{
    Connect, Disconnect, Gap, Handlers, Occupied, Ready, Recovered, Shutdown, Stopped, Utf8,
    Vacated,
};
use crate::connection::{Connection, Hub, Outgoing, WindDown};
use crate::error::{HandlerError, SendError};
use crate::protocol::Prepared;
use crate::simulation::checks::Check;
use crate::topics::{Position, Published, Recovery};

/// Registers the handlers of a loop.
pub(super) fn handlers(scene: &Shared, side: usize) -> Handlers {
    let mut handlers = Handlers::default();
    macro_rules! on {
        ($event:ident, |$target:ident, $payload:ident, $scene:ident| $body:expr) => {{
            let scene = scene.clone();
            handlers.set::<$event, ()>(move |$target, $payload| {
                let $scene = &scene;
                guarded($scene, || $body);
            });
        }};
    }
    on!(Connect, |conn, _payload, scene| {
        let addr = conn.peer_addr().map_or(0, |addr| addr.port() - 1024);
        let client = &mut scene.borrow_mut().clients[usize::from(addr)];
        client.id = Some(conn.id());
        client.connects += 1;
    });
    on!(Ready, |conn, _payload, scene| {
        let client = client_of(conn, scene);
        scene.borrow_mut().clients[client].is_open = true;
        act(conn, scene);
    });
    on!(Utf8, |conn, _payload, scene| act(conn, scene));
    on!(Disconnect, |conn, _payload, scene| {
        let client = client_of(conn, scene);
        scene.borrow_mut().refresh(side, &mut conn.server());
        scene.borrow_mut().clients[client].disconnects += 1;
        besides(&mut conn.server(), scene, side);
    });
    on!(Recovered, |conn, payload, scene| {
        let client = client_of(conn, scene);
        scene.borrow_mut().refresh(side, &mut conn.server());
        let (name, recovery) = payload;
        scene.borrow_mut().told_recovery(client, name, recovery);
        if chooses(scene) {
            act(conn, scene);
        }
    });
    on!(Gap, |hub, lost, scene| {
        scene.borrow_mut().refresh(side, hub);
        scene.borrow_mut().told_gap(side, lost.topic, lost.count);
        besides(hub, scene, side);
    });
    on!(Occupied, |hub, name, scene| {
        scene.borrow_mut().refresh(side, hub);
        scene.borrow_mut().told_topic(side, name, true);
        besides(hub, scene, side);
    });
    on!(Vacated, |hub, name, scene| {
        scene.borrow_mut().refresh(side, hub);
        scene.borrow_mut().told_topic(side, name, false);
        besides(hub, scene, side);
    });
    on!(Shutdown, |hub, _payload, scene| {
        scene.borrow_mut().refresh(side, hub);
        besides(hub, scene, side);
    });
    on!(Stopped, |hub, _payload, scene| {
        scene.borrow_mut().refresh(side, hub);
        scene.borrow_mut().note("stopped", side, 0);
        scene.borrow_mut().sides[side].is_stopped = true;
    });
    handlers
}

/// Calls a handler. The server would only log a panic.
pub(super) fn guarded(scene: &Shared, handler: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(handler)) {
        let what = HandlerError::from_panic(&*panic).to_string();
        draw(scene, |scene| scene.fail(Check::Panics, || what));
    }
}

impl Scene {
    fn told_topic(&mut self, side: usize, name: &str, is_occupied: bool) {
        let topic = topic_of(name);
        self.note("topic", topic, is_occupied.into());
        let told = &mut self.sides[side].told;
        let is_new = match is_occupied {
            true => told.insert(topic),
            false => told.remove(&topic),
        };
        self.check(is_new, Check::Topics, || {
            format!("{name}: {is_occupied} again")
        });
    }

    fn told_gap(&mut self, side: usize, name: &str, count: Option<u64>) {
        let topic = topic_of(name);
        self.note("gap", topic, count.map_or(0, |count| count as usize + 1));
        // A subscriber that was too slow may have been closed between two losses.
        let mut clients = 0..self.clients.len();
        let is_loose = !clients.all(|client| self.is_exact(client));
        let own = &mut self.sides[side];
        let known = own.gaps.remove(&topic);
        let is_excused = own.excused.remove(&topic) || (is_loose && known.is_some());
        self.check(known == Some(count) || is_excused, Check::Gaps, || {
            format!("a gap of {count:?} in {name} on loop {side}, instead of {known:?}")
        });
    }

    fn told_recovery(&mut self, at: usize, name: &str, recovery: Recovery) {
        let topic = topic_of(name);
        let number = match recovery {
            Recovery::Recovered(count) => count + 1,
            _ => 0,
        };
        self.note("recovered", topic, number);
        let is_exact = self.is_exact(at);
        let client = &mut self.clients[at];
        let found = client.due.iter().position(|due| due.topic == topic);
        let due = found.map(|found| client.due.remove(found));
        let known = due.as_ref().map(|due| due.outcome);
        let is_right = match due {
            Some(due) => due.outcome.is_none_or(|outcome| outcome == recovery),
            // Memory was short.
            None if !is_exact && recovery == Recovery::Gap => {
                let is_pending = client.pending.contains_key(&topic);
                client.release(topic);
                is_pending
            }
            None => false,
        };
        self.check(is_right, Check::Recoveries, || {
            format!("client {at} is told {recovery:?} of {name} instead of {known:?}")
        });
    }
}

fn topic_of(name: &str) -> usize {
    NAMES
        .iter()
        .position(|each| *each == name)
        .unwrap_or(NAMES.len())
}

/// Calls a function with the scene, for something random.
fn draw<T>(scene: &Shared, action: impl FnOnce(&mut Scene) -> T) -> T {
    action(&mut scene.borrow_mut())
}

fn chooses(scene: &Shared) -> bool {
    draw(scene, |scene| {
        let wild = scene.settings.wild;
        !scene.is_calm && scene.random.chance(wild)
    })
}

fn client_of(conn: &Connection<'_>, scene: &Shared) -> usize {
    let id = Some(conn.id());
    let mut clients = scene.borrow().clients.len();
    while clients > 0 && scene.borrow().clients[clients - 1].id != id {
        clients -= 1;
    }
    clients.checked_sub(1).expect("the connection of a client")
}

/// Does something on behalf of no connection, or nothing.
fn besides(hub: &mut Hub<'_>, scene: &Shared, side: usize) {
    if chooses(scene) {
        scene.borrow_mut().refresh(side, hub);
        publish(hub, scene, None);
    }
}

/// Does some things, as an application would for a client.
fn act(conn: &mut Connection<'_>, scene: &Shared) {
    let at = client_of(conn, scene);
    let side = scene.borrow().clients[at].side;
    scene.borrow_mut().refresh(side, &mut conn.server());
    if scene.borrow().is_calm {
        return;
    }
    let count = draw(scene, |scene| scene.random.pick(&[1, 1, 2, 3]));
    for _ in 0..count {
        match draw(scene, |scene| scene.random.below(40)) {
            0..10 => subscribe(conn, scene, at),
            10..19 => recover(conn, scene, at),
            19..24 => unsubscribe(conn, scene, at),
            24..32 => {
                let count = draw(scene, |scene| scene.random.pick(&[1, 1, 2, 5, 15]));
                for _ in 0..count {
                    publish(&mut conn.server(), scene, None);
                }
            }
            32..36 => publish_to_others(conn, scene, at),
            36 => {
                let scene = scene.clone();
                // It fails if the connection is not open.
                let _ = conn.when_sent(move |conn: &mut Connection<'_>, _| {
                    draw(&scene, |scene| scene.note("sent", at, 0));
                    if !scene.borrow().is_calm && conn.is_ready() {
                        guarded(&scene, || act(conn, &scene));
                    }
                });
            }
            37 => order(&mut conn.server(), scene),
            38 => {
                let other = draw(scene, |scene| {
                    let at = scene.random.below(scene.clients.len());
                    scene.clients[at].id
                });
                let mut hub = conn.server();
                if let Some(mut other) = other.and_then(|id| hub.get(id)) {
                    disconnect(&mut other, scene);
                }
            }
            _ => {
                if draw(scene, |scene| scene.random.chance(300)) {
                    disconnect(conn, scene);
                }
            }
        }
        scene.borrow_mut().refresh(side, &mut conn.server());
    }
}

fn disconnect(conn: &mut Connection<'_>, scene: &Shared) {
    draw(scene, |scene| scene.note("disconnect", 0, 0));
    let done = conn.disconnect(4000, "");
    draw(scene, |scene| {
        scene.check(done.is_ok(), Check::Answers, || format!("{done:?}"));
    });
}

fn subscribe(conn: &mut Connection<'_>, scene: &Shared, at: usize) {
    let topic = draw(scene, |scene| scene.random.below(NAMES.len()));
    draw(scene, |scene| scene.note("subscribe", at, topic));
    let result = conn.subscribe(NAMES[topic]);
    subscribed(scene, at, topic, &result);
}

/// Checks and records a subscription; returns whether it is new.
fn subscribed(scene: &Shared, at: usize, topic: usize, result: &Result<bool, SendError>) -> bool {
    let scene = &mut *scene.borrow_mut();
    let side = scene.clients[at].side;
    // A topic whose history the loops share is up to date now.
    scene.sync(side);
    let is_exact = scene.is_exact(at);
    let client = &mut scene.clients[at];
    // What the loop took in may have closed a slow client.
    let is_open = client.is_open && (is_exact || result.is_ok());
    let is_new = is_open && client.topics.insert(topic);
    let is_right = match result {
        Ok(new) => is_open && *new == is_new,
        Err(_) => !is_open,
    };
    scene.check(is_right, Check::Topics, || {
        format!("client {at}, {topic}: {result:?}")
    });
    if is_open {
        let is_known = scene.sides[side].interest.contains(&topic);
        scene.check(is_known, Check::Interest, || {
            format!("nobody knows of the first subscriber of {topic} on loop {side}")
        });
        let is_shared = HISTORIES.contains(&topic) && scene.settings.kind != Kind::Historian;
        let is_behind = is_new && is_shared && !scene.sides[side].inflow.is_empty();
        scene.check(!is_behind, Check::History, || {
            format!("client {at} will hear what was published to {topic} before it came")
        });
    }
    is_new
}

/// Subscribes a client that comes back, or one that comes for the first time.
fn recover(conn: &mut Connection<'_>, scene: &Shared, at: usize) {
    let topic = draw(scene, |scene| scene.random.within(HISTORIES));
    let is_remote = scene.borrow().settings.kind == Kind::Historian;
    let was_member = scene.borrow().clients[at].topics.contains(&topic);
    let requests = scene.borrow().last_request;
    if draw(scene, |scene| scene.random.chance(250)) {
        let most = draw(scene, |scene| scene.random.within(0..=KEPT + 2));
        draw(scene, |scene| scene.note("recent", at, topic));
        let result = conn.subscribe_recent(NAMES[topic], most);
        let is_new = result.as_ref().map(|_| !was_member).map_err(Clone::clone);
        if !subscribed(scene, at, topic, &is_new) {
            return;
        }
        let scene = &mut *scene.borrow_mut();
        return match result {
            Ok(0) if is_remote => scene.wait_for(at, topic, requests, Since::Recent(most)),
            Ok(count) => scene.got_recent(at, topic, most, count),
            Err(_) => {}
        };
    }
    let position = draw(scene, |scene| scene.any_position(topic));
    draw(scene, |scene| scene.note("recover", at, topic));
    let result = conn.subscribe_from(NAMES[topic], position);
    let is_new = result.as_ref().map(|_| !was_member).map_err(Clone::clone);
    if !subscribed(scene, at, topic, &is_new) {
        let is_gap = !matches!(result, Ok(Recovery::Recovered(_) | Recovery::Pending));
        return draw(scene, |scene| {
            scene.check(is_gap, Check::Recoveries, || format!("{result:?} again"));
        });
    }
    let scene = &mut *scene.borrow_mut();
    match result {
        Ok(Recovery::Pending) if is_remote => {
            scene.wait_for(at, topic, requests, Since::Position(position));
        }
        Ok(recovery) if !is_remote => scene.recovered(at, topic, position, recovery),
        _ => scene.fail(Check::Recoveries, || format!("client {at}: {result:?}")),
    }
}

impl Scene {
    /// Returns a position that some client may have.
    fn any_position(&mut self, topic: usize) -> Position {
        let back = self.random.below(KEPT + 3) as u64;
        let (epoch, last) = match self.settings.kind {
            Kind::Historian => {
                let last = self.engine.streams.get(&topic).map_or(0, Vec::len);
                (super::engine::position(topic, 0).epoch(), last as u64)
            }
            _ => {
                let sequence = self.sequences.get(&topic);
                let last = sequence.and_then(|sequence| sequence.all.last());
                let epoch = sequence.map_or(1, |sequence| sequence.epoch);
                (epoch, last.map_or(0, |last| last.0))
            }
        };
        let ahead = u64::from(self.random.chance(30));
        let other = u64::from(self.random.chance(30)) << 40;
        Position::new(epoch ^ other, last.saturating_sub(back) + ahead)
    }

    /// Notes that a client waits for the answer to a request.
    fn wait_for(&mut self, at: usize, topic: usize, before: u64, since: Since) {
        let request = self.last_request;
        self.check(request == before + 1, Check::Recoveries, || {
            "no request".into()
        });
        let pending = Pending::new(request, since);
        self.clients[at].pending.insert(topic, pending);
    }

    /// Checks the recovery of a client by the history that the loops share.
    fn recovered(&mut self, at: usize, topic: usize, since: Position, recovery: Recovery) {
        let missed = self.missed(topic, since);
        let side = self.clients[at].side;
        let room = self.settings.config.limits.max_backlog / 2;
        let all = missed.as_deref().unwrap_or_default();
        let size: usize = all.iter().map(|number| self.frame_size(*number)).sum();
        let is_right = match recovery {
            Recovery::Recovered(count) => missed.is_some() && count == all.len(),
            Recovery::Gap => {
                let is_kept = missed.is_some() && all.len() <= KEPT && size <= room;
                !(is_kept && self.is_exact(at) && self.keeps_all(side, topic))
            }
            Recovery::Pending => false,
        };
        self.note("recovery", at, usize::from(recovery != Recovery::Gap));
        self.check(is_right, Check::History, || {
            format!("client {at} missed {missed:?} of {topic} since {since}: {recovery:?}")
        });
        if let (Recovery::Recovered(_), Some(missed)) = (recovery, missed) {
            self.clients[at].expected.extend(missed);
        }
    }

    /// Checks the newest messages that a client got by the history that the loops share.
    fn got_recent(&mut self, at: usize, topic: usize, most: usize, count: usize) {
        self.note("got recent", at, count);
        let all = self
            .sequences
            .get(&topic)
            .map_or(&[][..], |sequence| &sequence.all);
        let side = self.clients[at].side;
        let mut left = self.settings.config.limits.max_backlog / 2;
        let newest = all.iter().rev().take(most.min(KEPT));
        let fits = newest.take_while(|(_, number)| {
            let size = self.frame_size(*number);
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits
        });
        let fits = fits.count();
        let is_exact = self.is_exact(at) && self.keeps_all(side, topic);
        let is_right = count <= fits && (count == fits || !is_exact);
        let sent: Vec<_> = all[all.len() - count.min(all.len())..].to_vec();
        self.check(is_right, Check::History, || {
            format!("client {at} got {count} messages of {topic} instead of {fits}")
        });
        self.clients[at]
            .expected
            .extend(sent.iter().map(|(_, number)| *number));
    }
}

fn unsubscribe(conn: &mut Connection<'_>, scene: &Shared, at: usize) {
    let topic = draw(scene, |scene| {
        let any = scene.random.below(NAMES.len());
        let topics = scene.clients[at].topics.range(any..).next();
        topics.copied().unwrap_or(any)
    });
    draw(scene, |scene| scene.note("unsubscribe", at, topic));
    let was_there = conn.unsubscribe(NAMES[topic]);
    let scene = &mut *scene.borrow_mut();
    let client = &mut scene.clients[at];
    let is_known = client.topics.contains(&topic);
    let is_open = client.is_open;
    client.release(topic);
    scene.leave(at, topic);
    scene.check(was_there == is_known || !is_open, Check::Topics, || {
        format!("client {at} leaves {topic}: {was_there}")
    });
}

/// Publishes a message, by one of the ways to do so.
pub(super) fn publish(hub: &mut Hub<'_>, scene: &Shared, except: Option<usize>) {
    let (number, text, topic, way) = draw(scene, |scene| {
        let topic = scene.random.below(NAMES.len());
        let number = scene.new_message(topic);
        (number, scene.text(number), topic, scene.random.below(3))
    });
    let key = scene.borrow().messages[number as usize].key;
    let key = key.map(|key| [key]);
    draw(scene, |scene| {
        scene.publishing = Some(Publishing { number, except })
    });
    let result = match way {
        0 => {
            draw(scene, |scene| scene.messages[number as usize].key = None);
            hub.publish_with(NAMES[topic], |_| Prepared::text(&text))
        }
        1 => hub.publish(
            NAMES[topic],
            keyed(Outgoing::prepared(&Prepared::text(&text)), &key),
        ),
        _ => hub.publish(NAMES[topic], keyed(Outgoing::text(&text), &key)),
    };
    published(scene, number, &result);
}

fn publish_to_others(conn: &mut Connection<'_>, scene: &Shared, at: usize) {
    let (number, text, topic) = draw(scene, |scene| {
        let topic = match scene.random.chance(300) {
            true => LATEST,
            false => scene.random.below(NAMES.len()),
        };
        let number = scene.new_message(topic);
        (number, scene.text(number), topic)
    });
    let key = scene.borrow().messages[number as usize].key;
    let key = key.map(|key| [key]);
    let except = Some(at);
    draw(scene, |scene| {
        scene.publishing = Some(Publishing { number, except })
    });
    let result = conn.publish(NAMES[topic], keyed(Outgoing::text(&text), &key));
    published(scene, number, &result);
}

fn keyed<'m>(message: Outgoing<'m>, key: &'m Option<[u8; 1]>) -> Outgoing<'m> {
    match key {
        Some(key) => message.key(key),
        None => message,
    }
}

/// Checks the result of a publish, which the engine has seen.
fn published(scene: &Shared, number: u64, result: &Result<Published, SendError>) {
    let scene = &mut *scene.borrow_mut();
    let message = scene.messages[number as usize];
    let position = scene.sequences.get(&message.topic).and_then(|sequence| {
        let last = sequence.all.last().filter(|(_, last)| *last == number)?;
        Some(Position::new(sequence.epoch, last.0))
    });
    let is_shared = HISTORIES.contains(&message.topic) && scene.settings.kind != Kind::Historian;
    let is_right = result.as_ref().is_ok_and(|published| {
        let sum = published.queued + published.conflated + published.dropped + published.refused;
        published.receivers == sum && (!is_shared || published.position == position)
    });
    scene.check(is_right && message.was_published, Check::Answers, || {
        format!("the publish of {number}: {result:?}")
    });
}

/// Gives an order that holds for all loops.
fn order(hub: &mut Hub<'_>, scene: &Shared) {
    if !scene.borrow().settings.orders {
        return;
    }
    let what = draw(scene, |scene| scene.random.below(8));
    draw(scene, |scene| scene.note("order", what, 0));
    match what {
        0 => {
            draw(scene, |scene| scene.is_stopping = true);
            hub.shutdown();
        }
        1 => {
            draw(scene, |scene| scene.is_stopping = true);
            let how = WindDown::within(Duration::from_millis(50)).code(1012);
            let done = hub.wind_down(how);
            assert!(done.is_ok(), "the code can be sent");
        }
        // Loops that give opposite orders at the same time may end up in different states.
        _ if hub.loop_number() > 0 => {}
        2..=4 => {
            draw(scene, |scene| scene.listens = false);
            hub.stop_listening();
        }
        _ => {
            draw(scene, |scene| scene.listens = true);
            hub.start_listening();
        }
    }
}
