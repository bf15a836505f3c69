//! Pages of other origins, and names that an attacker has pointed at the server.

use wsloop::event::Request;
use wsloop::plain_http::Response;
use wsloop::{BuildError, Server};

use crate::support::{REQUEST, Running, echo, log};

/// Returns the status of an upgrade with this `Origin` and this `Host`.
fn status(server: &Running, origin: Option<&str>, host: &str) -> u16 {
    let line = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    let request = REQUEST
        .replace("Host: example.com", &format!("Host: {host}"))
        .replace("Upgrade: ", &format!("{line}Upgrade: "));
    server.client().request(request).status
}

#[test]
fn a_page_of_another_origin_opens_nothing_whatever_its_name_looks_like() {
    let server = Running::start(|builder| {
        echo(builder).origins([
            "https://shop.example",
            "http://[2001:db8::1]:8080",
            "http://127.0.0.1",
        ])
    });
    for origin in [
        "https://shop.example",
        "https://shop.example:443",
        "HTTPS://Shop.Example",
        "http://[2001:db8::1]:8080",
        "http://[2001:DB8::1]:8080",
        "http://127.0.0.1",
        "http://127.0.0.1:80",
    ] {
        assert_eq!(
            status(&server, Some(origin), "shop.example"),
            101,
            "{origin}"
        );
    }
    for origin in [
        // A different scheme, host or port.
        "http://shop.example",
        "wss://shop.example",
        "https://shop.example:80",
        "https://shop.example:4433",
        "https://shop.exampl",
        // Suffixes, prefixes and similar names.
        "https://shop.example.evil.example",
        "https://evilshop.example",
        "https://evil.shop.example",
        "https://shop-example",
        "https://shop.example.",
        "https://.shop.example",
        "https://shop..example",
        "https://shop.example%2eevil.example",
        "https://shop.example%00.evil.example",
        "https://xn--shp-9na.example",
        "https://shop.example@evil.example",
        "https://evil.example\\@shop.example",
        "https://evil.example/https://shop.example",
        "https://evil.example?https://shop.example",
        "https://evil.example#https://shop.example",
        "https://shop.example/",
        "https://shop.example:443:443",
        "https:shop.example",
        "https:///shop.example",
        "//shop.example",
        "shop.example",
        "https://shop.example https://evil.example",
        "https://evil.example, https://shop.example",
        "null",
        "NULL",
        "file://",
        "none",
        "self",
        "*",
        "https://*",
        // Other notations of the addresses.
        "http://[2001:db8:0:0:0:0:0:1]:8080",
        "http://[2001:db8::1]",
        "http://[2001:db8::1]:80801",
        "http://2001:db8::1:8080",
        "http://[::ffff:127.0.0.1]",
        "http://127.1",
        "http://2130706433",
        "http://0x7f000001",
        "http://0177.0.0.1",
        "http://127.0.0.1.",
        "http://localhost",
    ] {
        let status = status(&server, Some(origin), "shop.example");
        assert!([400, 403].contains(&status), "{origin}: {status}");
    }
    assert_eq!(status(&server, Some(""), "shop.example"), 403);
    assert_eq!(status(&server, None, "shop.example"), 403);
    let two = "https://shop.example\r\nOrigin: https://shop.example";
    assert_eq!(status(&server, Some(two), "shop.example"), 400);
}

#[test]
fn a_page_whose_name_was_rebound_to_this_server_opens_nothing() {
    // The browser loaded the page from evil.example, a name that then pointed to 127.0.0.1. For the
    // browser the page and the server have the same origin, and `Host` agrees.
    let rebound = (Some("http://evil.example:8080"), "evil.example:8080");
    let trusting = Running::start(|builder| echo(builder).origins(["self"]));
    assert_eq!(
        status(&trusting, rebound.0, rebound.1),
        101,
        "self alone does not help"
    );
    let named = Running::start(|builder| echo(builder).origins(["http://localhost:8080"]));
    assert_eq!(status(&named, rebound.0, rebound.1), 403);
    let (sender, log) = log();
    let hosts = Running::start(move |builder| {
        let asked = sender.clone();
        crate::support::recorded(builder, &sender)
            .origins(["self"])
            .hosts(["localhost:8080", "app.example", "[::1]"])
            .on(Request, move |_, _| {
                asked.send("request".into()).unwrap_or_default();
                Response::new(200)
            })
    });
    for (origin, host, expected) in [
        ("http://localhost:8080", "localhost:8080", 101),
        ("http://LocalHost:8080", "LOCALHOST:8080", 101),
        ("http://app.example", "app.example", 101),
        ("https://app.example:8443", "app.example:8443", 101),
        ("http://[::1]:81", "[::1]:81", 101),
        ("http://localhost:8081", "localhost:8081", 421),
        ("http://localhost", "localhost", 421),
        ("http://localhost.:8080", "localhost.:8080", 421),
        (
            "http://app.example.evil.example",
            "app.example.evil.example",
            421,
        ),
        ("http://evil.example:8080", "evil.example:8080", 421),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", 421),
        ("http://evil.example", "app.example", 403),
    ] {
        let server = &hosts;
        let found = status(server, Some(origin), host);
        assert_eq!(found, expected, "{host}");
        assert_eq!(log.next(), "connect");
        if found == 101 {
            assert_eq!(log.next(), "ready");
        }
        while !log.next().starts_with("disconnect") {}
        // Plain requests are refused as well, because a page with that name could read the
        // responses.
        let plain = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut client = server.client();
        let found = client.request(plain).status;
        assert_eq!(found == 421, expected == 421, "{host}: {found}");
        if found == 421 {
            client.expect_eof();
        }
        drop(client);
        log.expect(&["connect"]);
        let mut entry = log.next();
        assert_eq!(entry == "request", expected != 421, "{host}: {entry}");
        while !entry.starts_with("disconnect") {
            entry = log.next();
        }
    }
    // HTTP/1.0 requests may have no `Host`, and then name no host.
    let mut old = hosts.client();
    assert_eq!(old.request("GET / HTTP/1.0\r\n\r\n").status, 421);
    for entry in [
        "",
        "http://a",
        "a b",
        "*.example",
        "a:99999",
        "a/",
        "u@a",
        "::1",
    ] {
        let built = Server::builder()
            .listen("127.0.0.1:0")
            .hosts([entry])
            .build();
        match built {
            Err(BuildError::BadHost(named)) => assert_eq!(named, entry),
            other => panic!("{entry}: {other:?}"),
        }
    }
}
