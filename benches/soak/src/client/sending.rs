//! What a client sends.

use std::time::Instant;

use super::{Client, Context, Fate, Reading, State};
use crate::frame::{self, BINARY, CONTINUATION, FIN, PING, RSV1, TEXT};
use crate::message::{Message, Name, Temper};
use crate::record::Stage;

impl Client {
    /// Queues the first bytes of the client.
    pub(super) fn ask(&mut self) {
        let request = match self.fate {
            Fate::Silence | Fate::DropHello => return,
            Fate::Visit(_) => return self.visit(),
            Fate::Blunder => "GET /c/0 HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n"
                .to_owned(),
            Fate::Talk | Fate::Stall | Fate::DropRequest => {
                let offer = match self.deflate {
                    true => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
                    false => "",
                };
                let mut path = self.number.to_string();
                if let Some([epoch, number]) = self.position {
                    path = format!("{path}/{epoch:x}-{number:x}");
                }
                format!(
                    "GET /c/{path} HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Version: 13\r\n{offer}\r\n"
                )
            }
        };
        let mut request = request.into_bytes();
        match self.fate {
            Fate::Talk | Fate::Blunder => self.stage = Stage::Requested,
            _ => request.truncate(request.len() / 2),
        }
        self.out = request;
    }

    /// Requests a page.
    pub(super) fn visit(&mut self) {
        let Self {
            number, requests, ..
        } = self;
        let request = format!("GET /page/{number}-{requests} HTTP/1.1\r\nHost: soak\r\n\r\n");
        self.out.extend_from_slice(request.as_bytes());
        self.stage = Stage::Requested;
    }

    /// Returns whether another message may be sent: the client is open and within its limits.
    pub(crate) fn can_send(&self) -> bool {
        self.is_open() && self.unsent() < UNSENT_MAX && self.flight.len() < FLIGHT_MAX
    }

    /// Queues the next message, to be flushed.
    pub(crate) fn send(&mut self, context: &mut Context) {
        let message = Message::of(Name::Echo {
            connection: self.number,
            sequence: self.sent,
        });
        let mut payload = std::mem::take(&mut context.payload);
        message.write(&mut payload);
        let compress = self.deflate && payload.len() > 64 && context.rng.bool();
        let (shrunk, rsv1);
        let bytes = match compress {
            true => {
                (shrunk, rsv1) = (context.deflate.shrink(&payload), RSV1);
                context.counts.compressed_sent += 1;
                &shrunk
            }
            false => {
                rsv1 = 0;
                &payload
            }
        };
        let opcode = match message.is_text() {
            true => TEXT,
            false => BINARY,
        };
        let frames = match bytes.len() {
            size if size > ONE_FRAME => context.rng.usize(2..6),
            2.. if context.rng.u8(..8) == 0 => context.rng.usize(2..5),
            _ => 1,
        };
        context.counts.fragmented_sent += u64::from(frames > 1);
        let each = bytes.len().div_ceil(frames).max(1);
        let mut first = opcode | rsv1;
        let mut rest = &bytes[..];
        for _ in 1..frames {
            let size = each.min(rest.len());
            let (part, after) = rest.split_at(size);
            frame::write(
                &mut self.out,
                first,
                part,
                context.rng.u32(..).to_ne_bytes(),
            );
            // RFC 6455, 5.4: "Control frames MAY be injected in the middle of a fragmented
            // message."
            if context.rng.u8(..4) == 0 {
                self.ping(context);
            }
            (first, rest) = (CONTINUATION, after);
        }
        let key = context.rng.u32(..).to_ne_bytes();
        frame::write(&mut self.out, FIN | first, rest, key);

        let counts = &mut context.counts;
        counts.sent += 1;
        counts.bytes_sent += payload.len() as u64;
        counts.pipelined += u64::from(!self.flight.is_empty());
        self.sent += 1;
        self.flight.push_back(Instant::now());
        context.awaited += usize::from(self.temper == Temper::Polite);
        context.payload = payload;
    }

    /// Queues a ping.
    pub(crate) fn ping(&mut self, context: &mut Context) {
        let key = context.rng.u32(..).to_ne_bytes();
        // The pong must carry the same number.
        let payload = self.pings.to_be_bytes();
        frame::write(&mut self.out, FIN | PING, &payload, key);
        self.pings += 1;
    }

    /// Stops reading or starts to read slowly, and sends many messages; or resumes reading if it
    /// was slow. Returns whether the client is slow now.
    pub(crate) fn slow_down(&mut self, context: &mut Context) -> bool {
        if self.state != State::Open {
            return false;
        }
        if self.reading != Reading::Free {
            self.reading = Reading::Free;
            self.advance(context);
            return false;
        }
        context.counts.pauses += 1;
        self.reading = match context.rng.bool() {
            true => Reading::Paused,
            false => Reading::Trickle(context.rng.u32(20..80)),
        };
        for _ in 0..context.rng.u32(4..24) {
            if self.can_send() {
                self.send(context);
            }
        }
        self.flush();
        true
    }
}

/// No messages are added while more bytes than this are unsent.
const UNSENT_MAX: usize = 192 << 10;

/// The largest number of awaited replies.
const FLIGHT_MAX: usize = 128;

/// Larger messages are sent in several frames.
const ONE_FRAME: usize = 64 << 10;
