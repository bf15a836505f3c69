//! Limits for all connections of one address, for half-open connections, and the memory budget,
//! over real sockets.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use wsloop::event::{Connect, Request};
use wsloop::{Hub, Rate, plain_http::Response};

use crate::support::{self, Client, PATIENCE, REQUEST, Running, settle};

/// Connects from a given local address.
fn from(server: &Running, ip: [u8; 4]) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let own = SocketAddr::new(IpAddr::from(ip), 0);
    socket.bind(&own.into()).expect("loopback has many");
    socket.connect(&server.addr.into()).expect("it listens");
    Client::over(TcpStream::from(socket))
}

const ONE: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// Expects a refusal that comes before any handler is called.
fn expect_refused(mut client: Client) {
    assert_eq!(client.response().status, 429);
    client.expect_eof();
}

/// Waits until a condition holds for the hub.
fn wait_until(server: &Running, done: impl Fn(&mut Hub<'_>) -> bool + Clone + Send + 'static) {
    let started = std::time::Instant::now();
    loop {
        let answer = server.handle.ask(done.clone()).expect("it runs");
        if answer.recv_timeout(PATIENCE).expect("it answers") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "it never is so");
    }
}

#[test]
fn one_address_has_so_many_connections_and_the_others_theirs() {
    let (entries, log) = support::log();
    let server = Running::start(move |builder| {
        support::echo(builder)
            .max_connections_per_address(2)
            .on(Connect, move |_, ()| _ = entries.send("connect".into()))
    });
    let mut first = from(&server, ONE);
    first.upgrade();
    let mut second = from(&server, ONE);
    second.upgrade();
    for _ in 0..3 {
        expect_refused(from(&server, ONE));
    }
    let mut other = from(&server, OTHER);
    other.upgrade();
    first.send_close(1000, "");
    first.expect_close(1000);
    first.expect_eof();
    wait_until(&server, |hub| hub.all_ids().len() == 2);
    let mut third = from(&server, ONE);
    third.upgrade();
    for client in [&mut second, &mut other, &mut third] {
        client.expect_alive();
    }
    drop((second, other, third));
    let stats = server.stop();
    assert_eq!((stats.over_address_connections, stats.accepted), (3, 4));
    assert_eq!(log.rest().len(), 4, "no handler hears of the others");
}

#[test]
fn one_address_has_so_many_handshakes_under_way() {
    let server = Running::start(|builder| support::echo(builder).max_half_open_per_address(2));
    let mut slow = from(&server, ONE);
    slow.send_raw(&REQUEST[..20]);
    let mut slower = from(&server, ONE);
    wait_until(&server, |hub| hub.all_ids().len() == 2);
    expect_refused(from(&server, ONE));
    let mut other = from(&server, OTHER);
    other.upgrade();
    // A completed handshake makes room for another.
    slow.send_raw(&REQUEST[20..]);
    assert_eq!(slow.response().status, 101);
    let mut next = from(&server, ONE);
    next.upgrade();
    slower.upgrade();
    drop((slow, slower, next, other));
    assert_eq!(server.stop().over_address_half_open, 1);
}

#[test]
fn one_address_connects_so_often() {
    let server = Running::start(|builder| {
        support::echo(builder).max_handshake_rate(Rate::new(3, Duration::from_secs(3600)))
    });
    for _ in 0..3 {
        let mut client = from(&server, ONE);
        client.upgrade();
        client.send_close(1000, "");
        client.expect_close(1000);
    }
    for _ in 0..2 {
        expect_refused(from(&server, ONE));
    }
    from(&server, OTHER).upgrade();
    assert_eq!(server.stop().over_handshake_rate, 2);
}

#[test]
fn adopted_connections_count_as_well() {
    let server = Running::start(|builder| support::echo(builder).max_connections_per_address(1));
    let mut first = from(&server, ONE);
    first.upgrade();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (stream, _) = listener.accept().expect("a client");
    server.handle.adopt(stream, *b"GET /").expect("it runs");
    expect_refused(Client::over(client));
    first.expect_alive();
    drop(first);
    assert_eq!(server.stop().over_address_connections, 1);
}

#[test]
fn at_so_many_handshakes_of_all_accepting_pauses() {
    let server = Running::start(|builder| {
        support::echo(builder)
            .max_half_open(2)
            .handshake_timeout(Duration::from_millis(300))
            .on(Request, |_, _| Some(Response::new(200).body("fine")))
    });
    let mut ready = server.ready();
    let idle: Vec<Client> = (0..2).map(|_| server.client()).collect();
    let mut waiting = server.client();
    waiting.send_raw(REQUEST);
    settle(&mut ready);
    // The silent connections time out, and the next client is accepted.
    assert_eq!(waiting.response().status, 101);
    for mut client in idle {
        client.expect_eof();
    }
    ready.expect_alive();
    drop((ready, waiting));
    let stats = server.stop();
    assert!(stats.half_open_pauses >= 1, "{stats:?}");
    assert_eq!((stats.accepted, stats.accept_pauses), (4, 0));
}

#[test]
fn when_memory_runs_short_nobody_new_is_let_in_until_there_is_some() {
    let server = Running::start(|builder| support::echo(builder).memory_budget(200_000));
    let mut other = server.ready();
    let mut hoarders: Vec<Client> = (0..40).map(|_| server.ready()).collect();
    let message = support::frame(0x82, &[7; 6_000]);
    for hoarder in &mut hoarders {
        hoarder.send_raw(&message[..5_000]);
        settle(&mut other);
        let used = server.handle.ask(|hub| hub.memory_used()).expect("it runs");
        let used = used.recv_timeout(PATIENCE).expect("it answers");
        if used >= Some(150_000) {
            break;
        }
    }
    let mut waiting = server.client();
    waiting.send_raw(REQUEST);
    settle(&mut other);
    wait_until(&server, |hub| hub.stats().budget_pauses == 1);
    hoarders.clear();
    assert_eq!(waiting.response().status, 101);
    drop((other, waiting));
    let stats = server.stop();
    assert_eq!((stats.budget_pauses, stats.budget_closes), (1, 0));
}

#[cfg(feature = "tls")]
#[test]
fn a_session_that_is_not_up_is_cut_for_its_memory_and_told_nothing() {
    let tls = support::tls::Identity::new().server;
    let server = Running::start_on(move || {
        let builder = wsloop::Server::builder()
            .listen("127.0.0.1:0")
            .listen_tls("127.0.0.1:0", tls);
        support::echo(builder).memory_budget(70_000)
    });
    let mut other = server.ready();
    let mut plain: Vec<Client> = (0..15).map(|_| server.ready()).collect();
    let mut secure = Client::connect(server.addrs[1]);
    wait_until(&server, |hub| hub.all_ids().len() == 17);
    let message = support::frame(0x82, &[7; 4_000]);
    for client in &mut plain {
        client.send_raw(&message[..3_900]);
        settle(&mut other);
    }
    // The TLS session holds more memory than any other connection.
    assert!(secure.read_to_end().is_empty());
    other.expect_alive();
    drop((other, plain));
    assert!(server.stop().budget_closes >= 1);
}
