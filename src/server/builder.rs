//! The builder: every setting of a server.

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

/// The settings of a server: where it listens, what it allows, and its handlers.
///
/// Every setting has a safe default. [`build`](Self::build) checks them together.
#[derive(Default)]
#[must_use]
pub struct Builder {
    config: Config,
    handlers: Handlers,
    places: Vec<Place>,
    pub(super) watches: Vec<(Interest, Box<dyn Watcher>)>,
    /// The entries of the list of origins, if there is one.
    origins: Option<Vec<String>>,
    /// The entries of the list of hosts, if there is one.
    hosts: Option<Vec<String>>,
    /// Who is trusted to tell the client of a request, and what is taken of what they tell.
    proxies: Proxies,
    headless: bool,
}

impl Builder {
    /// Listens on a TCP address, IPv4 or IPv6: `"127.0.0.1:8080"`, `"[::1]:8080"`,
    /// `("0.0.0.0", 8080)`, a [`SocketAddr`](std::net::SocketAddr). Port 0 lets the kernel pick one.
    /// May be called several times.
    ///
    /// A name such as `"localhost:8080"`, or a list of addresses, is listened on at each address that
    /// can be bound; the others are logged at `warn` (target `wsloop::server`) with the reason, and
    /// [`start_listening`](crate::Server::start_listening) tries them again. Only if none can be
    /// bound, [`build`](Self::build) fails, and the error lists all. Port 0 becomes one port for all
    /// of the addresses, where one can be found that is free at each; if not, that is logged and each
    /// has its own. With both `[::]` and `0.0.0.0` in a list, the first is for IPv6 alone.
    pub fn listen(self, addr: impl ToSocketAddrs + fmt::Debug) -> Self {
        self.listener(Place::tcp(addr))
    }

    /// Listens on a TCP address for TLS.
    ///
    /// [`config_from_pem`](crate::config_from_pem) makes a configuration from files, and
    /// [`Certificates`](crate::Certificates) makes one whose certificates can be replaced.
    #[cfg(feature = "tls")]
    pub fn listen_tls(
        self,
        addr: impl ToSocketAddrs + fmt::Debug,
        tls: std::sync::Arc<rustls::ServerConfig>,
    ) -> Self {
        self.listener(Place::tcp(addr).tls(tls))
    }

    /// Listens on a Unix socket. A socket that a dead server left there is replaced; the file is
    /// removed when the listener closes.
    pub fn listen_unix(self, path: impl AsRef<Path>) -> Self {
        self.listener(Place::unix(path))
    }

    /// Listens on all sockets that the process was started with, by systemd for instance, and that
    /// no one has taken yet; see [`Place::inherited`], which takes them by name.
    pub fn listen_inherited(self) -> Self {
        self.listener(Place::all_inherited())
    }

    /// Listens at a [`Place`], which the methods above are short for: a socket that listens already
    /// (a [`TcpListener`](std::net::TcpListener) or
    /// [`UnixListener`](std::os::unix::net::UnixListener), which is made non-blocking), or an
    /// address or a path with settings of its own.
    pub fn listener(mut self, place: impl Into<Place>) -> Self {
        self.places.push(place.into());
        self
    }

    /// Registers the server's handler for an event; a second one replaces the first. A handler
    /// that a connection sets for itself comes before it.
    ///
    /// The event is given by its name in [`event`](crate::event):
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
    /// A misspelt name, a handler with the wrong arguments or with the wrong answer does not
    /// compile:
    ///
    /// ```compile_fail
    /// use wsloop::{Server, event::Utf8};
    /// let builder = Server::builder().on(Utf8, |conn, bytes: &[u8]| ());
    /// ```
    ///
    /// An event of the server cannot be set on a connection:
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
    pub fn on<E: Event, R: Outcome<E::Output>>(
        mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) -> Self {
        self.handlers.set::<E, R>(handler);
        self
    }

    /// Adds a handler for an event: it is called after those that are registered already, in the
    /// order they were. If one answers with a refusal, that counts, and the others are not called;
    /// an error ends it in the same way. [`on`](Self::on) replaces all of them.
    ///
    /// ```
    /// use wsloop::{Server, event::{Connect, Utf8}};
    ///
    /// let builder = Server::builder()
    ///     .add_on(Connect, |conn, ()| conn.ip().is_none_or(|ip| ip.is_loopback()))
    ///     .add_on(Connect, |conn, ()| log::info!("{} is let in", conn.id()))
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

    /// Sets the size of the largest message accepted, in bytes over all of its fragments; a larger
    /// one is failed with 1009 at its frame header. Default 65,536. A peer can make the server hold
    /// that much for each connection; `usize::MAX` means none.
    pub fn max_recv_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_recv_size = bytes;
        self
    }

    /// Sets the size of the largest message that can be sent, in bytes; sending a larger one is an
    /// error. Default 65,536; `usize::MAX` means none.
    pub fn max_send_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_send_size = bytes;
        self
    }

    /// Sets how many frames a message may come in; one more is failed with 1008. Default 131,072.
    /// A fragment costs no memory of its own.
    pub fn max_fragments(mut self, frames: usize) -> Self {
        self.config.limits.max_fragments = frames;
        self
    }

    /// Sets how many bytes may be queued for a connection that reads slowly; beyond it,
    /// [`slow_consumer`](Self::slow_consumer) says what happens. Default 1 MiB. A message is
    /// always taken while no more than half of it is queued, however large the message. A
    /// connection for which more than half is queued is not read, so that a peer that only sends
    /// never overflows it by the replies to it, one for each message.
    pub fn max_backlog(mut self, bytes: usize) -> Self {
        self.config.limits.max_backlog = bytes;
        self
    }

    /// Sets what happens to a message that would exceed `max_backlog`. Default
    /// [`SlowConsumer::Error`].
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.config.slow_consumer = policy;
        self
    }

    /// Sets how far the backlog of a connection has to go down for `Drain`, in bytes. It comes once
    /// for each time that the backlog was above this because the kernel did not take everything, and
    /// then fell to it or below. Default 0: when everything has been sent, and however little was
    /// left over.
    ///
    /// A sender that waits for `Drain` keeps the connection busy if it does not run dry before.
    pub fn drain_at(mut self, bytes: usize) -> Self {
        self.config.drain_at = bytes;
        self
    }

    /// Sets the size of the largest request head, in bytes; a larger one is answered with 431.
    /// Default 16,384.
    pub fn max_handshake_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_handshake_size = bytes;
        self
    }

    /// Sets how many header lines a request may have; one more is answered with 431. Default 100.
    pub fn max_headers(mut self, lines: usize) -> Self {
        self.config.limits.max_headers = lines;
        self
    }

    /// Sets how many connections may be open at once, whatever their state. At the limit accepting
    /// pauses, and further clients wait in the kernel's queue. Default none (`usize::MAX`).
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.max_connections = connections;
        self
    }

    /// Sets the time from the accepted socket to the end of the opening handshake, TLS included,
    /// however slowly the bytes come. Then a request that was begun is answered with 408, others
    /// are cut. On a connection with plain requests each of them has as long from its first byte on;
    /// a body that comes as fast as [`min_rate`](Self::min_rate) has more. Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// Sets the silence after which a peer is pinged, and again after every further half of it (see
    /// [`silence_checkinterval`](Self::silence_checkinterval)). Default 20 s; zero is off.
    pub fn silence_max(mut self, silence: Duration) -> Self {
        self.config.silence_max = silence;
        self
    }

    /// Sets the time after which a peer that stays silent is pinged again. Default half of
    /// `silence_max`.
    pub fn silence_checkinterval(mut self, interval: Duration) -> Self {
        self.config.silence_checkinterval = Some(interval);
        self
    }

    /// Sets the silence after which a peer is closed with 1001. Default twice `silence_max`; zero is
    /// off.
    ///
    /// Signs of life are any bytes that come, pongs among them, and that the kernel takes more after
    /// it had been full. On Linux the kernel is asked as well before a TCP peer is given up: one that
    /// acknowledges what was sent to it as fast as [`min_rate`](Self::min_rate) stays, since its pong
    /// is behind that.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = Some(timeout);
        self
    }

    /// Sets how long the peer may take to answer a Close frame, and after that how long it may take
    /// to end its side. Then the connection is cut. Default 5 s.
    ///
    /// The time runs from when the kernel has the Close frame. While something is queued before it,
    /// it is the time in which the peer has to take some of that, as fast as
    /// [`min_rate`](Self::min_rate) on the whole. What is lost with a connection that is cut is in
    /// [`Disconnected::unsent`](crate::event::Disconnected::unsent), in
    /// [`Stats::lost_bytes`](crate::Stats::lost_bytes) and in the log.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config.close_timeout = timeout;
        self
    }

    /// Sets how old a connection may become, from accept; an older one is closed with 1001, and its
    /// `Disconnect` tells [`Cause::Lifetime`](crate::event::Cause::Lifetime). In its opening
    /// handshake it is answered with 503. Default none. Costs about 200 bytes for each connection.
    /// [`Connection::set_lifetime`](crate::Connection::set_lifetime) sets it for one.
    pub fn max_lifetime(mut self, age: Duration) -> Self {
        self.config.max_lifetime = Some(age);
        self
    }

    /// Sets the time between two `Tick` events. Default zero: off. Ticks that are missed because a
    /// handler took longer are not made up for, but counted.
    pub fn tick_period(mut self, period: Duration) -> Self {
        self.config.tick_period = period;
        self
    }

    /// Agrees on permessage-deflate (RFC 7692) with clients that offer it. Default: no compression.
    ///
    /// Messages are expanded under `max_recv_size`, and `max_send_size` counts what they are before
    /// they are compressed. The `Handshake` handler can keep single connections from it.
    #[cfg(feature = "deflate")]
    pub fn deflate(mut self, config: crate::DeflateConfig) -> Self {
        self.config.deflate = Some(config);
        self
    }

    /// Sets the subprotocols that the server speaks, the one it likes best first. The first that
    /// the client offers is agreed on, unless the `Handshake` handler picks another. Default none.
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.config.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how many bytes are read from one connection before the others have their turn. Default
    /// 1 MiB. Bytes that were read beyond it are kept for the connection's next turn: at most twice
    /// `read_buffer` bytes, for as long as a client floods. Pieces of compressed messages
    /// ([`Fragment`](crate::event::Fragment)) count with their inflated size.
    pub fn turn_bytes(mut self, bytes: usize) -> Self {
        self.config.turn_bytes = bytes;
        self
    }

    /// Sets how many messages of one connection are delivered before the others have their turn.
    /// Default 1,024. The messages beyond it are kept, as with [`turn_bytes`](Self::turn_bytes).
    pub fn turn_messages(mut self, messages: usize) -> Self {
        self.config.turn_messages = messages;
        self
    }

    /// Sets how many connections are accepted from one listener in a turn of the loop. Default 64.
    pub fn turn_accepts(mut self, connections: usize) -> Self {
        self.config.turn_accepts = connections;
        self
    }

    /// Sets how long the loop spins before it sleeps: after each event (bytes, a connection, a call
    /// of a [`Handle`](crate::Handle)) it asks the kernel for the next without waiting, again and
    /// again, for up to this long. What comes meanwhile is not delayed by putting the thread to
    /// sleep and waking it up, which costs some microseconds, and far more where the processor
    /// changes to a state that saves power. Default zero: off.
    ///
    /// The time counts from when the event has been dealt with; ticks and deadlines are met as
    /// without it, and do not begin it. **It burns a core**: all of it if events come more often than
    /// this, else up to this long for each. Choose a little more than the time between two events that
    /// belong together, 50 us for instance, and give the thread a core of its own: one that spins
    /// while its client waits for the same core is slower than one that sleeps. There is no upper
    /// limit; an hour is to say never to sleep.
    ///
    /// On Linux the TCP listeners, and with them the connections that they accept, are also given
    /// SO_BUSY_POLL of as many microseconds (socket(7)): the kernel may then ask a network device for
    /// packets instead of waiting for its interrupt, if the driver can; in epoll(7) only where
    /// `net.core.busy_poll` is set too. It takes CAP_NET_ADMIN; without, the refusal is logged (at
    /// level debug) and all else works.
    ///
    /// A program that waits in a poll of its own and then calls [`Server::turn`] with a time-out of
    /// zero sees nothing of this but the option.
    pub fn busy_poll(mut self, time: Duration) -> Self {
        self.config.busy_poll = time;
        self
    }

    /// Sets the size of the read buffer, in bytes; there is one for all connections. Default
    /// 524,288; at least 32,768.
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.config.read_buffer = bytes;
        self
    }

    /// Sets whether messages and bytes are counted for each connection, for
    /// [`Connection::stats`](crate::Connection::stats). Default false. Counting costs about 100
    /// bytes for each connection, and some of the speed of short messages.
    pub fn connection_stats(mut self, count: bool) -> Self {
        self.config.connection_stats = count;
        self
    }

    /// Sets whether each connection keeps its request, with all headers, for as long as it lives.
    /// Default false: it is dropped after `Ready`, and `origin`, `request_uri` and `subprotocol`
    /// are what remains. A browser's request is about 2 KiB of memory.
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

    /// Binds the listeners and makes the server. It serves once it is started. For each listener a
    /// line at `info` (target `wsloop::server`) says where it is, and whether it speaks TLS.
    ///
    /// # Errors
    ///
    /// [`BuildError`], if no listener was named, an address cannot be listened on, or settings
    /// contradict each other.
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

/// Checks what no single setting can tell.
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

/// A TLS record and what rustls holds of the next one fit into it.
const READ_BUFFER_MIN: usize = 32 << 10;

/// Three quarters of it hold a connection or two.
const MEMORY_BUDGET_MIN: usize = 64 << 10;

// Behind the settings above, so that the documentation begins with these.
mod http;
mod limits;
mod proxies;
mod sockets;
