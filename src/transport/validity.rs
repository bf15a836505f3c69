//! The validity periods of certificates.

use std::fmt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use crate::date::Date;

/// Logs a warning for each certificate of a chain that is not valid at `now` or expires soon.
///
/// That is not an error: the clock may be wrong, or the certificate about to be renewed, and a
/// server that does not start is worse.
pub(super) fn warn(path: &Path, chain: &[CertificateDer<'_>], now: UnixTime) {
    for (number, certificate) in (1..).zip(chain) {
        let Some(problem) = Term::of(certificate).and_then(|term| term.problem(now)) else {
            continue;
        };
        let path = path.display();
        log::warn!(target: "wsloop::tls", "{path}: certificate {number} of the chain {problem}");
    }
}

/// The validity period of a certificate (RFC 5280, 4.1.2.5), in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Term {
    not_before: u64,
    not_after: u64,
}

impl Term {
    /// Returns the period of a certificate; `None` if it has no plausible one.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = ParsedCertificate::try_from(certificate).ok()?;
        // rustls does not expose the dates. But it verifies the period first, and its error
        // contains the violated date. There are no trusted roots, so no signature is verified.
        let verify = |at| {
            let (at, roots) = (UnixTime::since_unix_epoch(at), RootCertStore::empty());
            verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], at, &[]).err()
        };
        let not_after = match verify(FAR)? {
            Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
                not_after.as_secs()
            }
            _ => return None,
        };
        let not_before = match verify(Duration::ZERO)? {
            Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before, ..
            }) => not_before.as_secs(),
            // Valid since 1970.
            _ => 0,
        };
        Some(Self {
            not_before,
            not_after,
        })
    }

    fn problem(self, now: UnixTime) -> Option<Problem> {
        let (now, term) = (
            now.as_secs(),
            self.not_after.saturating_sub(self.not_before),
        );
        if now < self.not_before {
            Some(Problem::NotYet(self.not_before))
        } else if now > self.not_after {
            Some(Problem::Expired(self.not_after))
        } else if self.not_after - now < SOON.min(term / 4) {
            Some(Problem::Soon(self.not_after))
        } else {
            None
        }
    }
}

/// A problem with a certificate's period, with the date that matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Problem {
    Expired(u64),
    NotYet(u64),
    Soon(u64),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |seconds| Date::from(UNIX_EPOCH + Duration::from_secs(seconds));
        match *self {
            Self::Expired(at) => write!(
                f,
                "expired on {}: clients refuse it; renew it and load it again",
                date(at)
            ),
            Self::NotYet(at) => write!(
                f,
                "is not valid before {}: clients refuse it until then; check this machine's clock",
                date(at)
            ),
            Self::Soon(at) => write!(f, "expires soon, on {}: renew it", date(at)),
        }
    }
}

/// A time after the last second that a certificate can express, the end of the year 9999.
const FAR: Duration = Duration::from_secs(1 << 40);

/// How long before its end a certificate expires soon, in seconds: a week. For a period of a few
/// days, it is the last quarter, since such a certificate is renewed late.
const SOON: u64 = 7 * 86_400;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn issue(from: (i32, u8, u8), to: (i32, u8, u8)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn problem(term: Term, now: u64) -> Option<Problem> {
        term.problem(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }

    #[test]
    fn the_dates_are_those_of_the_certificate() {
        let term = Term::of(&issue((2024, 2, 29), (2026, 1, 1))).unwrap();
        let (not_before, not_after) = (1_709_164_800, 1_767_225_600);
        assert_eq!((term.not_before, term.not_after), (not_before, not_after));
        // Dates beyond 2049 have another encoding (RFC 5280, 4.1.2.5).
        let term = Term::of(&issue((1970, 1, 1), (9999, 12, 31))).unwrap();
        assert_eq!((term.not_before, term.not_after), (0, 253_402_214_400));
    }

    #[test]
    fn a_certificate_that_is_not_one_has_no_dates() {
        assert_eq!(Term::of(&CertificateDer::from(&b"\x30\x00"[..])), None);
    }

    #[test]
    fn what_is_out_of_force_or_soon_will_be_is_a_problem() {
        const DAY: u64 = 86_400;
        let term = Term {
            not_before: 1000 * DAY,
            not_after: 1090 * DAY,
        };
        assert_eq!(
            problem(term, 1000 * DAY - 1),
            Some(Problem::NotYet(1000 * DAY))
        );
        assert_eq!(problem(term, 1000 * DAY), None);
        assert_eq!(problem(term, 1083 * DAY), None);
        let soon = Some(Problem::Soon(1090 * DAY));
        assert_eq!(problem(term, 1083 * DAY + 1), soon);
        assert_eq!(problem(term, 1090 * DAY), soon);
        assert_eq!(
            problem(term, 1090 * DAY + 1),
            Some(Problem::Expired(1090 * DAY))
        );
        // A period of four days.
        let short = Term {
            not_before: 1000 * DAY,
            not_after: 1004 * DAY,
        };
        assert_eq!(problem(short, 1003 * DAY), None);
        assert_eq!(
            problem(short, 1003 * DAY + 1),
            Some(Problem::Soon(1004 * DAY))
        );
    }
}
