//! NATS servers for the tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::engine::{Engine, Fault};
use crate::processes::{Process, Scratch, free_port, has_program, wait_for_port};

/// A NATS server with JetStream.
#[derive(Debug)]
pub struct Nats {
    scratch: Scratch,
    port: u16,
    server: Option<Process>,
}

impl Nats {
    /// Starts a server with these lines in its configuration; `None` if it is not installed.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn start(configuration: &str) -> io::Result<Option<Self>> {
        if !has_program("nats-server") {
            return Ok(None);
        }
        let mut nats = Self {
            scratch: Scratch::new()?,
            port: free_port()?,
            server: None,
        };
        let store = nats.scratch.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?} }}\n{configuration}\n",
            nats.port, store
        );
        std::fs::write(nats.scratch.path().join("nats.conf"), text)?;
        Engine::start(&mut nats)?;
        Ok(Some(nats))
    }

    /// Returns the address of the server.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Publishes a message, as another program does. Returns whether somebody listens.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not answer.
    pub fn publish(&self, subject: &str, payload: &[u8]) -> io::Result<bool> {
        let mut client = Client::connect(self.port)?;
        let size = payload.len();
        let head = format!("SUB in 1\r\nPUB {subject} in {size}\r\n");
        client.write(&[head.as_bytes(), payload, b"\r\nPING\r\n"].concat())?;
        // Without a subscriber, the server answers with the status 503.
        let answer = client.read_until_pong()?;
        Ok(!answer.contains("503"))
    }

    /// Sends a request, and returns the payload of the answer.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no answer within 5 seconds.
    pub fn ask(&self, subject: &str, payload: &str) -> io::Result<String> {
        let mut client = Client::connect(self.port)?;
        let size = payload.len();
        let text = format!("SUB in 1\r\nPUB {subject} in {size}\r\n{payload}\r\n");
        client.write(text.as_bytes())?;
        loop {
            let line = client.line()?;
            if line.starts_with("HMSG ") {
                return Err(io::Error::other("there is no subscriber"));
            }
            if line.starts_with("MSG ") {
                let size = line.rsplit(' ').next().and_then(|size| size.parse().ok());
                let mut payload = vec![0; size.unwrap_or(0)];
                client.0.read_exact(&mut payload)?;
                return Ok(String::from_utf8_lossy(&payload).into_owned());
            }
        }
    }
}

/// A plain client.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut client = Self(BufReader::new(stream));
        let options = r#"{"verbose":false,"headers":true,"no_responders":true}"#;
        client.write(format!("CONNECT {options}\r\nPING\r\n").as_bytes())?;
        client.read_until_pong()?;
        Ok(client)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().into()),
        }
    }

    fn read_until_pong(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let line = self.line()?;
            if line == "PONG" {
                return Ok(text);
            }
            text.push_str(&line);
        }
    }
}

impl Engine for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn faults(&self) -> Vec<Fault> {
        vec![
            Fault::Killed,
            Fault::Frozen,
            Fault::Restarted,
            Fault::Overrun,
            Fault::Cut,
            Fault::SenderCut,
            Fault::AwayFromStart,
            Fault::NodeKilled,
        ]
    }

    fn port(&self) -> Option<u16> {
        Some(self.port)
    }

    fn addresses(&self, port: u16) -> Vec<String> {
        vec![format!("nats://127.0.0.1:{port}")]
    }

    fn kill(&mut self) -> io::Result<()> {
        self.server = None;
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let mut command = Command::new("nats-server");
        command
            .arg("-c")
            .arg(self.scratch.path().join("nats.conf"))
            .arg("-l")
            .arg(self.scratch.path().join("nats.log"));
        self.server = Some(Process::quiet(&mut command)?);
        wait_for_port(self.port)
    }

    fn freeze(&mut self, is_frozen: bool) -> io::Result<()> {
        self.server
            .as_ref()
            .map_or(Ok(()), |server| server.freeze(is_frozen))
    }

    fn close_clients(&mut self, _with_subscriptions: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
