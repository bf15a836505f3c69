//! Settings of memory, rates and counts of connections.

use std::time::Duration;

use super::Builder;
use crate::config::{OverRate, Rate};

impl Builder {
    /// Sets how much memory all connections may hold together, in bytes. This includes their
    /// queues, incomplete messages and requests, data that was read and waits for its turn,
    /// dedicated compressors (260 KB with both directions in use), TLS (24 KiB each), and 512 bytes
    /// per connection. Default none (`usize::MAX`); at least 65,536.
    ///
    /// When memory runs short:
    ///
    /// 1. From three quarters on, accepting pauses, and clients wait in the accept queue of the
    ///    kernel. Adopted connections are refused.
    /// 2. From seven eighths on, nothing more is queued. A message that the kernel accepts at once
    ///    is still sent, so that a peer that reads receives it, as long as the budget has room for
    ///    the part that the kernel might not accept; otherwise sending fails with
    ///    [`SendError::NoMemory`](crate::SendError::NoMemory). Control frames and closes are still
    ///    sent.
    /// 3. When three quarters have been in use for a second, the server closes connections that
    ///    hold unsent or incomplete messages and have neither received nor sent a byte for a
    ///    second. After ten seconds it closes those that hold most of such messages. It stops at
    ///    five eighths. Connections that hold nothing of the kind stay; if the memory that they
    ///    need permanently (TLS, compressors) takes three quarters, the server is full, as at
    ///    `max_connections`.
    /// 4. Beyond the budget, the connections that hold most are closed at once, until seven eighths
    ///    are left.
    ///
    /// A peer that reads is closed with 1013 ("try again later"), or answered with 503 in the
    /// opening handshake; another is cut. `Error` and `Disconnect` have
    /// [`Fault::NoMemory`](crate::Fault::NoMemory) and
    /// [`Cause::NoMemory`](crate::event::Cause::NoMemory).
    ///
    /// The data of one connection's turn may exceed the budget until it is counted: a read and a
    /// message at most. Data of the application, the buffers that all connections share
    /// (`read_buffer`, and up to 8 MiB of buffers for large messages) and the kernel's buffers are
    /// not counted. A message above 4 KiB that is queued for several connections (a broadcast, or
    /// [`Prepared`](crate::Prepared)) counts once. [`Stats`](crate::Stats) counts each step, and
    /// the log names it.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.config.memory_budget = bytes;
        self
    }

    /// Sets how long a message may take beyond the time that its bytes need at
    /// [`min_rate`](Self::min_rate); then the connection is closed with 1008. Default 60 s; zero is
    /// off.
    ///
    /// The time runs from the first byte of the message. Each byte of its payload gives back the
    /// time that it needs at the minimum rate, up to the whole timeout. So a steady upload may take
    /// any time; a message that stops arriving ends after `message_timeout`; and one that trickles
    /// ends after `message_timeout` plus `max_recv_size` divided by `min_rate` at the latest.
    ///
    /// The clock stops while data has arrived and the server does not read it: the connection is
    /// paused, delayed by a rate, or has a large backlog. It does not apply to messages that a
    /// [`Fragment`](crate::event::Fragment) handler receives in pieces, since the server holds no
    /// memory for them. A frame header that trickles has the time once more.
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.config.message_timeout = timeout;
        self
    }

    /// Sets the minimum rate, in bytes per second, at which the server waits for a peer that sends
    /// or receives something large. Default 500, as in Apache's `mod_reqtimeout`. With `u64::MAX`
    /// no deadline is ever extended; 0 is an error of [`build`](Self::build).
    ///
    /// A peer that is at least as fast extends these deadlines, each by the time that the bytes
    /// need, up to one timeout from then:
    ///
    /// | timeout | of | bytes |
    /// |---|---|---|
    /// | [`message_timeout`](Self::message_timeout) | a message under way | of its payload, as they arrive |
    /// | [`handshake_timeout`](Self::handshake_timeout) | the body of a plain request | of the body; the time for a request head is fixed |
    /// | [`close_timeout`](Self::close_timeout) | a close | queued before the Close frame, as the kernel accepts them or, on Linux over TCP, as the peer acknowledges them |
    /// | [`idle_timeout`](Self::idle_timeout) | a peer that does not answer pings | that the kernel holds for it, as the peer acknowledges them (Linux, TCP) |
    ///
    /// Choose it together with [`max_recv_size`](Self::max_recv_size): a client that sends 64 MiB
    /// at the default rate may hold this memory for a day and a half.
    pub fn min_rate(mut self, bytes_per_second: u64) -> Self {
        self.config.min_rate = bytes_per_second;
        self
    }

    /// Limits the rate of messages, text and binary, that a connection may send. Default none. See
    /// [`over_rate`](Self::over_rate).
    ///
    /// With a rate for messages, bytes or pings, messages do not take the fast path; that costs
    /// some 300 instructions per message, and 250 bytes per connection.
    pub fn max_message_rate(mut self, rate: Rate) -> Self {
        self.config.rates.messages = Some(rate);
        self
    }

    /// Limits the rate of bytes that a connection may send after its opening handshake: frames with
    /// their headers, without the overhead of TLS, and without data that arrived in one read with
    /// the request. Default none. The burst should cover the data of one read (`read_buffer`, 512
    /// KiB); otherwise a client that keeps to the rate may exceed it after a delay in the network.
    pub fn max_byte_rate(mut self, rate: Rate) -> Self {
        self.config.rates.bytes = Some(rate);
        self
    }

    /// Limits the rate of pings and pongs that a connection may send. Default none. Each ping of
    /// the server, after [`silence_max`](Self::silence_max), causes a pong, which counts.
    pub fn max_ping_rate(mut self, rate: Rate) -> Self {
        self.config.rates.pings = Some(rate);
        self
    }

    /// Sets what happens to a connection that exceeds `max_message_rate`, `max_byte_rate` or
    /// `max_ping_rate`. Default [`OverRate::Close`].
    pub fn over_rate(mut self, policy: OverRate) -> Self {
        self.config.rates.over = policy;
        self
    }

    /// Sets the maximum number of open connections of one address: an IPv4 address, or an IPv6
    /// network of 64 bits. Default none (`usize::MAX`).
    ///
    /// Further connections are answered with 429, or cut where TLS is used, before any handler is
    /// called. A client whose address comes from a proxy's header is answered with 429 after its
    /// `Connect`. Behind a proxy the address is the proxy's, unless the proxy is trusted to supply
    /// the client's ([`client_address`](Self::client_address),
    /// [`Place::proxy_protocol`](crate::Place::proxy_protocol)). Unix sockets have no address and
    /// no such limit.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.config.addresses.connections = connections;
        self
    }

    /// Sets the maximum number of half-open connections of one address: those for which neither an
    /// upgrade nor a plain request was answered yet. Default none (`usize::MAX`). Further
    /// connections are refused as with
    /// [`max_connections_per_address`](Self::max_connections_per_address).
    pub fn max_half_open_per_address(mut self, connections: usize) -> Self {
        self.config.addresses.half_open = connections;
        self
    }

    /// Limits the rate of connections from one address; refused ones do not count. Default none.
    /// Further connections are refused as with
    /// [`max_connections_per_address`](Self::max_connections_per_address).
    pub fn max_handshake_rate(mut self, rate: Rate) -> Self {
        self.config.addresses.handshakes = Some(rate);
        self
    }

    /// Sets the maximum number of half-open connections of all addresses: those for which neither
    /// an upgrade nor a plain request was answered yet. At the limit accepting pauses, and further
    /// clients wait in the accept queue of the kernel; `handshake_timeout` bounds that time.
    /// Default none (`usize::MAX`).
    pub fn max_half_open(mut self, connections: usize) -> Self {
        self.config.max_half_open = connections;
        self
    }
}
