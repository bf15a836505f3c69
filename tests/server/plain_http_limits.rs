//! Invalid or excessive plain requests are refused, and data after them is ignored.

use wsloop::event::Request;
use wsloop::plain_http::Response;

use crate::support::{Running, log, recorded, settle};

fn server() -> Running {
    Running::start(|builder| {
        builder
            .on(Request, |_, request| {
                Response::new(200).body(request.body())
            })
            .on(wsloop::event::Utf8, |conn, text| conn.send_utf8(text))
            .max_body_size(10)
            .max_handshake_size(300)
            .max_headers(8)
    })
}

fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")
}

const CHUNKED: &str = "Transfer-Encoding: chunked";

#[test]
fn what_is_wrong_is_refused_and_ends_the_connection() {
    let server = server();
    let mut other = server.ready();
    let smuggled = "GET /admin HTTP/1.1\r\nHost: internal\r\n\r\n";
    for (request, status) in [
        (post("Content-Length: +5", "hello"), 400),
        (post("Content-Length: -5", "hello"), 400),
        (
            post("Content-Length: 5 ", "hello").replace("5 ", "5 5"),
            400,
        ),
        (post("Content-Length:", "hello"), 400),
        (post("Content-Length: 5, 5", "hello"), 400),
        (post("Content-Length: 5\r\nContent-Length: 5", "hello"), 400),
        (post("Content-Length: 5\r\nContent-Length: 6", "hello"), 400),
        (
            post(&format!("Content-Length: 5\r\n{CHUNKED}"), "0\r\n\r\n"),
            400,
        ),
        (
            post(&format!("{CHUNKED}\r\nContent-Length: 5"), "0\r\n\r\n"),
            400,
        ),
        (post(&format!("{CHUNKED}\r\n{CHUNKED}"), "0\r\n\r\n"), 501),
        (post("Transfer-Encoding: gzip", ""), 501),
        (post("Transfer-Encoding: identity", ""), 501),
        (post("Transfer-Encoding : chunked", "0\r\n\r\n"), 400),
        (post("X: y\r\n Transfer-Encoding: chunked", ""), 400),
        (post("X: y\nTransfer-Encoding: chunked", ""), 400),
        (post("Transfer-Encoding:\x0bchunked", ""), 400),
        (post(CHUNKED, "5\nhello\n0\n\n"), 400),
        (post(CHUNKED, "+5\r\nhello\r\n0\r\n\r\n"), 400),
        (post(CHUNKED, "0x5\r\nhello\r\n0\r\n\r\n"), 400),
        (post(CHUNKED, "5 \r\nhello\r\n0\r\n\r\n"), 400),
        (post(CHUNKED, "5\r\nhelloworld\r\n0\r\n\r\n"), 400),
        (post(CHUNKED, "5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
        (post(CHUNKED, "0\r\nno colon\r\n\r\n"), 400),
        (post("Content-Length: 11", "hello world"), 413),
        (post("Content-Length: 99999999999999999999", ""), 413),
        (post(CHUNKED, "b\r\nhello world\r\n0\r\n\r\n"), 413),
        (post(CHUNKED, "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"), 413),
        (post(CHUNKED, "ffffffffffffffff\r\n"), 413),
        (post(CHUNKED, &format!("1;{}", "x".repeat(400))), 431),
        (
            post(CHUNKED, &format!("0\r\n{}", "X: y\r\n".repeat(9))),
            431,
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(300)), 431),
    ] {
        for before in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut client = server.client();
            client.send_raw([before, &request, smuggled].concat());
            if !before.is_empty() {
                assert_eq!(client.response().status, 200);
            }
            let response = client.response();
            assert_eq!(response.status, status, "{request:?}");
            assert_eq!(response.header("connection"), Some("close"));
            client.expect_eof();
            client.expect_drained(&mut other);
        }
    }
    // Exactly at the limits.
    let mut client = server.client();
    assert_eq!(
        client
            .request(post("Content-Length: 10", "0123456789"))
            .body,
        b"0123456789"
    );
    let chunks = "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n";
    assert_eq!(client.request(post(CHUNKED, chunks)).body, b"0123456789");
    settle(&mut other);
}

#[test]
fn a_connection_has_so_many_requests_and_no_more() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        recorded(builder, &sender)
            .on(Request, |_, _| Response::new(204))
            .max_requests(3)
    });
    let mut client = server.client();
    client.send_raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
    for connection in [None, None, Some("close")] {
        let response = client.response();
        assert_eq!(
            (response.status, response.header("connection")),
            (204, connection)
        );
    }
    client.expect_eof();
    log.expect(&["connect", "disconnect 1006 (plain requests were answered)"]);
    assert_eq!(server.stop().requests, 3);
}

#[test]
fn without_keep_alive_each_connection_has_one() {
    let server = Running::start(|builder| {
        builder
            .on(Request, |_, _| Response::new(200).body("one"))
            .keep_alive_timeout(std::time::Duration::ZERO)
    });
    let mut client = server.client();
    let response = client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.header("connection"), Some("close"));
    client.expect_eof();
}

#[test]
fn a_shutdown_says_nothing_to_those_who_asked_nothing() {
    let (sender, log) = log();
    let mut server = Running::start(move |builder| {
        recorded(builder, &sender).on(Request, |_, _| Response::new(204))
    });
    let (mut idle, mut begun) = (server.client(), server.client());
    assert_eq!(
        idle.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status,
        204
    );
    assert_eq!(
        begun.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status,
        204
    );
    begun.send_raw("GET / HTTP/1.1\r\n");
    let mut other = server.ready();
    settle(&mut other);
    server.handle.shutdown().expect("the server runs");
    idle.expect_eof();
    assert_eq!(begun.response().status, 503);
    begun.expect_eof();
    other.expect_close(1001);
    drop((idle, begun, other));
    server.join();
    drop(server);
    let rest = log.rest();
    let ends = rest.iter().filter(|entry| entry.starts_with("disconnect"));
    assert_eq!(ends.count(), 3, "{rest:?}");
}
