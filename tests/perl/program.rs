//! Starts the Perl programs of this directory, reads their output, and ends them.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A running Perl program. It is killed when this is dropped.
pub(crate) struct Perl {
    child: Child,
    input: Option<ChildStdin>,
    output: mpsc::Receiver<Vec<u8>>,
    read: Vec<u8>,
}

impl Perl {
    /// Starts a program of `tests/perl`; returns `None` if Perl or its library is missing.
    pub(crate) fn start(program: &str, args: &[&str]) -> Option<Self> {
        if !is_there() {
            return None;
        }
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/perl/");
        let mut child = Command::new("perl")
            .arg(format!("{directory}{program}"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 65_536];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let read = Vec::new();
        Some(Self {
            child,
            input,
            output,
            read,
        })
    }

    /// Reads the output up to and including the first `end`.
    #[track_caller]
    pub(crate) fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            let found = self.read.windows(end.len()).position(|seen| seen == end);
            if let Some(at) = found {
                let rest = self.read.split_off(at + end.len());
                return std::mem::replace(&mut self.read, rest);
            }
            let more = self.output.recv_timeout(TIME_LIMIT);
            self.read.extend(more.expect("the program goes on"));
        }
    }

    /// Writes `input` and closes it; returns the remaining output of the program.
    #[track_caller]
    pub(crate) fn finish(mut self, input: &[u8]) -> Vec<u8> {
        let mut pipe = self.input.take().unwrap();
        // If the program has ended, its exit status and output show why.
        let _ = pipe.write_all(input);
        drop(pipe);
        let deadline = Instant::now() + TIME_LIMIT;
        let mut output = std::mem::take(&mut self.read);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(more) => output.extend(more),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!(
                    "the program takes too long, after {}",
                    String::from_utf8_lossy(&output)
                ),
            }
        }
        // The output has ended, so the program is about to exit.
        let status = self.child.wait().unwrap();
        assert!(
            status.success(),
            "{status}, after {}",
            String::from_utf8_lossy(&output)
        );
        output
    }

    /// Returns the lines that the program prints until it ends.
    #[track_caller]
    pub(crate) fn lines(self) -> Vec<String> {
        let output = String::from_utf8(self.finish(b"")).unwrap();
        output.lines().map(str::to_owned).collect()
    }
}

impl Drop for Perl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time limit of a program. The programs also end by themselves after some time.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Returns whether Perl and its library are installed; reports once if they are not.
pub(crate) fn is_there() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = Command::new("perl")
            .args([
                "-MProtocol::WebSocket::Frame",
                "-MProtocol::WebSocket::Handshake::Client",
                "-e1",
            ])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !found {
            let required = std::env::var_os("WSLOOP_REQUIRE_PERL").is_some_and(|set| set == "1");
            assert!(!required, "Perl with Protocol::WebSocket is required");
            // `eprintln!` is not used, because its output is shown only for failed tests.
            let skipped = b"skipped: there is no Perl with Protocol::WebSocket\n";
            io::stderr().write_all(skipped).unwrap();
        }
        found
    })
}
