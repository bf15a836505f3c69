//! When descriptors run out, accepting pauses without a busy loop, and open connections are still
//! served. When descriptors are free again, accepting resumes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs::File;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::{Client, PATIENCE};
use wsloop::Server;

/// Set in a child process with few descriptors, because the limit would affect other tests.
const CHILD: &str = "WSLOOP_FEW_DESCRIPTORS";

/// Runs the named test in a child process that may open `limit` descriptors.
fn run_with_limit(limit: u32, name: &str) {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

/// Opens all descriptors that are left.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn accepting_pauses_and_goes_on() {
    if std::env::var_os(CHILD).is_none() {
        return run_with_limit(64, "accepting_pauses_and_goes_on");
    }
    let mut server = support::echo(Server::builder().listen("127.0.0.1:0"))
        .silence_max(Duration::ZERO)
        .build()
        .unwrap();
    let addr = server.local_addr().unwrap();

    // One client is connected, and two more are in the accept queue, before the descriptors run
    // out.
    let mut served = Client::connect(addr);
    served.send_raw(support::REQUEST);
    while server.hub().is_empty() {
        assert!(server.turn(Some(PATIENCE)).unwrap());
    }
    assert_eq!(served.response().status, 101);
    let mut waiting = [Client::connect(addr), Client::connect(addr)];
    let taken = take_all();
    assert!(!taken.is_empty());

    // Nothing else happens, so each turn ends with a pause: 50 ms, then 100, 200 and 400 ms.
    let begun = Instant::now();
    let mut turns = 0;
    while server.stats().accept_failures < 4 {
        assert!(server.turn(Some(PATIENCE)).unwrap());
        turns += 1;
        assert!(turns < 50, "it spins");
    }
    // The server's clock has a resolution of a millisecond.
    assert!(begun.elapsed() > Duration::from_millis(50 + 100 + 200 - 2));
    assert_eq!(server.stats().accepted, 1);

    // The open connection is served, and its messages do not cause attempts to accept.
    let failures = server.stats().accept_failures;
    let asked = Instant::now();
    for at in 0..20 {
        served.send_text(&at.to_string());
        assert!(server.turn(Some(PATIENCE)).unwrap());
        served.expect_text(&at.to_string());
    }
    let more = server.stats().accept_failures - failures;
    let pauses = asked.elapsed().as_millis() / 400 + 1;
    assert!(u128::from(more) <= pauses, "{more} failures");

    // Descriptors are free again: both clients are accepted, at the latest after the current pause.
    drop(taken);
    let deadline = Instant::now() + PATIENCE;
    while server.stats().accepted < 3 {
        assert!(Instant::now() < deadline, "it goes on");
        assert!(server.turn(Some(PATIENCE)).unwrap());
    }
    for client in &mut waiting {
        client.send_raw(support::REQUEST);
    }
    while server.hub().len() < 3 {
        assert!(server.turn(Some(PATIENCE)).unwrap());
    }
    for client in &mut waiting {
        assert_eq!(client.response().status, 101);
    }

    // The next shortage starts with a short pause again.
    let taken = take_all();
    let failures = server.stats().accept_failures;
    // One descriptor is freed for the client; none is left for the server to accept it.
    let mut taken = taken;
    drop(taken.pop());
    let late = Client::connect(addr);
    let begun = Instant::now();
    while server.stats().accept_failures < failures + 2 {
        assert!(server.turn(Some(PATIENCE)).unwrap());
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "a short one");
    drop((late, taken));
}

#[test]
fn clients_that_come_and_go_have_two_lines_a_minute_and_cause_no_spin() {
    if std::env::var_os(CHILD).is_none() {
        let name = "clients_that_come_and_go_have_two_lines_a_minute_and_cause_no_spin";
        return run_with_limit(64, name);
    }
    let (sender, lines) = mpsc::channel();
    support::journal::capture(sender);
    let mut server = support::echo(Server::builder().listen("127.0.0.1:0"))
        .silence_max(Duration::ZERO)
        .build()
        .unwrap();
    let addr = server.local_addr().unwrap();

    // A hundred times, a client waits that cannot be accepted, and then is accepted: each starts a
    // pause.
    let begun = Instant::now();
    let mut turns = 0;
    for _ in 0..100 {
        let client = Client::connect(addr);
        let taken = take_all();
        let (failures, accepted) = {
            let stats = server.stats();
            (stats.accept_failures, stats.accepted)
        };
        while server.stats().accept_failures == failures {
            assert!(server.turn(Some(PATIENCE)).unwrap());
            turns += 1;
        }
        drop(taken);
        while server.stats().accepted == accepted {
            assert!(server.turn(Some(PATIENCE)).unwrap());
            turns += 1;
        }
        client.reset();
        while !server.hub().is_empty() || server.stats().probes < accepted + 1 {
            assert!(server.turn(Some(PATIENCE)).unwrap());
            turns += 1;
        }
    }
    let stats = server.stats();
    assert!(stats.accept_failures >= 100);
    // A few turns per client, and a pause of at least 50 ms per failure.
    assert!(turns < 20 * 100, "{turns} turns");
    assert!(stats.accept_failures <= 100 + (begun.elapsed().as_millis() / 50) as u64);
    let minutes = begun.elapsed().as_secs() as usize / 60 + 1;
    drop(server);
    let lines: Vec<_> = lines
        .try_iter()
        .filter(|line| line.target == "wsloop::accept" && line.level < log::Level::Debug)
        .collect();
    assert!(lines.len() <= 2 * minutes, "{lines:?}");
    assert!(lines[0].text.contains("accepting is paused") && lines[0].text.contains("LimitNOFILE"));
    assert!(
        lines[1].text.contains("accepting resumes after"),
        "{lines:?}"
    );
}
