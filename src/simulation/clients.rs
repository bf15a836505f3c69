//! The clients. Each follows a random script, and records what the server must deliver for it.

use std::collections::VecDeque;
use std::time::Duration;

use super::breaches;
use super::line::Line;
use super::model::Seen;
use super::network::{Parcel, Way};
use super::output::{Output, Told};
use super::random::Random;
use super::world::{Happening, World};
use crate::client_frames;
use crate::protocol::OpCode;

/// The behaviour of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Follows the protocol, one step after the other.
    Polite,
    /// Sends everything at once and does not wait for the answer to its request.
    Pipeliner,
    /// Sends very little at a time.
    Trickler,
    /// Sends messages in many frames, and control frames in between.
    Fragmenter,
    /// Sends many short messages and pings.
    Flooder,
    /// Violates the protocol after some messages.
    Breaker,
    /// Sends plain requests, and may upgrade after them.
    Plain,
    /// Sends FIN after some messages, and may continue to read.
    HalfCloser,
    /// Resets the connection, at any time.
    Resetter,
    /// Sends a part of its request, or nothing.
    Silent,
    /// Upgrades, and then neither sends nor answers.
    Mute,
    /// Sends an invalid request.
    Stranger,
}

const KINDS: &[Kind] = &[
    Kind::Polite,
    Kind::Polite,
    Kind::Polite,
    Kind::Pipeliner,
    Kind::Pipeliner,
    Kind::Trickler,
    Kind::Fragmenter,
    Kind::Fragmenter,
    Kind::Flooder,
    Kind::Breaker,
    Kind::Plain,
    Kind::HalfCloser,
    Kind::Resetter,
    Kind::Silent,
    Kind::Mute,
    Kind::Stranger,
];

/// What the server must deliver for the data that was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Sense {
    Plain,
    Upgrade,
    Message(OpCode, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

/// How a client reads.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// Most bytes at a time; a client with 0 never reads.
    most: usize,
    every: Duration,
}

impl Reading {
    fn any(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self {
                most: 0,
                every: Duration::from_millis(1),
            },
            1 | 2 => Self {
                most: random.within(1..=300),
                every: random.millis(1..=10),
            },
            _ => Self {
                most: usize::MAX,
                every: random.micros(10..=3000),
            },
        }
    }

    pub(super) fn be_fast(&mut self) {
        *self = Self {
            most: usize::MAX,
            every: Duration::from_micros(100),
        };
    }
}

pub(super) struct Client {
    pub(super) kind: Kind,
    /// It was not accepted, or has ended, and does nothing more.
    pub(super) is_over: bool,
    pub(super) reading: Reading,
    pub(super) output: Output,
    /// Parsed parts of the output that the client has not read yet, and where each ends.
    pub(super) told: VecDeque<(usize, Told)>,
    pub(super) seen: Seen,
    /// What the server must deliver, and the position in the sent data at which each is complete.
    pub(super) expected: Vec<(usize, Sense)>,
    /// The position at which the data violates the protocol.
    pub(super) breach: Option<usize>,
    /// The position at which its Close frame ends.
    pub(super) close: Option<usize>,
    /// Number of bytes that it has sent.
    pub(super) posted: usize,
    pub(super) fin_sent: bool,
    steps: usize,
    pub(super) left: usize,
    pub(super) answered: bool,
    answers_pings: bool,
    answers_close: bool,
    begun: Duration,
    pub(super) numbered: u32,
}

impl World {
    /// Creates the clients of the run, and plans when each connects.
    pub(super) fn invite(&mut self) {
        let mut at = Duration::ZERO;
        for client in 0..self.settings.clients {
            at += self.random.micros(0..=30_000);
            let random = &mut self.random;
            let kind = random.pick(KINDS);
            let room_out = random.pick(&[100, 1000, 10_000, 200_000, 200_000]);
            let room_in = random.pick(&[200, 5000, 200_000]);
            let left = match kind {
                Kind::Flooder => random.within(10..=60),
                Kind::Mute | Kind::Silent => 0,
                _ => random.within(0..=12),
            };
            let quiet = kind == Kind::Mute;
            self.lines.push(Line::new(room_in, room_out));
            self.ways.push(Way::default());
            self.clients.push(Client {
                kind,
                is_over: false,
                reading: Reading::any(random),
                output: Output::default(),
                told: VecDeque::new(),
                seen: Seen::default(),
                expected: Vec::new(),
                breach: None,
                close: None,
                posted: 0,
                fin_sent: false,
                steps: 0,
                left,
                answered: false,
                answers_pings: !quiet && random.chance(900),
                answers_close: !quiet && random.chance(900),
                begun: at,
                numbered: 0,
            });
            self.plan(at, Happening::Step(client));
        }
    }

    /// Sends bytes for which the server must deliver `sense`, in pieces of random sizes.
    pub(super) fn send(&mut self, client: usize, bytes: Vec<u8>, sense: Option<Sense>) {
        let state = &mut self.clients[client];
        if state.fin_sent || state.is_over {
            return;
        }
        state.posted += bytes.len();
        if let Some(sense) = sense
            && state.breach.is_none()
            && state.close.is_none()
        {
            if matches!(sense, Sense::Close(_)) {
                state.close = Some(state.posted);
            }
            state.expected.push((state.posted, sense));
        }
        let most = match state.kind {
            Kind::Trickler => 7,
            _ if self.random.chance(300) => 50,
            _ => usize::MAX,
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size = match most {
                usize::MAX => rest.len(),
                most => self.random.within(1..=most).min(rest.len()),
            };
            let (part, behind) = rest.split_at(size);
            rest = behind;
            let delay = match self.random.chance(100) {
                true => self.random.micros(0..=20_000),
                false => self.random.micros(0..=300),
            };
            self.post(client, delay, Parcel::Bytes(part.to_vec()));
        }
    }

    fn leave(&mut self, client: usize, parcel: Parcel) {
        if std::mem::replace(&mut self.clients[client].fin_sent, true)
            && !matches!(parcel, Parcel::Reset)
        {
            return;
        }
        let delay = self.random.micros(0..=2000);
        self.post(client, delay, parcel);
    }

    /// Takes the next step of a client.
    pub(super) fn step(&mut self, client: usize) {
        let state = &mut self.clients[client];
        if state.is_over || self.lines[client].has_ended() {
            return;
        }
        state.steps += 1;
        let kind = state.kind;
        if state.steps == 1 {
            return self.come(client);
        }
        if kind == Kind::Resetter && self.random.chance(150) {
            return self.leave(client, Parcel::Reset);
        }
        if state.steps == 2 {
            self.request(client);
        } else if !self.waits(client) {
            match self.clients[client].left.checked_sub(1) {
                Some(left) => {
                    self.clients[client].left = left;
                    self.say(client);
                }
                None => return self.end(client),
            }
        }
        let pause = match kind {
            Kind::Pipeliner | Kind::Flooder => self.random.micros(0..=20),
            _ if self.random.chance(50) => self.random.millis(0..=300),
            _ => self.random.micros(0..=10_000),
        };
        self.plan(self.now + pause, Happening::Step(client));
    }

    /// Connects.
    fn come(&mut self, client: usize) {
        if !self.port.is_open {
            self.note("refused", client, 0);
            self.clients[client].is_over = true;
            return;
        }
        self.note("come", client, 0);
        if self.random.chance(self.settings.starves) && !self.is_calm {
            self.port.starved_until = self.now + self.random.millis(1..=400);
        }
        self.port.waiting.push_back(client);
        self.port.woken = true;
        self.plan(self.now, Happening::Step(client));
    }

    fn request(&mut self, client: usize) {
        match self.clients[client].kind {
            Kind::Silent => {
                if self.random.chance(700) {
                    let part = self.random.within(1..=UPGRADE.len() - 1);
                    self.send(client, UPGRADE.as_bytes()[..part].to_vec(), None);
                }
            }
            Kind::Stranger => {
                let bytes = breaches::bad_request(&mut self.random);
                self.send(client, bytes, None);
                let state = &mut self.clients[client];
                state.breach = Some(state.posted);
            }
            Kind::Plain => {}
            _ => self.upgrade(client),
        }
    }

    pub(super) fn upgrade(&mut self, client: usize) {
        let offer = match self.random.chance(700) {
            true => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            false => "",
        };
        let request = UPGRADE.replace("\r\n\r\n", &format!("\r\n{offer}\r\n"));
        self.send(client, request.into_bytes(), Some(Sense::Upgrade));
    }

    /// Returns whether the client waits for the response to its request.
    fn waits(&mut self, client: usize) -> bool {
        let state = &self.clients[client];
        let impatient = [Kind::Pipeliner, Kind::Plain, Kind::Stranger, Kind::Silent];
        !state.answered
            && !impatient.contains(&state.kind)
            && self.now < state.begun + Duration::from_millis(300)
    }

    /// Ends the script.
    fn end(&mut self, client: usize) {
        match self.clients[client].kind {
            Kind::HalfCloser => self.leave(client, Parcel::Fin),
            Kind::Resetter => self.leave(client, Parcel::Reset),
            Kind::Silent | Kind::Mute => {}
            Kind::Breaker if self.clients[client].breach.is_some() => {}
            _ => match self.random.below(6) {
                0 => self.leave(client, Parcel::Fin),
                // It stays connected.
                1 | 2 => {}
                _ => {
                    let body = match self.random.below(3) {
                        0 => Vec::new(),
                        1 => vec![0x03, 0xe8],
                        _ => b"\x0f\xa0bye".to_vec(),
                    };
                    self.close(client, body);
                }
            },
        }
    }

    /// Sends a Close frame.
    fn close(&mut self, client: usize, body: Vec<u8>) {
        if self.clients[client].close.is_none() {
            let bytes = frame(0x88, &body);
            self.send(client, bytes, Some(Sense::Close(body)));
        }
    }

    /// Plans when the client reads, unless that is planned already.
    pub(super) fn look(&mut self, client: usize) {
        let (line, reading) = (&self.lines[client], self.clients[client].reading);
        let is_due = line.sent.len() > line.taken || line.server_fin || line.closed;
        let read_is_due = &mut self.ways[client].read_is_due;
        if reading.most > 0 && is_due && !std::mem::replace(read_is_due, true) {
            let at = self.now + reading.every;
            self.plan(at, Happening::Reading(client));
        }
    }

    /// The client reads, and answers.
    pub(super) fn client_reads(&mut self, client: usize) {
        let (line, way) = (&mut self.lines[client], &mut self.ways[client]);
        way.read_is_due = false;
        if line.reset {
            return;
        }
        if line.take(self.clients[client].reading.most) > 0 {
            way.taken_at = self.now;
        }
        let taken = line.taken;
        while let Some((end, _)) = self.clients[client].told.front()
            && *end <= taken
        {
            let (_, told) = self.clients[client].told.pop_front().expect("it is there");
            self.answer(client, told);
        }
        let line = &self.lines[client];
        if line.taken < line.sent.len() {
            self.look(client);
        } else if line.server_fin || line.closed {
            self.leave(client, Parcel::Fin);
        }
    }

    fn answer(&mut self, client: usize, told: Told) {
        let state = &mut self.clients[client];
        match told {
            Told::Answer(101) => state.answered = true,
            Told::Ping(payload) if state.answers_pings => {
                let bytes = frame(0x8a, &payload);
                self.send(client, bytes, Some(Sense::Pong(payload)));
            }
            Told::Close(body) if state.answers_close => self.close(client, body),
            _ => {}
        }
    }
}

/// Returns a masked frame.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let key = [1, 2, 3, payload.len() as u8];
    client_frames::append(&mut bytes, first, Some(key), payload);
    bytes
}

pub(super) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
