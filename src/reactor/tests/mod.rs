//! The reactor over simulated sockets and a clock that the test sets.

mod backplanes;
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
mod topics;
mod wind_down;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::*;
use crate::client_frames::{self, frame, server_frame};
use crate::config::Config;
use crate::connection::event::{
    Binary, ConnectionEvent, Disconnect, Drain, Error, Origin, Outcome, PeerClose, Pong, Ready,
    Utf8,
};
use crate::connection::{Connection, Handle, Hub, Outgoing, Sent};
use crate::error::SendError;
use crate::limits::SlowConsumer;
use crate::protocol::{Compress, OpCode};
use crate::simulation::line::{Faults, Line};
use crate::transport::{Delivery, Socket, Wire};

/// The faults of the server's calls that an example lists, and how many calls there were.
#[derive(Default)]
struct Script {
    /// Most bytes taken by one write.
    write_max: Option<usize>,
    /// Errors that the next calls return.
    failures: VecDeque<io::ErrorKind>,
    /// How much the peer has acknowledged, as the kernel reports it.
    delivery: Option<Delivery>,
    reads: usize,
    writes: usize,
}

impl Faults for Script {
    fn fails(&mut self) -> Option<io::ErrorKind> {
        self.failures.pop_front()
    }

    fn writes(&mut self, most: usize) -> usize {
        most.min(self.write_max.unwrap_or(usize::MAX))
    }
}

/// A simulated socket and its script.
struct Link {
    line: Line,
    script: Script,
    /// How many of the server's bytes the example has looked at. They stay in the kernel.
    looked_at: usize,
}

/// The server's end of a link.
struct Plug(Rc<RefCell<Link>>);

impl Wire for Plug {
    fn receive(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Link { line, script, .. } = &mut *self.0.borrow_mut();
        script.reads += 1;
        line.read(buffers, script)
    }

    fn transmit(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let Link { line, script, .. } = &mut *self.0.borrow_mut();
        script.writes += 1;
        line.write(buffers, script)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().line.shutdown_write()
    }

    fn delivery(&self) -> Option<Delivery> {
        self.0.borrow().script.delivery
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.0.borrow_mut().line.close();
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
#[derive(Clone)]
struct Client {
    tag: usize,
    link: Rc<RefCell<Link>>,
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
        let link = Rc::new(RefCell::new(Link {
            line: Line::new(usize::MAX, usize::MAX),
            script: Script::default(),
            looked_at: 0,
        }));
        let plug = Box::new(Plug(link.clone()));
        let transport = Transport::Plain(Socket::Simulated(plug));
        let (slot, serial) = self.reactor.take_in(transport, None, Via::Direct);
        self.reactor.welcome(slot);
        self.reactor.end_turn();
        Client {
            tag: connection_tag(slot, serial),
            link,
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
        client.arrive(bytes);
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
    fn line<T>(&self, look: impl FnOnce(&mut Line) -> T) -> T {
        look(&mut self.link.borrow_mut().line)
    }

    fn script<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.link.borrow_mut().script)
    }

    /// Bytes come, and are not reported yet.
    fn arrive(&self, bytes: &[u8]) {
        let size = self.line(|line| line.arrive(bytes));
        assert_eq!(size, bytes.len(), "there is room for all");
    }

    /// The FIN comes, and is not reported yet.
    fn arrive_fin(&self) {
        self.line(Line::arrive_fin);
    }

    /// Returns how many bytes the server has not read.
    fn unread(&self) -> usize {
        self.line(|line| line.incoming.len())
    }

    /// Returns what the server wrote since the last time.
    fn take(&self) -> Vec<u8> {
        let Link {
            line, looked_at, ..
        } = &mut *self.link.borrow_mut();
        let from = std::mem::replace(looked_at, line.sent.len());
        line.sent[from..].to_vec()
    }

    fn has_fin(&self) -> bool {
        self.line(|line| line.server_fin)
    }

    /// The kernel takes so many bytes more before it blocks; `None` for all.
    fn set_room(&self, room: Option<usize>) {
        self.line(|line| line.set_room(room.unwrap_or(usize::MAX)));
    }

    /// One write takes so many bytes at most.
    fn set_write_max(&self, most: usize) {
        self.script(|script| script.write_max = Some(most));
    }

    /// Lets the next call fail that is not to fail yet.
    fn fail_next(&self, kind: io::ErrorKind) {
        self.script(|script| script.failures.push_back(kind));
    }

    /// Returns how many calls of the server have read, and have written.
    fn calls(&self) -> (usize, usize) {
        self.script(|script| (script.reads, script.writes))
    }
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
