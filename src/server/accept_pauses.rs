//! Log lines for pauses in accepting.

use std::fmt;

use log::Level;

use crate::connection::{Line, target};

/// The reasons to pause accepting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    Connections,
    HalfOpen,
    Memory,
    /// Descriptors or kernel memory ran out.
    Resources,
}

/// The state of the log for each reason to pause. A pause is logged when it begins and when it
/// ends, and once a minute in between. Since clients can cause pauses over and over, those that
/// begin within a minute of a line are not logged, but counted in the next line.
#[derive(Default)]
pub(super) struct Pauses([Told; 4]);

#[derive(Clone, Copy, Default)]
struct Told {
    /// When the current pause began. Times are in milliseconds of the reactor.
    since: Option<u64>,
    /// When a line last said that accepting pauses.
    at: Option<u64>,
    /// Whether that was the last line: the end of its pause has not been logged.
    is_open: bool,
    /// Pauses that have begun since then without a line.
    silent: u64,
}

impl Pauses {
    /// Notes that accepting pauses, or still does. Returns whether it was logged.
    pub(super) fn pause(&mut self, why: Why, now: u64, reason: fmt::Arguments<'_>) -> bool {
        let Some(told) = self.0.get_mut(why as usize) else {
            return false;
        };
        let begins = told.since.is_none();
        let since = *told.since.get_or_insert(now);
        let is_due = told
            .at
            .is_none_or(|at| now.saturating_sub(at) >= TOLD_EVERY);
        if !is_due {
            told.silent += u64::from(begins);
            return false;
        }
        let level = match why {
            Why::Resources => Level::Error,
            _ => Level::Warn,
        };
        let line = Line::free(target::ACCEPT, level);
        let (silent, lasts) = (told.silent, Seconds(now.saturating_sub(since)));
        match (begins, silent) {
            (true, 0) => line.write(format_args!("{reason}: accepting is paused")),
            (false, 0) => {
                line.write(format_args!(
                    "{reason}: accepting has been paused for {lasts}"
                ));
            }
            (_, silent) => line.write(format_args!(
                "{reason}: accepting has been paused for {lasts}, after {silent} pauses that were \
                 not logged"
            )),
        }
        *told = Told {
            since: Some(since),
            at: Some(now),
            is_open: true,
            silent: 0,
        };
        true
    }

    /// Notes that accepting continues, if it paused for this reason. Returns whether it was logged.
    pub(super) fn resume(&mut self, why: Why, now: u64) -> bool {
        let told = self.0.get_mut(why as usize);
        let Some((told, since)) =
            told.and_then(|told| told.since.take().map(|since| (told, since)))
        else {
            return false;
        };
        let is_open = std::mem::take(&mut told.is_open);
        if is_open {
            let lasted = Seconds(now.saturating_sub(since));
            let what = match why {
                Why::Connections => "max_connections",
                Why::HalfOpen => "max_half_open",
                Why::Memory => "memory_budget",
                Why::Resources => "descriptors and memory",
            };
            Line::free(target::ACCEPT, Level::Warn)
                .write(format_args!("{what}: accepting resumes after {lasted}"));
        }
        is_open
    }

    /// Returns when the next line about a pause for this reason is due.
    pub(super) fn next(&self, why: Why) -> Option<u64> {
        let told = self.0.get(why as usize)?;
        told.at.map(|at| at.saturating_add(TOLD_EVERY))
    }
}

/// Milliseconds, displayed as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1000, self.0 % 1000)
    }
}

/// Time between two lines about pauses, in milliseconds.
const TOLD_EVERY: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_has_a_line_when_it_begins_each_minute_and_when_it_ends() {
        let mut pauses = Pauses::default();
        let lines = (0..=600)
            .filter(|second| pauses.pause(Why::Resources, second * 1000, format_args!("full")))
            .count();
        assert_eq!(lines, 11);
        assert!(pauses.resume(Why::Resources, 601_000));
        assert!(!pauses.resume(Why::Resources, 602_000));
        assert!(
            !pauses.resume(Why::Connections, 602_000),
            "it did not pause"
        );
    }

    #[test]
    fn pauses_that_come_and_go_have_two_lines_a_minute_for_each_reason() {
        let mut pauses = Pauses::default();
        for why in [Why::Connections, Why::Resources] {
            let mut lines = 0;
            // Five a second, for ten minutes.
            for at in (0..600_000).step_by(200) {
                lines += usize::from(pauses.pause(why, at, format_args!("full")));
                lines += usize::from(pauses.resume(why, at + 100));
            }
            assert_eq!(lines, 20);
        }
    }

    #[test]
    fn the_last_line_tells_how_it_stands_within_a_minute() {
        let mut pauses = Pauses::default();
        let why = Why::HalfOpen;
        assert!(pauses.pause(why, 0, format_args!("full")) && pauses.resume(why, 1000));
        // This pause has no line at first, but continues.
        assert!(!pauses.pause(why, 2000, format_args!("full")));
        assert_eq!(pauses.next(why), Some(60_000));
        assert!(!pauses.pause(why, 59_999, format_args!("full")));
        assert!(pauses.pause(why, 60_000, format_args!("full")));
        assert!(pauses.resume(why, 60_001));
        // A pause that begins and ends without a line.
        assert!(!pauses.pause(why, 61_000, format_args!("full")));
        assert!(!pauses.resume(why, 62_000));
    }
}
