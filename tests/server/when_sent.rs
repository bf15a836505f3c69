//! The callback for a sent message is called once: when the kernel has accepted the message, or
//! when that has become impossible.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{SocketAddr, TcpStream};

use crate::support::{self, PATIENCE, Running};
use socket2::{Domain, SockRef, Socket, Type};
use wsloop::event::*;
use wsloop::{Builder, Outgoing, SendError};

/// More than the kernels can buffer between `narrow` and a `narrow_stream`.
const FLOOD: usize = 1 << 20;

/// Sends a flood and another message when the client asks for it, and logs the results of both.
fn flooding(builder: Builder, log: &std::sync::mpsc::Sender<String>) -> Builder {
    let (told, ends) = (log.clone(), log.clone());
    builder
        .max_send_size(FLOOD)
        .max_backlog(3 * FLOOD)
        .on(Connect, |conn, ()| {
            let socket = conn.socket().unwrap();
            SockRef::from(&socket).set_send_buffer_size(16 << 10)
        })
        .on(Utf8, move |conn, text| {
            if text != "flood" {
                return conn.send_utf8(text).map(drop);
            }
            for name in ["flood", "second"] {
                let told = told.clone();
                let size = if name == "flood" { FLOOD } else { 10 };
                conn.send_message(Outgoing::binary(&vec![7; size]).then(move |conn, result| {
                    let left = conn.buffered_amount();
                    let result = result.map_or_else(|error| error.to_string(), |()| "sent".into());
                    told.send(format!("{name} {result}, {left} left"))
                }))?;
            }
            told.send("returned".into()).unwrap();
            Ok(())
        })
        .on(Disconnect, move |_, why| {
            ends.send(format!("disconnect {}", why.code))
        })
}

fn narrow_stream(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&addr.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn when_the_client_has_read_enough() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| flooding(builder, &sender));
    let mut other = server.ready();
    for _ in 0..2 {
        let mut client = support::Client::over(narrow_stream(server.addr));
        client.upgrade();
        client.send_text("flood");
        log.expect(&["returned"]);
        support::settle(&mut other);
        assert_eq!(client.read_frame().payload.len(), FLOOD);
        assert_eq!(client.read_frame().payload.len(), 10);
        // The second message may be sent together with the end of the first.
        let first = log.next();
        assert!(
            ["flood sent, 12 left", "flood sent, 0 left"].contains(&&*first),
            "{first}"
        );
        log.expect(&["second sent, 0 left"]);
        client.expect_alive();
        client.send_close(1000, "");
        client.expect_close(1000);
        log.expect(&["disconnect 1000"]);
    }
}

#[test]
fn when_the_client_goes_without_reading() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| flooding(builder, &sender));
    let mut client = support::Client::over(narrow_stream(server.addr));
    client.upgrade();
    client.send_text("flood");
    log.expect(&["returned"]);
    client.reset();
    for name in ["flood", "second"] {
        let entry = log.next();
        let expected = format!("{name} {}", SendError::Gone);
        assert!(entry.starts_with(&expected), "{entry}");
    }
    log.expect(&["disconnect 1006"]);
    drop(server);
    assert_eq!(log.rest(), [""; 0]);
}

#[test]
fn when_the_server_goes() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        flooding(builder, &sender).close_timeout(std::time::Duration::from_millis(50))
    });
    let mut client = support::Client::over(narrow_stream(server.addr));
    client.upgrade();
    client.send_text("flood");
    log.expect(&["returned"]);
    server.stop();
    let rest = log.rest();
    assert_eq!(rest.len(), 3, "{rest:?}");
    assert!(rest[0].starts_with("flood the connection or the server has ended"));
    assert!(rest[1].starts_with("second the connection or the server has ended"));
    // The Close frame was queued after the flood.
    assert_eq!(rest[2], "disconnect 1006");
}

#[cfg(feature = "tls")]
#[test]
fn over_tls() {
    use rustls::StreamOwned;
    use support::tls::Identity;
    use wsloop::Server;

    let (sender, log) = support::log();
    let identity = Identity::new();
    let tls = identity.server.clone();
    let server = Running::start_on(move || {
        flooding(Server::builder().listen_tls("127.0.0.1:0", tls), &sender)
    });
    let stream = StreamOwned::new(identity.session(), narrow_stream(server.addr));
    let mut client = support::Client::over(stream);
    client.upgrade();
    for _ in 0..2 {
        client.send_text("flood");
        log.expect(&["returned"]);
        assert_eq!(client.read_frame().payload.len(), FLOOD);
        assert_eq!(client.read_frame().payload.len(), 10);
        let first = log.next();
        assert!(first.starts_with("flood sent, "), "{first}");
        log.expect(&["second sent, 0 left"]);
        client.expect_alive();
    }
    // The client disconnects without reading.
    client.send_text("flood");
    log.expect(&["returned"]);
    drop(client);
    for name in ["flood", "second"] {
        let entry = log.next();
        let expected = format!("{name} {}", SendError::Gone);
        assert!(entry.starts_with(&expected), "{entry}");
    }
    log.expect(&["disconnect 1006"]);
}
