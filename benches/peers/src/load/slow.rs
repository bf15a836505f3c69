//! Subscribers that read nothing until the end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::frame::{self, client_frame};
use super::options::Options;
use super::plan::{self, Plan};
use super::stream::{Connector, Stream};
use super::traffic::Traffic;

/// The longest time that a subscription, or the rest of the messages, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The slow subscribers of a run. They are subscribed like the first connections.
pub(super) struct Slow {
    readers: Vec<Reader>,
}

struct Reader {
    stream: Stream,
    /// Bytes that were received and do not form a whole frame yet.
    received: Vec<u8>,
}

impl Slow {
    /// Opens and subscribes the connections.
    pub(super) fn open(mut connector: Connector, options: &Options, plan: &Plan) -> Result<Self> {
        connector.narrow();
        let mut readers = Vec::new();
        for (number, stream) in connector.open(options.slow)?.into_iter().enumerate() {
            let mut reader = Reader {
                stream,
                received: Vec::new(),
            };
            let frames = plan::subscribe(plan.topics_of(number), false);
            reader.until_pong(&frames, |first, _| bail!("{first:#04x} before a pong"))?;
            readers.push(reader);
        }
        Ok(Self { readers })
    }

    /// Reads all that is queued, up to the pong of a ping. Then each subscriber must have the
    /// latest message of each key as the last one. Earlier ones may be missing, but nothing may
    /// come that was not published.
    pub(super) fn catch_up(
        mut self,
        traffic: &Traffic,
        plan: &Plan,
        latest: &[Option<usize>],
    ) -> Result<()> {
        let messages = (0..traffic.variants()).map(|number| (traffic.payload(number, 0), number));
        let messages: HashMap<_, _> = messages.collect();
        for reader in &mut self.readers {
            let ping = client_frame(frame::PING, b"", [1, 2, 3, 4]);
            let mut last = vec![None; plan.keys()];
            reader.until_pong(&ping, |first, payload| {
                match messages.get(payload) {
                    Some(&message) if first == traffic.first => {
                        last[plan.key(message)] = Some(message);
                    }
                    _ => bail!("a slow subscriber got a frame {first:#04x} that nobody published"),
                }
                Ok(())
            })?;
            ensure!(last == latest, "a slow subscriber misses latest messages");
        }
        Ok(())
    }
}

impl Reader {
    /// Writes frames of which the last is a ping, and reads until its pong. Calls `message` with
    /// the first byte and the payload of each frame before it.
    fn until_pong(
        &mut self,
        mut frames: &[u8],
        mut message: impl FnMut(u8, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            ensure!(Instant::now() < end, "no pong on a slow connection");
            if !frames.is_empty() {
                let written = self.stream.write(frames)?.unwrap_or(0);
                frames = &frames[written..];
            }
            self.read()?;
            let mut rest = self.received.as_slice();
            while let Some(header) = frame::parse(rest).map_err(anyhow::Error::msg)?
                && let Some(payload) = rest.get(header.size..header.size + header.length)
            {
                if header.first == frame::PONG {
                    self.received.clear();
                    return Ok(());
                }
                message(header.first, payload)?;
                rest = &rest[header.size + header.length..];
            }
            let done = self.received.len() - rest.len();
            self.received.drain(..done);
        }
    }

    /// Reads the available bytes.
    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        while let Some(read) = self.stream.read(&mut buffer)? {
            ensure!(read > 0, "the server closed a slow connection");
            self.received.extend_from_slice(&buffer[..read]);
        }
        Ok(())
    }
}
