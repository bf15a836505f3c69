//! The `Handshake` handler can change the response. On request it also receives handshakes that the
//! server refuses.

use wsloop::HandshakeError;
use wsloop::event::{Disconnect, Handshake};
use wsloop::handshake::Refusal;

use crate::support::{REQUEST, Running, log};

#[test]
fn headers_and_cookies_of_ones_own() {
    let server = Running::start(|builder| {
        builder.on(Handshake, |_, upgrade| {
            if upgrade.request().path() == "/refused" {
                let refusal = Refusal::new(401)
                    .header("WWW-Authenticate", "Basic")
                    .cookie("id", "", "Max-Age=0");
                return upgrade.refuse(refusal);
            }
            assert!(upgrade.cookie("id", "a b", "").is_err());
            assert_eq!(upgrade.error(), None);
            upgrade.cookie("id", "7", "Path=/; HttpOnly")?;
            upgrade.cookie("lang", "de", "")?;
            upgrade.header("X-Server", "here")
        })
    });
    let response = server.client().request(REQUEST);
    assert_eq!(response.status, 101);
    let own: Vec<_> = response.headers[3..]
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(
        own,
        [
            ("set-cookie", "id=7; Path=/; HttpOnly"),
            ("set-cookie", "lang=de"),
            ("x-server", "here"),
        ]
    );
    let response = server
        .client()
        .request(REQUEST.replace("/chat?room=7", "/refused"));
    assert_eq!(response.status, 401);
    assert_eq!(response.header("www-authenticate"), Some("Basic"));
    assert_eq!(response.header("set-cookie"), Some("id=; Max-Age=0"));
}

/// Invalid opening handshakes, and the status of the response.
const BAD: [(&str, &str, u16, HandshakeError); 4] = [
    ("GET", "POST", 405, HandshakeError::MethodNotGet),
    (": 13", ": 8", 426, HandshakeError::UnsupportedVersion),
    ("dGhl", "", 400, HandshakeError::BadKey),
    (
        "Host: ",
        "Content-Length: 1\r\nHost: ",
        400,
        HandshakeError::BodyProhibited,
    ),
];

#[test]
fn bad_requests_are_shown_where_that_is_asked_for() {
    for show in [false, true] {
        let (sender, log) = log();
        let server = Running::start(move |builder| {
            let ends = sender.clone();
            builder
                .bad_handshakes(show)
                .on(Handshake, move |conn, upgrade| {
                    let error = upgrade.error().map(|error| error.to_string());
                    let seen = format!("{} {error:?}", upgrade.request().path());
                    sender.send(seen).unwrap_or_default();
                    // The handler cannot change the default response.
                    upgrade.refuse(404)?;
                    upgrade.header("X", "y")?;
                    conn.http_error(404)
                })
                .on(Disconnect, move |_, why| {
                    ends.send(why.to_string()).unwrap_or_default()
                })
        });
        for (from, to, status, error) in BAD {
            let mut client = server.client();
            let response = client.request(REQUEST.replace(from, to));
            assert_eq!(response.status, status, "{to}");
            assert_eq!(response.header("x"), None);
            let body = String::from_utf8_lossy(&response.body);
            assert!(body.ends_with(&error.to_string()), "{body}");
            client.expect_eof();
            if show {
                assert_eq!(log.next(), format!("/chat {:?}", Some(error.to_string())));
            }
            assert_eq!(log.next(), format!("1006 ({error})"));
        }
        // A valid request is handled as usual.
        assert_eq!(server.client().request(REQUEST).status, 404);
        assert_eq!(log.next(), "/chat None");
    }
}

#[test]
fn a_handler_that_fails_on_a_bad_request_changes_nothing() {
    let server = Running::start(|builder| {
        builder
            .bad_handshakes(true)
            .on(Handshake, |_, upgrade| -> bool {
                assert!(upgrade.error().is_none(), "told to");
                true
            })
    });
    let mut client = server.client();
    assert_eq!(client.request(REQUEST.replace(": 13", ": 8")).status, 426);
    client.expect_eof();
    assert_eq!(server.client().request(REQUEST).status, 101);
}
