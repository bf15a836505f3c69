//! Counters of the server.

/// What the server has counted since it was built.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Messages delivered, text and binary.
    pub messages_in: u64,
    /// Messages sent, text and binary; one for each receiver of a broadcast.
    pub messages_out: u64,
    /// Bytes received, without what TLS adds: requests and frames with their headers.
    pub bytes_in: u64,
    /// Bytes sent, without what TLS adds. They count when they are queued.
    pub bytes_out: u64,
    /// Times that accepting paused because `max_connections` was reached.
    pub accept_pauses: u64,
    /// Times that accepting paused because descriptors or memory ran out.
    pub accept_failures: u64,
    /// Times that the kernel was asked for events: one for each turn of the loop, and more where it
    /// spins (see [`Builder::busy_poll`](crate::Builder::busy_poll)).
    pub polls: u64,
    /// Ticks that fell due and were not delivered, because the loop was busy.
    pub missed_ticks: u64,
    /// Pongs that were not sent to peers that do not read.
    pub dropped_pongs: u64,
}
