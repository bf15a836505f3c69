//! The whole server over a simulated network and clock. One seed determines its settings, its
//! clients, the faults, and the actions of its handlers, so the same seed gives the same run. See
//! docs/simulation.md.

mod acts;
mod breaches;
mod checks;
mod clients;
mod handlers;
pub(crate) mod line;
mod loops;
mod model;
mod network;
mod output;
mod port;
mod random;
mod seeds;
mod sends;
mod settings;
mod speech;
mod topics;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use self::checks::Check;
use self::handlers::{Ordered, Shared};
use self::line::Edge;
use self::network::Parcel;
use self::port::Door;
use self::random::Random;
use self::world::{Failure, World};
use crate::connection::{Handle, Hub, Outbox, WindDown};
use crate::error::HandlerError;
use crate::server::event_queue::hear;
use crate::server::listener::Listener;
use crate::server::{Server, State};

/// A run: the server and its surroundings.
struct Run {
    server: Server,
    handle: Handle,
    world: Shared,
    /// Number of consecutive turns that had nothing to do and did not wait.
    idle: usize,
}

/// Runs a seed; returns its trace, or the check that failed.
fn run(seed: u64, is_shown: bool) -> Result<u64, Failure> {
    let world = Rc::new(RefCell::new(World::new(Random::new(seed), is_shown)));
    Outbox::forget_spare();
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(&world);
        run.all();
        run.drop_server();
    }));
    if let Err(panic) = done {
        let what = HandlerError::from_panic(&*panic).to_string();
        return Err(Failure {
            check: Check::Panics,
            what,
        });
    }
    let world = world.borrow();
    world.totals.add();
    match &world.failure {
        None => Ok(world.trace()),
        Some(failure) => Err(failure.clone()),
    }
}

impl Server {
    /// Takes a turn with these reports.
    fn advance_by(&mut self, now: Instant, edges: Vec<Edge>) {
        let Self {
            reactor,
            listeners,
            ready,
            ..
        } = self;
        let heard = hear(now, edges.into_iter(), reactor, listeners, ready);
        self.go_on(now, heard);
    }
}

impl Run {
    fn new(world: &Shared) -> Self {
        let config = world.borrow().settings.config.clone();
        let door = Rc::new(Door(world.clone()));
        let listener = Listener::simulated(door).expect("it can listen");
        let handlers = handlers::handlers(world);
        let server = Server::new(
            config,
            handlers,
            vec![listener],
            Vec::new(),
            crate::backplane::Outlets::default(),
        );
        let mut server = server.expect("it can be made");
        let (handle, commands) = Handle::new(world.borrow().waker());
        server.commands = Some(commands);
        let core = &mut server.reactor.core;
        core.shared.handle = handle.clone();
        core.shared.wall_clock = || SystemTime::UNIX_EPOCH;
        *Hub::new(core).shared::<Option<Shared>>() = Some(world.clone());
        Self {
            server,
            handle,
            world: world.clone(),
            idle: 0,
        }
    }

    /// Runs all phases: with all faults, without faults, and to one of the ends.
    fn all(&mut self) {
        self.world.borrow_mut().invite();
        let begin = self.instant();
        self.server.begin(begin);
        {
            let world = &mut *self.world.borrow_mut();
            let period = world.settings.config.tick_period;
            world.hand.next_tick = Some(period).filter(|period| !period.is_zero());
        }
        let wild = Duration::from_millis(600);
        self.go_on_until(wild, |_| false);
        self.calm_down();
        let calm = self.world.borrow().now + Duration::from_millis(1500);
        self.go_on_until(calm, |_| false);
        self.end();
    }

    fn instant(&self) -> Instant {
        self.server.epoch + self.world.borrow().now
    }

    fn has_failed(&self) -> bool {
        self.world.borrow().failure.is_some()
    }

    /// Takes turns until a time is reached, nothing happens any more, or a condition holds; returns
    /// whether it holds.
    fn go_on_until(&mut self, until: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        loop {
            if holds(self) || self.has_failed() {
                return true;
            }
            if self.world.borrow().now >= until || !self.turn() {
                return holds(self);
            }
        }
    }

    /// Sleeps as the server would, and takes a turn; returns false if it would sleep forever.
    fn turn(&mut self) -> bool {
        if self.server.state == State::Stopped {
            return false;
        }
        let wait = self.server.poll_timeout(self.instant());
        self.world.borrow_mut().check_sleep(&self.server, wait);
        let before = self.world.borrow().now;
        if self.has_failed() || !self.sleep(wait) {
            return false;
        }
        let (slept, calls, stalled, edges, progress) = {
            let world = &mut *self.world.borrow_mut();
            let slept = world.now - before;
            // The duration of the previous turn, which is sometimes much longer.
            world.now += world.random.micros(0..=100);
            let stalls = world.faults.stall;
            let stalled = world.random.chance(stalls);
            if stalled {
                world.now += world.random.millis(1..=200);
            }
            world.happen();
            let edges = world.poll();
            world.turn = world.now;
            world.totals.turns += 1;
            let calls = std::mem::take(&mut world.calls);
            world.note("turn", 0, edges.len());
            (slept, calls, stalled, edges, world.progress)
        };
        for _ in 0..calls {
            acts::call(&self.handle, &self.world);
        }
        let is_idle = edges.is_empty() && calls == 0;
        let now = self.instant();
        self.server.advance_by(now, edges);
        let world = &mut *self.world.borrow_mut();
        if stalled || self.server.full_lists > 0 {
            world.stalled_at = world.turn;
        }
        world.check_turn(&self.server);
        if !stalled {
            world.check_overdue(&self.server);
        }
        if is_idle && world.progress == progress && slept < Duration::from_micros(500) {
            self.idle += 1;
            let idle = self.idle;
            let most = IDLE + world.unseen_messages();
            world.check(idle < most, Check::Spinning, || {
                format!("{idle} turns with nothing to do, {:?}", self.server)
            });
        } else {
            self.idle = 0;
        }
        true
    }

    /// Advances the clock until something is reported or the timeout is over; returns false if
    /// neither happens.
    fn sleep(&self, wait: Option<Duration>) -> bool {
        let world = &mut *self.world.borrow_mut();
        // epoll_wait(2) takes milliseconds, and its callers round up.
        let end = wait.map(|wait| {
            let millis = wait.as_nanos().div_ceil(1_000_000);
            world.now + Duration::from_millis(millis as u64)
        });
        world.happen();
        while !world.has_news() && world.calls == 0 {
            let next = world.next_time();
            match (next, end) {
                (None, None) => return false,
                (Some(next), end) if end.is_none_or(|end| next <= end) => world.now = next,
                (_, Some(end)) => {
                    world.now = end;
                    break;
                }
                (Some(_), None) => {}
            }
            world.happen();
        }
        true
    }

    /// Ends the faults, resumes paused connections and answers deferred handshakes.
    fn calm_down(&mut self) {
        self.world.borrow_mut().calm_down();
        self.server.reactor.set_now(self.instant());
        let clients = self.world.borrow().clients.len();
        let mut hub = Hub::new(&mut self.server.reactor.core);
        for id in hub.all_ids() {
            if let Some(mut conn) = hub.get(id) {
                conn.resume();
            }
        }
        for _ in 0..clients {
            acts::answer_another(&mut hub, &self.world);
        }
    }

    /// Brings the server to one of its ends.
    fn end(&mut self) {
        let goes_down = self.server.state != State::Running;
        let what = self.world.borrow_mut().random.below(4);
        match what {
            _ if self.has_failed() => {}
            _ if goes_down => self.go_down(),
            // The server is dropped as it is.
            0 => {}
            1 => {
                self.world.borrow_mut().order(Ordered::Stop);
                Hub::new(&mut self.server.reactor.core).shutdown();
                self.go_down();
            }
            2 => {
                let (deadline, spread) = {
                    let random = &mut self.world.borrow_mut().random;
                    (random.millis(0..=500), random.millis(0..=500))
                };
                self.world.borrow_mut().order(Ordered::Drain(deadline));
                self.server.reactor.set_now(self.instant());
                let mut hub = Hub::new(&mut self.server.reactor.core);
                let done = hub.wind_down(WindDown::within(deadline).spread(spread).code(1012));
                assert!(done.is_ok(), "the code can be sent");
                self.go_down();
            }
            _ => self.all_leave(),
        }
    }

    fn go_down(&mut self) {
        let end = self.world.borrow().now + LONG;
        let stopped = self.go_on_until(end, |run| run.server.state == State::Stopped);
        let world = &mut *self.world.borrow_mut();
        world.check(stopped, Check::Deadlines, || "it does not end".into());
        let told = world.hand.is_stopped;
        world.check(told, Check::Answers, || "Stopped has not come".into());
    }

    /// Ends all clients, and waits until the server has removed them.
    fn all_leave(&mut self) {
        {
            let world = &mut *self.world.borrow_mut();
            for client in 0..world.clients.len() {
                world.clients[client].is_over = true;
                let parcel = match world.random.chance(300) {
                    true => Parcel::Reset,
                    false => Parcel::Fin,
                };
                world.post(client, Duration::ZERO, parcel);
            }
        }
        let end = self.world.borrow().now + LONG;
        let is_empty = |run: &Self| {
            let world = run.world.borrow();
            let waits = world.port.is_open && !world.port.waiting.is_empty();
            run.server.reactor.core.peers.is_empty() && !waits
        };
        let gone = self.go_on_until(end, is_empty);
        let left = self.server.reactor.core.peers.len();
        self.world.borrow_mut().check(gone, Check::Slots, || {
            format!("{left} have left and are not forgotten")
        });
    }

    /// Drops the server, and checks that each connection had a `Disconnect`.
    fn drop_server(self) {
        let Self { server, world, .. } = self;
        world.borrow_mut().is_dropped = true;
        drop(server);
        let world = &mut *world.borrow_mut();
        if world.failure.is_none() {
            world.check_all_gone();
        }
    }
}

/// Most consecutive turns that may have nothing to do and not wait.
const IDLE: usize = 20;

/// Long enough for every end.
const LONG: Duration = Duration::from_secs(5);
