//! The builder: all settings of a server.

use std::fmt;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use mio::Interest;

use self::proxies::Proxies;
use super::Server;
use super::place::Place;
use crate::config::{Config, SlowConsumer};
use crate::connection::event::{Event, Handlers, Outcome};
use crate::connection::{Line, Matter, Watcher};
use crate::error::{self, BuildError};
use crate::handshake::{Hosts, Origins};

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
/// | [`memory_budget`](Self::memory_budget) | bytes of all connections | none | accepting pauses, sending fails, connections are closed |
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
}

impl Builder {
    /// Listens on a TCP address, IPv4 or IPv6: `"127.0.0.1:8080"`, `"[::1]:8080"`, `("0.0.0.0",
    /// 8080)`, or a [`SocketAddr`](std::net::SocketAddr). With port 0 the kernel chooses a port.
    /// Can be called several times.
    ///
    /// A name such as `"localhost:8080"`, or a list of addresses, is bound at each address that is
    /// available. The other addresses are logged at `warn` (target `wsloop::server`) with the
    /// reason, and [`start_listening`](crate::Server::start_listening) tries them again.
    /// [`build`](Self::build) fails only if no address can be bound; the error lists all. Port 0
    /// becomes the same port for all addresses, if one is free at each; otherwise that is logged
    /// and each has its own. If a list has both `[::]` and `0.0.0.0`, the first is for IPv6 only.
    #[doc(alias = "port")]
    pub fn listen(self, addr: impl ToSocketAddrs + fmt::Debug) -> Self {
        self.listener(Place::tcp(addr))
    }

    /// Listens on a TCP address with TLS.
    ///
    /// [`config_from_pem`](crate::config_from_pem) creates a configuration from files, and
    /// [`Certificates`](crate::Certificates) creates one whose certificates can be replaced at run
    /// time.
    #[cfg(feature = "tls")]
    pub fn listen_tls(
        self,
        addr: impl ToSocketAddrs + fmt::Debug,
        tls: std::sync::Arc<rustls::ServerConfig>,
    ) -> Self {
        self.listener(Place::tcp(addr).tls(tls))
    }

    /// Listens on a Unix socket. A socket file that a dead server left behind is replaced; the file
    /// is removed when the listener closes.
    pub fn listen_unix(self, path: impl AsRef<Path>) -> Self {
        self.listener(Place::unix(path))
    }

    /// Listens on all sockets that the process has inherited, for instance from systemd, and that
    /// were not taken yet. [`Place::inherited`] takes them by name.
    pub fn listen_inherited(self) -> Self {
        self.listener(Place::all_inherited())
    }

    /// Listens at a [`Place`]; the methods above are short forms of this one. A place is an address
    /// or a path with settings of its own, or a socket that is listening already: a
    /// [`TcpListener`](std::net::TcpListener) or a
    /// [`UnixListener`](std::os::unix::net::UnixListener), which becomes non-blocking.
    pub fn listener(mut self, place: impl Into<Place>) -> Self {
        self.places.push(place.into());
        self
    }

    /// Registers the server's handler for an event; it replaces the previous one. A connection's
    /// own handler for the event takes precedence.
    ///
    /// The event is a type in [`event`](crate::event):
    ///
    /// ```
    /// use wsloop::{Server, event::{Connect, Utf8}};
    ///
    /// let builder = Server::builder().on(Connect, |conn, ()| {
    ///     let mut count = 0;
    ///     conn.on(Utf8, move |conn, text| {
    ///         count += 1;
    ///         conn.send_utf8(&format!("{count}: {text}"))
    ///     });
    /// });
    /// ```
    ///
    /// A misspelt name, a handler with wrong arguments or a wrong return value does not compile:
    ///
    /// ```compile_fail
    /// use wsloop::{Server, event::Utf8};
    /// let builder = Server::builder().on(Utf8, |conn, bytes: &[u8]| ());
    /// ```
    ///
    /// An event of the server cannot be registered on a connection:
    ///
    /// ```compile_fail
    /// use wsloop::{Server, event::{Connect, Tick}};
    /// let builder = Server::builder().on(Connect, |conn, ()| conn.on(Tick, |_, _| ()));
    /// ```
    ///
    /// A connection cannot be kept beyond the call:
    ///
    /// ```compile_fail
    /// use wsloop::{Server, event::Connect};
    /// let mut kept = None;
    /// let builder = Server::builder().on(Connect, move |conn, ()| kept = Some(conn));
    /// ```
    #[doc(alias = "on_connect")]
    #[doc(alias = "on_tick")]
    #[doc(alias = "on_shutdown")]
    #[doc(alias = "on_accept")]
    pub fn on<E: Event, R: Outcome<E::Output>>(
        mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) -> Self {
        self.handlers.set::<E, R>(handler);
        self
    }

    /// Adds a handler for an event, which is called after the registered ones, in the order of
    /// registration. The first refusal counts, and the remaining handlers are not called; an error
    /// ends the sequence in the same way. [`on`](Self::on) replaces all of them.
    ///
    /// ```
    /// use wsloop::{Server, event::{Connect, Utf8}};
    ///
    /// let builder = Server::builder()
    ///     .add_on(Connect, |conn, ()| conn.ip().is_none_or(|ip| ip.is_loopback()))
    ///     .add_on(Connect, |conn, ()| log::info!("{} has connected", conn.id()))
    ///     .add_on(Utf8, |conn, text| log::info!("{}: {text}", conn.id()))
    ///     .add_on(Utf8, |conn, text| conn.send_utf8(text));
    /// ```
    pub fn add_on<E: Event, R: Outcome<E::Output>>(
        mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) -> Self {
        self.handlers.add::<E, R>(handler);
        self
    }

    /// Sets the maximum size of a received message, in bytes, all of its fragments together. A
    /// larger one is failed with 1009 when its frame header arrives. Default 65,536. A peer can
    /// make the server hold this much memory per connection; `usize::MAX` means no limit.
    #[doc(alias = "max_message_size")]
    #[doc(alias = "max_frame_size")]
    #[doc(alias = "max_payload_size")]
    pub fn max_recv_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_recv_size = bytes;
        self
    }

    /// Sets the maximum size of a sent message, in bytes; sending a larger one is an error. Default
    /// 65,536; `usize::MAX` means no limit.
    pub fn max_send_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_send_size = bytes;
        self
    }

    /// Sets the maximum number of frames of a message; a message with more is failed with 1008.
    /// Default 131,072. A fragment costs no memory of its own.
    #[doc(alias = "max_fragments_amount")]
    pub fn max_fragments(mut self, frames: usize) -> Self {
        self.config.limits.max_fragments = frames;
        self
    }

    /// Sets how many bytes may be queued for a connection that reads slowly. Beyond that, the queue
    /// is offered to the kernel once more, and then [`slow_consumer`](Self::slow_consumer) decides.
    /// Default 1 MiB. A message is always accepted while no more than half of this is queued,
    /// whatever its size. A connection with more than half of this in its queue is not read, so
    /// that the replies to a peer that sends without reading never exceed it, if there is one reply
    /// per message.
    pub fn max_backlog(mut self, bytes: usize) -> Self {
        self.config.limits.max_backlog = bytes;
        self
    }

    /// Sets the policy for a message that would exceed `max_backlog`. Default
    /// [`SlowConsumer::Error`].
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.config.slow_consumer = policy;
        self
    }

    /// Sets the backlog size of a connection at which `Drain` comes, in bytes. The event comes once
    /// for each time that the backlog was larger because the kernel did not accept everything, and
    /// then fell to this size or below. Default 0: when all data has been sent, however little was
    /// left over.
    ///
    /// With a size above zero, a sender that waits for `Drain` can keep the connection busy.
    pub fn drain_at(mut self, bytes: usize) -> Self {
        self.config.drain_at = bytes;
        self
    }

    /// Sets the maximum size of a request head, in bytes; a larger one is answered with 431.
    /// Default 16,384.
    #[doc(alias = "max_headers_size")]
    pub fn max_handshake_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_handshake_size = bytes;
        self
    }

    /// Sets the maximum number of header lines in a request; a request with more is answered with
    /// 431. Default 100.
    pub fn max_headers(mut self, lines: usize) -> Self {
        self.config.limits.max_headers = lines;
        self
    }

    /// Sets the maximum number of open connections, in any state. At the limit accepting pauses,
    /// and further clients wait in the accept queue of the kernel. Default none (`usize::MAX`).
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.max_connections = connections;
        self
    }

    /// Sets the time from accept to the end of the opening handshake, TLS included, however slowly
    /// the bytes arrive. When it ends, a request that has begun is answered with 408; other
    /// connections are cut. Each plain request on a connection has this time as well, from its
    /// first byte on; a body that arrives at [`min_rate`](Self::min_rate) or faster has more.
    /// Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// Sets the time of silence after which a peer is pinged; it is pinged again after every
    /// further half of it (see [`silence_checkinterval`](Self::silence_checkinterval)). Default 20
    /// s; zero is off.
    pub fn silence_max(mut self, silence: Duration) -> Self {
        self.config.silence_max = silence;
        self
    }

    /// Sets the time after which a peer that stays silent is pinged again. Default: half of
    /// `silence_max`.
    pub fn silence_checkinterval(mut self, interval: Duration) -> Self {
        self.config.silence_checkinterval = Some(interval);
        self
    }

    /// Sets the time of silence after which a peer is closed with 1001. Default: twice
    /// `silence_max`; zero is off.
    ///
    /// Any bytes from the peer are signs of life, pongs included, and so is progress of the kernel
    /// after its buffer was full. On Linux the server also asks the kernel before it gives up a TCP
    /// peer: a peer that acknowledges data at [`min_rate`](Self::min_rate) or faster stays, since
    /// its pong comes after that data.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = Some(timeout);
        self
    }

    /// Sets the time in which the peer has to answer a Close frame, and again the time in which it
    /// then has to end its side. After that the connection is cut. Default 5 s.
    ///
    /// The time runs from the moment when the kernel has accepted the Close frame. While data is
    /// queued before it, this is the time in which the peer has to receive some of that data, at
    /// [`min_rate`](Self::min_rate) or faster on the whole. The data that is lost when a connection
    /// is cut is reported by [`Disconnected::unsent`](crate::event::Disconnected::unsent),
    /// [`Stats::lost_bytes`](crate::Stats::lost_bytes) and the log.
    #[doc(alias = "shutdown_timeout")]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config.close_timeout = timeout;
        self
    }

    /// Sets the maximum age of a connection, from accept. An older one is closed with 1001, and its
    /// `Disconnect` has [`Cause::Lifetime`](crate::event::Cause::Lifetime); in the opening
    /// handshake it is answered with 503. Default none. Costs about 200 bytes per connection.
    /// [`Connection::set_lifetime`](crate::Connection::set_lifetime) sets the lifetime of one
    /// connection.
    pub fn max_lifetime(mut self, age: Duration) -> Self {
        self.config.max_lifetime = Some(age);
        self
    }

    /// Sets the period of the `Tick` event. Default zero: off. Ticks that are missed because a
    /// handler took longer are counted, not repeated.
    pub fn tick_period(mut self, period: Duration) -> Self {
        self.config.tick_period = period;
        self
    }

    /// Negotiates permessage-deflate (RFC 7692) with clients that offer it. Default: no
    /// compression.
    ///
    /// `max_recv_size` also limits the expanded size of a message, and `max_send_size` the size
    /// before compression. The `Handshake` handler can switch compression off for single
    /// connections.
    #[cfg(feature = "deflate")]
    pub fn deflate(mut self, config: crate::DeflateConfig) -> Self {
        self.config.deflate = Some(config);
        self
    }

    /// Sets the server's subprotocols, the preferred one first. The first one that the client
    /// offers is chosen, unless the `Handshake` handler chooses another. Default none.
    #[doc(alias = "subprotocol")]
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.config.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how many bytes are read from one connection before the others are served. Default 1
    /// MiB. Bytes that were read beyond that are kept for the connection's next turn: at most twice
    /// `read_buffer` bytes, for as long as a client floods. Pieces of compressed messages
    /// ([`Fragment`](crate::event::Fragment)) count with their expanded size.
    pub fn turn_bytes(mut self, bytes: usize) -> Self {
        self.config.turn_bytes = bytes;
        self
    }

    /// Sets how many messages of one connection are delivered before the others are served. Default
    /// 1,024. The messages beyond that are kept, as with [`turn_bytes`](Self::turn_bytes).
    pub fn turn_messages(mut self, messages: usize) -> Self {
        self.config.turn_messages = messages;
        self
    }

    /// Sets how many connections are accepted from one listener in a turn of the loop. Default 64.
    pub fn turn_accepts(mut self, connections: usize) -> Self {
        self.config.turn_accepts = connections;
        self
    }

    /// Sets how long the loop spins before it sleeps. After each event (bytes, a connection, a call
    /// of a [`Handle`](crate::Handle)) it polls the kernel without waiting, again and again, for up
    /// to this time. An event that arrives meanwhile is not delayed by waking the thread, which
    /// costs some microseconds, and far more if the processor has entered a power-saving state.
    /// Default zero: off.
    ///
    /// The time counts from when the event has been handled. Ticks and deadlines are met as without
    /// it, and do not start it. **Spinning uses a core**: all of it if events arrive more often
    /// than this time, otherwise up to this time per event. Choose a little more than the time
    /// between two events that belong together, for instance 50 us, and give the thread a core of
    /// its own: a thread that spins while its client waits for the same core is slower than one
    /// that sleeps. There is no maximum; with an hour the loop practically never sleeps.
    ///
    /// On Linux the TCP listeners, and so the connections that they accept, also get SO_BUSY_POLL
    /// with this number of microseconds (socket(7)). The kernel may then poll a network device for
    /// packets instead of waiting for its interrupt, if the driver supports it; for epoll(7) only
    /// if `net.core.busy_poll` is set too. The option needs CAP_NET_ADMIN; without it the failure
    /// is logged (at level debug) and everything else works.
    ///
    /// For a program that waits in a poll of its own and calls [`Server::turn`] with a timeout of
    /// zero, only the socket option has an effect.
    pub fn busy_poll(mut self, time: Duration) -> Self {
        self.config.busy_poll = time;
        self
    }

    /// Sets the size of the read buffer, in bytes; all connections share one. Default 524,288; at
    /// least 32,768.
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.config.read_buffer = bytes;
        self
    }

    /// Sets whether messages and bytes are counted for each connection, for
    /// [`Connection::stats`](crate::Connection::stats). Default false. Counting costs about 100
    /// bytes per connection, and makes short messages somewhat slower.
    pub fn connection_stats(mut self, count: bool) -> Self {
        self.config.connection_stats = count;
        self
    }

    /// Sets whether each connection keeps its request, with all headers, until it ends. Default
    /// false: the request is dropped after `Ready`, and only `origin`, `request_uri` and
    /// `subprotocol` remain. A browser's request takes about 2 KiB.
    pub fn keep_requests(mut self, keep: bool) -> Self {
        self.config.keep_requests = keep;
        self
    }

    /// Builds the server and runs it until it is shut down: [`build`](Self::build), then
    /// [`Server::start`].
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn run(self) -> error::Result<()> {
        Ok(self.build()?.start()?)
    }

    /// Binds the listeners and creates the server, which serves clients once it is started. For
    /// each listener a line at `info` (target `wsloop::server`) has its address and whether it uses
    /// TLS.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] if there is no listener, if an address cannot be bound, or if
    /// settings contradict each other.
    pub fn build(self) -> Result<Server, BuildError> {
        let Self {
            mut config,
            handlers,
            places,
            watches,
            origins,
            hosts,
            proxies,
            headless,
        } = self;
        check(&config)?;
        config.origins = origins
            .map(|entries| Origins::new(entries).map_err(BuildError::BadOrigin))
            .transpose()?;
        config.hosts = hosts
            .map(|entries| Hosts::new(entries).map_err(BuildError::BadHost))
            .transpose()?;
        config.forwarding = proxies.check()?;
        if places.is_empty() && !headless {
            return Err(BuildError::NoListener);
        }
        let (mut listeners, mut missing) = (Vec::new(), Vec::new());
        for place in places {
            place.open(&config, &mut listeners, &mut missing)?;
        }
        if !config.busy_poll.is_zero()
            && let Some(error) = listeners
                .iter()
                .find_map(|listener| listener.busy_poll(config.busy_poll).err())
        {
            Line::of(Matter::Socket).write(format_args!(
                "busy_poll goes on without SO_BUSY_POLL: {error}"
            ));
        }
        let mut server = Server::new(config, handlers, listeners, watches)?;
        server.closed = missing;
        Ok(server)
    }
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
        "turn_bytes, turn_messages or turn_accepts is 0: nothing would ever be served"
    } else if config.max_connections == 0 {
        "max_connections is 0: nobody would ever be accepted"
    } else if config.max_half_open == 0
        || config.addresses.connections == 0
        || config.addresses.half_open == 0
    {
        "max_half_open, max_connections_per_address or max_half_open_per_address is 0: nobody \
         would ever be accepted"
    } else if !config.rates.all().all(|rate| rate.is_sound())
        || config
            .addresses
            .handshakes
            .is_some_and(|rate| !rate.is_sound())
    {
        "a rate allows nothing, or has no period"
    } else if config.memory_budget < MEMORY_BUDGET_MIN {
        "memory_budget is less than 65,536 bytes"
    } else if config.min_rate == 0 {
        "min_rate is 0: a trickle would never end"
    } else if config.limits.max_fragments == 0 {
        "max_fragments is 0: no message could come"
    } else if config.handshake_timeout.is_zero() || config.close_timeout.is_zero() {
        "handshake_timeout or close_timeout is 0: nobody could keep it"
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

// Declared last, so that the documentation begins with the settings above.
mod http;
mod limits;
mod proxies;
mod sockets;
