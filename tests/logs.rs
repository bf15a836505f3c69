//! Log lines about refused clients: they contain the reason and the address, their number is
//! bounded, and no logger can stop the server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::Write;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use log::Level;
use support::journal::{self, Line};
use support::{Client, PATIENCE, REQUEST, Running, request_with};
use wsloop::event::{Connect, Disconnect, Error, Handshake, Origin, Utf8, Verdict};
use wsloop::{Builder, ProtocolReason, RefusalReason, Server, Stats};

/// A server whose log lines the test receives.
struct Logged {
    server: Running,
    lines: Receiver<Line>,
}

impl Logged {
    fn start(configure: impl FnOnce(Builder) -> Builder + Send + 'static) -> Self {
        Self::start_on(move || configure(Server::builder().listen("127.0.0.1:0")))
    }

    fn start_on(configure: impl FnOnce() -> Builder + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        let server = Running::start_on(move || {
            journal::capture(sender);
            configure().on(Utf8, |conn, text| conn.send_utf8(text))
        });
        Self { server, lines }
    }

    fn client(&self) -> Client {
        self.server.client()
    }

    /// Sends a request that the server refuses; returns the status, and the first line about it.
    fn refused(&self, request: impl AsRef<[u8]>) -> (u16, Line) {
        let mut client = self.client();
        let status = client.request(request).status;
        (status, self.next("wsloop::handshake"))
    }

    /// Returns the next line with a target.
    #[track_caller]
    fn next(&self, target: &str) -> Line {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("a line");
            if line.target == target && line.level < Level::Debug {
                return line;
            }
        }
    }

    /// Stops the server; returns its counters, and all lines above the level `debug`.
    fn stop(self) -> (Stats, Vec<Line>) {
        let stats = self.server.stop();
        let lines = self.lines.iter().filter(|line| line.level < Level::Debug);
        (stats, lines.collect())
    }
}

fn join(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{line:?}\n")).collect()
}

/// Returns the number of events that the lines report, including those left out.
fn told(lines: &[&Line]) -> u64 {
    let number = |text: &str, after: &str| {
        let before = text.split(after).next()?;
        let digits = before
            .rsplit(|letter: char| !letter.is_ascii_digit())
            .next()?;
        digits.parse::<u64>().ok()
    };
    lines
        .iter()
        .map(|line| match line.text.contains(" were suppressed: ") {
            true => number(&line.text, " similar lines were suppressed: ").unwrap(),
            false if line.text.contains("suppressed before") => {
                1 + number(&line.text, " similar lines were suppressed before").unwrap()
            }
            false => 1,
        })
        .sum()
}

/// Runs `count` clients; checks that there are few lines, and that they report all clients.
fn flood(
    count: u64,
    target: &str,
    configure: impl FnOnce(Builder) -> Builder + Send + 'static,
    client: impl Fn(&Running),
) -> Stats {
    let logged = Logged::start(configure);
    let begun = Instant::now();
    for _ in 0..count {
        client(&logged.server);
    }
    let (stats, lines) = logged.stop();
    let seconds = begun.elapsed().as_secs() + 2;
    let lines: Vec<&Line> = lines.iter().filter(|line| line.target == target).collect();
    // Five lines, and one about those left out.
    assert!(
        lines.len() as u64 <= 6 * seconds,
        "{} lines in {seconds} s",
        lines.len()
    );
    assert_eq!(told(&lines), count, "{target}: {lines:?}");
    stats
}

#[test]
fn a_flood_of_bad_frames_has_a_few_lines_a_second_and_none_is_lost() {
    let stats = flood(
        3000,
        "wsloop::protocol",
        |builder| builder,
        |server| {
            let mut client = server.client();
            client.send_raw([REQUEST.as_bytes(), &[0x81, 0x01, b'x']].concat());
            client.read_to_end();
        },
    );
    assert_eq!(stats.failed(ProtocolReason::Unmasked), 3000);
    assert_eq!(stats.total_failed(), 3000);
}

#[test]
fn a_flood_of_each_refusal_has_a_few_lines_a_second_and_none_is_lost() {
    let cookies = request_with(&format!("Cookie: {}\r\n", "c".repeat(20_000)));
    let many = request_with(&"A: b\r\n".repeat(200));
    let cases = [
        (
            3000,
            RefusalReason::BadHeader,
            request_with("Bad Name: x\r\n"),
        ),
        (500, RefusalReason::BadKey, REQUEST.replace("dGhl", "d")),
        (
            500,
            RefusalReason::BadRequestLine,
            "\0GET / HTTP/1.1\r\n\r\n".into(),
        ),
        (
            500,
            RefusalReason::BadTarget,
            REQUEST.replace("/chat?room=7", "/#"),
        ),
        (
            500,
            RefusalReason::BodyProhibited,
            request_with("Content-Length: 7\r\n"),
        ),
        (
            500,
            RefusalReason::ConnectionNotUpgrade,
            REQUEST.replace("keep-alive, Upgrade", "close"),
        ),
        (
            500,
            RefusalReason::DuplicateHeader,
            request_with("Host: b\r\n"),
        ),
        (200, RefusalReason::HeadTooBig, cookies),
        (
            500,
            RefusalReason::HostNotServed,
            REQUEST.replace("example.com", "other.example"),
        ),
        (
            500,
            RefusalReason::HttpVersion,
            REQUEST.replace("HTTP/1.1", "HTTP/1.0"),
        ),
        (
            500,
            RefusalReason::MethodNotGet,
            REQUEST.replace("GET", "PUT"),
        ),
        (
            500,
            RefusalReason::MissingHeader,
            REQUEST.replace("Sec-WebSocket-Key", "X"),
        ),
        (
            500,
            RefusalReason::NotUpgrade,
            REQUEST.replace("Upgrade: websocket", "Upgrade: h2c"),
        ),
        (
            500,
            RefusalReason::OriginRefused,
            request_with("Origin: https://evil.example\r\n"),
        ),
        (
            500,
            RefusalReason::Refused,
            REQUEST.replace("/chat", "/private"),
        ),
        (
            500,
            RefusalReason::TlsHello,
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}".into(),
        ),
        (500, RefusalReason::TooManyHeaders, many),
        (
            500,
            RefusalReason::UnsupportedVersion,
            REQUEST.replace(": 13", ": 8"),
        ),
    ];
    for (count, reason, request) in cases {
        let configure = |builder: Builder| {
            builder
                .hosts(["example.com"])
                .origins(["https://friend.example", "none"])
                .on(Handshake, |_, upgrade| {
                    upgrade.request().path() != "/private"
                })
        };
        let stats = flood(count, "wsloop::handshake", configure, |server| {
            let mut client = server.client();
            // The server may answer a large request before the client has sent all of it.
            _ = client.stream.write_all(request.as_bytes());
            client.read_to_end();
        });
        assert_eq!(stats.refused(reason), count, "{reason}");
        assert_eq!(stats.total_refused(), count);
        assert_eq!(stats.refusals().filter(|(_, count)| *count > 0).count(), 1);
    }
}

#[test]
fn a_flood_over_the_limits_of_an_address_has_a_few_lines_a_second_and_none_is_lost() {
    let first = std::cell::RefCell::new(None);
    let stats = flood(
        1000,
        "wsloop::limits",
        |builder| builder.max_connections_per_address(1),
        |server| {
            // The only connection that the address may have.
            let mut first = first.borrow_mut();
            first.get_or_insert_with(|| server.ready());
            server.client().read_to_end();
        },
    );
    assert_eq!(stats.refused(RefusalReason::AddressConnections), 1000);
}

#[test]
fn failing_handlers_have_a_few_lines_a_second_and_none_is_lost() {
    flood(
        1000,
        "wsloop::handler",
        |builder| builder.on(Connect, |_, ()| Err::<Verdict, _>("a\nfault")),
        |server| {
            server.client().read_to_end();
        },
    );
}

#[test]
fn what_is_left_out_is_told_within_about_a_second_of_a_server_that_sleeps() {
    let logged = Logged::start(|builder| builder);
    for _ in 0..20 {
        let mut client = logged.client();
        client.send_raw("BAD\r\n");
        client.read_to_end();
    }
    // No event wakes the loop.
    let mut lines = Vec::new();
    while lines.is_empty() || told(&lines.iter().collect::<Vec<_>>()) < 20 {
        lines.push(logged.next("wsloop::handshake"));
    }
    assert!(lines.len() < 20, "{lines:?}");
    let last = lines.last().unwrap();
    assert!(
        last.text.contains("were suppressed: bad_request_line"),
        "{last:?}"
    );
}

#[test]
fn a_refusal_names_the_client_and_the_values_that_mattered() {
    let logged = Logged::start(|builder| {
        builder
            .hosts(["example.com", "localhost"])
            .origins(["https://friend.example", "none"])
            .max_handshake_size(2000)
            .max_headers(20)
            .on(Handshake, |_, upgrade| {
                upgrade.request().path() != "/private"
            })
    });
    let cookies = format!("A: b\r\nCookie: {}\r\n", "c".repeat(1500));
    for (request, status, expected) in [
        (
            request_with("Origin: https://evil.example\r\n"),
            403,
            &[
                "origin refused",
                "origin \"https://evil.example\"",
                "host \"example.com\"",
            ][..],
        ),
        (
            REQUEST.replace("example.com", "other.example"),
            421,
            &["Host is not on the list of hosts", "host \"other.example\""],
        ),
        (
            request_with(&cookies.repeat(2)),
            431,
            &[
                "max_handshake_size of 2000 bytes",
                "\"Cookie\" with 1508 bytes",
            ],
        ),
        (
            request_with(&"A: b\r\n".repeat(30)),
            431,
            &["more header lines than max_headers of 20"],
        ),
        (
            request_with("Bad Name: \u{e9}\r\n"),
            400,
            &["malformed header, line \"Bad Name: \\xc3\\xa9\""],
        ),
        (
            request_with("Cookie: s3cret\0\r\n"),
            400,
            &["malformed header, in \"Cookie\" of 15 bytes"],
        ),
        (
            REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
            400,
            &["sec-websocket-key \"short\""],
        ),
        (
            REQUEST.replace(": 13", ": 8"),
            426,
            &["sec-websocket-version \"8\""],
        ),
        (
            REQUEST.replace("HTTP/1.1", "HTTP/1.0"),
            505,
            &["\"GET /chat\" and a query of", "proxy_http_version 1.1"],
        ),
        (
            REQUEST.replace("keep-alive, Upgrade", "close"),
            400,
            &[
                "connection \"close\"",
                "proxy_set_header Connection \"upgrade\"",
            ],
        ),
        (
            REQUEST.replace("Upgrade: websocket\r\n", ""),
            426,
            &[
                "not an upgrade to WebSocket",
                "proxy_set_header Upgrade $http_upgrade",
            ],
        ),
        (
            request_with("Host: b\r\n"),
            400,
            &["more than one host header, host \"example.com\", host \"b\""],
        ),
        (
            REQUEST.replace("/chat", "/private"),
            403,
            &["refused with 403 by a handler"],
        ),
        (
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}".into(),
            400,
            &["a TLS client on a port without TLS"],
        ),
    ] {
        let mut client = logged.client();
        let peer = client.stream.local_addr().unwrap().to_string();
        assert_eq!(client.request(&request).status, status, "{expected:?}");
        let line = logged.next("wsloop::handshake");
        for part in expected {
            assert!(line.text.contains(part), "{line:?}\n{part}");
        }
        assert_eq!(line.level, Level::Info);
        assert_eq!(line.value("peer"), Some(peer.as_str()));
        let serial = line.value("connection").unwrap();
        let names = format!("connection {serial} from {peer}: ");
        assert!(line.text.starts_with(&names), "{line:?}");
        assert!(
            !line.text.contains("s3cret") && !line.text.contains("room=7"),
            "{line:?}"
        );
    }
}

/// Starts a server that expects the PROXY protocol, and accepts connections only from `proxy`.
fn for_proxies(proxy: &'static str) -> Logged {
    Logged::start_on(move || {
        let place = wsloop::Place::tcp("127.0.0.1:0").proxy_protocol([proxy]);
        Server::builder().listener(place)
    })
}

#[test]
fn a_flood_at_a_place_for_proxies_has_a_few_lines_a_second_and_none_is_lost() {
    let cases = [
        (
            "127.0.0.1",
            RefusalReason::BadProxyHeader,
            "missing or malformed PROXY protocol header, which Place::proxy_protocol requires; the \
             first bytes are \"GET /\\x1b[31m\"",
        ),
        (
            "192.0.2.1",
            RefusalReason::ProxyNotTrusted,
            "refused with 403: the peer is not a proxy that Place::proxy_protocol lists",
        ),
    ];
    for (proxy, reason, text) in cases {
        let logged = for_proxies(proxy);
        let begun = Instant::now();
        for _ in 0..500 {
            let mut client = logged.client();
            // The response may arrive before the request is sent.
            _ = client.stream.write_all(b"GET /\x1b[31m");
            client.read_to_end();
        }
        let (stats, lines) = logged.stop();
        let seconds = begun.elapsed().as_secs() + 2;
        assert_eq!(stats.refused(reason), 500);
        let lines: Vec<_> = lines
            .iter()
            .filter(|line| line.target == "wsloop::handshake")
            .collect();
        assert!(lines.len() as u64 <= 6 * seconds, "{lines:?}");
        assert_eq!(told(&lines), 500);
        assert!(lines[0].text.contains(text), "{}", lines[0].text);
        let peer = lines[0].value("peer").unwrap();
        assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    }
}

#[test]
fn a_refusal_names_the_client_that_a_proxy_tells() {
    let logged = Logged::start(|builder| {
        builder
            .trusted_proxies(["127.0.0.1"])
            .client_address(wsloop::ClientAddress::XForwardedFor)
            .origins(["https://example.com"])
    });
    for refused in [
        request_with("X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nOrigin: https://a.example\r\n"),
        request_with("X-Forwarded-For: 192.0.2.7\r\n").replace("dGhl", "d"),
    ] {
        let (_, line) = logged.refused(refused);
        assert_eq!(line.value("peer"), Some("192.0.2.7:0"), "{}", line.text);
        assert!(line.text.contains("from 192.0.2.7:0: "), "{}", line.text);
    }
    // A header of the PROXY protocol on a port that does not expect one.
    let (status, line) = logged.refused("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n\r\n");
    assert_eq!(status, 400);
    let text = "a PROXY protocol header on a port without Place::proxy_protocol";
    assert!(line.text.contains(text), "{}", line.text);
}

#[test]
fn a_client_of_a_unix_socket_is_named_as_one() {
    let dir = support::temp::TempDir::new();
    let path = dir.path("logs.sock");
    let place = path.clone();
    let logged = Logged::start_on(move || Server::builder().listen_unix(place));
    let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(stream);
    assert_eq!(client.request(REQUEST.replace(": 13", ": 8")).status, 426);
    let line = logged.next("wsloop::handshake");
    assert_eq!(line.value("peer"), Some("unix"));
    assert!(
        line.text.contains(" from unix: handshake refused"),
        "{line:?}"
    );
}

#[test]
fn what_a_peer_chose_is_escaped_and_cut() {
    let logged = Logged::start(|builder| builder.origins(["https://friend.example"]));
    let origin = format!("https://a\"\\{}", "x".repeat(1000));
    let (status, line) = logged.refused(request_with(&format!("Origin: {origin}\r\n")));
    assert_eq!(status, 403);
    let shown = format!(
        "origin \"https://a\\\"\\\\{}\" and 891 bytes more",
        "x".repeat(109)
    );
    assert!(line.text.contains(&shown), "{line:?}");
    for byte in (0..=255u8).filter(|byte| !b"\r\n".contains(byte)) {
        let head = [b"GET / HTTP/1.1\r\nA".as_slice(), &[byte], b" b: c\r\n\r\n"].concat();
        let mut client = logged.client();
        client.send_raw(head);
        client.read_to_end();
    }
    let (_, lines) = logged.stop();
    for line in lines {
        assert!(
            line.text.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
            "{line:?}"
        );
        assert!(line.text.len() < 600, "{line:?}");
    }
}

#[test]
fn a_plain_request_is_no_handshake_unless_it_was_meant_to_be_one() {
    let logged = Logged::start(|builder| builder);
    assert_eq!(
        logged
            .client()
            .request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .status,
        426
    );
    let (stats, lines) = logged.stop();
    assert_eq!(stats.refused(RefusalReason::NotUpgrade), 1);
    assert!(!join(&lines).contains("handshake"), "{lines:?}");

    // If plain requests are served, the server also answers a handshake that a proxy has turned
    // into a plain request.
    let logged = Logged::start(|builder| {
        builder.on(wsloop::event::Request, |_, _| {
            Some(wsloop::plain_http::Response::new(200))
        })
    });
    let request = REQUEST
        .replace("HTTP/1.1", "HTTP/1.0")
        .replace("Upgrade: websocket\r\n", "");
    let (status, line) = logged.refused(request);
    assert_eq!(status, 200);
    assert!(line.text.contains("proxy_http_version 1.1"), "{line:?}");
}

/// Records the events of connections.
fn heard(builder: Builder, sender: &Sender<&'static str>) -> Builder {
    let (one, two, three) = (sender.clone(), sender.clone(), sender.clone());
    builder
        .on(Connect, move |_, ()| _ = one.send("connect"))
        .on(Error, move |_, _| _ = two.send("error"))
        .on(Disconnect, move |_, _| _ = three.send("disconnect"))
}

/// Probes a server `times` times with FIN and with RST; checks that it does not log them.
fn probe(logged: Logged, events: Receiver<&'static str>, times: usize) {
    for _ in 0..times {
        logged.client().shutdown_write();
        logged.client().reset();
        // Both while the server accepts the client, and afterwards.
        let client = logged.client();
        _ = (events.recv_timeout(PATIENCE), events.recv_timeout(PATIENCE));
        client.reset();
    }
    let mut ends = 0;
    let mut other = Vec::new();
    for event in events.iter() {
        other.push(event);
        ends += usize::from(event == "disconnect");
        if other.len() + 2 * times >= 6 * times {
            break;
        }
    }
    assert!(ends <= 3 * times && !other.contains(&"error"), "{other:?}");
    let (stats, lines) = logged.stop();
    assert_eq!(stats.probes, 3 * times as u64);
    let other = lines
        .iter()
        .filter(|line| !line.text.starts_with("stopped: "))
        .filter(|line| !line.text.starts_with("listening on "));
    let other: Vec<_> = other.collect();
    assert!(other.is_empty(), "{other:?}");
    assert_eq!((stats.total_refused(), stats.total_tls_failed()), (0, 0));
}

#[test]
fn a_probe_is_silent() {
    let (sender, events) = mpsc::channel();
    probe(
        Logged::start(move |builder| heard(builder, &sender)),
        events,
        20,
    );
}

#[cfg(feature = "tls")]
#[test]
fn a_probe_of_a_tls_port_is_silent() {
    let (sender, events) = mpsc::channel();
    let tls = support::tls::Identity::new().server;
    let logged =
        Logged::start_on(move || heard(Server::builder().listen_tls("127.0.0.1:0", tls), &sender));
    probe(logged, events, 20);
}

/// Connects pages of these origins; returns the warnings that nothing checks them.
fn unchecked(
    origins: &[&str],
    configure: impl FnOnce(Builder) -> Builder + Send + 'static,
) -> Vec<Line> {
    let logged = Logged::start(configure);
    for origin in origins {
        let request = request_with(&format!("Origin: {origin}\r\n"));
        assert_eq!(logged.client().request(request).status, 101, "{origin}");
    }
    // A client that is no browser.
    assert_eq!(logged.client().request(REQUEST).status, 101);
    let (_, lines) = logged.stop();
    lines
        .into_iter()
        .filter(|line| line.level == Level::Warn)
        .collect()
}

#[test]
fn the_first_page_of_another_host_is_told_if_nothing_checks_origins() {
    let own = "http://example.com";
    let others = ["https://evil.example", "https://worse.example"];
    let all = [own, others[0], others[1]];
    let lines = unchecked(&all, |builder| builder);
    let [line] = &lines[..] else {
        panic!("one line: {lines:?}");
    };
    assert_eq!(line.target, "wsloop::handshake");
    for part in [others[0], "any web page may connect", "Builder::origins"] {
        assert!(line.text.contains(part), "{line:?}");
    }
    assert_eq!(unchecked(&[own, own], |builder| builder).len(), 0);

    type Arrange = fn(Builder) -> Builder;
    let checks: [(&str, Arrange); 7] = [
        ("every origin is allowed", |builder| builder.origins(["*"])),
        ("a list", |builder| {
            builder.origins([
                "self",
                "none",
                "https://evil.example",
                "https://worse.example",
            ])
        }),
        ("Origin of the server", |builder| {
            builder.on(Origin, |_, _| true)
        }),
        ("Handshake of the server", |builder| {
            builder.on(Handshake, |_, _| true)
        }),
        ("Origin of the connection", |builder| {
            builder.on(Connect, |conn, ()| conn.on(Origin, |_, _| true))
        }),
        ("Handshake of the connection", |builder| {
            builder.on(Connect, |conn, ()| conn.on(Handshake, |_, _| true))
        }),
        ("another handler of the connection", |builder| {
            builder.on(Connect, |conn, ()| conn.add_on(Origin, |_, _| true))
        }),
    ];
    for (name, check) in checks {
        let lines = unchecked(&all, check);
        assert!(lines.is_empty(), "{name}: {lines:?}");
    }
}

#[test]
fn hints_are_given_once() {
    let logged = Logged::start(|builder| builder.origins(["self", "none"]));
    for _ in 0..20 {
        for lines in [
            "Sec-WebSocket-Protocol: chat, \u{e9}\r\n".replace(", \u{e9}", ""),
            "Origin: https://example.com:8443\r\n".to_owned(),
        ] {
            logged.client().request(request_with(&lines));
        }
        let upstream = request_with("Origin: https://example.com\r\n");
        let upstream = upstream.replace("Host: example.com", "Host: 127.0.0.1:9001");
        assert_eq!(logged.client().request(upstream).status, 403);
    }
    let (_, lines) = logged.stop();
    for hint in [
        "the client offers the subprotocols \"chat\"",
        "differs from Host only in the port",
        "looks like the name of an upstream server",
    ] {
        let count = lines.iter().filter(|line| line.text.contains(hint)).count();
        assert_eq!(count, 1, "{hint}\n{}", join(&lines));
    }
}

#[test]
fn no_hint_is_given_where_a_subprotocol_is_agreed_on_or_configured() {
    let logged = Logged::start(|builder| builder.subprotocols(["other"]));
    logged
        .client()
        .request(request_with("Sec-WebSocket-Protocol: chat\r\n"));
    let (_, mut lines) = logged.stop();
    let logged = Logged::start(|builder| {
        builder.on(Handshake, |_, upgrade| {
            _ = upgrade.set_subprotocol("chat");
        })
    });
    logged
        .client()
        .request(request_with("Sec-WebSocket-Protocol: chat\r\n"));
    lines.extend(logged.stop().1);
    assert!(!join(&lines).contains("hint"), "{lines:?}");
}

#[test]
fn a_refusal_by_the_list_of_origins_is_an_error_and_one_by_a_handler_is_not() {
    let (sender, events) = mpsc::channel();
    let logged = Logged::start(move |builder| heard(builder.origins(["none"]), &sender));
    logged
        .client()
        .request(request_with("Origin: https://a.example\r\n"));
    logged.stop();
    assert_eq!(
        events.iter().collect::<Vec<_>>(),
        ["connect", "error", "disconnect"]
    );
    let (sender, events) = mpsc::channel();
    let logged = Logged::start(move |builder| heard(builder.on(Origin, |_, _| false), &sender));
    logged.client().request(REQUEST);
    logged.stop();
    assert_eq!(events.iter().collect::<Vec<_>>(), ["connect", "disconnect"]);
}

#[test]
fn clients_that_come_and_go_around_a_limit_have_two_lines_a_minute() {
    let logged = Logged::start(|builder| builder.max_connections(1));
    let begun = Instant::now();
    for _ in 0..200 {
        // The second client waits in the accept queue until the first has disconnected.
        let (mut first, mut second) = (logged.server.ready(), logged.client());
        second.send_raw(REQUEST);
        first.send_close(1000, "");
        first.expect_close(1000);
        first.expect_eof();
        assert_eq!(second.response().status, 101);
    }
    let minutes = begun.elapsed().as_secs() as usize / 60 + 1;
    let (stats, lines) = logged.stop();
    assert!(stats.accept_pauses >= 100, "{}", stats.accept_pauses);
    let pauses = lines.iter().filter(|line| line.target == "wsloop::accept");
    let pauses: Vec<_> = pauses.collect();
    assert!(pauses.len() <= 2 * minutes, "{pauses:?}");
    assert!(
        pauses[0]
            .text
            .contains("max_connections of 1 is reached: accepting is paused")
    );
    assert!(
        pauses[1]
            .text
            .contains("max_connections: accepting resumes after")
    );
}

#[test]
fn a_logger_that_panics_stops_nothing() {
    let server = Running::start(|builder| {
        journal::panics();
        support::echo(builder).on(Connect, |conn, ()| {
            if conn.peer_addr().is_some_and(|addr| addr.port() == 0) {
                return Err("never");
            }
            Ok(true)
        })
    });
    let mut witness = server.ready();
    for request in [
        "BAD\r\n".to_owned(),
        REQUEST.replace(": 13", ": 8"),
        format!("{REQUEST}\u{1}\u{1}x"),
    ] {
        let mut client = server.client();
        client.send_raw(request);
        client.read_to_end();
        witness.expect_alive();
    }
    let stats = server.stop();
    assert_eq!((stats.total_refused(), stats.total_failed()), (2, 1));
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use rustls::{ServerConfig, version};
    use wsloop::TlsFailure;

    use super::*;
    use crate::support::tls::{Identity, client_of, dial};

    /// Starts a server with this configuration.
    fn start(tls: Arc<ServerConfig>, timeout: Duration) -> Logged {
        Logged::start_on(move || {
            Server::builder()
                .listen_tls("127.0.0.1:0", tls)
                .handshake_timeout(timeout)
        })
    }

    /// Stops the server; checks that TLS failed once, for this reason, and returns the line.
    fn failed(logged: Logged, reason: TlsFailure) -> Line {
        let (stats, lines) = logged.stop();
        let lines: Vec<_> = lines
            .into_iter()
            .filter(|line| line.target == "wsloop::tls")
            .collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(stats.tls_failed(reason), 1, "{reason}: {lines:?}");
        assert_eq!(stats.total_tls_failed(), 1);
        assert_eq!(stats.tls_failures().map(|(_, count)| count).sum::<u64>(), 1);
        assert!(lines[0].value("peer").is_some() && lines[0].value("connection").is_some());
        lines[0].clone()
    }

    fn try_hello(stream: &mut support::tls::TlsStream) {
        while stream.conn.is_handshaking() && stream.conn.complete_io(&mut stream.sock).is_ok() {}
        // Exchanges the alerts of both sides.
        while let Ok(1..) = stream.conn.write_tls(&mut stream.sock) {}
        _ = std::io::Read::read_to_end(&mut stream.sock, &mut Vec::new());
    }

    #[test]
    fn a_client_of_plain_http_is_told_and_so_is_the_log() {
        let logged = start(Identity::new().server, PATIENCE);
        let mut client = logged.client();
        let answer = client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(answer.status, 400);
        client.expect_eof();
        let line = failed(logged, TlsFailure::PlainHttp);
        assert!(line.text.contains("plain HTTP on a TLS port"), "{line:?}");
    }

    #[test]
    fn garbage_is_no_tls() {
        let logged = start(Identity::new().server, PATIENCE);
        let mut client = logged.client();
        client.send_raw([0xff; 100]);
        client.read_to_end();
        let line = failed(logged, TlsFailure::NotTls);
        assert!(
            line.text.contains("the first bytes are not TLS"),
            "{line:?}"
        );
    }

    #[test]
    fn a_client_that_does_not_trust_the_certificate_says_so() {
        let logged = start(Identity::new().server, PATIENCE);
        let stranger = Arc::new(client_of(rustls::ALL_VERSIONS, [], None));
        try_hello(&mut dial(&stranger, "localhost", logged.server.addr));
        let line = failed(logged, TlsFailure::CertificateRefused);
        let words = "the client does not accept the server's certificate";
        assert!(line.text.contains(words), "{line:?}");
        assert!(line.text.contains("\"localhost\""), "{line:?}");
    }

    /// Returns a configuration with a single TLS version and the cipher suites of the provider.
    fn limited(provider: CryptoProvider, new: bool) -> Arc<ServerConfig> {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let versions = if new {
            &version::TLS13
        } else {
            &version::TLS12
        };
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[versions])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![issued.cert.der().clone()],
                issued.signing_key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        Arc::new(config)
    }

    #[test]
    fn no_version_in_common() {
        let logged = start(limited(aws_lc_rs::default_provider(), true), PATIENCE);
        let old = Arc::new(client_of(&[&version::TLS12], [], None));
        try_hello(&mut dial(&old, "localhost", logged.server.addr));
        let line = failed(logged, TlsFailure::NoCommonVersion);
        assert!(
            line.text.contains("no version of TLS in common"),
            "{line:?}"
        );
    }

    #[test]
    fn no_cipher_suite_in_common() {
        let mut provider = aws_lc_rs::default_provider();
        // The only cipher suite for TLS 1.2 needs a kind of key that the certificate does not have.
        provider.cipher_suites =
            vec![aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
        let logged = start(limited(provider, false), PATIENCE);
        let old = Arc::new(client_of(&[&version::TLS12], [], None));
        try_hello(&mut dial(&old, "localhost", logged.server.addr));
        let line = failed(logged, TlsFailure::NoCommonCipher);
        assert!(line.text.contains("no cipher suite"), "{line:?}");
    }

    #[test]
    fn no_certificate_for_the_name() {
        #[derive(Debug)]
        struct Nothing;
        impl rustls::server::ResolvesServerCert for Nothing {
            fn resolve(
                &self,
                _: rustls::server::ClientHello<'_>,
            ) -> Option<Arc<rustls::sign::CertifiedKey>> {
                None
            }
        }
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Nothing));
        let logged = start(Arc::new(config), PATIENCE);
        let client = Identity::new().client;
        try_hello(&mut dial(&client, "localhost", logged.server.addr));
        let line = failed(logged, TlsFailure::NoCertificate);
        assert!(
            line.text.contains("no certificate for the name"),
            "{line:?}"
        );
    }

    #[test]
    fn a_handshake_that_is_not_done_in_time_or_is_broken_off() {
        let logged = start(Identity::new().server, Duration::from_millis(50));
        let mut client = logged.client();
        client.send_raw([0x16, 3, 1, 2]);
        client.read_to_end();
        let line = failed(logged, TlsFailure::TimedOut);
        assert!(
            line.text.contains("not complete within handshake_timeout"),
            "{line:?}"
        );

        let logged = start(Identity::new().server, PATIENCE);
        let mut client = logged.client();
        client.send_raw([0x16, 3, 1, 2]);
        client.shutdown_write();
        client.read_to_end();
        let line = failed(logged, TlsFailure::Ended);
        assert!(
            line.text.contains("ended the connection during"),
            "{line:?}"
        );
    }

    #[test]
    fn a_flood_of_broken_handshakes_has_a_few_lines_a_second() {
        let tls = Identity::new().server;
        let logged = start(tls, PATIENCE);
        let begun = Instant::now();
        for _ in 0..1000 {
            let mut client = logged.client();
            client.send_raw([0xff; 10]);
            client.read_to_end();
        }
        let (stats, lines) = logged.stop();
        assert_eq!(stats.tls_failed(TlsFailure::NotTls), 1000);
        let lines: Vec<_> = lines
            .iter()
            .filter(|line| line.target == "wsloop::tls")
            .collect();
        assert!(lines.len() as u64 <= 6 * (begun.elapsed().as_secs() + 2));
        assert_eq!(told(&lines), 1000);
    }
}

mod failing {
    //! A logger whose output fails, in a process of its own.

    use std::fs::File;
    use std::process::{Command, Stdio};

    use super::*;

    /// Set in the child process.
    const CHILD: &str = "WSLOOP_LOGGER_FAILS";

    /// Runs the named test in a child process with this standard error.
    fn run_with(stderr: Stdio, name: &str) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--test-threads=1"])
            .env(CHILD, "1")
            .stderr(stderr)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }

    /// Serves normally while every write of a log line fails.
    fn serve() {
        env_logger::Builder::new()
            .filter_level(log::LevelFilter::Debug)
            .target(env_logger::Target::Stderr)
            .init();
        let server = Running::echo();
        let mut witness = server.ready();
        for _ in 0..200 {
            let mut client = server.client();
            client.send_raw("BAD\r\n");
            client.read_to_end();
            witness.expect_alive();
        }
        assert_eq!(server.stop().total_refused(), 200);
    }

    #[test]
    fn a_pipe_without_a_reader() {
        if std::env::var_os(CHILD).is_some() {
            return serve();
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        run_with(writer.into(), "failing::a_pipe_without_a_reader");
    }

    #[test]
    fn a_full_disk() {
        if std::env::var_os(CHILD).is_some() {
            return serve();
        }
        let Ok(full) = File::options().write(true).open("/dev/full") else {
            return; // not on this system
        };
        run_with(full.into(), "failing::a_full_disk");
    }

    /// Writes on another thread, and drops lines while the queue is full.
    struct Lossy(mpsc::SyncSender<Vec<u8>>);

    impl Write for Lossy {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            _ = self.0.try_send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A full pipe without a reader blocks its writers. A writer that drops lines keeps the event
    /// loop from blocking.
    #[test]
    fn a_pipe_that_is_not_read_blocks_no_server_whose_logger_drops_lines() {
        let name = "failing::a_pipe_that_is_not_read_blocks_no_server_whose_logger_drops_lines";
        if std::env::var_os(CHILD).is_none() {
            let (reader, writer) = std::io::pipe().unwrap();
            run_with(writer.into(), name);
            return drop(reader);
        }
        let (sender, lines) = mpsc::sync_channel::<Vec<u8>>(64);
        let begun = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = begun.clone();
        std::thread::spawn(move || {
            for line in lines {
                counted.fetch_add(line.len(), std::sync::atomic::Ordering::Relaxed);
                _ = std::io::stderr().write_all(&line);
            }
        });
        env_logger::Builder::new()
            .filter_level(log::LevelFilter::Debug)
            .target(env_logger::Target::Pipe(Box::new(Lossy(sender))))
            .init();
        let server = Running::echo();
        let mut witness = server.ready();
        // Nearly the capacity of a pipe, 16 pages that lines do not fill completely; dropped lines
        // do not count.
        let mut refused = 0;
        while begun.load(std::sync::atomic::Ordering::Relaxed) <= 60_000 {
            let mut client = server.client();
            client.send_raw("BAD\r\n");
            client.read_to_end();
            refused += 1;
            assert!(refused < 100_000, "the pipe never fills");
        }
        // Now the pipe is full, and the server continues.
        for _ in 0..1000 {
            let mut client = server.client();
            client.send_raw("BAD\r\n");
            client.read_to_end();
        }
        witness.expect_alive();
        assert_eq!(server.stop().total_refused(), refused + 1000);
    }

    #[test]
    fn a_closed_standard_error() {
        if std::env::var_os(CHILD).is_some() {
            return serve();
        }
        let output = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 2>&-")
            .arg(std::env::current_exe().unwrap())
            .args([
                "failing::a_closed_standard_error",
                "--exact",
                "--test-threads=1",
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }
}
