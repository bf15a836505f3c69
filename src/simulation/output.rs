//! A parser of the server's output: HTTP responses, then whole frames.

use crate::client_frames::Header;
use crate::protocol::OpCode;
#[cfg(feature = "deflate")]
use crate::protocol::deflate::{Context, InflateLimits, Inflater};

/// A part of the output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// An HTTP response with this status.
    Answer(u16),
    Message(OpCode, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A Close frame, and its body.
    Close(Vec<u8>),
}

/// The state of the parser.
#[derive(Default)]
pub(super) struct Output {
    /// Number of bytes parsed.
    at: usize,
    /// The output continues with frames.
    pub(super) is_upgraded: bool,
    pub(super) is_deflating: bool,
    pub(super) is_closed: bool,
    /// The first byte of an incomplete message, and its payload so far.
    message: Option<(u8, Vec<u8>)>,
    #[cfg(feature = "deflate")]
    inflater: Option<Box<Inflater>>,
}

impl Output {
    /// Returns the next complete part of `all` and where it ends, or what is wrong with it.
    pub(super) fn next(&mut self, all: &[u8]) -> Result<Option<(usize, Told)>, String> {
        let rest = &all[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        if self.is_closed {
            return Err(format!("{} bytes behind the Close frame", rest.len()));
        }
        let told = match self.is_upgraded {
            true => self.frame(rest)?,
            false => self.answer(rest)?,
        };
        let Some((size, told)) = told else {
            return Ok(None);
        };
        self.at += size;
        match told {
            Some(told) => Ok(Some((self.at, told))),
            None => self.next(all),
        }
    }

    fn answer(&mut self, rest: &[u8]) -> Result<Option<(usize, Option<Told>)>, String> {
        let Some(head) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&rest[..head]).to_ascii_lowercase();
        let status = text
            .strip_prefix("http/1.1 ")
            .and_then(|line| line.get(..3)?.parse().ok());
        let status: u16 = status.ok_or_else(|| format!("no answer: {text:?}"))?;
        self.is_upgraded = status == 101;
        self.is_deflating = self.is_upgraded && text.contains("permessage-deflate");
        let length = text
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = match length {
            Some(length) => length.trim().parse().map_err(|_| "a length".to_owned())?,
            None => 0,
        };
        let size = head + 4 + length;
        Ok((rest.len() >= size).then_some((size, Some(Told::Answer(status)))))
    }

    fn frame(&mut self, rest: &[u8]) -> Result<Option<(usize, Option<Told>)>, String> {
        let Some(header) = Header::parse(rest, usize::MAX)? else {
            return Ok(None);
        };
        let end = header.size + header.length;
        let Some(payload) = rest.get(header.size..end) else {
            return Ok(None);
        };
        let told = self.told(header.first, payload)?;
        Ok(Some((end, told)))
    }

    fn told(&mut self, first: u8, payload: &[u8]) -> Result<Option<Told>, String> {
        let (is_final, opcode) = (first & 0x80 != 0, first & 0xf);
        if opcode >= 8 && !is_final {
            return Err("a control frame in parts".into());
        }
        if first & 0x30 != 0 || (first & 0x40 != 0 && (!self.is_deflating || opcode == 0)) {
            return Err(format!("reserved bits: {first:02x}"));
        }
        match opcode {
            8 => {
                self.is_closed = true;
                return Ok(Some(Told::Close(payload.to_vec())));
            }
            9 => return Ok(Some(Told::Ping(payload.to_vec()))),
            10 => return Ok(Some(Told::Pong(payload.to_vec()))),
            0 => match &mut self.message {
                Some((_, message)) => message.extend_from_slice(payload),
                None => return Err("a continuation of nothing".into()),
            },
            1 | 2 if self.message.is_some() => return Err("a message within another".into()),
            1 | 2 => self.message = Some((first, payload.to_vec())),
            _ => return Err(format!("an opcode of nobody's: {first:02x}")),
        }
        if !is_final {
            return Ok(None);
        }
        let (first, message) = self.message.take().expect("it was just put there");
        let message = self.expanded(first, message)?;
        let opcode = match first & 0xf {
            1 => OpCode::Text,
            _ => OpCode::Binary,
        };
        Ok(Some(Told::Message(opcode, message)))
    }

    #[cfg(feature = "deflate")]
    fn expanded(&mut self, first: u8, message: Vec<u8>) -> Result<Vec<u8>, String> {
        if first & 0x40 == 0 {
            return Ok(message);
        }
        let inflater = self.inflater.get_or_insert_default();
        let mut room = Vec::new();
        let plain = inflater.message(
            &message,
            Context::Keep,
            InflateLimits::new(1 << 20, usize::MAX),
            &mut room,
        );
        plain.map(<[u8]>::to_vec).map_err(|error| error.to_string())
    }

    #[cfg(not(feature = "deflate"))]
    fn expanded(&mut self, _: u8, message: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(message)
    }
}
