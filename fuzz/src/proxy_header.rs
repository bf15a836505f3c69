//! The header of the PROXY protocol: the result must not depend on how the bytes arrive, and it
//! must equal that of a second parser, written from the specification.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wsloop::proxy::{Header, HeaderError, Source};

/// The first bytes of a connection.
pub fn run(data: &[u8]) {
    let whole = Header::read(data);
    let expected = second(data);
    match (&whole, &expected) {
        (Ok(Some((header, used))), Some((source, secure, verified, len))) => {
            assert_eq!((header.source, *used), (*source, *len));
            assert_eq!((header.secure, header.verified), (*secure, *verified));
            assert!(*used <= Header::MAX_SIZE && *used <= data.len());
        }
        (Ok(Some(_)), None) => panic!("it is no header"),
        (_, Some(_)) => panic!("it is a header"),
        (Ok(None) | Err(HeaderError), None) => {}
    }
    // The result must not depend on the cuts: the first definite result must be final.
    let end = match &whole {
        Ok(Some((_, used))) => *used,
        _ => data.len().min(Header::MAX_SIZE + 1),
    };
    let mut failed = false;
    for cut in 0..end {
        match Header::read(&data[..cut]) {
            Ok(None) => assert!(!failed, "what failed goes on at {cut}"),
            Ok(Some(_)) => panic!("{cut} bytes are not the whole"),
            Err(HeaderError) => failed = true,
        }
    }
    assert!(!failed || whole.is_err(), "a part of a header is an error");
    if data.len() > Header::MAX_SIZE {
        assert_ne!(whole, Ok(None), "nobody is waited for without end");
    }
}

type Found = (Source, Option<bool>, bool, usize);

/// Parses a complete header according to sections 2.1 and 2.2 of the specification; returns `None`
/// for anything else.
fn second(data: &[u8]) -> Option<Found> {
    match data.first()? {
        b'P' => version_1(data),
        b'\r' => version_2(data),
        _ => None,
    }
}

fn version_1(data: &[u8]) -> Option<Found> {
    // A CR ends the header; an LF must follow.
    let end = data.iter().position(|byte| *byte == b'\r')?;
    if data.get(end + 1) != Some(&b'\n') || end + 2 > 107 {
        return None;
    }
    let found = |source| Some((source, None, false, end + 2));
    let line = data[..end].strip_prefix(b"PROXY ")?;
    if line.starts_with(b"UNKNOWN") {
        return found(Source::Unknown);
    }
    let line = str::from_utf8(line).ok()?;
    let parts: Vec<_> = line.split(' ').collect();
    let [family, source, destination, from, to] = parts[..] else {
        return None;
    };
    let (from, _to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
    let ip: IpAddr = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    found(Source::Client(SocketAddr::new(ip, from)))
}

fn version_2(data: &[u8]) -> Option<Found> {
    let rest = data.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n")?;
    let (&command, &family) = (rest.first()?, rest.get(1)?);
    let len = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
    if 16 + len > Header::MAX_SIZE {
        return None;
    }
    let body = rest.get(4..4 + len)?;
    if command == 0x20 {
        return Some((Source::Local, None, false, 16 + len));
    }
    let (addresses, source) = match family {
        0x00 => (0, Source::Unknown),
        0x11 | 0x12 => {
            let ip: [u8; 4] = body.get(..4)?.try_into().ok()?;
            let port = u16::from_be_bytes(body.get(8..10)?.try_into().ok()?);
            (12, Source::Client(SocketAddr::new(ip.into(), port)))
        }
        0x21 | 0x22 => {
            let ip: [u8; 16] = body.get(..16)?.try_into().ok()?;
            let port = u16::from_be_bytes(body.get(32..34)?.try_into().ok()?);
            (36, Source::Client(SocketAddr::new(ip.into(), port)))
        }
        0x31 | 0x32 => (216, Source::Unknown),
        _ => return None,
    };
    let mut tlvs = body.get(addresses..)?;
    let source = match (command, family & 0xf) {
        (0x21, 1) => source,
        (0x21, _) => Source::Unknown,
        _ => return None,
    };
    let (mut secure, mut verified) = (None, false);
    while let [kind, high, low, behind @ ..] = tlvs {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(value) = behind.get(..size) else {
            break;
        };
        if *kind == 0x20
            && let [client, a, b, c, d, ..] = value
        {
            secure = Some(client & 1 != 0);
            verified = client & 1 != 0 && client & 6 != 0 && [*a, *b, *c, *d] == [0; 4];
            break;
        }
        tlvs = &behind[size..];
    }
    Some((source, secure, verified, 16 + len))
}
