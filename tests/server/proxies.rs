//! Clients behind proxies, which the PROXY protocol or request headers identify. A client that
//! sends these itself cannot change its address.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use wsloop::event::{Connect, Disconnect, Error, Ready, Request};
use wsloop::plain_http::Response;
use wsloop::{Builder, ClientAddress, Connection, Place, Rate, RefusalReason, Server, Stats};

use crate::support::temp::TempDir;
use crate::support::{Client, Log, PATIENCE, REQUEST, Running, echo, log, request_with};

/// Connects from a given local address.
fn from(addr: SocketAddr, ip: [u8; 4]) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let own = SocketAddr::new(ip.into(), 0);
    socket.bind(&own.into()).expect("loopback has many");
    socket.connect(&addr.into()).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Client::over(stream)
}

const PROXY: [u8; 4] = [127, 0, 0, 1];
const FARTHER_PROXY: [u8; 4] = [127, 0, 0, 7];
const STRANGER: [u8; 4] = [127, 0, 0, 2];

/// Returns what the server knows of a client: its address, whether it uses TLS, and the URI.
fn seen(conn: &Connection<'_>) -> String {
    let addr = conn.peer_addr();
    let addr = addr.map_or_else(|| "unix".to_owned(), |addr| addr.to_string());
    let tls = if conn.is_client_tls() { " tls" } else { "" };
    let uri = conn.request_uri().map(|uri| uri.to_string());
    format!("{addr}{tls} {}", uri.unwrap_or_default())
}

/// Records what the server knows of each client; its port only if the proxy has sent one.
fn watched(builder: Builder, log: &Sender<String>) -> Builder {
    let tell = |log: &Sender<String>, text: String| _ = log.send(text);
    let (connect, ready, error) = (log.clone(), log.clone(), log.clone());
    let end = log.clone();
    echo(builder)
        .on(Connect, move |conn, ()| {
            let addr = conn.peer_addr().filter(|addr| !addr.ip().is_loopback());
            tell(&connect, format!("connect {addr:?}"));
        })
        .on(Ready, move |conn, ()| {
            tell(&ready, format!("ready {}", seen(conn)))
        })
        .on(Error, move |_, fault| {
            tell(&error, format!("error {fault}"))
        })
        .on(Disconnect, move |conn, _| {
            let ip = conn.ip().map(|ip| ip.to_string());
            tell(&end, format!("end {}", ip.unwrap_or_default()));
        })
}

/// Starts a server behind proxies that name the client in a header.
fn behind(address: ClientAddress, configure: fn(Builder) -> Builder) -> (Running, Log) {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let builder = watched(builder, &sender)
            // The limit for clients that are still connected when the server stops.
            .close_timeout(Duration::from_millis(500))
            .trusted_proxies(["127.0.0.1", "127.0.0.7", "10.0.0.0/8"])
            .client_address(address);
        configure(builder)
    });
    (server, log)
}

/// Sends a request with these header lines; returns the `Ready` entry of the log.
fn upgraded(server: &Running, log: &Log, ip: [u8; 4], lines: &str) -> String {
    let mut client = from(server.addr, ip);
    let response = client.request(request_with(lines));
    assert_eq!(response.status, 101, "{response:?}");
    client.send_text("it lives");
    client.expect_text("it lives");
    assert_eq!(log.next(), "connect None", "before the request");
    let ready = log.next();
    drop(client);
    assert!(log.next().starts_with("end "));
    ready
}

#[test]
fn a_trusted_proxy_tells_the_client() {
    let all = |builder: Builder| builder.forwarded_scheme(true).forwarded_host(true);
    let (server, log) = behind(ClientAddress::XForwardedFor, all);
    for (lines, expected) in [
        (
            "X-Forwarded-For: 192.0.2.7\r\n",
            "ready 192.0.2.7:0 ws://example.com/chat?room=7",
        ),
        (
            "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 127.0.0.7\r\nX-Forwarded-Proto: https\r\n",
            "ready 192.0.2.7:0 tls wss://example.com/chat?room=7",
        ),
        (
            "X-Forwarded-For: [2001:db8::7]:81\r\nX-Forwarded-Host: chat.test:8080\r\n",
            "ready [2001:db8::7]:81 ws://chat.test:8080/chat?room=7",
        ),
    ] {
        assert_eq!(upgraded(&server, &log, PROXY, lines), expected);
    }
    let (server, log) = behind(ClientAddress::Forwarded, all);
    let ready = upgraded(
        &server,
        &log,
        PROXY,
        "Forwarded: for=6.6.6.6, for=\"[2001:db8::7]:81\";proto=https;host=chat.test\r\n",
    );
    assert_eq!(
        ready,
        "ready [2001:db8::7]:81 tls wss://chat.test/chat?room=7"
    );
    let (server, log) = behind(ClientAddress::Header("X-Real-IP".into()), |builder| builder);
    let lines = "X-Real-IP: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n";
    let ready = upgraded(&server, &log, PROXY, lines);
    assert_eq!(ready, "ready 192.0.2.7:0 ws://example.com/chat?room=7");
}

/// Attempts of clients to look like others. The server sees each as what it is.
#[test]
fn spoofing_by_headers() {
    let all = |builder: Builder| builder.forwarded_scheme(true).forwarded_host(true);
    let every = "X-Forwarded-For: 10.0.0.9\r\nX-Real-IP: 10.0.0.9\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: evil.test\r\nForwarded: for=10.0.0.9;proto=https;host=evil.test\r\n\
                 X-Forwarded: for=10.0.0.9\r\nX-Client-IP: 10.0.0.9\r\nTrue-Client-IP: 10.0.0.9\r\n\
                 CF-Connecting-IP: 10.0.0.9\r\nX-Cluster-Client-IP: 10.0.0.9\r\n\
                 Via: 1.1 proxy\r\nX_Forwarded_For: 10.0.0.9\r\n";
    // Headers from a client that is not a trusted proxy are ignored.
    for address in [
        ClientAddress::XForwardedFor,
        ClientAddress::Forwarded,
        ClientAddress::Header("X-Real-IP".into()),
    ] {
        let (server, log) = behind(address, all);
        let ready = upgraded(&server, &log, STRANGER, every);
        assert!(ready.starts_with("ready 127.0.0.2:"), "{ready}");
        assert!(ready.ends_with(" ws://example.com/chat?room=7"), "{ready}");
    }
    // Without trusted proxies all such headers are ignored.
    let (sender, log_) = log();
    let server = Running::start(move |builder| watched(builder, &sender));
    let ready = upgraded(&server, &log_, PROXY, every);
    assert!(ready.starts_with("ready 127.0.0.1:"), "{ready}");
    // A client's own values come before the values that its proxy adds, on a separate line or on
    // the same one.
    let (server, log) = behind(ClientAddress::XForwardedFor, all);
    for (written, added) in [
        ("6.6.6.6", "192.0.2.7"),
        ("10.0.0.9", "192.0.2.7"),
        ("192.0.2.8, 10.0.0.9", "192.0.2.7"),
        ("", "192.0.2.7"),
        (",", "192.0.2.7"),
        ("\"", "192.0.2.7"),
        ("\\", "192.0.2.7"),
        ("192.0.2.8:80 ", "192.0.2.7"),
        ("\u{e9}", "192.0.2.7"),
        ("10.0.0.9", "192.0.2.7, 127.0.0.7"),
    ] {
        for lines in [
            format!("X-Forwarded-For: {written}, {added}\r\n"),
            format!("X-Forwarded-For: {written}\r\nX-Forwarded-For: {added}\r\n"),
            format!(
                "x-forwarded-for: {written}\r\nX-FORWARDED-FOR: {added}\r\n{}",
                "X-A: b\r\n"
            ),
        ] {
            let ready = upgraded(&server, &log, PROXY, &lines);
            assert!(ready.starts_with("ready 192.0.2.7:0 "), "{lines}: {ready}");
        }
    }
    let (server, log) = behind(ClientAddress::Forwarded, all);
    for (written, added) in [
        ("for=10.0.0.9;host=evil.test", "for=192.0.2.7"),
        ("for=\"", "for=192.0.2.7"),
        ("for=10.0.0.9;x=\"", "for=\"192.0.2.7\""),
        ("\\", "for=192.0.2.7"),
        (
            "for=10.0.0.9;proto=https",
            "for=192.0.2.7;by=127.0.0.7,for=127.0.0.7",
        ),
        // The host that the client requested, as a proxy quotes it.
        ("for=10.0.0.9", "for=192.0.2.7;by=\"evil,for=10.0.0.9\""),
    ] {
        let lines = format!("Forwarded: {written}, {added}\r\n");
        let ready = upgraded(&server, &log, PROXY, &lines);
        assert_eq!(
            ready, "ready 192.0.2.7:0 ws://example.com/chat?room=7",
            "{lines}"
        );
    }
    // Invalid hosts and schemes.
    let (server, log) = behind(ClientAddress::XForwardedFor, all);
    for lines in [
        "X-Forwarded-Host: u@evil.test\r\n",
        "X-Forwarded-Host: evil.test/path\r\n",
        "X-Forwarded-Host: evil.test, \r\nX-Forwarded-Host: a b\r\n",
        "X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: \u{e9}\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
    ] {
        let lines = format!("X-Forwarded-For: 192.0.2.7\r\n{lines}");
        let ready = upgraded(&server, &log, PROXY, &lines);
        assert_eq!(
            ready, "ready 192.0.2.7:0 ws://example.com/chat?room=7",
            "{lines}"
        );
    }
}

/// Sends a request with these header lines from a proxy; returns the status, and the client.
fn asked(server: &Running, lines: &str) -> (u16, Client) {
    let mut client = from(server.addr, PROXY);
    let status = client.request(request_with(lines)).status;
    (status, client)
}

#[test]
fn limits_go_by_the_client_and_not_by_the_proxy() {
    let (server, _log) = behind(ClientAddress::XForwardedFor, |builder| {
        builder
            .max_connections_per_address(2)
            .max_half_open_per_address(2)
            .max_handshake_rate(Rate::new(3, Duration::from_secs(3600)))
    });
    let one = "X-Forwarded-For: 192.0.2.1\r\n";
    // The limit does not apply to the proxy itself: these connections have not sent a request yet.
    let idle: Vec<_> = (0..20).map(|_| from(server.addr, PROXY)).collect();
    let (first, second) = (asked(&server, one), asked(&server, one));
    assert_eq!((first.0, second.0), (101, 101));
    assert_eq!(asked(&server, one).0, 429, "two are open");
    for other in 2..12 {
        let (status, mut client) = asked(&server, &format!("X-Forwarded-For: 192.0.2.{other}\r\n"));
        assert_eq!(status, 101, "{other}");
        client.expect_alive();
    }
    // A client that disconnects makes room, and each client has its own rate.
    let (_, mut leaving) = first;
    leaving.send_close(1000, "");
    leaving.expect_close(1000);
    leaving.expect_eof();
    let third = loop {
        // The server frees the place when it has read the end of the stream.
        match asked(&server, one) {
            (101, client) => break client,
            (status, _) => assert_eq!(status, 429),
        }
    };
    drop((second, third, idle));
    while server
        .handle
        .ask(|hub| hub.all_ids().len())
        .expect("it runs")
        .recv()
        .expect("so")
        > 0
    {}
    assert_eq!(asked(&server, one).0, 429, "a fourth handshake in an hour");
    // A request whose header names no client counts for the proxy, so it cannot evade the limits.
    let odd: Vec<_> = (0..3)
        .map(|_| asked(&server, "X-Forwarded-For: x\r\n"))
        .collect();
    let statuses: Vec<_> = odd.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [101, 101, 429]);
    drop(odd);
    let stats = server.stop();
    assert!(stats.refused(RefusalReason::AddressConnections) >= 2);
    assert_eq!(stats.refused(RefusalReason::AddressRate), 1);
}

#[test]
fn a_connection_that_a_proxy_keeps_alive_counts_for_a_client_only_while_it_asks() {
    let (server, log) = behind(ClientAddress::XForwardedFor, |builder| {
        builder
            .max_connections_per_address(1)
            .on(Request, |conn, _| Some(Response::new(200).body(seen(conn))))
    });
    let plain = |ip: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {ip}\r\n\r\n");
    let mut kept = from(server.addr, PROXY);
    for ip in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let response = kept.request(plain(ip));
        let body = String::from_utf8(response.body).expect("text");
        assert_eq!((response.status, body), (200, format!("{ip}:0 ")));
    }
    // The connection counts for the proxy again, so the client may open another one.
    let (status, mut open) = asked(&server, "X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(status, 101);
    // Now the plain request exceeds the limit, and the response closes the connection.
    let mut over = from(server.addr, PROXY);
    assert_eq!(over.request(plain("192.0.2.1")).status, 429);
    over.expect_eof();
    let response = kept.request(plain("192.0.2.3"));
    assert_eq!(response.status, 200);
    // The same connection may be upgraded for another client.
    let upgraded = kept.request(request_with("X-Forwarded-For: 192.0.2.4\r\n"));
    assert_eq!(upgraded.status, 101);
    kept.expect_alive();
    assert_eq!(asked(&server, "X-Forwarded-For: 192.0.2.4\r\n").0, 429);
    open.expect_alive();
    drop((open, kept));
    server.stop();
    let ends: Vec<_> = log
        .rest()
        .into_iter()
        .filter(|line| line.starts_with("end"))
        .collect();
    assert!(ends.contains(&"end 192.0.2.4".to_owned()), "{ends:?}");
}

#[test]
fn what_a_proxy_sends_between_two_requests_is_its_own() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let refused = sender.clone();
        echo(builder)
            .trusted_proxies(["127.0.0.1"])
            .client_address(ClientAddress::XForwardedFor)
            .health_check("/health")
            .max_handshake_rate(Rate::new(1, Duration::from_secs(3600)))
            .on(Request, |conn, _| Some(Response::new(200).body(seen(conn))))
            .on(Error, move |conn, fault| {
                _ = refused.send(format!("{fault} {:?}", conn.ip()));
            })
    });
    let mut kept = from(server.addr, PROXY);
    let plain = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    assert_eq!(kept.request(plain).body, b"192.0.2.1:0 ");
    // Health checks count for no client, however often they come.
    for _ in 0..3 {
        assert_eq!(
            kept.request("GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                .status,
            200
        );
    }
    // An invalid request is not attributed to the last client.
    assert_eq!(
        kept.request("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").status,
        400
    );
    let ip: std::net::IpAddr = PROXY.into();
    assert_eq!(
        log.next(),
        format!("handshake refused: malformed header {:?}", Some(ip))
    );
}

#[test]
fn what_a_header_says_of_tls_holds_for_whom_it_names() {
    let (sender, log) = log();
    let server = Running::start_on(move || {
        let place = Place::tcp("127.0.0.1:0").proxy_protocol(["127.0.0.1"]);
        let builder = Server::builder().listener(place);
        echo(builder.close_timeout(Duration::from_millis(300)))
            .trusted_proxies(["192.0.2.7"])
            .client_address(ClientAddress::XForwardedFor)
            .on(Ready, move |conn, ()| {
                let verified = conn.is_verified_by_proxy();
                _ = sender.send(format!("{} {verified}", seen(conn)));
            })
    });
    for (lines, expected) in [
        ("", "192.0.2.7:56324 tls wss://example.com/chat?room=7 true"),
        // The TLS information describes the next proxy, not the client behind it.
        (
            "X-Forwarded-For: 198.51.100.9\r\n",
            "198.51.100.9:0 ws://example.com/chat?room=7 false",
        ),
    ] {
        let mut client = from(server.addr, PROXY);
        client.send_raw([&v2_ssl()[..], request_with(lines).as_bytes()].concat());
        assert_eq!(client.response().status, 101);
        log.expect(&[expected]);
    }
}

#[test]
fn nobody_can_reach_a_connection_before_its_header() {
    let (server, log) = by_header(|builder| builder);
    let mut client = from(server.addr, PROXY);
    client.send_raw(&V1[..20]);
    let count = || {
        let ids = server.handle.ask(|hub| hub.all_ids()).expect("it runs");
        ids.recv().expect("it answers").len()
    };
    while server
        .handle
        .ask(|hub| hub.stats().accepted)
        .expect("it runs")
        .recv()
        != Ok(1)
    {}
    assert_eq!(count(), 0);
    client.send_raw(&V1[20..]);
    assert_eq!(log.next(), "connect Some(192.0.2.7:56324)");
    assert_eq!(count(), 1);
}

#[test]
fn self_is_the_host_and_scheme_that_the_client_asked_for() {
    let configure = |builder: Builder| {
        builder
            .origins(["self"])
            .hosts(["chat.test", "inner"])
            .forwarded_scheme(true)
            .forwarded_host(true)
    };
    let (server, _log) = behind(ClientAddress::XForwardedFor, configure);
    let inner = |lines: &str| {
        let lines = format!("X-Forwarded-For: 192.0.2.7\r\n{lines}");
        request_with(&lines).replace("Host: example.com", "Host: inner")
    };
    let forwarded = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.test\r\n";
    for (lines, status) in [
        (format!("{forwarded}Origin: https://chat.test\r\n"), 101),
        (format!("{forwarded}Origin: http://chat.test\r\n"), 403),
        (format!("{forwarded}Origin: https://inner\r\n"), 403),
        (format!("{forwarded}Origin: https://evil.test\r\n"), 403),
        (
            "X-Forwarded-Host: evil.test\r\nOrigin: http://evil.test\r\n".into(),
            421,
        ),
        ("Origin: http://inner\r\n".into(), 101),
    ] {
        let mut client = from(server.addr, PROXY);
        assert_eq!(client.request(inner(&lines)).status, status, "{lines}");
    }
    // For other peers `Host` is used.
    let mut client = from(server.addr, STRANGER);
    let request = inner(&format!("{forwarded}Origin: https://chat.test\r\n"));
    assert_eq!(client.request(request).status, 403);
}

#[test]
fn a_unix_socket_is_trusted_if_it_is_named() {
    let lines = "X-Forwarded-For: 192.0.2.7\r\n";
    for (trusted, expected) in [
        (
            &["127.0.0.1"][..],
            "ready unix ws://example.com/chat?room=7",
        ),
        (&["unix:"], "ready 192.0.2.7:0 ws://example.com/chat?room=7"),
    ] {
        let (sender, log) = log();
        let dir = TempDir::new();
        let path = dir.path("socket");
        let own = path.clone();
        let server = Running::start(move |builder| {
            watched(builder, &sender)
                .listen_unix(own)
                .trusted_proxies(trusted.iter().copied())
                .client_address(ClientAddress::XForwardedFor)
        });
        let mut client = Client::over(UnixStream::connect(&path).expect("it listens"));
        assert_eq!(client.request(request_with(lines)).status, 101);
        log.expect(&["connect None", expected]);
        drop(client);
        server.stop();
    }
}

/// Starts a server that accepts connections only from proxies with the PROXY protocol.
fn by_header(configure: fn(Builder) -> Builder) -> (Running, Log) {
    let (sender, log) = log();
    let server = Running::start_on(move || {
        let place = Place::tcp("127.0.0.1:0").proxy_protocol(["127.0.0.1"]);
        let builder = watched(Server::builder().listener(place), &sender);
        configure(builder.close_timeout(Duration::from_millis(500)))
    });
    (server, log)
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

/// Returns a header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, family]);
    bytes.extend((rest.len() as u16).to_be_bytes());
    bytes.extend(rest);
    bytes
}

const TCP4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

/// Returns a header for a client that uses TLS with the proxy.
fn v2_ssl() -> Vec<u8> {
    let ssl = [0x20, 0, 5, 3, 0, 0, 0, 0];
    v2(0x21, 0x11, &[&TCP4[..], &ssl].concat())
}

#[test]
fn the_header_of_the_proxy_protocol_at_every_cut() {
    let (server, log) = by_header(|builder| builder);
    for (header, ready) in [
        (
            V1.to_vec(),
            "ready 192.0.2.7:56324 ws://example.com/chat?room=7",
        ),
        (
            v2(0x21, 0x11, &TCP4),
            "ready 192.0.2.7:56324 ws://example.com/chat?room=7",
        ),
        (
            v2_ssl(),
            "ready 192.0.2.7:56324 tls wss://example.com/chat?room=7",
        ),
    ] {
        let stream = [&header[..], REQUEST.as_bytes()].concat();
        for cut in 0..=header.len() + 3 {
            let mut client = from(server.addr, PROXY);
            client.send_raw(&stream[..cut]);
            if cut > 0 {
                // Waits, so that the server reads the parts separately.
                settle(&server);
            }
            client.send_raw(&stream[cut..]);
            assert_eq!(client.response().status, 101, "{cut}");
            client.expect_alive();
            log.expect(&["connect Some(192.0.2.7:56324)", ready]);
            drop(client);
            log.expect(&["end 192.0.2.7"]);
        }
    }
}

/// Waits until the server has completed a turn.
fn settle(server: &Running) {
    server
        .handle
        .ask(|_| ())
        .expect("it runs")
        .recv()
        .expect("it answers");
}

#[test]
fn local_and_unknown_keep_the_proxy_s_address() {
    let (server, log) = by_header(|builder| {
        builder
            .trusted_proxies(["127.0.0.1"])
            .client_address(ClientAddress::XForwardedFor)
    });
    let request = request_with("X-Forwarded-For: 6.6.6.6\r\n");
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x31, &[b'/'; 216]),
        // HAProxy sends LOCAL for clients of a Unix socket, and not only for its own connections.
        v2(0x20, 0, &[]),
        v2(0x20, 0x11, &[]),
    ] {
        let mut client = from(server.addr, PROXY);
        client.send_raw([&header[..], request.as_bytes()].concat());
        assert_eq!(client.response().status, 101);
        assert_eq!(log.next(), "connect None");
        let ready = log.next();
        assert!(
            ready.starts_with("ready 127.0.0.1:"),
            "nobody is believed: {ready}"
        );
        drop(client);
        log.expect(&["end 127.0.0.1"]);
    }
}

/// Attempts of clients, and mistakes of proxies, on a listener for proxies. They cause no events,
/// and the next client is served.
#[test]
fn spoofing_by_the_header_of_the_proxy_protocol() {
    let (server, log) = by_header(|builder| builder);
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    for (first, status) in [
        // No header.
        (REQUEST.as_bytes(), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        // Malformed headers.
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n", 400),
        (b"PROXY TCP4 192.0.2.999 198.51.100.1 56324 443\r\n", 400),
        (b"PROXY TCP4 192.0.2.7\r\nGET / HTTP/1.1\r\n", 400),
        (b"PROXY\r\n", 400),
        (b" PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", 400),
        (b"\r\nPROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", 400),
        (long.as_bytes(), 400),
        (&v2(0x31, 0x11, &TCP4), 400),
        (&v2(0x21, 0x11, &TCP4[..4]), 400),
        (&v2(0x21, 0x11, &[0; 60_000]), 400),
    ] {
        let mut client = from(server.addr, PROXY);
        client.send_raw(first);
        assert_eq!(client.response().status, status, "{}", first.escape_ascii());
        client.expect_eof();
    }
    // A second header comes from the client, and is not a valid request.
    let twice = [
        V1,
        b"PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n",
        REQUEST.as_bytes(),
    ]
    .concat();
    let mut client = from(server.addr, PROXY);
    client.send_raw(twice);
    assert_eq!(client.response().status, 400);
    client.expect_eof();
    log.expect(&["connect Some(192.0.2.7:56324)"]);
    assert!(log.next().starts_with("error "));
    log.expect(&["end 192.0.2.7"]);
    // Request headers from a client that the proxy named are not trusted either.
    let (trusting, seen) = by_header(|builder| {
        builder
            .trusted_proxies(["127.0.0.1"])
            .client_address(ClientAddress::XForwardedFor)
            .forwarded_scheme(true)
    });
    let request = request_with("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n");
    let mut client = from(trusting.addr, PROXY);
    client.send_raw([V1, request.as_bytes()].concat());
    assert_eq!(client.response().status, 101);
    seen.expect(&[
        "connect Some(192.0.2.7:56324)",
        "ready 192.0.2.7:56324 ws://example.com/chat?room=7",
    ]);
    // From other peers, with and without a header.
    for first in [V1, REQUEST.as_bytes()] {
        let mut client = from(server.addr, STRANGER);
        // The response may come first, and the rest of a longer request would meet a reset.
        _ = client.stream.write_all(first);
        assert_eq!(client.response().status, 403);
    }
    let mut client = from(server.addr, PROXY);
    client.send_raw([V1, REQUEST.as_bytes()].concat());
    assert_eq!(client.response().status, 101);
    client.expect_alive();
    log.expect(&[
        "connect Some(192.0.2.7:56324)",
        "ready 192.0.2.7:56324 ws://example.com/chat?room=7",
    ]);
    drop(client);
    let stats = server.stop();
    assert_eq!(stats.refused(RefusalReason::BadProxyHeader), 13);
    assert_eq!(stats.refused(RefusalReason::ProxyNotTrusted), 2);
}

#[test]
fn a_header_where_none_is_expected_is_refused() {
    let (sender, _log) = log();
    let server = Running::start(move |builder| watched(builder, &sender));
    for header in [V1.to_vec(), v2(0x21, 0x11, &TCP4)] {
        let mut client = from(server.addr, PROXY);
        client.send_raw([&header[..], REQUEST.as_bytes()].concat());
        assert_eq!(client.response().status, 400);
        client.expect_eof();
    }
}

#[test]
fn one_that_sends_no_header_is_cut_in_time_and_probes_are_silent() {
    let (server, log) = by_header(|builder| builder.handshake_timeout(Duration::from_millis(300)));
    let mut silent = from(server.addr, PROXY);
    let mut slow = from(server.addr, PROXY);
    slow.send_raw(&V1[..20]);
    drop(from(server.addr, PROXY));
    from(server.addr, PROXY).reset();
    let mut ended = from(server.addr, PROXY);
    ended.send_raw(&V1[..20]);
    ended.shutdown_write();
    ended.expect_eof();
    for client in [&mut silent, &mut slow] {
        client.expect_eof();
    }
    // The header arrives, but the request does not.
    let mut named = from(server.addr, PROXY);
    named.send_raw(V1);
    named.expect_eof();
    let stats = server.stop();
    assert_eq!(log.next(), "connect Some(192.0.2.7:56324)");
    assert!(log.next().starts_with("error "));
    assert_eq!(log.rest(), ["end 192.0.2.7"], "of no other");
    // A connection that ends in the middle of its header does not count as a probe.
    assert_eq!(stats.refused(RefusalReason::BadProxyHeader), 1);
    assert_eq!(stats.refused(RefusalReason::TimedOut), 3);
    assert!(stats.probes >= 2, "{stats:?}");
}

#[test]
fn limits_go_by_the_client_that_the_header_names() {
    let (server, log) = by_header(|builder| builder.max_connections_per_address(1));
    let header = |host: u8| format!("PROXY TCP4 192.0.2.{host} 198.51.100.1 56324 443\r\n");
    let ask = |host: u8| {
        let mut client = from(server.addr, PROXY);
        client.send_raw([header(host).as_bytes(), REQUEST.as_bytes()].concat());
        let status = client.response().status;
        (status, client)
    };
    let all: Vec<_> = (0..10).map(ask).collect();
    assert!(all.iter().all(|(status, _)| *status == 101));
    for _ in 0..10 {
        assert!(log.next().starts_with("connect ") && log.next().starts_with("ready "));
    }
    assert_eq!(ask(0).0, 429);
    drop(all);
    for _ in 0..10 {
        assert!(
            log.next().starts_with("end "),
            "the refused one is not told of"
        );
    }
    assert_eq!(ask(0).0, 101);
}

#[test]
fn over_unix_sockets_and_with_a_proxy_in_front_of_the_proxy() {
    let (sender, log) = log();
    let dir = TempDir::new();
    let path = dir.path("socket");
    let own = path.clone();
    let server = Running::start(move |builder| {
        watched(builder, &sender)
            .listener(Place::unix(own).proxy_protocol(["unix:"]))
            .trusted_proxies(["127.0.0.7"])
            .client_address(ClientAddress::XForwardedFor)
            .max_connections_per_address(1)
    });
    let mut clients = Vec::new();
    for (client_ip, header) in [
        ("192.0.2.1", "PROXY TCP4 192.0.2.1 198.51.100.1 7 443\r\n"),
        // The client that the header names is itself a proxy, with several clients.
        ("192.0.2.8", "PROXY TCP4 127.0.0.7 198.51.100.1 7 443\r\n"),
        ("192.0.2.9", "PROXY TCP4 127.0.0.7 198.51.100.1 7 443\r\n"),
    ] {
        let request = request_with(&format!("X-Forwarded-For: {client_ip}\r\n"));
        let mut client = Client::over(UnixStream::connect(&path).expect("it listens"));
        client.send_raw([header.as_bytes(), request.as_bytes()].concat());
        assert_eq!(client.response().status, 101, "{client_ip}");
        assert!(log.next().starts_with("connect "));
        let ready = log.next();
        assert!(ready.starts_with(&format!("ready {client_ip}:")), "{ready}");
        clients.push(client);
    }
    drop(server);
}

#[test]
fn a_handler_may_refuse_whom_the_header_names() {
    use wsloop::event::Verdict;
    let (server, _log) = by_header(|builder| {
        builder.on(Connect, |conn, ()| {
            let named = conn.ip().is_some_and(|ip| !ip.is_loopback());
            assert_eq!(
                conn.direct_peer_addr().map(|addr| addr.ip()),
                Some(PROXY.into())
            );
            if named {
                Verdict::Refuse
            } else {
                Verdict::Accept
            }
        })
    });
    let mut client = from(server.addr, PROXY);
    client.send_raw([V1, REQUEST.as_bytes()].concat());
    assert_eq!(client.response().status, 403);
    client.expect_eof();
}

#[test]
fn listeners_that_are_opened_again_still_want_the_header() {
    let (server, log) = by_header(|builder| builder);
    let addr = server.addr;
    let again = server.handle.run(|hub| {
        hub.stop_listening();
        hub.start_listening();
    });
    again.expect("it runs");
    settle(&server);
    expect_header_wanted(addr, &log);
}

/// Connects without a header, which is refused, and with one.
fn expect_header_wanted(addr: SocketAddr, log: &Log) {
    assert_eq!(from(addr, PROXY).request(REQUEST).status, 400);
    let mut client = from(addr, PROXY);
    client.send_raw([V1, REQUEST.as_bytes()].concat());
    assert_eq!(client.response().status, 101);
    assert_eq!(log.next(), "connect Some(192.0.2.7:56324)");
}

#[test]
fn a_socket_that_listens_already_may_be_for_proxies() {
    let (sender, log) = log();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it is bound");
    let _server = Running::start_on(move || {
        let place = Place::from(listener).proxy_protocol(["127.0.0.1"]);
        watched(Server::builder().listener(place), &sender)
    });
    expect_header_wanted(addr, &log);
}

#[test]
fn adopted_connections_have_their_clients_too() {
    let (sender, log) = log();
    let server = Running::start_on(move || {
        watched(Server::builder().headless(true), &sender)
            .trusted_proxies(["127.0.0.1"])
            .client_address(ClientAddress::XForwardedFor)
            .max_connections_per_address(1)
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it is bound");
    let request = request_with("X-Forwarded-For: 192.0.2.7\r\n");
    let limits = wsloop::Limits::default();
    let parsed = wsloop::handshake::Parser::new(&limits).parse(request.as_bytes());
    let (parsed, _) = parsed.expect("a good request").expect("it is whole");
    // Before the opening handshake, and after it.
    let mut client = from(addr, PROXY);
    let (socket, _) = listener.accept().expect("the client is there");
    server
        .handle
        .adopt(socket, request.as_bytes())
        .expect("it runs");
    assert_eq!(client.response().status, 101);
    log.expect(&[
        "connect None",
        "ready 192.0.2.7:0 ws://example.com/chat?room=7",
    ]);
    let (mut second, mut third) = (from(addr, PROXY), from(addr, STRANGER));
    for _ in 0..2 {
        let (socket, _) = listener.accept().expect("the client is there");
        let adopted = server
            .handle
            .adopt_upgraded(socket, b"", parsed.clone(), None);
        adopted.expect("it runs");
    }
    // The client already has a connection. Headers of a peer that is not a proxy are ignored.
    second.expect_close(1013);
    third.expect_alive();
    client.expect_alive();
    drop((client, second, third));
    server.stop();
    let rest = log.rest();
    let count = |what: &str| rest.iter().filter(|line| line.starts_with(what)).count();
    // The first `connect` was read above, and the refused connection has no events.
    assert_eq!((count("connect"), count("end")), (1, 2), "{rest:?}");
}

/// A TLS client, whose proxy sends the header before the TLS handshake.
#[cfg(feature = "tls")]
#[test]
fn with_tls_behind_the_header() {
    use std::io::Read;

    use crate::support::tls::{Identity, session};
    use rustls::StreamOwned;

    let identity = Identity::new();
    let (sender, log) = log();
    let config = identity.server.clone();
    let server = Running::start_on(move || {
        let place = Place::tcp("127.0.0.1:0")
            .tls(config)
            .proxy_protocol(["127.0.0.1"]);
        watched(Server::builder().listener(place), &sender)
            .handshake_timeout(Duration::from_millis(1500))
    });
    // The header alone, with the first TLS message, and in pieces.
    for cut in [0, 1, V1.len() - 1, V1.len()] {
        let mut stream = from(server.addr, PROXY).stream;
        stream.write_all(&V1[..cut]).expect("it reads");
        if cut > 0 {
            settle(&server);
        }
        let mut head = V1[cut..].to_vec();
        let mut session = session(&identity.client, "localhost");
        session.write_tls(&mut head).expect("a hello");
        // The ClientHello follows the rest of the header.
        stream.write_all(&head).expect("it reads");
        let mut client = Client::over(StreamOwned::new(session, stream));
        client.upgrade();
        client.expect_alive();
        log.expect(&[
            "connect Some(192.0.2.7:56324)",
            "ready 192.0.2.7:56324 tls wss://example.com/chat?room=7",
        ]);
        drop(client);
        log.expect(&["end 192.0.2.7"]);
    }
    // Without a header the server sends nothing, because TLS has not started.
    for first in [REQUEST.as_bytes(), &[22, 3, 1, 0, 1, 1], b"PROXY\r\n"] {
        let mut stream = from(server.addr, PROXY).stream;
        stream.write_all(first).expect("it reads");
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    // Data after the header that is not TLS fails as usual.
    let mut client = from(server.addr, PROXY);
    client.send_raw([V1, REQUEST.as_bytes()].concat());
    assert_eq!(client.response().status, 400);
    log.expect(&["connect Some(192.0.2.7:56324)"]);
    // A client that stops after the header, and one that stops before it.
    let mut named = from(server.addr, PROXY);
    named.send_raw(V1);
    let mut silent = from(server.addr, PROXY);
    silent.expect_eof();
    named.expect_eof();
    let stats = server.stop();
    assert_eq!(stats.refused(RefusalReason::BadProxyHeader), 3);
}

#[test]
fn going_down_and_lifetimes_end_those_who_have_no_header_yet() {
    let (server, log) = by_header(|builder| {
        builder
            .max_lifetime(Duration::from_millis(200))
            .close_timeout(Duration::from_millis(500))
    });
    let mut old = from(server.addr, PROXY);
    _ = old.read_to_end();
    let (down, down_log) = by_header(|builder| builder.close_timeout(Duration::from_millis(500)));
    let mut waiting = from(down.addr, PROXY);
    waiting.send_raw(&V1[..10]);
    settle(&down);
    let stats: Stats = down.stop();
    assert_eq!(stats.accepted, 1);
    _ = waiting.read_to_end();
    server.stop();
    assert_eq!(log.rest(), [""; 0]);
    assert_eq!(down_log.rest(), [""; 0]);
}

#[test]
fn contradictions_are_told_when_it_is_built() {
    let build = |configure: fn(Builder) -> Builder| {
        let builder = configure(Server::builder().listen("127.0.0.1:0"));
        builder
            .build()
            .expect_err("it contradicts itself")
            .to_string()
    };
    let header = ClientAddress::XForwardedFor;
    assert!(build(|b| b.trusted_proxies(["::1"])).contains("without client_address"));
    assert!(
        build(|b| b.client_address(ClientAddress::XForwardedFor))
            .contains("any client could set the header")
    );
    assert!(build(|b| b.forwarded_scheme(true)).contains("without trusted_proxies"));
    assert!(build(|b| b.forwarded_host(true)).contains("without trusted_proxies"));
    for entry in ["localhost", "10.0.0.0/33", "", "unix"] {
        let builder = Server::builder().listen("127.0.0.1:0");
        let built = builder
            .trusted_proxies([entry])
            .client_address(header.clone())
            .build();
        let error = built.expect_err("no network").to_string();
        assert!(
            error.starts_with(&format!("{entry:?} is neither an address")),
            "{error}"
        );
        let place = Place::tcp("127.0.0.1:0").proxy_protocol([entry]);
        let built = Server::builder().listener(place).build();
        assert_eq!(built.expect_err("no network").to_string(), error);
    }
    let named = build(|b| {
        b.trusted_proxies(["::1"])
            .client_address(ClientAddress::Header("no header".into()))
    });
    assert_eq!(named, "\"no header\" is not a header name");
}

/// Two proxies in a row: the nearest one names the other in the header.
#[test]
fn two_hops() {
    let (server, log) = behind(ClientAddress::XForwardedFor, |builder| builder);
    let lines = "X-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n";
    let ready = upgraded(&server, &log, FARTHER_PROXY, lines);
    assert!(ready.starts_with("ready 192.0.2.7:0 "), "{ready}");
}
