//! The settings of a server, drawn from the seed. Most are small, so that runs reach limits and
//! deadlines.

use std::time::Duration;

use super::network::Faults;
use super::random::Random;
use super::topics;
use crate::config::{Config, OverRate, Rate, ReceiveRates};
use crate::limits::Limits;
use crate::limits::SlowConsumer;
#[cfg(feature = "deflate")]
use crate::protocol::deflate::DeflateConfig;

/// The settings of a run.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) faults: Faults,
    pub(super) clients: usize,
    /// The kernel reports what clients have acknowledged.
    pub(super) tells: bool,
    /// How often handlers perform an action besides echoing, in a thousand events.
    pub(super) wild: usize,
    /// How often such an action is an error or a panic, in a thousand.
    pub(super) failing: usize,
    /// Handlers may stop the server, wind it down, or stop listening.
    pub(super) stops: bool,
    /// Handlers subscribe and publish.
    pub(super) topics: bool,
    /// Messages are echoed.
    pub(super) echoes: bool,
    /// There are handlers for pieces, and for plain requests.
    pub(super) pieces: bool,
    pub(super) plain: bool,
    /// How often opening handshakes are deferred, or refused, in a thousand.
    pub(super) defers: usize,
    pub(super) refuses: usize,
    /// How often descriptors run out when a client connects, in a thousand.
    pub(super) starves: usize,
}

impl Settings {
    pub(super) fn any(random: &mut Random) -> Self {
        let faults = match random.below(4) {
            0 => Faults::default(),
            1 => Faults {
                interrupted: 30,
                short_read: 100,
                short_write: 50,
                spurious: 5,
                ..Faults::default()
            },
            _ => Faults {
                interrupted: random.pick(&[0, 20, 200]),
                short_read: random.pick(&[0, 100, 500]),
                short_write: random.pick(&[0, 50, 400]),
                spurious: random.pick(&[0, 10, 100]),
                stale: random.pick(&[0, 50, 300]),
                full_list: random.pick(&[0, 0, 0, 100]),
                accept: random.pick(&[0, 0, 100]),
                register: random.pick(&[0, 0, 0, 50]),
                stall: random.pick(&[0, 0, 10]),
            },
        };
        Self {
            config: config(random),
            faults,
            clients: random.pick(&[1, 2, 3, 4, 6, 8]),
            tells: random.chance(500),
            wild: random.pick(&[0, 0, 60, 200, 500]),
            failing: random.pick(&[0, 0, 30, 150]),
            stops: random.chance(200),
            topics: random.chance(500),
            echoes: random.chance(850),
            pieces: random.chance(150),
            plain: random.chance(400),
            defers: random.pick(&[0, 0, 0, 200]),
            refuses: random.pick(&[0, 0, 60]),
            starves: random.pick(&[0, 0, 0, 200]),
        }
    }
}

fn config(random: &mut Random) -> Config {
    let limits = Limits {
        max_recv_size: random.pick(&[200, 1000, 1000, 5000, 5000, 20_000, 20_000, 150_000]),
        max_send_size: random.pick(&[1000, 20_000, 100_000]),
        max_fragments: random.pick(&[5, 100, 1000]),
        max_backlog: random.pick(&[500, 3000, 10_000, 100_000]),
        max_body_size: 1000,
        ..Limits::default()
    };
    let silence_max = random.pick(&[0, 30, 150, 400]);
    let ms = Duration::from_millis;
    Config {
        limits,
        slow_consumer: random.pick(&[
            SlowConsumer::Error,
            SlowConsumer::Close,
            SlowConsumer::DropNewest,
            SlowConsumer::DropOldest,
            SlowConsumer::Conflate,
        ]),
        drain_at: random.pick(&[0, 0, 300]),
        max_connections: random.pick(&[1, 2, 4, usize::MAX, usize::MAX]),
        handshake_timeout: random.millis(20..=500),
        keep_alive_timeout: ms(random.pick(&[0, 50, 300])),
        max_requests: random.pick(&[1, 3, 1000]),
        silence_max: ms(silence_max),
        silence_checkinterval: random.pick(&[None, None, Some(ms(20))]),
        idle_timeout: random.pick(&[None, None, Some(ms(0)), Some(ms(100)), Some(ms(700))]),
        close_timeout: random.millis(20..=300),
        max_lifetime: random.pick(&[None, None, None, Some(ms(300))]),
        tick_period: ms(random.pick(&[0, 0, 7, 100])),
        turn_bytes: random.pick(&[10, 300, 1 << 20]),
        turn_messages: random.pick(&[1, 2, 5, 1 << 10]),
        turn_accepts: random.pick(&[1, 2, 64]),
        // Smaller than the builder allows, so that reads often fill it.
        read_buffer: random.pick(&[256, 1000, 4096]),
        backlog: 64,
        connection_stats: random.chance(200),
        keep_requests: random.chance(100),
        #[cfg(feature = "deflate")]
        deflate: deflate(random),
        bad_handshakes: random.chance(200),
        memory_budget: random.pick(&[usize::MAX, usize::MAX, usize::MAX, 20_000, 80_000]),
        memory_relief: random.millis(50..=400),
        max_half_open: random.pick(&[usize::MAX, usize::MAX, usize::MAX, 1, 3]),
        min_rate: random.pick(&[500, 5_000, 100_000, 10_000_000]),
        message_timeout: ms(random.pick(&[0, 60_000, 60_000, 30, 200])),
        rates: rates(random),
        topics: topics::settings(),
        topic_limits: topics::limits(random),
        ..Config::default()
    }
}

fn rates(random: &mut Random) -> ReceiveRates {
    let mut rates = ReceiveRates {
        over: random.pick(&[OverRate::Close, OverRate::Delay]),
        ..ReceiveRates::default()
    };
    if random.chance(750) {
        return rates;
    }
    if random.chance(500) {
        rates.messages = Some(Rate::per_second(100).burst(5));
    }
    if random.chance(500) {
        rates.bytes = Some(Rate::per_second(500_000).burst(3000));
    }
    if random.chance(300) {
        rates.pings = Some(Rate::per_second(20).burst(3));
    }
    rates
}

#[cfg(feature = "deflate")]
fn deflate(random: &mut Random) -> Option<DeflateConfig> {
    // Creating compressors takes time.
    if !random.chance(150) {
        return None;
    }
    let config = match random.chance(700) {
        true => DeflateConfig::shared(),
        false => DeflateConfig::dedicated().server_max_window_bits(9),
    };
    Some(config.threshold(20).compress_binary(true).max_ratio(1000))
}
