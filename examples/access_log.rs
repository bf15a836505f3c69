//! Writes an access log, with one line per closed connection, through a logger that never blocks
//! the event loop.
//!
//! ```text
//! cargo run --release --example access_log [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9015` unless given. The access log is on standard output, and errors
//! are on standard error. A line of the log, wrapped here, after
//! `python3 -m websockets ws://127.0.0.1:9015/chat`:
//!
//! ```text
//! 127.0.0.1:41336 "ws://127.0.0.1:9015/chat" 1000 12.4 s 3 in 3 out 298 bytes in 190 out \
//!    "closed by the peer"
//! ```

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use wsloop::event::{Disconnect, Disconnected, Utf8};
use wsloop::{Connection, Server};

/// This number of lines may wait for a slow terminal, disk or pipe. Further lines are dropped.
const LINES: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .target(env_logger::Target::Pipe(Box::new(Lossy::new(io::stderr()))))
        .init();
    let address = env::args().nth(1);
    let mut access = Lossy::new(io::stdout());
    let mut server = Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9015"))
        .origins(["self", "none"])
        .connection_stats(true)
        .on(Utf8, |conn, text| conn.send_utf8(text))
        .on(Disconnect, move |conn, why| {
            // `Lossy` queues or drops the line, and never returns an error.
            _ = access.write(line(conn, why).as_bytes());
        })
        .build()?;
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}

/// Returns the line of a connection. Values that the peer controls are quoted and escaped, so that
/// a peer cannot forge a line.
fn line(conn: &Connection<'_>, why: Disconnected<'_>) -> String {
    let peer = match conn.peer_addr() {
        Some(addr) => addr.to_string(),
        None => "unix".to_owned(),
    };
    // There is a URI only if the client sent an opening handshake.
    let uri = conn
        .request_uri()
        .map_or_else(|| "-".to_owned(), |uri| uri.to_string());
    let uri: String = uri.chars().take(200).collect();
    let cause = why.cause.to_string();
    let stats = conn.stats().unwrap_or_default();
    format!(
        "{peer} {uri:?} {} {:.1} s {} in {} out {} bytes in {} out {cause:?}\n",
        why.code.as_u16(),
        stats.age.as_secs_f64(),
        stats.messages_in,
        stats.messages_out,
        stats.bytes_in,
        stats.bytes_out,
    )
}

/// Writes on its own thread, and drops lines while the queue is full.
struct Lossy(SyncSender<Vec<u8>>);

impl Lossy {
    fn new(mut out: impl Write + Send + 'static) -> Self {
        let (sender, lines) = mpsc::sync_channel::<Vec<u8>>(LINES);
        thread::spawn(move || {
            for line in lines {
                // If the disk is full, the line is lost, and the server continues.
                let _ = out.write_all(&line).and_then(|()| out.flush());
            }
        });
        Self(sender)
    }
}

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
