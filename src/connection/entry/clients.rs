//! Finding the client of a connection that came through a proxy.

use super::PeerMut;
use crate::error::HandshakeError;
use crate::handshake::Request;
use crate::proxy::{Header, Source};

impl PeerMut<'_> {
    /// Returns whether requests on the connection name its clients: it comes from a trusted proxy,
    /// according to its socket or to the PROXY protocol header.
    fn has_forwarding_peer(&self) -> bool {
        let start = self.peer.forwarding_start();
        start.is_some_and(|start| self.shared.trusts(start.ip()))
    }

    /// Records the PROXY protocol header.
    ///
    /// # Errors
    ///
    /// If the client's address has reached one of its limits.
    pub(crate) fn note_header(&mut self, header: &Header) -> Result<(), HandshakeError> {
        if !self.peer.set_header(header) || matches!(header.source, Source::Local) {
            // The proxy connects on its own behalf, for health checks, and has no limit.
            return Ok(());
        }
        if self.has_forwarding_peer() {
            // Another proxy is in front of this one, and its requests name the client.
            return Ok(());
        }
        self.count_client()
    }

    /// Finds the client that a request is from, where proxies are trusted.
    ///
    /// # Errors
    ///
    /// If the client's address has reached one of its limits.
    pub(crate) fn identify(&mut self, request: &Request) -> Result<(), HandshakeError> {
        if !self.has_forwarding_peer() {
            return Ok(());
        }
        let (Some(forwarding), Some(start)) =
            (&self.shared.config.forwarding, self.peer.forwarding_start())
        else {
            return Ok(());
        };
        let client = forwarding.client(request.headers(), start.socket_addr());
        self.peer.set_client(client);
        self.release_client();
        self.count_client()
    }

    /// Counts the connection against the limits of its client's address.
    fn count_client(&mut self) -> Result<(), HandshakeError> {
        let addr = self.peer.addr().socket_addr();
        let shared = &mut *self.shared;
        let admitted = shared.addresses.admit(addr, shared.now, &mut shared.stats);
        if let Err(error) = admitted {
            shared.log_over_address(error, addr);
            return Err(error);
        }
        let ip = self.peer.addr().ip();
        self.peer.set_counted(ip);
        if !self.peer.is_half_open() {
            self.shared.addresses.opened(ip);
        }
        Ok(())
    }

    /// Forgets the client of an answered request: the next one on a connection from a proxy may
    /// come from another client.
    pub(crate) fn forget_client(&mut self) {
        if self.has_forwarding_peer() {
            self.release_client();
            self.peer.forget_client();
        }
    }

    /// Stops counting the connection against the limits of its client's address.
    fn release_client(&mut self) {
        let counted = self.peer.take_counted();
        if counted.is_some() {
            if self.peer.is_half_open() {
                self.shared.addresses.opened(counted);
            }
            self.shared.addresses.left(counted, self.shared.now);
        }
    }
}
