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
    /// What is refused, in this order:
    ///
    /// 1. from three quarters on, new connections: accepting pauses, and clients wait in the
    ///    kernel's queue. Adopted ones are turned away;
    /// 2. from seven eighths on, messages that would have to be queued: sending fails with
    ///    [`SendError::NoMemory`](crate::SendError::NoMemory). Replies that the kernel takes at once,
    ///    control frames and closes go on;
    /// 3. beyond it, the connections that hold most: they are closed, the largest first, until
    ///    seven eighths are left. Who reads is told by 1013 ("try again later"), or by 503 during
    ///    the opening handshake; who does not is cut. `Error` and `Disconnect` tell
    ///    [`Fault::NoMemory`](crate::Fault::NoMemory) and
    ///    [`Cause::NoMemory`](crate::event::Cause::NoMemory).
    ///
    /// What one connection's turn brings may come on top until it is looked at, a read and a message
    /// at most. Not counted are what the application keeps, the buffers that all connections share
    /// (`read_buffer`, and up to 8 MiB of buffers for large messages), and the kernel's. A message
    /// that is queued for several connections counts for each. Each of the three is counted in
    /// [`Stats`](crate::Stats) and told in the log.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.config.memory_budget = bytes;
        self
    }

    /// Sets how long a message may take from its first byte to its last, however slowly its bytes
    /// come; then the connection is closed with 1008. Default 60 s; zero is off.
    ///
    /// Time in which something has come and is not read does not count (the connection is paused, or
    /// held off, or does not read itself), nor do messages that a
    /// [`Fragment`](crate::event::Fragment) handler takes in pieces, since nothing is held for them. A
    /// frame's header that trickles has the time once more.
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.config.message_timeout = timeout;
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
    /// Behind a proxy the address is the proxy's. Unix sockets have no address and no such limit.
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
