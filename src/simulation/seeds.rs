//! Which seeds are run: some thousands in every test, those that found something, and as many as
//! there is time for by `tests/simulation/run`.

use std::env;
use std::time::{Duration, Instant};

use super::random::Random;
use super::run;
use super::settings::Settings;
use super::world::Totals;

/// Seeds that found bugs in the server, which are mended.
const FOUND: &[u64] = &[
    // `resume` of a connection that was closed in a pause put its deadline off, in a drain.
    254_041,
];

/// Runs a seed, and panics with how to replay it if something was found.
fn hold(seed: u64) -> u64 {
    match run(seed, false) {
        Ok(trace) => trace,
        Err(failure) => panic!(
            "seed {seed}: {:?}: {}\nreplay it by: tests/simulation/run --seed {seed}",
            failure.check, failure.what
        ),
    }
}

/// So many seeds, in two tests, which run side by side.
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
    // And another seed is another one.
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
