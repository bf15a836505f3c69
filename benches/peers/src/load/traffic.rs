//! The messages of a run, built before it starts.

use std::cell::RefCell;

use anyhow::{Context, Result};
use flate2::{Compress, Compression, FlushCompress};

use super::frame::{self, client_frame, server_frame};
use super::options::{Kind, Mode, Options};
use super::payload::payload;
use super::plan::Plan;
use super::socketio;

/// The bytes that a connection sends at once, and the expected reply.
pub(super) struct Burst {
    /// The frames that are sent.
    pub(super) request: Vec<u8>,
    /// The expected frames, if they are not compressed.
    pub(super) reply: Vec<u8>,
    /// The numbers of the payloads.
    payloads: Vec<usize>,
}

/// All bursts. A connection sends them in turn, so consecutive bursts always differ: a late reply,
/// an early one and one for another connection are detected.
pub(super) struct Traffic {
    bursts: Vec<Burst>,
    payloads: Vec<Vec<u8>>,
    /// First byte of an uncompressed frame.
    pub(super) first: u8,
    /// The size of each frame in the reply.
    pub(super) reply_len: usize,
    /// The number of messages in a burst.
    pub(super) depth: usize,
    /// Whether messages are events of Socket.IO.
    pub(super) socketio: bool,
    /// The last compressed form of each payload that was decompressed and found to be right. Empty
    /// unless all receivers get the same messages, without context.
    verified: Vec<RefCell<Vec<u8>>>,
}

impl Traffic {
    pub(super) fn new(options: &Options) -> Result<Self> {
        // Each message to a topic is awaited on its own, by other receivers than the next one.
        let topics = options.mode == Mode::Topics;
        let depth = if topics { 1 } else { options.depth };
        let variants = match options.deflate {
            // Enough for almost every topic to have some.
            _ if topics => PUBLISHED.max(8 * options.topics as u64),
            // More data than any window holds. Otherwise a compressor that keeps its context could
            // refer to the whole message of the previous round.
            Some(_) => (8 * WINDOW / options.size.max(1024)).max(4) as u64,
            None if options.size > 256 << 10 => 4,
            None => 16,
        };
        let first = match options.kind {
            Kind::Binary => frame::BINARY,
            _ => frame::TEXT,
        };
        let mut payloads: Vec<_> = (0..variants)
            .map(|variant| match topics {
                true => Plan::new(options).payload(options, variant as usize),
                false => payload(options.kind, options.size, variant),
            })
            .collect();
        let verified = match options.deflate {
            Some(_) if topics => vec![RefCell::default(); payloads.len()],
            _ => Vec::new(),
        };
        let mut frames = Vec::with_capacity(payloads.len());
        let mut rng = fastrand::Rng::with_seed(6455);
        let requests = match options.socketio {
            true => socketio_events(&mut payloads, &Plan::new(options))?,
            false => payloads.clone(),
        };
        for payload in &requests {
            let mask = rng.u32(..).to_be_bytes();
            frames.push(match options.deflate {
                Some(_) => client_frame(first | frame::COMPRESSED, &compress(payload)?, mask),
                None => client_frame(first, payload, mask),
            });
        }
        let bursts = (0..frames.len())
            .map(|start| {
                let payloads_of: Vec<_> = (start..start + depth)
                    .map(|number| number % frames.len())
                    .collect();
                let request = join(payloads_of.iter().map(|&number| frames[number].clone()));
                let reply = match (options.raw, options.deflate) {
                    (true, _) => request.clone(),
                    (false, Some(_)) => Vec::new(),
                    (false, None) => join(
                        payloads_of
                            .iter()
                            .map(|&number| server_frame(first, &payloads[number])),
                    ),
                };
                Burst {
                    request,
                    reply,
                    payloads: payloads_of,
                }
            })
            .collect::<Vec<_>>();
        let reply_len = bursts[0].reply.len() / depth;
        Ok(Self {
            bursts,
            payloads,
            first,
            reply_len,
            depth,
            socketio: options.socketio,
            verified,
        })
    }

    /// Returns the burst with this number, modulo the number of bursts.
    pub(super) fn burst(&self, number: usize) -> &Burst {
        &self.bursts[number % self.bursts.len()]
    }

    /// Returns the payload of one message of a burst.
    pub(super) fn payload(&self, burst: usize, message: usize) -> &[u8] {
        &self.payloads[self.burst(burst).payloads[message]]
    }

    /// Returns the number of different bursts. Burst number `n` is the same as `n` modulo it.
    pub(super) fn variants(&self) -> usize {
        self.bursts.len()
    }

    /// Returns whether these compressed bytes of a message were decompressed before.
    pub(super) fn is_verified(&self, burst: usize, compressed: &[u8]) -> bool {
        let known = self.verified.get(burst % self.bursts.len());
        known.is_some_and(|known| known.borrow().as_slice() == compressed)
    }

    /// Remembers the compressed bytes of a message, which were decompressed and compared.
    pub(super) fn verified(&self, burst: usize, compressed: &[u8]) {
        if let Some(known) = self.verified.get(burst % self.bursts.len()) {
            known.replace(compressed.to_vec());
        }
    }
}

/// The number of different messages to topics.
const PUBLISHED: u64 = 1024;
/// The largest window of DEFLATE, in bytes (RFC 1951, 2).
const WINDOW: usize = 32 << 10;

/// Turns texts into the events that Socket.IO sends for them; returns the events that publish them.
fn socketio_events(texts: &mut [Vec<u8>], plan: &Plan) -> Result<Vec<Vec<u8>>> {
    let mut requests = Vec::with_capacity(texts.len());
    for (number, payload) in texts.iter_mut().enumerate() {
        let text = std::str::from_utf8(payload)?;
        requests.push(socketio::publish(&plan.topic_name(number), text).into_bytes());
        *payload = socketio::message(text).into_bytes();
    }
    Ok(requests)
}

fn join(frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    frames.flatten().collect()
}

/// Compresses a message without context, as described in RFC 7692, 7.2.1: "Remove 4 octets (that
/// are 0x00 0x00 0xff 0xff) from the tail end."
fn compress(payload: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    Compress::new(Compression::default(), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .context("a payload cannot be compressed")?;
    out.truncate(out.len() - 4);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(arguments: &str) -> Traffic {
        let line = format!("load --connect 127.0.0.1:1 {arguments}");
        let options = Options::parse(line.split(' ').map(String::from)).unwrap();
        Traffic::new(&options.unwrap()).unwrap()
    }

    #[test]
    fn bursts_that_follow_each_other_differ() {
        for arguments in ["--size 20", "--size 32 --depth 16", "--size 300000"] {
            let traffic = traffic(arguments);
            for number in 0..40 {
                let (one, two) = (traffic.burst(number), traffic.burst(number + 1));
                assert_ne!(one.reply, two.reply);
                assert_eq!(one.reply.len(), traffic.reply_len * traffic.depth);
            }
        }
    }

    #[test]
    fn compressed_messages_come_again_when_no_window_holds_them_any_more() {
        for arguments in [
            "--size 100 --deflate shared",
            "--size 3000 --deflate dedicated",
        ] {
            let traffic = traffic(arguments);
            let sizes = traffic
                .payloads
                .iter()
                .map(|payload| payload.len().max(1024));
            assert!(sizes.sum::<usize>() >= 7 * WINDOW);
            assert!(
                (1..traffic.payloads.len()).all(|at| traffic.payloads[at] != traffic.payloads[0])
            );
        }
    }

    #[test]
    fn masks_differ() {
        let traffic = traffic("--size 0");
        assert_ne!(traffic.burst(0).request, traffic.burst(1).request);
    }

    #[test]
    fn a_raw_server_sends_back_what_it_got() {
        let traffic = traffic("--size 20 --raw");
        assert_eq!(traffic.burst(5).request, traffic.burst(5).reply);
        assert_eq!(traffic.reply_len, 26);
    }
}
