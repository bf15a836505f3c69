//! The times of messages at a fixed rate.

use std::time::Duration;

/// The times at which messages should be sent: evenly spaced, independent of the server.
///
/// Latency counts from these times, and not from when a message could be sent. Otherwise a server
/// that stalls would delay the messages that show the stall.
#[derive(Debug)]
pub(super) struct Schedule {
    rate: f64,
    next: u64,
}

impl Schedule {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, next: 0 }
    }

    /// Returns the next message if it is due: its number, and its time since the start.
    pub(super) fn due(&mut self, now: Duration) -> Option<(u64, Duration)> {
        let number = self.next;
        let at = Duration::from_secs_f64(number as f64 / self.rate);
        if at > now {
            return None;
        }
        self.next += 1;
        Some((number, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_their_times() {
        let mut schedule = Schedule::new(1000.0);
        assert_eq!(schedule.due(Duration::ZERO), Some((0, Duration::ZERO)));
        assert_eq!(schedule.due(Duration::from_micros(999)), None);
        let second = Some((1, Duration::from_millis(1)));
        assert_eq!(schedule.due(Duration::from_micros(1001)), second);
    }

    #[test]
    fn after_a_stall_all_that_was_missed_is_due_with_its_own_time() {
        let mut schedule = Schedule::new(1000.0);
        let late = Duration::from_millis(10);
        let due: Vec<_> = std::iter::from_fn(|| schedule.due(late)).collect();
        assert_eq!(due.len(), 11);
        assert_eq!(due[3], (3, Duration::from_millis(3)));
    }

    #[test]
    fn a_long_run_does_not_drift() {
        let mut schedule = Schedule::new(3.0);
        schedule.next = 3_000_000;
        let now = Duration::from_secs(1_000_000);
        assert_eq!(schedule.due(now), Some((3_000_000, now)));
    }
}
