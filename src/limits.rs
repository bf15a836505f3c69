//! The limits of one connection.

/// The limits of one connection, in bytes or counts. Each is checked before anything is allocated
/// for the data that it limits. `usize::MAX` means no limit.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest message accepted, in bytes of payload over all of its fragments. A larger message
    /// fails the connection with 1009 at its frame header. Default 65,536.
    pub max_recv_size: usize,
    /// Largest message that can be sent, in bytes of payload. Default 65,536.
    pub max_send_size: usize,
    /// Most frames of one message; one more fails the connection with 1008. Default 131,072.
    pub max_fragments: usize,
    /// Most bytes queued for a peer that reads slowly. Default 1 MiB.
    pub max_backlog: usize,
    /// Largest request head, in bytes; a larger one gets a 431. Default 16,384.
    pub max_handshake_size: usize,
    /// Most header lines in a request; a request with more gets a 431. Default 100.
    pub max_headers: usize,
    /// Largest body of a plain request, in bytes; a larger one gets a 413. Default 65,536.
    pub max_body_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_recv_size: 64 << 10,
            max_send_size: 64 << 10,
            max_fragments: 128 << 10,
            max_backlog: 1 << 20,
            max_handshake_size: 16 << 10,
            max_headers: 100,
            max_body_size: 64 << 10,
        }
    }
}
