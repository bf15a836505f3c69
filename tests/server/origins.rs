//! The list of allowed origins, which is checked before the `Origin` handler.

use wsloop::event::Origin;
use wsloop::{BuildError, Server};

use crate::support::{REQUEST, Running, log, recorded, request_with};

fn status(server: &Running, lines: &str) -> u16 {
    server.client().request(request_with(lines)).status
}

#[test]
fn only_those_on_the_list_connect() {
    let server = Running::start(|builder| builder.origins(["https://friend.example", "self"]));
    for (lines, expected) in [
        ("Origin: https://friend.example\r\n", 101),
        ("Origin: https://friend.example:443\r\n", 101),
        ("Origin: HTTPS://FRIEND.EXAMPLE\r\n", 101),
        ("Origin: http://example.com\r\n", 101), // the host of the request
        ("Origin: https://example.com\r\n", 101), // a proxy terminates TLS
        ("Origin: http://friend.example\r\n", 403),
        ("Origin: https://friend.example:8443\r\n", 403),
        ("Origin: https://friend.example.evil.example\r\n", 403),
        ("Origin: https://evil-friend.example\r\n", 403),
        ("Origin: https://www.friend.example\r\n", 403),
        ("Origin: https://friend.example/\r\n", 403),
        (
            "Origin: https://friend.example https://evil.example\r\n",
            403,
        ),
        ("Origin: http://example.com:8080\r\n", 403),
        ("Origin: http://example.com.evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin:\r\n", 403),
        ("", 403),
        // Two `Origin` headers make the request invalid.
        (
            "Origin: https://friend.example\r\nOrigin: https://friend.example\r\n",
            400,
        ),
        (
            "Origin: https://friend.example\r\nOrigin: https://evil.example\r\n",
            400,
        ),
    ] {
        assert_eq!(status(&server, lines), expected, "{lines}");
    }
}

#[test]
fn the_special_entries() {
    for (entry, missing, null, other) in [
        ("*", 101, 101, 101),
        ("none", 101, 403, 403),
        ("null", 403, 101, 403),
        ("self", 403, 403, 403),
    ] {
        let server = Running::start(move |builder| builder.origins([entry]));
        assert_eq!(status(&server, ""), missing, "{entry}");
        assert_eq!(status(&server, "Origin: null\r\n"), null, "{entry}");
        assert_eq!(
            status(&server, "Origin: http://o.example\r\n"),
            other,
            "{entry}"
        );
    }
    let nobody = Running::start(|builder| builder.origins::<String>([]));
    assert_eq!(status(&nobody, ""), 403);
}

#[test]
fn the_handler_is_asked_about_those_on_the_list() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let asked = sender.clone();
        recorded(builder, &sender)
            .origins(["http://a.example", "http://b.example"])
            .on(Origin, move |_, origin| {
                let origin = origin.unwrap_or_default();
                asked.send(format!("asked {origin}")).unwrap_or_default();
                origin != "http://b.example"
            })
    });
    assert_eq!(status(&server, "Origin: http://a.example\r\n"), 101);
    log.expect(&["connect", "asked http://a.example", "ready"]);
    let mut refused = server.client();
    assert_eq!(
        refused
            .request(request_with("Origin: http://c.example\r\n"))
            .status,
        403
    );
    while !log.next().starts_with("disconnect 1006 (origin refused)") {}
    assert_eq!(status(&server, "Origin: http://b.example\r\n"), 403);
    log.expect(&["connect", "asked http://b.example"]);
}

#[test]
fn what_is_no_origin_is_told_at_the_start() {
    for entry in [
        "example.com",
        "https://example.com/",
        "https://*.example.com",
        "",
    ] {
        let built = Server::builder()
            .listen("127.0.0.1:0")
            .origins(["https://fine.example", entry])
            .build();
        match built {
            Err(BuildError::BadOrigin(named)) => assert_eq!(named, entry),
            other => panic!("{entry}: {other:?}"),
        }
    }
    // Without a list every client may connect.
    let server = Running::echo();
    assert_eq!(server.client().request(REQUEST).status, 101);
    assert_eq!(status(&server, "Origin: http://evil.example\r\n"), 101);
}
