//! The surroundings of the server: the clock, the planned events, and the trace.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::Duration;

use mio::Token;

use super::checks::Check;
use super::clients::Client;
use super::handlers::Hand;
use super::line::{Edge, Line};
use super::network::{Faults, Way};
use super::port::Queue;
use super::random::{Random, mix};
use super::settings::Settings;
use super::topics::Model;
use crate::server::event_queue::Source;

/// A planned event.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Happening {
    /// Data of a client arrives.
    Arrival(usize),
    /// A client reads.
    Reading(usize),
    /// A socket may have room for writes again.
    Room(usize),
    /// A client takes its next step.
    Step(usize),
    /// Another thread calls a handle.
    Thread,
}

pub(super) struct World {
    pub(super) random: Random,
    /// The time since the server's epoch.
    pub(super) now: Duration,
    pub(super) settings: Settings,
    pub(super) faults: Faults,
    /// When the current or last turn began.
    pub(super) turn: Duration,
    /// When the last turn began in which deadlines were checked late.
    pub(super) stalled_at: Duration,
    /// The last turn in which connections were ended for lack of memory.
    pub(super) shed_at: Option<Duration>,
    /// The last turn in which data was sent, and its bytes.
    pub(super) sent_in: (Duration, usize),
    /// Number of pending calls of a handle by another thread.
    pub(super) calls: usize,
    /// The server was dropped.
    pub(super) is_dropped: bool,
    /// There are no faults any more, and handlers only echo.
    pub(super) is_calm: bool,
    pub(super) lines: Vec<Line>,
    pub(super) ways: Vec<Way>,
    pub(super) clients: Vec<Client>,
    pub(super) port: Queue,
    plan: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    planned: u64,
    /// The client of each connection number.
    pub(super) names: BTreeMap<u64, usize>,
    pub(super) hand: Hand,
    pub(super) topics: Model,
    waker: Arc<Bell>,
    /// Counts reads, writes, accepted connections and events.
    pub(super) progress: u64,
    pub(super) totals: Totals,
    trace: Trace,
    pub(super) failure: Option<Failure>,
}

/// A check that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) check: Check,
    pub(super) what: String,
}

/// The totals of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) turns: u64,
    pub(super) connections: u64,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes: u64,
}

/// A hash of all recorded events: equal runs have equal traces.
struct Trace {
    hash: u64,
    is_shown: bool,
}

impl World {
    pub(super) fn new(mut random: Random, is_shown: bool) -> Self {
        let settings = Settings::any(&mut random);
        let faults = settings.faults;
        let hand = Hand::new(&mut random);
        Self {
            random,
            now: Duration::ZERO,
            turn: Duration::ZERO,
            stalled_at: Duration::ZERO,
            shed_at: None,
            sent_in: (Duration::ZERO, 0),
            calls: 0,
            is_dropped: false,
            settings,
            faults,
            is_calm: false,
            lines: Vec::new(),
            ways: Vec::new(),
            clients: Vec::new(),
            port: Queue::default(),
            plan: BinaryHeap::new(),
            planned: 0,
            names: BTreeMap::new(),
            hand,
            topics: Model::default(),
            waker: Arc::default(),
            progress: 0,
            totals: Totals::default(),
            trace: Trace { hash: 0, is_shown },
            failure: None,
        }
    }

    /// Returns when the current or last turn began.
    pub(super) fn turn_at(&self) -> Duration {
        self.turn
    }

    /// Returns whether the server was dropped.
    pub(super) fn is_ending(&self) -> bool {
        self.is_dropped
    }

    /// Plans an event. Events at the same time happen in the order in which they were planned.
    pub(super) fn plan(&mut self, at: Duration, what: Happening) {
        self.planned += 1;
        self.plan.push(Reverse((at, self.planned, what)));
    }

    /// Returns the time of the next planned event.
    pub(super) fn next_time(&self) -> Option<Duration> {
        self.plan.peek().map(|Reverse((at, ..))| *at)
    }

    /// Executes all events planned up to now.
    pub(super) fn happen(&mut self) {
        while let Some(Reverse((at, _, what))) = self.plan.peek().copied()
            && at <= self.now
        {
            self.plan.pop();
            match what {
                Happening::Arrival(client) => self.arrive(client),
                Happening::Reading(client) => self.client_reads(client),
                Happening::Room(client) => self.lines[client].make_room(),
                Happening::Step(client) => self.step(client),
                Happening::Thread => self.calls += 1,
            }
        }
    }

    /// Adds an entry to the trace.
    pub(super) fn note(&mut self, what: &'static str, client: usize, number: usize) {
        let trace = &mut self.trace;
        let word = what.len() as u64 ^ u64::from(what.as_bytes()[0]) << 8;
        let bits = word << 48 ^ (client as u64) << 32 ^ number as u64;
        trace.hash = mix(trace.hash ^ bits ^ (self.now.as_micros() as u64) << 20);
        if trace.is_shown {
            println!("{:>12?} client {client:>2}: {what} {number}", self.now);
        }
    }

    /// Prints more details, if the trace is shown.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace.is_shown {
            println!("{:>12?} {}", self.now, what());
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.hash
    }

    /// Records a failure; the first one counts.
    pub(super) fn fail(&mut self, check: Check, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            let what = what();
            self.tell(|| format!("FAILED {check:?}: {what}"));
            self.failure = Some(Failure { check, what });
        }
    }

    /// Records a failure unless the invariant `holds`.
    pub(super) fn check(&mut self, holds: bool, check: Check, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(check, what);
        }
    }

    /// Returns the waker of the server.
    pub(super) fn waker(&self) -> std::task::Waker {
        self.waker.clone().into()
    }

    pub(super) fn is_woken(&self) -> bool {
        self.waker.0.load(Ordering::Relaxed)
    }

    pub(super) fn take_woken(&mut self) -> bool {
        self.waker.0.swap(false, Ordering::Relaxed)
    }

    pub(super) fn edge_of_waker(&self) -> Edge {
        plain_edge(Source::Waker.token())
    }

    pub(super) fn edge_of_port(&self) -> Edge {
        plain_edge(Source::Listener(0).token())
    }

    /// Ends the faults. From here on, every operation must complete.
    pub(super) fn calm_down(&mut self) {
        self.note("calm", 0, 0);
        self.faults = Faults::default();
        self.is_calm = true;
        self.port.starved_until = Duration::ZERO;
        for client in 0..self.clients.len() {
            self.clients[client].reading.be_fast();
            self.look(client);
        }
    }
}

pub(super) fn plain_edge(token: Token) -> Edge {
    Edge {
        token,
        readable: true,
        hangup: false,
    }
}

/// Wakes the server.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    /// The totals of all runs of this thread.
    static TOTALS: Cell<Totals> = const { Cell::new(Totals {
        turns: 0,
        connections: 0,
        messages_in: 0,
        messages_out: 0,
        bytes: 0,
    }) };
}

impl Totals {
    /// Adds the totals of a run to those of the thread.
    pub(super) fn add(self) {
        let all = Self::all();
        TOTALS.set(Self {
            turns: all.turns + self.turns,
            connections: all.connections + self.connections,
            messages_in: all.messages_in + self.messages_in,
            messages_out: all.messages_out + self.messages_out,
            bytes: all.bytes + self.bytes,
        });
    }

    pub(super) fn all() -> Self {
        TOTALS.get()
    }
}
