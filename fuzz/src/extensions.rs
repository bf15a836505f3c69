//! `Sec-WebSocket-Extensions`: the response must equal that of a slow implementation of RFC 6455,
//! 9.1 and RFC 7692, 7.1, and it must be legal for the offer.

use wsloop::DeflateConfig;

use crate::input::Input;

/// Settings (3 bytes), then the lines of the header, separated by LF.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let (server, client) = (9 + input.byte() % 7, 9 + input.byte() % 7);
    let config = match flags & 1 {
        0 => DeflateConfig::shared(),
        _ => DeflateConfig::dedicated(),
    };
    let alone = flags & 2 != 0;
    let config = config
        .server_max_window_bits(server)
        .client_max_window_bits(client)
        .client_no_context_takeover(alone);
    let lines: Vec<&[u8]> = input.0.split(|byte| *byte == b'\n').collect();

    let found = config.negotiate(lines.iter().copied());
    let extensions: Vec<_> = lines.iter().map(|line| parse(line)).collect();
    let offer = extensions.iter().flatten().find_map(|extension| {
        let offer = Parameters::of(extension, true)?;
        // zlib cannot compress with a window of 256 bytes (8 bits).
        (offer.server_bits != Some(Some(8))).then_some(offer)
    });
    let Some(offer) = offer else {
        assert_eq!(found, None);
        return;
    };
    let agreed = found.expect("there is a good offer");
    let text = agreed.to_string();
    let answer = parse(text.as_bytes());
    assert_eq!(answer.len(), 1);
    let answer = Parameters::of(&answer[0], false).expect("legal");

    // RFC 7692, 7.1.1.1: a server that accepts an offer with this parameter includes it in the
    // response. Without it in the offer, a server may still reset its context, and need not
    // announce this. 7.1.1.2: the server may always request it of the client.
    let shared = flags & 1 == 0;
    assert_eq!(answer.server_alone, offer.server_alone);
    assert_eq!(
        agreed.server_no_context_takeover(),
        offer.server_alone || shared
    );
    assert_eq!(answer.client_alone, offer.client_alone || alone);
    // 7.1.2.1: the response has the parameter if and only if the offer has it, with the same value
    // or a smaller one.
    let bits = answer.server_bits.map(|bits| bits.expect("a value"));
    match offer.server_bits {
        Some(offered) => {
            let most = offered.expect("a value").min(server);
            assert_eq!(bits, Some(most));
            assert_eq!(agreed.server_max_window_bits(), most);
        }
        None => {
            assert_eq!(bits, None);
            assert_eq!(agreed.server_max_window_bits(), server);
        }
    }
    // 7.1.2.2: "If a received extension negotiation offer doesn't have the
    // "client_max_window_bits" extension parameter, the corresponding extension negotiation
    // response to the offer MUST NOT include" it.
    let bits = answer.client_bits.map(|bits| bits.expect("a value"));
    match offer.client_bits {
        None => assert_eq!(bits, None),
        Some(offered) => {
            let most = offered.unwrap_or(15).min(client);
            assert_eq!(bits.unwrap_or(15), most);
        }
    }
    assert_eq!(agreed.client_max_window_bits(), bits.unwrap_or(15));
    assert_eq!(agreed.client_no_context_takeover(), answer.client_alone);
}

/// An extension: its name, and its parameters with their values.
type Extension = (String, Vec<(String, Option<String>)>);

/// Parses a header line step by step: elements, parameters, values. Skips malformed ones.
fn parse(line: &[u8]) -> Vec<Extension> {
    let elements = split(line, b',').into_iter();
    let parsed = elements.filter_map(|element| {
        let mut parts = split(&element, b';').into_iter();
        let name = token(&parts.next()?)?;
        let parameters = parts.map(|part| {
            let mut sides = split(&part, b'=').into_iter();
            let name = token(&sides.next()?)?;
            let value = match sides.next() {
                None => None,
                Some(value) => Some(unquoted(&value)?),
            };
            sides.next().is_none().then_some((name, value))
        });
        Some((name, parameters.collect::<Option<_>>()?))
    });
    parsed.collect()
}

/// Splits at the separators outside of quoted strings.
pub(crate) fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        if *byte == separator && !quoted {
            parts.push(Vec::new());
            continue;
        }
        if escaped {
            escaped = false;
        } else if quoted && *byte == b'\\' {
            escaped = true;
        } else if *byte == b'"' {
            quoted = !quoted;
        }
        parts.last_mut().expect("never empty").push(*byte);
    }
    for part in &mut parts {
        while matches!(part.last(), Some(b' ' | b'\t')) {
            part.pop();
        }
        let blanks = part
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        part.drain(..blanks);
    }
    parts
}

fn token(text: &[u8]) -> Option<String> {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let good = !text.is_empty() && text.iter().all(known);
    good.then(|| String::from_utf8_lossy(text).into_owned())
}

/// Returns a token, or a quoted string whose content is a token, without quotes and backslashes.
fn unquoted(text: &[u8]) -> Option<String> {
    let Some(rest) = text.strip_prefix(b"\"") else {
        return token(text);
    };
    let (mut plain, mut escaped) = (Vec::new(), false);
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => {
                return (at + 1 == rest.len()).then(|| token(&plain)).flatten();
            }
            byte => {
                plain.push(*byte);
                escaped = false;
            }
        }
    }
    None
}

/// The parameters of permessage-deflate (RFC 7692, 7.1).
#[derive(Debug, Default)]
struct Parameters {
    server_alone: bool,
    client_alone: bool,
    server_bits: Option<Option<u8>>,
    client_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Parses an offer or a response; returns `None` if it is not valid permessage-deflate.
    fn of((name, parameters): &Extension, is_offer: bool) -> Option<Self> {
        let mut read = Self::default();
        let mut seen = Vec::new();
        if name != "permessage-deflate" {
            return None;
        }
        for (name, value) in parameters {
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            let bits = match value {
                None => None,
                Some(value) => {
                    let value = (8..=15).find(|bits| bits.to_string() == *value);
                    Some(value?)
                }
            };
            match (name.as_str(), bits) {
                ("server_no_context_takeover", None) => read.server_alone = true,
                ("client_no_context_takeover", None) => read.client_alone = true,
                ("server_max_window_bits", Some(_)) => read.server_bits = Some(bits),
                ("client_max_window_bits", Some(_)) => read.client_bits = Some(bits),
                ("client_max_window_bits", None) if is_offer => read.client_bits = Some(None),
                _ => return None,
            }
        }
        Some(read)
    }
}
