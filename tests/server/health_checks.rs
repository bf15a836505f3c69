//! Health checks of load balancers, and how they fail before the listeners close.

use std::time::Duration;

use crate::support::{Response, Running, echo, log};
use wsloop::event::{Request, Shutdown};
use wsloop::plain_http::Response as Answer;
use wsloop::{CloseCode, Server, WindDown};

fn ask(server: &Running, request: &str) -> Response {
    server.client().request(request)
}

#[test]
fn they_are_answered_with_and_without_a_handler_for_plain_requests() {
    for with_handler in [false, true] {
        let server = Running::start(move |builder| {
            let builder = echo(builder).health_check("/health").hosts(["example.com"]);
            match with_handler {
                true => builder.on(Request, |_, _| Answer::new(204)),
                false => builder,
            }
        });
        let plain = if with_handler { 204 } else { 426 };
        for (request, status) in [
            ("GET /health HTTP/1.1\r\nHost: 10.0.0.7:80\r\n\r\n", 200),
            ("GET /health?from=lb HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("GET /health HTTP/1.0\r\n\r\n", 200),
            ("OPTIONS /health HTTP/1.0\r\n\r\n", 200),
            (
                "HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                200,
            ),
            ("GET /healthy HTTP/1.1\r\nHost: example.com\r\n\r\n", plain),
            ("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", plain),
        ] {
            let mut client = server.client();
            client.send_raw(request);
            assert_eq!(client.response_head().status, status, "{request}");
        }
        // A request with another method is handled as usual.
        let post = "POST /health HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n";
        let status = if with_handler { 204 } else { 405 };
        assert_eq!(ask(&server, post).status, status);
        // Upgrades work as before.
        let mut client = server.ready();
        client.send_text("hello");
        client.expect_text("hello");
    }
}

#[test]
fn they_fail_before_a_drain_closes_the_listeners() {
    let (said, log) = log();
    let server = Running::start(move |builder| {
        echo(builder)
            .health_check("/health")
            .lame_duck(Duration::from_secs(3_600))
            .on(Shutdown, move |_, ()| _ = said.send("shutdown".into()))
    });
    let health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(ask(&server, health).status, 200);
    let mut early = server.ready();
    let drain = || {
        let second = Duration::from_secs(1);
        server.handle.wind_down(
            WindDown::within(10 * second)
                .spread(Duration::ZERO)
                .code(CloseCode::GOING_AWAY),
        )
    };
    drain().expect("the server lives");
    while ask(&server, health).status == 200 {
        std::thread::yield_now();
    }
    let failed = ask(&server, health);
    assert_eq!(failed.status, 503);
    assert_eq!(failed.header("connection"), Some("close"));
    // Open clients are served, and new ones are accepted.
    let mut late = server.ready();
    for client in [&mut early, &mut late] {
        client.send_text("still there");
        client.expect_text("still there");
    }
    // A second call starts the drain at once.
    drain().expect("the server lives");
    log.expect(&["shutdown"]);
    for client in [&mut early, &mut late] {
        assert_eq!(client.expect_close(1001), "");
        client.send_close(1001, "");
    }
    let mut server = server;
    assert_eq!(server.join().ended_in_order, 2);
}

#[test]
fn a_lame_duck_ends_by_itself_and_by_a_shutdown() {
    for (time, drains) in [(50, true), (3_600_000, false)] {
        let mut server = Running::start(move |builder| {
            echo(builder)
                .health_check("/health")
                .lame_duck(Duration::from_millis(time))
        });
        let mut client = server.ready();
        let second = Duration::from_secs(1);
        let drained = server.handle.wind_down(
            WindDown::within(10 * second)
                .spread(Duration::ZERO)
                .code(CloseCode::SERVICE_RESTART),
        );
        drained.expect("the server lives");
        if !drains {
            server.handle.shutdown().expect("the server lives");
        }
        client.expect_close(if drains { 1012 } else { 1001 });
        client.send_close(1000, "");
        server.join();
    }
}

#[test]
fn a_path_without_a_slash_is_refused() {
    let builder = Server::builder()
        .listen("127.0.0.1:0")
        .health_check("health");
    let error = builder.build().map(drop).expect_err("it is no path");
    assert!(error.to_string().contains("health_check"), "{error}");
}
