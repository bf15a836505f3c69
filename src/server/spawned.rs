//! A server on its own thread.

use std::fmt;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::{Builder, Server};
use crate::connection::{Handle, Line, target};
use crate::error::{Error, Result};
use crate::stats::Stats;

/// A server on its own thread, started by [`Server::spawn`]. Dropping it shuts the server down and
/// waits for its end.
#[must_use = "the server is shut down when this is dropped"]
pub struct ServerThread {
    local_addrs: Vec<SocketAddr>,
    handle: Handle,
    /// `None` once it was joined.
    thread: Option<JoinHandle<Result<Stats>>>,
}

impl Server {
    /// Builds and runs a server on a new thread, because handlers need not be `Send`. Returns once
    /// the server listens.
    ///
    /// This serves tests, and programs whose main thread has other work:
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
    /// Returns the errors of [`Builder::build`], and [`Error::Io`] if the thread cannot be started.
    ///
    /// # Panics
    ///
    /// Panics if `make` panics, with the same payload.
    pub fn spawn(make: impl FnOnce() -> Builder + Send + 'static) -> Result<ServerThread> {
        let (sender, receiver) = mpsc::channel();
        let run = move || {
            let mut server = make().build()?;
            // Fails only if the caller is gone, and then no other thread can reach the server.
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
            // The server was not built, so the thread ended with an error or a panic.
            Err(mpsc::RecvError) => Err(join(thread)
                .err()
                .unwrap_or_else(|| Error::Io(std::io::ErrorKind::Other.into()))),
        }
    }
}

impl ServerThread {
    /// Returns the TCP addresses that the server listens on, in the order of the builder; port 0 is
    /// replaced by the port that the kernel picked.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Returns a handle of the server, for any thread.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Shuts the server down, waits for its end, and returns its counters.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Server::start`].
    pub fn shutdown(mut self) -> Result<Stats> {
        self.end().unwrap_or_else(|| Ok(Stats::default()))
    }

    /// Waits until a handler or a handle has shut the server down, and returns its counters.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Server::start`].
    pub fn join(mut self) -> Result<Stats> {
        match self.thread.take() {
            Some(thread) => join(thread),
            None => Ok(Stats::default()),
        }
    }

    fn end(&mut self) -> Option<Result<Stats>> {
        let thread = self.thread.take()?;
        // Fails if the server has already ended.
        let _ = self.handle.shutdown();
        Some(join(thread))
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        if thread::panicking() {
            // A failing test must not wait for a server that may be the reason.
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

/// Waits for a server, and resumes its panic, which no handler can cause.
fn join(thread: JoinHandle<Result<Stats>>) -> Result<Stats> {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
