//! How fast a connection may send.

use std::time::Duration;

use super::core::Core;
use super::journal::{Line, Matter};
use super::peer::{Marks, Peer};
use crate::config::{OverRate, Rate};
use crate::error::ProtocolError;

/// Whether a rate is kept to, in one number (the generic cell rate algorithm of ATM).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    /// When the rate alone, without a burst, would have allowed all that came.
    even: Duration,
}

impl Meter {
    /// Counts what came at `now`; returns how long it takes until the rate allows it, if it does not.
    fn count(&mut self, rate: &Rate, count: u64, now: Duration) -> Option<Duration> {
        self.even = self.even.max(now).saturating_add(rate.time_of(count));
        let ahead = self.even.saturating_sub(now);
        let wait = ahead.saturating_sub(rate.time_of_burst());
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts one if the rate allows it; returns whether it does.
    pub(super) fn admit(&mut self, rate: &Rate, now: Duration) -> bool {
        let before = self.even;
        let allowed = self.count(rate, 1, now).is_none();
        if !allowed {
            self.even = before;
        }
        allowed
    }

    /// Returns whether all is as if nothing had ever come.
    pub(super) fn is_new(&self, now: Duration) -> bool {
        self.even <= now
    }
}

/// What is measured of a connection.
#[derive(Default)]
pub(super) struct Meters {
    messages: Meter,
    bytes: Meter,
    pings: Meter,
    /// While the connection is held back: until when.
    until: Duration,
}

/// What came from a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Metered {
    Bytes(usize),
    Message,
    /// A ping or a pong.
    Ping,
}

impl Peer {
    /// Has what comes from the connection measured. It is never quiet then: the usual way does not
    /// measure.
    pub(crate) fn measure(&mut self) {
        self.marks.set(Marks::METERED);
        self.extras_mut().meters = Some(Box::default());
    }

    fn meters(&mut self) -> Option<&mut Meters> {
        if !self.marks.has(Marks::METERED) {
            return None;
        }
        self.extras.as_deref_mut()?.meters.as_deref_mut()
    }

    /// Returns whether the connection is not read for now, because it was faster than it may be.
    pub(crate) fn is_held_off(&self) -> bool {
        self.marks.has(Marks::HELD_OFF)
    }

    /// Returns until when the connection is not read, if it is held off.
    pub(crate) fn held_off_until(&self) -> Option<Duration> {
        if !self.is_held_off() {
            return None;
        }
        let meters = self.extras()?.meters.as_deref()?;
        Some(meters.until)
    }

    /// Has the connection read again, if its time is over by `now`; returns whether that changes
    /// anything.
    pub(crate) fn go_on(&mut self, now: Duration) -> bool {
        let over = self.held_off_until().is_some_and(|until| until <= now);
        over && self.marks.take(Marks::HELD_OFF)
    }
}

impl Core {
    /// Measures what came from a connection, and holds it off if that was too much.
    ///
    /// # Errors
    ///
    /// If it was too much, and the connection is to be closed.
    #[inline]
    pub(crate) fn meter(&mut self, slot: usize, what: Metered) -> Result<(), ProtocolError> {
        match self.peers.get_mut(slot).and_then(Peer::meters) {
            None => Ok(()),
            Some(_) => self.meter_one(slot, what),
        }
    }

    #[cold]
    fn meter_one(&mut self, slot: usize, what: Metered) -> Result<(), ProtocolError> {
        let (rates, now) = (&self.config.rates, self.now);
        let Some(peer) = self.peers.get_mut(slot) else {
            return Ok(());
        };
        let Some(meters) = peer.meters() else {
            return Ok(());
        };
        let stats = &mut self.stats;
        let (meter, rate, count, counter, error) = match what {
            Metered::Bytes(count) => (
                &mut meters.bytes,
                rates.bytes,
                count as u64,
                &mut stats.over_byte_rate,
                ProtocolError::TooManyBytes,
            ),
            Metered::Message => (
                &mut meters.messages,
                rates.messages,
                1,
                &mut stats.over_message_rate,
                ProtocolError::TooManyMessages,
            ),
            Metered::Ping => (
                &mut meters.pings,
                rates.pings,
                1,
                &mut stats.over_ping_rate,
                ProtocolError::TooManyPings,
            ),
        };
        let Some(wait) = rate.and_then(|rate| meter.count(&rate, count, now)) else {
            return Ok(());
        };
        *counter += 1;
        match rates.over {
            OverRate::Close => Err(error),
            OverRate::Delay => {
                meters.until = meters.until.max(now.saturating_add(wait));
                peer.marks.set(Marks::HELD_OFF);
                Line::of(Matter::HeldOff).about(
                    self.who(slot),
                    format_args!("{error}, held off for {wait:?}"),
                );
                Ok(())
            }
        }
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
        /// Whatever comes whenever: what is allowed in any stretch of time is at most a burst and
        /// what the rate makes of the time.
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
