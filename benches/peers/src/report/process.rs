//! Servers and load generators as processes, each on its own core.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::load::Measure;

/// The exit status of a server that does not support its options.
const UNSUPPORTED: i32 = 64;

/// The core on which servers run.
const SERVER_CORE: &str = "0";

/// The time in which an engine has to listen.
const START: Duration = Duration::from_secs(10);

/// A program that connects the topics of several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineKind {
    /// `redis-server`, without files.
    Redis,
    /// `nats-server`.
    Nats,
}

impl EngineKind {
    /// Returns the name of the program.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
        }
    }

    fn command(self, host: &str, port: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE, self.program()]);
        match self {
            Self::Redis => command.args(["--bind", host, "--port", port]).args([
                "--save",
                "",
                "--appendonly",
                "no",
            ]),
            Self::Nats => command.args(["-a", host, "-p", port]),
        };
        command
    }
}

/// A running engine. It is killed when this is dropped.
pub(super) struct Engine {
    child: Child,
    /// The option of a server that uses the engine.
    pub(super) option: [String; 2],
}

impl Engine {
    /// Starts an engine on the servers' core; waits until it listens. The inner error means that it
    /// is not installed.
    pub(super) fn start(kind: EngineKind) -> Result<Result<Self, String>> {
        let program = kind.program();
        if output(program, &["--version"]).is_none() {
            return Ok(Err(format!("{program} is not installed")));
        }
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address has a port")?;
        let child = kind
            .command(host, port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run taskset")?;
        let option = match kind {
            EngineKind::Redis => ["--redis".into(), format!("redis://{address}")],
            EngineKind::Nats => ["--nats".into(), format!("nats://{address}")],
        };
        let mut engine = Self { child, option };
        let end = Instant::now() + START;
        while TcpStream::connect(&address).is_err() {
            if let Some(status) = engine.child.try_wait()? {
                bail!("{program} ended with {status}");
            }
            anyhow::ensure!(Instant::now() < end, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Ok(engine))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The engine may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of starting a server.
pub(super) enum Started {
    /// The server listens.
    Running(Server),
    /// The server does not support its options, and printed why.
    Unsupported(String),
}

/// A running server. It is killed when this is dropped.
pub(super) struct Server {
    child: Child,
    /// Stays open while the server runs, so that further output of the server does not fail.
    _stdout: BufReader<ChildStdout>,
    /// The address on which the server listens.
    pub(super) address: String,
}

impl Server {
    /// Starts a server on its core, under a tool if `tool` is not empty; waits until it listens.
    pub(super) fn start(tool: &[String], command: &[PathBuf], args: &[String]) -> Result<Started> {
        let address = free_address()?;
        let mut child = Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .args(tool)
            .args(command)
            .args(["--listen", &address])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run taskset")?;
        let stdout = child.stdout.take().context("a server without stdout")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        if line.starts_with("listening") {
            return Ok(Started::Running(Self {
                child,
                _stdout: stdout,
                address,
            }));
        }
        let mut says = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut says)?;
        }
        let status = child.wait()?;
        let says = says.lines().last().unwrap_or_default().trim().to_owned();
        if status.code() == Some(UNSUPPORTED) {
            return Ok(Started::Unsupported(says));
        }
        bail!("the server ended with {status}: {says}")
    }

    /// Returns the process id of the server.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends a server that runs under a tool, so that the tool writes its counts.
    pub(super) fn finish(mut self) -> Result<()> {
        let pid = self.pid();
        // strace does not forward signals, so its child gets the signal; valgrind has no child.
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let target = children.split_whitespace().next().map(String::from);
        let target = target.unwrap_or_else(|| pid.to_string());
        Command::new("kill").args(["-TERM", &target]).status()?;
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("process {target} does not end")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the load generator on its core, against a server or against several nodes and their engine.
pub(super) fn load(
    binary: &Path,
    nodes: &[Server],
    engine: Option<&Engine>,
    args: &[String],
) -> Result<Measure> {
    let mut command = Command::new("taskset");
    command.args(["-c", load_core()]).arg(binary);
    for (number, node) in nodes.iter().enumerate() {
        let pid = if number == 0 {
            "--server-pid"
        } else {
            "--further-pid"
        };
        command.args(["--connect", &node.address]);
        command.args([pid, &node.pid().to_string()]);
    }
    if let Some(engine) = engine {
        command.args(["--further-pid", &engine.child.id().to_string()]);
    }
    let output = command
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("cannot run taskset")?;
    if !output.status.success() {
        bail!("{}", one_line(&String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).context("the load generator printed no figures")
}

/// Returns the core of the load generator. With a single core the servers share it, which is good
/// enough only for a smoke test.
fn load_core() -> &'static str {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => "1",
        _ => SERVER_CORE,
    }
}

/// Joins an error of several lines into one line.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines.join(" ")
}

/// Returns the first line that a program prints, if the program can be run.
pub(super) fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    output.status.success().then(|| line.to_owned())
}

/// Returns a local address with a port that was free a moment ago.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}
