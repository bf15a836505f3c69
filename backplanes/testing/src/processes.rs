//! Child processes that end with their owner, and ports.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A child process, which is killed when this is dropped.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Starts a program, whose output goes nowhere.
    ///
    /// # Errors
    ///
    /// Returns an error if the program cannot be started.
    pub fn quiet(command: &mut Command) -> io::Result<Self> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).spawn().map(Self)
    }

    /// Stops the process with SIGSTOP, or lets it continue.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has ended.
    pub fn freeze(&self, is_frozen: bool) -> io::Result<()> {
        let signal = match is_frozen {
            true => Signal::SIGSTOP,
            false => Signal::SIGCONT,
        };
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, signal).map_err(io::Error::from)
    }

    /// Returns how many bytes of memory the process uses.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.map_or(0, |kib: usize| kib << 10)
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates a directory.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be created.
    pub fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("wsloop-backplane-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns a port that is free at the moment.
///
/// # Errors
///
/// Returns an error if there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Waits until a port accepts connections.
///
/// # Errors
///
/// Returns an error if it does not within 20 seconds.
pub fn wait_for_port(port: u16) -> io::Result<()> {
    let due = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > due => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Returns whether a program can be found. If it cannot, and `WSLOOP_REQUIRE_ENGINES` is 1, it
/// panics; otherwise it says that the test is skipped.
///
/// # Panics
///
/// See above.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|path| path.join(name).is_file());
    let is_required = std::env::var("WSLOOP_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
    assert!(is_there || !is_required, "{name} is not installed");
    if !is_there {
        eprintln!("skipped: {name} is not installed");
    }
    is_there
}
