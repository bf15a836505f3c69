//! Medians, and the range of the values behind them.

use super::results::{ByCase, Round, Timed};

/// The median, the minimum and the maximum of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Whether the numerator and the denominator of a ratio come from different runs.
    pub(super) across_runs: bool,
}

impl Spread {
    /// Returns the spread of finite figures, or `None` if there are none.
    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<_> = figures.into_iter().filter(|f| f.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        let (&min, &max) = (figures.first()?, figures.last()?);
        let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
            across_runs: false,
        })
    }
}

/// Selects a figure of a round.
pub(super) type Value = fn(&Round) -> Option<f64>;

/// Returns the figure of a peer in a case.
pub(super) fn figure(
    timed: &ByCase<Timed>,
    case: &str,
    peer: &str,
    value: Value,
) -> Option<Spread> {
    Spread::of(timed.get(case)?.get(peer)?.rounds.iter().filter_map(value))
}

/// Returns the ratio of one peer's figure to another's. If both took part in the same run, the
/// ratio is taken within each round, so that other load on the machine cancels out. Otherwise it is
/// the ratio to the other's median.
pub(super) fn ratio(
    timed: &ByCase<Timed>,
    case: &str,
    peer: &str,
    to: &str,
    value: Value,
) -> Option<Spread> {
    let peers = timed.get(case)?;
    let (one, other) = (peers.get(peer)?, peers.get(to)?);
    if one.date == other.date {
        let pairs = one.rounds.iter().zip(&other.rounds);
        return Spread::of(pairs.filter_map(|(a, b)| Some(value(a)? / value(b)?)));
    }
    let basis = figure(timed, case, to, value)?.median;
    let spread = Spread::of(one.rounds.iter().filter_map(value).map(|v| v / basis))?;
    Some(Spread {
        across_runs: true,
        ..spread
    })
}

/// CPU time per message.
pub(super) fn cpu(round: &Round) -> Option<f64> {
    round.measure.cpu
}

/// The part of the CPU time in user space.
pub(super) fn user(round: &Round) -> Option<f64> {
    round.measure.user
}

/// CPU time per message, relative to the companion load.
pub(super) fn cpu_of_companion(round: &Round) -> Option<f64> {
    Some(round.measure.cpu? / round.companion.as_ref()?.cpu?)
}

/// The 99th percentile of the latency, relative to the companion load.
pub(super) fn p99_of_companion(round: &Round) -> Option<f64> {
    Some(p99(round)? / round.companion.as_ref()?.latency?.p99 as f64)
}

/// The median latency near the publisher.
pub(super) fn near_p50(round: &Round) -> Option<f64> {
    Some(round.measure.near?.p50 as f64)
}

/// The 99th percentile of the latency near the publisher.
pub(super) fn near_p99(round: &Round) -> Option<f64> {
    Some(round.measure.near?.p99 as f64)
}

/// The median latency far from the publisher.
pub(super) fn far_p50(round: &Round) -> Option<f64> {
    Some(round.measure.far?.p50 as f64)
}

/// The 99th percentile of the latency far from the publisher.
pub(super) fn far_p99(round: &Round) -> Option<f64> {
    Some(round.measure.far?.p99 as f64)
}

/// The median latency that the way from near to far adds.
pub(super) fn added_p50(round: &Round) -> Option<f64> {
    Some(far_p50(round)? - near_p50(round)?)
}

/// The 99th percentile of the latency that the way from near to far adds.
pub(super) fn added_p99(round: &Round) -> Option<f64> {
    Some(far_p99(round)? - near_p99(round)?)
}

/// CPU time of the publishing process per published message.
pub(super) fn publishing(round: &Round) -> Option<f64> {
    round.measure.per_publish.first().copied()
}

/// CPU time of the receiving process per published message.
pub(super) fn receiving(round: &Round) -> Option<f64> {
    round.measure.per_publish.get(1).copied()
}

/// CPU time of the engine per published message.
pub(super) fn relaying(round: &Round) -> Option<f64> {
    round.measure.per_publish.get(2).copied()
}

/// Published messages per second.
pub(super) fn published(round: &Round) -> Option<f64> {
    Some(round.measure.published as f64 / round.measure.seconds)
}

/// The growth of the resident memory in the run, in bytes.
pub(super) fn growth(round: &Round) -> Option<f64> {
    round.measure.growth
}

/// The resident memory of a subscription, in bytes.
pub(super) fn subscription(round: &Round) -> Option<f64> {
    round.measure.subscription
}

/// Messages per second.
pub(super) fn throughput(round: &Round) -> Option<f64> {
    Some(round.measure.throughput)
}

/// Share of the time in which the server waited for its core.
pub(super) fn wait(round: &Round) -> Option<f64> {
    round.measure.wait
}

/// Compressed bytes per payload byte.
pub(super) fn reply_ratio(round: &Round) -> Option<f64> {
    round.measure.reply_ratio
}

/// Resident memory of a connection after one echo, in bytes.
pub(super) fn memory(round: &Round) -> Option<f64> {
    Some(round.measure.idle?.echoed)
}

/// Resident memory of an open connection, in bytes.
pub(super) fn memory_open(round: &Round) -> Option<f64> {
    Some(round.measure.idle?.open)
}

/// Resident memory of the server before further connections open, in bytes.
pub(super) fn memory_before(round: &Round) -> Option<f64> {
    Some(round.measure.idle?.before as f64)
}

/// The reported percentiles, with their names.
pub(super) const PERCENTILES: [(&str, Value); 5] = [
    ("p50", p50),
    ("p90", |round| Some(round.measure.latency?.p90 as f64)),
    ("p99", p99),
    ("p99.9", |round| Some(round.measure.latency?.p999 as f64)),
    ("max", |round| Some(round.measure.latency?.max as f64)),
];

/// The median latency, in nanoseconds.
pub(super) fn p50(round: &Round) -> Option<f64> {
    Some(round.measure.latency?.p50 as f64)
}

/// The 99th percentile of the latency, in nanoseconds.
pub(super) fn p99(round: &Round) -> Option<f64> {
    Some(round.measure.latency?.p99 as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Measure;

    fn timed(date: &str, figures: &[f64]) -> Timed {
        let round = |&cpu: &f64| Round {
            measure: Measure {
                cpu: Some(cpu),
                ..Measure::default()
            },
            companion: None,
        };
        Timed {
            date: date.into(),
            rounds: figures.iter().map(round).collect(),
            note: None,
        }
    }

    fn ratio_of(one: Timed, other: Timed) -> Spread {
        let peers = [("a".to_owned(), one), ("b".to_owned(), other)];
        let cases = ByCase::from([("case".to_owned(), peers.into())]);
        ratio(&cases, "case", "a", "b", cpu).unwrap()
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn rounds_of_one_run_are_paired() {
        let one = timed("today", &[2.0, 20.0, 2.2]);
        let other = timed("today", &[1.0, 10.0, 1.0]);
        let spread = ratio_of(one, other);
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 2.0, 2.2));
        assert!(!spread.across_runs);
    }

    #[test]
    fn rounds_of_different_runs_are_not() {
        let spread = ratio_of(
            timed("today", &[2.0, 4.0]),
            timed("before", &[1.0, 1.0, 9.0]),
        );
        assert_eq!(spread.median, 3.0);
        assert!(spread.across_runs);
    }
}
