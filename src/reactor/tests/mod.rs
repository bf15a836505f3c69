//! The reactor over simulated sockets and a clock that the test sets.

#[cfg(feature = "deflate")]
mod compressed_pieces;
mod deadlines;
mod endings;
mod flow;
mod hostile;
mod http;
mod memory;
mod pausing;
mod sending;
mod timers;
mod wind_down;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::*;
use crate::config::{Config, SlowConsumer};
use crate::connection::event::{
    Binary, ConnectionEvent, Disconnect, Drain, Error, Origin, Outcome, PeerClose, Pong, Ready,
    Utf8,
};
use crate::connection::{Connection, Handle, Hub, Outgoing, Sent};
use crate::error::SendError;
use crate::protocol::{Compress, OpCode, mask};
use crate::transport::{Delivery, Socket, Wire};

/// The other end of a simulated socket.
#[derive(Default)]
struct Line {
    /// Data that the peer sent and the server has not read.
    incoming: VecDeque<u8>,
    /// Data that the server wrote.
    outgoing: Vec<u8>,
    /// The peer sent FIN.
    peer_fin: bool,
    /// The server sent FIN.
    server_fin: bool,
    /// How many bytes the kernel takes before it blocks; `None` for all.
    room: Option<usize>,
    /// Most bytes taken by one write.
    write_max: Option<usize>,
    /// Errors that the next calls return.
    failures: VecDeque<io::ErrorKind>,
    /// How much the peer has acknowledged, as the kernel reports it.
    delivery: Option<Delivery>,
    reads: usize,
    writes: usize,
}

#[derive(Clone, Default)]
struct Cable(Rc<RefCell<Line>>);

impl Read for Cable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        line.reads += 1;
        if let Some(kind) = line.failures.pop_front() {
            return Err(kind.into());
        }
        if line.incoming.is_empty() {
            return if line.peer_fin {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let size = buffer.len().min(line.incoming.len());
        for (place, byte) in buffer.iter_mut().zip(line.incoming.drain(..size)) {
            *place = byte;
        }
        Ok(size)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut size = 0;
        for buffer in buffers {
            if size == 0 || !self.0.borrow().incoming.is_empty() {
                size += self.read(buffer)?;
            }
        }
        Ok(size)
    }
}

impl Write for Cable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        line.writes += 1;
        if let Some(kind) = line.failures.pop_front() {
            return Err(kind.into());
        }
        let room = line.room.unwrap_or(usize::MAX);
        let size = bytes
            .len()
            .min(room)
            .min(line.write_max.unwrap_or(usize::MAX));
        if size == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.outgoing.extend_from_slice(&bytes[..size]);
        line.room = line.room.map(|room| room - size);
        Ok(size)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.write(&whole)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Cable {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().server_fin = true;
        Ok(())
    }

    fn delivery(&self) -> Option<Delivery> {
        self.0.borrow().delivery
    }
}

/// The events, as the handlers logged them.
type Log = Rc<RefCell<Vec<String>>>;

struct World {
    reactor: Reactor,
    start: Instant,
    at: u64,
    log: Log,
}

/// A client of a [`World`].
struct Client {
    tag: usize,
    line: Cable,
}

impl World {
    fn new(config: Config) -> Self {
        let start = Instant::now();
        let (handle, _) = Handle::new(Waker::noop().clone());
        let reactor = Reactor::new(Core::new(config, handle), Handlers::default(), start);
        let mut world = Self {
            reactor,
            start,
            at: 0,
            log: Log::default(),
        };
        world.note(Connect, |()| "connect".into());
        world.note(Ready, |()| "ready".into());
        world.note(Pong, |_| "pong".into());
        world.note(Drain, |()| "drain".into());
        world.note(Error, |fault| format!("error: {fault}"));
        world.note(PeerClose, |frame| {
            format!("peer close {:?}", frame.map(|frame| frame.code))
        });
        world.note(Disconnect, |why| format!("disconnect {why}"));
        world
    }

    /// Creates an echo server.
    fn echo(config: Config) -> Self {
        let mut world = Self::new(config);
        world
            .reactor
            .handlers
            .set::<Utf8, _>(|conn, text| conn.send_utf8(text));
        world
            .reactor
            .handlers
            .set::<Binary, _>(|conn, data| conn.send_binary(data));
        world
    }

    /// Logs an event.
    fn note<E: ConnectionEvent>(&mut self, _: E, say: impl Fn(E::Payload<'_>) -> String + 'static)
    where
        (): Outcome<E::Output>,
    {
        let log = self.log.clone();
        self.reactor.handlers.set::<E, ()>(move |_, payload| {
            log.borrow_mut().push(say(payload));
        });
    }

    fn take_log(&self) -> Vec<String> {
        self.log.take()
    }

    fn connect(&mut self) -> Client {
        let line = Cable::default();
        let transport = Transport::Plain(Socket::Simulated(Box::new(line.clone())));
        let (slot, serial) = self.reactor.take_in(transport, None, Via::Direct);
        self.reactor.welcome(slot);
        self.reactor.end_turn();
        Client {
            tag: connection_tag(slot, serial),
            line,
        }
    }

    /// Connects a client and completes its opening handshake.
    fn ready(&mut self) -> Client {
        let client = self.connect();
        self.send(&client, REQUEST);
        assert!(client.take().starts_with(b"HTTP/1.1 101 "));
        self.take_log();
        client
    }

    /// Sends data from the client, and gives the server a turn.
    fn send(&mut self, client: &Client, bytes: &[u8]) {
        client.line.0.borrow_mut().incoming.extend(bytes);
        self.news(client, true, false);
    }

    fn news(&mut self, client: &Client, readable: bool, hangup: bool) {
        self.tell(client.tag, readable, hangup);
        self.turn();
    }

    fn tell(&mut self, tag: usize, readable: bool, hangup: bool) {
        let news = SocketEvent {
            tag,
            readable,
            hangup,
        };
        self.reactor.take_events(std::iter::once(news));
    }

    fn turn(&mut self) {
        self.reactor.begin_turn();
        self.reactor.serve_ready_queue();
        self.reactor.expire();
        self.reactor.end_turn();
    }

    /// Lets time pass, in which the loop sleeps and wakes by its deadlines; returns the number of
    /// turns.
    fn pass(&mut self, millis: u64) -> usize {
        let until = self.at + millis;
        let mut turns = 0;
        while let Some(next) = self.reactor.next_deadline().filter(|next| *next <= until) {
            self.at = self.at.max(next);
            self.reactor
                .set_now(self.start + Duration::from_millis(self.at));
            self.turn();
            turns += 1;
            assert!(turns < 10_000, "the loop spins");
        }
        self.at = until;
        self.reactor
            .set_now(self.start + Duration::from_millis(until));
        turns
    }

    fn is_empty(&self) -> bool {
        self.reactor.halves.is_empty() && self.reactor.core.peers.is_empty()
    }
}

impl Client {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.line.0.borrow_mut().outgoing)
    }

    fn has_fin(&self) -> bool {
        self.line.0.borrow().server_fin
    }

    fn set_room(&self, room: Option<usize>) {
        self.line.0.borrow_mut().room = room;
    }
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Returns a masked frame, as clients send it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ 0..126) => bytes.push(0x80 | len as u8),
        Ok(len) => {
            bytes.push(0xfe);
            bytes.extend(len.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0xff);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([1, 2, 3, 4]);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask::apply(&mut bytes[start..], [1, 2, 3, 4], 0);
    bytes
}
