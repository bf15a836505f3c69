//! Nothing can be smuggled after or inside an opening handshake: bodies are refused, and data after
//! a refused request is ignored.

use crate::support::{REQUEST, Running, frame, log, recorded, settle};

fn with(lines: &str) -> String {
    REQUEST.replace("Host:", &format!("{lines}\r\nHost:"))
}

#[test]
fn an_upgrade_has_no_body() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    for lines in [
        "Content-Length: 0, 0",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 5",
        "content-length: 5",
        "CONTENT-LENGTH:5",
        "Content-Length:",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 5, 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 18446744073709551616",
        "Content-Length: 0x5",
        "Transfer-Encoding: chunked",
        "transfer-encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        // Forms that other parsers accept as one of these headers.
        "Content-Length : 5",
        "Content-Length\t: 5",
        " Content-Length: 5",
        "X: y\r\n Content-Length: 5",
        "X: y\n Content-Length: 5",
        "X: y\nContent-Length: 5",
        "X: y\rContent-Length: 5",
        "X: y\r\r\nContent-Length: 5",
        "X: y\0\r\nContent-Length: 5",
        "Transfer-Encoding\0: chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\x0c",
    ] {
        for body in ["", "hello", "5\r\nhello\r\n0\r\n\r\n"] {
            let mut client = server.client();
            client.send_raw([with(lines), body.to_owned(), REQUEST.to_owned()].concat());
            let response = client.response();
            assert_eq!(response.status, 400, "{lines:?}");
            client.expect_eof();
            log.expect(&["connect"]);
            assert!(log.next().starts_with("error: handshake refused"));
            assert!(log.next().starts_with("disconnect 1006"));
        }
    }
    server.ready().expect_alive();
    log.expect(&["connect", "ready", "utf8 alive?"]);
}

#[test]
fn nothing_behind_a_refused_request_is_looked_at() {
    let (sender, log) = log();
    let server = Running::start(move |builder| recorded(builder, &sender));
    let mut other = server.ready();
    log.expect(&["connect", "ready"]);
    for refused in [
        REQUEST.replace("GET", "POST"),
        REQUEST.replace("Version: 13", "Version: 8"),
        REQUEST.replace("Upgrade: websocket\r\n", ""),
        REQUEST.replace("HTTP/1.1", "HTTP/1.0"),
        with("Content-Length: 1"),
        with(&"X: y\r\n".repeat(200)),
    ] {
        for behind in [
            REQUEST.as_bytes().to_vec(),
            [REQUEST.as_bytes(), &frame(0x81, b"never")].concat(),
            frame(0x81, b"never"),
            b"GET /admin HTTP/1.1\r\nHost: internal\r\n\r\n".repeat(3),
            vec![0xff; 1 << 20],
        ] {
            // In the same segment, before the response, and after it.
            for place in 0..3 {
                let mut client = server.client();
                let mut bytes = refused.clone().into_bytes();
                if place == 0 {
                    bytes.extend_from_slice(&behind);
                }
                client.send_raw(bytes);
                if place == 1 {
                    client.send_raw(&behind);
                }
                let response = client.response();
                assert!(response.status >= 400, "{response:?}");
                // There is exactly one response.
                client.expect_eof();
                log.expect(&["connect"]);
                assert!(log.next().starts_with("error: handshake refused"));
                assert!(log.next().starts_with("disconnect 1006"));
                if place == 2 {
                    client.send_raw(&behind);
                    settle(&mut other);
                    for _ in 0..3 {
                        log.expect(&["utf8 alive?"]);
                    }
                    client.expect_eof();
                }
            }
        }
    }
    // There were no other events.
    other.expect_alive();
    log.expect(&["utf8 alive?"]);
}
