//! The client of a connection that came through a proxy.

use std::net::IpAddr;

use super::core::Core;
use super::names::Addr;
use super::peer::Peer;
use crate::error::HandshakeError;
use crate::handshake::Request;
use crate::proxy::{Header, Source};

/// What is known of a connection that came through a proxy.
#[derive(Debug, Default)]
pub(crate) struct Proxied {
    /// The address of the socket's peer, which is the proxy.
    direct: Addr,
    /// Where the search for the client begins at each request: the proxy, or whom the header of the
    /// PROXY protocol named.
    start: Addr,
    /// The header of the PROXY protocol did not name a client: what requests say is not believed.
    unknown: bool,
    /// The address against whose limits the connection counts.
    counted: Option<IpAddr>,
    /// What the PROXY header says of TLS, which holds for `start`: whether it speaks TLS, and
    /// whether it showed a certificate that was found good.
    header_secure: Option<bool>,
    header_verified: bool,
    /// The same of the client of the last request.
    secure: Option<bool>,
    verified: bool,
    /// The host that the client asked for.
    host: Option<Box<str>>,
}

impl Peer {
    /// Notes that the connection comes from a trusted proxy. It counts against no address until the
    /// client's is known.
    pub(crate) fn is_of_proxy(&mut self) {
        let direct = self.addr;
        self.extras_mut().proxied = Some(Box::new(Proxied {
            direct,
            start: direct,
            ..Proxied::default()
        }));
    }

    /// Returns what is known of a connection that came through a proxy.
    fn proxied(&self) -> Option<&Proxied> {
        self.extras()?.proxied.as_deref()
    }

    fn proxied_mut(&mut self) -> Option<&mut Proxied> {
        self.extras.as_deref_mut()?.proxied.as_deref_mut()
    }

    /// Returns the address of the socket's own peer.
    pub(super) fn direct(&self) -> Addr {
        self.proxied().map_or(self.addr, |proxied| proxied.direct)
    }

    /// Returns the address against whose limits the connection counts.
    pub(super) fn counted(&self) -> Option<IpAddr> {
        match self.proxied() {
            Some(proxied) => proxied.counted,
            None => self.addr.ip(),
        }
    }

    /// Returns whether the client speaks TLS, with this server or with a proxy that tells it.
    pub(crate) fn is_client_secure(&self) -> bool {
        let told = self.proxied().and_then(|proxied| proxied.secure);
        told.unwrap_or_else(|| self.transport.is_secure())
    }

    /// Returns whether a proxy has found the client's certificate good.
    pub(super) fn is_verified_by_proxy(&self) -> bool {
        self.proxied().is_some_and(|proxied| proxied.verified)
    }

    /// Returns the host that the client asked for: as a proxy tells it, or by `Host`.
    pub(crate) fn asked_host<'a>(&'a self, request: &'a Request) -> Option<&'a str> {
        let told = self.proxied().and_then(|proxied| proxied.host.as_deref());
        told.or_else(|| request.host())
    }
}

impl Core {
    /// Returns whether a peer with this address tells its clients with their requests.
    pub(crate) fn trusts(&self, ip: Option<IpAddr>) -> bool {
        let forwarding = self.config.forwarding.as_deref();
        forwarding.is_some_and(|forwarding| forwarding.trusts(ip))
    }

    /// Returns whether the requests on a connection tell its clients: it comes from a trusted
    /// proxy, by its socket or by the header of the PROXY protocol.
    fn has_forwarding_peer(&self, slot: usize) -> bool {
        let proxied = self.peers.get(slot).and_then(Peer::proxied);
        proxied.is_some_and(|proxied| !proxied.unknown && self.trusts(proxied.start.ip()))
    }

    /// Takes note of the header of the PROXY protocol.
    ///
    /// # Errors
    ///
    /// If the client has more connections than its address may have.
    pub(crate) fn note_header(
        &mut self,
        slot: usize,
        header: &Header,
    ) -> Result<(), HandshakeError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Ok(());
        };
        let Some(proxied) = peer.proxied_mut() else {
            return Ok(());
        };
        proxied.header_secure = header.secure;
        proxied.secure = header.secure;
        proxied.header_verified = header.verified;
        proxied.verified = header.verified;
        match header.source {
            // The proxy asks for itself, for health checks: it has no limit. Some send this for
            // clients that they have no address of, so nothing more is believed.
            Source::Local => {
                proxied.unknown = true;
                return Ok(());
            }
            Source::Unknown => proxied.unknown = true,
            Source::Client(addr) => proxied.start = Some(addr).into(),
        }
        peer.addr = proxied.start;
        if self.has_forwarding_peer(slot) {
            // A proxy in front of the proxy: its requests tell more.
            return Ok(());
        }
        self.count_client(slot)
    }

    /// Finds the client that a request is from, where proxies are trusted.
    ///
    /// # Errors
    ///
    /// If the client has more connections than its address may have.
    pub(crate) fn identify(
        &mut self,
        slot: usize,
        request: &Request,
    ) -> Result<(), HandshakeError> {
        if !self.has_forwarding_peer(slot) {
            return Ok(());
        }
        let (Some(forwarding), Some(peer)) = (&self.config.forwarding, self.peers.get_mut(slot))
        else {
            return Ok(());
        };
        let Some(proxied) = peer.proxied_mut() else {
            return Ok(());
        };
        let start = proxied.start.socket_addr();
        let client = forwarding.client(request.headers(), start);
        let is_start = client.addr == start;
        let by_header = proxied.header_secure.filter(|_| is_start);
        proxied.secure = client.secure.or(by_header);
        proxied.verified = proxied.header_verified && is_start;
        proxied.host = client.host.map(|host| host.into());
        peer.addr = client.addr.into();
        self.release_client(slot);
        self.count_client(slot)
    }

    /// Counts a connection against the limits of its client's address.
    fn count_client(&mut self, slot: usize) -> Result<(), HandshakeError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Ok(());
        };
        let addr = peer.addr.socket_addr();
        if let Err(error) = self.addresses.admit(addr, self.now, &mut self.stats) {
            self.tell_over_address(error, addr);
            return Err(error);
        }
        let Some(peer) = self.peers.get_mut(slot) else {
            return Ok(());
        };
        let ip = peer.addr.ip();
        let half_open = peer.half_open;
        if let Some(proxied) = peer.proxied_mut() {
            proxied.counted = ip;
        }
        if !half_open {
            self.addresses.opened(ip);
        }
        Ok(())
    }

    /// Forgets the client of a request that was answered: the next one on a connection from a proxy
    /// may be another's.
    pub(crate) fn forget_client(&mut self, slot: usize) {
        if !self.has_forwarding_peer(slot) {
            return;
        }
        self.release_client(slot);
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        if let Some(proxied) = peer.proxied_mut() {
            proxied.secure = proxied.header_secure;
            proxied.verified = proxied.header_verified;
            proxied.host = None;
            peer.addr = proxied.start;
        }
    }

    /// Stops counting a connection against the limits of its client's address.
    fn release_client(&mut self, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let half_open = peer.half_open;
        let counted = peer
            .proxied_mut()
            .and_then(|proxied| proxied.counted.take());
        if counted.is_some() {
            if half_open {
                self.addresses.opened(counted);
            }
            self.addresses.left(counted, self.now);
        }
    }
}
