//! Servers that share topics through a real NATS server.

use std::ops::Deref;
use std::thread;
use std::time::{Duration, Instant};

use wsloop_backplane_testing::desk::{Desk, Guest, wait};
use wsloop_backplane_testing::nats::Nats as Engine;
use wsloop_nats::{Builder, Nats, Storage};

/// A server with its own connection to NATS, as in a process of its own.
struct Node {
    nats: Nats,
    desk: Desk,
}

impl Node {
    fn start(builder: Builder) -> Self {
        let nats = builder
            .probe_after(Duration::from_secs(1))
            .command_timeout(Duration::from_secs(3))
            .grace(Duration::from_millis(200))
            .start()
            .expect("the URL is right");
        let counters = nats.clone();
        let desk = Desk::start(nats.clone(), move || counters.stats());
        Self { nats, desk }
    }
}

impl Deref for Node {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

fn engine() -> Option<Engine> {
    Engine::start("").expect("it starts")
}

#[test]
fn other_programs_publish_text_and_binary() {
    let Some(engine) = engine() else { return };
    let node = Node::start(Nats::builder(&engine.url()));
    let mut client = node.subscriber("news");
    let publish = |subject: &str, payload: &[u8]| engine.publish(subject, payload);
    assert!(publish("wsloop.news", b"it rains").expect("it answers"));
    assert_eq!(client.read(), "it rains");
    publish("wsloop.news", b"\xfe\xff").expect("it answers");
    assert_eq!(client.read(), "b\"\\xfe\\xff\"");
    // The counters are published after the messages.
    wait(|| node.nats.stats().foreign == 2);
    // Through the stream it is kept as well.
    let mut client = node.subscriber("h1");
    publish("wsloop-history.h1", b"kept").expect("it answers");
    assert_eq!(client.read(), "kept");
    publish("wsloop.h1", b"not kept").expect("it answers");
    assert_eq!(client.read(), "not kept");
    let mut late = node.client();
    assert_eq!(late.ask("recent h1 10"), "kept");
    assert_eq!(late.read(), "h1 Recovered(1)");
}

#[test]
fn topics_may_have_any_name() {
    let Some(engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&engine.url())));
    let mut publisher = b.client();
    let names = [
        "a_b",
        ".",
        "..x.",
        "*",
        ">",
        "a.*",
        "%",
        "%2E",
        "gr\u{fc}n",
        "$JS.API",
        "h_.>",
    ];
    let mut clients: Vec<Guest> = names.iter().map(|name| a.subscriber(name)).collect();
    for name in names {
        publisher.send(&format!("pub {name} to {name}"));
    }
    for (name, client) in names.iter().zip(&mut clients) {
        assert_eq!(client.read(), format!("to {name}"));
    }
    // One that does not fit into a subject reaches its own process.
    let long = "*".repeat(1500);
    let mut here = a.client();
    assert_eq!(here.ask(&format!("sub {long}")), "subscribed");
    a.client().send(&format!("pub {long} here"));
    assert_eq!(here.read(), "here");
    wait(|| a.nats.stats().dropped == 1 && a.nats.stats().waiting_bytes == 0);
}

#[test]
fn topics_are_subscribed_while_they_have_subscribers() {
    let Some(engine) = engine() else { return };
    let node = Node::start(Nats::builder(&engine.url()).prefix("app.").history(false));
    let is_heard = || engine.publish("app.a", b"-").expect("it answers");
    assert!(!is_heard());
    let mut first = node.subscriber("a");
    let mut second = node.client();
    second.ask("sub a");
    assert!(is_heard());
    assert_eq!((first.read(), second.read()), ("-".into(), "-".into()));
    first.ask("leave a");
    drop(second);
    wait(|| !is_heard());
    wait(|| node.nats.stats().topics == 0);
    // It can be subscribed again.
    let _again = node.subscriber("a");
    assert!(is_heard());
}

fn position(node: &Node) -> String {
    node.client().ask("position h1")
}

/// Publishes a message, and waits until a node has its position.
fn publish_and_reach(from: &Node, at: &Node, text: &str) -> String {
    let before = position(at);
    from.client().send(&format!("pub h1 {text}"));
    wait(|| position(at) != before);
    position(at)
}

#[test]
fn a_client_is_recovered_by_another_process() {
    let Some(engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&engine.url())));
    let mut hearer = a.subscriber("h1");
    let beginning = position(&a);
    assert!(beginning.ends_with("-0"), "{beginning}");
    let mut publishers = [a.client(), b.client()];
    let first = publish_and_reach(&b, &a, "first");
    assert_eq!(hearer.read(), "first");
    assert!(first.ends_with("-1"), "{first}");
    // Both processes publish at once, to another topic of the stream as well.
    thread::scope(|scope| {
        for (number, publisher) in publishers.iter_mut().enumerate() {
            scope.spawn(move || {
                for count in 0..20 {
                    publisher.send(&format!("pub h1 {number}.{count}"));
                    publisher.send(&format!("pub h2 {count}"));
                }
            });
        }
    });
    let mut heard: Vec<String> = (0..40).map(|_| hearer.read()).collect();
    heard.sort();
    a.settle();
    b.settle();
    for node in [&a, &b] {
        let mut late = node.client();
        late.send(&format!("from h1 {first}"));
        let mut recovered: Vec<String> = (0..40).map(|_| late.read()).collect();
        assert_eq!(late.read(), "h1 Recovered(40)");
        for number in ["0.", "1."] {
            let own = recovered.iter().filter(|text| text.starts_with(number));
            let expected: Vec<String> = (0..20).map(|count| format!("{number}{count}")).collect();
            assert!(own.eq(&expected), "{recovered:?}");
        }
        recovered.sort();
        assert_eq!(recovered, heard);
        // A position from before the first message is known, too.
        let mut late = node.client();
        assert_eq!(late.ask(&format!("from h1 {beginning}")), "first");
        let mut recent = node.client();
        recent.send("recent h1 2");
        let (one, two) = (recent.read(), recent.read());
        assert_eq!(recent.read(), "h1 Recovered(2)", "{one} {two}");
    }
    // A later message comes once.
    let mut late = b.client();
    late.send(&format!("from h1 {}", position(&a)));
    assert_eq!(late.read(), "h1 Recovered(0)");
    publishers[0].send("pub h1 later");
    assert_eq!(late.read(), "later");
    assert_eq!(hearer.read(), "later");
    // A position of another epoch, and one that is too far ahead.
    let ahead = first.replace("-1", "-999");
    for wrong in ["1-1", &ahead] {
        let mut client = b.client();
        assert_eq!(client.ask(&format!("from h1 {wrong}")), "h1 Gap");
    }
    // The topic keeps 100 messages.
    for count in 0..100 {
        publishers[1].send(&format!("pub h1 {count}"));
    }
    b.settle();
    let mut client = b.client();
    assert_eq!(client.ask(&format!("from h1 {first}")), "h1 Gap");
    let mut recent = b.client();
    assert_eq!(recent.ask("recent h1 1000"), "0");
}

#[test]
fn messages_that_the_stream_has_removed_are_a_gap() {
    let Some(engine) = engine() else { return };
    let builder = || {
        let builder = Nats::builder(&engine.url());
        builder.history_limits(5, Duration::from_secs(2), 1 << 20)
    };
    let [a, b] = [(), ()].map(|()| Node::start(builder()));
    let mut hearer = a.subscriber("h1");
    let beginning = position(&a);
    let first = publish_and_reach(&b, &a, "1");
    for count in 2..=6 {
        publish_and_reach(&b, &a, &count.to_string());
        assert_eq!(hearer.read(), (count - 1).to_string());
    }
    for from in [&beginning, &first] {
        let mut late = b.client();
        assert_eq!(late.ask(&format!("from h1 {from}")), "h1 Gap");
    }
    let last = position(&a);
    // When all are too old, nothing is missing behind the last one.
    thread::sleep(Duration::from_millis(3500));
    let mut late = b.client();
    assert_eq!(late.ask(&format!("from h1 {last}")), "h1 Recovered(0)");
    let mut late = b.client();
    assert_eq!(late.ask(&format!("from h1 {first}")), "h1 Gap");
}

#[test]
fn no_client_recovers_across_dropped_messages() {
    let Some(mut engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&engine.url()).max_waiting(2000)));
    let mut hearer = b.subscriber("h1");
    let before = publish_and_reach(&a, &b, "first");
    assert_eq!(hearer.read(), "first");
    wsloop_backplane_testing::Engine::kill(&mut engine).expect("it runs");
    wait(|| !a.nats.stats().is_connected && !b.nats.stats().is_connected);
    let mut away = b.client();
    let asked = Instant::now();
    assert_eq!(
        away.ask(&format!("from h1 {before}")),
        "h1 Gap",
        "nobody can know"
    );
    assert!(asked.elapsed() < Duration::from_secs(1));
    let mut publisher = a.client();
    for count in 0..100 {
        publisher.send(&format!("pub h1 {count} {}", "x".repeat(50)));
    }
    wait(|| a.nats.stats().dropped > 0);
    wsloop_backplane_testing::Engine::start(&mut engine).expect("it starts");
    loop {
        if hearer.read().starts_with("gap") {
            break;
        }
    }
    a.settle();
    publisher.send("pub h1 end");
    while hearer.read() != "end" {}
    let mut late = b.client();
    assert_eq!(late.ask(&format!("from h1 {before}")), "h1 Gap");
    publisher.send("pub h1 more");
    assert_eq!(hearer.read(), "more");
    // The node knows the position of the last message soon after the message.
    wait(|| {
        let mut known = a.client();
        known.ask(&format!("from h1 {}", position(&b))) == "h1 Recovered(0)"
    });
}

#[test]
fn histories_in_files_survive_a_restart_and_those_in_memory_begin_anew() {
    for storage in [Storage::File, Storage::Memory] {
        let Some(mut engine) = engine() else { return };
        let builder = || Nats::builder(&engine.url()).history_storage(storage);
        let [a, b] = [(), ()].map(|()| Node::start(builder()));
        let _hearer = a.subscriber("h1");
        let first = publish_and_reach(&b, &a, "first");
        publish_and_reach(&b, &a, "second");
        wsloop_backplane_testing::Engine::kill(&mut engine).expect("it runs");
        b.client().send("pub h1 while it was away");
        wsloop_backplane_testing::Engine::start(&mut engine).expect("it starts");
        wait(|| a.nats.stats().connects == 2 && b.nats.stats().connects == 2);
        b.settle();
        // Its number must not be mistaken for an old one.
        publish_and_reach(&b, &a, "last");
        let mut late = a.client();
        let answer = late.ask(&format!("from h1 {first}"));
        if storage == Storage::Memory {
            assert_eq!(answer, "h1 Gap");
            continue;
        }
        assert_eq!(answer, "second");
        assert_eq!(late.read(), "while it was away");
        assert_eq!(late.read(), "last");
        assert_eq!(late.read(), "h1 Recovered(3)");
    }
}

#[test]
fn a_stream_that_is_deleted_begins_a_new_epoch() {
    let Some(engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&engine.url())));
    let mut hearer = a.subscriber("h1");
    let first = publish_and_reach(&b, &a, "first");
    assert_eq!(hearer.read(), "first");
    let deleted = engine.ask("$JS.API.STREAM.DELETE.WSLOOP_HISTORY", "");
    assert!(deleted.expect("it answers").contains("true"));
    b.client().send("pub h1 second");
    wait(|| b.nats.stats().connects == 2);
    b.settle();
    let mut late = b.client();
    assert_eq!(late.ask(&format!("from h1 {first}")), "h1 Gap");
    // The other node notices it at the latest when a topic is subscribed or read.
    let mut late = a.client();
    assert_eq!(late.ask(&format!("from h1 {first}")), "h1 Gap");
}

#[test]
fn a_user_needs_few_rights() {
    let rights = r#"authorization { users = [ {
        user: ws, password: "s@cret",
        permissions: {
            publish: ["wsloop.>", "wsloop-history.>", "$JS.API.STREAM.*.WSLOOP_HISTORY",
                "$JS.API.CONSUMER.*.WSLOOP_HISTORY", "$JS.API.CONSUMER.*.WSLOOP_HISTORY.>"],
            subscribe: ["wsloop.>"]
        }
    } ] }"#;
    let Some(engine) = Engine::start(rights).expect("it starts") else {
        return;
    };
    let url = engine.url().replace("nats://", "nats://ws:s%40cret@");
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&url)));
    let mut clients = Vec::new();
    for topic in ["news", "h1"] {
        let mut client = a.subscriber(topic);
        b.client().send(&format!("pub {topic} hello"));
        assert_eq!(client.read(), "hello");
        clients.push(client);
    }
    b.settle();
    let mut late = b.client();
    assert_eq!(late.ask("recent h1 1"), "hello");
    let _other = Node::start(Nats::builder(&engine.url()).user("ws", "s@cret"));
    let wrong = Nats::builder(&engine.url()).user("ws", "wrong").start();
    let wrong = wrong.expect("it is no error");
    thread::sleep(Duration::from_millis(500));
    assert!(!wrong.stats().is_connected);
}

#[test]
fn without_jetstream_there_are_no_histories() {
    let Some(engine) = Engine::start("jetstream: disabled").expect("it starts") else {
        return;
    };
    let with = Nats::new(&engine.url()).expect("the URL is right");
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&engine.url()).history(false)));
    let mut client = a.subscriber("h1");
    b.client().send("pub h1 hello");
    assert_eq!(client.read(), "hello");
    assert!(!with.stats().is_connected);
}

#[test]
fn a_message_that_is_too_large_for_the_server_is_told() {
    let Some(engine) = Engine::start("max_payload: 4KB").expect("it starts") else {
        return;
    };
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&engine.url())));
    let mut clients = Vec::new();
    for topic in ["news", "h1"] {
        let mut client = a.subscriber(topic);
        let mut publisher = b.client();
        publisher.send(&format!("pub {topic} before"));
        publisher.send(&format!("pub {topic} {}", "x".repeat(8000)));
        publisher.send(&format!("pub {topic} behind"));
        assert_eq!(client.read(), "before");
        let mut told = [client.read(), client.read()];
        told.sort();
        assert_eq!(told, ["behind", "gap Some(1)"]);
        clients.push(client);
    }
    wait(|| b.nats.stats().dropped == 2);
}

#[test]
fn messages_that_the_client_library_drops_are_told() {
    let Some(engine) = engine() else { return };
    let a = Node::start(Nats::builder(&engine.url()).subscription_capacity(8));
    let b = Node::start(Nats::builder(&engine.url()));
    let mut client = a.subscriber("news");
    let mut publisher = b.client();
    // Much comes at once, so that the library reads more than it keeps.
    for count in 0..20_000 {
        publisher.send(&format!("pub news {count}"));
    }
    let (mut delivered, mut told) = (0, false);
    while !told {
        match client.read().strip_prefix("gap ") {
            Some(_) => told = true,
            None => delivered += 1,
        }
    }
    assert!(delivered < 20_000);
}

#[test]
fn closing_sends_what_waits_and_ends_the_thread() {
    let Some(engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Nats::builder(&engine.url())));
    let mut client = b.subscriber("t");
    a.client().send("pub t last");
    assert_eq!(client.read(), "last");
    assert!(a.nats.close(Duration::from_secs(10)));
    assert!(!a.nats.stats().is_connected);
    assert!(a.nats.close(Duration::ZERO), "it has ended");
    // An engine that is away does not delay the end beyond the time.
    let away = Nats::new("nats://127.0.0.1:1").expect("it need not be there");
    assert!(away.close(Duration::from_secs(1)));
}

#[cfg(feature = "tls")]
#[test]
fn connections_can_be_encrypted() -> Result<(), Box<dyn std::error::Error>> {
    use wsloop_backplane_testing::processes::Scratch;

    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let scratch = Scratch::new()?;
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| scratch.path().join(name));
    std::fs::write(&certificate, certified.cert.pem())?;
    std::fs::write(&key, certified.signing_key.serialize_pem())?;
    let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let Some(engine) = Engine::start(&tls)? else {
        return Ok(());
    };
    let url = engine.url().replace("127.0.0.1", "localhost");
    let builder = || Nats::builder(&url).root_certificates(&certificate);
    let [a, b] = [(), ()].map(|()| Node::start(builder()));
    let mut client = a.subscriber("news");
    b.client().send("pub news hello");
    assert_eq!(client.read(), "hello");
    Ok(())
}
