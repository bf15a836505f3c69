//! Checks the bytes that a server returns against the expected replies.

use flate2::{Decompress, FlushDecompress};

use super::frame;
use super::socketio;
use super::traffic::Traffic;

/// The result of one call of [`Checker::feed`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fed {
    /// Bytes that were consumed. The rest belongs to the next burst, or was not expected.
    pub(super) consumed: usize,
    /// Replies that were completed.
    pub(super) messages: usize,
    /// Whether the burst was completed.
    pub(super) whole: bool,
    /// The frame that answers a ping.
    pub(super) pong_due: Option<Vec<u8>>,
    /// Whether a pong was completed.
    pub(super) pong: bool,
}

/// The form of the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// The same bytes as were sent.
    Raw,
    /// Frames without compression.
    Plain,
    /// Frames that may be compressed.
    Deflate,
    /// Frames with packets of Socket.IO, which has pings of its own.
    SocketIo,
}

/// Checks the replies of one connection.
pub(super) struct Checker {
    wire: Wire,
    /// How much of the front burst has been checked, in bytes, or in messages if they are
    /// compressed.
    offset: usize,
    /// A frame that has to be complete before it is checked: a control frame or a compressed one.
    frame: Vec<u8>,
    inflate: Option<Box<Decompress>>,
    /// The payload bytes of compressed replies, before decompression.
    pub(super) wire_payload: u64,
}

impl Checker {
    pub(super) fn new(wire: Wire) -> Self {
        let inflate = (wire == Wire::Deflate).then(|| Box::new(Decompress::new(false)));
        Self {
            wire,
            offset: 0,
            frame: Vec::new(),
            inflate,
            wire_payload: 0,
        }
    }

    /// Checks bytes against the awaited burst, if there is one.
    ///
    /// # Errors
    ///
    /// Returns a description of the difference if the bytes are not as expected.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        traffic: &Traffic,
        awaited: Option<usize>,
    ) -> Result<Fed, String> {
        let at_boundary = match (self.wire, awaited) {
            (Wire::Raw, _) => false,
            (Wire::Deflate | Wire::SocketIo, _) | (Wire::Plain, None) => true,
            (Wire::Plain, Some(_)) => self.offset.is_multiple_of(traffic.reply_len),
        };
        let control = bytes.first().is_some_and(|&first| first & 0x08 != 0);
        let whole_frames = matches!(self.wire, Wire::Deflate | Wire::SocketIo);
        if at_boundary && (whole_frames || control || !self.frame.is_empty()) {
            return self.whole_frame(bytes, traffic, awaited);
        }
        let Some(awaited) = awaited else {
            return Err(format!("{} bytes that nobody asked for", bytes.len()));
        };
        self.exact(bytes, traffic, awaited)
    }

    /// Compares bytes with the expected ones, without parsing. This is the common case.
    fn exact(&mut self, bytes: &[u8], traffic: &Traffic, awaited: usize) -> Result<Fed, String> {
        let reply = &traffic.burst(awaited).reply;
        let expected = &reply[self.offset..];
        // Consumes all bytes of the burst, or stops at the end of a message if a control frame
        // follows.
        let consumed = bytes.len().min(expected.len());
        let (got, expected) = (&bytes[..consumed], &expected[..consumed]);
        let mut consumed = consumed;
        if got != expected {
            let same = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
            let at = self.offset + same;
            let between = at.is_multiple_of(traffic.reply_len) && same > 0;
            if self.wire == Wire::Raw || !between || got[same] & 0x08 == 0 {
                return Err(self.difference(traffic, at, got[same], expected[same]));
            }
            consumed = same;
        }
        let before = self.offset / traffic.reply_len;
        self.offset += consumed;
        let messages = self.offset / traffic.reply_len - before;
        let whole = self.offset == reply.len();
        if whole {
            self.offset = 0;
        }
        Ok(Fed {
            consumed,
            messages,
            whole,
            ..Fed::default()
        })
    }

    fn difference(&self, traffic: &Traffic, at: usize, got: u8, expected: u8) -> String {
        let (message, byte) = (at / traffic.reply_len, at % traffic.reply_len);
        let header = match traffic.reply_len {
            _ if self.wire == Wire::Raw => 0,
            ..=127 => 2,
            128..=65_539 => 4,
            _ => 10,
        };
        let what = match byte {
            0 if header > 0 => "the first byte (FIN, RSV, opcode)".into(),
            _ if byte < header => "the length".into(),
            _ => format!("byte {} of the payload", byte - header),
        };
        format!("message {message} of a burst: {what} is {got:#04x} and not {expected:#04x}")
    }

    /// Collects the bytes of a frame, and checks the frame when it is complete.
    fn whole_frame(
        &mut self,
        bytes: &[u8],
        traffic: &Traffic,
        awaited: Option<usize>,
    ) -> Result<Fed, String> {
        let before = self.frame.len();
        // Adds at most as many bytes as a header can have, to find out the frame's size.
        self.frame.extend(bytes.iter().take(14));
        let wanted = match frame::parse(&self.frame)? {
            Some(header) => header.size + header.length,
            None => {
                return Ok(Fed {
                    consumed: self.frame.len() - before,
                    ..Fed::default()
                });
            }
        };
        self.frame.truncate(before);
        let take = bytes.len().min(wanted - before);
        self.frame.extend_from_slice(&bytes[..take]);
        let mut fed = Fed {
            consumed: take,
            ..Fed::default()
        };
        if self.frame.len() == wanted {
            let frame = std::mem::take(&mut self.frame);
            self.judge(&frame, traffic, awaited, &mut fed)?;
            self.frame = frame;
            self.frame.clear();
        }
        Ok(fed)
    }

    fn judge(
        &mut self,
        frame: &[u8],
        traffic: &Traffic,
        awaited: Option<usize>,
        fed: &mut Fed,
    ) -> Result<(), String> {
        let header = frame::parse(frame)?.ok_or("a frame without a header")?;
        let payload = &frame[header.size..];
        match header.first {
            frame::PING => {
                fed.pong_due = Some(frame::client_frame(frame::PONG, payload, [1, 2, 3, 4]));
                return Ok(());
            }
            frame::TEXT if self.wire == Wire::SocketIo && payload == socketio::PING => {
                fed.pong_due = Some(socketio::pong());
                return Ok(());
            }
            frame::PONG => {
                fed.pong = true;
                return Ok(());
            }
            frame::CLOSE => {
                let code = payload.first_chunk().map(|&code| u16::from_be_bytes(code));
                return Err(format!("the server closed with {code:?}"));
            }
            _ => {}
        }
        let Some(awaited) = awaited else {
            return Err(format!("a frame {:#04x} nobody asked for", header.first));
        };
        let expected = traffic.payload(awaited, self.offset);
        let differs = |got: &[u8]| format!("a payload of {} bytes differs", got.len());
        if header.first == traffic.first | frame::COMPRESSED {
            if !traffic.is_verified(awaited, payload) {
                let message = self.decompress(payload)?;
                if message != expected {
                    return Err(differs(&message));
                }
                traffic.verified(awaited, payload);
            }
        } else if header.first != traffic.first {
            return Err(format!(
                "the first byte is {:#04x} and not {:#04x}",
                header.first, traffic.first
            ));
        } else if payload != expected {
            return Err(differs(payload));
        }
        self.wire_payload += payload.len() as u64;
        self.offset += 1;
        fed.messages = 1;
        fed.whole = self.offset == traffic.depth;
        if fed.whole {
            self.offset = 0;
        }
        Ok(())
    }

    /// RFC 7692, 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload".
    /// The window is always kept, which does no harm if the server keeps none.
    fn decompress(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let inflate = self.inflate.as_mut().ok_or("compressed without asking")?;
        let mut input = payload.to_vec();
        input.extend_from_slice(&[0, 0, 0xff, 0xff]);
        let mut out = Vec::with_capacity(4096);
        let start = inflate.total_in();
        loop {
            let done = usize::try_from(inflate.total_in() - start).unwrap_or(usize::MAX);
            inflate
                .decompress_vec(&input[done..], &mut out, FlushDecompress::Sync)
                .map_err(|error| format!("a reply cannot be decompressed: {error}"))?;
            if out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(out.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Options;
    use super::*;

    fn traffic(arguments: &str) -> Traffic {
        let line = format!("load --connect 127.0.0.1:1 {arguments}");
        let options = Options::parse(line.split(' ').map(String::from)).unwrap();
        Traffic::new(&options.unwrap()).unwrap()
    }

    /// Feeds all bytes in pieces of `piece` bytes; returns the number of messages, bursts and
    /// pings.
    fn feed(
        checker: &mut Checker,
        traffic: &Traffic,
        bytes: &[u8],
        piece: usize,
    ) -> Result<(usize, usize, usize), String> {
        let (mut messages, mut bursts, mut pings) = (0, 0, 0);
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let fed = checker.feed(piece, traffic, Some(bursts))?;
                messages += fed.messages;
                bursts += usize::from(fed.whole);
                pings += usize::from(fed.pong_due.is_some());
                piece = &piece[fed.consumed..];
            }
        }
        Ok((messages, bursts, pings))
    }

    #[test]
    fn right_replies_pass_however_they_are_cut() {
        let traffic = traffic("--size 200 --depth 3");
        let bytes = [&traffic.burst(0).reply[..], &traffic.burst(1).reply[..]].concat();
        for piece in [1, 2, 7, 203, 204, 205, 611, 10_000] {
            let mut checker = Checker::new(Wire::Plain);
            let fed = feed(&mut checker, &traffic, &bytes, piece);
            assert_eq!(fed, Ok((6, 2, 0)), "pieces of {piece}");
        }
    }

    #[test]
    fn any_byte_that_differs_is_noticed() {
        let traffic = traffic("--size 20 --depth 2");
        for at in 0..44 {
            let mut bytes = traffic.burst(0).reply.clone();
            bytes[at] ^= 0x10;
            let mut checker = Checker::new(Wire::Plain);
            assert!(feed(&mut checker, &traffic, &bytes, 1000).is_err());
        }
    }

    #[test]
    fn replies_in_the_wrong_order_are_noticed() {
        let traffic = traffic("--size 20");
        let bytes = [&traffic.burst(1).reply[..], &traffic.burst(0).reply[..]].concat();
        let error = feed(&mut Checker::new(Wire::Plain), &traffic, &bytes, 1000);
        assert!(error.unwrap_err().contains("byte 0 of the payload"));
    }

    #[test]
    fn pings_between_messages_are_not_replies() {
        let traffic = traffic("--size 20 --depth 2");
        let (one, two) = traffic.burst(0).reply.split_at(22);
        let ping = frame::server_frame(frame::PING, b"still there?");
        let bytes = [&ping[..], one, &ping[..], two].concat();
        for piece in [1, 5, 1000] {
            let mut checker = Checker::new(Wire::Plain);
            let fed = feed(&mut checker, &traffic, &bytes, piece);
            assert_eq!(fed, Ok((2, 1, 2)));
        }
    }

    #[test]
    fn events_of_socketio_are_compared_and_its_pings_answered() {
        let traffic = traffic("--mode topics --size 64 --socketio");
        let message = |number| frame::server_frame(frame::TEXT, traffic.payload(number, 0));
        let ping = frame::server_frame(frame::TEXT, socketio::PING);
        let bytes = [&ping[..], &message(0), &ping, &message(1)].concat();
        for piece in [1, 5, 1000] {
            let mut checker = Checker::new(Wire::SocketIo);
            let fed = feed(&mut checker, &traffic, &bytes, piece);
            assert_eq!(fed, Ok((2, 2, 2)));
        }
        let wrong = feed(&mut Checker::new(Wire::SocketIo), &traffic, &message(1), 99);
        assert!(wrong.unwrap_err().contains("differs"));
    }

    #[test]
    fn a_close_says_its_code() {
        let traffic = traffic("--size 20");
        let close = frame::server_frame(frame::CLOSE, &1009_u16.to_be_bytes());
        let error = Checker::new(Wire::Plain).feed(&close, &traffic, None);
        assert!(error.unwrap_err().contains("1009"));
    }

    #[test]
    fn silence_is_kept_where_nothing_is_awaited() {
        let traffic = traffic("--size 20");
        let reply = &traffic.burst(0).reply;
        assert!(
            Checker::new(Wire::Plain)
                .feed(reply, &traffic, None)
                .is_err()
        );
        assert!(Checker::new(Wire::Raw).feed(reply, &traffic, None).is_err());
    }

    /// Returns the compressed reply to a message: unmasking the request yields it.
    fn compressed_reply(traffic: &Traffic, number: usize) -> Vec<u8> {
        let request = &traffic.burst(number).request;
        // The length takes two further bytes.
        let (mask, payload) = request[4..].split_at(4);
        let unmasked: Vec<u8> = payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        frame::server_frame(traffic.first | frame::COMPRESSED, &unmasked)
    }

    #[test]
    fn compressed_replies_are_decompressed_and_compared() {
        let traffic = traffic("--size 3000 --kind json --deflate shared");
        let reply = |number| compressed_reply(&traffic, number);
        let bytes = [reply(0), reply(1)].concat();
        for piece in [1, 3, 100, 10_000] {
            let mut checker = Checker::new(Wire::Deflate);
            let fed = feed(&mut checker, &traffic, &bytes, piece);
            assert_eq!(fed, Ok((2, 2, 0)));
            assert!(checker.wire_payload < 3000);
        }
        let wrong = feed(&mut Checker::new(Wire::Deflate), &traffic, &reply(1), 9999);
        assert!(wrong.unwrap_err().contains("differs"));
    }
    #[test]
    fn messages_to_topics_are_decompressed_once() {
        let traffic = traffic("--mode topics --size 1024 --kind json --deflate shared");
        let bytes = compressed_reply(&traffic, 0);
        let payload = &bytes[frame::parse(&bytes).unwrap().unwrap().size..];
        for _ in 0..3 {
            let fed = feed(&mut Checker::new(Wire::Deflate), &traffic, &bytes, 9999);
            assert_eq!(fed, Ok((1, 1, 0)));
            assert!(traffic.is_verified(0, payload) && !traffic.is_verified(1, payload));
        }
        for wrong in [
            compressed_reply(&traffic, 1),
            [&bytes[..9], &[0; 999]].concat(),
        ] {
            assert!(feed(&mut Checker::new(Wire::Deflate), &traffic, &wrong, 9999).is_err());
        }
    }
}
