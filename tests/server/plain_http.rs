//! Plain HTTP on the port of the WebSocket: a handler answers the requests one after the other, and
//! a connection may still upgrade.

use std::net::Shutdown;
use std::sync::mpsc::Sender;

use wsloop::event::{Accept, Connect, Handshake, Ready, Request};
use wsloop::plain_http::Response;
use wsloop::{Builder, Connection, SendError};

use crate::support::{Client, REQUEST, Running, frame, log, recorded};

/// Answers every request with its method, URI and body.
fn mirror(builder: Builder) -> Builder {
    builder.on(Request, |_, request| {
        let line = format!("{} {} ", request.method(), request.uri());
        let body = [line.as_bytes(), request.body()].concat();
        (request.path() != "/none").then(|| Response::new(200).body(body))
    })
}

fn recorded_mirror(log: &Sender<String>) -> impl FnOnce(Builder) -> Builder + Send + 'static {
    let log = log.clone();
    move |builder| mirror(recorded(builder, &log))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")
}

fn post(path: &str, lines: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n\r\n{body}")
}

#[track_caller]
fn expect_body(client: &mut Client, body: &str) {
    let response = client.response();
    assert_eq!(
        (response.status, String::from_utf8_lossy(&response.body)),
        (200, body.into())
    );
}

#[test]
fn requests_are_answered_on_one_connection() {
    let (sender, log) = log();
    let server = Running::start(recorded_mirror(&sender));
    let mut client = server.client();
    let response = client.request(get("/page?x=1"));
    assert_eq!(response.status_line, "HTTP/1.1 200 OK");
    assert_eq!(response.body, b"GET /page?x=1 ");
    let names: Vec<_> = response.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["date", "content-type", "content-length"]);
    let date = response.header("date").expect("a date");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");

    client.send_raw(post("/b", "Content-Length: 5", "hello"));
    expect_body(&mut client, "POST /b hello");
    let chunks = "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n";
    client.send_raw(post("/c", "Transfer-Encoding: chunked", chunks));
    expect_body(&mut client, "POST /c hello world");
    // Byte by byte.
    for byte in post("/d", "Transfer-Encoding: chunked", chunks).bytes() {
        client.send_raw([byte]);
    }
    expect_body(&mut client, "POST /d hello world");
    // If the handler returns nothing, the response is a 404, and the connection continues.
    assert_eq!(client.request(get("/none")).status, 404);
    client.send_raw(get("/last"));
    expect_body(&mut client, "GET /last ");

    // All requests used one connection, which was never a WebSocket.
    client.shutdown_write();
    client.expect_eof();
    log.expect(&["connect"]);
    assert_eq!(
        log.next(),
        "disconnect 1006 (connection ended without a Close frame)"
    );
    assert_eq!(server.stop().requests, 6);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(mirror);
    let mut client = server.client();
    let all: String = (0..500)
        .map(|at| match at % 3 {
            0 => get(&format!("/{at}")),
            1 => post(&format!("/{at}"), "Content-Length: 2", "hi"),
            _ => post(
                &format!("/{at}"),
                "Transfer-Encoding: chunked",
                "1\r\nx\r\n0\r\n\r\n",
            ),
        })
        .collect();
    client.send_raw(all);
    for at in 0..500 {
        let body = match at % 3 {
            0 => format!("GET /{at} "),
            1 => format!("POST /{at} hi"),
            _ => format!("POST /{at} x"),
        };
        expect_body(&mut client, &body);
    }
}

#[test]
fn a_later_request_upgrades() {
    let (sender, log) = log();
    let server = Running::start(recorded_mirror(&sender));
    let mut client = server.client();
    client.send_raw(get("/page"));
    expect_body(&mut client, "GET /page ");
    client.upgrade();
    client.expect_alive();
    // The requests, the upgrade and a frame arrive together.
    let mut other = server.client();
    other.send_raw(
        [
            get("/a").as_bytes(),
            post("/b", "Content-Length: 1", "x").as_bytes(),
            REQUEST.as_bytes(),
            &frame(0x81, b"first"),
        ]
        .concat(),
    );
    expect_body(&mut other, "GET /a ");
    expect_body(&mut other, "POST /b x");
    assert_eq!(other.response().status, 101);
    other.expect_text("first");
    other.send_close(1000, "");
    other.expect_close(1000);
    other.expect_eof();
    log.expect(&["connect", "ready", "utf8 alive?", "connect", "ready"]);
    log.expect(&["utf8 first", "peer_close 1000 "]);
    assert!(log.next().starts_with("disconnect 1000"));
}

#[test]
fn the_client_says_when_it_is_the_last() {
    let (sender, log) = log();
    let server = Running::start(recorded_mirror(&sender));
    for (request, connection) in [
        (
            get("/").replace("Host", "Connection: close\r\nHost"),
            "close",
        ),
        (
            get("/").replace("Host", "Connection: x, Close\r\nHost"),
            "close",
        ),
        ("GET / HTTP/1.0\r\n\r\n".into(), "close"),
        (
            "GET / HTTP/1.0\r\nConnection: close\r\n\r\n".into(),
            "close",
        ),
    ] {
        let mut client = server.client();
        // Data after the last request is ignored.
        client.send_raw([&request, REQUEST, "rubbish\n\n"].concat());
        let response = client.response();
        assert_eq!(response.status, 200, "{request}");
        assert_eq!(response.header("connection"), Some(connection));
        client.expect_eof();
        log.expect(&["connect", "disconnect 1006 (plain requests were answered)"]);
    }
    let mut client = server.client();
    for _ in 0..2 {
        let response = client.request("GET /old HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(response.body, b"GET /old ");
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn the_answer_says_when_it_is_the_last() {
    let server = Running::start(|builder| {
        builder.on(Request, |_, _| Response::new(200).body("bye").close())
    });
    let mut client = server.client();
    let response = client.request(get("/"));
    assert_eq!(response.header("connection"), Some("close"));
    client.expect_eof();
}

#[test]
fn head_has_headers_only() {
    let server = Running::start(mirror);
    let mut client = server.client();
    client.send_raw(get("/some").replace("GET", "HEAD"));
    let response = client.response_head();
    assert_eq!(response.header("content-length"), Some("11"));
    client.send_raw(get("/none").replace("GET", "HEAD"));
    assert_eq!(client.response_head().status, 404);
    // The next response follows immediately.
    client.send_raw(get("/next"));
    expect_body(&mut client, "GET /next ");
    // Refusals have no body either: of an invalid request, and on a server that serves only
    // upgrades.
    client.send_raw("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n");
    assert_eq!(client.response_head().status, 400);
    client.expect_eof();
    let upgrades_only = Running::echo();
    for request in [
        REQUEST.replace("GET", "HEAD"),
        get("/").replace("GET", "HEAD"),
    ] {
        let mut client = upgrades_only.client();
        client.send_raw(request);
        let response = client.response_head();
        assert_eq!(response.status, 405);
        assert_ne!(response.header("content-length"), Some("0"));
        client.expect_eof();
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let server = Running::start(|builder| mirror(builder).max_body_size(10));
    let mut client = server.client();
    client.send_raw(post("/", "Expect: 100-continue\r\nContent-Length: 2", ""));
    assert_eq!(client.response_head().status, 100);
    client.send_raw("hi");
    expect_body(&mut client, "POST / hi");
    // The server does not ask for a body that exceeds the limit.
    client.send_raw(post("/", "Expect: 100-continue\r\nContent-Length: 11", ""));
    assert_eq!(client.response().status, 413);
    client.expect_eof();
    let mut client = server.client();
    client.send_raw(post("/", "Expect: much\r\nContent-Length: 2", ""));
    assert_eq!(client.response().status, 417);
    client.expect_eof();
}

#[test]
fn half_closed_clients_get_their_answers() {
    let large = "x".repeat(8 << 20);
    let expected = large.clone();
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender).on(Request, move |_, _| Response::new(200).body(large.clone()))
    });
    let mut client = server.client();
    client.send_raw(get("/"));
    client
        .stream
        .shutdown(Shutdown::Write)
        .expect("a live socket");
    assert!(client.response().body == expected.as_bytes());
    client.expect_eof();
    log.expect(&["connect"]);
    assert!(log.next().starts_with("disconnect 1006"));
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let body = vec![b'x'; 100_000];
    let server = Running::start(move |builder| {
        builder.on(Request, move |_, _| Response::new(200).body(body.clone()))
    });
    let mut client = server.client();
    let mut writer = client.stream.try_clone().expect("a second descriptor");
    let sends = std::thread::spawn(move || {
        // 300 MB of responses, of which the server never holds more than a few.
        std::io::Write::write_all(&mut writer, get("/").repeat(900).as_bytes())
    });
    for _ in 0..900 {
        assert_eq!(client.response().body.len(), 100_000);
    }
    sends.join().expect("no panic").expect("all are taken");
}

#[test]
fn failing_handlers_answer_500_and_close() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender).on(Request, |conn, request| match request.path() {
            "/error" => Err("told to"),
            "/panic" => panic!("told to"),
            "/malformed" => Ok(Some(Response::new(200).header("X", "a\r\nY: b"))),
            "/no-status" => Ok(Some(Response::new(101))),
            "/refused" => {
                conn.http_error(418).unwrap_or_default();
                Ok(None)
            }
            "/cut" => {
                conn.abort();
                Ok(None)
            }
            _ => {
                assert_eq!(conn.send_utf8("never"), Err(SendError::NotReady));
                Ok(None)
            }
        })
    });
    for (path, status) in [
        ("/error", 500),
        ("/panic", 500),
        ("/malformed", 500),
        ("/no-status", 500),
        ("/refused", 418),
    ] {
        let mut client = server.client();
        client.send_raw([get("/fine"), get(path), get("/never")].concat());
        assert_eq!(client.response().status, 404);
        let response = client.response();
        assert_eq!(response.status, status, "{path}");
        assert!(!String::from_utf8_lossy(&response.body).contains("told"));
        client.expect_eof();
        log.expect(&["connect"]);
        let mut entry = log.next();
        assert_eq!(
            entry.starts_with("error: handler failed"),
            status == 500,
            "{entry}"
        );
        if status == 500 {
            entry = log.next();
        }
        assert!(entry.starts_with("disconnect 1006"), "{entry}");
        // The same with HEAD, without a body.
        let mut client = server.client();
        client.send_raw(get(path).replace("GET", "HEAD"));
        assert_eq!(client.response_head().status, status);
        client.expect_eof();
        while !log.next().starts_with("disconnect") {}
    }
    let mut client = server.client();
    client.send_raw([get("/fine"), get("/cut")].concat());
    assert_eq!(client.read_to_end(), b"", "what was not sent is not sent");
}

#[test]
fn a_connection_may_have_a_handler_of_its_own() {
    let server = Running::start(|builder| {
        builder
            .on(Accept, |_, _| ())
            .on(Connect, |conn, ()| {
                let mut count = 0;
                conn.on(Request, move |_, _| {
                    count += 1;
                    Response::new(200).body(count.to_string())
                });
            })
            .on(Handshake, |conn, _| conn.request().is_some())
            .on(Ready, |conn, ()| conn.send_utf8("ready"))
    });
    for _ in 0..2 {
        let mut client = server.client();
        assert_eq!(client.request(get("/")).body, b"1");
        assert_eq!(client.request(get("/")).body, b"2");
        client.upgrade();
        client.expect_text("ready");
    }
}

#[test]
fn the_first_of_several_handlers_that_has_an_answer_gives_it() {
    let server = Running::start(|builder| {
        let page = |path: &'static str| {
            move |_: &mut Connection<'_>, request: &wsloop::handshake::Request| {
                (request.path() == path || path == "any").then(|| Response::new(200).body(path))
            }
        };
        builder
            .add_on(Request, page("/a"))
            .add_on(Request, page("/b"))
            .add_on(Request, |_, request| match request.path() {
                "/fail" => Err("told to"),
                _ => Ok(None),
            })
            .add_on(Request, page("any"))
    });
    for (path, body) in [("/a", "/a"), ("/b", "/b"), ("/c", "any")] {
        assert_eq!(server.client().request(get(path)).body, body.as_bytes());
    }
    assert_eq!(server.client().request(get("/fail")).status, 500);
}

#[test]
fn other_upgrades_are_plain_requests() {
    let server = Running::start(mirror);
    let mut client = server.client();
    client.send_raw(get("/h2").replace("Host", "Connection: Upgrade\r\nUpgrade: h2c\r\nHost"));
    expect_body(&mut client, "GET /h2 ");
    // An invalid opening handshake is refused as usual.
    assert_eq!(client.request(REQUEST.replace(": 13", ": 8")).status, 426);
    client.expect_eof();
}

/// A large response that is the last, and one that is not, over TLS.
#[cfg(feature = "tls")]
#[test]
fn over_tls_it_is_the_same() {
    use crate::support::tls::Identity;

    let identity = Identity::new();
    let config = identity.server.clone();
    let large = "x".repeat(8 << 20);
    let expected = large.clone();
    let server = Running::start_on(move || {
        wsloop::Server::builder()
            .listen_tls("127.0.0.1:0", config)
            .on(Request, move |conn, request| {
                assert!(conn.is_tls());
                match request.path() {
                    "/large" => Response::new(200).body(large.clone()),
                    _ => Response::new(200).body(request.body()),
                }
            })
            .on(wsloop::event::Utf8, |conn, text| conn.send_utf8(text))
    });
    let mut client = identity.connect(server.addr);
    client.send_raw(post("/", "Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n").repeat(3));
    for _ in 0..3 {
        assert_eq!(client.response().body, b"hi");
    }
    assert!(client.request(get("/large")).body == expected.as_bytes());
    client.upgrade();
    client.expect_alive();
    let mut client = identity.connect(server.addr);
    let last = get("/large").replace("Host", "Connection: close\r\nHost");
    assert!(client.request(last).body == expected.as_bytes());
    client.expect_eof();
}

#[test]
fn where_an_upgrade_is_expected_it_is_426_with_what_goes_with_it() {
    let server = Running::start(|builder| {
        builder.on(Request, |_, request| {
            (request.path() == "/ws").then(|| Response::new(426))
        })
    });
    let mut client = server.client();
    let response = client.request(get("/ws"));
    assert_eq!(response.status, 426);
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("sec-websocket-version"), Some("13"));
    assert_eq!(client.request(get("/other")).status, 404, "it lives on");
    assert_eq!(client.request(REQUEST).status, 101);

    // Without a handler the server serves only upgrades.
    let server = Running::echo();
    for (request, status) in [
        (get("/"), 426),
        (get("/").replace("GET", "HEAD"), 405),
        (post("/", "Content-Length: 0\r\n", ""), 405),
    ] {
        let mut client = server.client();
        client.send_raw(request);
        assert_eq!(client.response_head().status, status);
    }
}
