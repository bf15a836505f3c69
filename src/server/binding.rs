//! Binding of all addresses that one name resolves to.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use super::listener::Listener;
use crate::config::Config;
use crate::connection::{Line, target};
use crate::transport::TlsConfig;

/// The addresses of one place, and the way to bind them.
pub(super) struct Binding<'a> {
    /// The name of the place.
    pub(super) name: &'a str,
    pub(super) only_v6: Option<bool>,
    pub(super) tls: Option<TlsConfig>,
    pub(super) config: &'a Config,
    /// Whether addresses on which others listen are in use, although `config` allows to share them.
    pub(super) is_exclusive: bool,
}

/// The result of binding a place.
pub(super) struct Bound {
    pub(super) listeners: Vec<Listener>,
    /// The addresses that could not be bound, with the port of the others.
    pub(super) missing: Vec<SocketAddr>,
    pub(super) only_v6: Option<bool>,
}

impl Binding<'_> {
    /// Binds the addresses that can be bound, and logs the others. Port 0 becomes the same port for
    /// all of them, if one can be found.
    ///
    /// # Errors
    ///
    /// Returns an error with the reason for each address if none can be bound.
    pub(super) fn bind(self, mut addrs: Vec<SocketAddr>) -> io::Result<Bound> {
        // A resolver may return an address once per socket type, or per line of /etc/hosts.
        let mut seen = HashSet::new();
        addrs.retain(|addr| seen.insert(*addr));
        // ipv6(7): without it, `[::]` also receives IPv4, and `0.0.0.0` cannot be bound.
        let only_v6 = self
            .only_v6
            .or_else(|| has_both_wildcards(&addrs).then_some(true));
        let Outcome {
            bound: listeners,
            missed,
            one_port,
        } = bind_all(&addrs, |addr| {
            if self.is_exclusive {
                Listener::probe_tcp(addr, only_v6)?;
            }
            let listener = Listener::bind_tcp(addr, only_v6, self.tls.clone(), self.config)?;
            let port = listener.local_addr().map_or(0, |addr| addr.port());
            Ok((listener, port))
        });
        if listeners.is_empty() {
            return Err(none_of(missed));
        }
        if !one_port {
            Line::free(target::SERVER, log::Level::Warn).write(format_args!(
                "no port was free on all addresses of {}: the addresses have different ports",
                self.name
            ));
        }
        for (addr, error) in &missed {
            warn_missed(&addr.to_string(), self.name, error);
        }
        let missing = missed.into_iter().map(|(addr, _)| addr).collect();
        Ok(Bound {
            listeners,
            missing,
            only_v6,
        })
    }
}

/// The listeners that were bound, in the order of the addresses, and the addresses that were not.
struct Outcome<L> {
    bound: Vec<L>,
    missed: Vec<(SocketAddr, io::Error)>,
    /// Whether all addresses with port 0 got the same port.
    one_port: bool,
}

/// Binds addresses with a function that returns a listener and its port.
fn bind_all<L>(
    addrs: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<(L, u16)>,
) -> Outcome<L> {
    for _ in 0..SHARED_TRIES {
        if let Some(outcome) = attempt(addrs, true, &mut bind) {
            return outcome;
        }
    }
    attempt(addrs, false, &mut bind).unwrap_or_else(|| Outcome {
        bound: Vec::new(),
        missed: Vec::new(),
        one_port: false,
    })
}

/// Binds each address once. Returns `None` if all are to share the port that the kernel picked for
/// the first, and it is in use at another.
fn attempt<L>(
    addrs: &[SocketAddr],
    one_port: bool,
    bind: &mut impl FnMut(SocketAddr) -> io::Result<(L, u16)>,
) -> Option<Outcome<L>> {
    let (mut bound, mut missed) = (Vec::new(), Vec::new());
    let mut picked = None;
    for addr in addrs {
        let mut wanted = *addr;
        if let Some(port) = picked.filter(|_| one_port && addr.port() == 0) {
            wanted.set_port(port);
        }
        match bind(wanted) {
            Ok((one, port)) => {
                if addr.port() == 0 && picked.is_none() {
                    picked = Some(port);
                }
                bound.push(one);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && wanted != *addr => {
                return None;
            }
            Err(error) => missed.push((*addr, error)),
        }
    }
    for (addr, _) in &mut missed {
        if let Some(port) = picked.filter(|_| addr.port() == 0) {
            addr.set_port(port);
        }
    }
    Some(Outcome {
        bound,
        missed,
        one_port,
    })
}

/// Logs an address of a place that could not be bound.
pub(super) fn warn_missed(addr: &str, name: &str, error: &io::Error) {
    Line::free(target::SERVER, log::Level::Warn).write(format_args!(
        "cannot listen on {addr}, one of the addresses of {name}: {error}"
    ));
}

/// Combines the errors of several addresses into one; a single error is returned unchanged.
pub(super) fn none_of(missed: Vec<(impl ToString, io::Error)>) -> io::Error {
    let mut text = String::new();
    let mut kind = None;
    let one = missed.len() == 1;
    for (addr, error) in missed {
        if one {
            return error;
        }
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{}: {error}", addr.to_string());
        kind = kind.or_else(|| Some(error.kind()));
    }
    match kind {
        Some(kind) => io::Error::new(kind, text),
        None => io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"),
    }
}

/// Returns whether the addresses include `[::]` and `0.0.0.0` with the same port.
fn has_both_wildcards(addrs: &[SocketAddr]) -> bool {
    addrs.iter().any(|v6| {
        let is_pair = |v4: &SocketAddr| v4.is_ipv4() && v4.port() == v6.port();
        let mut pairs = addrs.iter().filter(|v4| is_pair(v4));
        v6.is_ipv6() && v6.ip().is_unspecified() && pairs.any(|v4| v4.ip().is_unspecified())
    })
}

/// How many ports that the kernel picks are tried as the common port of a name.
const SHARED_TRIES: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel with these addresses in use (`*` is every port), optionally without IPv6. It picks
    /// ports from 40,000 on.
    struct Kernel {
        taken: Vec<&'static str>,
        v6: bool,
        next: u16,
        calls: Vec<SocketAddr>,
    }

    impl Kernel {
        fn new(taken: &[&'static str], v6: bool) -> Self {
            Self {
                taken: taken.to_vec(),
                v6,
                next: 40_000,
                calls: Vec::new(),
            }
        }

        fn bind(&mut self, mut addr: SocketAddr) -> io::Result<(SocketAddr, u16)> {
            self.calls.push(addr);
            if addr.is_ipv6() && !self.v6 {
                return Err(io::ErrorKind::Unsupported.into());
            }
            if addr.port() == 0 {
                addr.set_port(self.next);
                self.next += 1;
            } else if self.taken.contains(&addr.to_string().as_str())
                || self.taken.contains(&format!("{}:*", addr.ip()).as_str())
            {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Ok((addr, addr.port()))
        }

        /// Binds all; returns the bound addresses, the missing ones, and whether they share the
        /// port.
        fn bind_all(&mut self, addrs: &[&str]) -> (Vec<String>, Vec<String>, bool) {
            let addrs: Vec<SocketAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            let outcome = bind_all(&addrs, |addr| self.bind(addr));
            let bound = outcome.bound.iter().map(ToString::to_string).collect();
            let missed = outcome.missed.iter().map(|(addr, _)| addr.to_string());
            (bound, missed.collect(), outcome.one_port)
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn port_0_is_one_port_for_all_and_others_stay() {
        let mut kernel = Kernel::new(&[], true);
        let all = kernel.bind_all(&["[::1]:0", "127.0.0.1:0", "127.0.0.1:80", "127.0.0.2:0"]);
        let bound = [
            "[::1]:40000",
            "127.0.0.1:40000",
            "127.0.0.1:80",
            "127.0.0.2:40000",
        ];
        assert_eq!(all, (texts(&bound), vec![], true));
    }

    #[test]
    fn a_port_that_is_taken_somewhere_is_given_up_for_another() {
        let mut kernel = Kernel::new(&["127.0.0.2:40000", "127.0.0.3:40001"], true);
        let all = kernel.bind_all(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]);
        let bound = ["127.0.0.1:40002", "127.0.0.2:40002", "127.0.0.3:40002"];
        assert_eq!(all, (texts(&bound), vec![], true));
    }

    #[test]
    fn without_a_common_port_each_has_its_own() {
        let mut kernel = Kernel::new(&["127.0.0.2:*"], true);
        let (bound, missed, one_port) = kernel.bind_all(&["127.0.0.1:0", "127.0.0.2:0"]);
        assert_eq!(bound, ["127.0.0.1:40016", "127.0.0.2:40017"]);
        assert_eq!((missed, one_port), (vec![], false));
        assert_eq!(kernel.calls.len(), 2 * 16 + 2);
    }

    #[test]
    fn a_family_that_is_off_is_missing_with_the_port_of_the_others() {
        let mut kernel = Kernel::new(&[], false);
        let all = kernel.bind_all(&["[::1]:0", "127.0.0.1:0", "[::2]:80"]);
        let missed = ["[::1]:40000", "[::2]:80"];
        assert_eq!(all, (texts(&["127.0.0.1:40000"]), texts(&missed), true));
    }

    #[test]
    fn an_address_in_use_is_missing_beside_others() {
        let mut kernel = Kernel::new(&["127.0.0.1:80"], true);
        let all = kernel.bind_all(&["127.0.0.1:80", "127.0.0.2:80"]);
        assert_eq!(
            all,
            (texts(&["127.0.0.2:80"]), texts(&["127.0.0.1:80"]), true)
        );
        let mut kernel = Kernel::new(&[], false);
        let all = kernel.bind_all(&["[::1]:0", "[::2]:80"]);
        assert_eq!(all, (vec![], texts(&["[::1]:0", "[::2]:80"]), true));
    }

    #[test]
    fn one_error_has_all_reasons() {
        let missed = |addrs: &[&'static str]| {
            let each = addrs
                .iter()
                .map(|addr| (*addr, io::ErrorKind::AddrInUse.into()));
            each.collect::<Vec<(&str, io::Error)>>()
        };
        let error = none_of(missed(&["a:1", "b:1"]));
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            error.to_string(),
            "a:1: address in use; b:1: address in use"
        );
        assert_eq!(none_of(missed(&["a:1"])).to_string(), "address in use");
        let error = none_of(missed(&[]));
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
