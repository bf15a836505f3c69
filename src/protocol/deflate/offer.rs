//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455, 9.1; RFC 7692, 7.1).

use std::borrow::Cow;

use crate::tokens::{elements, is_tchar};

/// An offer of permessage-deflate whose parameters are all known and well-formed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Offer {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_bits: Option<u8>,
    /// `Some(None)` means that the parameter has no value: the server may choose one.
    pub(super) client_bits: Option<Option<u8>>,
}

impl Offer {
    /// Adds a parameter. Returns `None` if it is unknown, repeated, or has an invalid value
    /// (RFC 7692, 7.1: such an offer is declined).
    fn take(&mut self, name: &[u8], value: Option<&[u8]>) -> Option<()> {
        let flag =
            |flag: &mut bool| (value.is_none() && !std::mem::replace(flag, true)).then_some(());
        match name {
            b"server_no_context_takeover" => flag(&mut self.server_no_context_takeover),
            b"client_no_context_takeover" => flag(&mut self.client_no_context_takeover),
            b"server_max_window_bits" => {
                let bits = window_bits(value?)?;
                self.server_bits.replace(bits).is_none().then_some(())
            }
            b"client_max_window_bits" => {
                let bits = match value {
                    Some(value) => Some(window_bits(value)?),
                    None => None,
                };
                self.client_bits.replace(bits).is_none().then_some(())
            }
            _ => None,
        }
    }
}

/// RFC 7692, 7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Yields the acceptable offers of permessage-deflate in a header line.
pub(super) fn offers(line: &[u8]) -> impl Iterator<Item = Offer> {
    elements(line).filter_map(offer)
}

/// Parses an element of the list; returns `None` if it is malformed, names another extension, or is
/// an offer to decline.
fn offer(element: &[u8]) -> Option<Offer> {
    let mut scan = Scan(element);
    if scan.token()? != b"permessage-deflate" {
        return None;
    }
    let mut offer = Offer::default();
    while scan.eat(b';') {
        let name = scan.token()?;
        let value = match scan.eat(b'=') {
            true => Some(scan.value()?),
            false => None,
        };
        offer.take(name, value.as_deref())?;
    }
    scan.0.is_empty().then_some(offer)
}

/// The rest of a header line, without white space at its front.
struct Scan<'h>(&'h [u8]);

impl<'h> Scan<'h> {
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// Consumes `byte`, if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let Some((_, rest)) = self.0.split_first().filter(|(first, _)| **first == byte) else {
            return false;
        };
        self.0 = rest;
        self.skip_blanks();
        true
    }

    fn token(&mut self) -> Option<&'h [u8]> {
        let len = self.0.iter().take_while(|byte| is_tchar(**byte)).count();
        if len == 0 {
            return None;
        }
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        self.skip_blanks();
        Some(token)
    }

    /// RFC 6455, 9.1: "When using the quoted-string syntax variant, the value after quoted-string
    /// unescaping MUST conform to the 'token' ABNF."
    fn value(&mut self) -> Option<Cow<'h, [u8]>> {
        let [b'"', quoted @ ..] = self.0 else {
            return self.token().map(Cow::Borrowed);
        };
        let mut value = Vec::new();
        let mut bytes = quoted.iter();
        loop {
            let byte = match bytes.next() {
                Some(b'"') if !value.is_empty() => break,
                Some(b'\\') => bytes.next(),
                byte => byte,
            };
            match byte {
                Some(byte) if is_tchar(*byte) => value.push(*byte),
                _ => return None,
            }
        }
        self.0 = bytes.as_slice();
        self.skip_blanks();
        Some(Cow::Owned(value))
    }
}
