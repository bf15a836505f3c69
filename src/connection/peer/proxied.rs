//! The client of a connection that came through a proxy.

use std::net::IpAddr;

use super::{Addr, Peer};
use crate::handshake::Request;
use crate::proxy::{Client, Header, Source};

/// The state of a connection that came through a proxy.
#[derive(Debug, Default)]
pub(crate) struct Proxied {
    /// The address of the socket's peer, which is the proxy.
    direct: Addr,
    /// Where the search for the client begins at each request: the proxy, or the client that the
    /// PROXY protocol header named.
    start: Addr,
    /// Whether the PROXY protocol header named no client; what requests say is not trusted then.
    unknown: bool,
    /// The address against whose limits the connection counts.
    counted: Option<IpAddr>,
    /// What the PROXY protocol header says about `start`: whether it speaks TLS, and whether it
    /// presented a valid certificate.
    header_secure: Option<bool>,
    header_verified: bool,
    /// The same for the client of the last request.
    secure: Option<bool>,
    verified: bool,
    /// The host that the client asked for, if a proxy reported it.
    host: Option<Box<str>>,
}

impl Peer {
    /// Records that the connection comes from a trusted proxy. It counts against no address until
    /// the client's is known.
    pub(crate) fn is_of_proxy(&mut self) {
        let direct = self.addr;
        self.extras_mut().proxied = Some(Box::new(Proxied {
            direct,
            start: direct,
            ..Proxied::default()
        }));
    }

    /// Returns the state of a connection that came through a proxy.
    fn proxied(&self) -> Option<&Proxied> {
        self.extras()?.proxied.as_deref()
    }

    fn proxied_mut(&mut self) -> Option<&mut Proxied> {
        self.extras.as_deref_mut()?.proxied.as_deref_mut()
    }

    /// Returns the address of the socket's peer.
    pub(crate) fn direct(&self) -> Addr {
        self.proxied().map_or(self.addr, |proxied| proxied.direct)
    }

    /// Returns the address against whose limits the connection counts.
    pub(crate) fn counted(&self) -> Option<IpAddr> {
        match self.proxied() {
            Some(proxied) => proxied.counted,
            None => self.addr.ip(),
        }
    }

    /// Returns whether the client speaks TLS, with this server or with a proxy that reports it.
    pub(crate) fn is_client_secure(&self) -> bool {
        let told = self.proxied().and_then(|proxied| proxied.secure);
        told.unwrap_or_else(|| self.transport.is_secure())
    }

    /// Returns whether a proxy has verified the client's certificate.
    pub(crate) fn is_verified_by_proxy(&self) -> bool {
        self.proxied().is_some_and(|proxied| proxied.verified)
    }

    /// Returns the host that the client asked for: as a proxy reported it, or else from `Host`.
    pub(crate) fn asked_host<'a>(&'a self, request: &'a Request) -> Option<&'a str> {
        let told = self.proxied().and_then(|proxied| proxied.host.as_deref());
        told.or_else(|| request.host())
    }

    /// Returns where the search for the client begins at each request; `None` if requests are not
    /// trusted.
    pub(crate) fn forwarding_start(&self) -> Option<Addr> {
        let proxied = self.proxied()?;
        (!proxied.unknown).then_some(proxied.start)
    }

    /// Records the PROXY protocol header; returns whether one was awaited.
    pub(crate) fn set_header(&mut self, header: &Header) -> bool {
        let Some(proxied) = self.proxied_mut() else {
            return false;
        };
        proxied.header_secure = header.secure;
        proxied.secure = header.secure;
        proxied.header_verified = header.verified;
        proxied.verified = header.verified;
        match header.source {
            // Some proxies send `Local` for clients whose address they do not know, so nothing more
            // is trusted.
            Source::Local | Source::Unknown => proxied.unknown = true,
            Source::Client(addr) => proxied.start = Some(addr).into(),
        }
        self.addr = proxied.start;
        true
    }

    /// Records the client of a request.
    pub(crate) fn set_client(&mut self, client: Client<'_>) {
        let Some(proxied) = self.proxied_mut() else {
            return;
        };
        let is_start = client.addr == proxied.start.socket_addr();
        let by_header = proxied.header_secure.filter(|_| is_start);
        proxied.secure = client.secure.or(by_header);
        proxied.verified = proxied.header_verified && is_start;
        proxied.host = client.host.map(Into::into);
        self.addr = client.addr.into();
    }

    /// Forgets the client of a request.
    pub(crate) fn forget_client(&mut self) {
        if let Some(proxied) = self.proxied_mut() {
            proxied.secure = proxied.header_secure;
            proxied.verified = proxied.header_verified;
            proxied.host = None;
            self.addr = proxied.start;
        }
    }

    /// Records the address against whose limits the connection counts.
    pub(crate) fn set_counted(&mut self, ip: Option<IpAddr>) {
        if let Some(proxied) = self.proxied_mut() {
            proxied.counted = ip;
        }
    }

    pub(crate) fn take_counted(&mut self) -> Option<IpAddr> {
        self.proxied_mut()?.counted.take()
    }
}
