//! The bytes of a rejected request head, to report the reason.

use crate::tokens::is_tchar;

/// The bytes of a request head that had arrived when it was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    /// The head from its beginning.
    pub(crate) bytes: &'a [u8],
    /// How many bytes were scanned: the last one is the offending byte, if a single byte is at
    /// fault.
    pub(crate) at: usize,
}

impl<'a> Head<'a> {
    /// Returns the request line, as far as it has arrived.
    pub(crate) fn request_line(self) -> &'a [u8] {
        let start = self.bytes.iter().position(|byte| !b"\r\n".contains(byte));
        let line = self.bytes.get(start.unwrap_or(0)..).unwrap_or_default();
        line.split(|byte| b"\r\n".contains(byte))
            .next()
            .unwrap_or_default()
    }

    /// Returns the name and the size of the largest header line.
    pub(crate) fn largest(self) -> Option<(&'a [u8], usize)> {
        let lines = self.bytes.split(|byte| *byte == b'\n').skip(1);
        let line = lines.max_by_key(|line| line.len())?;
        let size = line.strip_suffix(b"\r").unwrap_or(line).len();
        (size > 0).then(|| (name(line), size))
    }

    /// Returns the name of the malformed header line, and the whole line.
    pub(crate) fn malformed(self) -> (&'a [u8], &'a [u8]) {
        let is_bad = |line: &&[u8]| {
            !line.is_empty()
                && (name(line).len() == line.len()
                    || !name(line).iter().all(|byte| is_tchar(*byte)))
        };
        let line = if self.at < self.bytes.len() || !self.bytes.ends_with(b"\r\n\r\n") {
            self.line_at()
        } else {
            // The parser of the complete head found the fault, not the scanner.
            let mut lines = self.bytes.split(|byte| *byte == b'\n').skip(1);
            lines
                .by_ref()
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .find(is_bad)
                .unwrap_or_default()
        };
        (name(line), line)
    }

    /// Returns the line of the byte that was scanned last.
    fn line_at(self) -> &'a [u8] {
        let spoiled = self.at.saturating_sub(1);
        let before = self.bytes.get(..spoiled).unwrap_or_default();
        let start = before.iter().rposition(|byte| *byte == b'\n');
        let start = start.map_or(0, |start| start + 1);
        let behind = self.bytes.get(self.at..).unwrap_or_default();
        let more = behind.iter().position(|byte| b"\r\n".contains(byte));
        let end = self.at + more.unwrap_or(behind.len());
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// Returns the bytes before the colon.
fn name(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &str, at: usize) -> Head<'_> {
        Head {
            bytes: bytes.as_bytes(),
            at,
        }
    }

    #[test]
    fn lines_are_found_by_the_byte_that_spoils_them() {
        let bytes = "GET / HTTP/1.1\r\nA: b\r\nCookie: x\0y\r\nC: d\r\n";
        let at = bytes.find('\0').unwrap() + 1;
        let (name, line) = head(bytes, at).malformed();
        assert_eq!((name, line), (&b"Cookie"[..], &b"Cookie: x\0y"[..]));
        assert_eq!(head(bytes, at).request_line(), b"GET / HTTP/1.1");
        // A bare LF, and a folded line.
        let (_, line) = head("GET / HTTP/1.1\r\nA: b\nB: c", 21).malformed();
        assert_eq!(line, b"A: b\nB: c");
        let (_, line) = head("GET / HTTP/1.1\r\nA: b\r\n c\r\n", 23).malformed();
        assert_eq!(line, b" c");
        // Only the parser of the complete head finds this fault.
        let bytes = "GET / HTTP/1.1\r\nA: b\r\nHost : c\r\n\r\n";
        let (name, line) = head(bytes, bytes.len()).malformed();
        assert_eq!((name, line), (&b"Host "[..], &b"Host : c"[..]));
    }

    #[test]
    fn the_largest_header_is_named() {
        let bytes = "GET /long-long-long HTTP/1.1\r\nA: b\r\nCookie: 123456\r\nC: d\r\n";
        assert_eq!(head(bytes, 0).largest(), Some((&b"Cookie"[..], 14)));
        assert_eq!(head("GET /", 0).largest(), None);
        assert_eq!(
            head("GET / HTTP/1.1\r\nCoo", 0).largest(),
            Some((&b"Coo"[..], 3))
        );
    }

    #[test]
    fn nothing_panics_whatever_the_bytes() {
        for bytes in [
            "",
            "\r",
            "\n",
            "\r\n\r\n",
            ":",
            "a",
            "\n:\n",
            "\r\n\r\n\r\n",
        ] {
            for at in 0..9 {
                let head = head(bytes, at);
                _ = (head.request_line(), head.largest(), head.malformed());
            }
        }
    }
}
