//! A handler returns nothing, a verdict, a `bool` or a `Result`, and may be a closure with state or
//! a function.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support::{REQUEST, Running};
use wsloop::event::{Connect, Handshake, Origin, Ping, Utf8, Verdict};
use wsloop::handshake::Upgrade;
use wsloop::{Connection, SendError, Sent};

/// Returns the status of a request to a server with this handler.
macro_rules! status {
    ($event:ident, $handler:expr) => {{
        let server = Running::start(move |builder| builder.on($event, $handler));
        server.client().request(REQUEST).status
    }};
}

#[test]
fn connect_takes_every_kind_of_answer() {
    assert_eq!(status!(Connect, |_, ()| ()), 101);
    assert_eq!(status!(Connect, |_, ()| true), 101);
    assert_eq!(status!(Connect, |_, ()| false), 403);
    assert_eq!(status!(Connect, |_, ()| Verdict::Accept), 101);
    assert_eq!(status!(Connect, |_, ()| Verdict::Refuse), 403);
    assert_eq!(status!(Connect, |_, ()| Ok::<_, String>(())), 101);
    assert_eq!(status!(Connect, |_, ()| Ok::<_, String>(true)), 101);
    assert_eq!(status!(Connect, |_, ()| Ok::<_, String>(false)), 403);
    let refuse = |_: &mut Connection<'_>, ()| Ok::<_, String>(Verdict::Refuse);
    assert_eq!(status!(Connect, refuse), 403);
    assert_eq!(status!(Connect, |_, ()| Err::<(), _>("broken")), 500);
    assert_eq!(status!(Connect, |_, ()| Err::<bool, _>("broken")), 500);
}

#[test]
fn origin_and_handshake_take_every_kind_of_answer() {
    assert_eq!(status!(Origin, |_, _| ()), 101);
    assert_eq!(status!(Origin, |_, _| false), 403);
    assert_eq!(status!(Origin, |_, _| Verdict::Refuse), 403);
    assert_eq!(status!(Origin, |_, _| Ok::<_, String>(true)), 101);
    assert_eq!(status!(Origin, |_, _| Ok::<_, String>(false)), 403);
    assert_eq!(status!(Origin, |_, _| Err::<Verdict, _>("broken")), 500);
    assert_eq!(status!(Handshake, |_, _| ()), 101);
    assert_eq!(status!(Handshake, |_, _| false), 403);
    assert_eq!(status!(Handshake, |_, _| Verdict::Refuse), 403);
    assert_eq!(status!(Handshake, |_, _| Ok::<_, String>(true)), 101);
    assert_eq!(status!(Handshake, |_, _| Ok::<_, String>(false)), 403);
    assert_eq!(status!(Handshake, |_, _| Err::<(), _>("broken")), 500);
    let refuse = |_: &mut Connection<'_>, upgrade: &mut Upgrade| upgrade.refuse(404);
    assert_eq!(status!(Handshake, refuse), 404);
}

#[test]
fn messages_take_nothing_and_results() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, text| match text {
            "ok" => Ok("any value"),
            "size" => {
                let sent = conn.send_utf8("12345")?;
                assert_eq!(sent.bytes(), 7, "with the frame's header");
                Ok("")
            }
            _ => Err(SendError::BadFrame),
        })
    });
    let mut client = server.ready();
    client.send_text("ok");
    client.send_text("size");
    client.expect_text("12345");
    client.send_text("fail");
    client.expect_close(1011);

    let server = Running::start(|builder| {
        builder
            .on(Utf8, |conn, text| {
                conn.send_utf8(text).unwrap();
            })
            .on(Ping, |_, _| Ok::<_, String>(false))
    });
    let mut client = server.ready();
    client.send_frame(0x89, "");
    client.expect_alive();
}

fn on_text(conn: &mut Connection<'_>, text: &str) -> Result<Sent, SendError> {
    conn.send_utf8(&text.to_uppercase())
}

#[test]
fn functions_are_handlers() {
    let server = Running::start(|builder| builder.on(Utf8, on_text));
    let mut client = server.ready();
    client.send_text("grüße");
    client.expect_text("GRÜSSE");
}

#[test]
fn closures_keep_their_state_over_all_connections() {
    let server = Running::start(|builder| {
        let mut seen = Vec::new();
        builder.on(Utf8, move |conn, text| {
            seen.push(text.to_owned());
            conn.send_utf8(&seen.join(","))
        })
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    one.send_text("a");
    one.expect_text("a");
    other.send_text("b");
    other.expect_text("a,b");
    one.send_text("c");
    one.expect_text("a,b,c");
}

#[test]
fn the_last_handler_of_an_event_counts() {
    let server = Running::start(|builder| {
        builder
            .on(Utf8, |conn, _| conn.send_utf8("first"))
            .on(Utf8, |conn, _| conn.send_utf8("second"))
    });
    let mut client = server.ready();
    client.send_text("who?");
    client.expect_text("second");
}
