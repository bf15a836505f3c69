//! An echo server of two event loops that can be replaced while it runs, without refusing a client.
//!
//! ```text
//! cargo build --release --example restart && target/release/examples/restart [ADDRESS]...
//! ```
//!
//! The address is `127.0.0.1:9009` unless given; `unix:PATH` is a Unix socket. At SIGHUP
//! (`kill -HUP` with the process number that it prints) the server starts its program again, which
//! may be a new version by then. The successor inherits the listening sockets in the same way as
//! from systemd: descriptors from 3 on, `LISTEN_FDS` and `LISTEN_PID`. When the successor listens,
//! the old server stops accepting and winds down: it closes its clients with 1012, one after the
//! other, and they reconnect to the successor. Both processes share the accept queues, so one of
//! them accepts each new client. If the successor does not start, the old server continues.
//!
//! For each TCP address each loop has a socket of its own, with its own queue. The successor
//! inherits all of them, and its loops share them out.
//!
//! SIGTERM and SIGINT end the server in the same way, without a successor. If systemd holds the
//! sockets itself (in a socket unit), a restart needs no more than that: clients wait in the accept
//! queue for the new process.

mod logger;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, process, thread};

use command_fds::{CommandFdExt, FdMapping};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsloop::event::{Binary, Utf8};
use wsloop::{Builder, CloseCode, Loops, LoopsHandle, Server, Stats, WindDown};

/// How many event loops serve.
const LOOPS: usize = 2;
/// Connections that are still open after this time are cut.
const DEADLINE: Duration = Duration::from_secs(8);
/// The clients are closed over this time, so that they do not all reconnect at once.
const SPREAD: Duration = Duration::from_secs(1);
/// How long a successor may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a successor has been started and does not listen yet.
static RESTARTING: AtomicBool = AtomicBool::new(false);

fn main() -> wsloop::Result<()> {
    logger::init();
    let mut addresses: Vec<String> = env::args().skip(1).collect();
    if addresses.is_empty() {
        addresses.push("127.0.0.1:9009".into());
    }
    let paths: Vec<String> = addresses
        .iter()
        .filter_map(|address| address.strip_prefix("unix:").map(str::to_owned))
        .collect();
    let inherits = env::var_os("LISTEN_FDS").is_some();
    let loops = Loops::new(LOOPS, move |_| build(&addresses, inherits)).spawn()?;
    obey_signals(loops.handle().clone())?;
    for addr in loops.local_addrs() {
        eprintln!("listening on {addr}");
    }
    for path in paths {
        eprintln!("listening on unix:{path}");
    }
    let id = process::id();
    eprintln!("process {id} serves");
    tell_predecessor()?;
    let stats: Stats = loops.join()?.into_iter().sum();
    let (ended, cut) = (stats.ended_in_order, stats.cut);
    eprintln!("process {id} ends: {ended} connections in order, {cut} cut");
    Ok(())
}

/// Makes the builder of a loop.
fn build(addresses: &[String], inherits: bool) -> Builder {
    let mut builder = Server::builder();
    if inherits {
        builder = builder.listen_inherited();
    } else {
        for address in addresses {
            builder = match address.strip_prefix("unix:") {
                Some(path) => builder.listen_unix(path),
                None => builder.listen(address.as_str()),
            };
        }
    }
    builder
        .on(Utf8, |conn, text| conn.send_utf8(text))
        .on(Binary, |conn, data| conn.send_binary(data))
}

/// Obeys signals, on a thread.
fn obey_signals(handle: LoopsHandle) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                if let Err(error) = start_successor(&handle) {
                    eprintln!("cannot start a successor: {error}");
                }
            } else {
                // An error means that the server has already ended.
                let _ = handle.wind_down(WindDown::within(DEADLINE).spread(SPREAD));
            }
        }
    });
    Ok(())
}

/// Starts the program again with the listening sockets, and winds down when the successor listens.
fn start_successor(loops: &LoopsHandle) -> io::Result<()> {
    let sockets = loops.listeners()?;
    if sockets.is_empty() || RESTARTING.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("there is one"));
    }
    let started = spawn(sockets);
    let Ok((mut child, mut answers)) = started else {
        RESTARTING.store(false, Ordering::SeqCst);
        return started.map(drop);
    };
    let handle = loops.clone();
    thread::spawn(move || {
        // The content does not matter: the message itself shows that the successor listens.
        if answers.read_exact(&mut [0; READY.len()]).is_ok() {
            let _ = handle.hand_over_listeners();
            // Waits until all loops have obeyed. Otherwise a client that one loop closes might come
            // back to another loop of this process, and be closed again.
            handle.ask(|_, _| ());
            let how = WindDown::within(DEADLINE).spread(SPREAD);
            let _ = handle.wind_down(how.code(CloseCode::SERVICE_RESTART));
        } else {
            let _ = child.kill();
            let ended = child.wait();
            RESTARTING.store(false, Ordering::SeqCst);
            eprintln!("the successor did not start: {ended:?}");
        }
    });
    Ok(())
}

/// Starts the program again; returns the process, and the socket on which it reports that it
/// listens.
fn spawn(sockets: Vec<OwnedFd>) -> io::Result<(process::Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    let mut command = Command::new("sh");
    command
        // The shell sets LISTEN_PID to its own process number, and then becomes the server.
        .args(["-c", r#"export LISTEN_PID=$$; exec "$0" "$@""#])
        // The program is started by its path, where there may be a new version.
        .args(env::args_os().collect::<Vec<OsString>>())
        .env("LISTEN_FDS", sockets.len().to_string())
        .env_remove("LISTEN_FDNAMES")
        .env(PREDECESSOR, process::id().to_string())
        .stdin(OwnedFd::from(theirs));
    let mapping = |(child_fd, parent_fd)| FdMapping {
        parent_fd,
        child_fd,
    };
    command
        .fd_mappings((3..).zip(sockets).map(mapping).collect())
        .map_err(io::Error::other)?;
    Ok((command.spawn()?, ours))
}

/// Tells the predecessor, if there is one, that this process listens.
fn tell_predecessor() -> io::Result<()> {
    if env::var_os(PREDECESSOR).is_some() {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        UnixStream::from(stdin).write_all(READY)?;
    }
    Ok(())
}

/// Set for a successor, whose standard input is a socket to its predecessor.
const PREDECESSOR: &str = "PREDECESSOR";

const READY: &[u8] = b"ready";
