//! The server inside the program's own poll loop: the program broadcasts the datagrams of a UDP
//! socket, and waits for the socket and for the server at once.
//!
//! ```text
//! cargo run --release --example own_loop [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9012` unless given, for UDP as well. To try it:
//!
//! ```text
//! python3 -m websockets ws://127.0.0.1:9012/
//! bash -c 'echo hello >/dev/udp/127.0.0.1/9012'
//! ```
//!
//! A program without a loop of its own has no need for this: `Hub::watch` lets the server's loop
//! wait for the socket. The test at the end shows how to test such a program: turn by turn, without
//! a second thread. `cargo test --example own_loop` runs it.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use wsloop::event::{Binary, Utf8};
use wsloop::mio::net::UdpSocket;
use wsloop::mio::unix::SourceFd;
use wsloop::mio::{Events, Interest, Poll, Token};
use wsloop::{BuildError, Server};

const SERVER: Token = Token(0);
const SOCKET: Token = Token(1);

fn main() -> wsloop::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:9012");
    let mut program = Program::new(build(address)?)?;
    eprintln!("listening on {}", program.socket.local_addr()?);
    while program.turn()? {}
    Ok(())
}

fn build(address: &str) -> Result<Server, BuildError> {
    Server::builder()
        .listen(address)
        .on(Utf8, |conn, text| conn.send_utf8(text))
        .on(Binary, |conn, data| conn.send_binary(data))
        .build()
}

struct Program {
    poll: Poll,
    events: Events,
    server: Server,
    socket: UdpSocket,
}

impl Program {
    /// Binds the UDP socket to the address of the server.
    fn new(server: Server) -> io::Result<Self> {
        let poll = Poll::new()?;
        let any_port = ([127, 0, 0, 1], 0).into();
        let mut socket = UdpSocket::bind(server.local_addr().unwrap_or(any_port))?;
        let registry = poll.registry();
        registry.register(
            &mut SourceFd(&server.as_raw_fd()),
            SERVER,
            Interest::READABLE,
        )?;
        registry.register(&mut socket, SOCKET, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(16),
            server,
            socket,
        })
    }

    /// Waits for whatever comes first, and processes it. Returns `false` when the server has ended.
    fn turn(&mut self) -> io::Result<bool> {
        // The server has deadlines: pings, timeouts, timers.
        let timeout = self.server.poll_timeout(Instant::now());
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if self.events.iter().any(|event| event.token() == SOCKET) {
            let mut datagram = [0; 1500];
            // Until it would block: mio reports a datagram once.
            while let Ok(size) = self.socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..size]);
                let sent = self.server.hub().broadcast_utf8(text.trim_end());
                sent.map_err(io::Error::other)?;
            }
        }
        // Its turn comes whatever the events are: a deadline has none. What was broadcast leaves in
        // it.
        self.server.turn(Some(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::thread;

    use tungstenite::Message;

    use super::*;

    #[test]
    fn a_datagram_reaches_the_clients() {
        let mut program = Program::new(build("127.0.0.1:0").unwrap()).unwrap();
        let addr = program.server.local_addr().unwrap();
        let handle = program.server.handle();
        let client = thread::spawn(move || {
            let stream = TcpStream::connect(addr).unwrap();
            let (mut client, _) = tungstenite::client(format!("ws://{addr}/"), stream).unwrap();
            client.send(Message::text("hello")).unwrap();
            assert_eq!(client.read().unwrap(), Message::text("hello"));
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for text in ["one\n", "two\n"] {
                sender.send_to(text.as_bytes(), addr).unwrap();
            }
            for text in ["one", "two"] {
                assert_eq!(client.read().unwrap(), Message::text(text));
            }
            handle.shutdown().unwrap();
        });
        // Ends the test if the client fails before.
        let patience = Duration::from_secs(20);
        program
            .server
            .hub()
            .set_timer(patience, |hub| hub.shutdown());
        while program.turn().unwrap() {}
        client.join().unwrap();
    }
}
