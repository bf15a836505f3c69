//! Settings of the sockets.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// Sets the length of the kernel's queue of connections that wait to be accepted. Default
    /// 4,096; the kernel has its own limit (`net.core.somaxconn`).
    #[doc(alias = "backlog")]
    pub fn listen_backlog(mut self, connections: u32) -> Self {
        self.config.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Sets whether other sockets with this option can listen on the same TCP addresses
    /// (SO_REUSEPORT); they have to belong to the same user. Default false: an address in use is an
    /// error, which shows that a server was started twice.
    ///
    /// The option allows several servers on one address, one per thread. Linux distributes the
    /// clients by a hash of both addresses (socket(7)): evenly if there are many, and independently
    /// of each server's load. Other systems may give all clients to one server. When a server ends,
    /// clients in its accept queue are reset.
    ///
    /// The option applies to addresses that the builder binds, not to sockets that are listening
    /// already, nor to Unix sockets. Where the system has no such option, [`build`](Self::build)
    /// fails.
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.config.reuse_port = reuse;
        self
    }

    /// Sets whether Nagle's algorithm is off (TCP_NODELAY). Default true: replies never wait.
    #[doc(alias = "tcp_nodelay")]
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.config.nodelay = nodelay;
        self
    }

    /// Sets the time without traffic after which the kernel probes a TCP peer (SO_KEEPALIVE,
    /// tcp(7)), in whole seconds from 1 to 32,767. The system determines how often it probes before
    /// it gives up (Linux: 9 times, 75 s apart). The connection then ends like after any other
    /// network failure. Default zero: off.
    ///
    /// `silence_max` and `idle_timeout` detect a dead peer sooner, and also one whose program
    /// hangs. This option costs the server no work and a client's battery no pongs, and it can keep
    /// routers in between from forgetting the connection.
    #[doc(alias = "keepalive")]
    pub fn tcp_keepalive(mut self, time: Duration) -> Self {
        self.config.tcp_keepalive = time;
        self
    }

    /// Sets how much data the kernel accepts for a TCP connection beyond what it has sent
    /// (TCP_NOTSENT_LOWAT, tcp(7)), in bytes. Default zero: no limit, except for subscribers of
    /// topics that [conflate](crate::SlowConsumer::Conflate), which have 16 KiB. Linux only.
    ///
    /// With such a limit, the server notices sooner that a peer reads slowly, and the data that
    /// cannot be sent waits in the connection's own queue, where policies for slow consumers apply,
    /// at the price of more system calls for large messages.
    pub fn notsent_lowat(mut self, bytes: u32) -> Self {
        self.config.notsent_lowat = bytes;
        self
    }

    /// Sets how long data that was sent may stay unacknowledged before the kernel ends the
    /// connection (TCP_USER_TIMEOUT, RFC 5482, tcp(7)), in milliseconds. Default zero: the system's
    /// retransmissions decide, on Linux after about 15 minutes (`tcp_retries2`). It detects a dead
    /// peer to which data is being sent; [`tcp_keepalive`](Self::tcp_keepalive) detects an idle
    /// one. Linux only.
    pub fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.config.tcp_user_timeout = timeout;
        self
    }

    /// Sets how much unread data the kernel holds for each connection (SO_RCVBUF), in bytes.
    /// Default zero: the system's choice, which on Linux changes with the traffic (tcp(7),
    /// `tcp_rmem`); a fixed size switches that off. Linux doubles the number for its own use and
    /// has limits (socket(7), `net.core.rmem_max`).
    ///
    /// A small buffer bounds the kernel's memory if there are very many connections; a large one is
    /// for fast peers that are far away.
    pub fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.config.buffers.recv = bytes;
        self
    }

    /// Sets how much unacknowledged data the kernel accepts for each connection (SO_SNDBUF), in
    /// bytes; further data is the connection's backlog. Default zero: the system's choice, as with
    /// [`recv_buffer_size`](Self::recv_buffer_size) (`tcp_wmem`, `net.core.wmem_max`).
    ///
    /// With a small buffer the server notices a slow peer early, and less outdated data is in the
    /// kernel; too small a buffer slows down every peer.
    pub fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.config.buffers.send = bytes;
        self
    }
}
