//! All clients of a run, on one thread: when they connect, send and disconnect.

mod alarms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use slab::Slab;

use crate::client::{Birth, Client, Context, Counts, Deflate, Fate, Reading, State};
use crate::ledger::Ledger;
use crate::message::Temper;
use crate::record::Ending;
use crate::stream::Stream;
use crate::topics::is_stayer;
use alarms::{Alarm, Alarms, What};

/// The addresses of the servers, without and with TLS: one server shares a compressor among all
/// connections, the other has one for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) shared: [SocketAddr; 2],
    pub(crate) dedicated: [SocketAddr; 2],
}

/// The load, per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) messages: f64,
    /// Clients that disconnect, and clients that never become open.
    pub(crate) churn: f64,
    pub(crate) visits: f64,
}

/// Actions that become due at a rate.
#[derive(Debug, Default)]
struct Due(f64);

impl Due {
    /// Adds the actions that become due in `time`. After a stall at most a quarter of a second is
    /// made up for, so that the load does not become a flood.
    fn add(&mut self, rate: f64, time: f64) {
        self.0 = (self.0 + rate * time).min((rate / 4.0).max(1.0));
    }

    fn take(&mut self) -> bool {
        let is_due = self.0 >= 1.0;
        self.0 -= f64::from(u8::from(is_due));
        is_due
    }
}

/// The clients.
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    alarms: Alarms,
    pub(crate) context: Context,
    pub(crate) ledger: Ledger,
    addresses: Addresses,
    tls: Arc<ClientConfig>,
    /// What the last client of each server received last of the topic with a history.
    positions: [Option<[u64; 2]>; 2],
    /// Whether clients that are always closed in order read everything at once.
    reads_on: bool,
    /// The number of the next client.
    next: u64,
    open: usize,
    opening: usize,
    /// The number of clients that should be open; they connect at a limited rate.
    pub(crate) target: usize,
    /// The load, if there is any.
    pub(crate) rates: Option<Rates>,
    /// Whether all clients are to close in an orderly way.
    leaving: bool,
    last: Instant,
    due: [Due; 5],
}

impl Fleet {
    pub(crate) fn new(addresses: Addresses, tls: Arc<ClientConfig>, seed: u32) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Slab::new(),
            alarms: Alarms::default(),
            context: Context {
                rng: fastrand::Rng::with_seed(u64::from(seed)),
                scratch: Vec::new(),
                payload: Vec::new(),
                buffer: vec![0; 256 << 10],
                deflate: Deflate::new(),
                // Microseconds up to two minutes, with three significant digits.
                latency: Histogram::new_with_bounds(1, 120_000_000, 3)?,
                faults: Vec::new(),
                counts: Counts::default(),
                awaited: 0,
            },
            ledger: Ledger::default(),
            addresses,
            tls,
            positions: [None; 2],
            reads_on: false,
            // Another seed results in other messages.
            next: u64::from(seed) << 32 | 1,
            open: 0,
            opening: 0,
            target: 0,
            rates: None,
            leaving: false,
            last: Instant::now(),
            due: Default::default(),
        })
    }

    /// Returns the number of clients that exchange messages.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Returns the number of sockets in any state.
    pub(crate) fn sockets(&self) -> usize {
        self.clients.len()
    }

    /// Makes all clients close one after the other, in an orderly way, and stops new clients.
    pub(crate) fn leave(&mut self) {
        (self.target, self.rates, self.leaving) = (0, None, true);
    }

    /// Has the clients that are always closed in order read everything from now on, because the
    /// servers cut clients that do not.
    pub(crate) fn read_on(&mut self) {
        self.reads_on = true;
        let keys: Vec<_> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with(key, |client, context| {
                if is_stayer(client.number) && client.reading != Reading::Free {
                    client.reading = Reading::Free;
                    client.advance(context);
                }
            });
        }
    }

    /// Lets clients connect again.
    pub(crate) fn come(&mut self, target: usize) {
        (self.target, self.leaving) = (target, false);
    }

    /// Does what is due, waits for events for at most a millisecond, and handles them.
    ///
    /// # Errors
    ///
    /// Returns the errors of the kernel.
    pub(crate) fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        let passed = (now - self.last).as_secs_f64();
        self.last = now;
        self.come_and_go(passed)?;
        self.exchange(passed);
        while let Some(alarm) = self.alarms.due(now) {
            self.ring(alarm, now);
        }
        match self.poll.poll(&mut self.events, Some(NAP)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => Err(error)?,
            _ => {}
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            // A key is not reused before the next turn, so the event belongs to this client.
            let key = event.token().0;
            self.with(key, |client, context| client.advance(context));
        }
        self.events = events;
        for fault in self.context.faults.drain(..) {
            self.ledger.faults.add(fault);
        }
        Ok(())
    }

    /// Starts and ends connections that are due.
    fn come_and_go(&mut self, passed: f64) -> Result<()> {
        let [comes, leaves, churns, visits, _] = &mut self.due;
        comes.add(RAMP, passed);
        leaves.add(RAMP * 2.0, passed);
        if let Some(rates) = self.rates {
            churns.add(rates.churn, passed);
            visits.add(rates.visits, passed);
        }
        while self.open + self.opening < self.target
            && self.opening < OPENING_MAX
            && self.due[0].take()
        {
            self.begin(Fate::Talk)?;
        }
        if self.leaving {
            let keys = self.clients.iter().filter(|(_, client)| client.is_open());
            let keys: Vec<_> = keys.map(|(key, _)| key).take(LEAVING_AT_ONCE).collect();
            for key in keys {
                if self.due[1].take() {
                    self.end(key, Ending::Closed);
                }
            }
        }
        if self.rates.is_none() {
            return Ok(());
        }
        while self.due[2].take() {
            if let Some(key) = self.pick() {
                let ending = self.pick_ending(key);
                self.end(key, ending);
            }
        }
        while self.due[3].take() {
            let rng = &mut self.context.rng;
            let fate = match rng.u8(..12) {
                0..3 => Fate::Visit(1),
                3..5 => Fate::Visit(rng.u64(2..5)),
                5 => Fate::Blunder,
                6 => Fate::Silence,
                7 => Fate::Stall,
                8..10 => Fate::DropRequest,
                _ => Fate::DropHello,
            };
            self.begin(fate)?;
        }
        Ok(())
    }

    /// Sends messages that are due.
    fn exchange(&mut self, passed: f64) {
        let Some(rates) = self.rates else {
            return;
        };
        self.due[4].add(rates.messages, passed);
        while self.context.awaited < AWAITED_MAX && self.due[4].take() {
            let Some(key) = self.pick() else {
                break;
            };
            let rng = &mut self.context.rng;
            let burst = match rng.u8(..) {
                0..4 => rng.usize(8..24),
                _ => 1,
            };
            let is_ping = rng.u8(..40) == 0;
            self.due[4].0 -= (burst - 1) as f64;
            self.with(key, |client, context| {
                for _ in 0..burst {
                    if client.can_send() {
                        client.send(context);
                    }
                }
                if is_ping && client.can_send() {
                    client.ping(context);
                }
                client.flush();
            });
        }
    }

    /// Picks a random open client.
    fn pick(&mut self) -> Option<usize> {
        let places = self.clients.capacity();
        (0..PICKS).find_map(|_| {
            let key = self.context.rng.usize(..places.max(1));
            self.clients.get(key).filter(|client| client.is_open())?;
            Some(key)
        })
    }

    fn pick_ending(&mut self, key: usize) -> Ending {
        let is_tls = self.clients[key].stream.is_tls();
        if is_stayer(self.clients[key].number) {
            return Ending::Closed;
        }
        match self.context.rng.u8(..20) {
            0..7 => Ending::Closed,
            7..10 => Ending::HalfClosed,
            10..12 => Ending::Dropped,
            12..14 => Ending::Reset,
            14..16 => Ending::InMessage,
            16..18 => Ending::InFrame,
            _ if is_tls => Ending::InRecord,
            _ => Ending::InFrame,
        }
    }

    /// Starts to connect.
    fn begin(&mut self, fate: Fate) -> Result<()> {
        let number = self.next;
        self.next += 1;
        let rng = &mut self.context.rng;
        let dedicated = rng.u8(..25) == 0;
        let is_tls = rng.bool() || fate == Fate::DropHello;
        let deflate = dedicated || rng.u8(..10) < 3;
        let addresses = match dedicated {
            true => self.addresses.dedicated,
            false => self.addresses.shared,
        };
        let tls = is_tls.then_some(&self.tls);
        let small = Temper::of(number) == Temper::Slow;
        let position = self.positions[usize::from(dedicated)];
        let position = position.filter(|_| self.context.rng.bool());
        let server = addresses[usize::from(is_tls)];
        let mut stream = Stream::connect(server, tls, number, small)?;
        let addr = stream.socket.local_addr()?;
        let place = self.clients.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(place.key());
        self.poll
            .registry()
            .register(&mut stream.socket, token, interest)?;
        let birth = Birth {
            number,
            stream,
            fate,
            deflate,
            dedicated,
            position,
        };
        let client = place.insert(Client::new(birth, &mut self.context));
        self.opening += usize::from(client.is_opening());
        self.ledger.open(number, addr);
        let key = token.0;
        let wait = match fate {
            Fate::DropRequest | Fate::DropHello => {
                let wait = Duration::from_millis(self.context.rng.u64(1..1000));
                self.alarms.set(wait, key, number, What::Drop);
                return Ok(());
            }
            _ => PATIENCE,
        };
        self.alarms.set(wait, key, number, What::GiveUp);
        Ok(())
    }

    /// Ends a connection in the given way.
    fn end(&mut self, key: usize, ending: Ending) {
        if let Some(client) = self.clients.get(key) {
            let number = client.number;
            self.alarms.set(PATIENCE, key, number, What::GiveUp);
            self.with(key, |client, context| {
                client.since = Instant::now();
                client.end(ending, context);
            });
        }
    }

    /// Performs an action on a client, and handles its change of state.
    fn with(&mut self, key: usize, action: impl FnOnce(&mut Client, &mut Context)) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let before = (client.is_opening(), client.is_open());
        action(client, &mut self.context);
        let after = (client.is_opening(), client.is_open());
        self.opening -= usize::from(before.0 && !after.0);
        self.open -= usize::from(before.1 && !after.1);
        self.open += usize::from(!before.1 && after.1);
        if !before.1 && after.1 && client.temper == Temper::Slow {
            let wait = Duration::from_millis(self.context.rng.u64(500..6000));
            let number = client.number;
            self.alarms.set(wait, key, number, What::Pace);
        }
        if before.1 && client.state == State::Ending {
            let number = client.number;
            client.since = Instant::now();
            self.alarms.set(PATIENCE, key, number, What::GiveUp);
        }
        if client.state == State::Over {
            let client = self.clients.remove(key);
            client.forget(&mut self.context);
            if let Some(position) = client.position() {
                self.positions[usize::from(client.dedicated)] = Some(position);
            }
            self.ledger.client(client.record(), Instant::now());
            // Dropping the client closes the descriptor, which also removes it from epoll.
        }
    }

    fn ring(&mut self, alarm: Alarm, now: Instant) {
        let Alarm {
            key, number, what, ..
        } = alarm;
        let same = |client: &&Client| client.number == number;
        let Some(client) = self.clients.get(key).filter(same) else {
            return;
        };
        match what {
            What::Drop => {
                let ending = match client.fate() {
                    Fate::DropHello => Ending::InHello,
                    _ => Ending::InHandshake,
                };
                self.end(key, ending);
            }
            // The client awaits nothing, or started to wait again later.
            What::GiveUp if client.is_open() || now - client.since < PATIENCE => {}
            What::GiveUp => self.with(key, Client::give_up),
            What::Pace => self.pace(key, number),
        }
    }

    /// Makes a slow client stop reading, resume, or read a little.
    fn pace(&mut self, key: usize, number: u64) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if self.reads_on && is_stayer(number) {
            return;
        }
        let wait = match &mut client.reading {
            Reading::Trickle(left @ 1..) => {
                *left -= 1;
                self.with(key, Client::trickle);
                TRICKLE_PAUSE
            }
            _ => {
                let mut slow = false;
                self.with(key, |client, context| slow = client.slow_down(context));
                let is_trickle = |client: &Client| matches!(client.reading, Reading::Trickle(_));
                match self.clients.get(key) {
                    Some(client) if slow && is_trickle(client) => TRICKLE_PAUSE,
                    _ => Duration::from_millis(self.context.rng.u64(2000..8000)),
                }
            }
        };
        if self.clients.get(key).is_some_and(Client::is_open) {
            self.alarms.set(wait, key, number, What::Pace);
        }
    }
}

/// The longest wait in a turn of the loop.
const NAP: Duration = Duration::from_millis(1);

/// The clients that connect per second until the target is reached; twice as many close per second
/// at the end.
const RAMP: f64 = 400.0;

/// The largest number of simultaneous opening handshakes.
const OPENING_MAX: usize = 100;

const LEAVING_AT_ONCE: usize = 16;

/// The largest number of awaited replies in total. If other processes use the processors, the load
/// decreases instead of piling up.
const AWAITED_MAX: usize = 1000;

/// The number of attempts to pick an open client.
const PICKS: usize = 20;

/// How long a server may take to open or to end a connection.
const PATIENCE: Duration = Duration::from_secs(30);

const TRICKLE_PAUSE: Duration = Duration::from_millis(100);
