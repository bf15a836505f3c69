//! One event loop per core, all on one address. Each text is broadcast to the clients of all loops.
//!
//! ```text
//! cargo run --release --example multicore [ADDRESS] [LOOPS]
//! ```
//!
//! The address is `127.0.0.1:9013` unless given, and there is a loop per core. To try it, open the
//! consoles of several browser tabs:
//!
//! ```text
//! ws = new WebSocket("ws://127.0.0.1:9013/")
//! ws.onmessage = event => console.log(event.data)
//! ws.send("hello")
//! ```
//!
//! A line on standard input is broadcast as well; an empty line ends all loops.
//!
//! Each thread builds the same server, and the kernel distributes the clients among them. Loops
//! share no state, so no handler waits for another core. A loop reaches the others through their
//! [`Handle`]s.

mod logger;
mod signals;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::{env, io, thread};

use wsloop::event::{Ready, Utf8};
use wsloop::{BuildError, Handle, Server};

/// The handles of all loops. Each loop has a copy, in `shared`.
#[derive(Default)]
struct Loops(Vec<Handle>);

impl Loops {
    /// Broadcasts on all loops. Errors are ignored: a loop that has ended has no clients.
    fn tell(&self, text: &str) {
        for handle in &self.0 {
            let _ = handle.broadcast_utf8(text);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    logger::init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9013".into());
    let count = match args.next() {
        Some(number) => number.parse()?,
        None => thread::available_parallelism()?.get(),
    };
    let mut addr = address.to_socket_addrs()?.next().ok_or("no address")?;

    let (mut loops, mut starts, mut threads) = (Loops::default(), Vec::new(), Vec::new());
    for number in 1..=count {
        let (built, builds) = mpsc::channel();
        let (start, started) = mpsc::channel();
        let thread = thread::spawn(move || serve(number, addr, &built, &started));
        let Ok((bound, handle)) = builds.recv() else {
            // The server could not be built. The other threads end, because their channels are
            // dropped.
            return Ok(thread.join().map_err(|_| "a panic")??);
        };
        // With port 0 the kernel chooses a port for the first loop, and the others share it.
        addr = bound;
        signals::wind_down_on_signals(handle.clone())?;
        loops.0.push(handle);
        starts.push(start);
        threads.push(thread);
    }
    for start in starts {
        start.send(loops.0.clone())?;
    }
    eprintln!("listening on {addr}");

    // The loops continue at the end of standard input, which a service may not have. They may also
    // end before standard input does.
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if line.is_empty() {
                for handle in &loops.0 {
                    let _ = handle.shutdown();
                }
                return;
            }
            loops.tell(&line);
        }
    });
    for thread in threads {
        thread.join().map_err(|_| "a panic")??;
    }
    Ok(())
}

/// Builds a server, and runs it when the handles of all loops have arrived.
fn serve(
    number: usize,
    addr: SocketAddr,
    built: &Sender<(SocketAddr, Handle)>,
    start: &Receiver<Vec<Handle>>,
) -> wsloop::Result<()> {
    let mut server = build(number, addr)?;
    let bound = server.local_addr().unwrap_or(addr);
    let _ = built.send((bound, server.handle()));
    let Ok(handles) = start.recv() else {
        return Ok(()); // another server could not be built
    };
    server.hub().shared::<Loops>().0 = handles;
    Ok(server.start()?)
}

/// Builds the server of a loop.
fn build(number: usize, addr: SocketAddr) -> Result<Server, BuildError> {
    Server::builder()
        .listen(addr)
        .reuse_port(true)
        .max_recv_size(1000)
        .on(Ready, move |conn, ()| {
            conn.send_utf8(&format!("you are served by loop {number}"))
        })
        .on(Utf8, |conn, text| conn.shared::<Loops>().tell(text))
        .build()
}
