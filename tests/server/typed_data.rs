//! `data` belongs to a connection, `shared` to the server. Each type has one value, created on
//! first use.

use crate::support;
use crate::support::Running;
use wsloop::event::*;

#[derive(Default)]
struct Player {
    name: String,
    moves: u32,
}

#[derive(Default)]
struct Lobby(Vec<String>);

#[derive(Default)]
struct Other(u32);

#[test]
fn each_connection_has_its_own_and_all_share_one() {
    let server = Running::start(|builder| {
        builder
            .on(Connect, |conn, ()| {
                let id = conn.id().to_string();
                conn.data::<Player>().name = id.clone();
                conn.shared::<Lobby>().0.push(id);
            })
            .on(Utf8, |conn, _| {
                conn.data::<Player>().moves += 1;
                conn.data::<Other>().0 += 10;
                conn.shared::<Other>().0 += 100;
                let (moves, other) = (conn.data::<Player>().moves, conn.data::<Other>().0);
                let id = conn.id().to_string();
                assert_eq!(conn.data::<Player>().name, id);
                let (all, lobby) = (conn.shared::<Other>().0, conn.shared::<Lobby>().0.len());
                conn.send_utf8(&format!("{moves} {other} {all} {lobby}"))
            })
    });
    let mut one = server.ready();
    one.send_text("");
    one.expect_text("1 10 100 1");
    let mut other = server.ready();
    other.send_text("");
    other.expect_text("1 10 200 2");
    one.send_text("");
    one.expect_text("2 20 300 2");
}

#[test]
fn it_lasts_from_connect_to_disconnect() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        builder
            .on(Accept, |hub, _| {
                hub.shared::<Lobby>().0.push("accept".into())
            })
            .on(Connect, |conn, ()| {
                conn.data::<Lobby>().0.push("connect".into())
            })
            .on(Origin, |conn, _| {
                conn.data::<Lobby>().0.push("origin".into())
            })
            .on(Handshake, |conn, _| {
                conn.data::<Lobby>().0.push("handshake".into());
            })
            .on(Ready, |conn, ()| {
                conn.data::<Lobby>().0.push("ready".into())
            })
            .on(Disconnect, move |conn, _| {
                let entries = conn.data::<Lobby>().0.join(" ");
                let shared = conn.shared::<Lobby>().0.join(" ");
                sender.send(format!("{entries} / {shared}"))
            })
    });
    server.ready();
    assert_eq!(log.next(), "connect origin handshake ready / accept");
    // The next connection may reuse the slot, but not the data.
    server.ready();
    assert_eq!(log.next(), "connect origin handshake ready / accept accept");
}

#[test]
fn other_connections_and_the_server_reach_it() {
    let server = Running::start(|builder| {
        builder
            .on(Start, |hub, ()| hub.shared::<Other>().0 = 7)
            .on(Utf8, |conn, text| {
                conn.data::<Player>().name = text.to_owned();
                let mut names = Vec::new();
                conn.server()
                    .for_each(|conn| names.push(conn.data::<Player>().name.clone()));
                names.sort();
                let seven = conn.server().shared::<Other>().0;
                conn.send_utf8(&format!("{seven} {}", names.join(",")))
            })
    });
    let (mut one, mut other) = (server.ready(), server.ready());
    one.send_text("a");
    one.expect_text("7 ,a");
    other.send_text("b");
    other.expect_text("7 a,b");
}
