//! The origins that may connect (RFC 6454; RFC 6455, 10.2).

use http::uri::Authority;

use crate::error::BuildError;

/// A list of the origins whose pages may open a WebSocket.
///
/// Each entry is one of
///
/// * an origin as browsers write it: scheme, host and, unless it is the scheme's default, port, for
///   example `https://example.com` or `http://localhost:3000`; some clients that are not browsers,
///   such as libraries for ESP8266 and ESP32, send `file://`;
/// * `self`: the host and port that the request was sent to (its `Host`); over TLS, only with the
///   scheme `https`;
/// * `null`: the origin that browsers send for pages without an origin of their own, such as files
///   and sandboxed frames;
/// * `none`: a request without an `Origin`. Browsers always send one (RFC 6455, 10.2), so such a
///   request comes from another program;
/// * `*`: any request.
///
/// Origins are compared as a whole, never by prefix or suffix. Scheme and host are compared without
/// regard to case, and the scheme's default port is equivalent to no port.
///
/// ```
/// use wsloop::handshake::Origins;
///
/// let origins = Origins::new(["https://example.com", "none"])?;
/// assert!(origins.allow(Some("https://example.com"), None, true));
/// assert!(!origins.allow(Some("https://example.com.evil.test"), None, true));
/// assert!(origins.allow(None, None, true));
/// # Ok::<(), wsloop::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Origins {
    exact: Vec<Origin>,
    any: bool,
    none: bool,
    null: bool,
    same: bool,
}

impl Origins {
    /// Makes a list of entries.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::BadOrigin`] for the first entry that has none of these forms.
    pub fn new<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        let mut origins = Self::default();
        for entry in entries {
            match entry.as_ref() {
                "*" => origins.any = true,
                "none" => origins.none = true,
                "null" => origins.null = true,
                "self" => origins.same = true,
                text => {
                    // RFC 3986 allows `*` in a host name, but here it is meant as a pattern.
                    let origin = Origin::parse(text).filter(|_| !text.contains('*'));
                    let origin = origin.ok_or_else(|| BuildError::BadOrigin(text.to_owned()))?;
                    origins.exact.push(origin);
                }
            }
        }
        Ok(origins)
    }

    /// Returns whether a request with this `Origin` and `Host` may connect; `secure` means over
    /// TLS.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>, secure: bool) -> bool {
        if self.any {
            return true;
        }
        let Some(origin) = origin else {
            return self.none;
        };
        if origin == "null" {
            return self.null;
        }
        // RFC 6454, 7.1 allows a list. No browser sends one, and it is refused here.
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        self.exact.contains(&origin)
            || self.same && host.is_some_and(|host| origin.is_of(host, secure))
    }

    /// Returns whether `self` is listed, and this origin differs from `host` in the port only.
    pub(crate) fn is_other_port(&self, origin: &str, host: &str, secure: bool) -> bool {
        let (Some(origin), Some((host, _))) = (Origin::parse(origin), host_and_port(host)) else {
            return false;
        };
        let scheme = matches!((&*origin.scheme, secure), ("https", _) | ("http", false));
        self.same && scheme && host == origin.host
    }

    /// Returns whether `self` is listed, and `host` looks like an internal name or address of this
    /// server, such as a proxy sends if it does not pass on the client's `Host`.
    pub(crate) fn is_proxied(&self, origin: &str, host: &str) -> bool {
        let (Some(origin), Some((host, _))) = (Origin::parse(origin), host_and_port(host)) else {
            return false;
        };
        // An IPv4 or IPv6 address, or a name without a domain.
        let is_address = host
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_inner = is_address || host.starts_with('[') || !host.contains('.');
        self.same && host != origin.host && is_inner
    }
}

/// Scheme, host and port of an origin.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Origin {
    /// In lower case.
    scheme: Box<str>,
    /// In lower case.
    host: Box<str>,
    /// `None` if the scheme has no default port, and none was given.
    port: Option<u16>,
}

impl Origin {
    /// Parses an origin: scheme "://" host [ ":" port ], and nothing else (RFC 6454, 7).
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let mut letters = scheme.bytes();
        let starts = letters
            .next()
            .is_some_and(|letter| letter.is_ascii_alphabetic());
        if !starts || !letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = match authority {
            // RFC 8089, 2: a file URI may have no host. Schemes with a default port require one.
            "" if own_port(&scheme).is_none() => (Box::default(), None),
            authority if super::host::is_host(authority.as_bytes()) => host_and_port(authority)?,
            _ => return None,
        };
        Some(Self {
            port: port.or_else(|| own_port(&scheme)),
            scheme: scheme.into(),
            host,
        })
    }

    /// Returns whether this is the origin of `host`. On a plain connection both schemes match,
    /// because a proxy may have terminated TLS.
    fn is_of(&self, host: &str, secure: bool) -> bool {
        let own = own_port(&self.scheme);
        let scheme = match &*self.scheme {
            "https" => true,
            "http" => !secure,
            _ => false,
        };
        scheme
            && host_and_port(host)
                .is_some_and(|(host, port)| host == self.host && port.or(own) == self.port)
    }
}

/// Splits a text that `is_host` accepts; an empty port gives `None`.
fn host_and_port(text: &str) -> Option<(Box<str>, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host().to_ascii_lowercase();
    Some((host.into(), authority.port_u16()))
}

/// Returns the default port of a scheme.
fn own_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entries: &[&str], origin: &str) -> bool {
        let origins = Origins::new(entries).unwrap();
        origins.allow(Some(origin), Some("example.com"), false)
    }

    #[test]
    fn origins_are_compared_as_a_whole() {
        let list = [
            "https://example.com",
            "http://localhost:3000",
            "http://[::1]:80",
        ];
        for origin in [
            "https://example.com",
            "https://example.com:443",
            "HTTPS://Example.COM",
            "http://localhost:3000",
            "http://[::1]",
        ] {
            assert!(allows(&list, origin), "{origin}");
        }
        for origin in [
            "",
            "null",
            "http://example.com",
            "https://example.com:80",
            "https://example.com:8443",
            "https://example.com.evil.test",
            "https://evil.test/https://example.com",
            "https://evilexample.com",
            "https://www.example.com",
            "https://example.com.",
            "https://example.com@evil.test",
            "https://evil.test#https://example.com",
            "https://evil.test?https://example.com",
            "https://example.com/",
            "https://example.com:443/",
            "https://example.com:",
            "https://example.com:0443x",
            "https://user@example.com",
            "https://example.com https://evil.test",
            "https://example.com, https://evil.test",
            " https://example.com",
            "https:example.com",
            "//example.com",
            "example.com",
            "https://",
            "://example.com",
            "https://example%2ecom",
            "http://localhost",
            "http://localhost:30000",
            "http://[::2]",
        ] {
            let same = origin == "https://example.com:";
            assert_eq!(allows(&list, origin), same, "{origin}");
        }
    }

    #[test]
    fn the_special_entries_are_what_they_say() {
        let check = |entry: &str, origin| {
            Origins::new([entry])
                .unwrap()
                .allow(origin, Some("example.com"), false)
        };
        for (entry, missing, null, other) in [
            ("*", true, true, true),
            ("none", true, false, false),
            ("null", false, true, false),
            ("self", false, false, false),
            ("http://a", false, false, false),
        ] {
            assert_eq!(check(entry, None), missing, "{entry}");
            assert_eq!(check(entry, Some("null")), null, "{entry}");
            assert_eq!(check(entry, Some("NULL")), entry == "*", "{entry}");
            assert_eq!(check(entry, Some("http://evil.test")), other, "{entry}");
        }
        assert!(!Origins::new::<&str>([]).unwrap().allow(None, None, false));
    }

    #[test]
    fn the_same_host() {
        let same = Origins::new(["self"]).unwrap();
        let plain = |origin, host| same.allow(Some(origin), Some(host), false);
        assert!(plain("http://example.com", "example.com"));
        assert!(plain("http://example.com", "EXAMPLE.com:80"));
        assert!(plain("http://example.com:8080", "example.com:8080"));
        assert!(plain("http://[::1]:8080", "[::1]:8080"));
        // With a proxy that terminates TLS.
        assert!(plain("https://example.com", "example.com"));
        assert!(plain("https://example.com", "example.com:443"));
        for (origin, host) in [
            ("http://example.com", "example.com:8080"),
            ("http://example.com:8080", "example.com"),
            ("https://example.com", "example.com:80"),
            ("http://example.com", "www.example.com"),
            ("http://example.com", "example.com.evil.test"),
            ("ftp://example.com", "example.com"),
            ("null", "null"),
        ] {
            assert!(!plain(origin, host), "{origin} {host}");
        }
        assert!(same.allow(Some("https://example.com"), Some("example.com"), true));
        assert!(!same.allow(Some("http://example.com"), Some("example.com"), true));
        assert!(!same.allow(Some("http://example.com"), None, false));
    }

    #[test]
    fn entries_that_are_none_are_told() {
        for entry in [
            "",
            "example.com",
            "https://example.com/",
            "https://*.example.com",
            "https://example.com:x",
            "Self",
            "https://a https://b",
        ] {
            let error = Origins::new([entry]).unwrap_err();
            assert!(
                matches!(error, BuildError::BadOrigin(named) if named == entry),
                "{entry}"
            );
        }
        assert!(Origins::new(["chrome-extension://abcdef"]).is_ok());
    }
}
