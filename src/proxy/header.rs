//! The header of the PROXY protocol.

use std::fmt;
use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};

/// The header of the PROXY protocol, version 1 or 2, that a proxy sends at the start of a
/// connection (HAProxy's
/// [specification](https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt)).
///
/// ```
/// use wsloop::proxy::{Header, Source};
///
/// let input = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n";
/// let (header, used) = Header::read(input)?.expect("it is whole");
/// assert_eq!(header.source, Source::Client("192.0.2.7:56324".parse().unwrap()));
/// assert!(input[used..].starts_with(b"GET"));
/// # Ok::<(), wsloop::proxy::HeaderError>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The client that the header names.
    pub source: Source,
    /// Whether the client uses TLS to the proxy, if the header says so: version 2 with
    /// `PP2_TYPE_SSL`.
    pub secure: Option<bool>,
    /// Whether the client presented a certificate to the proxy that passed verification.
    pub verified: bool,
}

/// The client that a header of the PROXY protocol names.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// A client with this address.
    Client(SocketAddr),
    /// The proxy itself, for example for a health check (`LOCAL` of version 2). HAProxy also sends
    /// it for clients whose address it does not have.
    Local,
    /// A client that the proxy does not know: `UNKNOWN` of version 1, and anything but TCP of
    /// version 2.
    Unknown,
}

/// The error for bytes that are not a header of the PROXY protocol, or one that is too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeaderError;

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("missing or malformed PROXY protocol header")
    }
}

impl std::error::Error for HeaderError {}

impl Header {
    /// Largest header that is accepted, in bytes.
    ///
    /// Version 1 takes at most 107. For version 2, the specification expects 536 to be enough; a
    /// cloud's network ID, the name of a certificate or a request ID may add to that.
    pub const MAX_SIZE: usize = 4096;

    /// Parses a header; returns it and its size in bytes, or `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// Returns an error as soon as `input` cannot be a header any more.
    pub fn read(input: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let v2 = input.starts_with(&SIGNATURE[..1]);
        let signature: &[u8] = if v2 { &SIGNATURE } else { b"PROXY " };
        let begun = input.len().min(signature.len());
        if input.get(..begun) != signature.get(..begun) {
            return Err(HeaderError);
        }
        if v2 && let Some(&[_, family, high, low]) = input.get(SIGNATURE.len()..FIXED) {
            let len = usize::from(u16::from_be_bytes([high, low]));
            if input.get(SIGNATURE.len()) == Some(&LOCAL) && FIXED + len <= Self::MAX_SIZE {
                // The receiver ignores its family and addresses, as the specification requires.
                return Ok((input.len() >= FIXED + len).then_some((Self::LOCAL, FIXED + len)));
            }
            // The crate would wait for addresses that do not fit into the announced length.
            let addresses = match family {
                0x11 | 0x12 => 12,
                0x21 | 0x22 => 36,
                0x31 | 0x32 => 216,
                _ => 0,
            };
            if len < addresses || FIXED + len > Self::MAX_SIZE {
                return Err(HeaderError);
            }
        }
        let config = ParseConfig {
            include_tlvs: true,
            ..ParseConfig::default()
        };
        let (header, used) = match ProxyHeader::parse(input, config) {
            Ok(parsed) => parsed,
            Err(Error::BufferTooShort) => return Ok(None),
            Err(_) => return Err(HeaderError),
        };
        if !v2 && used > V1_MAX_SIZE {
            return Err(HeaderError);
        }
        let source = match header.proxied_address() {
            Some(addrs) if addrs.protocol == Protocol::Stream => Source::Client(addrs.source),
            _ => Source::Unknown,
        };
        let ssl = header.ssl();
        let shown =
            |ssl: &proxy_header::SslInfo<'_>| ssl.client_cert_conn() || ssl.client_cert_sess();
        let header = Self {
            source,
            secure: ssl.as_ref().map(|ssl| ssl.client_ssl()),
            verified: ssl.is_some_and(|ssl| ssl.client_ssl() && shown(&ssl) && ssl.verify() == 0),
        };
        Ok(Some((header, used)))
    }

    /// The header of the proxy's own connection.
    const LOCAL: Self = Self {
        source: Source::Local,
        secure: None,
        verified: false,
    };

    /// Returns whether `input` begins with the signature of a header, which no request begins with.
    pub(crate) fn is_begun(input: &[u8]) -> bool {
        input.starts_with(b"PROXY ") || input.starts_with(&SIGNATURE)
    }
}

/// The signature of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Size of the fixed part of version 2, before the addresses, in bytes.
const FIXED: usize = 16;

/// The byte for version 2 with the command `LOCAL`.
const LOCAL: u8 = 0x20;

/// Size of the longest header of version 1, with CR LF, in bytes.
const V1_MAX_SIZE: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const TCP4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

    fn client(text: &str) -> Source {
        Source::Client(text.parse().unwrap())
    }

    fn ssl(client: u8, verify: u32) -> Vec<u8> {
        let mut tlv = vec![0x20, 0, 5, client];
        tlv.extend(verify.to_be_bytes());
        tlv
    }

    /// Parses a header that arrives byte by byte, with a request after it.
    fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
        for end in 0..bytes.len() {
            match Header::read(&bytes[..end]) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("{end} bytes are not the whole"),
                Err(error) => {
                    assert_eq!(Header::read(bytes), Err(error), "it does not get better");
                    return Err(error);
                }
            }
        }
        let behind = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        let (header, used) = Header::read(&behind)?.expect("it is whole");
        assert_eq!(used, bytes.len());
        Ok(header)
    }

    #[test]
    fn version_1() {
        for (line, source) in [
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
                client("192.0.2.7:56324"),
            ),
            (
                "PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n",
                client("[2001:db8::7]:1"),
            ),
            ("PROXY UNKNOWN\r\n", Source::Unknown),
            (
                "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
                Source::Unknown,
            ),
        ] {
            let header = read(line.as_bytes()).unwrap();
            assert_eq!((header.source, header.secure), (source, None), "{line}");
        }
        for line in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n\n\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            "PROXY TCP4 192.0.2.7  198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
            "PROXY TCP5 192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXYxTCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
            "proxy TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            read(line.as_bytes()).expect_err(line);
        }
        // The longest header, and one byte more.
        let unknown = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
        assert!(read(unknown(107).as_bytes()).is_ok());
        assert!(Header::read(unknown(108).as_bytes()).is_err());
        assert!(Header::read(&b"PROXY UNKNOWN "[..]).unwrap().is_none());
        assert!(Header::read(&unknown(200).as_bytes()[..107]).is_err());
    }

    #[test]
    fn version_2() {
        let header = read(&v2(0x21, 0x11, &TCP4)).unwrap();
        assert_eq!(header.source, client("192.0.2.7:56324"));
        let mut tcp6 = [0; 36];
        tcp6[..2].copy_from_slice(&[0x20, 1]);
        tcp6[15] = 7;
        tcp6[33] = 9;
        let header = read(&v2(0x21, 0x21, &tcp6)).unwrap();
        assert_eq!(header.source, client("[2001::7]:9"));
        // LOCAL is the proxy itself, whatever the addresses are.
        for (family, rest) in [
            (0, &[][..]),
            (0x11, &TCP4),
            (0x11, &[]),
            (0x77, &[1]),
            (0, &[1, 2, 3]),
        ] {
            let header = read(&v2(0x20, family, rest)).unwrap();
            assert_eq!(header.source, Source::Local);
        }
        // Not TCP: unspecified, UDP, a Unix socket.
        for (family, rest) in [(0, &[][..]), (0x12, &TCP4), (0x31, &[b'/'; 216])] {
            let header = read(&v2(0x21, family, rest)).unwrap();
            assert_eq!(header.source, Source::Unknown, "{family:#x}");
        }
        for bytes in [
            v2(0x11, 0x11, &TCP4),
            v2(0x22, 0x11, &TCP4),
            v2(0x21, 0x11, &TCP4[..11]),
            v2(0x21, 0x41, &TCP4),
            v2(0x21, 0x31, &[b'/'; 215]),
        ] {
            assert!(read(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn lengths_of_version_2_are_bounded() {
        let with = |len: usize| {
            let mut rest = TCP4.to_vec();
            // A TLV that the parser ignores (NOOP).
            let value = len - FIXED - TCP4.len() - 3;
            rest.push(4);
            rest.extend((value as u16).to_be_bytes());
            rest.resize(len - FIXED, 0);
            v2(0x21, 0x11, &rest)
        };
        assert!(read(&with(Header::MAX_SIZE)).is_ok());
        // The header is refused before the announced bytes arrive.
        assert_eq!(
            Header::read(&with(Header::MAX_SIZE + 1)[..FIXED]),
            Err(HeaderError)
        );
    }

    #[test]
    fn what_the_ssl_tlv_says() {
        for (tlvs, secure, verified) in [
            (vec![], None, false),
            (ssl(0, 1), Some(false), false),
            (ssl(1, 0), Some(true), false),
            (ssl(3, 0), Some(true), true),
            (ssl(5, 0), Some(true), true),
            (ssl(7, 20), Some(true), false),
            // Without TLS, a certificate does not count.
            (ssl(6, 0), Some(false), false),
            (
                [vec![1, 0, 2, b'h', b'2'], ssl(3, 0)].concat(),
                Some(true),
                true,
            ),
            // Too short, and longer than the header.
            (vec![0x20, 0, 4, 1, 0, 0, 0], None, false),
            (vec![0x20, 0, 9, 1, 0, 0, 0, 0], None, false),
        ] {
            let rest = [&TCP4[..], &tlvs].concat();
            let header = read(&v2(0x21, 0x11, &rest)).unwrap();
            assert_eq!(
                (header.secure, header.verified),
                (secure, verified),
                "{tlvs:?}"
            );
        }
        let local = read(&v2(0x20, 0, &ssl(3, 0))).unwrap();
        assert_eq!((local.secure, local.verified), (None, false));
    }
}
