//! With TLS everything works as without it, however records are cut. Data that is not TLS ends only
//! its own connection.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::events::record;
use crate::support::tls::{Identity, TlsStream, Trickle};
use crate::support::{Client, PATIENCE, REQUEST, Running};
use rustls::{ClientConnection, StreamOwned};
use socket2::SockRef;
use wsloop::event::*;
use wsloop::{Builder, Server};

/// Starts a server that listens with TLS.
fn start(
    identity: &Identity,
    configure: impl FnOnce(Builder) -> Builder + Send + 'static,
) -> Running {
    let tls = identity.server.clone();
    Running::start_on(move || configure(Server::builder().listen_tls("127.0.0.1:0", tls)))
}

/// Performs only the TLS handshake.
fn handshake(stream: &mut TlsStream) {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
}

/// Returns the encrypted bytes of the client's pending messages and of `plaintext`.
fn ciphertext(session: &mut ClientConnection, plaintext: &[u8]) -> Vec<u8> {
    session.writer().write_all(plaintext).unwrap();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn messages_of_all_sizes_come_back() {
    let identity = Identity::new();
    let server = start(&identity, |builder| {
        support::echo(builder.max_recv_size(1 << 20).max_send_size(1 << 20))
    });
    let mut client = identity.ready(server.addr);
    for size in [
        0,
        1,
        125,
        126,
        4096,
        16_384,
        16_385,
        65_535,
        65_536,
        300_000,
        1 << 20,
    ] {
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        client.send_frame(0x82, &payload);
        client.expect_frame(0x82, &payload);
    }
    client.expect_alive();
}

#[test]
fn the_whole_life_in_order() {
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| record(builder, &sender));
    let mut client = identity.ready(server.addr);
    client.send_text("one");
    client.send_frame(0x89, "two");
    client.expect_frame(0x8a, "two");
    client.send_close(4000, "bye");
    assert_eq!(client.expect_close(4000), "bye");
    // A read of 0 without an error means a close_notify; for a bare FIN rustls returns an error.
    client.expect_eof();
    drop(client);
    server.stop();
    assert_eq!(
        log.rest(),
        [
            "start",
            "accept",
            "connect",
            "origin none",
            "handshake /chat",
            "ready",
            "utf8 one",
            "ping two",
            "peer close 4000 bye",
            "disconnect 4000 (closed by the peer) bye",
            "shutdown",
        ]
    );
}

#[test]
fn the_connection_knows_that_it_is_encrypted() {
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| {
        let later = sender.clone();
        builder
            .on(Connect, move |conn, ()| {
                sender
                    .send(format!("{} {}", conn.is_tls_handshaking(), conn.is_tls()))
                    .is_ok()
            })
            .on(Handshake, move |conn, _| {
                let uri = conn.request_uri().unwrap();
                later
                    .send(format!(
                        "{} {} {uri}",
                        conn.is_tls_handshaking(),
                        conn.is_tls()
                    ))
                    .is_ok()
            })
    });
    identity.ready(server.addr);
    log.expect(&["true true", "false true wss://example.com/chat?room=7"]);
}

#[test]
fn a_request_and_frames_in_one_record() {
    let identity = Identity::new();
    let server = start(&identity, support::echo);
    let mut client = identity.connect(server.addr);
    let mut bytes = REQUEST.as_bytes().to_vec();
    bytes.extend(support::frame(0x81, b"first"));
    bytes.extend(support::frame(0x82, &[7; 10_000]));
    client.send_raw(bytes);
    assert_eq!(client.response().status, 101);
    client.expect_text("first");
    client.expect_frame(0x82, [7; 10_000]);
}

#[test]
fn messages_an_end_and_a_close_notify_in_one_segment() {
    // More messages than a turn serves, followed by the end of the stream.
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| {
        record(builder, &sender)
            .turn_bytes(1 << 20)
            .turn_messages(10)
    });
    let mut client = identity.ready(server.addr);
    let mut plaintext = Vec::new();
    for at in 0..100 {
        plaintext.extend(support::frame(0x81, format!("{at}").as_bytes()));
    }
    plaintext.extend(support::frame(0x88, b"\x03\xe8bye"));
    let session = &mut client.stream.conn;
    session.writer().write_all(&plaintext).unwrap();
    session.send_close_notify();
    let bytes = ciphertext(session, b"");
    client.stream.sock.write_all(&bytes).unwrap();
    client.stream.sock.shutdown(Shutdown::Write).unwrap();
    for _ in 0..6 {
        log.next();
    }
    for at in 0..100 {
        assert_eq!(log.next(), format!("utf8 {at}"));
    }
    log.expect(&[
        "peer close 1000 bye",
        "disconnect 1000 (closed by the peer) bye",
    ]);
}

#[test]
fn records_may_come_byte_by_byte() {
    let identity = Identity::new();
    let server = start(&identity, support::echo);
    let socket = TcpStream::connect(server.addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut client = Client::over(StreamOwned::new(identity.session(), Trickle(socket)));
    client.upgrade();
    client.expect_alive();
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
}

#[test]
fn a_client_that_says_nothing_or_stops_midway_is_cut_in_time() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| {
        record(builder, &sender).handshake_timeout(TIMEOUT)
    });
    let begun = Instant::now();
    let mut hello = ciphertext(&mut identity.session(), b"");
    hello.truncate(hello.len() / 2);
    for bytes in [&b""[..], &hello] {
        let mut client = server.client();
        client.send_raw(bytes);
        assert_eq!(client.read_to_end(), b"");
    }
    // A client that completes the TLS handshake and sends no request.
    let mut stream = identity.stream(server.addr);
    handshake(&mut stream);
    assert!(read_to_end(&mut stream).is_empty());
    assert!(begun.elapsed() >= 3 * TIMEOUT);
    let mut client = identity.connect(server.addr);
    assert_eq!(client.request(REQUEST).status, 101);
    drop(client);
    server.stop();
    let entries = log.rest();
    let timed_out = "disconnect 1006 (request not complete within handshake_timeout)";
    let count = entries.iter().filter(|entry| *entry == timed_out).count();
    assert_eq!(count, 3, "{entries:?}");
}

/// Reads until the end of the stream, with or without a close_notify.
fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => {
            let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
            assert!(ends.contains(&error.kind()), "{error}");
        }
    }
    bytes
}

#[test]
fn what_is_no_tls_ends_and_the_next_is_served() {
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| record(builder, &sender));
    let hello = ciphertext(&mut identity.session(), b"");
    let mut broken = hello.clone();
    broken[50..].fill(0xff);
    let garbage: Vec<u8> = (0..20_000u32).map(|at| ((at * 7919) >> 3) as u8).collect();
    let inputs = [
        REQUEST.as_bytes(),
        &garbage,
        &broken,
        &[0; 100],
        b"\x16\x03\x01\xff\xff",
    ];
    for bytes in inputs {
        let mut client = server.client();
        // The server may end the connection while the client sends.
        _ = client.stream.write_all(bytes);
        _ = client.stream.shutdown(Shutdown::Write);
        let answer = client.read_to_end();
        // A client of plain HTTP receives an error; others receive nothing in plain text.
        let is_http = bytes == REQUEST.as_bytes();
        assert_eq!(answer.starts_with(b"HTTP/1.1 400 "), is_http);
        assert!(is_http || !answer.starts_with(b"HTTP"));
        identity.ready(server.addr);
    }
    server.stop();
    let entries = log.rest();
    let count = |text: &str| {
        entries
            .iter()
            .filter(|entry| entry.starts_with(text))
            .count()
    };
    assert_eq!(count("connect"), 2 * inputs.len());
    assert_eq!(count("disconnect"), 2 * inputs.len());
    assert_eq!(count("ready"), inputs.len());
}

#[test]
fn plain_and_tls_on_one_server() {
    let identity = Identity::new();
    let tls = identity.server.clone();
    let server = Running::start_on(move || {
        support::echo(
            Server::builder()
                .listen("127.0.0.1:0")
                .listen_tls("127.0.0.1:0", tls),
        )
    });
    let mut plain = server.ready();
    let mut secure = identity.ready(server.addrs[1]);
    plain.expect_alive();
    secure.expect_alive();
    server.handle.broadcast_binary(&[7; 50_000]).unwrap();
    plain.expect_frame(0x82, [7; 50_000]);
    secure.expect_frame(0x82, [7; 50_000]);
}

#[test]
fn a_veto_in_connect_cuts_before_anything_is_said() {
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| {
        let mut first = true;
        record(builder, &sender).on(Connect, move |_, ()| !std::mem::take(&mut first))
    });
    let mut client = server.client();
    assert_eq!(client.read_to_end(), b"");
    log.expect(&[
        "start",
        "accept",
        "disconnect 1006 (refused with 403 Forbidden)",
    ]);
    identity.ready(server.addr);
}

#[test]
fn later_vetoes_are_answered_encrypted() {
    let identity = Identity::new();
    let server = start(&identity, |builder| {
        builder.on(Handshake, |_, upgrade| upgrade.refuse(404))
    });
    let mut client = identity.connect(server.addr);
    assert_eq!(client.request(REQUEST).status, 404);
    client.expect_eof();
}

#[test]
fn a_protocol_error_is_told_and_ends_with_a_close_notify() {
    let identity = Identity::new();
    let server = start(&identity, support::echo);
    let mut client = identity.ready(server.addr);
    client.send_raw([0x81, 0x01, b'x']);
    client.expect_close(1002);
    client.expect_eof();
}

#[test]
fn a_server_that_goes_down_closes_all() {
    let identity = Identity::new();
    let mut server = start(&identity, support::echo);
    let mut clients: Vec<_> = (0..5).map(|_| identity.ready(server.addr)).collect();
    let mut waiting = identity.stream(server.addr);
    handshake(&mut waiting);
    clients[0].expect_alive();
    server.handle.shutdown().unwrap();
    for client in &mut clients {
        client.answer_close(1001);
    }
    assert!(read_to_end(&mut waiting).starts_with(b"HTTP/1.1 503 "));
    drop((clients, waiting));
    server.join();
}

#[test]
fn a_client_that_vanishes_is_an_end_without_a_close_frame() {
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| record(builder, &sender));
    let client = identity.ready(server.addr);
    drop(client);
    let mut polite = identity.ready(server.addr);
    polite.stream.conn.send_close_notify();
    polite.stream.flush().unwrap();
    assert_eq!(polite.read_to_end(), b"");
    drop(polite);
    server.stop();
    let entries = log.rest();
    let gone = "disconnect 1006 (connection ended without a Close frame)";
    let count = entries.iter().filter(|entry| *entry == gone).count();
    assert_eq!(count, 2, "{entries:?}");
    assert!(
        !entries.iter().any(|entry| entry.starts_with("error")),
        "{entries:?}"
    );
}

#[test]
fn a_slow_reader_has_a_backlog_and_is_drained() {
    const SIZE: usize = 4 << 20;
    let identity = Identity::new();
    let (sender, log) = support::log();
    let server = start(&identity, move |builder| {
        let drains = sender.clone();
        builder
            .max_send_size(SIZE)
            .max_backlog(2 * SIZE)
            .on(Connect, |conn, ()| {
                let socket = conn.socket().unwrap();
                SockRef::from(&socket).set_send_buffer_size(16 << 10)
            })
            .on(Utf8, move |conn, text| {
                if text == "flood" {
                    conn.send_binary(&vec![7; SIZE]).unwrap();
                    assert!(conn.backlog() > 0);
                }
                conn.send_utf8(text).unwrap();
                sender.send(text.to_owned())
            })
            .on(Drain, move |conn, ()| {
                assert_eq!(conn.backlog(), 0);
                drains.send("drain".into())
            })
    });
    let mut client = identity.connect(server.addr);
    SockRef::from(&client.stream.sock)
        .set_recv_buffer_size(16 << 10)
        .unwrap();
    client.upgrade();
    for _ in 0..2 {
        client.send_text("flood");
        log.expect(&["flood"]);
        client.expect_frame(0x82, vec![7; SIZE]);
        client.expect_text("flood");
        client.send_text("then");
        client.expect_text("then");
        log.expect(&["drain", "then"]);
    }
    drop(client);
    server.stop();
    assert_eq!(log.rest(), [""; 0]);
}

#[test]
fn what_is_queued_leaves_before_the_close_notify() {
    const SIZE: usize = 4 << 20;
    let identity = Identity::new();
    let server = start(&identity, |builder| {
        builder.max_send_size(SIZE).on(Ready, |conn, ()| {
            conn.send_binary(&vec![7; SIZE])?;
            conn.disconnect(4000, "that was all")
        })
    });
    let mut client = identity.ready(server.addr);
    client.expect_frame(0x82, vec![7; SIZE]);
    assert_eq!(client.expect_close(4000), "that was all");
    client.send_close(4000, "");
    client.expect_eof();
}
