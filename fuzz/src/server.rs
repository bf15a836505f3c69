//! Scripts for a whole server. Clients connect, send arbitrary bytes, cut in any way, read or do
//! not read, and disconnect. Handlers echo and do what the script orders. Everything runs on one
//! thread, over Unix sockets, so that a script is deterministic.
//!
//! Each connection must have one `Connect` and one `Disconnect`, and no events outside of them. The
//! server must deliver the messages that a [`Receiver`] finds in the client's bytes. A client must
//! receive the responses to its handshake, and then whole frames with the replies and with what was
//! published to its topics, in order.

mod topics;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use wsloop::event::{
    Binary, Connect, Disconnect, Drain, Fragment, Handshake, Occupied, PeerClose, Ping, Pong,
    Ready, Request, Utf8, Vacated,
};
use wsloop::handshake::{Parser, Upgrade};
use wsloop::plain_http::Response;
use wsloop::protocol::deflate::{Context, InflateLimits, Inflater};
use wsloop::protocol::{Message, OpCode, Piece, Receiver};
use wsloop::{
    Compress, Connection, ConnectionId, DeflateConfig, Hub, Limits, Outgoing, Prepared, Server,
    SlowConsumer,
};

use crate::answers::Answer;
use crate::client::{chosen_frame, take_frame};
use crate::client_frames;
use crate::input::Input;

/// Settings (2 bytes), then steps: an action (1 byte), and its parameters (1 byte).
pub fn run(data: &[u8]) {
    // Rust's `main` ignores SIGPIPE, but libFuzzer's does not. With this handler a write to a
    // closed socket returns an error, and does not end the process.
    static BROKEN_PIPES: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
        let seen = Arc::default();
        let heard = signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&seen));
        heard.expect("signals can be heard");
        seen
    });
    LazyLock::force(&BROKEN_PIPES);
    let mut input = Input(data);
    let settings = Settings(input.short());
    let log = Rc::new(RefCell::new(Log {
        max_backlog: settings.max_backlog(),
        topics: topics::Model::new(settings.policy(), settings.limits_topics()),
        ..Log::default()
    }));
    let mut server = settings.server(&log);
    let mut clients = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut server, &log, &mut clients, &mut input);
    }

    // All clients disconnect, some of them after they have read everything. Deferred handshakes are
    // answered and paused connections resumed, because the server does not read from them.
    log.borrow_mut().orders.clear();
    for id in std::mem::take(&mut log.borrow_mut().deferred) {
        if let Some(mut conn) = server.hub().get(id) {
            let _ = conn.answer(|_, _| ());
        }
    }
    for id in server.hub().all_ids() {
        if let Some(mut conn) = server.hub().get(id) {
            conn.resume();
        }
    }
    for turn in 0..TURNS {
        for client in &mut clients {
            client.read(usize::MAX);
        }
        if turn == TURNS / 2 {
            for client in &clients {
                let _ = client.socket.shutdown(Shutdown::Both);
            }
        }
        take_turn(&mut server, &log);
    }
    assert!(
        server.hub().all_ids().is_empty(),
        "a client left and is not forgotten"
    );
    log.borrow().topics.check_end(&server.hub());
    drop(server);
    let log = log.borrow();
    for (id, seen) in &log.seen {
        assert!(seen.connected && seen.disconnected, "{id:?}: {seen:?}");
    }
    let mut received = Vec::new();
    for client in &mut clients {
        client.read(usize::MAX);
        match client.id.and_then(|id| log.seen.get(&id)) {
            Some(seen) => client.check(&settings, seen, &mut received),
            // The server refused the client: there were too many connections, or it was shutting
            // down.
            None => assert!(client.got.is_empty() || client.got.starts_with(b"HTTP/1.1 503 ")),
        }
    }
    log.topics.check_reach(&received);
}

/// The largest number of steps in a script.
const STEPS: usize = 200;

/// The number of turns until all clients have disconnected.
const TURNS: usize = 40;

/// The configuration of the server.
struct Settings(u16);

impl Settings {
    fn bit(&self, bit: u16) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// Returns whether the number of connections is limited.
    fn few(&self) -> bool {
        self.bit(0)
    }

    fn plain(&self) -> bool {
        self.bit(1)
    }

    fn deflates(&self) -> bool {
        self.bit(2)
    }

    fn pieces(&self) -> bool {
        self.bit(3)
    }

    fn policy(&self) -> SlowConsumer {
        match self.0 >> 4 & 3 {
            0 => SlowConsumer::Error,
            1 => SlowConsumer::Close,
            2 => SlowConsumer::DropNewest,
            _ => SlowConsumer::DropOldest,
        }
    }

    fn max_recv_size(&self) -> usize {
        [64 << 10, 500][usize::from(self.bit(6))]
    }

    fn max_backlog(&self) -> usize {
        [1 << 20, 2000][usize::from(self.bit(7))]
    }

    fn limits_topics(&self) -> bool {
        self.bit(13)
    }

    fn server(&self, log: &Rc<RefCell<Log>>) -> Server {
        let mut builder = Server::builder()
            .headless(true)
            .max_recv_size(self.max_recv_size())
            .max_send_size(200 << 10)
            .max_fragments(if self.bit(8) { 3 } else { 1000 })
            .max_backlog(self.max_backlog())
            .slow_consumer(self.policy())
            .read_buffer(if self.bit(9) { 32 << 10 } else { 64 << 10 })
            .bad_handshakes(self.bit(10))
            .subprotocols(["a"]);
        if self.few() {
            builder = builder.max_connections(2);
        }
        if self.bit(11) {
            builder = builder.turn_bytes(300).turn_messages(3);
        }
        if self.deflates() {
            let config = match self.bit(12) {
                false => DeflateConfig::shared(),
                true => DeflateConfig::dedicated(),
            };
            let config = config.threshold(20).compress_binary(true).max_ratio(1000);
            builder = builder.deflate(config);
        }
        builder = topics::settings(builder, self.limits_topics());
        let (occupied, vacated) = (log.clone(), log.clone());
        builder = builder
            .on(Occupied, move |hub, topic| {
                occupied.borrow_mut().topics.told(hub, topic, true);
            })
            .on(Vacated, move |hub, topic| {
                vacated.borrow_mut().topics.told(hub, topic, false);
            });
        /// Registers a handler that records the event and executes an order.
        macro_rules! on {
            ($builder:ident, $event:ident, |$conn:ident, $payload:ident, $log:ident| $body:expr) => {{
                let log = log.clone();
                $builder = $builder.on($event, move |$conn, $payload| {
                    let $log = &log;
                    $log.borrow_mut().check($conn);
                    $body
                });
            }};
        }
        on!(builder, Connect, |conn, _payload, log| {
            let mut log = log.borrow_mut();
            log.order.push(conn.id());
            log.seen.entry(conn.id()).or_default().connected = true;
            log.orders.pop_if(|order| *order & 0x3f == 0x3f).is_none()
        });
        on!(builder, Handshake, |conn, upgrade, log| handshake(
            conn, upgrade, log
        ));
        on!(builder, Ready, |conn, _payload, log| {
            log.borrow_mut().seen(conn).ready += 1;
            act(conn, log, b"ready")
        });
        on!(builder, Utf8, |conn, text, log| {
            log.borrow_mut()
                .delivered(conn, OpCode::Text, text.as_bytes());
            act(conn, log, text.as_bytes())
        });
        on!(builder, Binary, |conn, bytes, log| {
            log.borrow_mut().delivered(conn, OpCode::Binary, bytes);
            act(conn, log, bytes)
        });
        if self.pieces() {
            on!(builder, Fragment, |conn, piece, log| {
                log.borrow_mut().piece(conn, piece);
                act(conn, log, piece.payload)
            });
        }
        on!(builder, Ping, |conn, payload, log| {
            let mut log = log.borrow_mut();
            log.delivered(conn, OpCode::Ping, payload);
            let refused = log.orders.pop_if(|order| *order & 0x3f == 0x3e).is_some();
            !refused
        });
        on!(builder, Pong, |conn, payload, log| {
            log.borrow_mut().delivered(conn, OpCode::Pong, payload);
        });
        on!(builder, Drain, |conn, _payload, log| act(
            conn, log, b"drain"
        ));
        on!(builder, PeerClose, |conn, close, log| {
            if let Some(close) = close {
                let code = close.code.as_u16().to_be_bytes();
                let body = [&code[..], close.reason.as_bytes()].concat();
                log.borrow_mut().delivered(conn, OpCode::Close, &body);
            }
            act(conn, log, b"close")
        });
        on!(builder, Disconnect, |conn, _payload, log| {
            let sent = conn.send_utf8("late");
            assert!(sent.is_err(), "sent after the end");
            let mut log = log.borrow_mut();
            log.seen(conn).disconnected = true;
            log.topics.leave(conn);
        });
        if self.plain() {
            on!(builder, Request, |_conn, request, log| {
                let status = log
                    .borrow_mut()
                    .orders
                    .pop()
                    .map_or(200, |order| 200 + u16::from(order));
                Response::new(status).body(request.body())
            });
        }
        builder.build().expect("good settings")
    }
}

/// What the handlers have seen and done.
#[derive(Default)]
struct Log {
    max_backlog: usize,
    /// Further actions of the handlers; the last one is executed next.
    orders: Vec<u8>,
    seen: BTreeMap<ConnectionId, Seen>,
    /// The connections in the order of their `Connect` events.
    order: Vec<ConnectionId>,
    /// The connections whose handshakes are deferred.
    deferred: Vec<ConnectionId>,
    topics: topics::Model,
}

/// A message that a client must receive, or may receive.
#[derive(Clone, Debug)]
struct Item {
    opcode: OpCode,
    /// The possible contents: there are several if a message may have taken its place.
    payloads: Vec<Vec<u8>>,
    /// The topic, and the key in it, if it was published with one.
    key: Option<(usize, u8)>,
    /// Whether the message was not dropped.
    is_sure: bool,
}

/// Delivered messages.
type Delivered = Vec<(OpCode, Vec<u8>)>;

/// The record of one connection.
#[derive(Debug, Default)]
struct Seen {
    connected: bool,
    ready: usize,
    disconnected: bool,
    delivered: Delivered,
    /// Whether the last of `delivered` is incomplete, because further pieces follow.
    piecewise: bool,
    /// Messages that were accepted for sending.
    sent: Vec<Item>,
    /// The message that is being sent in parts.
    parts: Option<Vec<u8>>,
}

impl Log {
    fn seen(&mut self, conn: &Connection<'_>) -> &mut Seen {
        self.seen.entry(conn.id()).or_default()
    }

    /// Checks that the event comes before the connection's `Disconnect`.
    fn check(&mut self, conn: &Connection<'_>) {
        assert!(!self.seen(conn).disconnected, "an event after Disconnect");
    }

    fn delivered(&mut self, conn: &Connection<'_>, opcode: OpCode, payload: &[u8]) {
        let seen = self.seen(conn);
        assert_eq!(seen.ready, 1);
        assert!(
            !seen.piecewise || opcode.is_control(),
            "a message within another"
        );
        seen.delivered.push((opcode, payload.to_vec()));
    }

    /// Joins pieces into one message.
    fn piece(&mut self, conn: &Connection<'_>, piece: Piece<'_>) {
        let seen = self.seen(conn);
        assert_eq!(piece.first, !seen.piecewise);
        seen.piecewise = !piece.last;
        let under_way = seen
            .delivered
            .iter_mut()
            .rfind(|message| !message.0.is_control());
        match under_way {
            Some((opcode, payload)) if !piece.first => {
                assert_eq!(*opcode, piece.opcode);
                payload.extend_from_slice(piece.payload);
            }
            _ => seen.delivered.push((piece.opcode, piece.payload.to_vec())),
        }
    }

    fn part(&mut self, conn: &Connection<'_>, part: &[u8]) {
        let parts = self.seen(conn).parts.as_mut();
        parts.expect("it was begun").extend_from_slice(part);
    }

    fn sent(&mut self, id: ConnectionId, opcode: OpCode, payload: &[u8]) {
        let is_sure = self.topics.policy != SlowConsumer::DropOldest;
        let seen = self.seen.get_mut(&id).expect("it is connected");
        seen.sent.push(Item {
            opcode,
            payloads: vec![payload.to_vec()],
            key: None,
            is_sure,
        });
    }
}

fn handshake(conn: &mut Connection<'_>, upgrade: &mut Upgrade, log: &RefCell<Log>) -> bool {
    let mut log = log.borrow_mut();
    match log.orders.pop_if(|order| *order & 0x38 == 0x30) {
        Some(0x30) => return false,
        Some(0x31) => upgrade.set_deflate(None),
        Some(0x32) => {
            upgrade.defer().expect("a deferral");
            log.deferred.push(conn.id());
        }
        Some(0x33) => upgrade.refuse(404).expect("a refusal"),
        Some(0x34) => upgrade.header("X", "y").expect("a header"),
        _ => {}
    }
    true
}

/// Sends the payload back, and executes the next order.
fn act(conn: &mut Connection<'_>, log: &RefCell<Log>, payload: &[u8]) -> Result<(), &'static str> {
    let order = log.borrow_mut().orders.pop().unwrap_or(0);
    if order & 0x40 == 0 {
        send(conn, log, OpCode::Binary, payload);
    }
    match order & 0x1f {
        1 => return Err("the script says so"),
        2 => {
            let _ = conn.disconnect(1000 + u16::from(order >> 5), "");
        }
        3 => abort(conn, log),
        4 => conn.pause(),
        5 => conn.resume(),
        6 => {
            send(conn, log, OpCode::Text, &[b'a'; 5000]);
            send(conn, log, OpCode::Binary, &[7; 40_000]);
        }
        7 => broadcast(&mut conn.server(), log, b"to all"),
        // Does nothing if a message in parts is already in progress.
        8 if conn.start_message(OpCode::Text, Compress::Auto).is_ok() => {
            let parts: [&[u8]; 3] = [b"in ", b"", b"parts"];
            let good = parts.map(|part| conn.send_part(part));
            let ended = conn.end_message("!").is_ok();
            if ended && good.iter().all(Result::is_ok) {
                log.borrow_mut().sent(conn.id(), OpCode::Text, b"in parts!");
            } else {
                abort(conn, log);
            }
        }
        9 => conn.set_max_recv_size(100),
        10 => {
            let _ = conn.ping(payload.get(..100).unwrap_or(payload));
        }
        11 => {
            let others = conn.server().all_ids();
            if let Some(id) = others.into_iter().find(|id| *id != conn.id())
                && let Some(mut other) = conn.server().get(id)
            {
                send(&mut other, log, OpCode::Text, b"from a neighbour");
                other.disconnect(4000, "by a neighbour").unwrap_or_default();
            }
        }
        12 => conn.set_lifetime(Some(Duration::ZERO)),
        13 => {
            conn.set_timer(Duration::ZERO, |conn| conn.pong(b"timer"));
        }
        14 => {
            let _ = conn.http_error(404);
        }
        15 => conn.server().shutdown(),
        16 if conn.start_message(OpCode::Text, Compress::Yes).is_ok() => {
            log.borrow_mut().seen(conn).parts = Some(Vec::new());
        }
        17 if conn.send_part([b'p'; 100]).is_ok() => log.borrow_mut().part(conn, &[b'p'; 100]),
        18 if conn.end_message("end").is_ok() => {
            let mut log = log.borrow_mut();
            log.part(conn, b"end");
            let message = log.seen(conn).parts.take().expect("it was begun");
            log.sent(conn.id(), OpCode::Text, &message);
        }
        19 | 20 => {
            let choice =
                [Compress::Auto, Compress::Yes, Compress::No][usize::from(order >> 5 & 3) % 3];
            let parts = [payload, b"", &[b'm'; 3000], payload];
            let sent = match order & 1 {
                0 => conn.send_message(Outgoing::parts(OpCode::Binary, &parts).compress(choice)),
                _ => conn.send_message(
                    Outgoing::parts(OpCode::Binary, &parts)
                        .in_frames()
                        .compress(choice),
                ),
            };
            if sent.is_ok_and(|sent| !sent.is_dropped()) {
                log.borrow_mut()
                    .sent(conn.id(), OpCode::Binary, &parts.concat());
            }
        }
        21 => {
            let choice = if order & 0x20 != 0 {
                Compress::Yes
            } else {
                Compress::No
            };
            let sent =
                conn.send_message(Outgoing::parts(OpCode::Text, &[&[b'w'; 600]]).compress(choice));
            if sent.is_ok_and(|sent| !sent.is_dropped()) {
                log.borrow_mut().sent(conn.id(), OpCode::Text, &[b'w'; 600]);
            }
        }
        what @ 22..28 => {
            let how = log.borrow_mut().orders.pop().unwrap_or(order);
            topics::act(conn, log, what - 22, how);
        }
        _ => {}
    }
    Ok(())
}

fn abort(conn: &mut Connection<'_>, log: &RefCell<Log>) {
    conn.abort();
    log.borrow_mut().topics.aborted(conn.id());
}

fn send(conn: &mut Connection<'_>, log: &RefCell<Log>, opcode: OpCode, payload: &[u8]) {
    if conn
        .send(opcode, payload)
        .is_ok_and(|sent| !sent.is_dropped())
    {
        let mut log = log.borrow_mut();
        log.sent(conn.id(), opcode, payload);
        // A message is accepted while at most half of the backlog is in use; control frames may add
        // 4 KiB.
        let most = log
            .max_backlog
            .max(log.max_backlog / 2 + payload.len() + 10)
            + (4 << 10);
        assert!(
            conn.backlog() <= most,
            "{} bytes are queued",
            conn.backlog()
        );
    }
}

fn broadcast(hub: &mut Hub<'_>, log: &RefCell<Log>, payload: &[u8]) {
    let message = Prepared::binary(payload);
    hub.for_each(|conn| {
        if conn
            .send_prepared(&message)
            .is_ok_and(|sent| !sent.is_dropped())
        {
            log.borrow_mut().sent(conn.id(), OpCode::Binary, payload);
        }
    });
}

fn take_turn(server: &mut Server, log: &RefCell<Log>) {
    let before = log.borrow().seen.len();
    server
        .turn(Some(Duration::ZERO))
        .expect("no client can make it fail");
    let log = log.borrow();
    assert!(log.seen.len() >= before);
}

/// A client.
struct Client {
    socket: UnixStream,
    /// The connection's id, unless the server refused the client.
    id: Option<ConnectionId>,
    /// The bytes that the client has sent and received.
    sent: Vec<u8>,
    got: Vec<u8>,
    gone: bool,
}

impl Client {
    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.gone {
            match self.socket.write(bytes) {
                Ok(size) => {
                    self.sent.extend_from_slice(&bytes[..size]);
                    bytes = &bytes[size..];
                }
                // If the socket is full, the rest is never sent, nor anything after it.
                Err(_) => self.gone = true,
            }
        }
    }

    fn read(&mut self, most: usize) {
        let mut room = vec![0; most.min(64 << 10)];
        loop {
            match self.socket.read(&mut room) {
                Ok(0) => return,
                Ok(size) => self.got.extend_from_slice(&room[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return,
            }
            if most < usize::MAX {
                return;
            }
        }
    }

    /// Compares the bytes of the client with the record of the handlers.
    /// Adds the texts that it received to `received`.
    fn check(&self, settings: &Settings, seen: &Seen, received: &mut Vec<Vec<u8>>) {
        let mut got = self.got.clone();
        let mut switched = false;
        while !switched && !got.is_empty() {
            let Some(answer) = Answer::try_parse(&got) else {
                return;
            };
            switched = answer.status == 101;
            let end = answer.size + answer.length().unwrap_or(0);
            if end > got.len() {
                return;
            }
            got.drain(..end);
            if !switched
                && answer
                    .values("connection")
                    .iter()
                    .any(|value| value.ends_with(b"close"))
            {
                assert!(got.is_empty(), "something behind the last answer");
            }
        }
        // The 101 may be unread, after the responses to plain requests.
        assert!(seen.ready <= 1 && (switched || seen.ready == 0 || got.is_empty()));
        if !settings.plain()
            && let Some((mut expected, is_valid)) = self.expected(settings)
        {
            // The server may have stopped delivering at any time, but the messages that it
            // delivered must be correct.
            let data = |message: &(OpCode, Vec<u8>)| !message.0.is_control();
            let mut delivered = seen.delivered.clone();
            if seen.piecewise
                && let Some(at) = delivered.iter().rposition(data)
            {
                if !is_valid {
                    // How much of an invalid message is delivered depends on how it was cut.
                    delivered.remove(at);
                    if expected.get(at).is_some_and(data) {
                        expected.remove(at);
                    }
                } else if let Some(message) = expected.get_mut(at) {
                    message.1.truncate(delivered[at].1.len());
                }
            }
            assert!(
                expected.starts_with(&delivered),
                "expected {expected:?}, delivered {delivered:?}",
            );
        }
        self.check_replies(settings, seen, got, received);
    }

    /// Finds the messages in the bytes of the client, and whether nothing invalid follows them;
    /// returns `None` if they are not determined.
    fn expected(&self, settings: &Settings) -> Option<(Delivered, bool)> {
        let limits = Limits::default();
        let (request, taken) = Parser::new(&limits).parse(&self.sent).ok()??;
        request.accept_key().ok()?;
        let compressed = String::from_utf8_lossy(&self.got).contains("permessage-deflate");
        let mut limits = Limits::default();
        limits.max_recv_size = 1 << 20;
        limits.max_fragments = usize::MAX;
        let mut receiver = Receiver::new(&limits);
        receiver.allow_compressed(compressed && settings.deflates());
        receiver.allow_pieces(settings.pieces());
        let (mut inflater, mut room) = (Inflater::new(), Vec::new());
        let mut bytes = self.sent[taken..].to_vec();
        let mut rest = &mut bytes[..];
        let mut expected = Delivered::new();
        // The opcode of a message in pieces that has no content yet.
        let mut begin = None;
        let extend =
            |expected: &mut Vec<(OpCode, Vec<u8>)>, begin: &mut Option<OpCode>, bytes: &[u8]| {
                if let Some(opcode) = begin.take() {
                    expected.push((opcode, Vec::new()));
                }
                let under_way = expected.iter_mut().rfind(|message| !message.0.is_control());
                under_way.expect("it was begun").1.extend_from_slice(bytes);
            };
        loop {
            let message = match receiver.next(&mut rest) {
                Ok(Some(message)) => message,
                next => return Some((expected, next.is_ok())),
            };
            expected.push(match message {
                Message::Text(text) => (OpCode::Text, text.as_bytes().to_vec()),
                Message::Binary(bytes) => (OpCode::Binary, bytes.to_vec()),
                Message::Ping(bytes) => (OpCode::Ping, bytes.to_vec()),
                Message::Pong(bytes) => (OpCode::Pong, bytes.to_vec()),
                Message::Close(close) => {
                    let code = close.code.as_u16().to_be_bytes();
                    (OpCode::Close, [&code[..], close.reason.as_bytes()].concat())
                }
                Message::Compressed(opcode, bytes) => {
                    let message = inflater.message(
                        bytes,
                        Context::Keep,
                        InflateLimits::new(1 << 20, usize::MAX),
                        &mut room,
                    );
                    let Ok(message) = message else {
                        return Some((expected, false));
                    };
                    (opcode, message.to_vec())
                }
                Message::Piece(piece) => {
                    if piece.first {
                        begin = Some(piece.opcode);
                    }
                    extend(&mut expected, &mut begin, piece.payload);
                    continue;
                }
                Message::CompressedPiece(piece) => {
                    if piece.first {
                        begin = Some(piece.opcode);
                        inflater.begin(Context::Keep, usize::MAX);
                    }
                    let mut rest = piece.payload;
                    let mut made = Vec::new();
                    let mut room = vec![0; 64 << 10];
                    loop {
                        match inflater.piece(&mut rest, piece.last, &mut room) {
                            Ok((size, _)) if size == room.len() => made.extend_from_slice(&room),
                            Ok((size, _)) => break made.extend_from_slice(&room[..size]),
                            // It is not determined whether the output before the error was
                            // delivered.
                            Err(_) => return None,
                        }
                    }
                    if piece.last || !made.is_empty() {
                        extend(&mut expected, &mut begin, &made);
                    }
                    continue;
                }
                message => panic!("unknown: {message:?}"),
            });
        }
    }

    /// Checks that frames are complete and arrive in order, and that a Close frame is the last.
    fn check_replies(
        &self,
        settings: &Settings,
        seen: &Seen,
        mut got: Vec<u8>,
        received: &mut Vec<Vec<u8>>,
    ) {
        let mut sent = seen.sent.iter();
        let mut pings = seen
            .delivered
            .iter()
            .filter(|message| message.0 == OpCode::Ping);
        let (mut inflater, mut room) = (Inflater::new(), Vec::new());
        let mut under_way: Option<(u8, Vec<u8>)> = None;
        while let Some(frame) = take_frame(&mut got) {
            match frame.first & 0xf {
                8 => {
                    assert!(got.is_empty(), "something behind the Close frame");
                    let missing = sent.find(|item| item.is_sure);
                    assert!(missing.is_none(), "{missing:?} is missing");
                    return;
                }
                9 => continue,
                10 => {
                    let timer = frame.payload == b"timer";
                    assert!(
                        timer || pings.any(|ping| ping.1 == frame.payload),
                        "a pong to no ping"
                    );
                    continue;
                }
                0 => under_way
                    .as_mut()
                    .expect("a first frame")
                    .1
                    .extend_from_slice(&frame.payload),
                _ => {
                    assert!(under_way.is_none(), "a message within another");
                    under_way = Some((frame.first, frame.payload));
                }
            }
            if frame.first & 0x80 == 0 {
                continue;
            }
            let (first, mut payload) = under_way.take().expect("it was begun");
            if first & 0x40 != 0 {
                assert!(settings.deflates());
                let plain = inflater.message(
                    &payload,
                    Context::Keep,
                    InflateLimits::new(usize::MAX, usize::MAX),
                    &mut room,
                );
                payload = plain.expect("it can be expanded").to_vec();
            }
            let opcode = if first & 0xf == 1 {
                OpCode::Text
            } else {
                OpCode::Binary
            };
            let is = |item: &Item| item.opcode == opcode && item.payloads.contains(&payload);
            // Some of the messages may have been dropped.
            let next = sent.find(|item| item.is_sure || is(item));
            assert!(next.is_some_and(is), "{payload:?} instead of {next:?}");
            // Published messages are texts. What a client sends comes back as binary.
            if opcode == OpCode::Text {
                received.push(payload);
            }
        }
    }
}

fn step(server: &mut Server, log: &RefCell<Log>, clients: &mut Vec<Client>, input: &mut Input<'_>) {
    let (does, how) = (input.byte(), input.byte());
    match does & 15 {
        0 => take_turn(server, log),
        1 if clients.len() < 4 => {
            let (ours, theirs) = UnixStream::pair().expect("descriptors are left");
            ours.set_nonblocking(true).expect("a socket");
            if does & 0x10 != 0 {
                // The socket buffer is small.
                let socket = socket2::SockRef::from(&theirs);
                socket.set_send_buffer_size(1).expect("a socket");
            }
            let read = if does & 0x20 != 0 {
                request(how)
            } else {
                Vec::new()
            };
            server.hub().adopt(theirs, read.clone());
            // The server takes a turn for each client, so that its `Connect` identifies it.
            let before = log.borrow().order.len();
            take_turn(server, log);
            clients.push(Client {
                socket: ours,
                id: log.borrow().order.get(before).copied(),
                sent: read,
                got: Vec::new(),
                gone: false,
            });
        }
        2 => {
            log.borrow_mut().orders.push(how);
        }
        3 => {
            let bytes = request(how);
            with(clients, does, |client| client.send(&bytes));
        }
        4 => {
            let bytes = input.bytes(usize::from(how));
            with(clients, does, |client| client.send(bytes));
        }
        5..=7 => {
            // A valid frame, sent at once or in two halves with a turn of the server in between.
            let (mut bytes, mut out) = (Vec::new(), input.bytes(usize::from(how & 0x7f)).to_vec());
            let first = match does & 15 {
                5 => 0x81,
                6 => 0x82,
                _ => [0x01, 0x80, 0x89, 0x8a, 0x88, 0xc1, 0xc2, 0x00][usize::from(how & 7)],
            };
            if first & 0xf == 1 {
                out = String::from_utf8_lossy(&out).into_owned().into_bytes();
            }
            if first & 8 != 0 {
                out.truncate(125);
            }
            client_frames::append(&mut bytes, first, Some([1, 2, 3, how]), &out);
            with(clients, does, |client| {
                if how & 0x80 != 0 {
                    let (front, back) = bytes.split_at(bytes.len() / 2);
                    client.send(front);
                    take_turn(server, log);
                    client.send(back);
                } else {
                    client.send(&bytes);
                }
            });
        }
        8 => {
            let mut bytes = Vec::new();
            chosen_frame(input, &mut bytes);
            with(clients, does, |client| client.send(&bytes));
        }
        9 => with(clients, does, |client| {
            client.read(usize::from(how) * 16 + 1)
        }),
        10 => with(clients, does, |client| {
            let _ = client.socket.shutdown(Shutdown::Write);
            client.gone = true;
        }),
        11 => with(clients, does, |client| {
            let _ = client.socket.shutdown(Shutdown::Both);
            client.gone = true;
        }),
        12 => broadcast(&mut server.hub(), log, &[how; 50]),
        13 => {
            let mut hub = server.hub();
            let ids = hub.all_ids();
            if let Some(id) = ids.get(usize::from(does >> 4) % ids.len().max(1))
                && let Some(mut conn) = hub.get(*id)
            {
                let _ = act_between(&mut conn, log, how);
            }
        }
        14 => {
            let id = log.borrow_mut().deferred.pop();
            if let Some(id) = id
                && let Some(mut conn) = server.hub().get(id)
            {
                let _ = conn.answer(|_, upgrade| {
                    if how & 1 != 0 {
                        upgrade.refuse(403).unwrap_or_default()
                    }
                });
            }
        }
        _ => {
            let mut hub = server.hub();
            let ids = hub.all_ids();
            let what = does >> 4 & 7;
            let conn = ids.get(usize::from(how >> 6) % ids.len().max(1));
            match conn.and_then(|id| hub.get(*id)) {
                Some(mut conn) if what < 6 => topics::act(&mut conn, log, what, how),
                _ => topics::publish(&mut hub, log, how),
            }
        }
    }
}

/// Performs an action on a connection between two turns.
fn act_between(conn: &mut Connection<'_>, log: &RefCell<Log>, how: u8) -> Result<(), &'static str> {
    log.borrow_mut().orders.push(how);
    act(conn, log, &[how; 30])
}

fn with(clients: &mut [Client], does: u8, action: impl FnOnce(&mut Client)) {
    let count = clients.len().max(1);
    if let Some(client) = clients.get_mut(usize::from(does >> 4) % count) {
        action(client);
    }
}

/// Returns one of several requests, most of them for an upgrade.
fn request(how: u8) -> Vec<u8> {
    let more = match how & 7 {
        1 => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        2 => "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n",
        3 => "Sec-WebSocket-Protocol: b, a\r\n",
        4 => "Sec-WebSocket-Version: 12\r\n",
        5 => "Content-Length: 3\r\n",
        _ => "",
    };
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = if how & 8 != 0 { "" } else { upgrade };
    format!("GET /x HTTP/1.1\r\nHost: a\r\n{more}{upgrade}\r\n").into_bytes()
}
