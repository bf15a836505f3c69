//! Exactly one `Disconnect` follows each `Connect`, however the connection ends.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use crate::support::{Client, REQUEST, Running, frame, log};
use wsloop::event::{Connect, Disconnect, Error, Handshake, Ready, Utf8};
use wsloop::{Builder, SendError, Sent, SlowConsumer};

/// Configures a server whose connections execute orders, and log their start and end.
fn obedient(builder: Builder, log: std::sync::mpsc::Sender<String>) -> Builder {
    let (begin, errors, end) = (log.clone(), log.clone(), log);
    builder
        .on(Connect, move |conn, ()| {
            begin
                .send(format!("connect {}", conn.id()))
                .unwrap_or_default();
        })
        .on(Handshake, |_, upgrade| {
            let query = upgrade.request().query().unwrap_or_default();
            match query {
                "refuse" => Ok(false),
                "error" => Err("told to"),
                _ => Ok(true),
            }
        })
        .on(Ready, |conn, ()| {
            let query = conn.request().and_then(|request| request.query());
            if query == Some("close") {
                conn.disconnect(4000, "told to")?;
            }
            Ok::<_, SendError>(())
        })
        .on(Utf8, |conn, text| match text {
            "close" => conn
                .disconnect(4000, "told to")
                .map_err(|error| error.to_string()),
            "close twice" => {
                let _ = conn.disconnect(4000, "told to");
                conn.disconnect(4001, "").map_err(|error| error.to_string())
            }
            "cut" => {
                conn.abort();
                Ok(Sent::NOTHING)
            }
            "close and cut" => {
                let _ = conn.disconnect(4000, "told to");
                conn.abort();
                Ok(Sent::NOTHING)
            }
            "error" => Err("told to".into()),
            "close and error" => {
                let _ = conn.disconnect(4000, "told to");
                Err("told to".into())
            }
            "panic" => panic!("told to"),
            "fill" => {
                let mut sent = Ok(Sent::NOTHING);
                while sent.is_ok() {
                    sent = conn.send_binary(&[0; 65_536]);
                }
                Ok(Sent::NOTHING)
            }
            text => conn.send_utf8(text).map_err(|error| error.to_string()),
        })
        .on(Error, move |conn, fault| {
            errors
                .send(format!("error {} {fault}", conn.id()))
                .unwrap_or_default();
        })
        .on(Disconnect, move |conn, why| {
            end.send(format!("disconnect {} {why}", conn.id()))
                .unwrap_or_default();
        })
        .slow_consumer(SlowConsumer::Close)
        .handshake_timeout(Duration::from_millis(150))
        .silence_max(Duration::from_millis(400))
        .close_timeout(Duration::from_millis(150))
}

fn told(server: &Running, text: &str) -> Client {
    let mut client = server.ready();
    client.send_text(text);
    client
}

fn asked(server: &Running, query: &str) -> Client {
    let mut client = server.client();
    client.send_raw(REQUEST.replace("room=7", query));
    client
}

/// A way in which a connection ends. Returns the client if it stays until the server ends the
/// connection.
type Way = fn(&Running) -> Option<Client>;

const WAYS: [(&str, Way); 31] = [
    ("nothing but a connection", |server| Some(server.client())),
    ("a connection that goes", |server| {
        server.client();
        None
    }),
    ("a reset before the request", |server| {
        server.client().reset();
        None
    }),
    ("half a request", |server| {
        let mut client = server.client();
        client.send_raw(&REQUEST[..50]);
        Some(client)
    }),
    ("half a request and FIN", |server| {
        let mut client = server.client();
        client.send_raw(&REQUEST[..50]);
        client.shutdown_write();
        Some(client)
    }),
    ("half a request and RST", |server| {
        let mut client = server.client();
        client.send_raw(&REQUEST[..50]);
        client.reset();
        None
    }),
    ("no request at all", |server| {
        let mut client = server.client();
        client.send_raw("nonsense\r\n\r\n");
        Some(client)
    }),
    ("no upgrade", |server| {
        let mut client = server.client();
        client.send_raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Some(client)
    }),
    ("a refused request", |server| Some(asked(server, "refuse"))),
    ("a request whose handler fails", |server| {
        Some(asked(server, "error"))
    }),
    ("a request and RST", |server| {
        asked(server, "").reset();
        None
    }),
    ("closed in ready, no answer", |server| {
        Some(asked(server, "close"))
    }),
    ("a close", |server| {
        let mut client = server.ready();
        client.send_close(1000, "");
        Some(client)
    }),
    ("two closes and FIN", |server| {
        let mut client = server.ready();
        client.send_raw(frame(0x88, b"").repeat(2));
        client.shutdown_write();
        Some(client)
    }),
    ("a close and RST", |server| {
        let mut client = server.ready();
        client.send_close(1000, "");
        client.reset();
        None
    }),
    ("FIN", |server| {
        let client = server.ready();
        client.shutdown_write();
        Some(client)
    }),
    ("RST", |server| {
        server.ready().reset();
        None
    }),
    ("a client that goes inside a message", |server| {
        server.ready().send_frame(0x01, "half");
        None
    }),
    ("a client that goes inside a frame and resets", |server| {
        let mut client = server.ready();
        client.send_raw(&frame(0x81, b"half")[..7]);
        client.reset();
        None
    }),
    ("a breach of the protocol", |server| {
        let mut client = server.ready();
        client.send_raw([0xff; 1000]);
        Some(client)
    }),
    ("a breach and FIN", |server| {
        let mut client = server.ready();
        client.send_raw([0xff; 1000]);
        client.shutdown_write();
        Some(client)
    }),
    ("a breach and RST", |server| {
        let mut client = server.ready();
        client.send_raw([0xff; 1000]);
        client.reset();
        None
    }),
    ("closed here, no answer", |server| {
        Some(told(server, "close"))
    }),
    ("closed here twice, answered by a breach", |server| {
        let mut client = told(server, "close twice");
        client.send_raw([0xff; 10]);
        Some(client)
    }),
    ("closed here, answered", |server| {
        let mut client = told(server, "close");
        client.send_close(4000, "");
        Some(client)
    }),
    ("cut", |server| Some(told(server, "cut"))),
    ("closed and cut", |server| {
        Some(told(server, "close and cut"))
    }),
    ("a handler that fails", |server| Some(told(server, "error"))),
    ("a handler that closes and fails", |server| {
        Some(told(server, "close and error"))
    }),
    ("a handler that panics", |server| {
        Some(told(server, "panic"))
    }),
    ("a client that does not read", |server| {
        Some(told(server, "fill"))
    }),
];

#[test]
fn on_every_path() {
    let (sender, log) = log();
    let server = Running::start(move |builder| obedient(builder, sender));
    let mut stay = Vec::new();
    for _ in 0..3 {
        for (_, way) in WAYS {
            stay.extend(way(&server));
        }
        // A client that sends nothing, until the server ends.
        stay.push(server.ready());
    }
    let accepted = 3 * (WAYS.len() as u64 + 1);
    // Each connection ends without further action. Clients whose data would fill the sockets are
    // not read to the end.
    for mut client in stay {
        let mut bytes = [0; 4096];
        while client.stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
    }
    let late = server.ready();
    assert_eq!(server.stop().accepted, accepted + 1);
    drop(late);
    check(&log.rest(), accepted + 1);
}

#[test]
fn also_when_the_server_goes_down_or_is_dropped() {
    for dropped in [false, true] {
        let (sender, log) = log();
        let make = move |builder: Builder| {
            obedient(builder, sender)
                .handshake_timeout(Duration::from_secs(60))
                .silence_max(Duration::from_secs(60))
        };
        let mut stay = Vec::new();
        if dropped {
            let mut server = make(wsloop::Server::builder().listen("127.0.0.1:0"))
                .build()
                .expect("it can be built");
            let addr = server.local_addr().expect("it listens");
            let texts = ["", "close", "error", "stays"];
            for text in texts {
                let mut client = Client::connect(addr);
                if !text.is_empty() {
                    client.send_raw([REQUEST.as_bytes(), &frame(0x81, text.as_bytes())].concat());
                }
                stay.push(client);
            }
            while server.stats().accepted < texts.len() as u64 {
                server.turn(Some(Duration::from_secs(1))).expect("it runs");
            }
            drop(server);
            check(&log.rest(), texts.len() as u64);
        } else {
            let server = Running::start(make);
            let mut count = 0;
            for (_, way) in WAYS {
                stay.extend(way(&server));
                count += 1;
            }
            // The last client was accepted, so all of them were.
            stay.push(server.ready());
            count += 1;
            server.stop();
            check(&log.rest(), count);
        }
        drop(stay);
    }
}

/// Checks that each connection has a start, then any number of errors, and then an end.
#[track_caller]
fn check(log: &[String], connections: u64) {
    let mut lives: HashMap<&str, Vec<&str>> = HashMap::new();
    for entry in log {
        let (what, rest) = entry.split_once(' ').expect("a word and a number");
        let (id, _) = rest.split_once(' ').unwrap_or((rest, ""));
        lives.entry(id).or_default().push(what);
    }
    assert_eq!(lives.len() as u64, connections, "{log:#?}");
    for (id, life) in &lives {
        let told: Vec<&String> = log
            .iter()
            .filter(|entry| entry.split(' ').nth(1) == Some(id))
            .collect();
        assert_eq!(life.first(), Some(&"connect"), "{told:?}");
        assert_eq!(life.last(), Some(&"disconnect"), "{told:?}");
        let inside = &life[1..life.len() - 1];
        assert!(inside.iter().all(|what| *what == "error"), "{told:?}");
        assert!(inside.len() <= 1, "one error at most: {told:?}");
    }
}
