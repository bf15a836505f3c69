//! Several handlers of one event are called in order, up to the first refusal or error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::Sender;

use crate::support;
use crate::support::Running;
use wsloop::event::*;
use wsloop::{Connection, Phase, SendError};

/// Returns a handler that logs its name and the text.
fn say(log: &Sender<String>, name: &'static str) -> impl FnMut(&mut Connection<'_>, &str) + use<> {
    let log = log.clone();
    move |_, text| log.send(format!("{name} {text}")).unwrap()
}

#[test]
fn all_are_called_in_the_order_they_were_registered() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let (start, hub, tail) = (sender.clone(), sender.clone(), sender.clone());
        builder
            .add_on(Start, move |_, ()| start.send("start 1".into()))
            .add_on(Start, move |_, ()| hub.send("start 2".into()))
            .on(Utf8, |_, _| -> () { unreachable!("it is replaced") })
            .on(Utf8, say(&sender, "one"))
            .add_on(Utf8, say(&sender, "two"))
            .add_on(Utf8, |conn, text| conn.send_utf8(text))
            .add_on(Utf8, say(&sender, "four"))
            .add_on(Binary, |conn, data| conn.send_binary(&data[1..]))
            .add_on(Binary, |conn, data| conn.send_binary(&data[2..]))
            .add_on(Disconnect, move |_, why| {
                tail.send(format!("left {}", why.code))
            })
            .add_on(Disconnect, |conn, why| {
                assert_eq!(why.code.as_u16(), 1000);
                assert!(conn.phase() >= Phase::Lingering);
            })
    });
    log.expect(&["start 1", "start 2"]);
    let mut client = server.ready();
    // A single message, and several messages in one read.
    client.send_text("a");
    client.expect_text("a");
    log.expect(&["one a", "two a", "four a"]);
    client.send_raw(support::frame(0x81, b"b").repeat(3));
    for _ in 0..3 {
        client.expect_text("b");
        log.expect(&["one b", "two b", "four b"]);
    }
    client.send_frame(0x82, "xyz");
    client.expect_frame(0x82, "yz");
    client.expect_frame(0x82, "z");
    client.send_close(1000, "");
    client.expect_close(1000);
    log.expect(&["left 1000"]);
}

#[test]
fn the_first_refusal_counts() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let (seen, pinged) = (sender.clone(), sender.clone());
        builder
            .add_on(Origin, |_, origin| origin != Some("http://bad"))
            .add_on(Origin, move |_, origin| {
                sender.send(format!("origin {origin:?}")).unwrap();
                Verdict::Accept
            })
            .add_on(Handshake, |_, upgrade| {
                upgrade.header("x-one", "1").unwrap();
                upgrade.request().path() != "/refused"
            })
            .add_on(Handshake, move |_, upgrade| {
                seen.send("handshake".into()).unwrap();
                upgrade.header("x-two", "2").unwrap();
            })
            .add_on(Ping, |_, payload| payload != b"no")
            .add_on(Ping, move |_, _| _ = pinged.send("ping".into()))
    });
    let mut bad = server.client();
    let refused = bad.request(support::request_with("Origin: http://bad\r\n"));
    assert_eq!(refused.status, 403);
    let mut client = server.client();
    let refused = client.request(support::REQUEST.replace("/chat?room=7", "/refused"));
    assert_eq!(refused.status, 403);
    log.expect(&["origin None"]);
    let mut client = server.client();
    let answer = client.upgrade();
    assert_eq!(
        (answer.header("x-one"), answer.header("x-two")),
        (Some("1"), Some("2"))
    );
    log.expect(&["origin None", "handshake"]);
    client.send_frame(0x89, "no");
    client.send_frame(0x89, "yes");
    client.expect_frame(0x8a, "yes");
    log.expect(&["ping"]);
}

#[test]
fn an_error_or_a_panic_ends_it() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        builder
            .add_on(Utf8, |_, text| match text {
                "fail" => Err("a test"),
                "panic" => panic!("a test"),
                _ => Ok(()),
            })
            .add_on(Utf8, say(&sender, "second"))
            .add_on(Utf8, |conn, text| conn.send_utf8(text))
    });
    for text in ["fail", "panic"] {
        let mut client = server.ready();
        client.send_text(text);
        client.expect_close(1011);
    }
    let mut client = server.ready();
    client.send_text("good");
    client.expect_text("good");
    log.expect(&["second good"]);
}

#[test]
fn a_connections_own_come_in_place_of_the_servers() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        let log = sender.clone();
        builder
            .on(Utf8, say(&sender, "server"))
            .add_on(Ready, move |conn, ()| {
                conn.on(Utf8, |_, _| -> () { unreachable!("it is replaced") });
                conn.add_on(Utf8, |_, _| -> () { unreachable!("it is replaced, too") });
                conn.on(Utf8, say(&log, "one"));
                conn.add_on(Utf8, say(&log, "two"));
                let more = log.clone();
                conn.add_on(Utf8, move |conn, text| {
                    match text {
                        // The new handler is called from the next message on.
                        "more" => conn.add_on(Utf8, say(&more, "later")),
                        "only" => conn.on(Utf8, say(&more, "only")),
                        _ => {}
                    }
                    conn.send_utf8(text).map(drop)
                });
                // The connection's first own handler for this event.
                conn.add_on(Pong, |conn, _| conn.send_utf8("pong"));
            })
            .on(Pong, |_, _| -> () { unreachable!("it has one of its own") })
    });
    let mut client = server.ready();
    for (text, expected) in [
        ("a", &["one a", "two a"][..]),
        ("more", &["one more", "two more"]),
        ("b", &["one b", "two b", "later b"]),
        ("only", &["one only", "two only", "later only"]),
        ("c", &["only c"]),
    ] {
        client.send_text(text);
        log.expect(expected);
        if text != "c" {
            client.expect_text(text);
        }
    }
    client.send_frame(0x8a, "");
    client.expect_text("pong");
}

#[test]
fn what_handlers_answer_is_mixed() {
    let server = Running::start(|builder| {
        builder
            .add_on(Connect, |_, ()| ())
            .add_on(Connect, |_, ()| true)
            .add_on(Connect, |_, ()| Ok::<_, SendError>(Verdict::Accept))
            .add_on(Utf8, |_, _| ())
            .add_on(Utf8, |conn, text| conn.send_utf8(text))
    });
    let mut client = server.ready();
    client.send_text("hi");
    client.expect_text("hi");
}
