//! Everything around the server: the clock, what is to happen, and who takes note of it.

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
use crate::server::event_queue::Source;

/// What happens at a time that is known.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Happening {
    /// Something that a client sent comes.
    Arrival(usize),
    /// A client looks for what was sent to it.
    Reading(usize),
    /// A socket may have room again.
    Room(usize),
    /// A client takes its next step.
    Step(usize),
    /// Another thread calls a handle.
    Thread,
}

pub(super) struct World {
    pub(super) random: Random,
    /// Since the server's epoch.
    pub(super) now: Duration,
    pub(super) settings: Settings,
    pub(super) faults: Faults,
    /// When the turn of the server began that is under way, or was last.
    pub(super) turn: Duration,
    /// When deadlines were looked at late for the last time.
    pub(super) stalled_at: Duration,
    /// The last turn in which connections were ended because memory was used up.
    pub(super) shed_at: Option<Duration>,
    /// The last turn in which something was sent, and how many bytes that was.
    pub(super) sent_in: (Duration, usize),
    /// Calls of a handle by another thread that are to be made.
    pub(super) calls: usize,
    /// The server is dropped.
    pub(super) is_dropped: bool,
    /// The faults are over, and handlers and clients only do what is asked of them.
    pub(super) is_calm: bool,
    pub(super) lines: Vec<Line>,
    pub(super) ways: Vec<Way>,
    pub(super) clients: Vec<Client>,
    pub(super) port: Queue,
    plan: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    planned: u64,
    /// Which client a connection is of.
    pub(super) names: BTreeMap<u64, usize>,
    pub(super) hand: Hand,
    waker: Arc<Bell>,
    /// Something was read, written, accepted or delivered.
    pub(super) progress: u64,
    pub(super) totals: Totals,
    trace: Trace,
    pub(super) failure: Option<Failure>,
}

/// What was found wrong.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) check: Check,
    pub(super) what: String,
}

/// How much there was of everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) turns: u64,
    pub(super) connections: u64,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes: u64,
}

/// What has happened, as a number that is the same if it was the same.
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
            waker: Arc::default(),
            progress: 0,
            totals: Totals::default(),
            trace: Trace { hash: 0, is_shown },
            failure: None,
        }
    }

    /// Returns when the turn of the server began that is under way, or was last.
    pub(super) fn turn_at(&self) -> Duration {
        self.turn
    }

    /// Returns whether the server ends, without having been told to by a handler.
    pub(super) fn is_ending(&self) -> bool {
        self.is_dropped
    }

    /// Plans something; what is planned for the same time happens in the order it was planned.
    pub(super) fn plan(&mut self, at: Duration, what: Happening) {
        self.planned += 1;
        self.plan.push(Reverse((at, self.planned, what)));
    }

    /// Returns when the next thing happens.
    pub(super) fn next_time(&self) -> Option<Duration> {
        self.plan.peek().map(|Reverse((at, ..))| *at)
    }

    /// Has everything happen that is planned until now.
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

    /// Takes a note. The same notes in the same order are the same trace.
    pub(super) fn note(&mut self, what: &'static str, client: usize, number: usize) {
        let trace = &mut self.trace;
        let word = what.len() as u64 ^ u64::from(what.as_bytes()[0]) << 8;
        let bits = word << 48 ^ (client as u64) << 32 ^ number as u64;
        trace.hash = mix(trace.hash ^ bits ^ (self.now.as_micros() as u64) << 20);
        if trace.is_shown {
            println!("{:>12?} client {client:>2}: {what} {number}", self.now);
        }
    }

    /// Tells more in a trace that is shown.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace.is_shown {
            println!("{:>12?} {}", self.now, what());
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.hash
    }

    /// Notes that something is wrong; the first counts.
    pub(super) fn fail(&mut self, check: Check, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            let what = what();
            self.tell(|| format!("FAILED {check:?}: {what}"));
            self.failure = Some(Failure { check, what });
        }
    }

    /// Notes that something is wrong unless it `holds`.
    pub(super) fn check(&mut self, holds: bool, check: Check, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(check, what);
        }
    }

    /// Returns what wakes the server.
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

    /// Ends the faults: from here on everything can be expected to come to its end.
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

fn plain_edge(token: Token) -> Edge {
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
    /// What all runs of this thread came to.
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
