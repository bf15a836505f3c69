//! The state of a connection in each phase, from `Connect` to `Disconnect`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::fd::AsRawFd;
use std::sync::mpsc;

use crate::support;
use crate::support::{PATIENCE, Running, log};
use socket2::SockRef;
use wsloop::event::*;
use wsloop::{Connection, Phase, SendError, Sent, Server};

/// Returns the phase of the connection, from all methods that report it.
fn phase(conn: &mut Connection<'_>) -> String {
    let id = conn.id();
    let found = conn.server().get(id).is_some();
    let listed = conn.server().ids().contains(&id);
    let mut visited = false;
    conn.server().for_each(|conn| visited |= conn.id() == id);
    let (len, empty) = (conn.server().len(), conn.server().is_empty());
    assert_eq!((visited, empty), (listed, len == 0));
    assert_eq!(conn.is_ready(), listed, "what is ready is listed");
    format!(
        "ready {} disconnecting {} disconnected {} found {found} of {len}",
        conn.is_ready(),
        conn.phase() == Phase::Closing,
        conn.phase() >= Phase::Lingering,
    )
}

/// Returns the error of all sending methods, if they fail.
fn sendable(conn: &mut Connection<'_>) -> Option<SendError> {
    use wsloop::{OpCode, Prepared};
    let results = [
        conn.send_utf8("text"),
        conn.send_binary(b"binary"),
        conn.send(OpCode::Text, b"text"),
        conn.send(OpCode::Binary, b"binary"),
        conn.send_prepared(&Prepared::text("prepared")),
        conn.ping(b"ping"),
        conn.pong(b"pong"),
    ];
    let first = results[0].err();
    for result in results {
        assert_eq!(result.err(), first);
    }
    first
}

#[test]
fn each_phase_is_told_and_says_what_can_be_sent() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let say = |name: &'static str| {
            let log = sender.clone();
            move |conn: &mut Connection<'_>| {
                let phase = phase(conn);
                let sent = match sendable(conn) {
                    None => "can send".into(),
                    Some(error) => error.to_string(),
                };
                log.send(format!("{name}: {phase}, {sent}")).unwrap();
            }
        };
        let (connect, origin, handshake, ready) = (
            say("connect"),
            say("origin"),
            say("handshake"),
            say("ready"),
        );
        let (utf8, peer_close, disconnect) = (say("utf8"), say("peer close"), say("disconnect"));
        let closing = say("closing");
        builder
            .on(Connect, move |conn, ()| connect(conn))
            .on(Origin, move |conn, _| origin(conn))
            .on(Handshake, move |conn, _| handshake(conn))
            .on(Ready, move |conn, ()| ready(conn))
            .on(Utf8, move |conn, text| {
                if text == "close" {
                    conn.disconnect(4000, "once").unwrap();
                    // Only the first close counts.
                    assert_eq!(conn.disconnect(4001, "twice"), Ok(Sent::NOTHING));
                    return closing(conn);
                }
                utf8(conn);
            })
            .on(PeerClose, move |conn, _| peer_close(conn))
            .on(Disconnect, move |conn, _| disconnect(conn))
    });
    let not_ready = "ready false disconnecting false disconnected false found true of 0, \
        the opening handshake is not complete";
    let open = "ready true disconnecting false disconnected false found true of 1, can send";
    let closing = "ready false disconnecting true disconnected false found true of 0, \
        the connection is closing";
    let over = "ready false disconnecting false disconnected true found false of 0, \
        the connection is closing";

    let mut client = server.ready();
    client.send_text("open");
    client.send_close(1000, "");
    for _ in 0..3 {
        // The messages sent in `Ready`, `Utf8` and `PeerClose` arrive in order, and none is lost.
        for (first, payload) in [
            (0x81, "text"),
            (0x82, "binary"),
            (0x81, "text"),
            (0x82, "binary"),
            (0x81, "prepared"),
            (0x89, "ping"),
            (0x8a, "pong"),
        ] {
            client.expect_frame(first, payload);
        }
    }
    client.expect_close(1000);
    client.expect_eof();
    log.expect(&[
        &format!("connect: {not_ready}"),
        &format!("origin: {not_ready}"),
        &format!("handshake: {not_ready}"),
        &format!("ready: {open}"),
        &format!("utf8: {open}"),
        &format!("peer close: {open}"),
        &format!("disconnect: {over}"),
    ]);

    let mut client = server.ready();
    for _ in 0..4 {
        log.next();
    }
    client.send_text("close");
    while client.read_frame().payload != b"pong" {}
    assert_eq!(client.expect_close(4000), "once");
    client.send_close(4000, "");
    client.expect_eof();
    log.expect(&[
        &format!("closing: {closing}"),
        &format!("disconnect: {over}"),
    ]);
}

#[test]
fn the_address_is_known_from_the_beginning_to_the_end() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let [accept, connect, ready, end] = std::array::from_fn(|_| sender.clone());
        let address =
            |conn: &Connection<'_>| format!("{}:{}", conn.ip().unwrap(), conn.port().unwrap());
        builder
            .on(Accept, move |_, accepted| {
                // The handler can use the socket.
                let socket = accepted.socket.unwrap();
                let peer = SockRef::from(&socket).peer_addr().unwrap().as_socket();
                assert_eq!(peer, accepted.peer);
                accept.send(accepted.peer.unwrap().to_string())
            })
            .on(Connect, move |conn, ()| connect.send(address(conn)))
            .on(Ready, move |conn, ()| ready.send(address(conn)))
            .on(Disconnect, move |conn, _| end.send(address(conn)))
    });
    let client = server.ready();
    let addr = client.stream.local_addr().unwrap().to_string();
    drop(client);
    log.expect(&[addr.as_str(); 4]);
}

#[test]
fn the_socket_is_there_to_set_options_of() {
    let (sender, options) = mpsc::channel();
    let server = Running::start(move |builder| {
        builder.on(Connect, move |conn, ()| {
            let socket = conn.socket().unwrap();
            SockRef::from(&socket).set_keepalive(true).unwrap();
            let keepalive = SockRef::from(&socket).keepalive().unwrap();
            let fd = socket.as_raw_fd();
            assert_eq!(fd, conn.socket().unwrap().as_raw_fd());
            sender.send((fd > 2, keepalive))
        })
    });
    let _client = server.client();
    assert_eq!(options.recv_timeout(PATIENCE).unwrap(), (true, true));
}

#[test]
fn nodelay_is_the_servers_until_it_is_set() {
    for inherited in [true, false] {
        let (sender, seen) = mpsc::channel();
        let server = Running::start(move |builder| {
            builder.nodelay(inherited).on(Connect, move |conn, ()| {
                let ask = |conn: &Connection<'_>| {
                    let socket = conn.socket().unwrap();
                    let kernel = SockRef::from(&socket).tcp_nodelay().unwrap();
                    assert_eq!(conn.nodelay().unwrap(), kernel);
                    kernel
                };
                let before = ask(conn);
                conn.set_nodelay(!before).unwrap();
                sender.send((before, ask(conn)))
            })
        });
        let _client = server.client();
        let seen = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(seen, (inherited, !inherited));
    }
}

#[test]
fn a_plain_connection_needs_no_ssl() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        builder.on(Connect, move |conn, ()| {
            sender.send(format!("{} {}", conn.is_tls_handshaking(), conn.is_tls()))
        })
    });
    let _client = server.client();
    log.expect(&["false false"]);
}

#[test]
fn size_limits_are_the_servers_until_they_are_set() {
    let server = Running::start(|builder| {
        builder
            .max_recv_size(100)
            .max_send_size(200)
            .on(Connect, |conn, ()| {
                assert_eq!((conn.max_recv_size(), conn.max_send_size()), (100, 200));
            })
            .on(Utf8, |conn, text| {
                if text == "wide" {
                    conn.set_max_recv_size(1000);
                    conn.set_max_send_size(1000);
                    assert_eq!((conn.max_recv_size(), conn.max_send_size()), (1000, 1000));
                }
                let size = conn.max_send_size();
                let error = conn.send_utf8(&"x".repeat(size + 1)).unwrap_err();
                let limit = size;
                let too_big = SendError::TooBig {
                    size: size + 1,
                    limit,
                };
                assert_eq!(error, too_big);
                conn.send_utf8(&"x".repeat(size))
            })
    });
    let mut client = server.ready();
    client.send_text(&"a".repeat(100));
    client.expect_text(&"x".repeat(200));
    // In one segment: the new limit applies from the next frame on.
    let wide = support::frame(0x81, b"wide");
    client.send_raw([wide, support::frame(0x81, &[b'a'; 1000])].concat());
    client.expect_text(&"x".repeat(1000));
    client.expect_text(&"x".repeat(1000));
    client.send_text(&"a".repeat(1001));
    client.expect_close(1009);
    // Other connections have the server's limit.
    let mut other = server.ready();
    other.send_text(&"a".repeat(101));
    other.expect_close(1009);
}

#[test]
fn ids_are_unique_and_count_up_over_all_servers() {
    let (sender, ids) = mpsc::channel();
    let start = |sender: mpsc::Sender<_>| {
        Running::start(move |builder| {
            support::echo(builder).on(Connect, move |conn, ()| {
                let id = conn.id();
                assert_eq!(id.to_string(), id.as_u64().to_string());
                assert_eq!(u64::from(id), id.as_u64());
                sender.send(id)
            })
        })
    };
    let servers = [start(sender.clone()), start(sender)];
    let mut last = None;
    for round in 0..20 {
        // A connection that ends frees its slot, but not its number.
        let _client = servers[round % 2].client();
        let id = ids.recv_timeout(PATIENCE).unwrap();
        assert!(last.is_none_or(|last| last < id), "{last:?} {id}");
        last = Some(id);
    }
}

/// Runs a closure in a turn of the server's loop; each call uses a later turn.
fn in_a_turn<T: Send + 'static>(
    server: &Running,
    ask: impl FnOnce(&mut wsloop::Hub<'_>) -> T + Send + 'static,
) -> T {
    let (sender, answer) = mpsc::channel();
    server
        .handle
        .run(move |hub| _ = sender.send(ask(hub)))
        .unwrap();
    answer.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn a_stale_id_finds_nobody() {
    let (sender, ids) = mpsc::channel();
    let server = Running::start(move |builder| {
        let mut stale = None;
        support::echo(builder)
            .on(Ready, move |conn, ()| {
                if let Some(stale) = stale {
                    assert_ne!(stale, conn.id());
                    assert!(conn.server().get(stale).is_none(), "in the same place");
                }
                let number = conn.id().as_u64();
                let found = conn.server().find(number).map(|conn| conn.id().as_u64());
                assert_eq!(found, Some(number), "by its bare number, too");
                stale = Some(conn.id());
                sender.send(conn.id()).unwrap();
            })
            .on(Disconnect, |conn, _| {
                let id = conn.id();
                assert!(conn.server().get(id).is_none());
                assert!(conn.server().find(id.as_u64()).is_none());
            })
    });
    let first = server.ready();
    let stale = ids.recv_timeout(PATIENCE).unwrap();
    drop(first);
    // The slot is free after the turn of the `Disconnect`, and the next connection reuses it.
    while in_a_turn(&server, move |hub| hub.get(stale).is_some()) {}
    in_a_turn(&server, |_| ());
    let mut other = server.ready();
    other.expect_alive();
    // The stale id is harmless from other threads, too.
    server.handle.send_utf8(stale, "for nobody").unwrap();
    server.handle.disconnect(stale, 4000, "").unwrap();
    other.expect_alive();

    // An id of another server, which has a connection in the same slot.
    let mut lonely = Server::builder().listen("127.0.0.1:0").build().unwrap();
    assert!(lonely.hub().get(stale).is_none());
}
