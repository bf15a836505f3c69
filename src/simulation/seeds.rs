//! The seeds that run: some thousands in every test, those that found bugs, and with
//! `tests/simulation/run` as many as fit in a time. Each is a run of a server, and another of two
//! loops.

use std::env;
use std::time::{Duration, Instant};

use super::random::Random;
use super::settings::Settings;
use super::world::Totals;
use super::{loops, run};

/// Seeds that found bugs in the server, which are fixed.
const FOUND: &[u64] = &[
    // In a wind-down, `resume` of a connection that was closed in a pause postponed its deadline.
    254_041,
];

/// Runs a seed. If a check fails, panics with the command that replays it.
fn hold(seed: u64) -> u64 {
    match run(seed, false) {
        Ok(trace) => trace,
        Err(failure) => panic!(
            "seed {seed}: {:?}: {}\nreplay it by: tests/simulation/run --seed {seed}",
            failure.check, failure.what
        ),
    }
}

/// Runs a seed of two loops, in the same way.
fn hold_loops(seed: u64) -> u64 {
    match loops::run(seed, false) {
        Ok(trace) => trace,
        Err(failure) => panic!(
            "seed {seed} of two loops: {:?}: {}\nreplay it by: tests/simulation/run --loops {seed}",
            failure.check, failure.what
        ),
    }
}

/// The number of seeds in two tests, which run concurrently.
const SEEDS: u64 = 2000;

#[test]
fn some_thousand_seeds_hold() {
    (0..SEEDS / 2).for_each(|seed| _ = hold(seed));
}

#[test]
fn some_thousand_more_seeds_hold() {
    (SEEDS / 2..SEEDS).for_each(|seed| _ = hold(seed));
}

#[test]
fn seeds_that_found_bugs_hold() {
    for seed in FOUND {
        hold(*seed);
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..100 {
        assert_eq!(hold(seed), hold(seed), "seed {seed}");
    }
    // Another seed gives another run.
    assert_ne!(hold(1), hold(2));
}

#[test]
fn some_thousand_seeds_of_two_loops_hold() {
    (0..SEEDS).for_each(|seed| _ = hold_loops(seed));
}

#[test]
fn a_seed_of_two_loops_is_the_same_run_each_time() {
    for seed in 0..100 {
        assert_eq!(hold_loops(seed), hold_loops(seed), "seed {seed}");
    }
    assert_ne!(hold_loops(1), hold_loops(2));
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
#[ignore = "by tests/simulation/run"]
fn as_many_seeds_as_fit_hold() {
    let time = Duration::from_secs(number("SIMULATION_SECONDS").unwrap_or(60));
    let first = number("SIMULATION_SEED").unwrap_or(0);
    let most = number("SIMULATION_SEEDS").unwrap_or(u64::MAX);
    let kind = env::var("SIMULATION_KIND").unwrap_or_default();
    let begun = Instant::now();
    let mut count = 0;
    while count < most && begun.elapsed() < time {
        if kind != "loops" {
            hold(first + count);
        }
        if kind != "server" {
            hold_loops(first + count);
        }
        count += 1;
        if count % 50_000 == 0 {
            println!("{count} seeds in {:?}", begun.elapsed());
        }
    }
    let totals = Totals::all();
    println!(
        "{count} seeds from {first} on in {:?}: {totals:?}",
        begun.elapsed()
    );
}

#[test]
#[ignore = "by tests/simulation/run --seed"]
fn one_seed_holds() {
    let seed = number("SIMULATION_SEED").expect("SIMULATION_SEED is a seed");
    println!("{:?}", Settings::any(&mut Random::new(seed)).config);
    let outcome = run(seed, true);
    println!("{outcome:?}");
    hold(seed);
}

#[test]
#[ignore = "by tests/simulation/run --loops"]
fn one_seed_of_two_loops_holds() {
    let seed = number("SIMULATION_SEED").expect("SIMULATION_SEED is a seed");
    let outcome = loops::run(seed, true);
    println!("{outcome:?}");
    hold_loops(seed);
}
