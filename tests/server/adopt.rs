//! The server takes over connections that others have accepted, before or after their opening
//! handshake, wherever the handshake was cut.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use wsloop::event::{Connect, Ready, Utf8};
use wsloop::handshake::Request;
use wsloop::{Builder, SendError, Server, StreamSocket};

use crate::support::{
    Client, PATIENCE, REQUEST, Running, echo, frame, log, recorded, request_with,
};

/// Starts a server without listeners.
fn headless(configure: impl FnOnce(Builder) -> Builder + Send + 'static) -> Running {
    Running::start_on(move || configure(Server::builder().headless(true)))
}

/// Returns a client, and the accepted socket of its connection.
fn pair() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = Client::connect(listener.local_addr().expect("it is bound"));
    let (socket, _) = listener.accept().expect("the client is there");
    (client, socket)
}

/// Returns a request, parsed as by another server.
fn parsed(text: &str) -> Request {
    let limits = wsloop::Limits::default();
    let parsed = wsloop::handshake::Parser::new(&limits).parse(text.as_bytes());
    parsed.expect("a good request").expect("it is whole").0
}

#[test]
fn before_its_handshake_at_every_cut() {
    let (sender, log) = log();
    let server = headless(move |builder| recorded(builder, &sender));
    let stream = [REQUEST.as_bytes(), &frame(0x81, b"first")].concat();
    for cut in (0..stream.len())
        .step_by(7)
        .chain([REQUEST.len(), stream.len()])
    {
        let (mut client, socket) = pair();
        let (read, rest) = stream.split_at(cut);
        server.handle.adopt(socket, read).expect("the server runs");
        client.send_raw(rest);
        assert_eq!(client.response().status, 101, "{cut}");
        client.expect_text("first");
        client.send_close(1000, "");
        client.expect_close(1000);
        client.expect_eof();
        log.expect(&["connect", "ready", "utf8 first", "peer_close 1000 "]);
        assert!(log.next().starts_with("disconnect 1000"));
    }
    // Bytes that are not a request are refused as usual.
    let (mut client, socket) = pair();
    server
        .handle
        .adopt(socket, *b"rubbish\n")
        .expect("the server runs");
    assert_eq!(client.response().status, 400);
    client.expect_eof();
}

#[test]
fn after_its_handshake() {
    let (sender, log) = log();
    let server = headless(move |builder| {
        recorded(builder, &sender)
            .keep_requests(true)
            .on(Ready, |conn, ()| {
                let uri = conn.request_uri().map(|uri| uri.to_string());
                let text = format!(
                    "{uri:?} {:?} {:?} {:?} {}",
                    conn.subprotocol(),
                    conn.origin(),
                    conn.request().and_then(|request| request.cookie("id")),
                    conn.ip().is_some(),
                );
                conn.send_utf8(&text)
            })
    });
    let request =
        request_with("Sec-WebSocket-Protocol: b, a\r\nOrigin: http://o\r\nCookie: id=7\r\n");
    let expected =
        "Some(\"ws://example.com/chat?room=7\") Some(\"a\") Some(\"http://o\") Some(\"7\") true";
    let frames = [frame(0x81, b"one"), frame(0x81, b"two")].concat();
    for cut in 0..=frames.len() {
        let (mut client, socket) = pair();
        let (read, rest) = frames.split_at(cut);
        let done = server
            .handle
            .adopt_upgraded(socket, read, parsed(&request), Some("a"));
        done.expect("the server runs");
        client.send_raw(rest);
        client.expect_text(expected);
        client.expect_text("one");
        client.expect_text("two");
        log.expect(&["connect", "utf8 one", "utf8 two"]);
        client.send_close(1000, "");
        client.expect_close(1000);
        client.expect_eof();
        assert!(log.next().starts_with("peer_close"));
        assert!(log.next().starts_with("disconnect 1000"));
    }
}

#[test]
fn unix_sockets_and_the_loop_itself() {
    let server = headless(echo);
    let (ours, theirs) = UnixStream::pair().expect("descriptors are left");
    ours.set_read_timeout(Some(PATIENCE))
        .expect("a live socket");
    let run = server.handle.run(move |hub| {
        hub.adopt(theirs, REQUEST);
        assert_eq!(hub.len(), 0, "it is taken in later");
    });
    run.expect("the server runs");
    let mut client = Client::over(ours);
    assert_eq!(client.response().status, 101);
    client.send_text("unix");
    client.expect_text("unix");
}

#[test]
fn a_handler_may_adopt_and_a_loop_of_ones_own() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, text| {
            let stream = TcpStream::connect(text).map_err(|error| error.to_string())?;
            let request = parsed(REQUEST);
            conn.server().adopt_upgraded(stream, [], request, None);
            Ok::<_, String>(())
        })
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut client = server.ready();
    client.send_text(&listener.local_addr().expect("it is bound").to_string());
    let (adopted, _) = listener.accept().expect("the handler connects");
    adopted
        .set_read_timeout(Some(PATIENCE))
        .expect("a live socket");
    let mut adopted = Client::over(adopted);
    adopted.send_close(4000, "");
    adopted.expect_close(4000);

    let mut server = echo(Server::builder().headless(true))
        .build()
        .expect("no listener is named");
    let (mut client, socket) = pair();
    server.hub().adopt(socket, REQUEST);
    assert_eq!(
        server.poll_timeout(std::time::Instant::now()),
        Some(Duration::ZERO)
    );
    for _ in 0..2 {
        server.turn(None).expect("the event queue works");
    }
    assert_eq!(client.response().status, 101);
}

#[test]
fn there_is_a_limit() {
    let (sender, log) = log();
    let server = headless(move |builder| recorded(builder, &sender).max_connections(1));
    let (mut first, socket) = pair();
    server
        .handle
        .adopt(socket, REQUEST)
        .expect("the server runs");
    assert_eq!(first.response().status, 101);
    let (mut second, socket) = pair();
    server
        .handle
        .adopt(socket, REQUEST)
        .expect("the server runs");
    assert_eq!(second.response().status, 503);
    second.expect_eof();
    let (mut third, socket) = pair();
    let done = server
        .handle
        .adopt_upgraded(socket, [], parsed(REQUEST), None);
    done.expect("the server runs");
    third.expect_close(1013);
    third.expect_eof();
    first.expect_alive();
    log.expect(&["connect", "ready", "utf8 alive?"]);
    // There is room again after the first client has disconnected.
    first.send_close(1000, "");
    first.expect_close(1000);
    first.expect_eof();
    drop(first);
    while !log.next().starts_with("disconnect") {}
    loop {
        let (mut next, socket) = pair();
        server
            .handle
            .adopt(socket, REQUEST)
            .expect("the server runs");
        if next.response().status == 101 {
            return;
        }
    }
}

#[test]
fn refusals_and_failures_in_connect() {
    for (refuse, upgraded, code) in [(true, true, 1008), (false, true, 1011), (true, false, 403)] {
        let (sender, log) = log();
        let server = headless(move |builder| {
            recorded(builder, &sender).on(Connect, move |_, ()| match refuse {
                true => Ok(false),
                false => Err("told to"),
            })
        });
        let (mut client, socket) = pair();
        if upgraded {
            let done = server
                .handle
                .adopt_upgraded(socket, [], parsed(REQUEST), None);
            done.expect("the server runs");
            client.expect_close(code);
            client.send_close(code, "");
        } else {
            server
                .handle
                .adopt(socket, REQUEST)
                .expect("the server runs");
            assert_eq!(client.response().status, code);
        }
        client.expect_eof();
        drop(server);
        let rest = log.rest();
        let ends = rest.iter().filter(|entry| entry.starts_with("disconnect"));
        assert_eq!(ends.count(), 1, "{rest:?}");
        assert!(!rest.iter().any(|entry| entry == "ready"), "{rest:?}");
    }
}

#[test]
fn those_who_are_gone() {
    let (sender, log) = log();
    let server = headless(move |builder| recorded(builder, &sender));
    let (client, socket) = pair();
    drop(client);
    server.handle.adopt(socket, []).expect("the server runs");
    log.expect(&["connect"]);
    assert!(log.next().starts_with("disconnect 1006"));
    let (client, socket) = pair();
    drop(client);
    let done = server
        .handle
        .adopt_upgraded(socket, [], parsed(REQUEST), None);
    done.expect("the server runs");
    log.expect(&["connect", "ready", "peer_close without a frame"]);
    assert!(log.next().starts_with("disconnect 1006"));
    // The server has ended as well.
    let handle = server.handle.clone();
    server.stop();
    let (mut client, socket) = pair();
    let gone = handle.adopt(StreamSocket::from(socket), REQUEST);
    assert_eq!(gone, Err(SendError::Gone));
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn those_after_their_handshake_are_counted_and_grow_old() {
    let server = headless(|builder| {
        echo(builder)
            .connection_stats(true)
            .max_lifetime(Duration::from_millis(300))
            .on(Utf8, |conn, text| {
                let stats = conn.stats().ok_or("they are counted")?;
                let count = format!("{text} {} {}", stats.messages_in, stats.bytes_in);
                conn.send_utf8(&count).map_err(|error| error.to_string())
            })
    });
    let (mut client, socket) = pair();
    let first = frame(0x81, b"one");
    let (read, rest) = first.split_at(4);
    let done = server
        .handle
        .adopt_upgraded(socket, read, parsed(REQUEST), None);
    done.expect("the server runs");
    client.send_raw(rest);
    client.expect_text("one 1 9");
    client.send_text("two");
    client.expect_text("two 2 18");
    client.expect_close(1001);
    assert_eq!(server.stop().bytes_in, 18);
}
