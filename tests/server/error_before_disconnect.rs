//! `Error` reports a fault once, before the `Disconnect` that the fault causes. An ordinary end
//! causes no `Error`.

use crate::support;
use crate::support::events::record;
use crate::support::{Running, log};
use wsloop::event::{Disconnect, Error, Handshake, Utf8};

/// Returns the entries from the first `error` or `disconnect` on.
fn end(log: &support::Log) -> Vec<String> {
    let mut end = Vec::new();
    while end
        .last()
        .is_none_or(|entry: &String| !entry.starts_with("disconnect"))
    {
        let entry = log.next();
        if entry.starts_with("error") || entry.starts_with("disconnect") {
            end.push(entry);
        }
    }
    end
}

#[test]
fn a_reset_is_a_network_error() {
    let (sender, log) = log();
    let server = Running::start(move |builder| record(builder, &sender));
    server.ready().reset();
    let end = end(&log);
    assert_eq!(end.len(), 2, "{end:?}");
    assert!(
        end[0].starts_with("error ") && end[0].contains("reset"),
        "{end:?}"
    );
    assert_eq!(end[1], "disconnect 1006 (network error)");
}

#[test]
fn a_reset_before_the_request_is_a_probe_and_no_error() {
    let (sender, log) = log();
    let server = Running::start(move |builder| record(builder, &sender));
    let client = server.client();
    log.expect(&["start", "accept", "connect"]);
    client.reset();
    assert_eq!(end(&log), ["disconnect 1006 (network error)"]);
}

#[test]
fn a_reset_within_the_request_is_an_error() {
    let (sender, log) = log();
    let server = Running::start(move |builder| support::echo(record(builder, &sender)));
    let mut client = server.client();
    client.send_raw("GET / HTTP/1.1\r\n");
    log.expect(&["start", "accept", "connect"]);
    // The server has read the request, because it has served another client since.
    let mut other = server.ready();
    support::settle(&mut other);
    client.reset();
    let end = end(&log);
    assert_eq!(end.len(), 2, "{end:?}");
    assert!(end[0].contains("reset"), "{end:?}");
    assert_eq!(end[1], "disconnect 1006 (network error)");
    drop(other);
}

#[test]
fn a_broken_protocol() {
    let (sender, log) = log();
    let server = Running::start(move |builder| record(builder, &sender));
    let mut client = server.ready();
    client.send_raw([0x81, 0x01, b'x']);
    client.expect_close(1002);
    client.expect_eof();
    assert_eq!(
        end(&log),
        [
            "error client frame is not masked",
            "disconnect 1002 (client frame is not masked) client frame is not masked"
        ]
    );
}

#[test]
fn a_refused_request() {
    let (sender, log) = log();
    let server = Running::start(move |builder| record(builder, &sender));
    let mut client = server.client();
    assert_eq!(client.request("POST / HTTP/1.1\r\n\r\n").status, 405);
    client.expect_eof();
    assert_eq!(
        end(&log),
        [
            "error handshake refused: method is not GET",
            "disconnect 1006 (method is not GET)"
        ]
    );
}

#[test]
fn a_handler_that_refuses_is_none() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        record(builder, &sender).on(Handshake, |_, upgrade| upgrade.refuse(418))
    });
    let mut client = server.client();
    assert_eq!(client.request(support::REQUEST).status, 418);
    client.expect_eof();
    assert_eq!(
        end(&log),
        ["disconnect 1006 (refused with 418 I'm a teapot)"]
    );
}

#[test]
fn a_handler_that_fails() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        record(builder, &sender).on(Utf8, |_, _| Err::<(), _>("no such room"))
    });
    let mut client = server.ready();
    client.send_text("join");
    client.answer_close(1011);
    assert_eq!(
        end(&log),
        [
            "error handler failed: no such room",
            "disconnect 1011 (a handler failed)"
        ]
    );
}

#[test]
fn a_closing_handshake_and_a_plain_end_are_no_errors() {
    let (sender, log) = log();
    let server = Running::start(move |builder| record(builder, &sender));
    let mut client = server.ready();
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
    assert_eq!(end(&log), ["disconnect 1000 (closed by the peer)"]);
    server.ready();
    assert_eq!(
        end(&log),
        ["disconnect 1006 (connection ended without a Close frame)"]
    );
}

#[test]
fn a_reset_in_answer_to_a_close_is_none() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        record(builder, &sender).on(Utf8, |conn, _| conn.disconnect(1000, ""))
    });
    let mut client = server.ready();
    client.send_text("bye");
    client.expect_close(1000);
    client.reset();
    assert_eq!(end(&log), ["disconnect 1000 (closed by the server)"]);
}

#[test]
fn what_comes_after_our_own_close_is_none() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        record(builder, &sender).on(Utf8, |conn, _| conn.disconnect(4000, "enough"))
    });
    let mut client = server.ready();
    client.send_text("bye");
    client.expect_close(4000);
    // An unmasked frame with an undefined opcode.
    client.send_raw([0x83, 0x01, b'x']);
    assert_eq!(end(&log), ["disconnect 4000 (closed by the server) enough"]);
}

#[test]
fn the_handler_may_close_with_a_code_of_its_own() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        let disconnect = sender.clone();
        builder
            .on(Error, |conn, _| conn.disconnect(4001, "mask it"))
            .on(Disconnect, move |_, why| disconnect.send(why.to_string()))
    });
    let mut client = server.ready();
    client.send_raw(b"\x81\x02hi");
    assert_eq!(client.expect_close(4001), "mask it");
    log.expect(&["4001 (closed by the server) mask it"]);
}
