//! A server on a thread of its own.

use std::fmt;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::{Builder, Server};
use crate::connection::{Handle, Line, target};
use crate::error::{Error, Result};
use crate::stats::Stats;

/// A server that runs on a thread of its own, as [`Server::spawn`] starts it. When it is dropped,
/// the server is shut down and waited for.
#[must_use = "the server is shut down when this is dropped"]
pub struct ServerThread {
    local_addrs: Vec<SocketAddr>,
    handle: Handle,
    /// `None` once it was waited for.
    thread: Option<JoinHandle<Result<Stats>>>,
}

impl Server {
    /// Builds a server on a thread of its own, because handlers need not be `Send`, and runs it
    /// there. Returns when it listens.
    ///
    /// For tests, and for programs whose main thread has something else to do:
    ///
    /// ```
    /// use wsloop::{Server, event::Utf8};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::spawn(|| {
    ///     Server::builder()
    ///         .listen("127.0.0.1:0")
    ///         .on(Utf8, |conn, text| conn.send_utf8(text))
    /// })?;
    /// let url = format!("ws://{}/", server.local_addrs()[0]);
    /// let (mut client, _) = tungstenite::connect(url)?;
    /// client.send("hello".into())?;
    /// assert_eq!(client.read()?.to_text()?, "hello");
    /// client.close(None)?;
    /// assert_eq!(server.shutdown()?.messages_in, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Builder::build`], and [`Error::Io`] if there can be no further thread.
    ///
    /// # Panics
    ///
    /// If `make` panics, with what it panicked with.
    pub fn spawn(make: impl FnOnce() -> Builder + Send + 'static) -> Result<ServerThread> {
        let (sender, receiver) = mpsc::channel();
        let run = move || {
            let mut server = make().build()?;
            // It fails only if nobody waits any more, and then nobody can reach the server either.
            let _ = sender.send((server.local_addrs(), server.handle()));
            server.start()?;
            Ok(server.stats())
        };
        let thread = thread::Builder::new().name("wsloop".into()).spawn(run)?;
        match receiver.recv() {
            Ok((local_addrs, handle)) => Ok(ServerThread {
                local_addrs,
                handle,
                thread: Some(thread),
            }),
            // It was not built, so it cannot have ended in order.
            Err(mpsc::RecvError) => Err(join(thread)
                .err()
                .unwrap_or_else(|| Error::Io(std::io::ErrorKind::Other.into()))),
        }
    }
}

impl ServerThread {
    /// Returns the TCP addresses that are listened on, in the order they were given; port 0 is the
    /// port that the kernel picked.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Returns the handle of the server, for any thread.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Shuts the server down, waits for it, and returns what it counted.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn shutdown(mut self) -> Result<Stats> {
        self.end().unwrap_or_else(|| Ok(Stats::default()))
    }

    /// Waits until the server ends by itself, because a handler or a handle shut it down, and
    /// returns what it counted.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn join(mut self) -> Result<Stats> {
        match self.thread.take() {
            Some(thread) => join(thread),
            None => Ok(Stats::default()),
        }
    }

    fn end(&mut self) -> Option<Result<Stats>> {
        let thread = self.thread.take()?;
        // It fails if the server has ended by itself.
        let _ = self.handle.shutdown();
        Some(join(thread))
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        if thread::panicking() {
            // A test that fails is not to wait for a server that may be the reason.
            let _ = self.handle.shutdown();
        } else if let Some(Err(error)) = self.end() {
            Line::free(target::SERVER, log::Level::Error).write(format_args!("{error}"));
        }
    }
}

impl fmt::Debug for ServerThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerThread")
            .field("local_addrs", &self.local_addrs)
            .finish_non_exhaustive()
    }
}

/// Waits for a server; its panic, which no handler can cause, goes on here.
fn join(thread: JoinHandle<Result<Stats>>) -> Result<Stats> {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
