//! Counters of the server and of single connections, and rates.

use std::iter::Sum;
use std::ops::AddAssign;
use std::time::Duration;

use crate::error::SendError;
use crate::reasons::{Counts, ProtocolReason, RefusalReason, TlsFailure};
use crate::topics::{Published, Recovery};

/// The counters of a server since it was built.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// The time over which it counted: from when the server was built to the start of the loop's
    /// turn in which this was read.
    pub time: Duration,
    /// Connections accepted.
    pub accepted: u64,
    /// Plain HTTP requests that the `Request` handler answered, or that got a 404 because there is
    /// none.
    pub requests: u64,
    /// Messages delivered, text and binary.
    pub messages_in: u64,
    /// Messages sent, text and binary; a broadcast counts once for each recipient.
    pub messages_out: u64,
    /// Bytes received, without the overhead of TLS: requests, and frames with their headers.
    pub bytes_in: u64,
    /// Bytes sent, without the overhead of TLS. They count when they are queued.
    pub bytes_out: u64,
    /// How often accepting paused because `max_connections` was reached.
    pub accept_pauses: u64,
    /// How often accepting paused because descriptors or memory ran out.
    pub accept_failures: u64,
    /// How often accepting paused because `max_half_open` was reached.
    pub half_open_pauses: u64,
    /// How often accepting paused because three quarters of `memory_budget` were in use.
    pub budget_pauses: u64,
    /// Connections refused because of `max_connections_per_address`.
    pub over_address_connections: u64,
    /// Connections refused because of `max_half_open_per_address`.
    pub over_address_half_open: u64,
    /// Connections refused because of `max_handshake_rate`.
    pub over_handshake_rate: u64,
    /// How often a connection exceeded `max_message_rate`.
    pub over_message_rate: u64,
    /// How often a connection exceeded `max_byte_rate`.
    pub over_byte_rate: u64,
    /// How often a connection exceeded `max_ping_rate`.
    pub over_ping_rate: u64,
    /// Connections closed because a message was not complete within `message_timeout`.
    pub timed_out_messages: u64,
    /// Messages refused with [`SendError::NoMemory`](crate::SendError::NoMemory).
    pub budget_refusals: u64,
    /// Connections closed because `memory_budget` was exhausted.
    pub budget_closes: u64,
    /// Polls of the kernel for events: one for each turn of the loop, and more while the loop spins
    /// (see [`Builder::busy_poll`](crate::Builder::busy_poll)).
    pub polls: u64,
    /// Ticks that were due but not delivered, because the loop was busy.
    pub missed_ticks: u64,
    /// Messages refused with [`SendError::BacklogFull`](crate::SendError::BacklogFull), including
    /// parts of messages; a broadcast counts once for each recipient that it skipped.
    pub refused_messages: u64,
    /// Messages that a [`SlowConsumer`](crate::SlowConsumer) policy dropped, the newest or the
    /// oldest. The oldest were already counted as sent.
    pub dropped_messages: u64,
    /// Connections closed because `max_backlog` was exceeded.
    pub slow_closes: u64,
    /// Pongs not sent to peers that do not read.
    pub dropped_pongs: u64,
    /// Connections that ended with unsent bytes that the kernel had not accepted: cut by a deadline
    /// or the application, or broken.
    pub lost: u64,
    /// Bytes lost with these connections, without those that TLS held back.
    pub lost_bytes: u64,
    /// Connections that ended in order while the server shut down: what was sent to them was handed
    /// to the kernel, and they were closed, answered, or left by themselves.
    pub ended_in_order: u64,
    /// Connections that did not end in order while the server shut down: the deadline of the
    /// shutdown, `close_timeout`, a handler or the network cut them. A connection that never sent
    /// a request and is cut by `handshake_timeout` does not count.
    pub cut: u64,
    /// Bytes queued for these connections that are lost, without those that TLS held back.
    pub cut_bytes: u64,
    /// Connections that ended before the first byte of a request, such as TCP probes of load
    /// balancers. They are not errors.
    pub probes: u64,
    /// Subscriptions that began, each of one connection to one topic. Those that last are
    /// [`Hub::subscriptions`](crate::Hub::subscriptions).
    pub subscribes: u64,
    /// Subscriptions that ended by `unsubscribe`. The others end with their connections.
    pub unsubscribes: u64,
    /// Subscriptions refused because of `max_subscriptions`.
    pub over_subscriptions: u64,
    /// Topics not created because of `max_topics`.
    pub over_topics: u64,
    /// Topics not created because of `max_topic_size`.
    pub over_topic_size: u64,
    /// Messages published to topics that exist.
    pub publishes: u64,
    /// The receivers of all published messages: the sum of the next four.
    pub publish_receivers: u64,
    /// The sum of [`Published::queued`](crate::Published::queued).
    pub publish_queued: u64,
    /// The sum of [`Published::conflated`](crate::Published::conflated).
    pub publish_conflated: u64,
    /// The sum of [`Published::dropped`](crate::Published::dropped).
    pub publish_dropped: u64,
    /// The sum of [`Published::refused`](crate::Published::refused).
    pub publish_refused: u64,
    /// Published messages that were queued, and dropped for newer ones of their topics. They are
    /// part of [`dropped_messages`](Self::dropped_messages).
    pub evicted: u64,
    /// Subscribers that were sent all that they had missed.
    pub recoveries: u64,
    /// Subscribers that were sent none of what they had missed: see
    /// [`Recovery::Gap`](crate::Recovery::Gap).
    pub recovery_gaps: u64,
    /// Messages published on this loop and passed to its backplanes: other loops, or an engine.
    pub backplane_sent: u64,
    /// Messages that came from a backplane.
    pub backplane_received: u64,
    /// Messages that were announced as lost on the way to this loop, for topics of
    /// [`Gap`](crate::event::Gap); an unknown number counts as one.
    pub backplane_lost: u64,
    /// Messages of a backplane that were dropped because
    /// [`max_inbox`](crate::Builder::max_inbox) was exceeded. They are part of
    /// [`backplane_lost`](Self::backplane_lost).
    pub inbox_dropped: u64,
    pub(crate) refusals: Counts<{ RefusalReason::ALL.len() }>,
    pub(crate) tls_failures: Counts<{ TlsFailure::ALL.len() }>,
    pub(crate) failures: Counts<{ ProtocolReason::ALL.len() }>,
}

impl Stats {
    /// Counts data that is sent.
    #[inline(always)]
    pub(crate) fn count_out(&mut self, is_message: bool, size: usize) {
        self.messages_out += u64::from(is_message);
        self.bytes_out += size as u64;
    }

    /// Counts a publish.
    pub(crate) fn count_published(&mut self, published: &Published) {
        self.publishes += 1;
        self.publish_receivers += published.receivers as u64;
        self.publish_queued += published.queued as u64;
        self.publish_conflated += published.conflated as u64;
        self.publish_dropped += published.dropped as u64;
        self.publish_refused += published.refused as u64;
    }

    /// Counts a topic or a subscription that a limit refused.
    pub(crate) fn count_topic_refusal(&mut self, error: &SendError) {
        match error {
            SendError::TooManySubscriptions { .. } => self.over_subscriptions += 1,
            SendError::TooManyTopics { .. } => self.over_topics += 1,
            SendError::TopicNameTooLong { .. } => self.over_topic_size += 1,
            _ => {}
        }
    }

    /// Counts a subscriber that came back.
    pub(crate) fn count_recovery(&mut self, recovery: Recovery) {
        match recovery {
            Recovery::Recovered(_) => self.recoveries += 1,
            Recovery::Gap => self.recovery_gaps += 1,
            Recovery::Pending => {}
        }
    }

    /// Returns how many clients were refused for this reason before their connection was open.
    pub fn refused(&self, reason: RefusalReason) -> u64 {
        match reason {
            RefusalReason::AddressConnections => self.over_address_connections,
            RefusalReason::AddressHalfOpen => self.over_address_half_open,
            RefusalReason::AddressRate => self.over_handshake_rate,
            reason => self.refusals.get(reason as usize),
        }
    }

    /// Yields every reason for a refusal, and the number of clients that were refused for it.
    ///
    /// ```
    /// # let stats = wsloop::Stats::default();
    /// for (reason, count) in stats.refusals().filter(|(_, count)| *count > 0) {
    ///     log::info!("{count} clients were refused: {reason}");
    /// }
    /// ```
    pub fn refusals(&self) -> impl ExactSizeIterator<Item = (RefusalReason, u64)> {
        let reasons = RefusalReason::ALL.iter();
        reasons.map(|reason| (*reason, self.refused(*reason)))
    }

    /// Returns how many clients were refused for any reason before their connection was open.
    pub fn total_refused(&self) -> u64 {
        self.refusals().map(|(_, count)| count).sum()
    }

    /// Returns how many connections failed in TLS for this reason.
    pub fn tls_failed(&self, reason: TlsFailure) -> u64 {
        self.tls_failures.get(reason as usize)
    }

    /// Yields every reason for a TLS failure, and the number of connections that failed for it.
    pub fn tls_failures(&self) -> impl ExactSizeIterator<Item = (TlsFailure, u64)> {
        let reasons = TlsFailure::ALL.iter();
        reasons.map(|reason| (*reason, self.tls_failed(*reason)))
    }

    /// Returns how many connections failed in TLS.
    pub fn total_tls_failed(&self) -> u64 {
        self.tls_failures.total()
    }

    /// Returns how many connections failed because the peer broke this rule (RFC 6455, 7.1.7).
    pub fn failed(&self, reason: ProtocolReason) -> u64 {
        self.failures.get(reason as usize)
    }

    /// Yields every rule that a peer can break, and the number of connections that failed for it.
    pub fn failures(&self) -> impl ExactSizeIterator<Item = (ProtocolReason, u64)> {
        let reasons = ProtocolReason::ALL.iter();
        reasons.map(|reason| (*reason, self.failed(*reason)))
    }

    /// Returns how many connections failed because the peer broke a rule.
    pub fn total_failed(&self) -> u64 {
        self.failures.total()
    }

    pub(crate) fn count_refusal(&mut self, reason: RefusalReason) {
        self.refusals.count(reason as usize);
    }

    pub(crate) fn count_tls_failure(&mut self, reason: TlsFailure) {
        self.tls_failures.count(reason as usize);
    }

    pub(crate) fn count_failure(&mut self, reason: ProtocolReason) {
        self.failures.count(reason as usize);
    }

    /// Returns the difference to `earlier`, an earlier reading from the same server.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsloop::{Server, Stats, event::Tick};
    ///
    /// let mut last = Stats::default();
    /// let builder = Server::builder()
    ///     .tick_period(Duration::from_secs(10))
    ///     .on(Tick, move |hub, _| {
    ///         let stats = hub.stats();
    ///         let rates = stats.since(&last).rates();
    ///         log::info!("{:.0} messages per second", rates.messages_in);
    ///         last = stats;
    ///     });
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        since.time = self.time.saturating_sub(earlier.time);
        since.refusals = self.refusals.since(&earlier.refusals);
        since.tls_failures = self.tls_failures.since(&earlier.tls_failures);
        since.failures = self.failures.since(&earlier.failures);
        since.combine(earlier, u64::saturating_sub);
        since
    }

    /// Combines each counter with that of `other`.
    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        macro_rules! each {
            ($($counter:ident)*) => {
                $(self.$counter = with(self.$counter, other.$counter);)*
            };
        }
        each! {
            accepted
            requests
            messages_in
            messages_out
            bytes_in
            bytes_out
            accept_pauses
            accept_failures
            half_open_pauses
            budget_pauses
            over_address_connections
            over_address_half_open
            over_handshake_rate
            over_message_rate
            over_byte_rate
            over_ping_rate
            timed_out_messages
            budget_refusals
            budget_closes
            polls
            missed_ticks
            refused_messages
            dropped_messages
            slow_closes
            dropped_pongs
            lost
            lost_bytes
            ended_in_order
            cut
            cut_bytes
            probes
            subscribes
            unsubscribes
            over_subscriptions
            over_topics
            over_topic_size
            publishes
            publish_receivers
            publish_queued
            publish_conflated
            publish_dropped
            publish_refused
            evicted
            recoveries
            recovery_gaps
            backplane_sent
            backplane_received
            backplane_lost
            inbox_dropped
        }
    }

    /// Returns the counts per second over their own [`time`](Self::time).
    pub fn rates(&self) -> Rates {
        self.normalized(self.time)
    }

    /// Returns the counts per second over `time`; zero if `time` is zero.
    pub fn normalized(&self, time: Duration) -> Rates {
        Rates {
            accepted: per_second(self.accepted, time),
            messages_in: per_second(self.messages_in, time),
            messages_out: per_second(self.messages_out, time),
            bytes_in: per_second(self.bytes_in, time),
            bytes_out: per_second(self.bytes_out, time),
        }
    }
}

/// Adds the counters of several loops; the time is the longest.
impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.time = self.time.max(other.time);
        self.refusals = self.refusals.plus(&other.refusals);
        self.tls_failures = self.tls_failures.plus(&other.tls_failures);
        self.failures = self.failures.plus(&other.failures);
        self.combine(&other, u64::saturating_add);
    }
}

/// Adds the counters of several loops; the time is the longest.
impl Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, stats| {
            sum += stats;
            sum
        })
    }
}

/// Counts per second.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Connections accepted per second.
    pub accepted: f64,
    /// Messages delivered per second.
    pub messages_in: f64,
    /// Messages sent per second.
    pub messages_out: f64,
    /// Bytes received per second.
    pub bytes_in: f64,
    /// Bytes sent per second.
    pub bytes_out: f64,
}

/// The counters of one connection, enabled by
/// [`Builder::connection_stats`](crate::Builder::connection_stats).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConnectionStats {
    /// The age of the connection: from when it was accepted to the start of the loop's turn in
    /// which this was read.
    pub age: Duration,
    /// Messages delivered, including the one whose handler is running.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Bytes received, without the overhead of TLS: the request, and frames with their headers.
    pub bytes_in: u64,
    /// Bytes sent, without the overhead of TLS: the response, and frames with their headers. They
    /// count when they are queued.
    pub bytes_out: u64,
}

impl ConnectionStats {
    /// Returns the difference to `earlier`, an earlier reading from the same connection.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsloop::{ConnectionStats, Server, event::Ready};
    ///
    /// let builder = Server::builder()
    ///     .connection_stats(true)
    ///     .on(Ready, |conn, ()| {
    ///         let mut last = ConnectionStats::default();
    ///         conn.set_interval(Duration::from_secs(10), move |conn, _| {
    ///             let stats = conn.stats().unwrap_or_default();
    ///             if stats.since(&last).rates().messages_in > 100.0 {
    ///                 log::warn!("{} is in a hurry", conn.id());
    ///             }
    ///             last = stats;
    ///         });
    ///     });
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            age: self.age.saturating_sub(earlier.age),
            messages_in: self.messages_in.saturating_sub(earlier.messages_in),
            messages_out: self.messages_out.saturating_sub(earlier.messages_out),
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
        }
    }

    /// Returns the counts per second over the [`age`](Self::age); `accepted` is zero.
    pub fn rates(&self) -> Rates {
        self.normalized(self.age)
    }

    /// Returns the counts per second over `time`; zero if `time` is zero.
    pub fn normalized(&self, time: Duration) -> Rates {
        Rates {
            accepted: 0.0,
            messages_in: per_second(self.messages_in, time),
            messages_out: per_second(self.messages_out, time),
            bytes_in: per_second(self.bytes_in, time),
            bytes_out: per_second(self.bytes_out, time),
        }
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_over_the_time_between_two_readings() {
        let earlier = Stats {
            time: Duration::from_secs(10),
            accepted: 5,
            messages_in: 100,
            bytes_out: 1000,
            ..Stats::default()
        };
        let later = Stats {
            time: Duration::from_millis(12_500),
            accepted: 10,
            messages_in: 101,
            bytes_out: 1000,
            polls: 7,
            ..Stats::default()
        };
        let since = later.since(&earlier);
        let expected = Stats {
            time: Duration::from_millis(2_500),
            accepted: 5,
            messages_in: 1,
            polls: 7,
            ..Stats::default()
        };
        assert_eq!(since, expected);
        let rates = Rates {
            accepted: 2.0,
            messages_in: 0.4,
            ..Rates::default()
        };
        assert_eq!(since.rates(), rates);
        assert_eq!(since.normalized(Duration::from_secs(5)).accepted, 1.0);
        assert_eq!(since.normalized(Duration::ZERO), Rates::default());
        // In the wrong order the result is zero.
        assert_eq!(earlier.since(&later).rates(), Rates::default());
    }

    #[test]
    fn every_counter_is_counted_since_then() {
        // Lists all fields by name: a new one does not compile until it is added here, and then
        // `combine` has to cover it.
        let all = |n: u64| Stats {
            time: Duration::from_secs(n),
            accepted: n,
            requests: n,
            messages_in: n,
            messages_out: n,
            bytes_in: n,
            bytes_out: n,
            accept_pauses: n,
            accept_failures: n,
            half_open_pauses: n,
            budget_pauses: n,
            over_address_connections: n,
            over_address_half_open: n,
            over_handshake_rate: n,
            over_message_rate: n,
            over_byte_rate: n,
            over_ping_rate: n,
            timed_out_messages: n,
            budget_refusals: n,
            budget_closes: n,
            polls: n,
            missed_ticks: n,
            refused_messages: n,
            dropped_messages: n,
            slow_closes: n,
            dropped_pongs: n,
            lost: n,
            lost_bytes: n,
            ended_in_order: n,
            cut: n,
            cut_bytes: n,
            probes: n,
            subscribes: n,
            unsubscribes: n,
            over_subscriptions: n,
            over_topics: n,
            over_topic_size: n,
            publishes: n,
            publish_receivers: n,
            publish_queued: n,
            publish_conflated: n,
            publish_dropped: n,
            publish_refused: n,
            evicted: n,
            recoveries: n,
            recovery_gaps: n,
            backplane_sent: n,
            backplane_received: n,
            backplane_lost: n,
            inbox_dropped: n,
            refusals: Counts::all(n),
            tls_failures: Counts::all(n),
            failures: Counts::all(n),
        };
        assert_eq!(all(7).since(&all(5)), all(2));
        let sum: Stats = [all(2), all(3)].into_iter().sum();
        let time = Duration::from_secs(5);
        assert_eq!(Stats { time, ..sum }, all(5));
        assert_eq!(sum.time, Duration::from_secs(3));
    }

    #[test]
    fn a_connection_has_rates_too() {
        let all = |n: u64| ConnectionStats {
            age: Duration::from_secs(n),
            messages_in: 3 * n,
            messages_out: 4 * n,
            bytes_in: 5 * n,
            bytes_out: 6 * n,
        };
        let since = all(7).since(&all(5));
        assert_eq!(since, all(2));
        let rates = Rates {
            accepted: 0.0,
            messages_in: 3.0,
            messages_out: 4.0,
            bytes_in: 5.0,
            bytes_out: 6.0,
        };
        assert_eq!(since.rates(), rates);
        assert_eq!(since.normalized(Duration::from_secs(4)).messages_in, 1.5);
        assert_eq!(since.normalized(Duration::ZERO), Rates::default());
        assert_eq!(all(5).since(&all(7)).rates(), Rates::default());
    }
}
