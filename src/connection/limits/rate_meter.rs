//! Limits on how fast a connection may send.

use std::time::Duration;

use crate::config::{Rate, ReceiveRates};
use crate::error::ProtocolError;

/// A meter of a rate, in one number (the generic cell rate algorithm of ATM).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    /// The time at which the rate alone, without a burst, would have allowed all input so far.
    even: Duration,
}

impl Meter {
    /// Counts input at `now`; returns how long it takes until the rate allows it, if it does not
    /// yet.
    fn count(&mut self, rate: &Rate, count: u64, now: Duration) -> Option<Duration> {
        self.even = self.even.max(now).saturating_add(rate.time_of(count));
        let ahead = self.even.saturating_sub(now);
        let wait = ahead.saturating_sub(rate.time_of_burst());
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts one event if the rate allows it; returns whether it does.
    pub(crate) fn admit(&mut self, rate: &Rate, now: Duration) -> bool {
        let before = self.even;
        let allowed = self.count(rate, 1, now).is_none();
        if !allowed {
            self.even = before;
        }
        allowed
    }

    /// Returns whether the meter is in the state of a new one.
    pub(crate) fn is_new(&self, now: Duration) -> bool {
        self.even <= now
    }
}

/// The rate meters of a connection.
#[derive(Default)]
pub(crate) struct Meters {
    messages: Meter,
    bytes: Meter,
    pings: Meter,
    /// The time until which the connection is held off.
    until: Duration,
}

/// Input that is counted against a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Metered {
    Bytes(usize),
    Message,
    /// A ping or a pong.
    Ping,
}

impl Meters {
    /// Counts input at `now`; returns how long it takes until the rates allow it, if they do not
    /// yet.
    pub(crate) fn count(
        &mut self,
        what: Metered,
        rates: &ReceiveRates,
        now: Duration,
    ) -> Option<(Duration, ProtocolError)> {
        let (meter, rate, count, error) = match what {
            Metered::Bytes(count) => (
                &mut self.bytes,
                rates.bytes,
                count as u64,
                ProtocolError::TooManyBytes,
            ),
            Metered::Message => (
                &mut self.messages,
                rates.messages,
                1,
                ProtocolError::TooManyMessages,
            ),
            Metered::Ping => (&mut self.pings, rates.pings, 1, ProtocolError::TooManyPings),
        };
        let wait = meter.count(&rate?, count, now)?;
        Some((wait, error))
    }

    /// Holds the connection off until `until`, unless it is held off for longer already.
    pub(crate) fn hold_off(&mut self, until: Duration) {
        self.until = self.until.max(until);
    }

    /// Returns the time until which the connection is held off.
    pub(crate) fn held_off_until(&self) -> Duration {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate::per_second(2).burst(5);
        let mut meter = Meter::default();
        let now = seconds(100);
        for _ in 0..5 {
            assert_eq!(meter.count(&rate, 1, now), None);
        }
        assert_eq!(meter.count(&rate, 1, now), Some(seconds(1) / 2));
        assert_eq!(meter.count(&rate, 1, now), Some(seconds(1)));
        assert_eq!(meter.count(&rate, 1, seconds(102)), None);
        assert!(!meter.is_new(seconds(102)) && meter.is_new(seconds(104)));
        assert_eq!(meter.count(&rate, 6, seconds(1000)), Some(seconds(1) / 2));
    }

    #[test]
    fn who_is_refused_does_not_count() {
        let rate = Rate::new(1, seconds(10));
        let mut meter = Meter::default();
        assert!(meter.admit(&rate, seconds(0)));
        for _ in 0..1000 {
            assert!(!meter.admit(&rate, seconds(9)));
        }
        assert!(meter.admit(&rate, seconds(10)) && !meter.admit(&rate, seconds(19)));
    }

    proptest! {
        /// For any input, no interval of time admits more than one burst plus the rate over the
        /// interval.
        #[test]
        fn no_stretch_of_time_has_more_than_burst_and_rate(
            rate in 1u64..50, burst in 1u64..50,
            waits in prop::collection::vec(0u64..400, 1..200),
        ) {
            let limit = Rate::per_second(rate).burst(burst);
            let mut meter = Meter::default();
            let mut now = Duration::ZERO;
            let mut allowed = Vec::new();
            for wait in waits {
                now += Duration::from_millis(wait);
                if meter.admit(&limit, now) {
                    allowed.push(now);
                }
            }
            for (first, from) in allowed.iter().enumerate() {
                for (last, to) in allowed.iter().enumerate().skip(first) {
                    let most = burst as f64 + (*to - *from).as_secs_f64() * rate as f64 + 0.001;
                    prop_assert!(((last - first + 1) as f64) <= most);
                }
            }
        }
    }
}
