//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455, 9.1; RFC 7692, 7.1).

use std::borrow::Cow;

use crate::error::HandshakeError;
use crate::handshake::is_tchar;

/// One offer of permessage-deflate whose parameters are all known and well-formed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Offer {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_bits: Option<u8>,
    /// Without a value it only says that the server may choose one.
    pub(super) client_bits: Option<Option<u8>>,
}

impl Offer {
    /// Takes a parameter in. `None` if it is unknown, there for the second time, or has not the
    /// value it should (RFC 7692, 7.1: such an offer is declined).
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

/// Calls `take` with each good offer of permessage-deflate in a header line, in one pass.
pub(super) fn offers(line: &[u8], mut take: impl FnMut(Offer)) -> Result<(), HandshakeError> {
    let mut scan = Scan(line);
    let mut some = false;
    loop {
        // RFC 7230, 7: empty elements are skipped, but a list is not of these alone.
        while scan.eat(b',') {}
        if scan.0.is_empty() {
            break;
        }
        some = true;
        let known = scan.token()? == b"permessage-deflate";
        let mut offer = known.then(Offer::default);
        while scan.eat(b';') {
            let name = scan.token()?;
            let value = if scan.eat(b'=') {
                Some(scan.value()?)
            } else {
                None
            };
            if offer
                .as_mut()
                .is_some_and(|offer| offer.take(name, value.as_deref()).is_none())
            {
                offer = None;
            }
        }
        if !scan.0.is_empty() && !scan.eat(b',') {
            return Err(HandshakeError::BadHeader);
        }
        if let Some(offer) = offer {
            take(offer);
        }
    }
    if some {
        Ok(())
    } else {
        Err(HandshakeError::BadHeader)
    }
}

/// What is left of a header line, without white space at its front.
struct Scan<'h>(&'h [u8]);

impl<'h> Scan<'h> {
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// Takes `byte`, if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let Some((_, rest)) = self.0.split_first().filter(|(first, _)| **first == byte) else {
            return false;
        };
        self.0 = rest;
        self.skip_blanks();
        true
    }

    fn token(&mut self) -> Result<&'h [u8], HandshakeError> {
        let len = self.0.iter().take_while(|byte| is_tchar(**byte)).count();
        if len == 0 {
            return Err(HandshakeError::BadHeader);
        }
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        self.skip_blanks();
        Ok(token)
    }

    /// RFC 6455, 9.1: "When using the quoted-string syntax variant, the value after quoted-string
    /// unescaping MUST conform to the 'token' ABNF."
    fn value(&mut self) -> Result<Cow<'h, [u8]>, HandshakeError> {
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
                _ => return Err(HandshakeError::BadHeader),
            }
        }
        self.0 = bytes.as_slice();
        self.skip_blanks();
        Ok(Cow::Owned(value))
    }
}
