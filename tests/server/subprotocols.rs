//! At most one subprotocol is negotiated: the first of the server's list that the client offers.

use crate::support;
use crate::support::{REQUEST, Running, log};
use wsloop::event::{Handshake, Ready};

/// Returns the subprotocol in the 101, which must equal the one in `Ready`.
#[track_caller]
fn agreed(server: &Running, log: &support::Log, lines: &[&str]) -> Option<String> {
    let offer: String = lines
        .iter()
        .map(|line| format!("Sec-WebSocket-Protocol: {line}\r\n"))
        .collect();
    let mut client = server.client();
    let response = client.request(REQUEST.replace("Host:", &format!("{offer}Host:")));
    assert_eq!(response.status, 101, "{lines:?}");
    let named: Vec<&String> = response
        .headers
        .iter()
        .filter(|(name, _)| name == "sec-websocket-protocol")
        .map(|(_, value)| value)
        .collect();
    // RFC 6455, 11.3.4: it "MUST NOT appear more than once in an HTTP response".
    assert!(named.len() <= 1, "{named:?}");
    let named = named.first().map(|value| (*value).clone());
    assert_eq!(log.next(), format!("{named:?}"));
    named
}

#[test]
fn the_server_s_order_counts() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        builder
            .subprotocols(["v3.chat", "v2.chat", "v1.chat"])
            .on(Ready, move |conn, ()| {
                let agreed = conn.subprotocol().map(str::to_owned);
                sender.send(format!("{agreed:?}")).unwrap_or_default();
            })
    });
    for (lines, expected) in [
        (&["v1.chat, v2.chat, v3.chat"][..], Some("v3.chat")),
        (&["v1.chat", "v2.chat"], Some("v2.chat")),
        (&["v1.chat"], Some("v1.chat")),
        (&["mqtt,v1.chat ,stomp"], Some("v1.chat")),
        (&[",,v2.chat,,"], Some("v2.chat")),
        (&["mqtt", "v1.chat, stomp"], Some("v1.chat")),
        // Names are case-sensitive, and must match completely.
        (&["V3.CHAT"], None),
        (&["v3.cha", "v3.chats", "x-v3.chat"], None),
        (&["mqtt"], None),
        (&[], None),
    ] {
        assert_eq!(
            agreed(&server, &log, lines).as_deref(),
            expected,
            "{lines:?}"
        );
    }
}

#[test]
fn none_is_chosen_by_a_server_that_has_none() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        builder.on(Ready, move |conn, ()| {
            sender
                .send(format!("{:?}", conn.subprotocol()))
                .unwrap_or_default();
        })
    });
    assert_eq!(agreed(&server, &log, &["chat"]), None);
}

#[test]
fn the_handler_may_choose_another_of_those_offered() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        builder
            .subprotocols(["a", "b"])
            .on(Handshake, |_, upgrade| {
                assert!(["a", "b"].contains(&upgrade.subprotocol().unwrap_or("a")));
                // The response names only a subprotocol that was offered, whatever this call
                // returns.
                let _ = upgrade.set_subprotocol("c");
            })
            .on(Ready, move |conn, ()| {
                let agreed = conn.subprotocol().map(str::to_owned);
                sender.send(format!("{agreed:?}")).unwrap_or_default();
            })
    });
    assert_eq!(agreed(&server, &log, &["a, b, c"]).as_deref(), Some("c"));
    assert_eq!(agreed(&server, &log, &["b"]).as_deref(), Some("b"));
    assert_eq!(agreed(&server, &log, &["d"]), None);
}
