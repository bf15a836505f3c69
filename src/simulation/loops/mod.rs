//! Two loops of one process over one virtual clock, on one thread: topics and backplanes.
//!
//! The seed determines which loop has the next turn and what it is told, so a loop is stalled for
//! any time, while the other fills its inbox. The sockets have no faults: those are simulated with
//! one loop.

mod acts;
mod engine;
mod model;
mod scene;
mod settings;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::engine::Tap;
use self::scene::{Door, Scene, Shared};
use self::settings::{AGE, Kind, NAMES};
use super::checks::Check;
use super::line::Edge;
use super::world::{Failure, plain_edge};
use crate::backplane::{Exchange, Outlets};
use crate::client_frames::frame;
use crate::connection::{Handle, Hub, Outbox, Siblings, WindDown};
use crate::error::HandlerError;
use crate::server::event_queue::Source;
use crate::server::listener::Listener;
use crate::server::{Server, State};

/// A run: two loops and their surroundings.
struct Run {
    servers: [Option<Server>; 2],
    handles: Vec<Handle>,
    exchange: Arc<Exchange>,
    scene: Shared,
}

/// Runs a seed; returns its trace, or the check that failed.
pub(super) fn run(seed: u64, is_shown: bool) -> Result<u64, Failure> {
    let scene = Rc::new(RefCell::new(Scene::new(seed, is_shown)));
    scene
        .borrow()
        .tell(|| format!("{:?}", scene.borrow().settings));
    Outbox::forget_spare();
    let done = catch_unwind(AssertUnwindSafe(|| Run::new(&scene).all()));
    // The engine holds requests, which refer to the loops.
    let failure = scene.borrow().failure.clone();
    match (failure, done) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(scene.borrow().trace()),
        (None, Err(panic)) => Err(Failure {
            check: Check::Panics,
            what: HandlerError::from_panic(&*panic).to_string(),
        }),
    }
}

impl Run {
    fn new(scene: &Shared) -> Self {
        let exchange = Exchange::new(2);
        let loops = scene.borrow().loops.clone();
        let mut handles = Vec::new();
        let servers = [0, 1].map(|side| {
            let config = scene.borrow().settings.config.clone();
            let max_inbox = config.max_inbox;
            let door = Rc::new(Door {
                scene: scene.clone(),
                side,
            });
            let listener = Listener::simulated(door).expect("it can listen");
            let handlers = acts::handlers(scene, side);
            let server = Server::new(
                config,
                handlers,
                vec![listener],
                Vec::new(),
                Outlets::default(),
            );
            let mut server = server.expect("it can be made");
            let (bell, calls) = {
                let own = &scene.borrow().sides[side];
                (own.bell.waker(), own.calls.waker())
            };
            let (handle, commands) = Handle::new(calls);
            server.commands = Some(commands);
            let tap = Tap {
                scene: scene.clone(),
                side,
            };
            let port = exchange.port(side as u16);
            let mut outlets = Outlets::new(Some(port), vec![Box::new(tap)]);
            let started = outlets.start(|| bell, max_inbox);
            assert!(started.is_ok(), "the engine cannot fail");
            let shared = &mut server.reactor.core.shared;
            shared.connect(outlets);
            shared.handle = handle.clone();
            shared.wall_clock = || SystemTime::UNIX_EPOCH;
            shared.siblings = Some(Siblings {
                loops: loops.clone(),
                number: side,
            });
            let core = &mut server.reactor.core;
            *Hub::new(core).shared::<Option<Shared>>() = Some(scene.clone());
            handles.push(handle);
            Some(server)
        });
        loops.set(handles.clone());
        let mut run = Self {
            servers,
            handles,
            exchange,
            scene: scene.clone(),
        };
        let epoch = Instant::now();
        for server in run.servers.iter_mut().flatten() {
            server.epoch = epoch;
            server.reactor.set_epoch(epoch);
            server.begin(epoch);
        }
        run
    }

    /// Runs the steps, and brings the loops to one of the ends.
    fn all(mut self) {
        let steps = self.scene.borrow().settings.steps;
        for _ in 0..steps {
            self.step();
            if self.has_failed() {
                return;
            }
        }
        self.scene.borrow_mut().is_calm = true;
        self.settle();
        self.end();
        self.check_end();
    }

    fn has_failed(&self) -> bool {
        self.scene.borrow().failure.is_some()
    }

    fn draw<T>(&self, action: impl FnOnce(&mut Scene) -> T) -> T {
        action(&mut self.scene.borrow_mut())
    }

    /// Something happens, mostly a turn of a loop.
    fn step(&mut self) {
        match self.draw(|scene| scene.random.below(100)) {
            0..6 => self.draw(|scene| {
                let side = scene.random.below(2);
                if scene.sides[side].is_listening && scene.clients.len() < CLIENTS {
                    scene.connect(side);
                }
            }),
            6..30 => self.draw(|scene| {
                if let Some(client) = scene.any_client() {
                    scene.clients[client]
                        .line
                        .arrive(&frame(0x81, b"do something"));
                }
            }),
            30..36 => self.draw(|scene| {
                if let Some(client) = scene.any_client() {
                    let most = scene.random.within(1..=1000);
                    scene.read(client, most);
                }
            }),
            36..38 => self.draw(Scene::client_leaves),
            38..43 => self.thread_acts(),
            43..56 => self.draw(Scene::engine_acts),
            56..60 => self.draw(|scene| {
                let time = scene.random.pick(&[1, 1, 5, 30]);
                scene.now += Duration::from_millis(time);
            }),
            60 => {
                let ends = self.draw(|scene| {
                    let often = scene.settings.ends * 20;
                    scene.random.chance(often)
                });
                if ends {
                    let side = self.draw(|scene| scene.random.below(2));
                    self.drop_loop(side);
                }
            }
            _ => {
                let (side, whole) = self.draw(|scene| {
                    let first = scene.settings.first;
                    let whole = scene.settings.whole;
                    let side = usize::from(!scene.random.chance(first));
                    (side, scene.random.chance(whole))
                });
                self.turn(side, whole);
            }
        }
    }

    /// A loop takes a turn, in which it is told of everything or of a part.
    fn turn(&mut self, side: usize, whole: bool) {
        let Some(server) = &mut self.servers[side] else {
            return;
        };
        if server.state == State::Stopped {
            return;
        }
        let edges = self.scene.borrow_mut().edges(side, whole);
        self.scene.borrow_mut().note("turn", side, edges.len());
        let now = server.epoch + self.scene.borrow().now;
        server.advance_by(now, edges);
        let mut hub = Hub::new(&mut server.reactor.core);
        self.scene.borrow_mut().refresh(side, &mut hub);
        let scene = &mut *self.scene.borrow_mut();
        scene.check_turn(side, server);
        if server.state != State::Stopped && server.poll_timeout(now) != Some(Duration::ZERO) {
            scene.check_sleep(side);
        }
        if scene.settings.is_roomy() {
            return;
        }
        let used = Hub::new(&mut server.reactor.core).memory_used();
        let budget = scene.settings.config.memory_budget;
        scene.check(
            used.is_some_and(|used| used <= budget),
            Check::Budget,
            || format!("loop {side} has {used:?} bytes of {budget}"),
        );
    }

    /// Another thread calls a handle.
    fn thread_acts(&mut self) {
        let side = self.draw(|scene| scene.random.below(2));
        let what = self.draw(|scene| scene.random.below(4));
        self.draw(|scene| scene.note("call", side, what));
        // A command is `Send`, so it finds the scene in the loop.
        match what {
            0 => {
                // It fails if the loop has ended.
                let _ = self.handles[side].run(move |hub| {
                    let scene = scene_of(hub);
                    acts::guarded(&scene, || {
                        scene.borrow_mut().refresh(side, hub);
                        acts::publish(hub, &scene, None);
                    });
                });
            }
            _ => {
                let side = if what == 1 { side } else { 0 };
                let (number, topic) = self.draw(|scene| {
                    let topic = scene.random.below(NAMES.len());
                    (scene.new_message(topic), topic)
                });
                self.draw(|scene| scene.messages[number as usize].key = None);
                let _ = self.handles[side].run(move |hub| {
                    scene_of(hub).borrow_mut().refresh(side, hub);
                });
                let text = self.draw(|scene| scene.text(number));
                let _ = match what {
                    1 => self.handles[side].publish(NAMES[topic], &*text),
                    _ => {
                        let loops = self.scene.borrow().loops.clone();
                        loops.publish(NAMES[topic], &*text)
                    }
                };
            }
        }
    }

    /// A loop ends before the other.
    fn drop_loop(&mut self, side: usize) {
        let Some(mut server) = self.servers[side].take() else {
            return;
        };
        self.draw(|scene| scene.note("drop", side, 0));
        self.scene
            .borrow_mut()
            .refresh(side, &mut Hub::new(&mut server.reactor.core));
        drop(server);
        let scene = &mut *self.scene.borrow_mut();
        let own = &mut scene.sides[side];
        own.has_ended = true;
        own.is_listening = false;
        for client in &mut scene.clients {
            if client.side == side {
                client.is_open = false;
                client.topics.clear();
                client.pending.clear();
            }
        }
        scene.check_inboxes();
    }

    /// Lets everything that has begun come to its end.
    fn settle(&mut self) {
        for _ in 0..SETTLED {
            if self.has_failed() {
                return;
            }
            self.draw(|scene| {
                for side in 0..2 {
                    scene.bring(side, usize::MAX);
                }
                for client in 0..scene.clients.len() {
                    scene.read(client, usize::MAX);
                }
            });
            let mut has_work = false;
            for side in 0..2 {
                let timeout = self.timeout(side);
                if timeout == Some(Duration::ZERO) || self.scene.borrow().has_news(side) {
                    has_work = true;
                    self.turn(side, true);
                }
            }
            if !has_work
                && self
                    .scene
                    .borrow()
                    .engine
                    .pipes
                    .iter()
                    .all(|pipe| pipe.is_empty())
            {
                return;
            }
        }
        self.draw(|scene| scene.fail(Check::Spinning, || "the loops do not come to rest".into()));
    }

    /// Returns how long a loop may sleep.
    fn timeout(&self, side: usize) -> Option<Duration> {
        let server = self.servers[side].as_ref()?;
        let now = server.epoch + self.scene.borrow().now;
        server
            .poll_timeout(now)
            .filter(|_| server.state != State::Stopped)
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.scene.borrow().now + time;
        while !self.has_failed() {
            self.settle();
            let next = [self.timeout(0), self.timeout(1)].into_iter().flatten();
            let next = self.scene.borrow().now + next.min().unwrap_or(time).max(TICK);
            if next > until {
                break;
            }
            self.draw(|scene| scene.now = next);
            self.turn(0, true);
            self.turn(1, true);
        }
        self.draw(|scene| scene.now = scene.now.max(until));
        self.settle();
    }

    /// Brings the loops to an end.
    fn end(&mut self) {
        if self.has_failed() {
            return;
        }
        let is_stopping = self.scene.borrow().is_stopping;
        if is_stopping {
            return self.go_down();
        }
        self.draw(Scene::check_listening);
        match self.draw(|scene| scene.random.below(4)) {
            0 => {}
            1 => {
                let side = self.draw(|scene| scene.random.below(2));
                let winds_down = self.draw(|scene| scene.random.chance(500));
                let Some(server) = &mut self.servers[side] else {
                    return;
                };
                let mut hub = Hub::new(&mut server.reactor.core);
                match winds_down {
                    true => {
                        let how = WindDown::within(Duration::from_millis(80)).code(1012);
                        assert!(hub.wind_down(how).is_ok(), "the code can be sent");
                    }
                    false => hub.shutdown(),
                }
                self.go_down();
            }
            2 => {
                let side = self.draw(|scene| scene.random.below(2));
                self.drop_loop(side);
                self.settle();
                self.all_leave();
            }
            _ => self.all_leave(),
        }
    }

    /// An order to one loop has been given, which holds for both.
    fn go_down(&mut self) {
        self.pass(Duration::from_secs(2));
        for (side, server) in self.servers.iter().enumerate() {
            let state = server.as_ref().map(|server| server.state);
            let is_down = state.is_none_or(|state| state == State::Stopped);
            self.draw(|scene| {
                scene.check(is_down, Check::Answers, || {
                    format!("loop {side} is {state:?}")
                });
            });
        }
    }

    /// All clients leave, and nothing is left of them.
    fn all_leave(&mut self) {
        self.draw(|scene| {
            for client in &mut scene.clients {
                client.has_left = true;
                client.line.arrive_fin();
            }
        });
        self.pass(Duration::from_secs(1));
        // Until the histories have expired.
        self.pass(AGE + Duration::from_secs(1));
        let mut left = Vec::new();
        for server in self.servers.iter().flatten() {
            let shared = &server.reactor.core.shared;
            left.extend([
                server.reactor.core.peers.len(),
                shared.topics.len(),
                shared.topics.subscriptions(),
                shared.recoveries.bytes(),
                usize::from(!shared.recoveries.is_empty()),
                shared.outlets.gaps(),
            ]);
        }
        left.extend(self.exchange.held());
        self.draw(|scene| {
            let is_empty = left.iter().all(|count| *count == 0);
            scene.check(is_empty, Check::Growth, || format!("{left:?} are left"));
        });
    }

    /// Drops what is left, and checks that all clients were told everything.
    fn check_end(mut self) {
        if self.has_failed() {
            return;
        }
        self.drop_loop(0);
        self.drop_loop(1);
        let scene = &mut *self.scene.borrow_mut();
        for at in 0..scene.clients.len() {
            scene.parse(at);
            let client = &scene.clients[at];
            let is_told = client.connects == client.disconnects;
            let left = client.expected.len() - client.received.len().min(client.expected.len());
            // What was accepted before a Close frame was sent before it. When the loops shut down,
            // it is not known at once which clients are closed.
            let is_known = scene.is_exact(at) && !scene.is_stopping;
            let is_complete = left == 0 || !client.was_closed || !is_known;
            scene.check(is_told, Check::OneDisconnect, || format!("client {at}"));
            scene.check(is_complete, Check::MessagesOut, || {
                format!("client {at} lacks {left} messages before its Close frame")
            });
        }
        // A request refers to the inbox of its loop.
        scene.engine = engine::Engine::default();
    }
}

impl Scene {
    /// Returns a client that may still send.
    fn any_client(&mut self) -> Option<usize> {
        if self.clients.is_empty() {
            return None;
        }
        let client = self.random.below(self.clients.len());
        (!self.clients[client].has_left).then_some(client)
    }

    fn client_leaves(&mut self) {
        let Some(client) = self.any_client() else {
            return;
        };
        let how = self.random.below(3);
        self.note("leaves", client, how);
        let client = &mut self.clients[client];
        client.has_left = true;
        match how {
            0 => _ = client.line.arrive(&frame(0x88, &[0x03, 0xe8])),
            1 => client.line.arrive_fin(),
            _ => client.line.arrive_reset(),
        }
    }

    fn engine_acts(&mut self) {
        if self.settings.kind == Kind::Tap {
            return;
        }
        if self.random.chance(400) {
            self.arrive_from_afar();
        }
        let side = self.random.below(2);
        let most = self.random.pick(&[1, 2, 10]);
        self.bring(side, most);
    }

    /// Returns whether something has happened that a loop was not told of.
    fn has_news(&self, side: usize) -> bool {
        let own = &self.sides[side];
        let is_woken = own.bell.is_ringing() || own.calls.is_ringing();
        let mut clients = self.clients.iter().filter(|client| client.side == side);
        let mut lines = clients.by_ref().map(|client| &client.line);
        own.runs()
            && (is_woken
                || own.port_woken && own.is_listening
                || lines.any(|line| line.woken && line.token.is_some() && !line.closed))
    }

    /// Returns the reports of a turn: all, or some.
    fn edges(&mut self, side: usize, whole: bool) -> Vec<Edge> {
        let mut edges = Vec::new();
        for at in 0..self.clients.len() {
            let is_told = whole || self.random.chance(700);
            let client = &mut self.clients[at];
            let is_news = client.line.woken && client.line.token.is_some() && !client.line.closed;
            if client.side == side && is_news && is_told {
                client.line.woken = false;
                edges.extend(client.line.edge());
            }
        }
        let is_told = whole || self.random.chance(700);
        let own = &mut self.sides[side];
        if own.port_woken && own.is_listening && is_told {
            own.port_woken = false;
            edges.push(plain_edge(Source::Listener(0).token()));
        }
        let is_told = whole || self.random.chance(700);
        let own = &self.sides[side];
        if (own.bell.is_ringing() || own.calls.is_ringing()) && is_told {
            own.bell.hear();
            own.calls.hear();
            edges.push(plain_edge(Source::Waker.token()));
        }
        self.random.shuffle(&mut edges);
        edges
    }

    /// Checks that an order about the listeners has reached both loops.
    fn check_listening(&mut self) {
        for side in 0..2 {
            let own = &self.sides[side];
            let is_right = own.is_listening == self.listens || !own.runs();
            self.check(is_right, Check::Answers, || {
                format!("loop {side} has not obeyed an order about the listeners")
            });
        }
    }
}

/// Returns the scene, for a closure from another thread.
fn scene_of(hub: &mut Hub<'_>) -> Shared {
    let scene = hub.shared::<Option<Shared>>().clone();
    scene.expect("it was put there")
}

/// Most clients of a run.
const CLIENTS: usize = 12;

/// Most turns until the loops have come to rest.
const SETTLED: usize = 3000;

/// How far the clock advances at least if the loops sleep.
const TICK: Duration = Duration::from_millis(1);
