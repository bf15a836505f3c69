//! The settings of a run of two loops, drawn from the seed.

use std::time::Duration;

use crate::config::Config;
use crate::limits::{Limits, SlowConsumer};
use crate::simulation::random::Random;
use crate::topics::Topic;

/// The names of all topics.
pub(super) const NAMES: [&str; 8] = [
    "plain.1",
    "plain.2",
    "latest",
    "oldest",
    "close",
    "history.1",
    "history.2",
    "brief",
];

/// The topics with a history; the last one keeps its messages for a short time only.
pub(super) const HISTORIES: std::ops::RangeInclusive<usize> = 5..=7;
pub(super) const BRIEF: usize = 7;
/// The topic that conflates.
pub(super) const LATEST: usize = 2;

/// How many messages a history keeps, and for how long.
pub(super) const KEPT: usize = 6;
pub(super) const AGE: Duration = Duration::from_secs(3600);
const BRIEF_AGE: Duration = Duration::from_millis(15);

/// The engine beside the loops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// It only listens.
    Tap,
    /// It brings messages of another node.
    Carrier,
    /// It keeps the histories as well.
    Historian,
}

/// The settings of a run.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) kind: Kind,
    pub(super) steps: usize,
    /// How often the first loop has the next turn, in a thousand.
    pub(super) first: usize,
    /// How often a turn is a long one with everything that has happened, in a thousand.
    pub(super) whole: usize,
    /// How often a client reads slowly, in a thousand.
    pub(super) slow: usize,
    /// How often the engine loses a message, in a thousand.
    pub(super) loses: usize,
    /// How often the engine is late with an answer or drops a request, in a thousand.
    pub(super) late: usize,
    /// How often a handler does something besides, in a thousand.
    pub(super) wild: usize,
    /// Handlers give orders that hold for all loops.
    pub(super) orders: bool,
    /// How often a loop ends early, in a thousand steps.
    pub(super) ends: usize,
    /// The largest payload.
    pub(super) payload: usize,
}

impl Settings {
    pub(super) fn any(random: &mut Random) -> Self {
        Self {
            config: config(random),
            kind: random.pick(&[Kind::Tap, Kind::Carrier, Kind::Historian, Kind::Historian]),
            steps: random.pick(&[60, 150, 300, 300]),
            first: random.pick(&[500, 500, 500, 80, 920]),
            whole: random.pick(&[0, 300, 800]),
            slow: random.pick(&[0, 0, 300]),
            loses: random.pick(&[0, 0, 50, 200]),
            late: random.pick(&[0, 200, 600]),
            wild: random.pick(&[30, 200, 500]),
            orders: random.chance(200),
            ends: random.pick(&[0, 0, 0, 5]),
            payload: random.pick(&[40, 300, 2000]),
        }
    }

    /// Returns whether a run without slow readers is determined to the byte: memory is not short.
    pub(super) fn is_roomy(&self) -> bool {
        self.config.memory_budget == usize::MAX
    }
}

fn config(random: &mut Random) -> Config {
    let limits = Limits {
        max_backlog: random.pick(&[600, 4000, 100_000, 100_000]),
        ..Limits::default()
    };
    let topics = [
        ("latest", Topic::new().slow_consumer(SlowConsumer::Conflate)),
        (
            "oldest",
            Topic::new().slow_consumer(SlowConsumer::DropOldest),
        ),
        ("close", Topic::new().slow_consumer(SlowConsumer::Close)),
        ("history.", Topic::new().history(KEPT, AGE)),
        ("brief", Topic::new().history(KEPT, BRIEF_AGE)),
    ];
    Config {
        limits,
        slow_consumer: random.pick(&[
            SlowConsumer::Error,
            SlowConsumer::Close,
            SlowConsumer::DropNewest,
            SlowConsumer::DropOldest,
        ]),
        silence_max: Duration::ZERO,
        close_timeout: Duration::from_millis(100),
        read_buffer: 1000,
        backlog: 64,
        max_inbox: random.pick(&[300, 1500, 6000, 1 << 20, 1 << 20]),
        memory_budget: random.pick(&[usize::MAX, usize::MAX, usize::MAX, usize::MAX, 40_000]),
        topics: topics.map(|(prefix, topic)| (prefix.into(), topic)).into(),
        ..Config::default()
    }
}
