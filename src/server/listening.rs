//! The public view of listeners.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::listener::Listener;

/// A listener of a server, from [`Server::listeners`](crate::Server::listeners).
///
/// It is displayed as `127.0.0.1:8080` or `unix:/run/chat/socket`, and with `{:#}` in more detail:
/// `127.0.0.1:8443 (TLS)`, `unix:/run/chat/socket (TLS, inherited)`, `[::1]:80 (given)`.
#[derive(Clone, Copy)]
pub struct Listening<'s>(pub(super) &'s Listener);

impl<'s> Listening<'s> {
    /// Returns the TCP address, with the port that the kernel picked; `None` for a Unix socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.0.local_addr()
    }

    /// Returns the path of a Unix socket, as it was bound; `None` for TCP, and for a given socket
    /// without a path.
    pub fn path(&self) -> Option<&'s Path> {
        self.0.path()
    }

    /// Returns whether clients have to use TLS.
    #[doc(alias = "is_ssl")]
    pub fn is_tls(&self) -> bool {
        self.0.is_secure()
    }

    /// Returns the socket, to set or read its options or to hand it over to a successor. Accepting
    /// from it would take clients away from the server.
    pub fn socket(&self) -> BorrowedFd<'s> {
        self.0.socket()
    }
}

impl fmt::Display for Listening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.addr(), self.path()) {
            (Some(addr), _) => write!(f, "{addr}")?,
            (None, Some(path)) => write!(f, "unix:{}", path.display())?,
            (None, None) => f.write_str("unix:")?,
        }
        if !f.alternate() {
            return Ok(());
        }
        let origin = match (self.0.inherited, self.0.is_given()) {
            (true, _) => Some("inherited"),
            (false, true) => Some("given"),
            (false, false) => None,
        };
        match (self.is_tls(), origin) {
            (true, Some(origin)) => write!(f, " (TLS, {origin})"),
            (true, None) => f.write_str(" (TLS)"),
            (false, Some(origin)) => write!(f, " ({origin})"),
            (false, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Listening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("addr", &self.addr())
            .field("path", &self.path())
            .field("tls", &self.is_tls())
            .finish_non_exhaustive()
    }
}
