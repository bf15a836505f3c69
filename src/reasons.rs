//! Reasons for refused handshakes, TLS failures and failed connections, as counters and the log
//! distinguish them.

use std::fmt;

/// Makes an enum of reasons, each with a name for use as a label.
macro_rules! reasons {
    ($(#[$docs:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$docs])*
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $type {
            $($(#[$doc])* $name,)*
        }

        impl $type {
            /// Every reason, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the name as a label: lower case, with underscores.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

reasons! {
    /// The reason why a client was refused before its connection was open, as
    /// [`Stats::refused`](crate::Stats::refused) counts it. Most are the variants of
    /// [`HandshakeError`](crate::HandshakeError) without their values.
    RefusalReason {
        /// The address has as many connections as
        /// [`max_connections_per_address`](crate::Builder::max_connections_per_address) allows.
        AddressConnections = "address_connections",
        /// The address has as many unfinished handshakes as
        /// [`max_half_open_per_address`](crate::Builder::max_half_open_per_address) allows.
        AddressHalfOpen = "address_half_open",
        /// The address connects more often than
        /// [`max_handshake_rate`](crate::Builder::max_handshake_rate) allows.
        AddressRate = "address_rate",
        /// The length of the body is ambiguous.
        AmbiguousLength = "ambiguous_length",
        /// A chunk of the body is malformed.
        BadChunk = "bad_chunk",
        /// A header line is malformed.
        BadHeader = "bad_header",
        /// `Sec-WebSocket-Key` is malformed.
        BadKey = "bad_key",
        /// `Content-Length` is malformed.
        BadLength = "bad_length",
        /// The connection does not begin with the required header of the PROXY protocol.
        BadProxyHeader = "bad_proxy_header",
        /// The request line is malformed.
        BadRequestLine = "bad_request_line",
        /// The request target is malformed.
        BadTarget = "bad_target",
        /// An upgrade request announces a body.
        BodyProhibited = "body_prohibited",
        /// The body is larger than `max_body_size`.
        BodyTooBig = "body_too_big",
        /// `Connection` does not list `upgrade`.
        ConnectionNotUpgrade = "connection_not_upgrade",
        /// A header that may occur only once was repeated.
        DuplicateHeader = "duplicate_header",
        /// `Expect` requests something other than `100-continue`.
        Expectation = "expectation",
        /// The request head is larger than `max_handshake_size`.
        HeadTooBig = "head_too_big",
        /// `Host` is not on the list of [`hosts`](crate::Builder::hosts).
        HostNotServed = "host_not_served",
        /// The version is not HTTP/1.1 or a higher minor one.
        HttpVersion = "http_version",
        /// The method is not GET.
        MethodNotGet = "method_not_get",
        /// A mandatory header is missing.
        MissingHeader = "missing_header",
        /// The server's `memory_budget` is used up.
        NoMemory = "no_memory",
        /// The request does not ask for an upgrade to `websocket`.
        NotUpgrade = "not_upgrade",
        /// The `Origin` handler or the list of [`origins`](crate::Builder::origins) refused the
        /// origin.
        OriginRefused = "origin_refused",
        /// The peer is not in the networks of
        /// [`Place::proxy_protocol`](crate::Place::proxy_protocol).
        ProxyNotTrusted = "proxy_not_trusted",
        /// A handler refused the request, or the server is shutting down.
        Refused = "refused",
        /// The request was not complete within `handshake_timeout`.
        TimedOut = "timed_out",
        /// A TLS client connected to a port without TLS.
        TlsHello = "tls_hello",
        /// The request has more header lines than `max_headers`.
        TooManyHeaders = "too_many_headers",
        /// The body has a transfer encoding other than `chunked`.
        TransferEncoding = "transfer_encoding",
        /// The deferred answer did not come within `handshake_timeout`.
        Undecided = "undecided",
        /// `Sec-WebSocket-Version` is not 13.
        UnsupportedVersion = "unsupported_version",
    }
}

reasons! {
    /// The reason why TLS failed, as [`Stats::tls_failed`](crate::Stats::tls_failed) counts it.
    TlsFailure {
        /// The client does not accept the server's certificate, according to its alert: its issuer
        /// is unknown, it has expired, or it is for another name.
        CertificateRefused = "certificate_refused",
        /// The client ended the handshake with another alert.
        ClientAlert = "client_alert",
        /// The client's own certificate is missing or not valid.
        ClientCertificate = "client_certificate",
        /// The client ended the connection during the handshake without an alert.
        Ended = "ended",
        /// There is no certificate for the name that the client requested.
        NoCertificate = "no_certificate",
        /// Client and server have no cipher suite, key exchange or signature in common.
        NoCommonCipher = "no_common_cipher",
        /// Client and server have no version of TLS in common.
        NoCommonVersion = "no_common_version",
        /// The first bytes are not TLS.
        NotTls = "not_tls",
        /// Any other violation of the protocol.
        Other = "other",
        /// The first bytes are a plain HTTP request.
        PlainHttp = "plain_http",
        /// The handshake was not complete within `handshake_timeout`.
        TimedOut = "timed_out",
    }
}

impl TlsFailure {
    /// Returns the description for a log line.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::CertificateRefused => "the client does not accept the server's certificate",
            Self::ClientAlert => "the client ended the handshake with an alert",
            Self::ClientCertificate => "the client's certificate is missing or not valid",
            Self::Ended => "the client ended the connection during the handshake",
            Self::NoCertificate => "no certificate for the name that the client asked for",
            Self::NoCommonCipher => "no cipher suite, key exchange or signature in common",
            Self::NoCommonVersion => "no version of TLS in common",
            Self::NotTls => "the first bytes are not TLS",
            Self::Other => "the client broke the TLS protocol",
            Self::PlainHttp => "plain HTTP on a TLS port: the client has to use https or wss",
            Self::TimedOut => "the handshake was not complete within handshake_timeout",
        }
    }
}

reasons! {
    /// The reason why a connection failed, as [`Stats::failed`](crate::Stats::failed) counts it:
    /// the variants of [`ProtocolError`](crate::ProtocolError) without their values.
    ProtocolReason {
        /// A close code that must not be sent.
        BadCloseCode = "bad_close_code",
        /// A Close frame's body of one byte.
        BadCloseLength = "bad_close_length",
        /// A compressed message is not valid DEFLATE.
        BadDeflate = "bad_deflate",
        /// Text that is not UTF-8.
        BadUtf8 = "bad_utf8",
        /// A new message inside a fragmented one.
        ContinuationExpected = "continuation_expected",
        /// A continuation without a message.
        ContinuationUnexpected = "continuation_unexpected",
        /// A fragmented control frame.
        ControlFragmented = "control_fragmented",
        /// A control frame of more than 125 bytes.
        ControlTooLong = "control_too_long",
        /// A payload length in more bytes than it needs.
        LengthNotMinimal = "length_not_minimal",
        /// The top bit of a 64-bit payload length is set.
        LengthTopBit = "length_top_bit",
        /// A message larger than `max_recv_size`.
        MessageTooBig = "message_too_big",
        /// A message that inflates beyond `max_ratio`.
        RatioTooHigh = "ratio_too_high",
        /// A reserved bit is set.
        ReservedBits = "reserved_bits",
        /// An opcode that is not defined.
        ReservedOpCode = "reserved_opcode",
        /// A message that was not complete within `message_timeout`.
        TimedOut = "timed_out",
        /// More bytes than `max_byte_rate` allows.
        TooManyBytes = "too_many_bytes",
        /// More frames in a message than `max_fragments` allows.
        TooManyFragments = "too_many_fragments",
        /// More messages than `max_message_rate` allows.
        TooManyMessages = "too_many_messages",
        /// More pings and pongs than `max_ping_rate` allows.
        TooManyPings = "too_many_pings",
        /// A client's frame is not masked.
        Unmasked = "unmasked",
    }
}

/// A counter for each of `N` reasons.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Counts<N> {
    /// Counts one more; `index` is the position of a reason in its enum.
    #[cold]
    pub(crate) fn count(&mut self, index: usize) {
        if let Some(count) = self.0.get_mut(index) {
            *count += 1;
        }
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Subtracts the earlier counts.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        for (count, before) in self.0.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(before);
        }
        self
    }

    /// Adds the counts of another loop.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
        self
    }

    #[cfg(test)]
    pub(crate) fn all(count: u64) -> Self {
        Self([count; N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_unique() {
        for names in [
            RefusalReason::ALL
                .iter()
                .map(|reason| reason.name())
                .collect::<Vec<_>>(),
            TlsFailure::ALL.iter().map(|reason| reason.name()).collect(),
            ProtocolReason::ALL
                .iter()
                .map(|reason| reason.name())
                .collect(),
        ] {
            let mut sorted = names.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted, names, "in alphabetical order, each once");
            let label =
                |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
            assert!(names.iter().all(|name| name.bytes().all(label)));
        }
        for (index, reason) in RefusalReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
