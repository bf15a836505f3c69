//! Limits on the connections of one address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::rate_meter::Meter;
use crate::config::AddressLimits;
use crate::error::HandshakeError;
use crate::stats::Stats;

/// The addresses that connections come from, if there are limits on them.
pub(crate) struct Addresses {
    limits: AddressLimits,
    /// `None` without limits: nothing is recorded then.
    known: Option<HashMap<Key, Known>>,
    /// The number of addresses at which those without connections or recent handshakes are removed.
    prune_at: usize,
}

/// What counts as one address: an IPv4 address, or an IPv6 network, since a host may use any
/// address in its network (RFC 4291, 2.5.4).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Key {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<IpAddr> for Key {
    fn from(ip: IpAddr) -> Self {
        // A dual-stack listener reports IPv4 addresses as IPv4-mapped IPv6 addresses.
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The state of one address.
#[derive(Default)]
struct Known {
    connections: usize,
    half_open: usize,
    handshakes: Meter,
}

impl Addresses {
    /// The number of addresses that are kept before any is removed.
    const PRUNE_MIN: usize = 1024;

    pub(crate) fn new(limits: AddressLimits) -> Self {
        Self {
            known: limits.is_limited().then(HashMap::new),
            limits,
            prune_at: Self::PRUNE_MIN,
        }
    }

    /// Counts a new connection of `addr`, unless that address has too many. Unix sockets have no
    /// address and no limit.
    ///
    /// # Errors
    ///
    /// The limit that would be exceeded.
    pub(crate) fn admit(
        &mut self,
        addr: Option<SocketAddr>,
        now: Duration,
        stats: &mut Stats,
    ) -> Result<(), HandshakeError> {
        let (Some(known), Some(addr)) = (&mut self.known, addr) else {
            return Ok(());
        };
        if known.len() >= self.prune_at {
            known.retain(|_, known| known.connections > 0 || !known.handshakes.is_new(now));
            self.prune_at = Self::PRUNE_MIN.max(2 * known.len());
        }
        let limits = &self.limits;
        let one = known.entry(addr.ip().into()).or_default();
        Err(if one.connections >= limits.connections {
            stats.over_address_connections += 1;
            HandshakeError::AddressConnections
        } else if one.half_open >= limits.half_open {
            stats.over_address_half_open += 1;
            HandshakeError::AddressHalfOpen
        } else if let Some(rate) = &limits.handshakes
            && !one.handshakes.admit(rate, now)
        {
            stats.over_handshake_rate += 1;
            HandshakeError::AddressRate
        } else {
            one.connections += 1;
            one.half_open += 1;
            return Ok(());
        })
    }

    /// Records that the opening handshake of a connection is over, whatever its outcome.
    pub(crate) fn opened(&mut self, ip: Option<IpAddr>) {
        if let (Some(known), Some(ip)) = (&mut self.known, ip)
            && let Some(one) = known.get_mut(&ip.into())
        {
            one.half_open = one.half_open.saturating_sub(1);
        }
    }

    /// Records that a connection has ended.
    pub(crate) fn left(&mut self, ip: Option<IpAddr>, now: Duration) {
        if let (Some(known), Some(ip)) = (&mut self.known, ip) {
            let key = ip.into();
            if let Some(one) = known.get_mut(&key) {
                one.connections = one.connections.saturating_sub(1);
                if one.connections == 0 && one.handshakes.is_new(now) {
                    known.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn addr(text: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(text.parse().unwrap(), 1))
    }

    impl Addresses {
        fn admits(&mut self, addr: Option<SocketAddr>, now: Duration, stats: &mut Stats) -> bool {
            self.admit(addr, now, stats).is_ok()
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn each_limit_refuses_and_is_counted_by_itself() {
        let mut addresses = Addresses::new(AddressLimits {
            connections: 3,
            half_open: 2,
            handshakes: Some(Rate::new(4, Duration::from_secs(4))),
        });
        let mut stats = Stats::default();
        let (now, one) = (Duration::ZERO, addr("10.0.0.1"));
        assert!(addresses.admits(one, now, &mut stats));
        assert!(addresses.admits(one, now, &mut stats));
        assert!(!addresses.admits(one, now, &mut stats));
        assert_eq!(stats.over_address_half_open, 1);
        addresses.opened(ip("10.0.0.1"));
        assert!(addresses.admits(one, now, &mut stats));
        addresses.opened(ip("10.0.0.1"));
        assert!(!addresses.admits(one, now, &mut stats));
        assert_eq!(stats.over_address_connections, 1);
        // Two open connections end.
        for _ in 0..2 {
            addresses.left(ip("10.0.0.1"), now);
        }
        assert!(addresses.admits(one, now, &mut stats));
        addresses.opened(ip("10.0.0.1"));
        assert!(!addresses.admits(one, now, &mut stats));
        assert_eq!(stats.over_handshake_rate, 1);
        assert!(addresses.admits(one, now + Duration::from_secs(1), &mut stats));
        assert!(
            addresses.admits(addr("10.0.0.2"), now, &mut stats),
            "another"
        );
        for _ in 0..9 {
            assert!(addresses.admits(None, now, &mut stats), "a Unix socket");
        }
    }

    #[test]
    fn networks_of_ipv6_are_one_address_and_mapped_ones_are_ipv4() {
        let mut addresses = Addresses::new(AddressLimits {
            connections: 1,
            ..AddressLimits::default()
        });
        let mut stats = Stats::default();
        let mut admit = |text| addresses.admits(addr(text), Duration::ZERO, &mut stats);
        assert!(admit("2001:db8:1:2::1"));
        assert!(!admit("2001:db8:1:2:ffff::2") && admit("2001:db8:1:3::1"));
        assert!(admit("::ffff:10.0.0.1") && admit("::ffff:10.0.0.2"));
        assert!(!admit("10.0.0.1"));
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let rate = Rate::new(1, Duration::from_secs(10));
        for handshakes in [None, Some(rate)] {
            let mut addresses = Addresses::new(AddressLimits {
                connections: 1,
                half_open: usize::MAX,
                handshakes,
            });
            let mut stats = Stats::default();
            for at in 0..20_000u64 {
                let now = Duration::from_millis(at * 100);
                let ip = IpAddr::from([10, 0, (at >> 8) as u8, at as u8]);
                assert!(addresses.admits(Some(SocketAddr::new(ip, 1)), now, &mut stats));
                addresses.left(Some(ip), now);
            }
            let kept = addresses.known.unwrap().len();
            assert!(kept <= Addresses::PRUNE_MIN, "{kept} addresses");
        }
    }
}
