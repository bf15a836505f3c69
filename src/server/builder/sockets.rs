//! Settings of the sockets.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// Sets the length of the kernel's queue of connections that wait to be accepted. Default
    /// 4,096; the kernel has a limit of its own (`net.core.somaxconn`).
    pub fn listen_backlog(mut self, connections: u32) -> Self {
        self.config.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Sets whether other sockets that allow it as well may listen on the same TCP addresses
    /// (SO_REUSEPORT), those of the same user only. Default false: an address in use is an error,
    /// and that is how a server which was started twice is noticed.
    ///
    /// It is for several servers over one address, one for each thread: Linux spreads the clients
    /// over them by a hash of both addresses (socket(7)), evenly when there are many, whatever
    /// each server has to do. Other systems may give all to one. A client that one of them has
    /// not accepted when it ends is reset.
    ///
    /// For what the builder binds; a socket that listens already and Unix sockets are not
    /// concerned. Where the system has no such option, [`build`](Self::build) fails.
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.config.reuse_port = reuse;
        self
    }

    /// Sets whether Nagle's algorithm is off (TCP_NODELAY). Default true: replies never wait.
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.config.nodelay = nodelay;
        self
    }

    /// Sets the time without traffic after which the kernel probes a TCP peer (SO_KEEPALIVE,
    /// tcp(7)), in whole seconds from 1 to 32,767; how often it probes before it gives up is the
    /// system's (Linux: 9 times, 75 s apart). The connection then ends as by any other failure of
    /// the network. Default zero: off.
    ///
    /// `silence_max` and `idle_timeout` find a dead peer sooner, and also one whose program hangs;
    /// this one costs the server no work, nor a client's battery the pongs, and it can keep what
    /// is between them from forgetting the connection.
    pub fn keepalive(mut self, time: Duration) -> Self {
        self.config.keepalive = time;
        self
    }

    /// Sets how much of what a peer sends the kernel holds until it is read (SO_RCVBUF), in bytes
    /// for each connection. Default zero: the system's choice, which on Linux grows and shrinks
    /// with the traffic (tcp(7), `tcp_rmem`); a number ends that. Linux doubles it for its own needs
    /// and has limits (socket(7), `net.core.rmem_max`).
    ///
    /// A small one bounds the kernel's memory where there are very many connections, a large one
    /// is for fast peers that are far away.
    pub fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.config.buffers.recv = bytes;
        self
    }

    /// Sets how much the kernel takes for a peer that has not acknowledged it (SO_SNDBUF), in bytes
    /// for each connection; what goes beyond it is the connection's backlog. Default zero: the
    /// system's choice, as with [`recv_buffer_size`](Self::recv_buffer_size) (`tcp_wmem`,
    /// `net.core.wmem_max`).
    ///
    /// A small one shows early that a peer is slow, and leaves less that is out of date in the
    /// kernel; too small a one slows down every peer.
    pub fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.config.buffers.send = bytes;
        self
    }
}
