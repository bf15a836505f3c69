//! The builder: all settings of a server.

// The documentation lists the methods in the order of these groups.
mod essentials;
mod settings;

mod limits;

mod http;
mod proxies;
mod sockets;
mod topics;

use std::fmt;

use mio::Interest;

use self::proxies::Proxies;
use super::place::Place;
use crate::backplane::Backplane;
use crate::config::Config;
use crate::connection::Watcher;
use crate::connection::event::Handlers;
use crate::error::BuildError;

/// The settings of a server: its listeners, its limits and its handlers.
///
/// Every setting has a safe default. [`build`](Self::build) checks the settings together.
///
/// # Limits
///
/// `usize::MAX` means no limit, and a zero duration switches a deadline off where the table says
/// so.
///
/// | limit | unit | default | beyond it |
/// |---|---|---|---|
/// | **a connection** | | | |
/// | [`max_recv_size`](Self::max_recv_size) | bytes of a message | 65,536 | closed with 1009 |
/// | [`max_send_size`](Self::max_send_size) | bytes of a message | 65,536 | sending fails: [`TooBig`](crate::SendError::TooBig) |
/// | [`max_fragments`](Self::max_fragments) | frames of a message | 131,072 | closed with 1008 |
/// | [`max_backlog`](Self::max_backlog) | bytes queued | 1 MiB | [`slow_consumer`](Self::slow_consumer): sending fails, close with 1008, or drop |
/// | [`max_handshake_size`](Self::max_handshake_size) | bytes of a request head | 16,384 | 431 |
/// | [`max_headers`](Self::max_headers) | header lines | 100 | 431 |
/// | [`max_body_size`](Self::max_body_size) | bytes of a plain request | 65,536 | 413 |
/// | [`max_requests`](Self::max_requests) | plain requests | 1,000 | closed after the last response |
/// | [`turn_bytes`](Self::turn_bytes) | bytes read in a turn | 1 MiB | other connections are served first |
/// | [`turn_messages`](Self::turn_messages) | messages in a turn | 1,024 | other connections are served first |
/// | [`max_subscriptions`](Self::max_subscriptions) | topics | 64 | subscribing fails: [`TooManySubscriptions`](crate::SendError::TooManySubscriptions) |
/// | **rates of a connection** | | | |
/// | [`max_message_rate`](Self::max_message_rate) | messages | none | [`over_rate`](Self::over_rate): close with 1008, or delay |
/// | [`max_byte_rate`](Self::max_byte_rate) | bytes | none | [`over_rate`](Self::over_rate) |
/// | [`max_ping_rate`](Self::max_ping_rate) | pings and pongs | none | [`over_rate`](Self::over_rate) |
/// | **deadlines** | | | |
/// | [`handshake_timeout`](Self::handshake_timeout) | from accept, or for a plain request | 10 s | 408, or cut |
/// | [`message_timeout`](Self::message_timeout) | beyond its time at [`min_rate`](Self::min_rate) | 60 s; zero: off | closed with 1008 |
/// | [`min_rate`](Self::min_rate) | bytes per second | 500 | slower peers get no extension of deadlines |
/// | [`silence_max`](Self::silence_max) | silence of the peer | 20 s; zero: off | a ping |
/// | [`idle_timeout`](Self::idle_timeout) | silence of the peer | twice `silence_max`; zero: off | closed with 1001 |
/// | [`close_timeout`](Self::close_timeout) | for the peer's Close, then its FIN | 5 s | cut |
/// | [`max_lifetime`](Self::max_lifetime) | age | none | closed with 1001 |
/// | [`keep_alive_timeout`](Self::keep_alive_timeout) | between plain requests | 15 s; zero: one request | closed |
/// | **an address** | | | |
/// | [`max_connections_per_address`](Self::max_connections_per_address) | connections | none | 429, or cut |
/// | [`max_half_open_per_address`](Self::max_half_open_per_address) | half-open connections | none | 429, or cut |
/// | [`max_handshake_rate`](Self::max_handshake_rate) | new connections | none | 429, or cut |
/// | **the server** | | | |
/// | [`max_connections`](Self::max_connections) | connections | none | accepting pauses |
/// | [`max_half_open`](Self::max_half_open) | half-open connections | none | accepting pauses |
/// | [`memory_budget`](Self::memory_budget) | bytes of all connections and topics | none | accepting pauses, sending fails, histories of topics are dropped, connections are closed |
/// | [`max_topics`](Self::max_topics) | topics | 100,000 | subscribing fails: [`TooManyTopics`](crate::SendError::TooManyTopics) |
/// | [`max_topic_size`](Self::max_topic_size) | bytes of a topic's name | 200 | subscribing fails: [`TopicNameTooLong`](crate::SendError::TopicNameTooLong) |
/// | [`max_inbox`](Self::max_inbox) | bytes from other loops and processes | 16 MiB | the oldest are dropped: [`Gap`](crate::event::Gap) |
/// | [`listen_backlog`](Self::listen_backlog) | clients in the accept queue | 4,096 | the kernel refuses clients |
/// | [`turn_accepts`](Self::turn_accepts) | accepted in a turn, per listener | 64 | accepted in the next turn |
#[derive(Default)]
#[must_use]
pub struct Builder {
    config: Config,
    handlers: Handlers,
    places: Vec<Place>,
    pub(super) watches: Vec<(Interest, Box<dyn Watcher>)>,
    /// The entries of the list of origins, if there is a list.
    origins: Option<Vec<String>>,
    /// The entries of the list of hosts, if there is a list.
    hosts: Option<Vec<String>>,
    /// The trusted proxies, and the data that is taken from their headers.
    proxies: Proxies,
    headless: bool,
    backplanes: Vec<Box<dyn Backplane>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Checks the settings together.
fn check(config: &Config) -> Result<(), BuildError> {
    #[cfg(feature = "deflate")]
    if let Some(fault) = config.deflate.as_ref().and_then(|deflate| deflate.fault()) {
        return Err(BuildError::Conflict(fault));
    }
    let wrong = if config.read_buffer < READ_BUFFER_MIN {
        "read_buffer is less than 32,768 bytes"
    } else if config.turn_bytes == 0 || config.turn_messages == 0 || config.turn_accepts == 0 {
        "turn_bytes, turn_messages or turn_accepts is 0: no connection would ever be served"
    } else if config.max_connections == 0 {
        "max_connections is 0: no connection would ever be accepted"
    } else if config.max_half_open == 0
        || config.addresses.connections == 0
        || config.addresses.half_open == 0
    {
        "max_half_open, max_connections_per_address or max_half_open_per_address is 0: no \
         connection would ever be accepted"
    } else if !config.rates.all().all(|rate| rate.is_sound())
        || config
            .addresses
            .handshakes
            .is_some_and(|rate| !rate.is_sound())
    {
        "the count, the burst or the period of a rate is 0"
    } else if config.memory_budget < MEMORY_BUDGET_MIN {
        "memory_budget is less than 65,536 bytes"
    } else if config.min_rate == 0 {
        "min_rate is 0: slow peers would never time out"
    } else if config.limits.max_fragments == 0 {
        "max_fragments is 0: no message could be received"
    } else if config.handshake_timeout.is_zero() || config.close_timeout.is_zero() {
        "handshake_timeout or close_timeout is 0: no peer could answer in time"
    } else if config
        .health_check
        .as_deref()
        .is_some_and(|path| !path.starts_with('/'))
    {
        "the path of health_check does not begin with a slash"
    } else if config.max_requests == 0 {
        "max_requests is 0: no request would ever be answered"
    } else if !config
        .subprotocols
        .iter()
        .all(|name| crate::tokens::is_token(name.as_bytes()))
    {
        "a subprotocol's name is not a token (RFC 6455, 4.1)"
    } else {
        return Ok(());
    };
    Err(BuildError::Conflict(wrong))
}

/// A TLS record, and the data of the next one that rustls holds, fit into this.
const READ_BUFFER_MIN: usize = 32 << 10;

/// Three quarters of this hold one or two connections.
const MEMORY_BUDGET_MIN: usize = 64 << 10;
