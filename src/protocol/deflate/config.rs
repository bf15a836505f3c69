//! The server's settings for compression, and what it negotiated with a client.

use std::fmt;

use super::WINDOW_BITS;
use super::offer::{Offer, offers};

/// How messages are compressed; passed to [`Builder::deflate`](crate::Builder::deflate).
///
/// By default, all connections share one compressor: it takes no memory per connection, and
/// compresses every message by itself. A message that is sent in parts, over several events, has a
/// compressor of its own until its end.
///
/// With [`dedicated`](Self::dedicated) compressors, a connection keeps what it has sent, so that
/// messages similar to earlier ones become smaller still. That costs about 260 KB of memory per
/// connection and two to three times the work.
///
/// A client's messages may refer to its earlier ones, unless
/// [`client_no_context_takeover`](Self::client_no_context_takeover) is set or the client offers it.
/// For that, the connection keeps a window of 32 KiB from its first compressed message on.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
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
    /// Makes a configuration with one compressor that all connections share: the server's messages
    /// do not refer to each other (`server_no_context_takeover`).
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

    /// Makes a configuration in which each connection has its own compressor, from its first
    /// compressed message on, unless the client asks for `server_no_context_takeover`.
    ///
    /// The level is 3, because lower levels find little in earlier messages. The window has 13
    /// bits: a larger one takes more memory and does not make messages of a few kilobytes smaller.
    pub const fn dedicated() -> Self {
        Self {
            shared: false,
            level: 3,
            server_bits: 13,
            ..Self::shared()
        }
    }

    /// Sets the level of compression, from 0 (none) to 9. Default 1, and 3 for
    /// [`dedicated`](Self::dedicated) compressors; higher levels save a few percent for several
    /// times the time.
    pub const fn level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Sets the size from which on messages are compressed, in bytes. Default 1410, as in
    /// UniEvent::WebSocket: a smaller message fits into one packet anyway.
    #[doc(alias = "compression_threshold")]
    pub const fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Sets whether binary messages are compressed as well. Default `false`, because most binary
    /// formats are compressed already. See [`Compress`](crate::Compress) for single messages.
    #[doc(alias = "default_compress_binary")]
    pub const fn compress_binary(mut self, compress: bool) -> Self {
        self.binary = compress;
        self
    }

    /// Sets the largest window of the server's compressor, as the base-2 logarithm of its size in
    /// bytes, 9 to 15. Default 15, and 13 for [`dedicated`](Self::dedicated) compressors; a client
    /// may ask for a smaller one.
    pub const fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.server_bits = bits;
        self
    }

    /// Sets the largest window of a client's compressor, as the base-2 logarithm of its size in
    /// bytes, 9 to 15, where the client allows the server to choose it. Default 15.
    pub const fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.client_bits = bits;
        self
    }

    /// Sets whether clients are asked to compress each message by itself, so that the server keeps
    /// no window for them. Default `false`.
    pub const fn client_no_context_takeover(mut self, on: bool) -> Self {
        self.client_no_context_takeover = on;
        self
    }

    /// Sets the largest ratio of a message's size to its compressed size. A message that inflates
    /// to more fails the connection with 1009 while it is inflated. Messages of up to 64 KiB always
    /// pass. For a message in pieces, the ratio applies to the bytes that have arrived so far.
    /// Default `usize::MAX`: only `max_recv_size` limits the size.
    pub const fn max_ratio(mut self, ratio: usize) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Answers the offers in the `Sec-WebSocket-Extensions` lines of a request: accepts the first
    /// acceptable offer, and returns `None` if there is none (RFC 7692, 7.1).
    ///
    /// Skips other extensions, malformed elements, offers with an unknown, repeated, malformed or
    /// out-of-range parameter, and offers of a window of 8 bits for the server, which zlib does not
    /// support.
    ///
    /// The answer repeats the parameters that the client offered. It adds only what the client has
    /// to know: [`client_no_context_takeover`](Self::client_no_context_takeover), if that is set.
    /// The server does not announce a smaller window or messages compressed by themselves to a
    /// client that did not offer the parameter, as RFC 7692, 7.1.1.1 and 7.1.2.1 allow: some
    /// clients fail if an answer contains more than they offered.
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
            // RFC 7692, 7.1.2.2: the server may not limit a client that did not offer the
            // parameter.
            None => 15,
            Some(wanted) => wanted.unwrap_or(15).min(self.client_bits),
        };
        Some(Agreement {
            server_no_context_takeover: self.shared || offer.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover
                || offer.client_no_context_takeover,
            server_bits,
            client_bits,
            // RFC 7692, 7.1.1.1 and 7.1.2.1: to accept these parameters is to include them.
            names_server_reset: offer.server_no_context_takeover,
            names_server_bits: offer.server_bits.is_some(),
        })
    }

    /// Returns whether a message with [`Compress::Auto`](crate::Compress::Auto) is compressed.
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

    /// Returns what is wrong with the settings, if anything.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.level > 9 {
            Some("the compression level is above 9")
        } else if !WINDOW_BITS.contains(&self.server_bits)
            || !WINDOW_BITS.contains(&self.client_bits)
        {
            Some("a compression window does not have 9 to 15 bits")
        } else if self.max_ratio == 0 {
            Some("max_ratio is 0: no compressed message could be received")
        } else {
            None
        }
    }
}

/// The result of a negotiation (RFC 7692, 7.1). Its `Display` is the value of
/// `Sec-WebSocket-Extensions` in the answer.
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
    /// Returns whether the server compresses each message by itself.
    pub const fn server_no_context_takeover(&self) -> bool {
        self.server_no_context_takeover
    }

    /// Returns whether the client compresses each message by itself.
    pub const fn client_no_context_takeover(&self) -> bool {
        self.client_no_context_takeover
    }

    /// Returns the window of the server's compressor, as the base-2 logarithm of its size in bytes,
    /// 9 to 15.
    pub const fn server_max_window_bits(&self) -> u8 {
        self.server_bits
    }

    /// Returns the window of the client's compressor, as the base-2 logarithm of its size in bytes,
    /// 8 to 15.
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
        // The server cannot limit a client that does not offer the parameter.
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
        // CVE-2026-2229: values that zlib does not accept.
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
        // An offer inside a quoted string is no element, even if the string does not end.
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
