//! What the server is willing to do, and what a client and it agreed on.

use std::fmt;

use super::WINDOW_BITS;
use super::offer::{Offer, offers};

/// How messages are compressed; given to [`Builder::deflate`](crate::Builder::deflate).
///
/// The default is one compressor that all connections share: no connection has memory of its own
/// for it, and every message is compressed by itself. With [`dedicated`](Self::dedicated)
/// compressors a connection keeps what it has sent, so that messages like the ones before become
/// smaller still, for about 260 KB of memory each and two to three times the work. A message that is
/// sent in parts, over several events, has a compressor of its own until its end where the others
/// share theirs.
///
/// What a client sends may refer to its messages before unless
/// [`client_no_context_takeover`](Self::client_no_context_takeover) is set or the client offers it;
/// the connection keeps a window of 32 KiB for that, from its first compressed message on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeflateConfig {
    shared: bool,
    level: u32,
    threshold: usize,
    binary: bool,
    server_bits: u8,
    client_bits: u8,
    client_no_context_takeover: bool,
    max_ratio: usize,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self::shared()
    }
}

impl DeflateConfig {
    /// One compressor for all connections; the server's messages do not refer to each other
    /// (`server_no_context_takeover`).
    pub const fn shared() -> Self {
        Self {
            shared: true,
            level: 1,
            threshold: 1410,
            binary: false,
            server_bits: 15,
            client_bits: 15,
            client_no_context_takeover: false,
            max_ratio: usize::MAX,
        }
    }

    /// A compressor for each connection, from its first compressed message on, unless the client
    /// asks for none: of level 3, below which little is found in the messages before, and with a
    /// window of 13 bits, above which memory grows and messages of a few kilobytes do not shrink.
    pub const fn dedicated() -> Self {
        Self {
            shared: false,
            level: 3,
            server_bits: 13,
            ..Self::shared()
        }
    }

    /// Sets how much is done to make messages small, 0 (nothing) to 9. Default 1, and 3 for
    /// [`dedicated`](Self::dedicated) compressors: more costs several times the time for a few percent.
    pub const fn level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Sets the size from which on messages are compressed, in bytes. Default 1410, as
    /// UniEvent::WebSocket: smaller ones fit into one packet anyway.
    #[doc(alias = "compression_threshold")]
    pub const fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Sets whether binary messages are compressed, too. Default `false`: they mostly are already,
    /// by what made them. See [`Compress`](crate::Compress) for single messages.
    #[doc(alias = "default_compress_binary")]
    pub const fn compress_binary(mut self, compress: bool) -> Self {
        self.binary = compress;
        self
    }

    /// Sets the largest window of what the server compresses, 9 to 15: it is two to the power of
    /// that, in bytes. Default 15, and 13 for [`dedicated`](Self::dedicated) compressors; a client may
    /// ask for less.
    pub const fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.server_bits = bits;
        self
    }

    /// Sets the largest window of what a client compresses, 9 to 15, where the client lets the
    /// server choose it. Default 15.
    pub const fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.client_bits = bits;
        self
    }

    /// Sets whether clients are told to compress each message by itself, so that no window is kept
    /// for them. Default `false`.
    pub const fn client_no_context_takeover(mut self, on: bool) -> Self {
        self.client_no_context_takeover = on;
        self
    }

    /// Sets how many times its compressed size a message may have; one that expands to more is
    /// failed with 1009 while it is expanded. What fits into 64 KiB is always taken. A message that
    /// is handed out in pieces is held to it by what has come by then. Default `usize::MAX`:
    /// `max_recv_size` alone decides.
    pub const fn max_ratio(mut self, ratio: usize) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Answers what clients offer in `Sec-WebSocket-Extensions`, given the values of its lines:
    /// takes the first offer that can be kept, `None` if there is none (RFC 7692, 7.1).
    ///
    /// Passed over are other extensions, malformed elements, offers of an unknown, repeated,
    /// malformed or out-of-range parameter, and those of a window of 8 bits, which zlib cannot keep to.
    ///
    /// The answer names what was offered, and besides only what the client has to know to be
    /// understood: [`client_no_context_takeover`](Self::client_no_context_takeover), if that is set.
    /// A smaller window of the server, or none at all from one message to the next, is used without
    /// a word where the client has not offered the parameter, as RFC 7692, 7.1.1.1 and 7.1.2.1 allow:
    /// some clients fail at an answer that says more than they offered.
    pub fn negotiate<'h>(&self, lines: impl IntoIterator<Item = &'h [u8]>) -> Option<Agreement> {
        lines
            .into_iter()
            .flat_map(offers)
            .find_map(|offer| self.answer(&offer))
    }

    fn answer(&self, offer: &Offer) -> Option<Agreement> {
        let server_bits = offer.server_bits.unwrap_or(15).min(self.server_bits);
        if server_bits < *WINDOW_BITS.start() {
            return None;
        }
        let client_bits = match offer.client_bits {
            // RFC 7692, 7.1.2.2: without the client's leave there is no limit.
            None => 15,
            Some(wanted) => wanted.unwrap_or(15).min(self.client_bits),
        };
        Some(Agreement {
            server_no_context_takeover: self.shared || offer.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover
                || offer.client_no_context_takeover,
            server_bits,
            client_bits,
            // RFC 7692, 7.1.1.1 and 7.1.2.1: accepting these parameters is including them.
            names_server_reset: offer.server_no_context_takeover,
            names_server_bits: offer.server_bits.is_some(),
        })
    }

    /// Returns whether a message is compressed that did not say itself.
    pub fn compresses(&self, binary: bool, size: usize) -> bool {
        size >= self.threshold && (!binary || self.binary)
    }

    pub(crate) fn compression_level(&self) -> u32 {
        self.level
    }

    pub(crate) fn compression_threshold(&self) -> usize {
        self.threshold
    }

    pub(crate) fn ratio(&self) -> usize {
        self.max_ratio
    }

    /// Says what is wrong with the settings.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.level > 9 {
            Some("the level of compression is above 9")
        } else if !WINDOW_BITS.contains(&self.server_bits)
            || !WINDOW_BITS.contains(&self.client_bits)
        {
            Some("a window of compression is not of 9 to 15 bits")
        } else if self.max_ratio == 0 {
            Some("max_ratio is 0: no compressed message could come")
        } else {
            None
        }
    }
}

/// What a client and the server agreed on (RFC 7692, 7.1). Its `Display` is the value of the
/// answer's `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreement {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: u8,
    client_bits: u8,
    names_server_reset: bool,
    names_server_bits: bool,
}

impl Agreement {
    /// Returns whether each message of the server is compressed by itself.
    pub const fn server_no_context_takeover(&self) -> bool {
        self.server_no_context_takeover
    }

    /// Returns whether each message of the client is compressed by itself.
    pub const fn client_no_context_takeover(&self) -> bool {
        self.client_no_context_takeover
    }

    /// Returns the window of what the server compresses, 9 to 15: two to the power of that, in
    /// bytes.
    pub const fn server_max_window_bits(&self) -> u8 {
        self.server_bits
    }

    /// Returns the window of what the client compresses, 8 to 15.
    pub const fn client_max_window_bits(&self) -> u8 {
        self.client_bits
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate")?;
        if self.names_server_reset {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if self.names_server_bits {
            write!(f, "; server_max_window_bits={}", self.server_bits)?;
        }
        if self.client_bits < 15 {
            write!(f, "; client_max_window_bits={}", self.client_bits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(config: &DeflateConfig, value: &str) -> Option<String> {
        let agreed = config.negotiate([value.as_bytes()])?;
        Some(agreed.to_string())
    }

    #[track_caller]
    fn agrees(config: &DeflateConfig, value: &str, expected: &str) {
        assert_eq!(answer(config, value).as_deref(), Some(expected), "{value}");
    }

    const DEDICATED: DeflateConfig = DeflateConfig::dedicated().server_max_window_bits(15);

    #[test]
    fn dedicated_compressors_have_a_smaller_window_unless_told() {
        let config = DeflateConfig::dedicated();
        for (offer, bits, said) in [
            ("", 13, ""),
            (
                "; server_max_window_bits=15",
                13,
                "; server_max_window_bits=13",
            ),
            (
                "; server_max_window_bits=10",
                10,
                "; server_max_window_bits=10",
            ),
        ] {
            let line = format!("permessage-deflate{offer}");
            let agreed = config.negotiate([line.as_bytes()]).unwrap();
            assert_eq!(agreed.server_max_window_bits(), bits);
            assert_eq!(agreed.to_string(), format!("permessage-deflate{said}"));
        }
    }

    #[test]
    fn browsers_are_answered() {
        let chrome = "permessage-deflate; client_max_window_bits";
        agrees(&DEDICATED, chrome, "permessage-deflate");
        agrees(&DeflateConfig::shared(), chrome, "permessage-deflate");
        agrees(
            &DEDICATED
                .client_max_window_bits(11)
                .server_max_window_bits(10),
            chrome,
            "permessage-deflate; client_max_window_bits=11",
        );
    }

    #[test]
    fn every_parameter_is_answered() {
        for (offer, expected) in [
            ("", ""),
            (
                "; server_no_context_takeover",
                "; server_no_context_takeover",
            ),
            (
                "; client_no_context_takeover",
                "; client_no_context_takeover",
            ),
            ("; server_max_window_bits=15", "; server_max_window_bits=15"),
            (
                "; server_max_window_bits=\"9\"",
                "; server_max_window_bits=9",
            ),
            ("; client_max_window_bits=15", ""),
            ("; client_max_window_bits=8", "; client_max_window_bits=8"),
            (
                " ;\tclient_max_window_bits = 10 ; client_no_context_takeover;server_max_window_bits=12;server_no_context_takeover ",
                "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=10",
            ),
        ] {
            agrees(
                &DEDICATED,
                &format!("permessage-deflate{offer}"),
                &format!("permessage-deflate{expected}"),
            );
        }
        let agreed = DEDICATED.client_no_context_takeover(true);
        agrees(
            &agreed,
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
        );
        // A client that does not offer the parameter cannot be limited.
        let narrow = DEDICATED.client_max_window_bits(9);
        agrees(&narrow, "permessage-deflate", "permessage-deflate");
    }

    #[test]
    fn the_first_offer_that_can_be_kept_counts() {
        for passed_over in [
            "permessage-bzip2",
            "x-webkit-deflate-frame; no_context_takeover",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=1",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; server_max_window_bits=12",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=12",
        ] {
            assert_eq!(answer(&DEDICATED, passed_over), None, "{passed_over}");
            let value = format!(
                "{passed_over}, permessage-deflate; server_max_window_bits=13, permessage-deflate"
            );
            agrees(
                &DEDICATED,
                &value,
                "permessage-deflate; server_max_window_bits=13",
            );
        }
        let lines = [&b"permessage-bzip2"[..], b"permessage-deflate"];
        assert!(DEDICATED.negotiate(lines).is_some());
        assert_eq!(DEDICATED.negotiate([]), None);
    }

    #[test]
    fn window_bits_have_one_form() {
        // CVE-2026-2229: values that zlib does not know.
        for name in ["server_max_window_bits", "client_max_window_bits"] {
            for bits in 0..100 {
                let offer = format!("permessage-deflate; {name}={bits}");
                let least = if name.starts_with('s') { 9 } else { 8 };
                let agreed = answer(&DEDICATED, &offer);
                assert_eq!(agreed.is_some(), (least..=15).contains(&bits), "{offer}");
            }
            for bits in [
                "08",
                "010",
                "1e1",
                "0x9",
                "+10",
                "-9",
                "15x",
                "\"1 0\"",
                "999999999999999999999",
            ] {
                let offer = format!("permessage-deflate; {name}={bits}");
                assert_eq!(answer(&DEDICATED, &offer), None, "{offer}");
            }
        }
    }

    #[test]
    fn malformed_elements_are_passed_over() {
        for value in [
            "",
            ",",
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; a=b c",
            "permessage-deflate server_no_context_takeover",
            "(permessage-deflate)",
            "permessage-deflate; \u{e9}",
        ] {
            assert_eq!(answer(&DEDICATED, value), None, "{value}");
        }
        for value in [
            ", permessage-deflate,,",
            "permessage-deflate; =1, permessage-deflate",
            "a b, permessage-deflate",
            "x; y=\"a, permessage-deflate; b\", permessage-deflate",
        ] {
            agrees(&DEDICATED, value, "permessage-deflate");
        }
        // What is in a string, or behind one without an end, is no element.
        for value in [
            "x; y=\"a, permessage-deflate\"",
            "x; y=\"a, permessage-deflate",
        ] {
            assert_eq!(answer(&DEDICATED, value), None, "{value}");
        }
    }

    #[test]
    fn settings_are_checked() {
        assert_eq!(DeflateConfig::default().fault(), None);
        for wrong in [
            DEDICATED.level(10),
            DEDICATED.server_max_window_bits(8),
            DEDICATED.client_max_window_bits(16),
            DEDICATED.max_ratio(0),
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn text_is_compressed_from_the_threshold_on() {
        let config = DeflateConfig::default();
        assert!(!config.compresses(false, 1409) && config.compresses(false, 1410));
        assert!(!config.compresses(true, 1 << 20));
        assert!(
            config
                .compress_binary(true)
                .threshold(0)
                .compresses(true, 0)
        );
    }
}
