//! How a client ends its connection.

use super::{Client, Context, Reading, State};
use crate::frame::{self, CLOSE, FIN, TEXT};
use crate::record::Ending;

impl Client {
    /// Ends the connection in the given way. An abrupt ending completes at once.
    pub(crate) fn end(&mut self, ending: Ending, context: &mut Context) {
        let key = context.rng.u32(..).to_ne_bytes();
        self.ending = ending;
        if self.reading != Reading::Free {
            self.reading = Reading::Free;
        }
        match ending {
            Ending::Closed => {
                let code = [1000, 1001, 3000, 4000][context.rng.usize(..4)];
                let mut payload = u16::to_be_bytes(code).to_vec();
                if context.rng.bool() {
                    payload.extend_from_slice("bis morgen — до завтра".as_bytes());
                }
                frame::write(&mut self.out, FIN | CLOSE, &payload, key);
                self.close_sent = Some(code);
                self.state = State::Closing;
            }
            Ending::HalfClosed => {
                self.finish = true;
                self.state = State::Ending;
            }
            Ending::Reset => self.stream.reset(),
            Ending::InMessage => {
                frame::write(&mut self.out, TEXT, b"to be continued", key);
            }
            Ending::InFrame => {
                let before = self.out.len();
                frame::write(&mut self.out, FIN | TEXT, &[b'x'; 3000], key);
                let part = context.rng.usize(1..self.out.len() - before);
                self.out.truncate(before + part);
            }
            Ending::InRecord => {
                self.flush();
                if self.out.is_empty() {
                    let mut half = Vec::new();
                    frame::write(&mut half, FIN | TEXT, &[b'x'; 300], key);
                    self.stream.write_half_record(&half);
                }
            }
            Ending::InHello => self.stream.write_half_record(b""),
            _ => {}
        }
        if ending.is_kill() {
            self.flush();
            self.state = State::Over;
        } else {
            self.advance(context);
        }
    }

    /// Reports a server that does not end the connection.
    pub(crate) fn give_up(&mut self, context: &mut Context) {
        let Self { number, state, .. } = &*self;
        let record = format!("{number} waits for an end: {state:?} {:?}", self.record());
        context.faults.push(record);
        self.state = State::Over;
    }
}
