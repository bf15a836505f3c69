//! Streams of frames: the receiver must deliver the same messages and the same error however the
//! stream is cut, and into whichever buffer its bytes are read. Framing the messages again must not
//! change them.

use wsloop::protocol::{CloseCode, CloseFrame, Header, Message, OpCode, Piece, Receiver};
use wsloop::{Limits, ProtocolError};

use crate::client::client_bytes;
use crate::client_frames;
use crate::input::{Dice, Input, cuts};

/// Settings (1 byte), cuts (2 bytes), then the client's bytes, or choices for its frames.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let settings = input.byte();
    let seed = input.short();
    let bytes = &*client_bytes(&mut input, settings & 0x80 != 0);
    let rules = Rules {
        max_recv_size: [64 << 10, 200, 7, usize::MAX][usize::from(settings & 3)],
        max_fragments: [usize::MAX, 3][usize::from(settings >> 2 & 1)],
        compressed: settings & 8 != 0,
        pieces: settings & 16 != 0,
    };

    let [whole, single, random] = cuts(seed, bytes.len());
    let expected = feed(&rules, bytes, &whole, None);
    if bytes.len() <= 4 << 10 {
        assert_eq!(feed(&rules, bytes, &single, None), expected);
    }
    assert_eq!(feed(&rules, bytes, &random, None), expected);
    let mut landed = feed(&rules, bytes, &random, Some(Dice::new(!seed)));
    if landed.end == End::Pending {
        // Text in a frame that is read directly into the message buffer is validated when the frame
        // is complete.
        if expected.end == End::Failed(ProtocolError::BadUtf8) {
            landed.end = expected.end;
        }
    }
    assert_eq!(landed, expected);

    let again = reframe(&expected.events, seed);
    let framed = feed(&rules, &again, &[again.len()], None);
    assert_eq!(framed.events, expected.events);
}

struct Rules {
    max_recv_size: usize,
    max_fragments: usize,
    compressed: bool,
    pieces: bool,
}

impl Rules {
    fn receiver(&self) -> Receiver {
        let mut limits = Limits::default();
        limits.max_recv_size = self.max_recv_size;
        limits.max_fragments = self.max_fragments;
        let mut receiver = Receiver::new(&limits);
        receiver.allow_compressed(self.compressed);
        receiver.allow_pieces(self.pieces);
        receiver
    }
}

/// A message, as owned data.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Event {
    Data {
        opcode: OpCode,
        compressed: bool,
        payload: Vec<u8>,
        kind: Kind,
    },
    Close(CloseCode, String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Whole,
    /// A piece: whether it is the first, and whether it is the last.
    Piece(bool, bool),
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Between two messages.
    Idle,
    /// Within a message.
    Pending,
    Closed,
    Failed(ProtocolError),
}

#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    end: End,
}

/// Passes all bytes to a receiver, cut into these sizes; with dice, writes some of them directly
/// into the message buffer.
fn feed(rules: &Rules, bytes: &[u8], cuts: &[usize], mut dice: Option<Dice>) -> Outcome {
    let mut receiver = rules.receiver();
    let mut outcome = Outcome {
        events: Vec::new(),
        end: End::Idle,
    };
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    for cut in cuts {
        let size = (*cut).min(rest.len());
        if let Some(dice) = &mut dice
            && dice.below(4) > 0
            && let Some(landing) = receiver.landing()
        {
            let size = dice
                .size(landing.len())
                .max(landing.len() / 2)
                .min(rest.len());
            let (front, behind) = rest.split_at_mut(size);
            landing[..size].copy_from_slice(front);
            receiver.landed(size);
            rest = behind;
            outcome.drain(&mut receiver, &mut []);
            continue;
        }
        let (front, behind) = rest.split_at_mut(size);
        rest = behind;
        outcome.drain(&mut receiver, front);
    }
    outcome.drain(&mut receiver, rest);
    if outcome.end == End::Idle && receiver.is_partial() {
        outcome.end = End::Pending;
    }
    outcome.normalize();
    outcome
}

impl Outcome {
    fn drain(&mut self, receiver: &mut Receiver, mut input: &mut [u8]) {
        loop {
            let event = match receiver.next(&mut input) {
                Ok(None) => break,
                Ok(Some(message)) => Event::of(message),
                Err(error) => {
                    assert_eq!(self.end, End::Idle, "a second end");
                    self.end = End::Failed(error);
                    break;
                }
            };
            assert_eq!(self.end, End::Idle, "{event:?} after the end");
            if let Event::Close(..) = event {
                self.end = End::Closed;
            }
            self.events.push(event);
        }
        assert!(input.is_empty());
    }

    /// Joins consecutive pieces, since the cuts determine them. Drops the pieces before an error,
    /// because the cuts also determine how far the message was delivered.
    fn normalize(&mut self) {
        let mut events: Vec<Event> = Vec::new();
        for event in std::mem::take(&mut self.events) {
            if let Event::Data {
                payload: next,
                kind: Kind::Piece(false, ends),
                ..
            } = &event
                && let Some(Event::Data {
                    payload,
                    kind: Kind::Piece(_, last),
                    ..
                }) = events.last_mut()
            {
                assert!(!*last, "a piece behind the last one");
                payload.extend_from_slice(next);
                *last = *ends;
            } else {
                events.push(event);
            }
        }
        if let (
            End::Failed(_),
            Some(Event::Data {
                kind: Kind::Piece(_, false),
                ..
            }),
        ) = (self.end, events.last())
        {
            events.pop();
        }
        self.events = events;
    }
}

impl Event {
    fn of(message: Message<'_>) -> Self {
        let data = |opcode, compressed, payload: &[u8], kind| Self::Data {
            opcode,
            compressed,
            payload: payload.to_vec(),
            kind,
        };
        let cut = |compressed, piece: Piece<'_>| {
            let kind = Kind::Piece(piece.first, piece.last);
            data(piece.opcode, compressed, piece.payload, kind)
        };
        match message {
            Message::Text(text) => data(OpCode::Text, false, text.as_bytes(), Kind::Whole),
            Message::Binary(bytes) => data(OpCode::Binary, false, bytes, Kind::Whole),
            Message::Compressed(opcode, bytes) => data(opcode, true, bytes, Kind::Whole),
            Message::Piece(piece) => cut(false, piece),
            Message::CompressedPiece(piece) => cut(true, piece),
            Message::Close(CloseFrame { code, reason }) => Self::Close(code, reason.to_owned()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            message => panic!("unknown: {message:?}"),
        }
    }
}

/// Frames the messages as a client would.
fn reframe(events: &[Event], seed: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let mut dice = Dice::new(seed);
    let mut frame = |fin: bool, rsv: u8, opcode: OpCode, payload: &[u8]| {
        let key = [0; 4].map(|_: u8| dice.below(256) as u8);
        let header = Header {
            fin,
            rsv,
            opcode,
            mask: Some(key),
            len: payload.len() as u64,
        };
        let start = out.len();
        header.encode(&mut out);
        let parsed = Header::parse(&out[start..], 0b100);
        assert_eq!(parsed, Ok(Some((header, out.len() - start))));
        let head = out.split_off(start);
        let first = u8::from(fin) << 7 | rsv << 4 | opcode.bits();
        client_frames::append(&mut out, first, Some(key), payload);
        assert!(out[start..].starts_with(&head), "{header:?}");
    };
    for event in events {
        match event {
            Event::Data {
                opcode,
                compressed,
                payload,
                kind,
            } => {
                let rsv = if *compressed { 0b100 } else { 0 };
                match kind {
                    Kind::Whole => frame(true, rsv, *opcode, payload),
                    Kind::Piece(first, last) => {
                        if *first {
                            frame(false, rsv, *opcode, payload);
                        } else {
                            frame(false, 0, OpCode::Continuation, payload);
                        }
                        if *last {
                            frame(true, 0, OpCode::Continuation, &[]);
                        }
                    }
                }
            }
            Event::Close(code, reason) => {
                let mut body = Vec::new();
                if *code != CloseCode::NO_STATUS {
                    body.extend_from_slice(&code.as_u16().to_be_bytes());
                    body.extend_from_slice(reason.as_bytes());
                }
                frame(true, 0, OpCode::Close, &body);
            }
            Event::Ping(payload) => frame(true, 0, OpCode::Ping, payload),
            Event::Pong(payload) => frame(true, 0, OpCode::Pong, payload),
        }
    }
    out
}
