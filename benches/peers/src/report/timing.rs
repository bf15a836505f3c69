//! Runs the timed cases.

use std::path::Path;

use anyhow::{Context, Result};

use super::Setup;
use super::cases::{Case, Figure};
use super::peers::{self, Peer, RAW};
use super::process::{self, Engine, Server, Started};
use super::results::{Results, Round, Timed};
use crate::load::{Latency, Measure};

/// A placeholder for half of the bare echo's throughput.
const HALF: &str = "HALF";
/// Replaces the placeholder if there is no bare echo.
const SOME_RATE: f64 = 20_000.0;

/// The number of processes that an engine connects.
const NODES: usize = 2;
/// The seconds in which subscriptions reach the engine.
const SETTLE: f64 = 0.5;
/// With an engine, the servers are heated for this many times the warm-up. The just-in-time
/// compiler of Node.js takes its time.
const HEAT: f64 = 3.0;

/// The length and the number of runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) warmup: f64,
    pub(super) seconds: f64,
    /// Whether to use few connections, and to accept runs with any share of stolen time.
    pub(super) smoke: bool,
}

/// The result of a run, or why the peer does not support the case.
enum Run {
    Done(Box<Round>),
    Unsupported(String),
}

/// Runs a case: in each round every peer once. Replaces the earlier results of the case.
pub(super) fn run(
    setup: &Setup,
    case: &Case,
    peers: &[&'static Peer],
    effort: Effort,
    results: &mut Results,
) -> Result<()> {
    let load = match case.load.contains(HALF) {
        true => case
            .load
            .replace(HALF, &half_rate(setup, effort)?.to_string()),
        false => case.load.to_owned(),
    };
    let date = super::machine::now();
    let mut entries: Vec<_> = peers
        .iter()
        .filter(|peer| case.includes(peer))
        .map(|&peer| {
            let timed = Timed {
                date: date.clone(),
                ..Timed::default()
            };
            (peer, timed)
        })
        .collect();
    for round in 1..=effort.rounds {
        for (peer, timed) in &mut entries {
            if timed.note.is_some() {
                continue;
            }
            match once(setup, case, &load, peer, effort) {
                Ok(Run::Done(done)) => {
                    let figure = describe(case, &done.measure);
                    eprintln!(
                        "{} {round}/{} {}: {figure}",
                        case.id, effort.rounds, peer.id
                    );
                    timed.rounds.push(*done);
                }
                Ok(Run::Unsupported(why)) => {
                    eprintln!("{} {}: not supported: {why}", case.id, peer.id);
                    timed.note = Some(format!("not supported: {why}"));
                }
                Err(error) => {
                    eprintln!("{} {}: failed: {error:#}", case.id, peer.id);
                    timed.note = Some(format!("failed: {error:#}"));
                }
            }
        }
    }
    let kept = results.timed.entry(case.id.into()).or_default();
    for (peer, timed) in entries {
        kept.insert(peer.id.into(), timed);
    }
    Ok(())
}

/// Runs one round of a peer, and its companion load.
fn once(setup: &Setup, case: &Case, load: &str, peer: &Peer, effort: Effort) -> Result<Run> {
    let measure = match fresh(setup, case, load, peer, effort)? {
        Ok(measure) => measure,
        Err(why) => return Ok(Run::Unsupported(why)),
    };
    let companion = match case.companion {
        Some(companion) => fresh(setup, &case.with(companion), companion.load, peer, effort)?.ok(),
        None => None,
    };
    Ok(Run::Done(Box::new(Round { measure, companion })))
}

/// The largest share of stolen time in a run that is accepted at once.
const STEAL: f64 = 0.03;
/// The number of attempts; after the last one, the run with the least stolen time is used.
const TRIES: usize = 3;

/// Runs one load on a fresh server, and repeats it if the hypervisor took too much time. The inner
/// error means that the server does not support the case.
fn fresh(
    setup: &Setup,
    case: &Case,
    load: &str,
    peer: &Peer,
    effort: Effort,
) -> Result<Result<Measure, String>> {
    let stolen = |measure: &Measure| measure.steal.unwrap_or(0.0);
    let mut best: Option<Measure> = None;
    for _ in 0..TRIES {
        let measure = match attempt(setup, case, load, peer, effort)? {
            Ok(measure) => measure,
            Err(why) => return Ok(Err(why)),
        };
        let least = best
            .as_ref()
            .is_none_or(|best| stolen(&measure) < stolen(best));
        if least {
            best = Some(measure);
        }
        if effort.smoke || best.as_ref().is_some_and(|best| stolen(best) <= STEAL) {
            break;
        }
    }
    best.map(Ok).context("there was no run")
}

/// Runs one load on a fresh server. The inner error means that the server does not support the
/// case.
fn attempt(
    setup: &Setup,
    case: &Case,
    load: &str,
    peer: &Peer,
    effort: Effort,
) -> Result<Result<Measure, String>> {
    let tls = &setup.certificate;
    let command = setup.command(peer).map_err(anyhow::Error::msg)?;
    let mut server_args = case.server_args(peer, &tls.certificate, &tls.key);
    let engine = match case.engine().map(Engine::start).transpose()? {
        Some(Err(why)) => return Ok(Err(why)),
        Some(Ok(engine)) => Some(engine),
        None => None,
    };
    if let Some(engine) = &engine {
        server_args.extend(engine.option.clone());
    }
    let mut nodes = Vec::new();
    for _ in 0..if engine.is_some() { NODES } else { 1 } {
        match Server::start(&[], &command, &server_args)? {
            Started::Running(server) => nodes.push(server),
            Started::Unsupported(why) => return Ok(Err(why)),
        }
    }
    let mut args = case.load_args(load, peer, &tls.certificate);
    args.extend(["--warmup".into(), effort.warmup.to_string()]);
    args.extend(["--seconds".into(), effort.seconds.to_string()]);
    if engine.is_some() {
        let heat = effort.warmup * HEAT;
        args.extend(["--settle".into(), SETTLE.to_string()]);
        args.extend(["--heat".into(), heat.to_string()]);
    }
    if effort.smoke {
        args.extend(["--connections".into(), "16".into()]);
    }
    process::load(&setup.load, &nodes, engine.as_ref(), &args).map(Ok)
}

/// Returns half of the bare echo's messages per second, in whole thousands.
fn half_rate(setup: &Setup, effort: Effort) -> Result<f64> {
    let raw = peers::find(RAW).context("there always is a bare echo")?;
    let case = super::cases::find("echo-20-text").context("there always is this case")?;
    if setup.command(raw).is_err() {
        return Ok(SOME_RATE);
    }
    let full = fresh(setup, case, "--spin --size 32", raw, effort)?;
    let full = full.map_err(anyhow::Error::msg)?.throughput;
    Ok((full / 2000.0).floor().max(1.0) * 1000.0)
}

fn describe(case: &Case, measure: &Measure) -> String {
    match (case.figure, measure.idle, measure.latency, measure.cpu) {
        (Figure::Memory, Some(idle), _, _) => format!("{:.0} B per connection", idle.echoed),
        (Figure::Subscription, ..) => {
            let bytes = measure.subscription.unwrap_or_default();
            format!("{bytes:.1} B per subscription")
        }
        (Figure::Latency, _, Some(latency), _) => {
            let micros = |nanos: u64| nanos as f64 / 1000.0;
            format!(
                "p50 {:.1} us, p99 {:.1} us",
                micros(latency.p50),
                micros(latency.p99)
            )
        }
        (Figure::Sides, ..) => {
            let p50 = |side: Option<Latency>| side.map_or(0.0, |l| l.p50 as f64 / 1000.0);
            let (near, far) = (p50(measure.near), p50(measure.far));
            format!("p50 {near:.1} us near, {far:.1} us far")
        }
        (Figure::Processes, ..) => {
            let each = measure.per_publish.iter();
            let each: Vec<_> = each.map(|nanos| format!("{:.2}", nanos / 1000.0)).collect();
            let rate = measure.published as f64 / measure.seconds;
            format!("{} us of CPU per message, {rate:.0}/s", each.join(" + "))
        }
        (_, _, _, Some(cpu)) => format!(
            "{:.3} us of CPU per {}, {:.0}/s",
            cpu / 1000.0,
            case.unit,
            measure.throughput
        ),
        _ => format!("{} messages", measure.messages),
    }
}

/// Returns the peers that failed. Peers that do not support a case have not failed.
pub(super) fn failures(results: &Results) -> Vec<String> {
    let each = results.timed.iter().flat_map(|(case, peers)| {
        peers.iter().filter_map(move |(peer, timed)| {
            let note = timed.note.as_ref()?;
            note.starts_with("failed")
                .then(|| format!("{case} {peer}: {note}"))
        })
    });
    each.collect()
}

/// Returns the path of the load generator beside this program.
pub(super) fn beside(folder: &Path) -> Result<std::path::PathBuf> {
    let load = folder.join("load");
    anyhow::ensure!(load.is_file(), "{} is not built", load.display());
    Ok(load)
}
