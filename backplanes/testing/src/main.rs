//! The node program, and long runs with random faults.
//!
//! ```text
//! wsloop-backplane-testing --engine redis --minutes 10 --seed 1
//! wsloop-backplane-testing node ENGINE NAME MAX_WAITING ADDRESS...
//! ```

use std::time::{Duration, Instant};

use wsloop_backplane_testing::trial::Trial;
use wsloop_backplane_testing::{Engine, Fault, nats, node, redis};

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == "node"
    {
        return node::main(rest);
    }
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let minutes: f64 = option("--minutes").map_or(Ok(1.0), |value| value.parse())?;
    let mut seed: u64 = option("--seed").map_or(Ok(1), |value| value.parse())?;
    let engine = option("--engine").map_or("redis", String::as_str);
    let engine: Option<Box<dyn Engine>> = match engine {
        "redis" => {
            let limit = ["--client-output-buffer-limit", "pubsub 32kb 0 0"];
            redis::Redis::start(&limit)?.map(|redis| Box::new(redis) as Box<dyn Engine>)
        }
        "nats" => {
            let limits = "max_payload: 64KB\nmax_pending: 256KB\nwrite_deadline: \"100ms\"";
            nats::Nats::start(limits)?.map(|nats| Box::new(nats) as Box<dyn Engine>)
        }
        other => return Err(format!("unknown engine {other}").into()),
    };
    let mut engine = engine.ok_or("the engine is not installed")?;
    let mut faults = engine.faults();
    faults.retain(|fault| *fault != Fault::AwayFromStart);
    let program = std::env::current_exe()?;
    let due = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut rounds = 0;
    while Instant::now() < due {
        rounds += 1;
        let mut trial = Trial::start(&program, &mut *engine)?;
        trial.apply(Fault::Nothing)?;
        // One round is short enough for its messages to be kept.
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let drawn = (seed >> 33) as usize;
            let fault = faults[drawn % faults.len()];
            trial.apply(fault)?;
            std::thread::sleep(Duration::from_millis(drawn as u64 % 1000));
        }
        let report = trial.finish()?;
        println!("round {rounds}: {report}");
    }
    Ok(())
}
