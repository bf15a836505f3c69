//! The reactor over simulated sockets and a clock that the test turns.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Read, Write};
use std::rc::Rc;
use std::task::Waker;

use super::*;
use crate::config::Config;
use crate::connection::Handle;
use crate::event::{ConnectionEvent, Disconnect, Error, Origin, Outcome, PeerClose, Ready};
use crate::protocol::mask;
use crate::transport::{Socket, Wire};

/// The other end of a simulated socket.
#[derive(Default)]
struct Line {
    /// What the peer sent and the server has not read.
    incoming: VecDeque<u8>,
    /// What the server wrote.
    outgoing: Vec<u8>,
    /// The peer sent FIN.
    peer_fin: bool,
    /// The server sent FIN.
    server_fin: bool,
    /// How many bytes the kernel takes before it blocks; `None` for all.
    room: Option<usize>,
    /// Most bytes taken by one write.
    write_max: Option<usize>,
    /// The next calls fail like this.
    failures: VecDeque<io::ErrorKind>,
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

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Cable {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().server_fin = true;
        Ok(())
    }
}

/// What happened, in the handlers' words.
type Log = Rc<RefCell<Vec<String>>>;

struct World {
    reactor: Reactor,
    start: Instant,
    at: u64,
    log: Log,
}

/// A client of the world.
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

    /// An echo server.
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

    /// Writes an event down, and goes on.
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
        let (slot, serial) = self.reactor.admit(transport, None);
        self.reactor.welcome(slot);
        self.reactor.end_turn();
        Client {
            tag: connection_tag(slot, serial),
            line,
        }
    }

    /// A client whose opening handshake is done.
    fn ready(&mut self) -> Client {
        let client = self.connect();
        self.send(&client, REQUEST);
        assert!(client.take().starts_with(b"HTTP/1.1 101 "));
        self.take_log();
        client
    }

    /// The client sends, the server has a turn.
    fn send(&mut self, client: &Client, bytes: &[u8]) {
        client.line.0.borrow_mut().incoming.extend(bytes);
        self.news(client, true, false);
    }

    fn news(&mut self, client: &Client, readable: bool, hangup: bool) {
        self.reactor.ready(client.tag, readable, hangup);
        self.turn();
    }

    fn turn(&mut self) {
        self.reactor.begin_turn();
        self.reactor.serve_waiting();
        self.reactor.expire();
        self.reactor.end_turn();
    }

    /// Time passes; the loop sleeps and wakes just as its deadlines say. Returns how often.
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
        self.reactor.links.is_empty() && self.reactor.core.peers.is_empty()
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

/// A client's frame.
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

#[test]
fn a_silent_client_is_cut_when_the_handshake_is_due() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.pass(9_999);
    assert_eq!(world.take_log(), ["connect"]);
    world.pass(17);
    let late = "handshake refused: request not complete within handshake_timeout";
    let why = "disconnect 1006 (request not complete within handshake_timeout)";
    assert_eq!(world.take_log(), [format!("error: {late}"), why.into()]);
    assert_eq!(client.take(), b"");
    assert!(world.is_empty());
}

#[test]
fn trickling_a_request_does_not_put_the_deadline_off() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    for byte in &REQUEST[..99] {
        world.send(&client, &[*byte]);
        world.pass(100);
    }
    assert_eq!(world.take_log(), ["connect"]);
    world.pass(200);
    let answer = client.take();
    assert!(
        answer.starts_with(b"HTTP/1.1 408 "),
        "{}",
        answer.escape_ascii()
    );
    assert_eq!(world.take_log().len(), 2);
    assert!(client.has_fin());
    // It has time to read the answer, but not for ever.
    world.pass(4_900);
    assert!(!world.is_empty());
    world.pass(200);
    assert!(world.is_empty());
}

#[test]
fn a_silent_peer_is_pinged_then_closed_then_cut() {
    let mut world = World::new(Config::default());
    let client = world.ready();
    world.pass(19_999);
    assert_eq!(client.take(), b"");
    world.pass(100);
    assert_eq!(client.take(), b"\x89\x00");
    world.pass(10_000);
    assert_eq!(client.take(), b"\x89\x00");
    world.pass(10_000);
    assert_eq!(client.take(), b"\x88\x02\x03\xe9");
    assert_eq!(world.take_log(), [""; 0]);
    world.pass(5_100);
    assert_eq!(
        world.take_log(),
        ["disconnect 1001 (silent for longer than idle_timeout)"]
    );
    assert!(world.is_empty());
}

#[test]
fn any_byte_puts_the_silence_off() {
    let mut world = World::new(Config::default());
    let client = world.ready();
    for _ in 0..10 {
        world.pass(20_100);
        assert_eq!(client.take(), b"\x89\x00");
        world.send(&client, &frame(0x8a, b""));
        assert_eq!(world.take_log(), ["pong"]);
    }
    // Half a frame is a sign of life, too.
    world.pass(19_000);
    world.send(&client, b"\x81");
    world.pass(19_000);
    assert_eq!(client.take(), b"");
}

#[test]
fn an_idle_loop_sleeps() {
    let mut world = World::new(Config {
        silence_max: Duration::ZERO,
        ..Config::default()
    });
    world.ready();
    assert!(
        world.pass(3_600_000) <= 1,
        "the entry of the opening handshake alone"
    );
    assert_eq!(world.reactor.next_deadline(), None);

    let mut world = World::new(Config::default());
    let client = world.ready();
    let mut turns = 0;
    for _ in 0..100 {
        turns += world.pass(10_000);
        world.send(&client, &frame(0x8a, b""));
    }
    // 1,000 s: a deadline for each byte heard at most, and one for each round of the wheel.
    assert!(turns <= 100 + 31, "{turns}");
}

#[test]
fn an_unanswered_close_is_cut_in_time() {
    let mut world = World::new(Config::default());
    world
        .reactor
        .handlers
        .set::<Utf8, _>(|conn, text| conn.disconnect(4000, text));
    let client = world.ready();
    world.send(&client, &frame(0x81, b"bye"));
    assert_eq!(client.take(), b"\x88\x05\x0f\xa0bye");
    // What comes after our Close is not delivered, but does not put the end off either.
    world.send(&client, &frame(0x81, b"late"));
    world.pass(4_999);
    assert_eq!(world.take_log(), [""; 0]);
    world.pass(17);
    assert_eq!(world.take_log(), ["disconnect 4000 (closed here) bye"]);
    assert!(world.is_empty());
}

#[test]
fn the_drain_ends_with_fin_or_in_time() {
    for fin in [true, false] {
        let mut world = World::new(Config::default());
        let client = world.ready();
        world.send(&client, &frame(0x88, b"\x0f\xa0bye"));
        assert_eq!(client.take(), b"\x88\x05\x0f\xa0bye");
        let expected = [
            "peer close Some(CloseCode(4000))",
            "disconnect 4000 (closed by the peer) bye",
        ];
        assert_eq!(world.take_log(), expected);
        assert!(client.has_fin() && !world.is_empty());
        world.send(&client, &vec![7; 100_000]);
        assert!(
            client.line.0.borrow().incoming.is_empty(),
            "it is read and thrown away"
        );
        if fin {
            client.line.0.borrow_mut().peer_fin = true;
            world.news(&client, true, true);
        } else {
            world.pass(4_900);
            assert!(!world.is_empty());
            world.pass(200);
        }
        assert!(world.is_empty());
        assert_eq!(world.take_log(), [""; 0]);
    }
}

#[test]
fn replies_leave_in_one_write_and_are_read_once() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let (reads, writes) = (client.line.0.borrow().reads, client.line.0.borrow().writes);
    let batch: Vec<u8> = (0..16)
        .flat_map(|at| frame(0x81, format!("{at}").as_bytes()))
        .collect();
    world.send(&client, &batch);
    let line = client.line.0.borrow();
    assert_eq!((line.reads - reads, line.writes - writes), (1, 1));
    assert!(line.outgoing.starts_with(b"\x81\x010\x81\x011\x81\x012"));
}

#[test]
fn a_large_reply_is_one_write_too() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let writes = client.line.0.borrow().writes;
    world.send(&client, &frame(0x82, &[7; 60_000]));
    // A simulated socket has no writev: one write for the header, and one for the payload that
    // lies in the read buffer.
    assert!(client.line.0.borrow().writes - writes <= 2);
    assert_eq!(client.take().len(), 60_004);
}

#[test]
fn partial_writes_keep_the_order_and_drain_once() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(3));
    let mut expected = Vec::new();
    for size in [5, 9_000, 20, 30_000] {
        let payload = vec![size as u8; size];
        world.send(&client, &frame(0x82, &payload));
        let header: Vec<u8> = match u16::try_from(size) {
            Ok(len @ 0..126) => vec![0x82, len as u8],
            _ => [&[0x82, 126], &(size as u16).to_be_bytes()[..]].concat(),
        };
        expected.extend([header, payload].concat());
    }
    assert_eq!(client.take(), expected[..3]);
    client.line.0.borrow_mut().write_max = Some(1_000);
    let mut got = expected[..3].to_vec();
    while got.len() < expected.len() {
        assert_eq!(world.take_log(), [""; 0]);
        client.set_room(Some(7_777));
        world.news(&client, false, false);
        let more = client.take();
        assert!(!more.is_empty(), "a partial write is no reason to stop");
        got.extend(more);
    }
    assert!(got == expected);
    assert_eq!(world.take_log(), ["drain"]);
    world.news(&client, false, false);
    assert_eq!(world.take_log(), [""; 0]);
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(0));
    let message = frame(0x82, &[7; 50_000]);
    let count = 100;
    for _ in 0..count {
        world.send(&client, &message);
        world.pass(100);
    }
    let slot = client.tag & SLOTS;
    let backlog = world.reactor.core.peers[slot].backlog();
    assert!(backlog > 512 << 10 && backlog < 600 << 10, "{backlog}");
    assert!(
        client.line.0.borrow().incoming.len() > 3_000_000,
        "TCP holds the rest back"
    );
    assert_eq!(world.pass(1_000), 0, "nothing to do but wait");

    // When it reads again, everything arrives.
    let mut got = 0;
    while got < count * 50_004 {
        client.set_room(Some(200_000));
        world.news(&client, false, false);
        while world.reactor.next_deadline() == Some(0) {
            world.turn();
        }
        let more = client.take().len();
        assert!(more > 0);
        got += more;
    }
    assert_eq!(got, count * 50_004);
    assert!(world.take_log().iter().all(|entry| entry == "drain"));
}

#[test]
fn a_stalled_client_is_given_up_in_time() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(0));
    for _ in 0..30 {
        world.send(&client, &frame(0x82, &[7; 50_000]));
    }
    world.pass(46_000);
    let expected = ["disconnect 1001 (silent for longer than idle_timeout)"];
    assert_eq!(world.take_log(), expected);
    assert!(world.is_empty());
}

#[test]
fn a_flood_is_served_in_shares() {
    let config = Config {
        turn_messages: 10,
        ..Config::default()
    };
    let mut world = World::new(config);
    world
        .reactor
        .handlers
        .set::<Utf8, _>(|conn, _| *conn.data::<usize>() += 1);
    let client = world.ready();
    let slot = client.tag & SLOTS;
    let heard = |world: &mut World| *Connection::new(&mut world.reactor.core, slot).data::<usize>();
    let flood = frame(0x81, b"x").repeat(95);
    client.line.0.borrow_mut().incoming.extend(flood);
    world.reactor.ready(client.tag, true, false);
    world.reactor.end_turn();
    assert_eq!(heard(&mut world), 10);
    for turn in 2..=10 {
        assert_eq!(
            world.reactor.next_deadline(),
            Some(0),
            "the loop does not sleep"
        );
        world.turn();
        assert_eq!(heard(&mut world), (turn * 10).min(95));
    }
    assert_ne!(world.reactor.next_deadline(), Some(0));
}

#[test]
fn a_full_read_is_followed_by_another_in_its_share() {
    let config = Config {
        read_buffer: 32 << 10,
        turn_bytes: 64 << 10,
        limits: crate::config::Limits {
            max_recv_size: 1 << 20,
            ..Default::default()
        },
        ..Config::default()
    };
    let mut world = World::new(config);
    world.note(Binary, |data| format!("{} bytes", data.len()));
    let client = world.ready();
    client
        .line
        .0
        .borrow_mut()
        .incoming
        .extend(frame(0x82, &[7; 300_000]));
    world.reactor.ready(client.tag, true, false);
    assert_eq!(world.take_log(), [""; 0]);
    assert!(
        client.line.0.borrow().incoming.len() >= 300_000 - (160 << 10),
        "others come first"
    );
    while world.reactor.next_deadline() == Some(0) {
        world.turn();
    }
    assert_eq!(world.take_log(), ["300000 bytes"]);
}

#[test]
fn interrupted_calls_are_made_again() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let interrupted = [io::ErrorKind::Interrupted; 3];
    client.line.0.borrow_mut().failures.extend(interrupted);
    world.send(&client, &frame(0x81, b"again"));
    assert_eq!(client.take(), b"\x81\x05again");
}

#[test]
fn a_reset_is_one_error_and_one_disconnect() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client
        .line
        .0
        .borrow_mut()
        .failures
        .push_back(io::ErrorKind::ConnectionReset);
    world.news(&client, true, true);
    let log = world.take_log();
    assert_eq!(
        log,
        ["error: connection reset", "disconnect 1006 (network error)"]
    );
    assert!(world.is_empty());
}

#[test]
fn a_write_that_fails_ends_the_connection_once() {
    for size in [5, 20_000] {
        let mut world = World::new(Config::default());
        world.reactor.handlers.set::<Binary, _>(|conn, data| {
            // The network fails during the first; the handler goes on.
            conn.send_binary(data)?;
            conn.send_binary(data)
        });
        let client = world.ready();
        client
            .line
            .0
            .borrow_mut()
            .incoming
            .extend(frame(0x82, &vec![7; size]));
        world.reactor.links[client.tag & SLOTS].readable = true;
        let cable = client.line.clone();
        world.reactor.handlers.set::<Ready, ()>(|_, ()| ());
        // The read succeeds, then every write fails.
        cable.0.borrow_mut().room = Some(0);
        world.reactor.ready(client.tag, true, false);
        cable
            .0
            .borrow_mut()
            .failures
            .push_back(io::ErrorKind::BrokenPipe);
        world.news(&client, false, false);
        let log = world.take_log();
        assert_eq!(
            log,
            ["error: broken pipe", "disconnect 1006 (network error)"],
            "{size}"
        );
        assert!(world.is_empty());
    }
}

#[test]
fn a_hangup_behind_a_short_read_is_seen() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.line.0.borrow_mut().peer_fin = true;
    client
        .line
        .0
        .borrow_mut()
        .incoming
        .extend(frame(0x81, b"last words"));
    // One edge for the bytes and the FIN.
    world.news(&client, true, true);
    assert_eq!(client.take(), b"\x81\x0alast words");
    let expected = [
        "peer close None",
        "disconnect 1006 (connection ended without a close frame)",
    ];
    assert_eq!(world.take_log(), expected);
    assert!(client.has_fin() && world.is_empty());
}

#[test]
fn a_false_hangup_does_not_spin() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    let reads = client.line.0.borrow().reads;
    world.news(&client, true, true);
    assert_eq!(client.line.0.borrow().reads - reads, 1);
    assert_ne!(world.reactor.next_deadline(), Some(0));
    world.send(&client, &frame(0x81, b"still here"));
    assert_eq!(client.take(), b"\x81\x0astill here");
}

#[test]
fn a_half_closed_client_gets_the_rest() {
    let mut world = World::echo(Config::default());
    let client = world.ready();
    client.set_room(Some(10));
    client.line.0.borrow_mut().peer_fin = true;
    client
        .line
        .0
        .borrow_mut()
        .incoming
        .extend(frame(0x82, &[7; 40_000]));
    world.news(&client, true, true);
    assert!(!world.is_empty() && !client.has_fin());
    client.set_room(None);
    world.news(&client, false, true);
    assert_eq!(client.take().len(), 40_004);
    assert!(client.has_fin() && world.is_empty());
}

#[test]
fn news_of_a_connection_that_is_gone_are_ignored() {
    let mut world = World::echo(Config::default());
    let old = world.ready();
    old.line.0.borrow_mut().peer_fin = true;
    world.news(&old, true, true);
    assert!(world.is_empty());
    let new = world.ready();
    assert_eq!(old.tag & SLOTS, new.tag & SLOTS, "the slot is used again");
    let reads = new.line.0.borrow().reads;
    world.news(&old, true, true);
    assert_eq!(new.line.0.borrow().reads, reads);
    world.send(&new, &frame(0x81, b"still here"));
    assert_eq!(new.take(), b"\x81\x0astill here");
}

#[test]
fn a_refusal_in_connect_is_answered_at_once() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Connect, _>(|_, ()| false);
    let client = world.connect();
    assert!(client.take().starts_with(b"HTTP/1.1 403 "));
    assert!(client.has_fin());
    // The request that comes later is not looked at.
    world.send(&client, REQUEST);
    assert_eq!(client.take(), b"");
    let log = world.take_log();
    assert_eq!(log, ["disconnect 1006 (refused with 403 Forbidden)"]);
}

#[test]
fn a_cut_sends_nothing_more() {
    let mut world = World::new(Config::default());
    world.reactor.handlers.set::<Utf8, _>(|conn, text| {
        let sent = conn.send_utf8(text);
        conn.shutdown();
        sent
    });
    let client = world.ready();
    world.send(&client, &frame(0x81, b"never").repeat(3));
    assert_eq!(world.take_log(), ["disconnect 1006 (cut)"]);
    assert!(world.is_empty() && !client.has_fin());
    assert_eq!(client.take(), b"");
}

#[test]
fn everyone_is_told_when_the_server_goes_down() {
    let mut world = World::new(Config::default());
    let ready = world.ready();
    let opening = world.connect();
    world.take_log();
    world.reactor.close_all();
    world.turn();
    assert_eq!(ready.take(), b"\x88\x02\x03\xe9");
    assert!(opening.take().starts_with(b"HTTP/1.1 503 "));
    world.reactor.cut_all();
    let mut log = world.take_log();
    log.sort();
    let expected = [
        "disconnect 1001 (server went down)",
        "disconnect 1006 (refused with 503 Service Unavailable)",
    ];
    assert_eq!(log, expected);
    assert!(world.is_empty());
}

#[test]
fn an_answer_of_the_origin_handler_comes_before_its_verdict() {
    let mut world = World::new(Config::default());
    world
        .reactor
        .handlers
        .set::<Origin, _>(|conn, _| conn.http_error(451).map(|()| false));
    let client = world.connect();
    world.send(&client, REQUEST);
    assert!(client.take().starts_with(b"HTTP/1.1 451 "));
}
