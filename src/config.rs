//! All limits, deadlines and defaults, with their units.

use std::time::Duration;

use crate::handshake::{Hosts, Origins};
use crate::limits::{Limits, SlowConsumer};
use crate::proxy::Forwarding;
use crate::topics::{Topic, TopicLimits};

/// A rate limit: a count per period, and a burst that may come at once.
///
/// ```
/// use std::time::Duration;
/// use wsloop::Rate;
///
/// let messages = Rate::per_second(20); // 20 at once, and then one every 50 ms
/// let bytes = Rate::per_second(64 << 10).burst(1 << 20);
/// let handshakes = Rate::new(10, Duration::from_secs(60));
/// # let _ = (messages, bytes, handshakes);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Rate {
    count: u64,
    period: Duration,
    burst: u64,
}

impl Rate {
    /// Allows `count` events in each `period`, even all at once.
    pub const fn new(count: u64, period: Duration) -> Self {
        Self {
            count,
            period,
            burst: count,
        }
    }

    /// Allows `count` events in each second, even all at once.
    pub const fn per_second(count: u64) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// Allows `count` events at once, after a time with fewer events than the rate allows.
    pub const fn burst(self, count: u64) -> Self {
        Self {
            burst: count,
            ..self
        }
    }

    /// Returns whether the rate allows any event, and has a period.
    pub(crate) fn is_sound(&self) -> bool {
        self.count > 0 && self.burst > 0 && !self.period.is_zero()
    }

    /// Returns the time in which `count` events are allowed.
    pub(crate) fn time_of(&self, count: u64) -> Duration {
        let nanos = self.period.as_nanos().saturating_mul(count.into()) / u128::from(self.count);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the time in which the events of one burst are allowed.
    pub(crate) fn time_of_burst(&self) -> Duration {
        self.time_of(self.burst)
    }
}

/// The policy ([`Builder::over_rate`](crate::Builder::over_rate)) for a connection that exceeds
/// [`max_message_rate`](crate::Builder::max_message_rate), `max_byte_rate` or `max_ping_rate`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OverRate {
    /// The connection is closed with 1008.
    #[default]
    Close,
    /// The connection is not read until the rate allows what it has sent, for at least 16 ms. TCP
    /// holds back the rest, and nothing is lost. Until then, the server does not notice if the peer
    /// disconnects.
    Delay,
}

/// How much one connection may send per time; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReceiveRates {
    pub(crate) messages: Option<Rate>,
    pub(crate) bytes: Option<Rate>,
    /// The rate of pings and pongs together.
    pub(crate) pings: Option<Rate>,
    pub(crate) over: OverRate,
}

impl ReceiveRates {
    /// Returns the rates that are set.
    pub(crate) fn all(&self) -> impl Iterator<Item = Rate> {
        [self.messages, self.bytes, self.pings]
            .into_iter()
            .flatten()
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.all().next().is_some()
    }
}

/// Limits for all connections from one address together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressLimits {
    /// Most open connections.
    pub(crate) connections: usize,
    /// Most connections whose opening handshake is not complete.
    pub(crate) half_open: usize,
    /// How often the address may connect.
    pub(crate) handshakes: Option<Rate>,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connections: usize::MAX,
            half_open: usize::MAX,
            handshakes: None,
        }
    }
}

impl AddressLimits {
    pub(crate) fn is_limited(&self) -> bool {
        self.connections < usize::MAX || self.half_open < usize::MAX || self.handshakes.is_some()
    }
}

/// The server's deadlines, counts and policies; set through [`Builder`](crate::Builder).
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) limits: Limits,
    pub(crate) slow_consumer: SlowConsumer,
    /// `Drain` is delivered when the backlog falls to this many bytes, after the kernel did not
    /// accept everything.
    pub(crate) drain_at: usize,
    /// Accepting pauses at this many connections; the kernel's queue holds the rest.
    pub(crate) max_connections: usize,
    /// Accepting pauses at this many connections whose opening handshake is not complete.
    pub(crate) max_half_open: usize,
    /// Limits for all connections from one address together.
    pub(crate) addresses: AddressLimits,
    /// How much one connection may send per time.
    pub(crate) rates: ReceiveRates,
    /// Most bytes that all connections may hold together; `usize::MAX` for no limit.
    pub(crate) memory_budget: usize,
    /// How long memory may be short before connections with unsent or unfinished messages are
    /// closed; those that make no progress are closed after a tenth of it.
    pub(crate) memory_relief: Duration,
    /// How long the opening handshake may take, from the accepted socket on and including TLS;
    /// progress does not extend it.
    pub(crate) handshake_timeout: Duration,
    /// How long a message may take beyond the time for its bytes at `min_rate`. Zero is off.
    pub(crate) message_timeout: Duration,
    /// Lowest rate, in bytes per second, at which a peer that sends or receives extends a deadline.
    pub(crate) min_rate: u64,
    /// The path of the health check, if there is one.
    pub(crate) health_check: Option<Box<str>>,
    /// How long health checks fail before a wind-down closes the listeners.
    pub(crate) lame_duck: Duration,
    /// How long a connection may wait for its next plain request. Zero allows one request each.
    pub(crate) keep_alive_timeout: Duration,
    /// Most plain requests that are answered on one connection.
    pub(crate) max_requests: usize,
    /// The silence after which a peer is pinged. Zero is off.
    pub(crate) silence_max: Duration,
    /// The further silence after which a peer is pinged again. `None` is half of `silence_max`.
    pub(crate) silence_checkinterval: Option<Duration>,
    /// The silence after which a peer is closed with 1001. `None` is twice `silence_max`; zero is
    /// off.
    pub(crate) idle_timeout: Option<Duration>,
    /// How long the closing handshake may take, and after it the peer's end of the connection.
    pub(crate) close_timeout: Duration,
    /// The age at which a connection is closed with 1001. `None` is off.
    pub(crate) max_lifetime: Option<Duration>,
    /// Time between two `Tick` events. Zero is off.
    pub(crate) tick_period: Duration,
    /// Most bytes read from one connection in a turn before other connections are served.
    pub(crate) turn_bytes: usize,
    /// Most messages delivered from one connection in a turn before other connections are served.
    pub(crate) turn_messages: usize,
    /// Most connections accepted from one listener in a turn.
    pub(crate) turn_accepts: usize,
    /// How long the loop spins after each event before it sleeps. Zero is off.
    pub(crate) busy_poll: Duration,
    /// The size of the one read buffer that all connections share, in bytes.
    pub(crate) read_buffer: usize,
    /// Length of the kernel's queue of connections not yet accepted.
    pub(crate) backlog: i32,
    /// Whether other sockets may listen on the same TCP addresses (SO_REUSEPORT).
    pub(crate) reuse_port: bool,
    /// Whether messages and bytes are counted for each connection.
    pub(crate) connection_stats: bool,
    /// Whether requests with their headers are kept after `Ready`.
    pub(crate) keep_requests: bool,
    /// Whether Nagle's algorithm is off (TCP_NODELAY).
    pub(crate) nodelay: bool,
    /// permessage-deflate, if it is on.
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<crate::protocol::deflate::DeflateConfig>,
    /// The time without traffic after which the kernel probes the peer (SO_KEEPALIVE). Zero is off.
    pub(crate) tcp_keepalive: Duration,
    /// Sizes of the kernel's buffers for a connection.
    pub(crate) buffers: Buffers,
    /// The origins that may connect; `None` for all.
    pub(crate) origins: Option<Origins>,
    /// The hosts that requests may name; `None` for all.
    pub(crate) hosts: Option<Hosts>,
    /// How to find clients behind proxies; `None` to ignore forwarding headers.
    pub(crate) forwarding: Option<Box<Forwarding>>,
    /// Whether the 101 is sent before the data that `Ready` sends.
    pub(crate) separate_switch: bool,
    /// Whether the `Handshake` handler also receives invalid requests.
    pub(crate) bad_handshakes: bool,
    /// The subprotocols that the server supports, in order of preference.
    pub(crate) subprotocols: Vec<String>,
    /// The settings of topics, by prefix.
    pub(crate) topics: Vec<(Box<str>, Topic)>,
    pub(crate) topic_limits: TopicLimits,
    /// Bytes of messages from backplanes that may wait for the loop.
    pub(crate) max_inbox: usize,
    /// How much unsent data the kernel takes for a connection, in bytes (TCP_NOTSENT_LOWAT). Zero
    /// keeps the system's default.
    pub(crate) notsent_lowat: u32,
    /// How long sent data may stay unacknowledged (TCP_USER_TIMEOUT). Zero is the system's default.
    pub(crate) tcp_user_timeout: Duration,
}

/// The sizes of a socket's buffers in the kernel, in bytes. Zero keeps the system's default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers {
    /// SO_RCVBUF.
    pub(crate) recv: usize,
    /// SO_SNDBUF.
    pub(crate) send: usize,
}

impl Config {
    /// Returns the time between two pings of a silent peer, at least a millisecond.
    pub(crate) fn ping_again(&self) -> Duration {
        self.silence_checkinterval
            .unwrap_or(self.silence_max / 2)
            .max(Duration::from_millis(1))
    }

    /// Moves the start of a deadline forward for `bytes` that were transferred since: by the time
    /// that they take at `min_rate`, and at most to `now`. So a peer that keeps the rate is waited
    /// for, a trickle uses up its timeout in the end, and a burst gains at most one timeout.
    pub(crate) fn moved_on(&self, begun: u64, bytes: u64, now: u64) -> u64 {
        let millis = u128::from(bytes) * 1000 / u128::from(self.min_rate.max(1));
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        begun.saturating_add(millis).min(now).max(begun)
    }

    /// Returns the silence after which a peer is closed, if that is enabled.
    pub(crate) fn idle_after(&self) -> Option<Duration> {
        let idle = self
            .idle_timeout
            .unwrap_or_else(|| self.silence_max.saturating_mul(2));
        (!idle.is_zero()).then_some(idle)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            slow_consumer: SlowConsumer::default(),
            drain_at: 0,
            max_connections: usize::MAX,
            max_half_open: usize::MAX,
            addresses: AddressLimits::default(),
            rates: ReceiveRates::default(),
            memory_budget: usize::MAX,
            memory_relief: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(60),
            min_rate: 500,
            health_check: None,
            lame_duck: Duration::ZERO,
            keep_alive_timeout: Duration::from_secs(15),
            max_requests: 1000,
            silence_max: Duration::from_secs(20),
            silence_checkinterval: None,
            idle_timeout: None,
            close_timeout: Duration::from_secs(5),
            max_lifetime: None,
            tick_period: Duration::ZERO,
            turn_bytes: 1 << 20,
            turn_messages: 1 << 10,
            turn_accepts: 64,
            busy_poll: Duration::ZERO,
            read_buffer: 512 << 10,
            backlog: 4096,
            reuse_port: false,
            connection_stats: false,
            keep_requests: false,
            nodelay: true,
            #[cfg(feature = "deflate")]
            deflate: None,
            tcp_keepalive: Duration::ZERO,
            buffers: Buffers::default(),
            origins: None,
            hosts: None,
            forwarding: None,
            separate_switch: false,
            bad_handshakes: false,
            subprotocols: Vec::new(),
            topics: Vec::new(),
            topic_limits: TopicLimits::default(),
            max_inbox: 16 << 20,
            notsent_lowat: 0,
            tcp_user_timeout: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_times() {
        let rate = Rate::new(10, Duration::from_secs(5)).burst(3);
        assert_eq!(rate.time_of(1), Duration::from_millis(500));
        assert_eq!(rate.time_of_burst(), Duration::from_millis(1500));
        let fast = Rate::per_second(3_000_000_000);
        assert_eq!(fast.time_of(9), Duration::from_nanos(3));
        assert_eq!(fast.time_of(u64::MAX), Duration::from_nanos(u64::MAX / 3));
        let never = Rate::new(1, Duration::MAX).time_of(u64::MAX);
        assert_eq!(never, Duration::from_nanos(u64::MAX));
        assert!(rate.is_sound() && !rate.burst(0).is_sound());
        assert!(!Rate::per_second(0).is_sound() && !Rate::new(1, Duration::ZERO).is_sound());
    }

    #[test]
    fn idle_follows_silence_unless_set() {
        let mut config = Config::default();
        assert_eq!(config.idle_after(), Some(Duration::from_secs(40)));
        config.silence_max = Duration::ZERO;
        assert_eq!(config.idle_after(), None);
        config.idle_timeout = Some(Duration::from_secs(3));
        assert_eq!(config.idle_after(), Some(Duration::from_secs(3)));
        config.idle_timeout = Some(Duration::ZERO);
        assert_eq!(config.idle_after(), None);
    }
}
