//! Settings of what proxies tell.

use super::Builder;
use crate::error::BuildError;
use crate::proxy::{ClientAddress, Forwarding, Networks};

/// Who is trusted to tell the client of a request, and what is taken of what they tell.
#[derive(Default)]
pub(super) struct Proxies {
    trusted: Option<Vec<String>>,
    address: Option<ClientAddress>,
    scheme: bool,
    host: bool,
}

impl Proxies {
    /// Checks the settings together.
    pub(super) fn check(self) -> Result<Option<Box<Forwarding>>, BuildError> {
        let conflict = |what| Err(BuildError::Conflict(what));
        let (trusted, address) = match (self.trusted, self.address) {
            (Some(trusted), Some(address)) => (trusted, address),
            (Some(_), None) => {
                return conflict("trusted_proxies is set without client_address: name the header");
            }
            (None, Some(_)) => {
                return conflict(
                    "client_address is set without trusted_proxies: any client could write it",
                );
            }
            (None, None) if self.scheme || self.host => {
                return conflict(
                    "forwarded_scheme or forwarded_host is set without trusted_proxies and \
                     client_address",
                );
            }
            (None, None) => return Ok(None),
        };
        let trusted = Networks::new(trusted).map_err(BuildError::BadNetwork)?;
        let forwarding = Forwarding::new(trusted, address).map_err(BuildError::BadHeaderName)?;
        let forwarding = forwarding.with_scheme(self.scheme).with_host(self.host);
        Ok(Some(Box::new(forwarding)))
    }
}

impl Builder {
    /// Sets which peers are proxies that are trusted to tell the client of a request, in the header
    /// that [`client_address`](Self::client_address) names: `["127.0.0.1", "10.0.0.0/8", "unix:"]`,
    /// as [`Networks`](crate::proxy::Networks) has them. Default none: without it, what requests
    /// say of addresses is not looked at.
    ///
    /// Name the proxies and nothing else. A program that connects from one of these addresses, or
    /// that may write to the Unix socket, can claim any client address.
    ///
    /// ```
    /// use wsloop::{ClientAddress, Server};
    ///
    /// let builder = Server::builder()
    ///     .trusted_proxies(["127.0.0.1", "::1"])
    ///     .client_address(ClientAddress::XForwardedFor)
    ///     .forwarded_scheme(true);
    /// ```
    pub fn trusted_proxies<S: Into<String>>(
        mut self,
        proxies: impl IntoIterator<Item = S>,
    ) -> Self {
        self.proxies.trusted = Some(proxies.into_iter().map(Into::into).collect());
        self
    }

    /// Sets in which header [`trusted_proxies`](Self::trusted_proxies) tell the client's address.
    /// No other is looked at. Default none.
    ///
    /// The header is a list to which each proxy appends the address that it was asked from. It is
    /// read from right to left: addresses of trusted proxies are skipped, and the first other
    /// address is the client's. What a client has written itself stands to the left of that. At an
    /// element that cannot be read (`unknown`, a name) the search stops; the client is then the
    /// last address that was read.
    ///
    /// From the `Origin` event on, or the `Request` event of a plain request, everything that goes
    /// by address goes by the client: [`Connection::peer_addr`](crate::Connection::peer_addr),
    /// logs, the limits for each address. A request that exceeds them is answered with 429. Until
    /// then a trusted proxy has no limit of its own but those of the server
    /// ([`max_half_open`](Self::max_half_open), [`handshake_timeout`](Self::handshake_timeout)).
    /// Each request counts as a handshake, and a plain one counts for its client until it is
    /// answered, since the proxy may send another's next.
    ///
    /// With [`Place::proxy_protocol`](crate::Place::proxy_protocol) the search starts at the
    /// address in that header instead of the socket's peer.
    pub fn client_address(mut self, header: ClientAddress) -> Self {
        self.proxies.address = Some(header);
        self
    }

    /// Sets whether [`trusted_proxies`](Self::trusted_proxies) tell as well if the client speaks
    /// TLS with them: by `proto` of `Forwarded` if that is what
    /// [`client_address`](Self::client_address) names, otherwise by the last value of
    /// `X-Forwarded-Proto`. Default false.
    ///
    /// It makes [`Connection::request_uri`](crate::Connection::request_uri) (`wss:`) and
    /// [`origins(["self"])`](Self::origins) right behind a proxy that ends TLS. Make sure that the
    /// proxy sets the header, because one that does not passes on what the client wrote.
    pub fn forwarded_scheme(mut self, on: bool) -> Self {
        self.proxies.scheme = on;
        self
    }

    /// Sets whether [`trusted_proxies`](Self::trusted_proxies) tell as well which host the client
    /// asked for: by `host` of `Forwarded` if that is what [`client_address`](Self::client_address)
    /// names, otherwise by the last value of `X-Forwarded-Host`. Default false.
    ///
    /// For proxies that send a `Host` of their own. [`hosts`](Self::hosts),
    /// [`origins(["self"])`](Self::origins) and
    /// [`Connection::request_uri`](crate::Connection::request_uri) then go by it, and by `Host`
    /// where it is missing or malformed. Make sure that the proxy sets the header.
    pub fn forwarded_host(mut self, on: bool) -> Self {
        self.proxies.host = on;
        self
    }
}
