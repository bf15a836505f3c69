//! The aims of wsloop, case by case.

use super::cases;
use super::peers::{RAW, SOCKETIO, UWS, WSLOOP, YAWC};
use super::results::{ByCase, Results, Timed};
use super::spread::{self, Value, cpu, figure, ratio};

/// The figure that an aim limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gauge {
    /// CPU time relative to the bare echo.
    Raw,
    /// CPU time relative to uWebSockets.
    Uws,
    /// CPU time relative to yawc, where uWebSockets keeps less context than it is configured to.
    Yawc,
    /// CPU time relative to the best peer.
    Best,
    /// CPU time relative to the companion load.
    Companion,
    /// 99th percentile of the latency, relative to the companion load.
    P99Companion,
    /// Median latency above that of the bare echo, in microseconds.
    P50BeyondRaw,
    /// 99th percentile of the latency, relative to the bare echo.
    P99,
    /// 99th percentile of the latency, relative to uWebSockets.
    P99Uws,
    /// CPU time of the publishing process, relative to Socket.IO.
    PublishSocketIo,
    /// Median latency that the engine adds, relative to Socket.IO.
    AddedP50,
    /// 99th percentile of the latency that the engine adds, relative to Socket.IO.
    AddedP99,
    /// Resident memory of a connection, in bytes.
    Bytes,
    /// Resident memory of a subscription, in bytes.
    SubscriptionBytes,
    /// Growth of the resident memory in the run, in bytes.
    Growth,
    /// Compressed bytes per byte of a reply.
    ReplySize,
    /// Instructions in user space per message.
    Instructions,
    /// System calls per message.
    Calls,
    /// System calls per handshake, without `epoll_wait`.
    CallsBesidesWait,
    /// Calls of `sendto` and similar functions per delivery.
    Sends,
}

/// An aim: the largest allowed figure in a case.
struct Aim {
    case: &'static str,
    gauge: Gauge,
    at_most: f64,
}

/// An aim and its result.
pub(super) struct Outcome {
    /// The name of the case.
    pub(super) case: &'static str,
    /// The aim in words, for the report.
    pub(super) aim: String,
    /// The measured figure, if there is one.
    pub(super) measured: Option<f64>,
    /// The largest allowed figure.
    pub(super) at_most: f64,
}

impl Outcome {
    /// Returns whether the aim is met, if there is a figure.
    pub(super) fn met(&self) -> Option<bool> {
        // Compares with the precision of the report.
        let digits = 10f64.powi(digits(self.at_most));
        let rounded = |figure: f64| (figure * digits).round();
        self.measured.map(|m| rounded(m) <= rounded(self.at_most))
    }
}

/// Returns the number of decimal places that are shown and compared.
pub(super) fn digits(at_most: f64) -> i32 {
    if at_most < 0.2 { 4 } else { 2 }
}

const fn aim(case: &'static str, gauge: Gauge, at_most: f64) -> Aim {
    Aim {
        case,
        gauge,
        at_most,
    }
}

const AIMS: &[Aim] = &[
    aim("echo-20-text", Gauge::Raw, 1.05),
    aim("echo-125-binary", Gauge::Raw, 1.05),
    aim("echo-1k-text", Gauge::Raw, 1.07),
    aim("echo-16k-binary", Gauge::Raw, 1.10),
    aim("echo-64k-text", Gauge::Raw, 1.22),
    aim("echo-64k-utf8", Gauge::Raw, 1.30),
    aim("echo-1m-binary", Gauge::Raw, 1.15),
    aim("echo-1m-text", Gauge::Raw, 1.25),
    aim("pipelined-32", Gauge::Uws, 1.00),
    aim("many-500", Gauge::Raw, 1.08),
    aim("idle-10k-active-64", Gauge::Companion, 1.05),
    aim("latency-1", Gauge::P50BeyondRaw, 2.0),
    aim("latency-1", Gauge::P99, 1.00),
    aim("idle-plain", Gauge::Bytes, 256.0),
    aim("idle-tls", Gauge::Bytes, 14_000.0),
    aim("handshake", Gauge::Best, 0.90),
    aim("tls-1k-text", Gauge::Uws, 0.85),
    aim("tls-16k-text", Gauge::Uws, 0.54),
    aim("broadcast-64-depth-1", Gauge::Uws, 1.00),
    aim("broadcast-64-depth-16", Gauge::Uws, 1.00),
    aim("topic-64-depth-1", Gauge::Uws, 1.00),
    aim("topic-64-depth-16", Gauge::Uws, 1.00),
    aim("topic-1k-depth-16", Gauge::Uws, 1.00),
    aim("topics-8-depth-16", Gauge::Uws, 0.90),
    aim("topics-8-depth-16-deflate-shared", Gauge::Uws, 0.90),
    aim("topic-rate-100", Gauge::P99Uws, 1.00),
    aim("topic-rate-1000", Gauge::P99Uws, 1.00),
    aim("topic-slow-10", Gauge::Companion, 1.05),
    aim("topic-slow-10", Gauge::P99Companion, 1.05),
    aim("topic-slow-10", Gauge::Growth, 8_388_608.0),
    aim("subscriptions", Gauge::SubscriptionBytes, 32.0),
    aim("loops-topic-far", Gauge::Companion, 1.10),
    aim("loops-topic-far-depth-16", Gauge::Companion, 1.10),
    aim("redis-1-full", Gauge::PublishSocketIo, 0.50),
    aim("redis-10-full", Gauge::PublishSocketIo, 0.50),
    aim("redis-1000-full", Gauge::PublishSocketIo, 0.50),
    aim("redis-1-rate", Gauge::AddedP50, 1.00),
    aim("redis-1-rate", Gauge::AddedP99, 1.00),
    aim("redis-10-rate", Gauge::AddedP50, 1.00),
    aim("redis-10-rate", Gauge::AddedP99, 1.00),
    aim("redis-1000-rate", Gauge::AddedP50, 1.00),
    aim("redis-1000-rate", Gauge::AddedP99, 1.00),
    aim("deflate-1k-shared", Gauge::Uws, 0.90),
    aim("deflate-1k-shared", Gauge::ReplySize, 0.37),
    aim("deflate-1k-dedicated", Gauge::Yawc, 0.90),
    aim("deflate-1k-dedicated", Gauge::ReplySize, 0.23),
    aim("idle-deflate-dedicated", Gauge::Bytes, 300_000.0),
    aim("echo-20-text", Gauge::Instructions, 450.0),
    aim("echo-20-text", Gauge::Calls, 2.1),
    aim("echo-125-binary", Gauge::Instructions, 450.0),
    aim("echo-125-binary", Gauge::Calls, 2.1),
    aim("echo-1k-text", Gauge::Instructions, 700.0),
    aim("echo-64k-text", Gauge::Instructions, 12_000.0),
    aim("echo-64k-text", Gauge::Calls, 2.1),
    aim("echo-1m-binary", Gauge::Calls, 4.0),
    aim("pipelined-32", Gauge::Instructions, 200.0),
    aim("pipelined-32", Gauge::Calls, 0.13),
    aim("handshake", Gauge::CallsBesidesWait, 8.0),
    aim("tls-1k-text", Gauge::Calls, 2.1),
    aim("tls-16k-text", Gauge::Calls, 3.0),
    aim("broadcast-64-depth-1", Gauge::Sends, 1.0),
    aim("broadcast-64-depth-16", Gauge::Sends, 0.0625),
    aim("topic-64-depth-16", Gauge::Sends, 0.0625),
    aim("topics-8-depth-16", Gauge::Sends, 0.58),
];

/// Compares the results with the aims.
pub(super) fn outcomes(results: &Results) -> Vec<Outcome> {
    AIMS.iter().map(|aim| aim.outcome(results)).collect()
}

impl Aim {
    fn outcome(&self, results: &Results) -> Outcome {
        let limit = self.at_most;
        let timed = &results.timed;
        let counted = || results.counted.get(self.case)?.get(WSLOOP);
        // Sums up the calls with the wanted names.
        let calls = |wanted: fn(&str) -> bool| {
            let calls = counted()?.calls.iter();
            Some(calls.filter(|(name, _)| wanted(name)).map(|(_, n)| n).sum())
        };
        let to = |peer: &str| ratio(timed, self.case, WSLOOP, peer, cpu).map(|s| s.median);
        let of = |peer: &str, value: Value| figure(timed, self.case, peer, value);
        let to_socketio =
            |value: Value| ratio(timed, self.case, WSLOOP, SOCKETIO, value).map(|s| s.median);
        let companion = cases::find(self.case).and_then(|case| case.companion);
        let companion = companion.map_or("", |companion| companion.title);
        let (aim, measured) = match self.gauge {
            Gauge::Raw => (format!("CPU <= {limit:.2} raw"), to(RAW)),
            Gauge::Uws => (format!("CPU <= {limit:.2} uWebSockets"), to(UWS)),
            Gauge::Yawc => (format!("CPU <= {limit:.2} yawc"), to(YAWC)),
            Gauge::Best => {
                let best = best_peer(timed, self.case);
                let aim = format!("CPU <= {limit:.2} best peer");
                (aim, best.and_then(to))
            }
            Gauge::Companion => (
                format!("CPU <= {limit:.2} of {companion}"),
                of(WSLOOP, spread::cpu_of_companion).map(|s| s.median),
            ),
            Gauge::P99Companion => (
                format!("p99 <= {limit:.2} of {companion}"),
                of(WSLOOP, spread::p99_of_companion).map(|s| s.median),
            ),
            Gauge::P50BeyondRaw => {
                let (ours, raw) = (of(WSLOOP, spread::p50), of(RAW, spread::p50));
                let beyond = ours.zip(raw).map(|(a, b)| (a.median - b.median) / 1000.0);
                (format!("p50 <= raw + {limit} us"), beyond)
            }
            Gauge::P99 => (
                format!("p99 <= {limit:.2} raw"),
                ratio(timed, self.case, WSLOOP, RAW, spread::p99).map(|s| s.median),
            ),
            Gauge::P99Uws => (
                format!("p99 <= {limit:.2} uWebSockets"),
                ratio(timed, self.case, WSLOOP, UWS, spread::p99).map(|s| s.median),
            ),
            Gauge::PublishSocketIo => (
                format!("CPU of a publish <= {limit:.2} Socket.IO"),
                to_socketio(spread::publishing),
            ),
            Gauge::AddedP50 => (
                format!("added p50 <= {limit:.2} Socket.IO"),
                to_socketio(spread::added_p50),
            ),
            Gauge::AddedP99 => (
                format!("added p99 <= {limit:.2} Socket.IO"),
                to_socketio(spread::added_p99),
            ),
            Gauge::SubscriptionBytes => (
                format!("<= {limit} B per subscription"),
                of(WSLOOP, spread::subscription).map(|s| s.median),
            ),
            Gauge::Growth => (
                format!("memory grows by <= {limit} B"),
                of(WSLOOP, spread::growth).map(|s| s.median),
            ),
            Gauge::Bytes => (
                format!("<= {limit} B"),
                of(WSLOOP, spread::memory).map(|s| s.median),
            ),
            Gauge::ReplySize => (
                format!("reply <= {limit:.2} of plain"),
                of(WSLOOP, spread::reply_ratio).map(|s| s.median),
            ),
            Gauge::Instructions => (
                format!("<= {limit} instructions"),
                counted().and_then(|counted| counted.instructions),
            ),
            Gauge::Calls => (format!("<= {limit} calls"), calls(|_| true)),
            Gauge::CallsBesidesWait => (
                format!("<= {limit} calls besides epoll_wait"),
                calls(|name| name != "epoll_wait"),
            ),
            Gauge::Sends => (
                format!("<= {limit} sends"),
                calls(|name| matches!(name, "sendto" | "write" | "writev" | "sendmsg")),
            ),
        };
        Outcome {
            case: self.case,
            aim,
            measured,
            at_most: limit,
        }
    }
}

/// Returns the peer with the least CPU time, other than wsloop and the bare echo.
fn best_peer<'t>(timed: &'t ByCase<Timed>, case: &str) -> Option<&'t str> {
    let names = timed.get(case)?.keys().map(String::as_str);
    names
        .filter(|&name| name != WSLOOP && !name.starts_with(RAW))
        .filter_map(|name| Some((name, figure(timed, case, name, cpu)?.median)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::super::cases;
    use super::*;

    #[test]
    fn every_aim_is_of_a_case() {
        for aim in AIMS {
            assert!(cases::find(aim.case).is_some(), "{}", aim.case);
        }
    }

    #[test]
    fn without_results_nothing_is_met_and_nothing_missed() {
        let outcomes = outcomes(&Results::default());
        assert!(outcomes.iter().all(|outcome| outcome.met().is_none()));
    }
}
