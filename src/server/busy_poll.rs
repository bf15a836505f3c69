//! How the loop waits for events: it optionally spins for a while, and then sleeps.

use std::io;
use std::time::{Duration, Instant};

/// An event queue, and a clock.
pub(super) trait Queue {
    /// Waits for at most `timeout` (`None`: until an event arrives); returns whether one did.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool>;

    fn now(&self) -> Instant;
}

/// Decides whether the next poll spins or sleeps.
pub(super) struct BusyPoll {
    /// How long to spin. Zero is off.
    busy: Duration,
    /// Whether the last wait returned an event.
    came: bool,
    /// When the first wait after an event began, which is after the event was handled.
    since: Option<Instant>,
}

impl BusyPoll {
    pub(super) fn new(busy: Duration) -> Self {
        Self {
            busy,
            came: false,
            since: None,
        }
    }

    /// Waits from `now` on until an event arrives, for at most `timeout`; returns the number of
    /// polls, at least one. A `timeout` of zero takes exactly one.
    pub(super) fn wait(
        &mut self,
        queue: &mut impl Queue,
        mut now: Instant,
        timeout: Option<Duration>,
    ) -> io::Result<u64> {
        if self.busy.is_zero() {
            queue.poll(timeout)?;
            return Ok(1);
        }
        if std::mem::take(&mut self.came) {
            self.since = Some(now);
        }
        // A time beyond the clock's range means no end.
        let end = timeout.and_then(|timeout| now.checked_add(timeout));
        let mut polls = 0;
        loop {
            let left = end.map(|end| end.saturating_duration_since(now));
            let spins = left != Some(Duration::ZERO) && self.spins(now);
            let timeout = if spins { Some(Duration::ZERO) } else { left };
            polls += 1;
            self.came = queue.poll(timeout)?;
            if self.came || !spins {
                return Ok(polls);
            }
            now = queue.now();
            if end.is_some_and(|end| now >= end) {
                return Ok(polls);
            }
        }
    }

    fn spins(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) < self.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue whose polls take a microsecond plus the time that they sleep.
    struct Simulated {
        now: Instant,
        /// When events arrive.
        events: Vec<Instant>,
        /// The timeouts of the polls.
        polls: Vec<Option<Duration>>,
    }

    const POLL: Duration = Duration::from_micros(1);
    const SPIN: Option<Duration> = Some(Duration::ZERO);

    impl Queue for Simulated {
        fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
            self.polls.push(timeout);
            let end = timeout.map(|timeout| self.now + timeout);
            let next = self.events.first().copied();
            let wake = [next, end].into_iter().flatten().min();
            self.now = self.now.max(wake.expect("it wakes up")) + POLL;
            let came = next.is_some_and(|next| next < self.now);
            if came {
                self.events.remove(0);
            }
            Ok(came)
        }

        fn now(&self) -> Instant {
            self.now
        }
    }

    impl Simulated {
        /// Makes a queue whose events arrive this many microseconds from now.
        fn new(events: &[u64]) -> Self {
            let now = Instant::now();
            let events = events.iter().map(|at| now + Duration::from_micros(*at));
            Self {
                now,
                events: events.collect(),
                polls: Vec::new(),
            }
        }

        fn wait(
            &mut self,
            waiting: &mut BusyPoll,
            timeout: Option<Duration>,
        ) -> Vec<Option<Duration>> {
            let now = self.now;
            let polls = waiting.wait(self, now, timeout).expect("no error");
            let seen = std::mem::take(&mut self.polls);
            assert_eq!(polls, seen.len() as u64);
            seen
        }
    }

    fn micros(micros: u64) -> Option<Duration> {
        Some(Duration::from_micros(micros))
    }

    #[test]
    fn without_busy_time_it_sleeps_at_once() {
        let mut queue = Simulated::new(&[0, 10, 20]);
        let mut waiting = BusyPoll::new(Duration::ZERO);
        for timeout in [None, micros(500), None] {
            assert_eq!(queue.wait(&mut waiting, timeout), [timeout]);
        }
    }

    #[test]
    fn it_does_not_spin_before_anything_came() {
        let mut queue = Simulated::new(&[1000]);
        let mut waiting = BusyPoll::new(Duration::from_micros(50));
        assert_eq!(queue.wait(&mut waiting, micros(300)), [micros(300)]);
        assert_eq!(queue.wait(&mut waiting, None), [None]);
    }

    #[test]
    fn it_spins_after_each_event_and_then_sleeps_for_the_rest() {
        let mut queue = Simulated::new(&[0, 30, 5000]);
        let mut waiting = BusyPoll::new(Duration::from_micros(50));
        assert_eq!(queue.wait(&mut waiting, None), [None]);
        // From 1 on; the poll that begins at 30 finds the event of that time.
        assert_eq!(queue.wait(&mut waiting, None), [SPIN; 30]);
        // From 31 on: 50 polls of one microsecond each, and the rest of the timeout.
        let polls = queue.wait(&mut waiting, micros(400));
        assert_eq!(polls[..50], [SPIN; 50]);
        assert_eq!(polls[50..], [micros(350)]);
        // The time is over, and does not start again without an event.
        assert_eq!(queue.wait(&mut waiting, None), [None]);
        assert_eq!(queue.wait(&mut waiting, micros(7)), [SPIN; 7]);
    }

    #[test]
    fn several_waits_share_the_time() {
        let mut queue = Simulated::new(&[0]);
        let mut waiting = BusyPoll::new(Duration::from_micros(50));
        queue.wait(&mut waiting, None);
        for _ in 0..2 {
            // A deadline ends each wait, as a tick would.
            assert_eq!(queue.wait(&mut waiting, micros(20)), [SPIN; 20]);
        }
        let polls = queue.wait(&mut waiting, micros(20));
        assert_eq!(polls[..10], [SPIN; 10]);
        assert_eq!(polls[10..], [micros(10)]);
    }

    #[test]
    fn what_was_done_in_between_does_not_use_the_time_up() {
        let mut queue = Simulated::new(&[0]);
        let mut waiting = BusyPoll::new(Duration::from_micros(50));
        queue.wait(&mut waiting, None);
        // A handler runs longer than the busy time.
        queue.now += Duration::from_millis(1);
        assert_eq!(queue.wait(&mut waiting, micros(9)), [SPIN; 9]);
    }

    #[test]
    fn nothing_to_wait_for_is_one_poll() {
        let mut queue = Simulated::new(&[0]);
        let mut waiting = BusyPoll::new(Duration::from_micros(50));
        queue.wait(&mut waiting, None);
        assert_eq!(queue.wait(&mut waiting, SPIN), [SPIN]);
        assert_eq!(queue.wait(&mut waiting, SPIN), [SPIN]);
    }

    #[test]
    fn times_without_end() {
        let mut queue = Simulated::new(&[0, 100]);
        let mut waiting = BusyPoll::new(Duration::MAX);
        queue.wait(&mut waiting, Some(Duration::MAX));
        assert_eq!(queue.wait(&mut waiting, Some(Duration::MAX)), [SPIN; 100]);
    }
}
