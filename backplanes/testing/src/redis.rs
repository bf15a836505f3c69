//! Redis servers for the tests.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Fault};
use crate::processes::{Process, Scratch, free_port, has_program, wait_for_port};

/// A Redis server, or a primary with a replica and sentinels.
#[derive(Debug)]
pub struct Redis {
    scratch: Scratch,
    port: u16,
    server: Option<Process>,
    /// More arguments of the server.
    arguments: Vec<String>,
    /// The replica and the sentinels.
    others: Vec<Process>,
    sentinels: Vec<u16>,
}

impl Redis {
    /// Starts a server with these arguments; `None` if it is not installed.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn start(arguments: &[&str]) -> io::Result<Option<Self>> {
        if !has_program("redis-server") {
            return Ok(None);
        }
        let mut redis = Self {
            scratch: Scratch::new()?,
            port: free_port()?,
            server: None,
            arguments: arguments.iter().map(|&one| one.into()).collect(),
            others: Vec::new(),
            sentinels: Vec::new(),
        };
        Engine::start(&mut redis)?;
        Ok(Some(redis))
    }

    /// Starts a primary, a replica, and three sentinels, which call the primary `mymaster`.
    ///
    /// # Errors
    ///
    /// Returns an error if one cannot be started.
    pub fn with_sentinels() -> io::Result<Option<Self>> {
        if !has_program("redis-sentinel") {
            return Ok(None);
        }
        let Some(mut redis) = Self::start(&[])? else {
            return Ok(None);
        };
        let replica = free_port()?;
        let primary = format!("127.0.0.1 {}", redis.port);
        let mut command = redis.command(replica);
        command.args(["--replicaof", &primary, "--repl-diskless-sync-delay", "0"]);
        redis.others.push(Process::quiet(&mut command)?);
        wait_for_port(replica)?;
        let due = Instant::now() + Duration::from_secs(20);
        while !ask(replica, &["INFO", "replication"])?.contains("master_link_status:up") {
            if Instant::now() > due {
                return Err(io::Error::other("the replica does not follow"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        for number in 0..3 {
            let port = free_port()?;
            let file = redis.scratch.path().join(format!("sentinel-{number}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster {primary} 2\n\
                 sentinel down-after-milliseconds mymaster 1000\n\
                 sentinel failover-timeout mymaster 5000\n",
                redis.scratch.path().display()
            );
            std::fs::write(&file, text)?;
            let mut command = Command::new("redis-sentinel");
            redis.others.push(Process::quiet(command.arg(file))?);
            redis.sentinels.push(port);
        }
        for port in redis.sentinels.clone() {
            wait_for_port(port)?;
        }
        // They must know each other and the replica before the primary fails.
        let due = Instant::now() + Duration::from_secs(20);
        let knows = |port: u16| -> io::Result<bool> {
            let text = ask(port, &["INFO", "sentinel"])?;
            Ok(text.contains("slaves=1,sentinels=3"))
        };
        for port in redis.sentinels.clone() {
            while !knows(port)? {
                if Instant::now() > due {
                    return Err(io::Error::other("the sentinels do not find each other"));
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(Some(redis))
    }

    fn command(&self, port: u16) -> Command {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.scratch.path())
            .args(&self.arguments);
        command
    }

    /// Returns the directory of the server.
    pub fn directory(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Sends a command to the server, and returns the answer as it comes, for instance `:1`.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not answer.
    pub fn ask(&self, command: &[&str]) -> io::Result<String> {
        ask(self.port, command)
    }

    /// Returns the address of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Sends a command to a Redis server, and returns the beginning of its answer.
///
/// # Errors
///
/// Returns an error if the server does not answer.
pub fn ask(port: u16, command: &[&str]) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = format!("*{}\r\n", command.len());
    for part in command {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; 64 << 10];
    let size = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..size]).into_owned())
}

impl Engine for Redis {
    fn name(&self) -> &'static str {
        match self.sentinels.is_empty() {
            true => "redis",
            false => "redis-sentinel",
        }
    }

    fn faults(&self) -> Vec<Fault> {
        if !self.sentinels.is_empty() {
            return vec![Fault::Failover];
        }
        vec![
            Fault::Killed,
            Fault::Frozen,
            Fault::Restarted,
            Fault::SubscribersKilled,
            Fault::PublishersKilled,
            Fault::Overrun,
            Fault::Cut,
            Fault::SenderCut,
            Fault::AwayFromStart,
            Fault::NodeKilled,
        ]
    }

    fn port(&self) -> Option<u16> {
        self.sentinels.is_empty().then_some(self.port)
    }

    fn addresses(&self, port: u16) -> Vec<String> {
        let ports = match self.sentinels.is_empty() {
            true => vec![port],
            false => self.sentinels.clone(),
        };
        let urls = ports.iter().map(|port| format!("redis://127.0.0.1:{port}"));
        urls.collect()
    }

    fn kill(&mut self) -> io::Result<()> {
        self.server = None;
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let mut command = self.command(self.port);
        self.server = Some(Process::quiet(&mut command)?);
        wait_for_port(self.port)
    }

    fn freeze(&mut self, is_frozen: bool) -> io::Result<()> {
        self.server
            .as_ref()
            .map_or(Ok(()), |server| server.freeze(is_frozen))
    }

    fn close_clients(&mut self, with_subscriptions: bool) -> io::Result<()> {
        let kind = match with_subscriptions {
            true => "pubsub",
            false => "normal",
        };
        self.ask(&["CLIENT", "KILL", "TYPE", kind]).map(drop)
    }
}
