//! The surroundings of two loops: the clock, the clients, the bells, and the trace.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use mio::Token;

use super::engine::Engine;
use super::model::{Due, Inflow, Pending, Sequence};
use super::settings::Settings;
use crate::backplane::Inbox;
use crate::connection::{ConnectionId, LoopsHandle};
use crate::server::listener::Port;
use crate::simulation::checks::Check;
use crate::simulation::line::{self, Line};
use crate::simulation::output::Output;
use crate::simulation::random::{Random, mix};
use crate::simulation::world::Failure;
use crate::transport::{Delivery, Socket, Wire};

pub(super) type Shared = Rc<RefCell<Scene>>;

/// What surrounds the loops, and the model of what they have to do.
pub(super) struct Scene {
    pub(super) random: Random,
    pub(super) now: Duration,
    pub(super) settings: Settings,
    pub(super) sides: [Side; 2],
    pub(super) clients: Vec<Client>,
    pub(super) engine: Engine,
    pub(super) loops: LoopsHandle,
    /// All messages, by number.
    pub(super) messages: Vec<Message>,
    /// The publish that a handler makes.
    pub(super) publishing: Option<Publishing>,
    /// The order of the messages of topics whose history the loops share.
    pub(super) sequences: BTreeMap<usize, Sequence>,
    /// The number of the last request for missed messages.
    pub(super) last_request: u64,
    /// The run comes to its end: handlers do nothing of their own any more.
    pub(super) is_calm: bool,
    /// An order to shut down was given.
    pub(super) is_stopping: bool,
    /// The last order about the listeners.
    pub(super) listens: bool,
    hash: u64,
    is_shown: bool,
    pub(super) failure: Option<Failure>,
}

/// A loop, as the model knows it.
pub(super) struct Side {
    /// Wakes the loop for its inbox, and for commands.
    pub(super) bell: Arc<Bell>,
    pub(super) calls: Arc<Bell>,
    pub(super) inbox: Option<Inbox>,
    /// The clients in the accept queue.
    pub(super) queue: VecDeque<usize>,
    pub(super) is_listening: bool,
    pub(super) port_woken: bool,
    /// It has its backplanes.
    pub(super) is_connected: bool,
    /// The loop was dropped.
    pub(super) has_ended: bool,
    pub(super) is_stopped: bool,
    /// The topics that backplanes were told to be occupied.
    pub(super) interest: BTreeSet<usize>,
    pub(super) inflow: Inflow,
    /// Messages of this turn for the other loop.
    pub(super) outgoing: Vec<u64>,
    pub(super) has_published: bool,
    /// The losses that handlers have to be told, and those that they may be told.
    pub(super) gaps: BTreeMap<usize, Option<u64>>,
    pub(super) excused: BTreeSet<usize>,
    /// The topics for which `Occupied` came, and no `Vacated` after it.
    pub(super) told: BTreeSet<usize>,
}

/// A message, as it was published.
#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) topic: usize,
    pub(super) payload: usize,
    pub(super) key: Option<u8>,
    pub(super) was_published: bool,
}

/// A publish that is being made.
#[derive(Clone, Copy)]
pub(super) struct Publishing {
    pub(super) number: u64,
    pub(super) except: Option<usize>,
}

pub(super) struct Client {
    pub(super) side: usize,
    pub(super) line: Line,
    pub(super) output: Output,
    pub(super) is_fast: bool,
    pub(super) id: Option<ConnectionId>,
    pub(super) is_open: bool,
    pub(super) connects: usize,
    pub(super) disconnects: usize,
    pub(super) was_closed: bool,
    /// It has sent a Close frame, a FIN or a reset.
    pub(super) has_left: bool,
    pub(super) topics: BTreeSet<usize>,
    /// The topics whose missed messages are on their way.
    pub(super) pending: BTreeMap<usize, Pending>,
    /// The recoveries that its handler has to be told.
    pub(super) due: Vec<Due>,
    /// What it has to receive, in this order, and what it has received.
    pub(super) expected: Vec<u64>,
    pub(super) received: Vec<u64>,
    /// How far it has got in each topic, and with each key of a topic that conflates.
    pub(super) places: BTreeMap<(usize, Option<u8>), usize>,
}

impl Scene {
    pub(super) fn new(seed: u64, is_shown: bool) -> Self {
        let mut random = Random::new(seed ^ LOOPS);
        let settings = Settings::any(&mut random);
        let side = || Side::new(settings.config.max_inbox);
        Self {
            sides: [side(), side()],
            random,
            now: Duration::ZERO,
            settings,
            clients: Vec::new(),
            engine: Engine::default(),
            loops: LoopsHandle::new(),
            messages: Vec::new(),
            publishing: None,
            sequences: BTreeMap::new(),
            last_request: 0,
            is_calm: false,
            is_stopping: false,
            listens: true,
            hash: 0,
            is_shown,
            failure: None,
        }
    }

    /// Adds an entry to the trace.
    pub(super) fn note(&mut self, what: &'static str, one: usize, other: usize) {
        let word = what
            .bytes()
            .fold(0, |word, byte| mix(word ^ u64::from(byte)));
        let bits = word ^ (one as u64) << 32 ^ other as u64;
        self.hash = mix(self.hash ^ bits ^ (self.now.as_micros() as u64) << 20);
        self.tell(|| format!("{what} {one} {other}"));
    }

    /// Prints more details, if the trace is shown.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_shown {
            println!("{:>9?} {}", self.now, what());
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.hash
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

    /// Creates a client, which connects to a loop.
    pub(super) fn connect(&mut self, side: usize) {
        let is_fast = !self.random.chance(self.settings.slow);
        let room = match is_fast {
            true => usize::MAX,
            false => self.random.within(200..=1500),
        };
        let client = self.clients.len();
        self.note("connect", client, side);
        self.clients
            .push(Client::new(side, Line::new(usize::MAX, room), is_fast));
        self.sides[side].queue.push_back(client);
        self.sides[side].port_woken = true;
    }

    /// Returns whether it is known exactly what a client receives.
    pub(super) fn is_exact(&self, client: usize) -> bool {
        let client = &self.clients[client];
        client.is_fast && !client.line.reset && self.settings.is_roomy()
    }

    /// Returns a new message for a topic.
    pub(super) fn new_message(&mut self, topic: usize) -> u64 {
        let payload = match self.random.chance(200) {
            true => self.random.within(8..=self.settings.payload),
            false => self.random.within(8..=self.settings.payload.min(60)),
        };
        let key = self.random.chance(600).then(|| self.random.below(2) as u8);
        self.messages.push(Message {
            topic,
            payload,
            key,
            was_published: false,
        });
        self.messages.len() as u64 - 1
    }

    /// Returns the payload of a message.
    pub(super) fn text(&self, number: u64) -> String {
        let size = self.messages[number as usize].payload;
        let filler = char::from(b'a' + (number % 26) as u8);
        let text = format!("{number} ");
        let left = size.saturating_sub(text.len());
        text + &String::from(filler).repeat(left)
    }

    /// Returns the size of the frame of a message.
    pub(super) fn frame_size(&self, number: u64) -> usize {
        let payload = self.messages[number as usize].payload;
        payload + if payload > 125 { 4 } else { 2 }
    }

    /// A client reads, at most so many bytes.
    pub(super) fn read(&mut self, client: usize, most: usize) {
        self.clients[client].line.take(most);
        self.parse(client);
    }
}

impl Side {
    fn new(max_inbox: usize) -> Self {
        Self {
            bell: Arc::default(),
            calls: Arc::default(),
            inbox: None,
            queue: VecDeque::new(),
            is_listening: false,
            port_woken: false,
            is_connected: false,
            has_ended: false,
            is_stopped: false,
            interest: BTreeSet::new(),
            inflow: Inflow::new(max_inbox),
            outgoing: Vec::new(),
            has_published: false,
            gaps: BTreeMap::new(),
            excused: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// Returns whether the loop runs.
    pub(super) fn runs(&self) -> bool {
        !self.has_ended && !self.is_stopped
    }
}

impl Client {
    fn new(side: usize, mut line: Line, is_fast: bool) -> Self {
        line.arrive(REQUEST);
        Self {
            side,
            line,
            output: Output::default(),
            is_fast,
            id: None,
            is_open: false,
            connects: 0,
            disconnects: 0,
            was_closed: false,
            has_left: false,
            topics: BTreeSet::new(),
            pending: BTreeMap::new(),
            due: Vec::new(),
            expected: Vec::new(),
            received: Vec::new(),
            places: BTreeMap::new(),
        }
    }
}

/// Wakes a loop, and counts how often.
#[derive(Default)]
pub(super) struct Bell {
    rings: AtomicU64,
    heard: AtomicU64,
}

impl Bell {
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        self.clone().into()
    }

    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }

    /// Returns whether it has rung since it was heard.
    pub(super) fn is_ringing(&self) -> bool {
        self.rings() > self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn hear(&self) {
        self.heard.store(self.rings(), Ordering::Relaxed);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rings.fetch_add(1, Ordering::Relaxed);
    }
}

/// The port of a loop.
pub(super) struct Door {
    pub(super) scene: Shared,
    pub(super) side: usize,
}

impl Port for Door {
    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        let scene = &mut *self.scene.borrow_mut();
        let Some(client) = scene.sides[self.side].queue.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let plug = Plug {
            scene: self.scene.clone(),
            client,
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], 1024 + client as u16));
        Ok((Socket::Simulated(Box::new(plug)), Some(addr)))
    }

    fn listen(&self, on: bool) -> io::Result<()> {
        let scene = &mut *self.scene.borrow_mut();
        scene.note("listen", self.side, on.into());
        let side = &mut scene.sides[self.side];
        side.is_listening = on;
        side.port_woken = on;
        side.queue.clear();
        Ok(())
    }
}

/// The server's end of the line of a client.
struct Plug {
    scene: Shared,
    client: usize,
}

/// Calls of the server do not fail.
struct Reliable;

impl line::Faults for Reliable {}

impl Wire for Plug {
    fn receive(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let scene = &mut *self.scene.borrow_mut();
        scene.clients[self.client].line.read(buffers, &mut Reliable)
    }

    fn transmit(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let scene = &mut *self.scene.borrow_mut();
        let done = scene.clients[self.client]
            .line
            .write(buffers, &mut Reliable);
        if let Ok(size) = done {
            scene.note("write", self.client, size);
        }
        done
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.scene.borrow_mut().clients[self.client]
            .line
            .shutdown_write()
    }

    fn delivery(&self) -> Option<Delivery> {
        None
    }

    fn register(&mut self, token: Token) -> io::Result<()> {
        self.scene.borrow_mut().clients[self.client]
            .line
            .register(token);
        Ok(())
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        // A check may have panicked.
        if let Ok(mut scene) = self.scene.try_borrow_mut() {
            scene.note("closed", self.client, 0);
            scene.clients[self.client].line.close();
        }
    }
}

/// Makes the numbers of these runs other than those of the runs of one loop.
const LOOPS: u64 = 0x100_0000_0000;

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
