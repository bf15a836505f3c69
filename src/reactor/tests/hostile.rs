//! Peers that hold on to connections, and peers that come and go: no connection stays for longer
//! than it may, and nothing of it is left.

use super::super::SLOTS;
use super::*;
use crate::connection::event::Request;
use crate::plain_http::Response;

/// A server whose connections act on commands in text messages, and that answers plain requests.
fn obedient() -> World {
    let mut world = World::new(Config::default());
    let handlers = &mut world.reactor.handlers;
    handlers.set::<Request, _>(|_, request| Response::new(200).body(request.body()));
    handlers.set::<Utf8, _>(|conn, text| {
        match text {
            "close" => drop(conn.disconnect(4000, "told to")?),
            "cut" => conn.abort(),
            "error" => drop(conn.disconnect(1005, "")?),
            text => drop(conn.send_utf8(text)?),
        }
        Ok::<_, SendError>(())
    });
    world
}

/// Sends `bytes` from a peer again and again, one byte every 100 ms; returns when the connection
/// was removed.
fn trickle(world: &mut World, client: &Client, bytes: &[u8], most: u64) -> u64 {
    let begun = world.at;
    for byte in bytes.iter().cycle() {
        if !world.reactor.halves.contains(client.tag & SLOTS) {
            return world.at - begun;
        }
        assert!(world.at - begun <= most, "it holds on");
        world.send(client, &[*byte]);
        world.pass(100);
    }
    unreachable!("there is always a next byte")
}

/// Creates a client whose connection is at a certain stage.
type Stage = fn(&mut World) -> Client;

#[test]
fn trickling_puts_the_end_off_at_no_stage() {
    let ping = frame(0x89, b"ping");
    let stages: [(&str, Stage, &[u8], u64); 8] = [
        ("a request line", |world| world.connect(), b"A", 10_000),
        (
            "header lines",
            |world| {
                let client = world.connect();
                world.send(&client, b"GET / HTTP/1.1\r\n");
                client
            },
            b"X: y\r\n",
            10_000,
        ),
        (
            "a body",
            |world| {
                let client = world.connect();
                let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n";
                world.send(&client, head);
                client
            },
            b"x",
            10_000,
        ),
        (
            "a body in chunks",
            |world| {
                let client = world.connect();
                let head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
                world.send(&client, head);
                client
            },
            b"1;a=b\r\nx\r\n",
            10_000,
        ),
        (
            "what follows a refusal",
            |world| {
                let client = world.connect();
                world.send(&client, b"\0");
                client
            },
            b"x",
            0,
        ),
        (
            "what follows a breach",
            |world| {
                let client = world.ready();
                world.send(&client, b"\xff\xff");
                client
            },
            b"x",
            0,
        ),
        (
            "an answer to a Close that does not come",
            |world| {
                let client = world.ready();
                world.send(&client, &frame(0x81, b"close"));
                client
            },
            &ping,
            0,
        ),
        (
            "a Close that is never whole",
            |world| {
                let client = world.ready();
                world.send(&client, &frame(0x81, b"close"));
                // The header of a Close frame; its payload trickles.
                world.send(&client, &frame(0x88, &[b'x'; 125])[..6]);
                client
            },
            b"\x03",
            0,
        ),
    ];
    for (stage, begin, bytes, timeout) in stages {
        let mut world = obedient();
        let client = begin(&mut world);
        // The client has five seconds to read the refusal.
        let most = timeout + 5_000 + 200;
        let took = trickle(&mut world, &client, bytes, most);
        assert!(took >= timeout.max(4_900), "{stage}: {took}");
        assert!(world.is_empty(), "{stage}");
        let log = world.take_log();
        let ends = log.iter().filter(|entry| entry.starts_with("disconnect"));
        assert_eq!(ends.count(), 1, "{stage}: {log:?}");
    }
}

/// How a connection comes and goes.
type Way = fn(&mut World);

fn told(world: &mut World, text: &[u8]) -> Client {
    let client = world.ready();
    world.send(&client, &frame(0x81, text));
    client
}

fn fin(world: &mut World, client: &Client) {
    client.arrive_fin();
    world.news(client, true, true);
}

fn reset(world: &mut World, client: &Client) {
    client.fail_next(io::ErrorKind::ConnectionReset);
    world.news(client, true, true);
}

const WAYS: [(&str, Way); 15] = [
    ("nothing at all", |world| drop(world.connect())),
    ("FIN before a request", |world| {
        let client = world.connect();
        fin(world, &client);
    }),
    ("half a request and RST", |world| {
        let client = world.connect();
        world.send(&client, &REQUEST[..50]);
        reset(world, &client);
    }),
    ("no request", |world| {
        let client = world.connect();
        world.send(&client, b"\0");
    }),
    ("a refused upgrade and FIN", |world| {
        let client = world.connect();
        world.send(&client, b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
        fin(world, &client);
    }),
    ("plain requests", |world| {
        let client = world.connect();
        world.send(&client, &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3));
        fin(world, &client);
    }),
    ("a closing handshake", |world| {
        let client = world.ready();
        world.send(&client, &frame(0x88, b"\x03\xe8"));
    }),
    ("a close from here that is answered", |world| {
        let client = told(world, b"close");
        world.send(&client, &frame(0x88, b"\x0f\xa0"));
    }),
    ("a close from here that is not", |world| {
        told(world, b"close");
    }),
    ("a cut", |world| {
        told(world, b"cut");
    }),
    ("a handler that fails", |world| {
        told(world, b"error");
    }),
    ("a breach", |world| {
        let client = world.ready();
        world.send(&client, &[0xff; 50]);
        fin(world, &client);
    }),
    ("FIN inside a message", |world| {
        let client = world.ready();
        world.send(&client, &frame(0x01, &[b'x'; 300]));
        fin(world, &client);
    }),
    ("RST inside a frame", |world| {
        let client = world.ready();
        world.send(&client, &frame(0x81, &[b'x'; 300])[..100]);
        reset(world, &client);
    }),
    ("RST with replies that wait", |world| {
        let client = world.ready();
        client.set_room(Some(1));
        world.send(&client, &frame(0x81, b"text").repeat(20));
        reset(world, &client);
    }),
];

/// How many connections come and go in each way.
const CYCLES: usize = 2_000;

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    for (way, come_and_go) in WAYS {
        let mut world = obedient();
        world.reactor.core.shared.wall_clock = || std::time::UNIX_EPOCH;
        let mut most = 0;
        for at in 0..CYCLES {
            come_and_go(&mut world);
            most = most.max(world.reactor.halves.len());
            if at % 10 == 0 {
                world.pass(100);
                world.take_log();
            }
        }
        // Connections are kept for at most 15 s, and ten come every 100 ms.
        assert!(most <= 1_550, "{way}: {most}");
        world.pass(60_000);
        assert!(world.is_empty(), "{way}");
        let reactor = &world.reactor;
        assert_eq!(reactor.core.shared.stats.accepted, CYCLES as u64);
        assert_eq!(reactor.next_deadline(), None, "{way}: no deadline is left");
        let rooms = [
            reactor.halves.capacity(),
            reactor.core.peers.capacity(),
            reactor.ready_queue.capacity(),
            reactor.serving.capacity(),
            reactor.settling.capacity(),
            reactor.gone.capacity(),
            reactor.core.shared.dirty.capacity(),
            reactor.expired.capacity(),
        ];
        // There is room for the connections that existed at once, not for all that ever existed.
        assert!(rooms.iter().all(|room| *room <= 2_048), "{way}: {rooms:?}");
    }
}
