//! Servers that share topics through a real Redis.

use std::io;
use std::ops::Deref;
use std::thread;
use std::time::Duration;

use wsloop_backplane_testing::desk::{Desk, wait};
use wsloop_backplane_testing::redis::{Redis as Engine, ask};
use wsloop_redis::{Builder, Redis};

/// A server with its own connection to Redis, as in a process of its own.
struct Node {
    redis: Redis,
    desk: Desk,
}

impl Node {
    fn start(builder: Builder) -> Self {
        let redis = builder
            .probe_after(Duration::from_secs(1))
            .command_timeout(Duration::from_secs(3))
            .grace(Duration::from_millis(200))
            .start()
            .expect("the URL is right");
        let counters = redis.clone();
        let desk = Desk::start(redis.clone(), move || counters.stats());
        Self { redis, desk }
    }
}

impl Deref for Node {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

fn engine() -> Option<Engine> {
    Engine::start(&[]).expect("it starts")
}

#[test]
fn other_programs_publish_text_and_binary() {
    let Some(engine) = engine() else { return };
    let node = Node::start(Redis::builder(&engine.url()));
    let mut client = node.subscriber("news");
    let answer = engine.ask(&["PUBLISH", "wsloop:news", "it rains"]);
    assert_eq!(answer.expect("it answers"), ":1\r\n");
    assert_eq!(client.read(), "it rains");
    let script = "return redis.call('PUBLISH', 'wsloop:news', '\\254\\255')";
    engine.ask(&["EVAL", script, "0"]).expect("it answers");
    assert_eq!(client.read(), "b\"\\xfe\\xff\"");
    // The counters are published after the messages.
    wait(|| node.redis.stats().foreign == 2);
}

#[test]
fn channels_are_subscribed_while_they_have_subscribers() {
    let Some(engine) = engine() else { return };
    let node = Node::start(Redis::builder(&engine.url()).prefix("app."));
    let count = || {
        let answer = engine
            .ask(&["PUBSUB", "NUMSUB", "app.a"])
            .expect("it answers");
        answer.ends_with(":1\r\n")
    };
    assert!(!count());
    let mut first = node.subscriber("a");
    let mut second = node.client();
    second.ask("sub a");
    assert!(count());
    first.ask("leave a");
    drop(second);
    wait(|| !count());
    wait(|| node.redis.stats().topics == 0);
    // It can be subscribed again.
    let _again = node.subscriber("a");
    assert!(count());
}

#[test]
fn a_client_is_recovered_by_another_process() {
    let Some(engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Redis::builder(&engine.url())));
    let mut hearer = a.subscriber("h1");
    let mut publishers = [a.client(), b.client()];
    publishers[0].send("pub h1 first");
    assert_eq!(hearer.read(), "first");
    wait(|| hearer_position(&a) != "-");
    let position = hearer_position(&a);
    assert!(position.ends_with("-1"), "{position}");
    // Both processes publish at once.
    thread::scope(|scope| {
        for (number, publisher) in publishers.iter_mut().enumerate() {
            scope.spawn(move || {
                for count in 0..20 {
                    publisher.send(&format!("pub h1 {number}.{count}"));
                }
            });
        }
    });
    let mut heard: Vec<String> = (0..40).map(|_| hearer.read()).collect();
    a.settle();
    b.settle();
    for node in [&a, &b] {
        let mut late = node.client();
        late.send(&format!("from h1 {position}"));
        let recovered: Vec<String> = (0..40).map(|_| late.read()).collect();
        assert_eq!(late.read(), "h1 Recovered(40)");
        for number in ["0.", "1."] {
            let own = recovered.iter().filter(|text| text.starts_with(number));
            let expected: Vec<String> = (0..20).map(|count| format!("{number}{count}")).collect();
            assert!(own.eq(&expected), "{recovered:?}");
        }
        let mut sorted = recovered;
        sorted.sort();
        heard.sort();
        assert_eq!(sorted, heard);
        // A later message comes once.
        publishers[1].send("pub h1 later");
        assert_eq!(late.read(), "later");
        assert_eq!(hearer.read(), "later");
        heard.push("later".into());
        heard.retain(|text| text != "later");
        // The next round begins before this message again.
        let trimmed = engine.ask(&["EVAL", REMOVE_LAST, "0"]).expect("it answers");
        assert!(trimmed.starts_with(":1"), "{trimmed}");
        let mut recent = node.client();
        recent.send("recent h1 2");
        let (one, two) = (recent.read(), recent.read());
        assert_eq!(recent.read(), "h1 Recovered(2)", "{one} {two}");
    }
    // A position of another epoch, and one that is too far ahead.
    for wrong in ["1-1", &position.replace("-1", "-99")] {
        let mut client = b.client();
        assert_eq!(client.ask(&format!("from h1 {wrong}")), "h1 Gap");
    }
}

/// Takes the last message of `h1` out of its history.
const REMOVE_LAST: &str = "local s, m = 'wsloop:history:{wsloop:h1}:state', \
    'wsloop:history:{wsloop:h1}:messages' \
    redis.call('HINCRBY', s, 'offset', -1) \
    return redis.call('XDEL', m, redis.call('XREVRANGE', m, '+', '-', 'COUNT', 1)[1][1])";

fn hearer_position(node: &Node) -> String {
    node.client().ask("position h1")
}

#[test]
fn no_client_recovers_across_dropped_messages_or_another_run_of_the_server() {
    let Some(mut engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Redis::builder(&engine.url()).max_waiting(2000)));
    let mut hearer = b.subscriber("h1");
    let mut publisher = a.client();
    publisher.send("pub h1 first");
    assert_eq!(hearer.read(), "first");
    let position = hearer_position(&b);
    assert_ne!(position, "-");
    wsloop_backplane_testing::Engine::kill(&mut engine).expect("it runs");
    wait(|| !a.redis.stats().is_connected && !b.redis.stats().is_connected);
    let mut away = b.client();
    assert_eq!(
        away.ask(&format!("from h1 {position}")),
        "h1 Gap",
        "nobody can know"
    );
    for count in 0..100 {
        publisher.send(&format!("pub h1 {count} {}", "x".repeat(50)));
    }
    wait(|| a.redis.stats().dropped > 0);
    wsloop_backplane_testing::Engine::start(&mut engine).expect("it starts");
    assert_eq!(hearer.read(), "gap None");
    a.settle();
    publisher.send("pub h1 end");
    loop {
        let text = hearer.read();
        assert!(!text.starts_with("0 "), "it was dropped");
        if text == "end" {
            break;
        }
    }
    let mut late = b.client();
    assert_eq!(late.ask(&format!("from h1 {position}")), "h1 Gap");
    let position = hearer_position(&b);
    let mut known = a.client();
    assert_eq!(known.ask(&format!("from h1 {position}")), "h1 Recovered(0)");
    // A node that drops messages while others work changes the epoch.
    let jump = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1";
    let fields = ask_keys(&engine);
    let node = fields
        .iter()
        .find(|field| field.starts_with('n'))
        .expect("it published");
    let state = "wsloop:history:{wsloop:h1}:state";
    engine
        .ask(&["EVAL", jump, "1", state, node, "1 50 0"])
        .expect("it answers");
    publisher.send("pub h1 after the jump");
    assert_eq!(hearer.read(), "after the jump");
    let mut late = b.client();
    assert_eq!(late.ask(&format!("from h1 {position}")), "h1 Gap");
}

/// Returns the fields of the state of `h1`.
fn ask_keys(engine: &Engine) -> Vec<String> {
    let answer = engine.ask(&["HKEYS", "wsloop:history:{wsloop:h1}:state"]);
    let answer = answer.expect("it answers");
    answer.lines().map(str::to_owned).collect()
}

#[test]
fn a_user_needs_few_rights() -> io::Result<()> {
    let Some(engine) = engine() else {
        return Ok(());
    };
    let rights = "ACL SETUSER ws on >secret resetchannels &wsloop:* ~wsloop:* -@all +@connection \
                  +publish +subscribe +unsubscribe +evalsha +script|load +info +hmget +hset \
                  +hlen +hgetall +hdel +xadd +xtrim +xrevrange +del +pexpire +time";
    let rights: Vec<&str> = rights.split_whitespace().collect();
    assert_eq!(engine.ask(&rights).expect("it answers"), "+OK\r\n");
    let url = engine.url().replace("redis://", "redis://ws:secret@");
    let [a, b] = [(), ()].map(|()| Node::start(Redis::builder(&url)));
    let mut clients = Vec::new();
    for topic in ["news", "h1"] {
        let mut client = a.subscriber(topic);
        b.client().send(&format!("pub {topic} hello"));
        assert_eq!(client.read(), "hello");
        clients.push(client);
    }
    // A channel that is not permitted does not harm the others.
    assert_eq!(
        engine.ask(&["ACL", "SETUSER", "ws", "resetchannels", "&wsloop:n*"])?,
        "+OK\r\n"
    );
    let c = Node::start(Redis::builder(&url));
    let mut deaf = c.client();
    deaf.ask("sub other");
    let mut client = c.subscriber("news2");
    engine.ask(&["PUBLISH", "wsloop:news2", "hello"])?;
    assert_eq!(client.read(), "hello");
    assert!(matches!(
        Redis::new("nonsense"),
        Err(wsloop_redis::Error::Url(_))
    ));
    Ok(())
}

#[test]
fn closing_sends_what_waits_and_ends_the_thread() {
    let Some(engine) = engine() else { return };
    let [a, b] = [(), ()].map(|()| Node::start(Redis::builder(&engine.url())));
    let mut client = b.subscriber("t");
    a.client().send("pub t last");
    assert_eq!(client.read(), "last");
    assert!(a.redis.close(Duration::from_secs(10)));
    assert!(!a.redis.stats().is_connected);
    assert!(a.redis.close(Duration::ZERO), "it has ended");
    // An engine that is away does not delay the end beyond the time.
    let away = Redis::new("redis://127.0.0.1:1").expect("it need not be there");
    assert!(away.close(Duration::from_secs(1)));
}

#[test]
fn a_cluster_shards_the_topics() -> io::Result<()> {
    let mut engines = Vec::new();
    for _ in 0..3 {
        let Some(engine) = Engine::start(&["--cluster-enabled", "yes"])? else {
            return Ok(());
        };
        engines.push(engine);
    }
    let ports: Vec<u16> = engines
        .iter()
        .filter_map(|engine| engine.url().rsplit(':').next()?.parse().ok())
        .collect();
    let slots = ["0 5460", "5461 10922", "10923 16383"];
    for (port, slots) in ports.iter().zip(slots) {
        let (from, to) = slots.split_once(' ').expect("two numbers");
        ask(*port, &["CLUSTER", "ADDSLOTSRANGE", from, to])?;
        ask(
            ports[0],
            &["CLUSTER", "MEET", "127.0.0.1", &port.to_string()],
        )?;
    }
    let is_up = |port: &u16| {
        let info = ask(*port, &["CLUSTER", "INFO"]).unwrap_or_default();
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
    };
    wait(|| ports.iter().all(is_up));
    let urls = || engines.iter().map(Engine::url);
    let [a, b] = [(), ()].map(|()| Node::start(Redis::cluster(urls())));
    let mut publisher = b.client();
    let mut clients = Vec::new();
    for number in 0..10 {
        for topic in [format!("t{number}"), format!("h{number}")] {
            let mut client = a.subscriber(&topic);
            publisher.send(&format!("pub {topic} hello"));
            assert_eq!(client.read(), "hello");
            clients.push(client);
        }
    }
    wait(|| hearer_position(&a) != "-");
    let position = hearer_position(&a);
    publisher.send("pub h1 more");
    b.settle();
    let mut late = b.client();
    late.send(&format!("from h1 {position}"));
    assert_eq!(late.read(), "more");
    assert_eq!(late.read(), "h1 Recovered(1)");
    Ok(())
}

#[cfg(feature = "tls")]
#[test]
fn connections_can_be_encrypted() -> Result<(), Box<dyn std::error::Error>> {
    use wsloop_backplane_testing::processes::{Scratch, free_port, wait_for_port};

    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let scratch = Scratch::new()?;
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| scratch.path().join(name));
    std::fs::write(&certificate, certified.cert.pem())?;
    std::fs::write(&key, certified.signing_key.serialize_pem())?;
    let port = free_port()?;
    let text = |path: &std::path::Path| path.display().to_string();
    let arguments = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &text(&certificate),
        "--tls-key-file",
        &text(&key),
        "--tls-auth-clients",
        "no",
    ];
    let Some(_engine) = Engine::start(&arguments)? else {
        return Ok(());
    };
    wait_for_port(port)?;
    let builder = || {
        let builder = Redis::builder(&format!("rediss://localhost:{port}"));
        builder.root_certificates(certified.cert.pem())
    };
    let [a, b] = [(), ()].map(|()| Node::start(builder()));
    let mut client = a.subscriber("news");
    b.client().send("pub news hello");
    assert_eq!(client.read(), "hello");
    Ok(())
}
