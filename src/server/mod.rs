//! The server: listeners, the poll loop, ticks, other threads, shutdown.

mod accept_pauses;
pub(crate) mod admission;
mod binding;
mod builder;
mod busy_poll;
mod control;
pub(crate) mod event_queue;
mod inherited;
pub(crate) mod listener;
mod listening;
mod loops;
mod place;
mod seats;
mod shutdown;
mod spawned;
mod watching;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll};

pub use builder::Builder;
pub use listening::Listening;
pub use loops::{LoopThreads, Loops};
pub use place::Place;
pub use spawned::ServerThread;

use self::accept_pauses::Pauses;
use self::admission::AcceptLimit;
use self::busy_poll::BusyPoll;
use self::control::Closed;
use self::event_queue::{EventQueue, Heard, Source, hear};
use self::listener::Listener;
use self::watching::EventRegistrar;
use crate::backplane::Outlets;
use crate::config::Config;
use crate::connection::event::{Handlers, Start};
use crate::connection::{Command, Core, Handle, Hub, Readiness, Watcher};
use crate::error::BuildError;
use crate::reactor::{Reactor, emit_hub};
use crate::stats::Stats;

/// A WebSocket server: one event loop, on the thread that runs it.
///
/// Either [`start`](Self::start) runs the loop until the server is shut down, or a program with a
/// loop of its own calls [`turn`](Self::turn) repeatedly. Dropping the server cuts its connections;
/// each that had a `Connect` gets its `Disconnect`.
#[must_use]
pub struct Server {
    /// Boxed, because it is large and a server is moved to where it runs.
    pub(crate) reactor: Box<Reactor>,
    poll: Poll,
    events: Events,
    busy_poll: BusyPoll,
    pub(crate) listeners: Vec<Listener>,
    /// Listeners that `stop_listening` closed, and addresses of a name that could not be bound.
    closed: Vec<Closed>,
    /// Watched sources that are ready, by key; empty between two turns.
    pub(crate) ready: Vec<(usize, Readiness)>,
    /// `None` once the server has stopped, so that handles return an error.
    pub(crate) commands: Option<mpsc::Receiver<Command>>,
    pub(crate) state: State,
    pub(crate) next_tick: Option<Instant>,
    pub(crate) epoch: Instant,
    /// The limit for which accepting pauses, as it was counted and logged.
    limited: Option<AcceptLimit>,
    /// The state of the log lines about pauses.
    pauses: Pauses,
    /// How many event lists in a row were full.
    pub(crate) full_lists: u32,
}

/// The stages of a server's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Built,
    Running,
    /// Shutting down: the connections that are left at this time are cut. `None` is no deadline
    /// here, as for a wind-down, whose deadline is a timer of the reactor.
    Stopping(Option<Instant>),
    Stopped,
}

impl Server {
    /// Returns a builder with all settings at their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        config: Config,
        handlers: Handlers,
        mut listeners: Vec<Listener>,
        watches: Vec<(Interest, Box<dyn Watcher>)>,
        mut outlets: Outlets,
    ) -> Result<Self, BuildError> {
        let poll = Poll::new().map_err(BuildError::EventLoop)?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener
                .register(poll.registry(), Source::Listener(index).token())
                .map_err(BuildError::EventLoop)?;
        }
        let waker = mio::Waker::new(poll.registry(), Source::Waker.token())
            .map_err(BuildError::EventLoop)?;
        let waker: Waker = Arc::new(LoopWaker(waker)).into();
        outlets
            .start(|| waker.clone(), config.max_inbox)
            .map_err(BuildError::Backplane)?;
        let (handle, commands) = Handle::new(waker);
        let epoch = Instant::now();
        let busy_poll = BusyPoll::new(config.busy_poll);
        let mut core = Core::new(config, handle);
        core.shared.connect(outlets);
        let registrar = EventRegistrar::new(poll.registry()).map_err(BuildError::EventLoop)?;
        core.shared.watches.set_registrar(Box::new(registrar));
        for (interest, watcher) in watches {
            core.shared
                .watches
                .add(interest, watcher)
                .map_err(BuildError::Watch)?;
        }
        let mut server = Self {
            reactor: Box::new(Reactor::new(core, handlers, epoch)),
            poll,
            events: Events::with_capacity(EVENTS),
            busy_poll,
            listeners,
            closed: Vec::new(),
            ready: Vec::new(),
            commands: Some(commands),
            state: State::Built,
            next_tick: None,
            epoch,
            limited: None,
            pauses: Pauses::default(),
            full_lists: 0,
        };
        server.addresses();
        server.tell_listening(0);
        Ok(server)
    }

    /// Runs the event loop until the server is shut down and its connections are gone, or until
    /// `close_timeout` or the deadline of a [wind-down](Hub::wind_down) has passed.
    ///
    /// # Errors
    ///
    /// If the kernel's event queue fails. No client can cause it.
    #[doc(alias = "run")]
    pub fn start(&mut self) -> io::Result<()> {
        while self.turn(None)? {}
        Ok(())
    }

    /// Runs one turn of the event loop: waits for events for at most `timeout` (`None`: until one
    /// arrives), delivers them, and sends the data that results. With a timeout of zero it neither
    /// waits nor spins (see [`Builder::busy_poll`]).
    ///
    /// Returns `false` once the server is shut down and all connections are gone.
    ///
    /// # Errors
    ///
    /// If the kernel's event queue fails. No client can cause it.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        if self.state == State::Stopped {
            return Ok(false);
        }
        if self.state == State::Built {
            self.begin(Instant::now());
        }
        let now = Instant::now();
        let timeout = earlier(self.poll_timeout(now), timeout);
        let mut queue = EventQueue {
            poll: &mut self.poll,
            events: &mut self.events,
        };
        self.reactor.core.shared.stats.polls += self.busy_poll.wait(&mut queue, now, timeout)?;
        self.advance(Instant::now());
        Ok(self.state != State::Stopped)
    }

    /// Returns a handle for use on other threads.
    pub fn handle(&self) -> Handle {
        self.reactor.core.shared.handle.clone()
    }

    /// Returns the view of the server that handlers have, for a program between two turns of the
    /// loop. Messages sent with it leave in the next turn.
    pub fn hub(&mut self) -> Hub<'_> {
        // Timers that are set count from this time.
        self.reactor.set_now(Instant::now());
        Hub::new(&mut self.reactor.core)
    }

    /// Returns the first TCP address that the server listens on, with the port that the kernel
    /// picked; `None` if there are only Unix sockets.
    #[doc(alias = "sockaddr")]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listeners.iter().find_map(Listener::local_addr)
    }

    /// Returns all TCP addresses that the server listens on, in the order of the builder.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(Listener::local_addr)
            .collect()
    }

    /// Returns all listeners, TCP addresses and Unix sockets, in the order of the builder; none
    /// once the server shuts down.
    #[doc(alias = "listen")]
    pub fn listeners(&self) -> impl ExactSizeIterator<Item = Listening<'_>> {
        self.listeners.iter().map(Listening)
    }

    /// Returns the server's counters.
    pub fn stats(&self) -> Stats {
        self.reactor.core.shared.stats()
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        self.state = State::Running;
        self.reactor.set_now(now);
        let period = self.reactor.core.shared.config.tick_period;
        if !period.is_zero() {
            self.next_tick = now.checked_add(period);
        }
        let Reactor { core, handlers, .. } = &mut *self.reactor;
        emit_hub::<Start>(core, handlers, ());
        self.reactor.end_turn();
    }

    /// Returns how long the loop may sleep from `now` on if no event arrives: until the next
    /// deadline or tick, and not at all if work is left; `None` without limit.
    ///
    /// For a program that waits in a poll of its own (see [`AsRawFd`](Self::as_raw_fd)) and has to
    /// call [`turn`](Self::turn) by then. The result does not depend on [`Builder::busy_poll`]: the
    /// program itself decides whether to spin.
    #[doc(alias = "wait")]
    pub fn poll_timeout(&self, now: Instant) -> Option<Duration> {
        // Requests from between two turns, or from `Start`.
        let core = &self.reactor.core;
        if !core.shared.dirty.is_empty()
            || !core.shared.orders.is_empty()
            || !core.shared.adoptions.is_empty()
            || core.shared.topics.has_changes()
            || core.shared.outlets.has_work()
            || core.shared.recoveries.has_outcomes()
        {
            return Some(Duration::ZERO);
        }
        let own = earlier(self.reactor.next_deadline(), self.accepts_at());
        let own = own.and_then(|due| self.epoch.checked_add(Duration::from_millis(due)));
        let stop = match self.state {
            State::Stopping(deadline) => deadline,
            _ => None,
        };
        let next = earlier(earlier(own, self.next_tick), stop)?;
        Some(next.saturating_duration_since(now))
    }

    /// Processes the events and deadlines up to `now`: the body of a turn.
    fn advance(&mut self, now: Instant) {
        let Self {
            reactor,
            events,
            listeners,
            ready,
            ..
        } = self;
        let heard = hear(now, events.iter(), reactor, listeners, ready);
        self.go_on(now, heard);
    }

    /// Completes a turn, after the connections with events have been served.
    #[inline(always)]
    pub(crate) fn go_on(&mut self, now: Instant, Heard { events, woken }: Heard) {
        self.reactor.serve_ready_queue();
        if self.listeners.iter().any(|listener| listener.pending) {
            self.accept(self.reactor.now());
        }
        if woken {
            self.serve_watches();
            self.reactor.empty_inbox();
            self.run_commands(now);
        }
        if !self.reactor.core.shared.adoptions.is_empty() {
            self.take_over();
        }
        // With a full list, events that arrived before a deadline may still be in the kernel's
        // queue.
        self.full_lists = if events < EVENTS {
            0
        } else {
            self.full_lists + 1
        };
        if self.full_lists == 0 || self.full_lists > FULL_LISTS {
            self.reactor.expire();
        }
        self.tick(now);
        self.reactor.end_turn();
        self.stop(now);
    }

    /// Carries out the commands of other threads.
    fn run_commands(&mut self, now: Instant) {
        self.reactor.core.shared.handle.acknowledge();
        for _ in 0..COMMANDS {
            match self.commands.as_ref().map(mpsc::Receiver::try_recv) {
                Some(Ok(Command::Order(order))) => self.obey(now, order),
                Some(Ok(Command::Listeners(answer))) => {
                    let sockets = self.listeners.iter();
                    let sockets = sockets
                        .map(|one| one.socket().try_clone_to_owned())
                        .collect();
                    // Nobody may wait for it any more.
                    let _ = answer.send(sockets);
                }
                Some(Ok(command)) => self.reactor.command(command),
                Some(Err(TryRecvError::Empty | TryRecvError::Disconnected)) | None => return,
            }
            // The orders of one command are carried out before the next command.
            if !self.reactor.core.shared.orders.is_empty() {
                self.carry_out(now);
            }
        }
        // There may be more commands, which wait for the next turn.
        self.reactor.core.shared.handle.wake();
    }
}

impl AsRawFd for Server {
    /// Returns the event queue's descriptor, for a program that waits in a poll of its own: it is
    /// readable when an event has arrived. It does not show deadlines, ticks and work left from the
    /// last turn: [`poll_timeout`](Self::poll_timeout) returns the longest time to sleep.
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listeners.clear();
        self.reactor.cut_all();
        self.reactor.core.shared.log_limits.settle();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("state", &self.state)
            .field("connections", &self.reactor.core.peers.len())
            .finish_non_exhaustive()
    }
}

/// Wakes the loop from another thread.
struct LoopWaker(mio::Waker);

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only if the event queue is gone, and the loop with it.
        let _ = self.0.wake();
    }
}

/// Most events that one poll returns; the next one returns the rest.
pub(crate) const EVENTS: usize = 1024;

/// Most full event lists in a row for which deadlines are postponed.
const FULL_LISTS: u32 = 64;

/// Most commands of other threads that are carried out in a turn.
const COMMANDS: usize = 4096;

/// Returns the earlier of two times, or the one that is there.
#[inline(always)]
fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
