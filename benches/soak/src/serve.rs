//! The servers under load: two event loops in their own process.
//!
//! They print lines: `listening` and the addresses, `gone` and a record for each ended connection,
//! `status` twice a second, `fault`, and `stats` at the end. They read lines: `go` and `rest` start
//! and stop their own activity, `trim` returns free memory to the kernel, `drain` ends them. They
//! also end at the end of their input, and when their time has expired.

mod desk;
mod other;
mod tally;

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
use wsloop::event::{Binary, Connect, Disconnect, PeerClose, Ping, Ready, Request, Tick, Utf8};
use wsloop::{CloseCode, DeflateConfig, Handle, Server, Topic, WindDown};

use crate::message::MESSAGE_MAX;
use crate::options::Serve;
use crate::topics::{HISTORY, KEPT, TOPICS};
use desk::Desk;
pub(crate) use desk::page_of;

/// The differences between the two servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flavour {
    /// One compressor for all connections. The server sends news to each client individually, and
    /// so it can check the counts of each connection.
    Shared,
    /// A compressor for each connection. The server keeps statistics of each connection, which
    /// disables the fast path. With them it can check the counts even if broadcasts and another
    /// thread send news.
    Dedicated,
}

/// Serves until it is drained.
///
/// # Errors
///
/// Fails if a server cannot be built.
pub(crate) fn run(options: &Serve) -> Result<()> {
    // If the limit is too low, the run reports failures.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let life = options.life;
    thread::spawn(move || {
        thread::sleep(life);
        process::exit(3)
    });
    let (out, lines) = mpsc::channel::<String>();
    let writer = thread::spawn(move || {
        // A thread of its own, so that an event loop never waits for the reader of these lines.
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

/// Carries out the orders on standard input.
fn obey(handles: &[Handle], active: &AtomicBool) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "go" => active.store(true, Ordering::Relaxed),
            "rest" => active.store(false, Ordering::Relaxed),
            "trim" => crate::probe::trim(),
            "drain" => {
                for handle in handles {
                    // A server that has ended does not need a drain.
                    let _ = handle.wind_down(
                        WindDown::within(DRAIN_DEADLINE)
                            .spread(DRAIN_SPREAD)
                            .code(CloseCode::SERVICE_RESTART),
                    );
                }
            }
            _ => {}
        }
    }
    process::exit(5)
}

/// Runs one server on this thread.
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
    let (stats, tally) = (server.stats(), std::mem::take(server.hub().shared()));
    desk.borrow_mut().end(stats, tally);
    Ok(())
}

fn build(flavour: Flavour, options: &Serve, desk: &Rc<RefCell<Desk>>) -> Result<Server> {
    let tls = wsloop::config_from_pem(&options.certificate, &options.key)?;
    let deflate = match flavour {
        Flavour::Shared => DeflateConfig::shared(),
        Flavour::Dedicated => DeflateConfig::dedicated(),
    };
    // Each handler that uses the desk has its own reference.
    let desk = || Rc::clone(desk);
    let (connect, ready, text, binary) = (desk(), desk(), desk(), desk());
    let (tick, disconnect) = (desk(), desk());
    let mut builder = Server::builder();
    for (at, topic) in TOPICS.iter().enumerate() {
        let mut settings = Topic::new();
        if let Some(policy) = topic.policy {
            settings = settings.slow_consumer(policy);
        }
        if at == HISTORY {
            settings = settings.history(KEPT.0, Duration::from_secs(KEPT.1));
        }
        builder = builder.topics(topic.name, settings);
    }
    builder
        .listen("127.0.0.1:0")
        .listen_tls("127.0.0.1:0", tls)
        .max_recv_size(MESSAGE_MAX)
        .max_send_size(MESSAGE_MAX)
        .max_backlog(256 << 10)
        // A small buffer, so that the server itself detects slow readers, and not only the kernel.
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
        .on(PeerClose, |conn, _| tally::close(conn))
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
