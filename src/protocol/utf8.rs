//! UTF-8 validation of bytes as they arrive (RFC 6455, 8.1; RFC 3629).

use crate::error::ProtocolError;

/// Validates text that arrives in pieces, and fails at the first byte that makes it invalid UTF-8.
///
/// It keeps only the bytes of an unfinished character, at most three.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Validator {
    /// The first bytes of a character that is not complete.
    pending: [u8; 4],
    len: u8,
}

impl Utf8Validator {
    /// Checks the next piece.
    ///
    /// # Errors
    ///
    /// Returns [`ProtocolError::BadUtf8`] as soon as no further bytes can make the text valid
    /// UTF-8.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(());
            };
            // At most three bytes are pending; four would be a whole character.
            self.pending[usize::from(self.len)] = byte;
            self.len += 1;
            bytes = rest;
            let pending = usize::from(std::mem::take(&mut self.len));
            if !is_complete(&self.pending[..pending])? {
                self.len = pending as u8; // at most three
            }
        }
        let (body, tail) = bytes.split_at(bytes.len() - unfinished(bytes));
        if simdutf8::basic::from_utf8(body).is_err() {
            return Err(ProtocolError::BadUtf8);
        }
        if !tail.is_empty() {
            is_complete(tail)?;
            self.pending[..tail.len()].copy_from_slice(tail);
            self.len = tail.len() as u8; // at most three
        }
        Ok(())
    }

    /// Ends the text, and resets the validator for the next one.
    ///
    /// # Errors
    ///
    /// Returns [`ProtocolError::BadUtf8`] if the text ends inside a character.
    pub fn finish(&mut self) -> Result<(), ProtocolError> {
        match std::mem::take(&mut self.len) {
            0 => Ok(()),
            _ => Err(ProtocolError::BadUtf8),
        }
    }
}

/// Returns how many bytes at the end belong to an unfinished character, judged by its first byte.
fn unfinished(bytes: &[u8]) -> usize {
    for (back, &byte) in bytes.iter().rev().take(3).enumerate() {
        let size = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            0x00..=0x7f => 1,
        };
        return if size > back + 1 { back + 1 } else { 0 };
    }
    0
}

/// Returns whether `bytes` are a whole character; `false` means that they are the start of one.
fn is_complete(bytes: &[u8]) -> Result<bool, ProtocolError> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(true),
        Err(error) if error.error_len().is_none() => Ok(false),
        Err(_) => Err(ProtocolError::BadUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the index of the byte at which `text`, fed one by one, is refused.
    fn refused_at(text: &[u8]) -> Option<usize> {
        let mut validator = Utf8Validator::default();
        text.iter()
            .position(|byte| validator.feed(std::slice::from_ref(byte)).is_err())
    }

    #[test]
    fn the_first_impossible_byte_is_refused() {
        assert_eq!(refused_at(b"\xf4\x90"), Some(1)); // above U+10FFFF
        assert_eq!(refused_at(b"\xed\xa0"), Some(1)); // a surrogate
        assert_eq!(refused_at(b"\xe0\x80"), Some(1)); // overlong
        assert_eq!(refused_at(b"\xc0"), Some(0)); // overlong
        assert_eq!(refused_at(b"a\x80"), Some(1)); // a continuation of nothing
        assert_eq!(refused_at(b"\xe2\x82a"), Some(2)); // cut short
        assert_eq!(refused_at("κόσμε€𝄞".as_bytes()), None);
    }

    #[test]
    fn an_unfinished_character_is_no_end() {
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed(b"\xe2\x82"), Ok(()));
        assert_eq!(validator.finish(), Err(ProtocolError::BadUtf8));
        assert_eq!(validator.feed(b"\xe2\x82\xac"), Ok(()));
        assert_eq!(validator.finish(), Ok(()));
    }

    #[test]
    fn a_validator_that_failed_can_be_fed() {
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed(b"\xe2"), Ok(()));
        for _ in 0..10 {
            let _ = validator.feed(b"a");
        }
        assert_eq!(validator.feed("€".as_bytes()), Ok(()));
        assert_eq!(validator.finish(), Ok(()));
    }

    proptest! {
        /// The verdict falls where the standard library puts it, whatever the bytes and the cuts:
        /// at the piece that holds the first wrong byte.
        #[test]
        fn any_cut_gives_the_verdict_of_std(
            mut bytes in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..40),
            ],
            flip in any::<Option<(prop::sample::Index, u8)>>(),
            cuts in prop::collection::vec(1usize..9, 0..40),
        ) {
            if let Some((at, bits)) = flip && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            let wrong = match std::str::from_utf8(&bytes) {
                Ok(_) => None,
                Err(error) => error.error_len().map(|len| error.valid_up_to() + len),
            };
            let mut validator = Utf8Validator::default();
            let mut fed = 0;
            let mut cuts = cuts.into_iter();
            let mut refused = None;
            while fed < bytes.len() && refused.is_none() {
                let next = (fed + cuts.next().unwrap_or(64)).min(bytes.len());
                if validator.feed(&bytes[fed..next]).is_err() {
                    refused = Some(fed..next);
                }
                fed = next;
            }
            match (refused, wrong) {
                // `wrong` is the end of the bad sequence by `error_len`: the bad byte is the last
                // one in it or the one after it.
                (Some(piece), Some(wrong)) => {
                    prop_assert!(piece.start <= wrong && wrong <= piece.end, "{piece:?} {wrong}");
                }
                (None, None) => {
                    let whole = std::str::from_utf8(&bytes).is_ok();
                    prop_assert_eq!(validator.finish().is_ok(), whole);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
