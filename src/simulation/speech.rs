//! The data that clients send.

use super::breaches;
use super::clients::{Kind, Sense, frame};
use super::world::World;
use crate::protocol::OpCode;

impl World {
    /// Returns a unique payload.
    fn payload(&mut self, client: usize) -> Vec<u8> {
        let max = self.settings.config.limits.max_recv_size;
        let size = match self.random.below(20) {
            0 => max,
            1 => self.random.below(max),
            2 | 3 => self.random.below(max.min(3000)),
            _ => self.random.below(125),
        };
        let state = &mut self.clients[client];
        state.numbered += 1;
        let mut payload = format!("from {client}, {}:", state.numbered).into_bytes();
        let letter = b'a' + (state.numbered % 26) as u8;
        payload.resize(size.max(payload.len()), letter);
        payload
    }

    /// Sends the next message, request or violation of the script.
    pub(super) fn say(&mut self, client: usize) {
        let kind = self.clients[client].kind;
        match kind {
            Kind::Plain => return self.ask(client),
            Kind::Silent | Kind::Stranger | Kind::Mute => return,
            Kind::Breaker if self.clients[client].left == 0 => {
                let bytes = breaches::bad_frame(&mut self.random, &self.settings);
                self.send(client, bytes, None);
                let state = &mut self.clients[client];
                state.breach = state.breach.or(Some(state.posted));
                return;
            }
            _ => {}
        }
        let mut payload = self.payload(client);
        let ping = match kind {
            Kind::Flooder => 500,
            _ => 100,
        };
        if self.random.chance(ping) {
            payload.truncate(125);
            let (first, sense) = match self.random.chance(700) {
                true => (0x89, Sense::Ping(payload.clone())),
                false => (0x8a, Sense::Pong(payload.clone())),
            };
            let bytes = frame(first, &payload);
            return self.send(client, bytes, Some(sense));
        }
        let (first, opcode) = match self.random.chance(500) {
            true => (0x81, OpCode::Text),
            false => (0x82, OpCode::Binary),
        };
        let sense = Sense::Message(opcode, payload.clone());
        let (first, payload) = self.compressed(client, first, payload);
        let in_parts = match kind {
            Kind::Fragmenter => 900,
            _ => 50,
        };
        if !self.random.chance(in_parts) {
            let bytes = frame(first, &payload);
            return self.send(client, bytes, Some(sense));
        }
        self.fragments(client, first, &payload, sense);
    }

    fn fragments(&mut self, client: usize, first: u8, payload: &[u8], sense: Sense) {
        let count = self.random.within(2..=5);
        let mut rest = payload;
        for part in 1..=count {
            let size = match part == count {
                true => rest.len(),
                false => self.random.below(rest.len() + 1),
            };
            let (now, behind) = rest.split_at(size);
            rest = behind;
            let mut byte = if part == 1 { first & 0x7f } else { 0 };
            if part < count {
                let bytes = frame(byte, now);
                self.send(client, bytes, None);
                if self.random.chance(300) {
                    let ping = self.payload(client);
                    let ping = ping.get(..100).unwrap_or(&ping).to_vec();
                    let bytes = frame(0x89, &ping);
                    self.send(client, bytes, Some(Sense::Ping(ping)));
                }
            } else {
                byte |= 0x80;
                let bytes = frame(byte, now);
                self.send(client, bytes, Some(sense.clone()));
            }
        }
    }

    #[cfg(feature = "deflate")]
    fn compressed(&mut self, client: usize, first: u8, payload: Vec<u8>) -> (u8, Vec<u8>) {
        use crate::protocol::deflate::{Context, Deflater};
        let state = &self.clients[client];
        if !state.answered || !state.output.is_deflating || !self.random.chance(500) {
            return (first, payload);
        }
        let mut compressed = Vec::new();
        let done = Deflater::new(1, 15).message(&payload, Context::Reset, &mut compressed);
        assert!(done, "it is compressed");
        (first | 0x40, compressed)
    }

    #[cfg(not(feature = "deflate"))]
    fn compressed(&mut self, _: usize, first: u8, payload: Vec<u8>) -> (u8, Vec<u8>) {
        (first, payload)
    }

    /// Sends a plain request, or at the end a request to upgrade.
    fn ask(&mut self, client: usize) {
        if self.clients[client].left == 0 && self.random.chance(500) {
            return self.upgrade(client);
        }
        let body = self.random.below(3) * 20;
        let request = match body {
            0 => "GET /plain HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            _ => format!(
                "POST /plain HTTP/1.1\r\nHost: h\r\nContent-Length: {body}\r\n\r\n{}",
                "b".repeat(body)
            ),
        };
        self.send(client, request.into_bytes(), Some(Sense::Plain));
    }
}
