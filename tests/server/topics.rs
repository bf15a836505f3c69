//! Topics over real sockets: what slow subscribers are sent, with and without compression, plain
//! and TLS; publishing from other threads; and the options of the sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use socket2::SockRef;
use wsloop::event::{Connect, Ready};
use wsloop::{Builder, Hub, OpCode, Outgoing, Prepared, SendError, SlowConsumer, Topic};

#[cfg(feature = "tls")]
use crate::support::tls::Identity;
use crate::support::{Client, PATIENCE, Running, log};

/// A topic that conflates, and one that keeps everything.
const LATEST: &str = "latest.fx";
const ALL: &str = "all";

/// Configures topics and small send buffers, so that a client soon becomes slow. Subscribes each
/// client to both topics.
fn with_topics(builder: Builder) -> Builder {
    builder
        .topics(
            "latest.",
            Topic::new().slow_consumer(SlowConsumer::Conflate),
        )
        .max_backlog(16 << 20)
        .on(Connect, |conn, ()| {
            if let Some(socket) = conn.socket() {
                let socket = SockRef::from(&socket);
                let done = socket.set_send_buffer_size(16 << 10);
                done.expect("a socket option");
            }
        })
        .on(Ready, |conn, ()| {
            conn.subscribe(ALL)?;
            conn.subscribe(LATEST).map(drop)
        })
}

/// Runs a closure in the server, and returns its result.
fn ask<T: Send + 'static>(
    server: &Running,
    action: impl FnOnce(&mut Hub<'_>) -> T + Send + 'static,
) -> T {
    let answer = server.handle.ask(action).expect("the server runs");
    answer.recv_timeout(PATIENCE).expect("the server runs it")
}

/// A step of the property: publish messages, or read some.
#[derive(Clone, Debug)]
enum Step {
    /// The keys and sizes of messages that are published in one turn. Every fourth message goes to
    /// the topic that does not conflate.
    Publish(Vec<(u8, usize)>),
    Read(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let message = (0u8..8, 20usize..3_000);
    let step = prop_oneof![
        3 => prop::collection::vec(message, 1..120).prop_map(Step::Publish),
        1 => (0usize..40).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 6..16)
}

/// Reads the next text message.
type Next<'c> = dyn FnMut() -> String + 'c;

/// Runs the steps with one subscriber; returns how many messages were conflated. What it receives
/// is exactly what the outcomes of the publishes say, in their places.
fn run(server: &Running, steps: Vec<Step>, next: &mut Next<'_>) -> usize {
    // The messages that the client must receive, as topic, key and number.
    let mut due: Vec<(bool, u8, u32)> = Vec::new();
    let (mut received, mut number, mut conflated) = (Vec::new(), 0, 0);
    for step in steps {
        match step {
            Step::Publish(messages) => {
                let first = number;
                number += messages.len() as u32;
                let sent = messages.clone();
                let outcomes = ask(server, move |hub| {
                    let publish = |((key, size), number): ((u8, usize), u32)| {
                        let keeps = number % 4 == 0;
                        let text = text_of(keeps, key, number, size);
                        let topic = if keeps { ALL } else { LATEST };
                        hub.publish(topic, Outgoing::text(&text).key(&[key]))
                    };
                    let outcomes = sent.into_iter().zip(first..).map(publish);
                    outcomes.collect::<Vec<_>>()
                });
                for (((key, _), number), outcome) in messages.into_iter().zip(first..).zip(outcomes)
                {
                    let outcome = outcome.expect("the sizes are allowed");
                    let keeps = number % 4 == 0;
                    match (outcome.receivers, outcome.queued, outcome.conflated) {
                        (1, 1, 0) => due.push((keeps, key, number)),
                        (1, 0, 1) => {
                            let is_it =
                                |each: &&mut (bool, u8, u32)| each.0 == keeps && each.1 == key;
                            let last = due.iter_mut().rev().find(is_it);
                            last.expect("there is one to be replaced").2 = number;
                            assert!(!keeps, "this topic keeps everything");
                            conflated += 1;
                        }
                        _ => panic!("nothing is dropped here: {outcome:?}"),
                    }
                }
            }
            Step::Read(count) => {
                for _ in 0..count.min(due.len() - received.len()) {
                    received.push(parsed(&next()));
                }
            }
        }
    }
    while received.len() < due.len() {
        received.push(parsed(&next()));
    }
    assert_eq!(received, due);
    conflated
}

/// Returns a text that compresses a little.
fn text_of(keeps: bool, key: u8, number: u32, size: usize) -> String {
    let mut seed = number;
    let mut text = format!("{keeps} {key} {number} ");
    while text.len() < size {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += &format!("{seed:08x}");
    }
    text
}

fn parsed(text: &str) -> (bool, u8, u32) {
    let words: Vec<&str> = text.split(' ').collect();
    let [keeps, key, number, filler] = words[..] else {
        panic!("{text:?}");
    };
    let mut parsed = (keeps == "true", 0, 0);
    (parsed.1, parsed.2) = (
        key.parse().expect("a key"),
        number.parse().expect("a number"),
    );
    let whole = text_of(parsed.0, parsed.1, parsed.2, text.len());
    assert_eq!(filler, &whole[text.len() - filler.len()..]);
    parsed
}

/// Returns a reader of the texts of a plain, not compressed connection.
fn texts<S: Read + Write>(client: &mut Client<S>) -> impl FnMut() -> String + '_ {
    || {
        let frame = client.read_frame();
        assert_eq!(frame.first, 0x81);
        String::from_utf8(frame.payload).expect("it is text")
    }
}

/// Checks the property on new connections of a server, which `connect` opens.
fn holds<C>(
    server: &Running,
    mut connect: impl FnMut() -> C,
    run_with: impl Fn(&mut C, &mut dyn FnMut(&mut Next<'_>)),
) {
    let config = ProptestConfig {
        cases: 12,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let conflated = std::cell::Cell::new(0);
    let connect = std::cell::RefCell::new(&mut connect);
    let result = TestRunner::new(config).run(&steps(), |steps| {
        let mut client = (connect.borrow_mut())();
        run_with(&mut client, &mut |next| {
            let count = run(server, steps.clone(), next);
            conflated.set(conflated.get() + count);
        });
        // The next case has the topics for itself.
        drop(client);
        while ask(server, |hub| hub.subscriptions()) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(conflated.get() > 100, "{} were replaced", conflated.get());
}

#[test]
fn a_slow_subscriber_gets_the_latest_of_each_key() {
    let server = Running::start(with_topics);
    holds(
        &server,
        || server.ready(),
        |client, run| run(&mut texts(client)),
    );
}

#[cfg(feature = "tls")]
#[test]
fn a_slow_subscriber_with_tls_gets_the_latest_of_each_key() {
    let identity = Identity::new();
    let config = identity.server.clone();
    let server = Running::start_on(|| {
        with_topics(wsloop::Server::builder().listen_tls("127.0.0.1:0", config))
    });
    holds(
        &server,
        || identity.ready(server.addr),
        |client, run| run(&mut texts(client)),
    );
}

#[cfg(feature = "deflate")]
mod compressed {
    use super::*;
    use crate::support::{Frame, request_with};
    use wsloop::DeflateConfig;
    use wsloop::event::Utf8;
    use wsloop::protocol::deflate::{Context, InflateLimits, Inflater};

    /// Performs the opening handshake with an offer of compression.
    fn agreed<S: Read + Write>(mut client: Client<S>) -> Client<S> {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let response = client.request(request_with(offer));
        assert_eq!(
            response.header("sec-websocket-extensions"),
            Some("permessage-deflate")
        );
        client
    }

    /// Returns a reader of compressed texts. The window of a `send` is that of earlier messages, so
    /// it would fail if a replaced message had changed the window.
    fn inflated<S: Read + Write>(client: &mut Client<S>) -> impl FnMut() -> String + '_ {
        let mut inflater = Inflater::new();
        move || {
            let Frame { first, payload } = client.read_frame();
            let limits = InflateLimits::new(1 << 20, usize::MAX);
            let mut room = Vec::new();
            let plain = match first {
                // Compression would not make it smaller.
                0x81 => payload,
                _ => {
                    assert_eq!(first, 0xc1);
                    let plain = inflater.message(&payload, Context::Keep, limits, &mut room);
                    plain.expect("it is in the window").to_vec()
                }
            };
            String::from_utf8(plain).expect("it is text")
        }
    }

    fn configs() -> [DeflateConfig; 2] {
        [
            DeflateConfig::shared().threshold(0),
            DeflateConfig::dedicated().threshold(0),
        ]
    }

    #[test]
    fn a_slow_subscriber_with_compression_gets_the_latest_of_each_key() {
        for config in configs() {
            let server = Running::start(|builder| with_topics(builder).deflate(config));
            holds(
                &server,
                || agreed(server.client()),
                |client, run| run(&mut inflated(client)),
            );
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_slow_subscriber_with_tls_and_compression_gets_the_latest_of_each_key() {
        let identity = Identity::new();
        for config in configs() {
            let tls = identity.server.clone();
            let server = Running::start_on(|| {
                let builder = wsloop::Server::builder().listen_tls("127.0.0.1:0", tls);
                with_topics(builder).deflate(config)
            });
            holds(
                &server,
                || agreed(identity.connect(server.addr)),
                |client, run| run(&mut inflated(client)),
            );
        }
    }

    #[test]
    fn messages_with_context_before_and_behind_a_replaced_one_can_be_read() {
        let server = Running::start(|builder| {
            let config = DeflateConfig::dedicated().threshold(0);
            with_topics(builder)
                .deflate(config)
                .on(Utf8, |conn, text| match text {
                    // Compressed with the window of the connection.
                    "send" => {
                        let text = "the same text again and again, ".repeat(40);
                        conn.send_utf8(&text).map(drop)
                    }
                    "conflate" => {
                        let mut conflated = 0;
                        for number in 0..1_000 {
                            let text = text_of(false, 1, number, 1_000);
                            let message = Outgoing::text(&text).key("k");
                            conflated += conn.server().publish(LATEST, message)?.conflated;
                        }
                        conn.send_utf8(&conflated.to_string()).map(drop)
                    }
                    _ => Ok(()),
                })
        });
        let mut client = agreed(server.client());
        for command in ["send", "conflate", "send"] {
            client.send_text(command);
        }
        let mut next = inflated(&mut client);
        let again = next();
        assert!(again.starts_with("the same text again"));
        let (mut last, mut count) = (None, 0);
        let conflated: usize = loop {
            let text = next();
            if let Ok(conflated) = text.parse() {
                break conflated;
            }
            last = Some(parsed(&text).2);
            count += 1;
        };
        assert_eq!(last, Some(999));
        assert_eq!(count + conflated, 1_000);
        assert!(conflated > 0);
        assert_eq!(next(), again);
    }
}

#[test]
fn other_threads_publish_in_order_and_an_end_is_an_error() {
    let server = Running::start(with_topics);
    let (mut one, mut other) = (server.ready(), server.ready());
    let handle = server.handle.clone();
    for number in 0..500 {
        let text = number.to_string();
        let sent = match number % 4 {
            0 => handle.publish(ALL, text.as_str()),
            1 => handle.publish(ALL, &Prepared::text(&text)),
            2 => handle.publish(ALL, Outgoing::parts(OpCode::Text, &[text.as_bytes(), b""])),
            _ => handle.broadcast_utf8(&text),
        };
        assert_eq!(sent, Ok(()));
    }
    for client in [&mut one, &mut other] {
        for number in 0..500 {
            client.expect_text(&number.to_string());
        }
    }
    assert_eq!(
        handle.publish(ALL, Outgoing::parts(OpCode::Text, &[b"\xff"])),
        Err(SendError::BadUtf8)
    );
    assert_eq!(
        handle.publish(ALL, Outgoing::parts(OpCode::Close, &[b""])),
        Err(SendError::BadFrame)
    );
    // Nobody hears this, which is no error.
    assert_eq!(handle.publish("nothing", "here"), Ok(()));
    let published = ask(&server, |hub| hub.publish(ALL, "asked"));
    let published = published.expect("it fits");
    assert_eq!((published.receivers, published.queued), (2, 2));
    one.expect_text("asked");
    let stats = server.stop();
    assert_eq!(stats.publish_receivers, 375 * 2 + 2);
    assert_eq!(stats.publish_queued, stats.publish_receivers);
    assert_eq!(handle.publish(ALL, "late"), Err(SendError::Gone));
}

#[test]
fn a_message_that_is_too_large_for_the_server_is_logged_where_no_one_can_be_told() {
    let server = Running::start(|builder| with_topics(builder).max_send_size(1_000));
    let mut client = server.ready();
    let large = "x".repeat(1_001);
    assert_eq!(server.handle.publish(ALL, &large), Ok(()));
    assert_eq!(server.handle.publish(ALL, "small"), Ok(()));
    client.expect_text("small");
}

/// Returns the options of the sockets of clients: unsent data, and the time for acknowledgements.
fn options(configure: impl FnOnce(Builder) -> Builder + Send + 'static, topic: &str) -> String {
    let (sender, log) = log();
    let topic = topic.to_owned();
    let server = Running::start(move |builder| {
        configure(builder)
            .topics("", Topic::new())
            .topics(
                "latest.",
                Topic::new().slow_consumer(SlowConsumer::Conflate),
            )
            .on(Ready, move |conn, ()| {
                conn.subscribe(&topic)?;
                let socket = conn.socket().expect("it is open");
                let socket = SockRef::from(&socket);
                let unsent = socket.tcp_notsent_lowat().expect("a socket option");
                let unsent = match unsent {
                    // The system's own setting, which limits nothing.
                    0 | u32::MAX => "any".to_owned(),
                    bytes => bytes.to_string(),
                };
                let timeout = socket.tcp_user_timeout().expect("a socket option");
                let _ = sender.send(format!("{unsent} {timeout:?}"));
                Ok::<_, SendError>(())
            })
    });
    let _client: Client<TcpStream> = server.ready();
    log.next()
}

#[test]
fn the_kernel_takes_little_for_subscribers_of_topics_that_conflate() {
    assert_eq!(options(|builder| builder, ALL), "any None");
    assert_eq!(options(|builder| builder, LATEST), "16384 None");
    let conflating = |builder: Builder| builder.slow_consumer(SlowConsumer::Conflate);
    assert_eq!(options(conflating, ALL), "16384 None");
    let lowat = |builder: Builder| builder.notsent_lowat(5_000);
    assert_eq!(options(lowat, ALL), "5000 None");
    assert_eq!(options(lowat, LATEST), "5000 None");
    let timeout = |builder: Builder| builder.tcp_user_timeout(Duration::from_secs(7));
    assert_eq!(options(timeout, ALL), "any Some(7s)");
}
