//! Messages: the kind, the size and the content of each follow from its name.
//!
//! Neither side has to remember the messages it sent: a receiver can compute every byte of the
//! message that it expects.

use crate::topics::{HEAD_SIZE, Head};

/// The behaviour of a connection. It follows from the connection's number, so both sides know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Temper {
    /// Reads bytes when they arrive.
    Polite,
    /// Stops reading for seconds, or reads slowly, and has large messages.
    Slow,
}

impl Temper {
    pub(crate) fn of(connection: u64) -> Self {
        match mixed(connection) % 100 {
            0..4 => Self::Slow,
            _ => Self::Polite,
        }
    }
}

/// Identifies a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Name {
    /// A message from a client, which the server sends back.
    Echo { connection: u64, sequence: u64 },
    /// A message from the server to one client.
    Push { connection: u64, sequence: u64 },
    /// A message from the server to several clients; it contains its number.
    News { number: u64 },
    /// A message that is published to a topic; it contains its head.
    Published(Head),
}

/// The content of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Ascii,
    Utf8,
    Binary,
}

/// A message without its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    name: Name,
    kind: Kind,
    pub(crate) size: usize,
    seed: u64,
}

impl Message {
    pub(crate) fn of(name: Name) -> Self {
        let seed = match name {
            Name::Echo {
                connection,
                sequence,
            } => mixed(connection ^ mixed(sequence)),
            Name::Push {
                connection,
                sequence,
            } => mixed(!connection ^ mixed(sequence)),
            Name::News { number } => mixed(number ^ NEWS_SEED),
            Name::Published(head) => {
                let place = u64::from(head.topic) << 8 | u64::from(head.key);
                mixed(head.number ^ mixed(head.epoch ^ mixed(place)))
            }
        };
        let kind = match seed >> 60 {
            0..6 => Kind::Ascii,
            6..10 => Kind::Utf8,
            _ => Kind::Binary,
        };
        let size = match name {
            Name::Echo { connection, .. } if Temper::of(connection) == Temper::Slow => bulk(seed),
            Name::Echo { .. } => mixture(seed),
            // Not empty, because the first byte distinguishes it from an echo.
            Name::Push { connection, .. } if Temper::of(connection) == Temper::Slow => bulk(seed),
            Name::Push { .. } => mixture(seed).max(1),
            Name::News { .. } => NEWS_HEAD + (seed % 500) as usize,
            Name::Published(_) => HEAD_SIZE + (seed % 300) as usize,
        };
        Self {
            name,
            kind,
            size,
            seed,
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        self.kind != Kind::Binary
    }

    /// Replaces the contents of `out` with the content of the message.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        if self.size == 0 {
            return;
        }
        match self.name {
            Name::Echo { .. } => out.push(ECHO),
            Name::Push { .. } => out.push(PUSH),
            Name::News { number } => out.extend_from_slice(format!("n{number:016x}").as_bytes()),
            Name::Published(head) => out.extend_from_slice(head.to_string().as_bytes()),
        }
        let mut rng = fastrand::Rng::with_seed(self.seed);
        match self.kind {
            Kind::Ascii => write_words(out, &mut rng, self.size, &ASCII),
            Kind::Utf8 => write_words(out, &mut rng, self.size, &UTF8),
            Kind::Binary => {
                let head = out.len();
                out.resize(self.size, 0);
                rng.fill(&mut out[head..]);
            }
        }
    }
}

/// The kind of a message from the server, which its first bytes identify.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mark {
    Echo,
    Push,
    News(u64),
    Published(Head),
}

impl Mark {
    /// Returns `None` if no message starts with these bytes.
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        match payload.first() {
            None | Some(&ECHO) => Some(Self::Echo),
            Some(&PUSH) => Some(Self::Push),
            Some(b'n') => {
                let digits = std::str::from_utf8(payload.get(1..NEWS_HEAD)?).ok()?;
                u64::from_str_radix(digits, 16).ok().map(Self::News)
            }
            Some(b't') => Head::of(payload).map(Self::Published),
            Some(_) => None,
        }
    }
}

/// Returns a size: most are small, one in 500 is larger than 64 KiB.
fn mixture(seed: u64) -> usize {
    let (class, rest) = (seed % 1000, (seed >> 10) as usize);
    match class {
        0..20 => 0,
        20..450 => rest % 126,
        450..750 => 126 + rest % 900,
        750..920 => 1024 + rest % 7168,
        920..980 => 8192 + rest % 24_576,
        980..998 => 32_768 + rest % 32_769,
        _ => 65_537 + rest % (MESSAGE_MAX - 65_537),
    }
}

fn bulk(seed: u64) -> usize {
    4096 + (seed >> 10) as usize % 28_672
}

/// Appends words up to `size` bytes. Cuts the last word, or pads it if it cannot be cut there.
fn write_words(out: &mut Vec<u8>, rng: &mut fastrand::Rng, size: usize, words: &[&str; 32]) {
    while out.len() < size {
        let random = rng.u64(..);
        for shift in 0..12 {
            let word = words[(random >> (5 * shift)) as usize & 31];
            let room = size - out.len();
            match word.get(..word.len().min(room)) {
                Some(word) => out.extend_from_slice(word.as_bytes()),
                None => out.resize(size, b'.'),
            }
        }
    }
}

/// The finalizer of splitmix64: it maps consecutive numbers to unrelated ones.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The size of the largest message, and the limit of the servers.
pub(crate) const MESSAGE_MAX: usize = 256 << 10;

const ECHO: u8 = b'e';
const PUSH: u8 = b'p';
const NEWS_HEAD: usize = 17;
const NEWS_SEED: u64 = 0x6e65_7773;

#[rustfmt::skip]
const ASCII: [&str; 32] = [
    "harbour ", "of ", "the ", "station ", "\"name\":", "market, ", "a ", "bridge ", "north ", "12.50 ", "to ",
    "garden ", "is ", "open ", "{\"id\":", "and ", "street ", "seven ", "in ", "road; ", "]}, ", "window ", "true, ",
    "for ", "winter ", "at ", "level ", "on ", "paper ", "with ", "\n", "river ",
];
#[rustfmt::skip]
const UTF8: [&str; 32] = [
    "гавань ", "и ", "港口", "станция ", "Straße ", "市場", "a ", "мост ", "север ", "12,50 € ", "to ", "花園",
    "est ", "😀", "ouvert ", "και ", "δρόμος ", "sieben ", "в ", "дорога; ", "🚲🚲", "окно ", "true, ", "für ",
    "зима ", "で", "уровень ", "на ", "紙", "avec ", "\n", "река ",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn content(name: Name) -> Vec<u8> {
        let mut out = Vec::new();
        Message::of(name).write(&mut out);
        out
    }

    #[test]
    fn a_name_always_means_the_same_and_another_something_else() {
        for sequence in 0..2000 {
            let name = |connection| Name::Echo {
                connection,
                sequence,
            };
            let message = Message::of(name(7));
            let bytes = content(name(7));
            assert_eq!(bytes.len(), message.size);
            assert_eq!(bytes, content(name(7)));
            assert!(!message.is_text() || std::str::from_utf8(&bytes).is_ok());
            if bytes.len() > 16 {
                assert_ne!(bytes, content(name(8)));
            }
        }
    }

    #[test]
    fn the_first_bytes_tell_what_it_is() {
        for sequence in 0..500 {
            let (connection, number) = (3, sequence);
            let echo = content(Name::Echo {
                connection,
                sequence,
            });
            assert_eq!(Mark::of(&echo), Some(Mark::Echo));
            let push = content(Name::Push {
                connection,
                sequence,
            });
            assert_eq!(Mark::of(&push), Some(Mark::Push));
            let news = content(Name::News { number });
            assert_eq!(Mark::of(&news), Some(Mark::News(number)));
        }
        assert_eq!(Mark::of(b"x"), None);
        assert_eq!(Mark::of(b"n12"), None);
    }

    #[test]
    fn all_sizes_occur() {
        let sizes = (0..20_000).map(|sequence| {
            let connection = 1;
            Message::of(Name::Echo {
                connection,
                sequence,
            })
            .size
        });
        let sizes: Vec<_> = sizes.collect();
        assert!(sizes.contains(&0));
        assert!(sizes.iter().any(|&size| size > 65_536));
        assert!(sizes.iter().all(|&size| size <= MESSAGE_MAX));
        let small = sizes.iter().filter(|&&size| size < 1024).count();
        assert!(small > 13_000 && small < 17_000);
    }
}
