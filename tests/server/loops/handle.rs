//! The handle to all loops, and orders of handlers that hold for all loops.

use std::net::TcpStream;
use std::time::Duration;

use wsloop::{LoopsHandle, WindDown};

use super::*;

fn id(client: &mut Client) -> u64 {
    client.send_text("id");
    next_text(client).parse().unwrap()
}

/// Returns the id of each loop's only connection.
fn ids(handle: &LoopsHandle) -> Vec<wsloop::ConnectionId> {
    handle.ask(|_, hub| hub.ids()[0])
}

#[test]
fn it_reaches_the_clients_of_all_loops() {
    let loops = two_loops();
    let handle = loops.handle();
    let mut clients = one_of_each(loops.local_addrs()[0]);
    handle.broadcast_utf8("to all").unwrap();
    handle.broadcast_binary(b"\xff").unwrap();
    handle
        .broadcast_prepared(&Prepared::text("prepared"))
        .unwrap();
    for client in &mut clients {
        client.expect_text("to all");
        client.expect_frame(0x82, b"\xff");
        client.expect_text("prepared");
        subscribe(client, "all");
    }
    for number in 0..100 {
        handle.publish("all", &*number.to_string()).unwrap();
    }
    for client in &mut clients {
        for number in 0..100 {
            client.expect_text(&number.to_string());
        }
    }
    let ids = ids(handle);
    assert_eq!(u64::from(ids[0]), id(&mut clients[0]));
    assert_eq!(u64::from(ids[1]), id(&mut clients[1]));
    for (id, client) in ids.iter().zip(&mut clients) {
        handle
            .send_prepared(*id, &Prepared::text("to one"))
            .unwrap();
        client.expect_text("to one");
    }
    assert_eq!(
        handle.disconnect(ids[1], 1005, "not sent"),
        Err(SendError::BadCloseCode(1005))
    );
    handle.disconnect(ids[1], 4000, "bye").unwrap();
    assert_eq!(clients[1].answer_close(4000), "bye");
    settle(&mut clients[0]);
}

#[test]
fn it_runs_and_asks_on_each_loop() {
    let loops = two_loops();
    let handle = loops.handle();
    assert_eq!((handle.len(), handle.is_empty()), (2, false));
    let clients = crowd(loops.local_addrs()[0], 3);
    assert_eq!(
        handle.ask(|number, hub| (number, hub.loop_number(), hub.len())),
        [(0, 0, 3), (1, 1, 3)]
    );
    let (sender, numbers) = mpsc::channel();
    let run = move |number, hub: &mut wsloop::Hub<'_>| {
        assert_eq!(hub.loops().unwrap().len(), 2);
        sender.send(number).unwrap();
    };
    handle.run(run).unwrap();
    let mut numbers = [numbers.recv().unwrap(), numbers.recv().unwrap()];
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1]);
    let stats = handle.stats();
    assert!(stats.iter().all(|stats| stats.accepted >= 3), "{stats:?}");
    clients.into_iter().flatten().for_each(leave);
    let after = loops.shutdown().unwrap();
    assert_eq!(after[0].accepted, stats[0].accepted);
    assert_eq!(after[1].accepted, stats[1].accepted);
}

#[test]
fn it_stops_all_loops_with_a_code() {
    let loops = two_loops();
    let clients = one_of_each(loops.local_addrs()[0]);
    assert_eq!(
        loops.handle().stop(1006),
        Err(SendError::BadCloseCode(1006))
    );
    loops.handle().stop(4001).unwrap();
    for mut client in clients {
        client.answer_close(4001);
    }
    loops.join().unwrap();
}

#[test]
fn it_winds_all_loops_down() {
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    let clients = crowd(addr, 3);
    let spread = Duration::from_millis(20);
    let how = WindDown::within(LONG).spread(spread).code(1012);
    loops.handle().wind_down(how).unwrap();
    for mut client in clients.into_iter().flatten() {
        client.answer_close(1012);
    }
    let stats: wsloop::Stats = loops.join().unwrap().into_iter().sum();
    assert_eq!(stats.cut, 0);
    TcpStream::connect(addr).unwrap_err();
}

#[test]
fn it_stops_and_starts_listening() {
    let loops = two_loops();
    let handle = loops.handle();
    let addr = loops.local_addrs()[0];
    let mut clients = one_of_each(addr);
    for _ in 0..2 {
        handle.stop_listening().unwrap();
        assert!(handle.listeners().unwrap().is_empty());
        TcpStream::connect(addr).unwrap_err();
        handle.start_listening().unwrap();
        assert_eq!(handle.listeners().unwrap().len(), 2);
        one_of_each(addr);
    }
    handle.hand_over_listeners().unwrap();
    assert!(handle.listeners().unwrap().is_empty());
    TcpStream::connect(addr).unwrap_err();
    clients.iter_mut().for_each(settle);
}

#[test]
fn the_listeners_of_all_loops_can_be_handed_over() {
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    let sockets = loops.handle().listeners().unwrap();
    let addrs: Vec<_> = sockets
        .iter()
        .map(|socket| {
            std::net::TcpListener::from(socket.try_clone().unwrap())
                .local_addr()
                .unwrap()
        })
        .collect();
    assert_eq!(addrs, [addr, addr]);
    loops.handle().hand_over_listeners().unwrap();
    loops.shutdown().unwrap();
    // The clients of both sockets wait for the successor.
    let mut waiting: Vec<_> = (0..64).map(|_| Client::connect(addr)).collect();
    let successor = Loops::new(2, move |number| {
        let sockets = sockets.iter().map(|socket| socket.try_clone().unwrap());
        let builder = sockets.fold(Server::builder(), |builder, socket| {
            builder.listener(std::net::TcpListener::from(socket))
        });
        obeying(number, builder)
    });
    let _successor = successor.spawn().unwrap();
    for client in &mut waiting {
        greeted(client);
    }
    drop(waiting);
}

#[test]
fn what_a_handler_orders_holds_for_all_loops() {
    for (order, code) in [("shutdown", 1001), ("wind_down", 1012)] {
        for from in [0, 1] {
            let loops = two_loops();
            let mut clients = one_of_each(loops.local_addrs()[0]);
            clients[from].send_text(order);
            for client in &mut clients {
                client.answer_close(code);
            }
            loops.join().unwrap();
        }
    }
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    let mut clients = one_of_each(addr);
    clients[1].send_text("stop_listening");
    settle(&mut clients[1]);
    // The other loop has got its order before this question.
    assert!(loops.handle().listeners().unwrap().is_empty());
    TcpStream::connect(addr).unwrap_err();
    clients.iter_mut().for_each(settle);
}
