//! permessage-deflate against miniz_oxide. The inflater must decompress any bytes as miniz_oxide
//! does, up to its limits and not beyond. miniz_oxide must restore what the deflater has
//! compressed, with a window of the negotiated size.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use wsloop::ProtocolError;
use wsloop::protocol::deflate::{Context, Deflater, InflateLimits, Inflater};

use crate::input::{Dice, Input};

/// Settings (1 byte), then compressed messages or plain ones.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let settings = input.byte();
    if settings & 0x80 == 0 {
        inflate(settings, input);
    } else {
        deflate(settings, input);
    }
}

/// Each message: its size (1 byte) and its bytes. Size 255 takes all remaining bytes.
fn inflate(settings: u8, mut input: Input<'_>) {
    let takeover = settings & 1 != 0;
    let limit = [usize::MAX, 0, 1, 300, 4096, 66_000][usize::from(settings >> 1 & 7) % 6];
    let ratio = [usize::MAX, 1, 3, 100][usize::from(settings >> 4 & 3)];
    let (mut ours, mut theirs) = (Inflater::new(), Reference::default());
    let mut dice = Dice::new(settings.into());
    let (mut cut, mut room) = (Inflater::new(), Vec::new());
    let mut largest = 0;
    while !input.is_empty() {
        let size = match input.byte() {
            255 => usize::MAX,
            size => usize::from(size),
        };
        let payload = input.bytes(size);
        if !takeover {
            theirs = Reference::default();
        }
        let by_ratio = payload.len().saturating_mul(ratio).max(64 << 10);
        let most = limit.min(by_ratio);
        let (expected, good) = theirs.message(payload);
        largest = largest.max(expected.len().min(most));
        let (pieces, ending) = in_pieces(&mut cut, payload, takeover, &mut dice);
        // Output before an error may be incomplete.
        assert!(expected.starts_with(&pieces));
        if good {
            assert_eq!((pieces.len(), ending), (expected.len(), Ok(())));
        }
        match ours.message(
            payload,
            Context::keep_if(takeover),
            InflateLimits::new(limit, ratio),
            &mut room,
        ) {
            Err(ProtocolError::MessageTooBig { size, limit: named }) => {
                assert_eq!((size, named), (limit as u64 + 1, limit));
                assert!(expected.len() > limit && limit <= by_ratio);
                // A message that is too large for one piece can be continued in further pieces.
                let taken = ours.taken() as usize;
                let mut all = room[..limit + 1].to_vec();
                let rest = &mut &payload[taken..];
                let ending = drain(&mut ours, rest, true, &mut dice, &mut all);
                assert!(expected.starts_with(&all));
                match ending {
                    Ok(()) => assert_eq!(all, expected),
                    Err(ProtocolError::RatioTooHigh { .. }) => {
                        assert!(expected.len() > by_ratio);
                        return;
                    }
                    Err(_) => assert!(!good),
                }
            }
            Err(ProtocolError::RatioTooHigh { limit: named }) => {
                assert_eq!(named, ratio);
                assert!(expected.len() > by_ratio && by_ratio < limit);
                return;
            }
            // zlib reads beyond the first byte above the limit before it asks for more output
            // space.
            Err(ProtocolError::BadDeflate) => {
                assert!(!good && expected.len() <= most.saturating_add(1));
            }
            Err(error) => panic!("{error}"),
            Ok(message) => {
                assert!(expected.len() <= most);
                assert_eq!(message, expected);
                if !good {
                    // A code for lengths of codes that has no codes at all: miniz_oxide refuses it
                    // at once, zlib when it has taken a bit for each length.
                    let more = ours.message(
                        &[0; 64],
                        Context::Keep,
                        InflateLimits::new(usize::MAX, usize::MAX),
                        &mut room,
                    );
                    assert_eq!(more, Err(ProtocolError::BadDeflate));
                }
            }
        }
        // One byte above the limit shows that a message is too large; the first buffer has 4 KiB.
        assert!(
            room.capacity() <= (2 * largest + 2).max(4 << 10),
            "{} bytes",
            room.capacity()
        );
        if !good {
            return;
        }
    }
}

/// Decompresses a message that arrives in pieces, into buffers of random sizes.
fn in_pieces(
    inflater: &mut Inflater,
    mut payload: &[u8],
    takeover: bool,
    dice: &mut Dice,
) -> (Vec<u8>, Result<(), ProtocolError>) {
    let mut all = Vec::new();
    inflater.begin(Context::keep_if(takeover), usize::MAX);
    loop {
        let size = dice.size(payload.len()).min(payload.len());
        let last = size == payload.len() && dice.below(2) == 0;
        let (front, rest) = payload.split_at(size);
        payload = rest;
        let ending = drain(inflater, &mut &*front, last, dice, &mut all);
        if last || ending.is_err() {
            return (all, ending);
        }
    }
}

/// Appends everything that can be decompressed from the input so far.
fn drain(
    inflater: &mut Inflater,
    input: &mut &[u8],
    last: bool,
    dice: &mut Dice,
    all: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    let mut room = [0; 0x1000];
    loop {
        let size = dice.size(room.len() - 1);
        let (made, ended) = inflater.piece(input, last, &mut room[..size])?;
        all.extend_from_slice(&room[..made]);
        assert!(!ended || last);
        if ended || (made < size && !last) {
            assert!(input.is_empty());
            return Ok(());
        }
        assert_eq!(made, size, "room is left, and the message not over");
    }
}

/// Each message: what to do with it (1 byte), and its content.
fn deflate(settings: u8, mut input: Input<'_>) {
    let level = u32::from(settings & 15).min(10);
    let bits = 9 + input.byte() % 7;
    let mut deflater = Deflater::new(level, bits);
    // Three peers: one with the negotiated window, one with the largest window, and wsloop's own.
    let (mut window, mut all) = (Window::new(bits), Reference::default());
    let (mut inflater, mut room) = (Inflater::new(), Vec::new());
    // zlib clears memory at the end of each window, so small windows are filled less often.
    let mut left = (8 << bits).min(40 << 10);
    while !input.is_empty() && left > 0 {
        let does = input.byte();
        let mut payload = plaintext(does, &mut input);
        payload.truncate(left);
        left -= payload.len();
        let takeover = does & 1 != 0;
        let lost = does & 2 != 0;
        let mut out = b"before".to_vec();
        let parts: Vec<&[u8]> = payload.chunks(payload.len() / 3 + 1).collect();
        match does >> 6 {
            3 => {
                if !takeover {
                    deflater.forget();
                }
                // Each part can be decompressed as soon as its frame is complete.
                let mut start = out.len();
                let mut end = 0;
                for (at, part) in parts.iter().enumerate() {
                    deflater.part(part, &mut out);
                    if lost && at == 1 {
                        out.truncate(start);
                        deflater.forget();
                        deflater.part(part, &mut out);
                    }
                    end += part.len();
                    let frame = &out[start..];
                    start = out.len();
                    assert!(all.expand(frame));
                    assert!(all.history.ends_with(&payload[..end]));
                    assert_eq!(window.expand(frame), *part);
                }
                deflater.end(&[], &mut out);
                assert_eq!(all.message(&out[start..]), (&[][..], true));
                assert_eq!(window.message(&out[start..]), b"");
            }
            2 => assert!(deflater.gathered(&parts, Context::keep_if(takeover), &mut out)),
            _ => assert!(deflater.message(&payload, Context::keep_if(takeover), &mut out)),
        }
        let message = out.strip_prefix(b"before").expect("it is appended to");
        if !takeover {
            assert_eq!(Reference::default().message(message), (&payload[..], true));
        }
        if does >> 6 != 3 {
            if lost {
                // The message was not sent.
                deflater.forget();
                continue;
            }
            // Compression may add a few bytes per stored block. At level 1 zlib-rs uses only fixed
            // codes, which take up to nine bits per byte.
            let share = if level == 1 { 8 } else { 100 };
            assert!(message.len() <= payload.len() + payload.len() / share + 64);
            assert_eq!(all.message(message), (&payload[..], true));
            assert_eq!(window.message(message), payload);
        }
        let found = inflater.message(
            message,
            Context::Keep,
            InflateLimits::new(payload.len(), usize::MAX),
            &mut room,
        );
        assert_eq!(found, Ok(&payload[..]));
    }
}

/// Returns a text from the bytes of the input or from choices: runs, repeated words, noise.
fn plaintext(does: u8, input: &mut Input<'_>) -> Vec<u8> {
    match does >> 3 & 7 {
        0 => {
            let size = usize::from(input.byte());
            input.bytes(size).to_vec()
        }
        1 => {
            let size = usize::from(input.short());
            input.bytes(size).to_vec()
        }
        2 => vec![input.byte(); usize::from(input.short() >> 2)],
        3 => {
            let (size, period) = (
                usize::from(input.short() >> 4),
                1 + usize::from(input.short()),
            );
            let byte = |at: usize| (((at % period) * (at % period)) >> 4) as u8;
            (0..size).map(byte).collect()
        }
        4 => {
            let (size, mut state) = (
                usize::from(input.short()),
                u32::from(input.short()) << 1 | 1,
            );
            let mask = input.byte();
            let noise = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8 & mask
            });
            noise.take(size).collect()
        }
        5 => {
            let size = usize::from(input.byte());
            let word = input.bytes(size);
            word.repeat(1 + usize::from(input.byte()))
        }
        6 => Vec::new(),
        _ => {
            // About 32 KiB, the size limit of wsloop's own compressor (`single.rs`).
            let size = (32 << 10) - 128 + usize::from(input.byte());
            let word = input.bytes(16);
            let of = |at: usize| word.get(at * 7 % 17).copied().unwrap_or((at >> 3) as u8);
            (0..size).map(of).collect()
        }
    }
}

/// The bytes that RFC 7692 removes from the end of each message (7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// miniz_oxide with all decompressed data as its history.
#[derive(Default)]
struct Reference {
    stream: Box<DecompressorOxide>,
    history: Vec<u8>,
    /// The start of the stream, before which no reference may point.
    begin: usize,
}

impl Reference {
    /// Returns the next message, as far as it can be decompressed, and whether it is valid.
    fn message(&mut self, payload: &[u8]) -> (&[u8], bool) {
        let start = self.history.len();
        let good = self.expand(payload) && self.expand(&TAIL);
        (&self.history[start..], good)
    }

    fn expand(&mut self, mut input: &[u8]) -> bool {
        let mut filled = self.history.len();
        loop {
            self.history.resize(filled + ROOM.max(filled), 0);
            let stream = &mut self.history[self.begin..];
            let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
            let at = filled - self.begin;
            let (status, taken, made) = decompress(&mut self.stream, input, stream, at, flags);
            input = &input[taken..];
            filled += made;
            self.history.truncate(filled);
            match status {
                TINFLStatus::HasMoreOutput if filled < MOST => {}
                TINFLStatus::HasMoreOutput => return false,
                TINFLStatus::NeedsMoreInput => return true,
                // RFC 7692, 7.2.3.4: another DEFLATE stream may follow.
                TINFLStatus::Done => {
                    self.stream.init();
                    self.begin = filled;
                    if input.is_empty() {
                        return true;
                    }
                }
                _ => return false,
            }
        }
    }
}

/// The least output space per step.
const ROOM: usize = 1 << 10;

/// Nothing larger is decompressed. This exceeds all limits except the unlimited one.
const MOST: usize = 8 << 20;

/// miniz_oxide with a window of a given size. References beyond the window find wrong bytes.
struct Window {
    stream: Box<DecompressorOxide>,
    ring: Vec<u8>,
    at: usize,
}

impl Window {
    fn new(bits: u8) -> Self {
        Self {
            stream: Box::default(),
            ring: vec![0; 1 << bits],
            at: 0,
        }
    }

    fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        self.expand(&[payload, &TAIL].concat())
    }

    fn expand(&mut self, mut input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let flags = TINFL_FLAG_HAS_MORE_INPUT;
            let (status, taken, made) =
                decompress(&mut self.stream, input, &mut self.ring, self.at, flags);
            input = &input[taken..];
            out.extend_from_slice(&self.ring[self.at..self.at + made]);
            self.at = (self.at + made) % self.ring.len();
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput => return out,
                status => panic!("{status:?}"),
            }
        }
    }
}
