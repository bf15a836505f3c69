//! Settings of what connections may hold and how fast they may be.

use std::time::Duration;

use super::Builder;
use crate::config::{OverRate, Rate};

impl Builder {
    /// Sets how much memory all connections may hold together, in bytes: what is queued for them,
    /// messages and requests that are not whole, what was read and waits for its turn, compressors
    /// of their own (260 KB with both directions in use), TLS (24 KiB each), and 512 bytes each.
    /// Default none (`usize::MAX`); 65,536 at least.
    ///
    /// When memory runs short:
    ///
    /// 1. from three quarters on, accepting pauses, and clients wait in the kernel's queue. Adopted
    ///    connections are turned away;
    /// 2. from seven eighths on, nothing more is queued. A message that the kernel takes at once is
    ///    sent all the same, so that a peer that reads gets it, as long as the budget has room for
    ///    what the kernel might leave of it; otherwise sending fails with
    ///    [`SendError::NoMemory`](crate::SendError::NoMemory). Control frames and closes go on;
    /// 3. when three quarters have been in use for a second, connections are closed that hold unsent
    ///    or unfinished messages and have neither taken nor sent a byte for a second; when they have
    ///    been in use for ten seconds, whichever connections hold most of these. It stops at five
    ///    eighths. Connections that hold nothing of the kind stay; if what they need to live (TLS,
    ///    compressors) takes three quarters, the server is full, as at `max_connections`;
    /// 4. beyond the budget, the connections that hold most are closed at once, until seven eighths
    ///    are left.
    ///
    /// A peer that reads is told by 1013 ("try again later"), or by 503 during the opening handshake;
    /// another is cut. `Error` and `Disconnect` tell [`Fault::NoMemory`](crate::Fault::NoMemory) and
    /// [`Cause::NoMemory`](crate::event::Cause::NoMemory).
    ///
    /// What one connection's turn brings may come on top until it is looked at, a read and a message
    /// at most. Not counted are what the application keeps, the buffers that all connections share
    /// (`read_buffer`, and up to 8 MiB of buffers for large messages), and the kernel's. A message
    /// above 4 KiB that is queued for several connections (a broadcast, or
    /// [`Prepared`](crate::Prepared)) counts once. Each step is counted in [`Stats`](crate::Stats)
    /// and logged.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.config.memory_budget = bytes;
        self
    }

    /// Sets how long a message may take beyond the time that its bytes need at
    /// [`min_rate`](Self::min_rate); then the connection is closed with 1008. Default 60 s; zero is
    /// off.
    ///
    /// The time runs from the message's first byte, and each byte of its payload gives back what it
    /// needs at the least rate, up to the whole of it. So a steady upload may take any time, a
    /// message that stops coming ends after `message_timeout`, and one that trickles ends after
    /// `message_timeout` and `max_recv_size` divided by `min_rate` at the latest.
    ///
    /// Time in which something has come and is not read does not count (the connection is paused, or
    /// held off, or does not read itself), nor do messages that a
    /// [`Fragment`](crate::event::Fragment) handler takes in pieces, since nothing is held for them. A
    /// frame's header that trickles has the time once more.
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.config.message_timeout = timeout;
        self
    }

    /// Sets the least rate, in bytes per second, at which a peer is waited for that sends or takes
    /// something large. Default 500, as Apache's `mod_reqtimeout` has it; `u64::MAX` gives nobody
    /// more than the timeouts say, 0 is an error of [`build`](Self::build).
    ///
    /// A peer that is as fast puts these deadlines off, each by the time that the bytes need and up
    /// to one timeout from then:
    ///
    /// | timeout | of | bytes |
    /// |---|---|---|
    /// | [`message_timeout`](Self::message_timeout) | a message under way | of its payload, as they come |
    /// | [`handshake_timeout`](Self::handshake_timeout) | the body of a plain request | of the body; the time for a request head is fixed |
    /// | [`close_timeout`](Self::close_timeout) | a close | of what is queued before the Close frame, as the kernel takes them or, on Linux over TCP, as the peer acknowledges them |
    /// | [`idle_timeout`](Self::idle_timeout) | a peer that does not answer pings | of what the kernel holds for it, as the peer acknowledges them (Linux, TCP) |
    ///
    /// With a large [`max_recv_size`](Self::max_recv_size) choose both together: a client that sends
    /// 64 MiB at the default rate may hold them for a day and a half.
    pub fn min_rate(mut self, bytes_per_second: u64) -> Self {
        self.config.min_rate = bytes_per_second;
        self
    }

    /// Sets how many messages, text and binary, a connection may send in a time. Default none. See
    /// [`over_rate`](Self::over_rate).
    ///
    /// A rate for messages, bytes or pings takes every message another way, which costs some 300
    /// instructions more, and 250 bytes for each connection.
    pub fn max_message_rate(mut self, rate: Rate) -> Self {
        self.config.rates.messages = Some(rate);
        self
    }

    /// Sets how many bytes a connection may send in a time once its opening handshake is done:
    /// frames with their headers, as they come over the wire but without what TLS adds, and without
    /// what came in one read with the request. Default none. The burst should hold what one read brings (`read_buffer`, 512 KiB), or a client that
    /// sends no more than the rate allows may be over it after it was held up by the network.
    pub fn max_byte_rate(mut self, rate: Rate) -> Self {
        self.config.rates.bytes = Some(rate);
        self
    }

    /// Sets how many pings and pongs a connection may send in a time. Default none. Mind that each
    /// ping of ours, after [`silence_max`](Self::silence_max), has one as its answer.
    pub fn max_ping_rate(mut self, rate: Rate) -> Self {
        self.config.rates.pings = Some(rate);
        self
    }

    /// Sets what happens to a connection that is faster than `max_message_rate`, `max_byte_rate` or
    /// `max_ping_rate` allows. Default [`OverRate::Close`].
    pub fn over_rate(mut self, policy: OverRate) -> Self {
        self.config.rates.over = policy;
        self
    }

    /// Sets how many connections may be open at once of one address: of an IPv4 address, or of a
    /// network of 64 bits of IPv6. Default none (`usize::MAX`).
    ///
    /// Further ones are answered with 429, or cut where there is TLS, before any handler is called.
    /// A client that a proxy tells with its request is answered with 429 behind its `Connect`.
    /// Behind a proxy the address is the proxy's, unless it is a trusted one that tells the
    /// client's ([`client_address`](Self::client_address),
    /// [`Place::proxy_protocol`](crate::Place::proxy_protocol)). Unix sockets have no address and
    /// no such limit.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.config.addresses.connections = connections;
        self
    }

    /// Sets how many connections of one address may be half open at once: those of which neither an
    /// upgrade nor a plain request was answered yet. Default none (`usize::MAX`). Further ones are refused as by
    /// [`max_connections_per_address`](Self::max_connections_per_address).
    pub fn max_half_open_per_address(mut self, connections: usize) -> Self {
        self.config.addresses.half_open = connections;
        self
    }

    /// Sets how often one address may connect; what is refused does not count. Default none.
    /// Further connections are refused as by
    /// [`max_connections_per_address`](Self::max_connections_per_address).
    pub fn max_handshake_rate(mut self, rate: Rate) -> Self {
        self.config.addresses.handshakes = Some(rate);
        self
    }

    /// Sets how many connections of all addresses may be half open at once: those of which neither an
    /// upgrade nor a plain request was answered yet. At the limit accepting pauses, and further clients
    /// wait in the kernel's queue; `handshake_timeout` sees to it that they are let in. Default none
    /// (`usize::MAX`).
    pub fn max_half_open(mut self, connections: usize) -> Self {
        self.config.max_half_open = connections;
        self
    }
}
