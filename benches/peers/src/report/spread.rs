//! Medians, and what they are the medians of.

use super::results::{ByCase, Round, Timed};

/// The middle and the ends of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Whether numerator and denominator of a ratio are of different runs.
    pub(super) across_runs: bool,
}

impl Spread {
    /// Of figures; `None` if there are none.
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

/// A figure of a round.
pub(super) type Value = fn(&Round) -> Option<f64>;

/// The figure of a peer in a case.
pub(super) fn figure(
    timed: &ByCase<Timed>,
    case: &str,
    peer: &str,
    value: Value,
) -> Option<Spread> {
    Spread::of(timed.get(case)?.get(peer)?.rounds.iter().filter_map(value))
}

/// The ratio of a peer's figure to another's: within each round if both ran in the same one, so
/// that what else went on at the time falls out of it; else to the other's median.
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

/// Its part in user space.
pub(super) fn user(round: &Round) -> Option<f64> {
    round.measure.user
}

/// CPU time per message, in terms of that of the companion.
pub(super) fn cpu_of_companion(round: &Round) -> Option<f64> {
    Some(round.measure.cpu? / round.companion.as_ref()?.cpu?)
}

/// Messages per second.
pub(super) fn throughput(round: &Round) -> Option<f64> {
    Some(round.measure.throughput)
}

/// Share of the time in which the server had to wait for its core.
pub(super) fn wait(round: &Round) -> Option<f64> {
    round.measure.wait
}

/// Bytes of compressed payload for each byte.
pub(super) fn reply_ratio(round: &Round) -> Option<f64> {
    round.measure.reply_ratio
}

/// Resident bytes of a connection after one echo.
pub(super) fn memory(round: &Round) -> Option<f64> {
    Some(round.measure.idle?.echoed)
}

/// Resident bytes of a connection that is open.
pub(super) fn memory_open(round: &Round) -> Option<f64> {
    Some(round.measure.idle?.open)
}

/// Resident bytes of the server before.
pub(super) fn memory_before(round: &Round) -> Option<f64> {
    Some(round.measure.idle?.before as f64)
}

/// The percentiles that are reported, with their names.
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

/// The latency of all but a hundredth, in nanoseconds.
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
