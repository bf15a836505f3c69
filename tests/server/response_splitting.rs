//! A value from a client that a handler passes on cannot split a response: the call that passes it
//! on fails, and the value is not sent.

use crate::support;
use crate::support::{REQUEST, Running};
use wsloop::event::{Connect, Handshake, Origin};
use wsloop::handshake::Refusal;
use wsloop::{AnswerError, Connection};

/// Values that would end a line or a head, or that parsers could misread.
const BREAKING: [&str; 10] = [
    "a\r\nX-Evil: b",
    "a\nX-Evil: b",
    "a\rX-Evil: b",
    "a\r\n\r\nHTTP/1.1 200 OK",
    "\r\n",
    "\n",
    "a\0b",
    "a\x0bb",
    "a\x7fb",
    "a\x1b[2J",
];

/// Invalid names, and names that only the handshake may use.
const NO_NAMES: [&str; 16] = [
    "",
    " ",
    "X Y",
    "X:",
    "X\r\nX-Evil",
    "X-Evil: b\r\nX",
    "X\0",
    "Ü",
    "Upgrade",
    "connection",
    "Content-Length",
    "TRANSFER-ENCODING",
    "Sec-WebSocket-Accept",
    "sec-websocket-protocol",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Version",
];

#[test]
fn headers_of_the_101() {
    let server = Running::start(|builder| {
        support::echo(builder).on(Handshake, |_, upgrade| {
            for value in BREAKING {
                assert_eq!(upgrade.header("X-Good", value), Err(AnswerError::BadHeader));
            }
            for name in NO_NAMES {
                let refused = upgrade.header(name, "b");
                assert!(refused.is_err_and(is_malformed), "{name:?}");
            }
            upgrade.header("X-Good", "a \t b, ü")?;
            upgrade.header("Set-Cookie", "a=b; Path=/")?;
            upgrade.header("Set-Cookie", "c=d")?;
            Ok::<_, AnswerError>(true)
        })
    });
    let mut client = server.client();
    let response = client.request(REQUEST);
    assert_eq!(response.status, 101);
    let headers: Vec<_> = response
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(
        headers,
        [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("x-good", "a \t b, ü"),
            ("set-cookie", "a=b; Path=/"),
            ("set-cookie", "c=d"),
        ]
    );
    client.expect_alive();
}

#[test]
fn subprotocols() {
    let server = Running::start(|builder| {
        support::echo(builder).on(Handshake, |_, upgrade| {
            for name in BREAKING {
                let set = upgrade.set_subprotocol(name);
                assert_eq!(set, Err(AnswerError::SubprotocolNotOffered));
            }
            for name in [
                "",
                "not offered",
                "chat, superchat",
                "chat,superchat",
                "CHAT",
                "chat ",
            ] {
                let set = upgrade.set_subprotocol(name);
                assert_eq!(set, Err(AnswerError::SubprotocolNotOffered));
            }
            assert_eq!(upgrade.subprotocol(), None);
        })
    });
    let offer = REQUEST.replace("Host:", "Sec-WebSocket-Protocol: chat, superchat\r\nHost:");
    let mut client = server.client();
    let response = client.request(offer);
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-protocol"), None);
    client.expect_alive();
}

#[test]
fn refusals_of_the_upgrade() {
    let server = Running::start(|builder| {
        builder.on(Handshake, |_, upgrade| {
            for refusal in malformed() {
                assert!(upgrade.refuse(refusal).is_err_and(is_malformed));
            }
            assert!(upgrade.refusal().is_none());
            upgrade.header("X-Not-Sent", "it is no 101")?;
            upgrade.refuse(
                Refusal::new(403)
                    .header("X-Good", "a b")
                    .body("\r\nX-Body: it is one"),
            )
        })
    });
    let mut client = server.client();
    let response = client.request(REQUEST);
    assert_eq!(response.status, 403);
    assert_eq!(response.header("x-good"), Some("a b"));
    assert_eq!(response.header("x-evil"), None);
    assert_eq!(response.header("x-not-sent"), None);
    assert_eq!(response.body, b"\r\nX-Body: it is one");
    client.expect_eof();
}

#[test]
fn http_errors_in_every_handler_of_the_handshake() {
    for place in 0..3 {
        let server = Running::start(move |builder| match place {
            0 => builder.on(Connect, |conn, ()| try_malformed(conn)),
            1 => builder.on(Origin, |conn, _| try_malformed(conn)),
            _ => builder.on(Handshake, |conn, _| try_malformed(conn)),
        });
        let mut client = server.client();
        let response = client.request(REQUEST);
        // None of the malformed refusals was sent.
        assert_eq!(response.status, 101);
        let names: Vec<&str> = response.headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["upgrade", "connection", "sec-websocket-accept"]);
    }
}

fn try_malformed(conn: &mut Connection<'_>) {
    for refusal in malformed() {
        assert!(conn.http_error(refusal).is_err_and(is_malformed));
    }
}

/// Returns whether the answer was refused for one of its parts.
fn is_malformed(error: AnswerError) -> bool {
    use AnswerError::{BadHeader, BadReason, BadStatus, ReservedHeader};
    matches!(error, BadHeader | BadReason | BadStatus | ReservedHeader)
}

/// Returns malformed refusals.
fn malformed() -> Vec<Refusal> {
    let mut all = Vec::new();
    for text in BREAKING {
        all.push(Refusal::new(403).reason(text));
        all.push(Refusal::new(403).header("X-Good", text));
        // A later valid value does not repair a malformed refusal.
        all.push(Refusal::new(403).reason(text).reason("good"));
    }
    for name in NO_NAMES {
        all.push(Refusal::new(403).header(name, "b"));
    }
    for status in [0, 99, 100, 101, 200, 204, 299, 304, 600, 999, 65_535] {
        all.push(Refusal::new(status));
    }
    all
}
