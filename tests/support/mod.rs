//! Shared by the tests over real sockets: a server on its own thread, and a client that can send
//! valid and invalid data.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../src/client_frames.rs"]
pub(crate) mod client_frames;
pub mod events;
pub mod journal;
pub mod process;
pub mod temp;
#[cfg(feature = "tls")]
pub mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use client_frames::Header;
use wsloop::{Builder, Handle, Server, ServerThread, Stats, WindDown};

pub(crate) use client_frames::frame;

/// Long enough for everything that happens; only failing tests wait this long.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A server on its own thread. It shuts down when this is dropped.
pub struct Running {
    pub addr: SocketAddr,
    pub addrs: Vec<SocketAddr>,
    pub handle: Handle,
    thread: Option<ServerThread>,
}

impl Running {
    /// Starts a server that `configure` builds, which listens on a free port.
    pub fn start(configure: impl FnOnce(Builder) -> Builder + Send + 'static) -> Self {
        Self::start_on(move || configure(Server::builder().listen("127.0.0.1:0")))
    }

    /// Starts a server that `configure` builds, including its listeners.
    pub fn start_on(configure: impl FnOnce() -> Builder + Send + 'static) -> Self {
        let thread = Server::spawn(configure).unwrap();
        let (addrs, handle) = (thread.local_addrs().to_vec(), thread.handle().clone());
        let addr = addrs
            .first()
            .copied()
            .unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        Self {
            addr,
            addrs,
            handle,
            thread: Some(thread),
        }
    }

    /// Starts an echo server with default limits.
    pub fn echo() -> Self {
        Self::start(echo)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Connects a client, and performs the opening handshake.
    pub fn ready(&self) -> Client {
        let mut client = self.client();
        client.upgrade();
        client
    }

    /// Shuts the server down, waits for its end, and returns its counters.
    pub fn stop(mut self) -> Stats {
        self.handle.shutdown().unwrap();
        self.join()
    }

    /// Waits until the server ends.
    pub fn join(&mut self) -> Stats {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    /// Ends the server. A client that the test still holds would not answer the Close frame, and
    /// the server would wait for `close_timeout`.
    fn drop(&mut self) {
        if self.thread.is_some() {
            let soon = WindDown::within(Duration::from_millis(100));
            // The server may have ended.
            let _ = self.handle.wind_down(soon);
        }
    }
}

/// Registers handlers that echo text and binary messages.
pub fn echo(builder: Builder) -> Builder {
    use wsloop::event::{Binary, Utf8};
    builder
        .on(Utf8, |conn, text| conn.send_utf8(text))
        .on(Binary, |conn, data| conn.send_binary(data))
}

/// Creates a log, into which handlers write and from which the test reads.
pub fn log() -> (Sender<String>, Log) {
    let (sender, receiver) = mpsc::channel();
    (sender, Log(receiver))
}

pub struct Log(Receiver<String>);

impl Log {
    /// Waits for the next entry.
    #[track_caller]
    pub fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("the log goes on")
    }

    /// Waits for exactly these entries, in this order.
    #[track_caller]
    pub fn expect(&self, entries: &[&str]) {
        for entry in entries {
            assert_eq!(self.next(), *entry);
        }
    }

    /// Returns all remaining entries, when all senders have been dropped.
    pub fn rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Ok(entry) = self.0.recv_timeout(PATIENCE) {
            rest.push(entry);
        }
        rest
    }
}

/// A frame of the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

/// A client that sends valid and invalid data over any byte stream.
pub struct Client<S = TcpStream> {
    pub stream: S,
    /// Bytes that were read but not used.
    read: Vec<u8>,
}

/// A request that the server accepts.
pub const REQUEST: &str = "GET /chat?room=7 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Returns the request above with additional header lines; each line ends in `\r\n`.
pub fn request_with(lines: &str) -> String {
    let end = REQUEST.len() - 2;
    format!("{}{lines}\r\n", &REQUEST[..end])
}

impl Client<TcpStream> {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Sends a FIN, unless the server has reset the connection.
    pub fn shutdown_write(&self) {
        if let Err(error) = self.stream.shutdown(Shutdown::Write) {
            assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
        }
    }

    /// Closes the connection with RST.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

impl Client<UnixStream> {
    /// Connects to a Unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Sends bytes unchanged.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Performs the opening handshake.
    #[track_caller]
    pub fn upgrade(&mut self) -> Response {
        let response = self.request(REQUEST);
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(
            response.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        response
    }

    /// Sends a request, and reads the response.
    #[track_caller]
    pub fn request(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send_raw(request);
        self.response()
    }

    /// Reads an HTTP response, with its body if it has a length.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let mut response = self.response_head();
        if let Some(length) = response.header("content-length") {
            let length = length.parse().unwrap();
            response.body = self.read_exactly(length);
        }
        response
    }

    /// Reads an HTTP response that has no body, whatever length it states.
    #[track_caller]
    pub fn response_head(&mut self) -> Response {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read_exactly(1));
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status_line = lines.next().unwrap().to_owned();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Response {
            status,
            status_line,
            headers,
            body: Vec::new(),
        }
    }

    /// Sends a masked frame with a minimal length. `first` is FIN, the reserved bits and the
    /// opcode.
    #[track_caller]
    pub fn send_frame(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        let bytes = frame(first, payload.as_ref());
        self.send_raw(bytes);
    }

    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.send_frame(0x81, text);
    }

    /// Sends a Close frame.
    #[track_caller]
    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.send_frame(0x88, [&code.to_be_bytes(), reason.as_bytes()].concat());
    }

    /// Reads a frame, which must be unmasked and have a minimal length.
    #[track_caller]
    pub fn read_frame(&mut self) -> Frame {
        let mut head = self.read_exactly(2);
        let header = loop {
            match Header::parse(&head, usize::MAX).unwrap() {
                Some(header) => break header,
                None => head.extend(self.read_exactly(1)),
            }
        };
        Frame {
            first: header.first,
            payload: self.read_exactly(header.length),
        }
    }

    #[track_caller]
    pub fn expect_text(&mut self, text: &str) {
        let frame = self.read_frame();
        assert_eq!(
            (frame.first, String::from_utf8_lossy(&frame.payload)),
            (0x81, text.into())
        );
    }

    #[track_caller]
    pub fn expect_frame(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        let expected = Frame {
            first,
            payload: payload.as_ref().to_vec(),
        };
        assert_eq!(self.read_frame(), expected);
    }

    /// Reads a Close frame with this code; returns its reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        let frame = self.read_frame();
        assert_eq!(frame.first, 0x88, "a close frame: {frame:?}");
        assert_eq!(
            frame.payload.get(..2),
            Some(&code.to_be_bytes()[..]),
            "{frame:?}"
        );
        String::from_utf8(frame.payload[2..].to_vec()).unwrap()
    }

    /// Reads a Close frame with this code, answers it, and waits for the server's FIN; returns the
    /// reason.
    #[track_caller]
    pub fn answer_close(&mut self, code: u16) -> String {
        let reason = self.expect_close(code);
        self.send_close(code, "");
        self.expect_eof();
        reason
    }

    /// Waits for the server's FIN; no data may come before it.
    #[track_caller]
    pub fn expect_eof(&mut self) {
        assert_eq!(self.read, b"", "nothing before the end");
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            other => panic!("expected the end, got {other:?} {byte:?}"),
        }
    }

    /// Waits until the connection ends with FIN or RST; returns the data before.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.read);
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("expected the end, got {error}"),
        }
        bytes
    }

    /// Checks with an echo that the connection is open.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        self.send_text("alive?");
        self.expect_text("alive?");
    }

    #[track_caller]
    pub fn read_exactly(&mut self, size: usize) -> Vec<u8> {
        while self.read.len() < size {
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the connection ended, after {:?}", self.read.escape_ascii()),
                Ok(count) => self.read.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}, after {:?}", self.read.escape_ascii().to_string()),
            }
        }
        let rest = self.read.split_off(size);
        std::mem::replace(&mut self.read, rest)
    }
}

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub status_line: String,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Registers handlers that echo messages and record the events of connections.
pub fn recorded(builder: Builder, log: &Sender<String>) -> Builder {
    use wsloop::event::{Binary, Connect, Disconnect, Error, PeerClose, Ping, Pong, Ready, Utf8};
    let write = || {
        let log = log.clone();
        move |entry: String| log.send(entry).unwrap_or_default()
    };
    let [connect, ready, utf8, binary, ping] = std::array::from_fn(|_| write());
    let [pong, peer_close, error, disconnect] = std::array::from_fn(|_| write());
    builder
        .on(Connect, move |_, ()| connect("connect".into()))
        .on(Ready, move |_, ()| ready("ready".into()))
        .on(Utf8, move |conn, text| {
            utf8(format!("utf8 {text}"));
            conn.send_utf8(text)
        })
        .on(Binary, move |conn, data| {
            binary(format!("binary {}", data.len()));
            conn.send_binary(data)
        })
        .on(Ping, move |_, data| {
            ping(format!("ping {}", data.escape_ascii()));
        })
        .on(Pong, move |_, data| {
            pong(format!("pong {}", data.escape_ascii()));
        })
        .on(PeerClose, move |_, frame| match frame {
            Some(frame) => peer_close(format!("peer_close {} {}", frame.code, frame.reason)),
            None => peer_close("peer_close without a frame".into()),
        })
        .on(Error, move |_, fault| error(format!("error: {fault}")))
        .on(Disconnect, move |_, why| {
            disconnect(format!("disconnect {why}"));
        })
}

/// Waits until the server has processed everything that was sent to it before.
///
/// The server serves its connections in turns. Another client's second echo comes in a later turn
/// than the first one, so by then the server has read the data that was in its sockets.
#[track_caller]
pub fn settle(other: &mut Client) {
    settle_with(other, "alive?", "alive?");
}

/// Like [`settle`], with another question and answer.
#[track_caller]
pub fn settle_with(other: &mut Client, question: &str, answer: &str) {
    for _ in 0..3 {
        other.send_text(question);
        other.expect_text(answer);
    }
}

impl Client<TcpStream> {
    /// Sends data to a server that has ended the connection, and checks that the server reads it: a
    /// server that had closed its socket would answer with RST.
    #[track_caller]
    pub fn expect_drained(&mut self, other: &mut Self) {
        for _ in 0..2 {
            self.send_raw([0; 4096]);
            settle(other);
        }
        assert!(self.stream.take_error().unwrap().is_none(), "no RST");
        let mut byte = [0];
        assert_eq!(self.stream.read(&mut byte).unwrap(), 0, "nothing more");
    }
}
