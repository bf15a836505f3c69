//! The server waits for peers on slow links as long as they are at least as fast as `min_rate`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Client, PATIENCE, Running, frame, log};
use socket2::{Domain, Socket, Type};
use wsloop::event::{Binary, Disconnect, Ready};
use wsloop::{Builder, Server};

/// A client that reads slowly and has a small receive buffer.
struct Slow {
    stream: TcpStream,
    /// The largest size of a read, and the pause after it.
    each: usize,
    pause: Duration,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = buffer.len().min(self.each);
        let size = self.stream.read(&mut buffer[..size])?;
        std::thread::sleep(self.pause);
        Ok(size)
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Connects a client that reads at most `each` bytes every 40 ms, and performs the opening
/// handshake.
fn slow(server: &Running, each: usize) -> Client<Slow> {
    let socket =
        Socket::new(Domain::for_address(server.addr), Type::STREAM, None).expect("a socket");
    socket
        .set_recv_buffer_size(64 << 10)
        .expect("a socket option");
    socket
        .connect(&server.addr.into())
        .expect("the server listens");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    let mut client = Client::over(Slow {
        stream: socket.into(),
        each,
        pause: Duration::from_millis(40),
    });
    client.upgrade();
    client
}

/// Sends a message of `size` bytes in `Ready`, and then closes.
fn send_and_close(size: usize) -> impl FnOnce(Builder) -> Builder + Send + 'static {
    move |builder| {
        builder
            .max_send_size(size)
            .max_backlog(2 * size)
            .close_timeout(Duration::from_secs(2))
            .on(Ready, move |conn, ()| {
                conn.send_binary(&vec![7; size])?;
                conn.disconnect(1000, "")
            })
    }
}

#[test]
fn a_slow_reader_gets_all_that_was_sent_before_a_close_and_the_close_frame() {
    // With a small send buffer in the kernel, and with the default one.
    for send_buffer in [16 << 10, 0] {
        let (said, log) = log();
        let server = Running::start(move |builder| {
            send_and_close(1_000_000)(builder)
                .send_buffer_size(send_buffer)
                .on(Disconnect, move |_, why| _ = said.send(why.to_string()))
        });
        // At most 250 KB/s, so this takes at least twice the `close_timeout`.
        let mut client = slow(&server, 10_000);
        assert_eq!(client.read_frame().payload.len(), 1_000_000);
        client.expect_close(1000);
        client.send_close(1000, "");
        log.expect(&["1000 (closed by the server)"]);
        assert_eq!(server.stop().lost, 0);
    }
}

#[test]
fn a_reader_that_stops_is_cut_and_what_it_did_not_get_is_said() {
    let (said, log) = log();
    let server = Running::start(move |builder| {
        send_and_close(8_000_000)(builder)
            .send_buffer_size(16 << 10)
            .on(Disconnect, move |_, why| {
                _ = said.send(format!("{} {}", why.code, why.unsent > 7_000_000));
            })
    });
    let client = slow(&server, 1);
    log.expect(&["1006 true"]);
    drop(client);
    let stats = server.stop();
    assert_eq!(stats.lost, 1);
    assert!(stats.lost_bytes > 7_000_000, "{stats:?}");
}

#[test]
fn a_slow_reader_of_what_the_kernel_holds_is_no_silent_one() {
    let (said, log) = log();
    let server = Running::start(move |builder| {
        builder
            .max_send_size(3_000_000)
            .max_backlog(6_000_000)
            .silence_max(Duration::from_millis(1_500))
            .idle_timeout(Duration::from_secs(3))
            .on(Ready, |conn, ()| conn.send_binary(&vec![7; 3_000_000]))
            .on(Disconnect, move |_, why| _ = said.send(why.to_string()))
    });
    // This takes at least six seconds without data from the client: the pings are queued after the
    // message.
    let mut client = slow(&server, 20_000);
    assert_eq!(client.read_frame().payload.len(), 3_000_000);
    // The client is still connected, and closes the connection itself.
    client.send_close(1000, "");
    log.expect(&["1000 (closed by the peer)"]);
    drop((client, server));
}

#[test]
fn a_steady_upload_has_the_time_that_it_takes() {
    let (said, log) = log();
    let server = Running::start(move |builder| {
        builder
            .max_recv_size(1 << 20)
            .message_timeout(Duration::from_secs(3))
            .on(Binary, move |_, data| _ = said.send(data.len().to_string()))
    });
    let mut client = server.ready();
    // At most 200 KB/s, so this takes at least five seconds.
    for part in frame(0x82, &vec![7; 1 << 20]).chunks(10_000) {
        client.send_raw(part);
        std::thread::sleep(Duration::from_millis(50));
    }
    log.expect(&["1048576"]);
    drop(client);
    assert_eq!(server.stop().timed_out_messages, 0);
}

#[test]
fn a_least_rate_of_nothing_is_refused() {
    let built = Server::builder().listen("127.0.0.1:0").min_rate(0).build();
    let error = built.map(drop).unwrap_err().to_string();
    assert!(error.contains("min_rate"), "{error}");
}
