//! What a run of the load generator found out.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::meter::Usage;

/// The figures of one run, as `load` prints them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Messages that came back whole and right, deliveries of a broadcast, or handshakes.
    pub messages: u64,
    /// Seconds in which they did.
    pub seconds: f64,
    /// Messages per second.
    pub throughput: f64,
    /// Payload bytes that were received.
    pub bytes: u64,
    /// The server's CPU time per message, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Its part in user space, sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<f64>,
    /// Its part in the kernel, sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<f64>,
    /// Share of the time in which the server was ready and something else ran on its core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
    /// Share of the time that the hypervisor took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
    /// How long replies took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Messages per second that were meant to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Messages sent at a rate and not answered in the second after the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unanswered: u64,
    /// Bytes of compressed payload for each byte of payload, in replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_ratio: Option<f64>,
    /// Memory of idle connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Handshakes after which the server left closing TCP to the client.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lingered: u64,
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Resident bytes of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// With one connection that has had one echo.
    pub before: u64,
    /// For each further connection when it was open.
    pub open: f64,
    /// For each further connection when it had had one echo.
    pub echoed: f64,
}

impl Measure {
    /// Puts together what was counted and what was used; without messages there is no CPU time per
    /// message.
    pub(super) fn new(messages: u64, seconds: f64, usage: Option<Usage>) -> Self {
        let each = messages as f64;
        let mut measure = Self {
            messages,
            seconds: rounded(seconds, 4),
            throughput: rounded(messages as f64 / seconds, 1),
            ..Self::default()
        };
        if let Some(usage) = usage.filter(|_| messages > 0) {
            let cpu = usage.run / each;
            measure.cpu = Some(rounded(cpu, 1));
            measure.user = Some(rounded(cpu * usage.user_share, 1));
            measure.system = Some(rounded(cpu * (1.0 - usage.user_share), 1));
            measure.wait = Some(rounded(usage.wait_share, 4));
            measure.steal = Some(rounded(usage.steal_share, 4));
        }
        measure
    }
}

impl Latency {
    /// Reads the percentiles off a histogram of nanoseconds; `None` if it is empty.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        })
    }
}

/// Rounds to so many digits after the point, for the sake of those who read the file.
pub(super) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
