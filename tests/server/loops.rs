//! Several loops as one server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use wsloop::event::*;
use wsloop::{Loops, Server, Stats};

use crate::support::Client;

/// With this number of clients on one loop, the kernel does not distribute them.
const CLIENTS_MAX: usize = 1000;

fn chat() -> Loops {
    Loops::new(2, |number| {
        Server::builder()
            .listen("127.0.0.1:0")
            .on(Ready, move |conn, ()| {
                conn.subscribe("all")?;
                conn.send_utf8(&format!("loop {number}"))
            })
            .on(Utf8, |conn, text| conn.publish("all", text))
    })
}

fn next_text(client: &mut Client) -> String {
    let frame = client.read_frame();
    assert_eq!(frame.first, 0x81, "{frame:?}");
    String::from_utf8(frame.payload).unwrap()
}

/// Connects clients until each of two loops has one; returns one of each.
fn one_of_each(addr: std::net::SocketAddr) -> [Client; 2] {
    let mut found = [None, None];
    for _ in 0..CLIENTS_MAX {
        let mut client = Client::connect(addr);
        client.upgrade();
        let text = next_text(&mut client);
        let number: usize = text.strip_prefix("loop ").unwrap().parse().unwrap();
        found[number].get_or_insert(client);
        if let [Some(_), Some(_)] = &found {
            return found.map(Option::unwrap);
        }
    }
    panic!("all clients are on one loop");
}

#[test]
fn a_publish_reaches_the_subscribers_of_all_loops() {
    let loops = chat().spawn().unwrap();
    let [mut one, mut other] = one_of_each(loops.local_addrs()[0]);
    for (from, to) in [(0, 1), (1, 0)] {
        let clients = [&mut one, &mut other];
        for number in 0..100 {
            clients[from].send_text(&format!("{from} {number}"));
        }
        for number in 0..100 {
            clients[to].expect_text(&format!("{from} {number}"));
        }
    }
    loops.handle().publish("all", "from outside").unwrap();
    loops.handle().broadcast_utf8("to all").unwrap();
    for client in [&mut one, &mut other] {
        let texts = [next_text(client), next_text(client)];
        assert!(texts.contains(&"from outside".to_owned()), "{texts:?}");
        assert!(texts.contains(&"to all".to_owned()), "{texts:?}");
    }
    drop((one, other));
    let stats: Stats = loops.shutdown().unwrap().into_iter().sum();
    assert_eq!(stats.messages_in, 200);
    assert!(stats.backplane_received >= 200, "{stats:?}");
}
