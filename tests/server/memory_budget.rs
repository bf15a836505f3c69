//! With a memory budget, clients that read are served, and clients that do not read are closed.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Running, frame};
use wsloop::event::Utf8;
use wsloop::{Builder, Hub};

/// Configures small send buffers in the kernel.
fn narrow(builder: Builder) -> Builder {
    builder.send_buffer_size(16 << 10)
}

#[test]
fn many_readers_get_every_broadcast() {
    const CLIENTS: usize = 200;
    // A copy for each client would be three times the budget.
    let server = Running::start(|builder| narrow(builder).memory_budget(4 << 20));
    let clients: Vec<Client> = (0..CLIENTS).map(|_| server.ready()).collect();
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                for number in 0..20 {
                    let frame = client.read_frame();
                    assert_eq!(frame.payload.len(), 60_000);
                    assert_eq!(frame.payload[0], number);
                }
                client
            })
        })
        .collect();
    for number in 0..20 {
        let message = vec![number; 60_000];
        server.handle.broadcast_binary(&message).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    for reader in readers {
        drop(reader.join().unwrap());
    }
    let stats = server.stop();
    assert_eq!(
        (stats.budget_refusals, stats.budget_closes),
        (0, 0),
        "{stats:?}"
    );
}

#[test]
fn clients_that_stop_reading_do_not_shut_the_others_out() {
    const DEAF: usize = 70;
    let server = Running::start(|builder| {
        narrow(builder)
            .memory_budget(8 << 20)
            .on(Utf8, |conn, text| conn.send_utf8(text))
    });
    let mut deaf: Vec<Client> = (0..DEAF).map(|_| server.ready()).collect();
    for client in &deaf {
        client.stream.set_nonblocking(true).unwrap();
    }
    let mut good: Vec<Client> = (0..5).map(|_| server.ready()).collect();
    // Sends each client its own message, so that the queues share no memory.
    let fill = |hub: &mut Hub<'_>| {
        hub.for_each(|conn| {
            let bytes = vec![7; 20_000];
            let _ = conn.send_binary(&bytes);
        });
    };
    let begun = Instant::now();
    let mut closed = 0;
    while closed == 0 {
        server.handle.run(fill).unwrap();
        for client in &mut good {
            assert_eq!(
                client.read_frame().payload.len(),
                20_000,
                "whoever reads is served"
            );
        }
        for client in &mut deaf {
            // The clients send pings, so they are not closed for silence.
            let _ = client.stream.write(&frame(0x89, b""));
        }
        let (tell, told) = mpsc::channel();
        let count = move |hub: &mut Hub<'_>| _ = tell.send(hub.stats().budget_closes);
        server.handle.run(count).unwrap();
        closed = told.recv_timeout(PATIENCE).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Memory is free again: a new client is accepted and served.
    let mut late = server.ready();
    late.send_raw(frame(0x81, b"hello"));
    loop {
        let frame = late.read_frame();
        if frame.first == 0x81 {
            assert_eq!(frame.payload, b"hello");
            break;
        }
    }
    for client in &mut good {
        client.stream.set_nonblocking(true).unwrap();
        let ended = client.stream.read(&mut [0; 1]);
        assert!(!matches!(ended, Ok(0)), "whoever reads stays");
    }
    drop((deaf, good, late));
    drop(server);
}
