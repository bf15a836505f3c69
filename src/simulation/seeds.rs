//! The seeds that run: some thousands in every test, those that found bugs, and with
//! `tests/simulation/run` as many as fit in a time.

use std::env;
use std::time::{Duration, Instant};

use super::random::Random;
use super::run;
use super::settings::Settings;
use super::world::Totals;

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
    let begun = Instant::now();
    let mut count = 0;
    while count < most && begun.elapsed() < time {
        hold(first + count);
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
