//! What a client receives.

use super::{Client, Context, Fate, Partial, State};
use crate::frame::{self, BINARY, CLOSE, CONTINUATION, FIN, Header, PING, PONG, TEXT};
use crate::message::{Mark, Temper};
use crate::record::{Ending, Stage};
use crate::serve::page_of;

impl Client {
    /// Processes the received bytes, as far as they are complete.
    ///
    /// # Errors
    ///
    /// Returns a description of the fault if they are not as expected.
    pub(super) fn take(&mut self, context: &mut Context) -> Result<(), String> {
        let mut input = std::mem::take(&mut self.input);
        let mut taken = 0;
        let result = loop {
            let rest = &input[taken..];
            if rest.is_empty() || self.state == State::Over {
                break Ok(());
            }
            let step = match (self.state, self.fate) {
                (State::Opening, Fate::Talk) => self.take_answer(rest),
                (_, Fate::Visit(_)) => self.take_page(rest),
                // The body of a refusal is ignored.
                (_, Fate::Blunder | Fate::Silence | Fate::Stall) => Ok(rest.len()),
                _ => self.take_frame(rest, context),
            };
            match step {
                Ok(0) => break Ok(()),
                Ok(size) => taken += size,
                Err(fault) => break Err(fault),
            }
        };
        input.drain(..taken);
        if !input.is_empty() || input.capacity() <= super::KEPT {
            self.input = input;
        }
        result
    }

    /// Processes the response to the opening handshake.
    fn take_answer(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(0);
        };
        let head = String::from_utf8_lossy(&bytes[..end + 4]);
        if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
            return Err(format!("refused: {head}"));
        }
        if head.contains("permessage-deflate") != self.deflate {
            return Err(format!("compression is not as it was asked for: {head}"));
        }
        self.state = State::Open;
        self.stage = Stage::Open;
        Ok(end + 4)
    }

    /// Processes a page, and requests the next one or shuts down the sending side.
    fn take_page(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(0);
        };
        let name = format!("{}-{}", self.number, self.requests);
        let (page, size) = (page_of(&name), end + 4);
        let Some(body) = bytes.get(size..size + page.len()) else {
            return Ok(0);
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        if !head.starts_with("HTTP/1.1 200 ") || body != page.as_bytes() {
            return Err(format!("a wrong page: {head}"));
        }
        self.requests += 1;
        self.stage = Stage::Open;
        match self.fate {
            Fate::Visit(pages) if self.requests < pages => self.visit(),
            _ => self.finish = true,
        }
        Ok(size + page.len())
    }

    /// Processes a complete frame; returns its size, or 0 if it is incomplete.
    fn take_frame(&mut self, bytes: &[u8], context: &mut Context) -> Result<usize, String> {
        if self.close_received.is_some() {
            return Err("bytes after a Close frame".into());
        }
        let Some(header) = frame::parse(bytes)? else {
            return Ok(0);
        };
        let size = header.size + header.length;
        let Some(payload) = bytes.get(header.size..size) else {
            return Ok(0);
        };
        match header.opcode() {
            CONTINUATION | TEXT | BINARY => self.take_data(header, payload, context)?,
            PING => {
                // RFC 6455, 5.5.2 requires a pong unless the endpoint "already received a Close
                // frame", and nothing may be sent after the client's own Close frame.
                if self.state == State::Open {
                    let key = context.rng.u32(..).to_ne_bytes();
                    frame::write(&mut self.out, FIN | PONG, payload, key);
                }
            }
            PONG => {
                if self.temper == Temper::Polite && payload != self.pongs.to_be_bytes() {
                    return Err(format!("pong {payload:?} instead of {}", self.pongs));
                }
                self.pongs += 1;
            }
            CLOSE => self.take_close(payload, context)?,
            other => return Err(format!("an unknown frame {other}")),
        }
        Ok(size)
    }

    fn take_data(
        &mut self,
        header: Header,
        payload: &[u8],
        context: &mut Context,
    ) -> Result<(), String> {
        let begins = header.opcode() != CONTINUATION;
        if begins != self.partial.is_none() {
            return Err("a fragment that does not belong here".into());
        }
        if begins && header.is_last() {
            let is_text = header.opcode() == TEXT;
            return self.take_message(is_text, header.is_compressed(), payload, context);
        }
        let partial = self.partial.get_or_insert_with(|| Partial {
            is_text: header.opcode() == TEXT,
            is_compressed: header.is_compressed(),
            bytes: Vec::new(),
        });
        partial.bytes.extend_from_slice(payload);
        if header.is_last()
            && let Some(Partial {
                is_text,
                is_compressed,
                bytes,
            }) = self.partial.take()
        {
            context.counts.fragmented_received += 1;
            self.take_message(is_text, is_compressed, &bytes, context)?;
        }
        Ok(())
    }

    /// Decompresses a complete message if necessary, and checks it.
    fn take_message(
        &mut self,
        is_text: bool,
        is_compressed: bool,
        bytes: &[u8],
        context: &mut Context,
    ) -> Result<(), String> {
        let mut expanded = std::mem::take(&mut context.payload);
        let payload = match is_compressed {
            true if !self.deflate => return Err("compressed, and never agreed".into()),
            true => {
                context.counts.compressed_received += 1;
                let own = self.inflate.as_deref_mut();
                context.deflate.expand(own, bytes, &mut expanded)?;
                &expanded
            }
            false => bytes,
        };
        context.counts.received += 1;
        context.counts.bytes_received += payload.len() as u64;
        context.counts.largest = context.counts.largest.max(payload.len() as u64);
        let scratch = &mut context.scratch;
        let mark = self.replies.take(self.sent, is_text, payload, scratch)?;
        if mark == Mark::Echo
            && let Some(sent) = self.flight.pop_front()
            && self.temper == Temper::Polite
        {
            context.awaited -= 1;
            let micros = sent.elapsed().as_micros();
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            context.latency.saturating_record(micros);
        }
        context.payload = expanded;
        Ok(())
    }

    fn take_close(&mut self, payload: &[u8], context: &mut Context) -> Result<(), String> {
        let code = payload
            .first_chunk::<2>()
            .map(|&code| u16::from_be_bytes(code));
        let code = code.ok_or("a Close frame without a code")?;
        self.close_received = Some(code);
        match self.state {
            State::Open => {
                let key = context.rng.u32(..).to_ne_bytes();
                frame::write(&mut self.out, FIN | CLOSE, &code.to_be_bytes(), key);
                (self.state, self.ending) = (State::Ending, Ending::Answered);
            }
            State::Closing => self.state = State::Ending,
            _ => {}
        }
        // RFC 6455, 7.1.1: the server closes TCP first. With TLS each side sends a `close_notify`.
        self.finish |= self.stream.is_tls() && self.ending != Ending::HalfClosed;
        Ok(())
    }

    /// Handles the end of the stream.
    pub(super) fn ended(&mut self, context: &mut Context) {
        let is_whole = self.partial.is_none() && self.input.is_empty();
        match self.ending {
            Ending::Closed | Ending::Answered if self.close_received.is_none() => {
                // The connection ended before the server's Close frame arrived.
                self.ending = Ending::Lost;
            }
            Ending::HalfClosed if !is_whole && self.close_received.is_none() => {
                let fault = format!("{}: an end within a message", self.number);
                context.faults.push(fault);
            }
            _ => {}
        }
        self.state = State::Over;
    }
}

/// The `Sec-WebSocket-Accept` for the key of all requests.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
