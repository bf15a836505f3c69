//! The servers under load: two event loops in a process of their own.
//!
//! They print lines: `listening` and the addresses, `gone` and a record for each connection that is
//! over, `status` twice a second, `fault`, and `stats` at the end. They read lines: `go` and `rest`
//! begin and end what they do by themselves, `trim` has free memory given back, `drain` ends them. They end as well when nothing can be
//! read any more, and when their time is up.

mod desk;
mod other;

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use wsloop::event::{Binary, Connect, Disconnect, Ping, Ready, Request, Tick, Utf8};
use wsloop::{CloseCode, DeflateConfig, Handle, Server};

use crate::message::MESSAGE_MAX;
use crate::options::Serve;
use desk::Desk;
pub(crate) use desk::page_of;

/// What the two servers differ in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flavour {
    /// One compressor for all connections. News are sent to one client after the other, so that
    /// each connection can be held to its own count.
    Shared,
    /// A compressor for each connection. The server counts for each connection, which keeps it from
    /// its shortest way, and so news may be sent by broadcasts and by another thread.
    Dedicated,
}

/// Serves until it is drained.
///
/// # Errors
///
/// Fails if a server cannot be built.
pub(crate) fn run(options: &Serve) -> Result<()> {
    // More descriptors than are allowed are not had; then the run will say so.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let life = options.life;
    thread::spawn(move || {
        thread::sleep(life);
        process::exit(3)
    });
    let (out, lines) = mpsc::channel::<String>();
    let writer = thread::spawn(move || {
        // A loop never waits for whoever reads this.
        let mut stdout = std::io::stdout().lock();
        for line in lines {
            let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
            if written.is_err() {
                process::exit(4);
            }
        }
    });

    let active = Arc::new(AtomicBool::new(false));
    let (mut handles, mut loops, mut listening) = (Vec::new(), Vec::new(), String::new());
    for flavour in [Flavour::Shared, Flavour::Dedicated] {
        let (ready, built) = mpsc::channel();
        let (options, out, active) = (options.clone(), out.clone(), Arc::clone(&active));
        loops.push(thread::spawn(move || {
            serve(flavour, options, out, active, &ready)
        }));
        let Ok((handle, addrs)) = built.recv() else {
            break;
        };
        handles.push(handle);
        listening.extend(addrs.iter().map(|addr| format!(" {addr}")));
    }
    out.send(format!("listening{listening}"))?;
    thread::spawn(move || obey(&handles, &active));
    for one in loops {
        one.join().map_err(|_| anyhow!("a loop panicked"))??;
    }
    drop(out);
    writer.join().map_err(|_| anyhow!("the writer panicked"))
}

/// Does what the lines of standard input say.
fn obey(handles: &[Handle], active: &AtomicBool) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "go" => active.store(true, Ordering::Relaxed),
            "rest" => active.store(false, Ordering::Relaxed),
            "trim" => crate::probe::trim(),
            "drain" => {
                for handle in handles {
                    // A server that is gone already needs no drain.
                    let _ = handle.drain(DRAIN_DEADLINE, CloseCode::SERVICE_RESTART, DRAIN_SPREAD);
                }
            }
            _ => {}
        }
    }
    process::exit(5)
}

/// Runs one server, on this thread.
fn serve(
    flavour: Flavour,
    options: Serve,
    out: Sender<String>,
    active: Arc<AtomicBool>,
    ready: &Sender<(Handle, Vec<SocketAddr>)>,
) -> Result<()> {
    let desk = Desk::new(flavour, &options, out.clone(), Arc::clone(&active));
    let desk = Rc::new(RefCell::new(desk));
    let mut server = build(flavour, &options, &desk)?;
    let handle = server.handle();
    ready.send((handle.clone(), server.local_addrs()))?;
    let other = thread::spawn(move || other::run(flavour, &handle, &active));
    server.start()?;
    other
        .join()
        .map_err(|_| anyhow!("the other thread panicked"))?;
    let mut desk = desk.borrow_mut();
    desk.end(server.stats());
    Ok(())
}

fn build(flavour: Flavour, options: &Serve, desk: &Rc<RefCell<Desk>>) -> Result<Server> {
    let tls = wsloop::config_from_pem(&options.certificate, &options.key)?;
    let deflate = match flavour {
        Flavour::Shared => DeflateConfig::shared(),
        Flavour::Dedicated => DeflateConfig::dedicated(),
    };
    // A handler that needs the desk has its own way to it.
    let desk = || Rc::clone(desk);
    let (connect, ready, text, binary) = (desk(), desk(), desk(), desk());
    let (tick, disconnect) = (desk(), desk());
    Server::builder()
        .listen("127.0.0.1:0")
        .listen_tls("127.0.0.1:0", tls)
        .max_recv_size(MESSAGE_MAX)
        .max_send_size(MESSAGE_MAX)
        .max_backlog(256 << 10)
        // Small, so that slow readers are noticed by the server and not by the kernel alone.
        .send_buffer_size(32 << 10)
        .handshake_timeout(options.handshake_timeout)
        .deflate(deflate.threshold(64))
        .connection_stats(flavour == Flavour::Dedicated)
        .tick_period(TICK_PERIOD)
        .on(Connect, move |_, ()| connect.borrow_mut().alive += 1)
        .on(Ready, move |conn, ()| ready.borrow_mut().admit(conn))
        .on(Utf8, move |conn, payload| {
            let mut desk = text.borrow_mut();
            desk.receive(conn, Some(payload), payload.as_bytes());
        })
        .on(Binary, move |conn, payload| {
            binary.borrow_mut().receive(conn, None, payload);
        })
        .on(Ping, |conn, _| conn.data::<desk::Account>().pings += 1)
        .on(Request, desk::answer)
        .on(Tick, move |hub, _| tick.borrow_mut().tick(hub))
        .on(Disconnect, move |conn, why| {
            disconnect.borrow_mut().dismiss(conn, why);
        })
        .build()
        .context("a server cannot be built")
}

const TICK_PERIOD: Duration = Duration::from_millis(50);
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
const DRAIN_SPREAD: Duration = Duration::from_secs(2);
