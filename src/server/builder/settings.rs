//! Limits of messages, deadlines, and the share of a turn.

use std::time::Duration;

use super::Builder;
use crate::limits::SlowConsumer;

impl Builder {
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
    /// handshake it is answered with 503. Default zero: no limit. Costs about 200 bytes per
    /// connection.
    /// [`Connection::set_lifetime`](crate::Connection::set_lifetime) sets the lifetime of one
    /// connection.
    pub fn max_lifetime(mut self, age: Duration) -> Self {
        self.config.max_lifetime = (!age.is_zero()).then_some(age);
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
    /// For a program that waits in a poll of its own and calls
    /// [`Server::turn`](crate::Server::turn) with a timeout of zero, only the socket option has an
    /// effect.
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
}
