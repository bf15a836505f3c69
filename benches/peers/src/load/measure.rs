//! The results of a run of the load generator.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::meter::Usage;

/// The figures of one run, as `load` prints them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Correct echoes, deliveries of a broadcast, or handshakes.
    pub messages: u64,
    /// The length of the counted phase, in seconds.
    pub seconds: f64,
    /// Messages per second.
    pub throughput: f64,
    /// Payload bytes that were received.
    pub bytes: u64,
    /// The server's CPU time per message, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// The part of the CPU time in user space, sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<f64>,
    /// The part of the CPU time in the kernel, sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<f64>,
    /// Share of the time in which the server was runnable while its core ran something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
    /// Share of the time that the hypervisor took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
    /// The latency of replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The latency of subscribers near the publisher: on the same loop, or at the same node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<Latency>,
    /// The latency of subscribers on other loops, or at other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far: Option<Latency>,
    /// Messages that were published, each to several subscribers or to one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub published: u64,
    /// CPU time per published message, in nanoseconds: of the server to which they are sent, and
    /// then of the other processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_publish: Vec<f64>,
    /// The target rate, in messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Messages sent at a rate that had no reply one second after the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unanswered: u64,
    /// Compressed bytes per payload byte, in replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_ratio: Option<f64>,
    /// Resident memory of the server per subscription to a topic, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<f64>,
    /// The growth of the server's resident memory in the run, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<f64>,
    /// Memory of idle connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Handshakes after which the client had to close TCP, because the server did not.
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

/// Resident memory of the server, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// With one connection, after one echo.
    pub before: u64,
    /// Per further connection, when it is open.
    pub open: f64,
    /// Per further connection, after one echo.
    pub echoed: f64,
}

impl Measure {
    /// Combines the counts with the usage. Without messages there is no CPU time per message.
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
    /// Reads the percentiles from a histogram of nanoseconds; returns `None` if it is empty.
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

/// Rounds to `digits` decimal places, to keep the file readable.
pub(super) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
