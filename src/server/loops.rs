//! Several event loops as one server.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::Builder;
use super::seats::{Seating, Seats};
use crate::backplane::{Exchange, Port};
use crate::connection::{Handle, Line, LoopsHandle, Order, Siblings, target};
use crate::error::{BuildError, Error, HandlerError, Result};
use crate::protocol::CloseCode;
use crate::stats::Stats;

/// Several event loops, each on a thread of its own, as one server.
///
/// A closure makes the builder of each loop, on the loop's thread, because handlers need not be
/// `Send`. All builders have to list the same places to listen on, in the same order; otherwise
/// [`BuildError::Conflict`] is returned. Each loop gets a socket of its own for a TCP address, and
/// the kernel distributes the clients among them by a hash of their addresses (`SO_REUSEPORT`):
/// evenly for many clients, unevenly for few. A connection stays on its loop.
///
/// ```no_run
/// use wsloop::{Loops, Server, event::{Ready, Utf8}};
///
/// fn main() -> wsloop::Result<()> {
///     Loops::new(4, |_| {
///         Server::builder()
///             .listen("0.0.0.0:8080")
///             .on(Ready, |conn, ()| conn.subscribe("all").map(drop))
///             .on(Utf8, |conn, text| conn.publish("all", text))
///     })
///     .run()
/// }
/// ```
///
/// [Topics](crate::guide::topics) span the loops: a publish reaches the subscribers of its own loop
/// in the same turn, and those of the others in their next turn. The messages that one loop
/// publishes to one topic arrive in their order. A topic with a [history](crate::Topic::history)
/// has one order for all loops, and a client is recovered on any of them. Everything else belongs
/// to one loop: broadcasts of a [`Hub`](crate::Hub), shared values, limits, counters.
/// [`LoopsHandle`] reaches all loops.
///
/// What a handler orders for the server holds for all loops: shutting down, winding down, and the
/// listeners. A loop that fails or panics shuts the others down.
#[must_use]
pub struct Loops {
    count: usize,
    make: Arc<dyn Fn(usize) -> Builder + Send + Sync>,
}

/// Several loops on their threads, started by [`Loops::spawn`]. Dropping it shuts the loops down
/// and waits for their end.
#[must_use = "the loops are shut down when this is dropped"]
pub struct LoopThreads {
    local_addrs: Vec<SocketAddr>,
    handle: LoopsHandle,
    threads: Vec<JoinHandle<()>>,
    ends: Receiver<(usize, Result<Stats>)>,
}

/// What makes a server one of several loops.
pub(super) struct Member {
    pub(super) port: Port,
    pub(super) siblings: Siblings,
}

/// A loop that is built, and waits for the others.
struct Built {
    local_addrs: Vec<SocketAddr>,
    handle: Handle,
    /// The sockets of the other loops, if this is the first.
    seats: Vec<Seats>,
}

impl Loops {
    /// Plans `count` loops; 0 is as many as the process can run at the same time
    /// ([`available_parallelism`](thread::available_parallelism)). `make` gets the number of the
    /// loop, from 0 on.
    pub fn new(count: usize, make: impl Fn(usize) -> Builder + Send + Sync + 'static) -> Self {
        let count = match count {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        Self {
            count,
            make: Arc::new(make),
        }
    }

    /// Runs the loops until they are shut down.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`LoopThreads::join`].
    pub fn run(self) -> Result<()> {
        self.spawn()?.join().map(drop)
    }

    /// Builds and runs the loops on threads of their own. Returns once all of them listen; until
    /// then none accepts clients, which wait.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Builder::build`], [`Error::LoopPanicked`] if `make` panics, and
    /// [`Error::Io`] if a thread cannot be started. No loop is left then.
    pub fn spawn(self) -> Result<LoopThreads> {
        let count = u16::try_from(self.count)
            .map_err(|_| BuildError::Conflict("there are more than 65,535 loops"))?;
        let exchange = Exchange::new(count);
        let handle = LoopsHandle::new();
        let (sender, ends) = mpsc::channel();
        let mut running = LoopThreads {
            local_addrs: Vec::new(),
            handle: handle.clone(),
            threads: Vec::new(),
            ends,
        };
        let (mut handles, mut starts) = (Vec::new(), Vec::new());
        let mut seats: Vec<Seats> = Vec::new();
        // The first loop opens the sockets, so the loops are built one after the other.
        for number in 0..count {
            let member = Member {
                port: exchange.port(number),
                siblings: Siblings {
                    loops: handle.clone(),
                    number: number.into(),
                },
            };
            let own = (number > 0).then(|| seats.remove(0));
            let (start, started) = mpsc::channel();
            let built = running.add(&self.make, member, own, count, &sender, started)?;
            if number == 0 {
                running.local_addrs = built.local_addrs;
                seats = built.seats;
            }
            handles.push(built.handle);
            starts.push(start);
        }
        handle.set(handles);
        for start in starts {
            // A loop that waits for it cannot have ended.
            let _ = start.send(());
        }
        Ok(running)
    }
}

impl LoopThreads {
    /// Starts the thread of a loop, and waits until the loop is built. On an error, dropping the
    /// starts ends the loops that were built before.
    fn add(
        &mut self,
        make: &Arc<dyn Fn(usize) -> Builder + Send + Sync>,
        member: Member,
        seats: Option<Seats>,
        count: u16,
        ended: &Sender<(usize, Result<Stats>)>,
        started: Receiver<()>,
    ) -> Result<Built> {
        let number = member.siblings.number;
        let (make, ended) = (make.clone(), ended.clone());
        let (built, builds) = mpsc::channel();
        let siblings = member.siblings.clone();
        let run = move || {
            let serve = || serve(&*make, member, seats, count, &built, &started);
            let result = catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|panic| {
                let text = HandlerError::from_panic(&*panic).to_string().into();
                Err(Error::LoopPanicked { number, text })
            });
            if let Err(error) = &result {
                Line::free(target::SERVER, log::Level::Error).write(format_args!("{error}"));
                siblings.tell(Order::Stop(CloseCode::GOING_AWAY));
            }
            // Nobody may wait for it any more.
            let _ = ended.send((number, result));
        };
        let thread = thread::Builder::new().name(format!("wsloop-{number}"));
        self.threads.push(thread.spawn(run)?);
        match builds.recv() {
            Ok(built) => Ok(built),
            // The loop was not built, so its thread ended with an error.
            Err(mpsc::RecvError) => Err(match self.ends.recv() {
                Ok((_, Err(error))) => error,
                Ok((_, Ok(_))) | Err(mpsc::RecvError) => {
                    Error::Io(std::io::ErrorKind::Other.into())
                }
            }),
        }
    }

    /// Returns the TCP addresses that the loops listen on, in the order of the builder; port 0 is
    /// replaced by the port that the kernel picked.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Returns a handle to all loops.
    pub fn handle(&self) -> &LoopsHandle {
        &self.handle
    }

    /// Shuts the loops down, waits for their end, and returns the counters of each.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn shutdown(self) -> Result<Vec<Stats>> {
        // Fails if the loops have already ended.
        let _ = self.handle.shutdown();
        self.join()
    }

    /// Waits until a handler or a handle has shut the loops down, and returns the counters of each,
    /// which can be summed: `let sum: Stats = stats.into_iter().sum()`.
    ///
    /// # Errors
    ///
    /// Returns the first error of a loop, [`Error::Loop`] or [`Error::LoopPanicked`], when all
    /// loops have ended.
    pub fn join(mut self) -> Result<Vec<Stats>> {
        let mut stats = vec![Stats::default(); self.threads.len()];
        let mut first = None;
        for _ in 0..self.threads.len() {
            match self.ends.recv() {
                Ok((number, Ok(own))) => stats[number] = own,
                Ok((number, Err(error))) => _ = first.get_or_insert((number, error)),
                Err(mpsc::RecvError) => break,
            }
        }
        self.wait();
        match first {
            None => Ok(stats),
            Some((_, error @ Error::LoopPanicked { .. })) => Err(error),
            Some((number, error)) => Err(Error::Loop {
                number,
                source: Box::new(error),
            }),
        }
    }

    fn wait(&mut self) {
        for thread in self.threads.drain(..) {
            // It caught all panics.
            let _ = thread.join();
        }
    }
}

impl Drop for LoopThreads {
    fn drop(&mut self) {
        // Fails if the loops have ended, or were never started.
        let _ = self.handle.shutdown();
        if !thread::panicking() {
            self.wait();
        }
    }
}

impl fmt::Debug for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loops")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LoopThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopThreads")
            .field("local_addrs", &self.local_addrs)
            .field("loops", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// Builds a loop, and runs it when all others are built, too.
fn serve(
    make: &(dyn Fn(usize) -> Builder + Send + Sync),
    member: Member,
    seats: Option<Seats>,
    count: u16,
    built: &Sender<Built>,
    started: &Receiver<()>,
) -> Result<Stats> {
    let number = member.siblings.number;
    let mut others = Vec::new();
    let seating = match seats {
        Some(seats) => Seating::Other(seats),
        None => {
            others.resize_with(usize::from(count) - 1, Seats::default);
            Seating::First(&mut others)
        }
    };
    let mut server = make(number).build_in(seating, Some(member))?;
    let report = Built {
        local_addrs: server.local_addrs(),
        handle: server.handle(),
        seats: others,
    };
    // The receiver waits for it.
    let _ = built.send(report);
    if started.recv().is_ok() {
        server.start()?;
    }
    // Otherwise another loop could not be built.
    Ok(server.stats())
}
