//! All clients of a run, on one thread: who comes, who sends, and who goes.

mod alarms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use slab::Slab;

use crate::client::{Birth, Client, Context, Counts, Deflate, Fate, State};
use crate::ledger::Ledger;
use crate::message::Temper;
use crate::record::Ending;
use crate::stream::Stream;
use alarms::{Alarm, Alarms, What};

/// Where the servers listen: with one compressor for all or one for each, without TLS and with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) shared: [SocketAddr; 2],
    pub(crate) dedicated: [SocketAddr; 2],
}

/// How much is done, per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) messages: f64,
    /// Clients that leave, and clients that never become open.
    pub(crate) churn: f64,
    pub(crate) visits: f64,
}

/// What is carried out as it falls due.
#[derive(Debug, Default)]
struct Due(f64);

impl Due {
    /// Adds what a time brings; after a stall no more than a quarter of a second's worth is made up
    /// for, so that the load does not become a flood.
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
    /// The number of the next client.
    next: u64,
    open: usize,
    opening: usize,
    /// How many are to be open; they come at a bounded rate.
    pub(crate) target: usize,
    /// What is done, if anything is.
    pub(crate) rates: Option<Rates>,
    /// Whether all are to be closed, in order.
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
                // Up to two minutes, to three digits.
                latency: Histogram::new_with_bounds(1, 120_000_000, 3)?,
                faults: Vec::new(),
                counts: Counts::default(),
                awaited: 0,
            },
            ledger: Ledger::default(),
            addresses,
            tls,
            // So that another seed has other messages.
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

    /// Clients that exchange messages.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Sockets of any state.
    pub(crate) fn sockets(&self) -> usize {
        self.clients.len()
    }

    /// Has all clients close in order, one after the other, and nobody come any more.
    pub(crate) fn leave(&mut self) {
        (self.target, self.rates, self.leaving) = (0, None, true);
    }

    /// Has clients come again.
    pub(crate) fn come(&mut self, target: usize) {
        (self.target, self.leaving) = (target, false);
    }

    /// Does what is due, waits for events for a millisecond at most, and treats them.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
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
            // Nobody takes the place of one that is gone before the next turn.
            let key = event.token().0;
            self.with(key, |client, context| client.advance(context));
        }
        self.events = events;
        for fault in self.context.faults.drain(..) {
            self.ledger.faults.add(fault);
        }
        Ok(())
    }

    /// Lets clients come and go.
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

    /// Has clients send what is due.
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

    /// Picks one that is open, any.
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

    /// Begins to connect.
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

    /// Ends a connection so.
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

    /// Does something with a client, and sees what became of it.
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
            self.ledger.client(client.record(), Instant::now());
            // The descriptor is closed with it, and that takes it out of epoll.
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
            // Nothing is awaited, or something else than then.
            What::GiveUp if client.is_open() || now - client.since < PATIENCE => {}
            What::GiveUp => self.with(key, Client::give_up),
            What::Pace => self.pace(key, number),
        }
    }

    /// Has a slow client stop, go on, or read a little.
    fn pace(&mut self, key: usize, number: u64) {
        use crate::client::Reading;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
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

/// A turn of the loop ends after this if nothing happens.
const NAP: Duration = Duration::from_millis(1);

/// Clients that come in a second, while they are too few; twice as many leave at the end.
const RAMP: f64 = 400.0;

/// Clients whose opening handshake may be under way.
const OPENING_MAX: usize = 100;

const LEAVING_AT_ONCE: usize = 16;

/// Replies that may be awaited in all. Where others have the processors the load becomes less, and
/// does not pile up.
const AWAITED_MAX: usize = 1000;

/// How often one is picked that is not open, before none is.
const PICKS: usize = 20;

/// How long a server may take to end a connection, or to open one.
const PATIENCE: Duration = Duration::from_secs(30);

const TRICKLE_PAUSE: Duration = Duration::from_millis(100);
