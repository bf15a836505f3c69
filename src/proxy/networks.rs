//! The peers that are trusted as proxies.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::error::BuildError;

/// A list of addresses and networks, optionally with all Unix sockets.
///
/// Each entry is one of
///
/// * an address, IPv4 or IPv6: `10.0.0.7`, `2001:db8::7`;
/// * a network in CIDR notation (RFC 4632): `10.0.0.0/8`, `2001:db8::/32`;
/// * `unix:` for all peers over Unix sockets, which have no address, as in nginx's
///   `set_real_ip_from`.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.7`) is the same as the IPv4 address.
///
/// ```
/// use wsloop::proxy::Networks;
///
/// let proxies = Networks::new(["127.0.0.1", "10.0.0.0/8", "unix:"])?;
/// assert!(proxies.contains(Some("10.1.2.3".parse().unwrap())));
/// assert!(proxies.contains(None), "a Unix socket");
/// assert!(!proxies.contains(Some("192.0.2.1".parse().unwrap())));
/// # Ok::<(), wsloop::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Networks {
    nets: Vec<IpNet>,
    unix: bool,
}

impl Networks {
    /// Makes a list of entries.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::BadNetwork`] for the first entry that has none of these forms.
    pub fn new<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        let mut all = Self::default();
        for entry in entries {
            let entry = entry.as_ref();
            if entry == "unix:" {
                all.unix = true;
                continue;
            }
            let net = entry.parse::<IpNet>().ok();
            let net = net.or_else(|| entry.parse::<IpAddr>().ok().map(IpNet::from));
            let net = net.ok_or_else(|| BuildError::BadNetwork(entry.to_owned()))?;
            all.nets.push(canonical(net));
        }
        Ok(all)
    }

    /// Returns whether the list contains a peer with this address; `None` is a peer over a Unix
    /// socket.
    pub fn contains(&self, ip: Option<IpAddr>) -> bool {
        match ip {
            None => self.unix,
            Some(ip) => {
                let ip = ip.to_canonical();
                self.nets.iter().any(|net| net.contains(&ip))
            }
        }
    }
}

/// Converts an IPv4-mapped IPv6 network to IPv4 (RFC 4291, 2.5.5.2).
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let inner = v6.prefix_len().checked_sub(96);
    let v4 = v6.addr().to_ipv4_mapped().zip(inner);
    match v4.and_then(|(addr, prefix)| Ipv4Net::new(addr, prefix).ok()) {
        Some(v4) => IpNet::V4(v4),
        None => net,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_unix_sockets() {
        let all = Networks::new([
            "192.0.2.7",
            "10.0.0.0/8",
            "2001:db8::/32",
            "::1",
            "::ffff:172.16.0.0/108",
            "::ffff:203.0.113.9",
            // Bits after the prefix are ignored.
            "198.51.100.77/24",
        ])
        .unwrap();
        let has = |ip: &str| all.contains(Some(ip.parse().unwrap()));
        for ip in [
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "10.255.255.255",
            "::ffff:10.0.0.1",
            "2001:db8:ffff::1",
            "::1",
            "172.16.1.2",
            "172.31.255.255",
            "203.0.113.9",
            "198.51.100.1",
        ] {
            assert!(has(ip), "{ip}");
        }
        for ip in [
            "192.0.2.8",
            "11.0.0.0",
            "2001:db9::1",
            "::2",
            "::10.0.0.1",
            "172.32.0.0",
            "203.0.113.8",
            "198.51.101.1",
        ] {
            assert!(!has(ip), "{ip}");
        }
        assert!(!all.contains(None), "Unix sockets have to be named");
        assert!(Networks::new(["unix:"]).unwrap().contains(None));
        let nobody = Networks::new::<&str>([]).unwrap();
        assert!(!nobody.contains(None) && !nobody.contains(Some([127, 0, 0, 1].into())));
        // The network of all IPv6 addresses contains no IPv4 address.
        let v6 = Networks::new(["::/0"]).unwrap();
        assert!(v6.contains(Some("2001:db8::1".parse().unwrap())));
        assert!(!v6.contains(Some("::ffff:1.2.3.4".parse().unwrap())));
    }

    #[test]
    fn what_is_no_entry_is_returned() {
        for entry in [
            "",
            "*",
            "localhost",
            "10.0.0.0/33",
            "10.0.0/8",
            "::1/129",
            "10.0.0.1:80",
            "[::1]",
            "unix",
            "unix:/run/x",
            " 10.0.0.1",
            "10.0.0.1/",
            "0x7f.1",
            "010.0.0.1",
        ] {
            let error = Networks::new(["127.0.0.1", entry]).unwrap_err();
            assert!(
                matches!(error, BuildError::BadNetwork(named) if named == entry),
                "{entry}"
            );
        }
    }
}
