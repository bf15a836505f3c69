//! The host names that the server answers to (RFC 9110, 7.4).

use http::uri::Authority;

use super::host::is_host;
use crate::error::BuildError;

/// The hosts that requests may name, each with a port, or without one to allow any port.
#[derive(Clone, Debug)]
pub(crate) struct Hosts(Vec<(Box<str>, Option<u16>)>);

impl Hosts {
    /// Makes a list of entries, which have the syntax of `Host`.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::BadHost`] for the first entry that is not a host name.
    pub(crate) fn new(entries: impl IntoIterator<Item = String>) -> Result<Self, BuildError> {
        let parsed = entries.into_iter().map(|entry| {
            // RFC 3986 allows `*` in a host name, but here it is meant as a pattern.
            let host = split(&entry).filter(|_| !entry.contains('*'));
            host.ok_or(BuildError::BadHost(entry))
        });
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    /// Returns whether this `Host` names the server; `false` if there is none.
    pub(crate) fn serve(&self, host: Option<&str>) -> bool {
        let Some((name, port)) = host.and_then(split) else {
            return false;
        };
        // RFC 9110, 4.2: clients omit the scheme's default port, and the scheme is not known behind
        // a proxy.
        let matches = |known: &(Box<str>, Option<u16>)| {
            let same = match (known.1, port) {
                (None, _) | (Some(80 | 443), None) => true,
                (known, port) => known == port,
            };
            known.0 == name && same
        };
        self.0.iter().any(matches)
    }
}

/// Splits `uri-host [ ":" port ]`, and converts the name to lower case.
fn split(text: &str) -> Option<(Box<str>, Option<u16>)> {
    let authority: Authority = text.parse().ok().filter(|_| is_host(text.as_bytes()))?;
    let name = authority.host().to_ascii_lowercase();
    Some((name.into(), authority.port_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_a_whole() {
        let entries = ["Example.com", "localhost:3000", "[::1]", "secure.test:443"];
        let entries = entries.map(str::to_owned);
        let hosts = Hosts::new(entries).unwrap();
        for host in [
            "example.com",
            "EXAMPLE.COM:8443",
            "example.com:",
            "localhost:3000",
            "[::1]",
            "[::1]:80",
            "secure.test",
            "secure.test:443",
        ] {
            assert!(hosts.serve(Some(host)), "{host}");
        }
        for host in [
            "",
            "secure.test:80",
            "localhost",
            "localhost:",
            "localhost:300",
            "localhost:30000",
            "www.example.com",
            "example.com.",
            "example.com.evil.test",
            "evil.test",
            "u@example.com",
            "::1",
            "[::2]",
            "127.0.0.1",
        ] {
            assert!(!hosts.serve(Some(host)), "{host}");
        }
        assert!(!hosts.serve(None));
    }

    #[test]
    fn entries_that_are_none_are_told() {
        for entry in [
            "", "a b", "http://a", "a/", "u@a", "*.a", "a:x", "a:65536", "::1",
        ] {
            let error = Hosts::new([entry.to_owned()]).unwrap_err();
            assert!(
                matches!(error, BuildError::BadHost(named) if named == entry),
                "{entry}"
            );
        }
    }
}
