//! The names and the address that outlive the opening handshake, stored in few bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The requested URI, the origin and the subprotocol, in one allocation.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The three strings, one after the other.
    text: Box<str>,
    uri_len: u32,
    /// `NONE` if there is no origin.
    origin_len: u32,
}

impl Identity {
    /// Returns how many bytes of memory the strings take.
    pub(crate) fn held(&self) -> usize {
        self.text.len()
    }

    /// Copies the strings; together they are at most about as large as the request.
    pub(crate) fn new(uri: &str, origin: Option<&str>, subprotocol: Option<&str>) -> Self {
        let text = [
            uri,
            origin.unwrap_or_default(),
            subprotocol.unwrap_or_default(),
        ]
        .concat();
        Self {
            text: text.into_boxed_str(),
            uri_len: uri.len() as u32,
            origin_len: origin.map_or(NONE, |origin| origin.len() as u32),
        }
    }

    pub(crate) fn uri(&self) -> &str {
        self.split().0
    }

    pub(crate) fn origin(&self) -> Option<&str> {
        (self.origin_len != NONE).then_some(self.split().1)
    }

    /// Returns the subprotocol, whose name is a token and therefore never empty.
    pub(crate) fn subprotocol(&self) -> Option<&str> {
        Some(self.split().2).filter(|name| !name.is_empty())
    }

    fn split(&self) -> (&str, &str, &str) {
        let origin_len = if self.origin_len == NONE {
            0
        } else {
            self.origin_len
        };
        let uri = self.text.split_at_checked(self.uri_len as usize);
        let (uri, rest) = uri.unwrap_or_default();
        let (origin, subprotocol) = rest
            .split_at_checked(origin_len as usize)
            .unwrap_or_default();
        (uri, origin, subprotocol)
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new("", None, None)
    }
}

/// The value of `origin_len` if there is no origin.
const NONE: u32 = u32::MAX;

/// A peer's address, without the fields of `SocketAddr` that are not needed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Addr {
    /// A Unix socket.
    #[default]
    Unnamed,
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl Addr {
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Unnamed => None,
            Self::V4(ip, _) => Some(Ipv4Addr::from(ip).into()),
            Self::V6(ip, _) => Some(Ipv6Addr::from(ip).into()),
        }
    }

    pub(crate) fn socket_addr(self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip()?, self.port()?))
    }

    pub(crate) fn port(self) -> Option<u16> {
        match self {
            Self::Unnamed => None,
            Self::V4(_, port) | Self::V6(_, port) => Some(port),
        }
    }
}

impl From<Option<SocketAddr>> for Addr {
    fn from(addr: Option<SocketAddr>) -> Self {
        match addr {
            None => Self::Unnamed,
            Some(SocketAddr::V4(addr)) => Self::V4(addr.ip().octets(), addr.port()),
            Some(SocketAddr::V6(addr)) => Self::V6(addr.ip().octets(), addr.port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_apart() {
        let none = Identity::default();
        assert_eq!(
            (none.uri(), none.origin(), none.subprotocol()),
            ("", None, None)
        );
        let uri = "ws://h/p?q";
        for origin in [None, Some(""), Some("http://é")] {
            for subprotocol in [None, Some("chat")] {
                let names = Identity::new(uri, origin, subprotocol);
                let kept = (names.uri(), names.origin(), names.subprotocol());
                assert_eq!(kept, (uri, origin, subprotocol));
            }
        }
    }

    #[test]
    fn addresses_keep_what_they_are_asked_for() {
        for text in ["1.2.3.4:5", "[2001:db8::1]:65535"] {
            let addr: SocketAddr = text.parse().unwrap();
            let kept = Addr::from(Some(addr));
            assert_eq!(
                (kept.ip(), kept.port()),
                (Some(addr.ip()), Some(addr.port()))
            );
        }
        assert_eq!((Addr::default().ip(), Addr::default().port()), (None, None));
    }
}
