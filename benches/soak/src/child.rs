//! The process of the servers, and its output.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::fleet::Addresses;
use crate::options::Options;
use crate::record::{ServerRecord, next};
use crate::topics::{Line, Lines};

/// A line that the servers print.
#[derive(Debug)]
pub(crate) enum Word {
    Gone(ServerRecord),
    /// The connections of one server, and the live heap of the process, in bytes and blocks.
    Status {
        server: usize,
        alive: i64,
        heap: u64,
        blocks: u64,
    },
    Fault(String),
    Stats(ServerStats),
    /// The counts of all topics of one server when it stopped.
    Topics(Box<Lines>),
}

/// The counters of a server when it stopped.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerStats {
    pub(crate) accepted: u64,
    pub(crate) requests: u64,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) refused: u64,
    pub(crate) dropped_pongs: u64,
    pub(crate) drained: u64,
    pub(crate) cut: u64,
    pub(crate) accept_failures: u64,
    /// Published messages that are not among the news in the records of the connections.
    pub(crate) published_out: u64,
    /// The counts of published messages: receivers, queued, conflated, dropped, refused, evicted.
    pub(crate) published: [u64; 6],
}

impl ServerStats {
    /// Adds the counters of another server.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.requests += other.requests;
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.refused += other.refused;
        self.dropped_pongs += other.dropped_pongs;
        self.drained += other.drained;
        self.cut += other.cut;
        self.accept_failures += other.accept_failures;
        self.published_out += other.published_out;
        for (count, other) in self.published.iter_mut().zip(other.published) {
            *count += other;
        }
    }
}

/// The running servers. They are killed when this is dropped.
pub(crate) struct Servers {
    child: Child,
    orders: ChildStdin,
    pub(crate) words: Receiver<Word>,
    pub(crate) addresses: Addresses,
    /// The folder of the certificate's files, removed when this is dropped.
    folder: PathBuf,
    pub(crate) certificate: PathBuf,
}

impl Servers {
    /// Starts the servers, and waits until they listen.
    ///
    /// # Errors
    ///
    /// Fails if the servers cannot be started.
    pub(crate) fn start(options: &Options, life: Duration) -> Result<Self> {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        let folder = std::env::temp_dir().join(format!("wsloop-soak-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;

        // The handshake timeout. The run waits for clients that never complete their handshake, and
        // a busy machine needs more time for the others.
        let handshake = match options.minutes {
            minutes if minutes < 1.0 => "3",
            _ => "10",
        };
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg("--certificate")
            .arg(&certificate)
            .arg("--key")
            .arg(&key)
            .args(["--life", &life.as_secs().to_string()])
            .args(["--handshake", handshake])
            .args(["--connections", &options.connections.to_string()])
            .args(["--churn", &options.churn.to_string()])
            .args(["--seed", &options.seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the servers cannot be started")?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without pipes");
        };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let listening = line
            .strip_prefix("listening")
            .context("no server listens")?;
        let mut addrs = listening.split_whitespace();
        let mut next = || next(&mut addrs);
        let addresses = Addresses {
            shared: [next()?, next()?],
            dedicated: [next()?, next()?],
        };
        let (sender, words) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let fault = |error| Word::Fault(format!("a line {line:?}: {error:#}"));
                let word = parse(&line).unwrap_or_else(fault);
                if sender.send(word).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            orders,
            words,
            addresses,
            folder,
            certificate,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the servers an order.
    ///
    /// # Errors
    ///
    /// Fails if the servers have ended.
    pub(crate) fn order(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").context("the servers are gone")
    }

    /// Returns the exit status of the servers, if they have ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the servers end, at most for `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the servers do not end")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The servers may have ended already, and the folder may stay among the temporary files.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn parse(line: &str) -> Result<Word> {
    let (kind, rest) = line.split_once(' ').context("one word")?;
    let mut words = rest.split_whitespace();
    let mut number = || next::<u64>(&mut words);
    Ok(match kind {
        "gone" => Word::Gone(rest.parse()?),
        "fault" => Word::Fault(rest.to_owned()),
        "status" => Word::Status {
            server: number()? as usize,
            alive: i64::try_from(number()?)?,
            heap: number()?,
            blocks: number()?,
        },
        "stats" => Word::Stats(ServerStats {
            accepted: number()?,
            requests: number()?,
            messages_in: number()?,
            messages_out: number()?,
            bytes_in: number()?,
            bytes_out: number()?,
            refused: number()?,
            dropped_pongs: number()?,
            drained: number()?,
            cut: number()?,
            accept_failures: number()?,
            published_out: number()?,
            published: [
                number()?,
                number()?,
                number()?,
                number()?,
                number()?,
                number()?,
            ],
        }),
        "topics" => {
            let mut lines = Lines::default();
            for line in &mut lines {
                let mut numbers = [0; 8];
                for place in &mut numbers {
                    *place = number()?;
                }
                *line = Line::from_numbers(numbers);
            }
            Word::Topics(Box::new(lines))
        }
        _ => bail!("an unknown word"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_or_told() {
        assert!(matches!(parse("fault it is bad"), Ok(Word::Fault(text)) if text == "it is bad"));
        let status = parse("status 1 20 300 4");
        assert!(matches!(
            status,
            Ok(Word::Status {
                server: 1,
                alive: 20,
                heap: 300,
                blocks: 4
            })
        ));
        let stats = parse("stats 1 2 3 4 5 6 7 8 9 10 11 12 1 2 3 4 5 6");
        assert!(matches!(stats, Ok(Word::Stats(stats)) if stats.accept_failures == 11));
        for line in [
            "",
            "stats 1",
            "status 1 -2 3 4",
            "gone",
            "gone 1",
            "hello you",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
