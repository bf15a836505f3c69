//! A TCP proxy that can swallow everything, or stop reading.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;

/// A proxy in front of a server, on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    mode: AtomicU8,
    /// Connections of an earlier time than the last cut stay dead.
    cuts: AtomicUsize,
}

impl Proxy {
    /// Starts a proxy in front of a port.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot listen.
    pub fn start(upstream: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream,
            mode: AtomicU8::new(FORWARD),
            cuts: AtomicUsize::new(0),
        });
        let own = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if own.mode() == END {
                    break;
                }
                let own = own.clone();
                thread::spawn(move || own.serve(client));
            }
        });
        Ok(Self { port, shared })
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Swallows everything from now on, in both directions, without closing connections.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
        self.shared.mode.store(SWALLOW, Ordering::SeqCst);
    }

    /// Reads nothing from now on.
    pub fn stall(&self) {
        self.shared.mode.store(STALL, Ordering::SeqCst);
    }

    /// Forwards again. Connections from before a cut stay dead.
    pub fn heal(&self) {
        self.shared.mode.store(FORWARD, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.mode.store(END, Ordering::SeqCst);
        // The thread that listens looks at the mode.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn mode(&self) -> u8 {
        self.mode.load(Ordering::SeqCst)
    }

    /// Copies in both directions until one side ends.
    fn serve(self: Arc<Self>, client: TcpStream) {
        let cuts = self.cuts.load(Ordering::SeqCst);
        let is_dead = self.mode() == SWALLOW;
        // Refused, as by the server itself.
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.upstream)) else {
            if is_dead {
                self.copy(&client, None, usize::MAX);
            }
            return;
        };
        let cuts = if is_dead { usize::MAX } else { cuts };
        // Small messages are not to wait.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        // The kernel would keep megabytes for a node that does not read.
        let _ = setsockopt(&server, RcvBuf, &(64 << 10));
        thread::scope(|scope| {
            scope.spawn(|| self.copy(&client, Some(&server), cuts));
            self.copy(&server, Some(&client), cuts);
        });
    }

    fn copy(&self, mut from: &TcpStream, to: Option<&TcpStream>, cuts: usize) {
        let _ = from.set_read_timeout(Some(Duration::from_millis(100)));
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.mode() {
                END => break,
                STALL => {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                }
                _ => {}
            }
            let size = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
                Err(_) => break,
            };
            let is_dead = self.mode() == SWALLOW || cuts != self.cuts.load(Ordering::SeqCst);
            if let Some(mut to) = to.filter(|_| !is_dead)
                && to.write_all(&buffer[..size]).is_err()
            {
                break;
            }
        }
        let is_dead = self.mode() == SWALLOW || cuts != self.cuts.load(Ordering::SeqCst);
        if let Some(to) = to.filter(|_| !is_dead) {
            let _ = to.shutdown(Shutdown::Both);
        }
    }
}

const FORWARD: u8 = 0;
const SWALLOW: u8 = 1;
const STALL: u8 = 2;
const END: u8 = 3;
