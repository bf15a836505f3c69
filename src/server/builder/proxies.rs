//! Settings of trusted proxies.

use super::Builder;
use crate::error::BuildError;
use crate::proxy::{ClientAddress, Forwarding, Networks};

/// The trusted proxies, and the data that is taken from their headers.
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
                return conflict(
                    "trusted_proxies is set without client_address, which names the header to read",
                );
            }
            (None, Some(_)) => {
                return conflict(
                    "client_address is set without trusted_proxies: any client could set the header",
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
        let trusted = Networks::new(trusted)?;
        let forwarding = Forwarding::new(trusted, address)?;
        let forwarding = forwarding.with_scheme(self.scheme).with_host(self.host);
        Ok(Some(Box::new(forwarding)))
    }
}

impl Builder {
    /// Sets the proxies that are trusted to supply the address of a request's client, in the header
    /// that [`client_address`](Self::client_address) names: `["127.0.0.1", "10.0.0.0/8", "unix:"]`,
    /// in the syntax of [`Networks`](crate::proxy::Networks). Default none: addresses in requests
    /// are ignored.
    ///
    /// List the proxies and nothing else. A program that connects from one of these addresses, or
    /// that can write to the Unix socket, can claim any client address.
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

    /// Sets the header in which [`trusted_proxies`](Self::trusted_proxies) supply the client's
    /// address. No other header is used. Default none.
    ///
    /// The header is a list to which each proxy appends the address of its own peer. It is read
    /// from right to left: addresses of trusted proxies are skipped, and the first other address is
    /// the client's. Text that a client wrote itself stands to the left of that. The search stops
    /// at an element that cannot be parsed (`unknown`, a name); the client is then the last address
    /// before it.
    ///
    /// From the `Origin` event on, or the `Request` event of a plain request, this address is used
    /// everywhere: for [`Connection::peer_addr`](crate::Connection::peer_addr), in logs, and for
    /// the limits per address. A request that exceeds them is answered with 429. Until then only
    /// the limits of the whole server apply to a trusted proxy
    /// ([`max_half_open`](Self::max_half_open), [`handshake_timeout`](Self::handshake_timeout)).
    /// Each request counts as a handshake. A plain one counts for its client until it is answered,
    /// since the proxy may send another client's request next.
    ///
    /// With [`Place::proxy_protocol`](crate::Place::proxy_protocol) the search starts at the
    /// address in that header instead of the socket's peer.
    pub fn client_address(mut self, header: ClientAddress) -> Self {
        self.proxies.address = Some(header);
        self
    }

    /// Sets whether [`trusted_proxies`](Self::trusted_proxies) also say whether the client uses
    /// TLS: in `proto` of `Forwarded` if [`client_address`](Self::client_address) names that
    /// header, otherwise in the last value of `X-Forwarded-Proto`. Default false.
    ///
    /// Behind a proxy that terminates TLS,
    /// [`Connection::request_uri`](crate::Connection::request_uri) (`wss:`) and
    /// [`origins(["self"])`](Self::origins) are correct only with this setting. Make sure that the
    /// proxy sets the header; otherwise its value comes from the client.
    pub fn forwarded_scheme(mut self, on: bool) -> Self {
        self.proxies.scheme = on;
        self
    }

    /// Sets whether [`trusted_proxies`](Self::trusted_proxies) also supply the host that the client
    /// requested: in `host` of `Forwarded` if [`client_address`](Self::client_address) names that
    /// header, otherwise in the last value of `X-Forwarded-Host`. Default false.
    ///
    /// This is for proxies that send a `Host` of their own. [`hosts`](Self::hosts),
    /// [`origins(["self"])`](Self::origins) and
    /// [`Connection::request_uri`](crate::Connection::request_uri) then use this value, and `Host`
    /// if it is missing or malformed. Make sure that the proxy sets the header.
    pub fn forwarded_host(mut self, on: bool) -> Self {
        self.proxies.host = on;
        self
    }
}
