//! One event loop per core, all on one address. Each text reaches the clients of all loops.
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
//! A line on standard input is published as well; an empty line ends all loops.
//!
//! The closure builds the same server on each thread, and the kernel distributes the clients among
//! the loops. The subscribers of a topic may be on any of them.

mod logger;
mod signals;

use std::{env, io, thread};

use wsloop::event::{Ready, Utf8};
use wsloop::{Loops, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    logger::init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9013".into());
    let count = args.next().map_or(Ok(0), |number| number.parse())?;
    let loops = Loops::new(count, move |number| {
        Server::builder()
            .listen(address.as_str())
            .max_recv_size(1000)
            .on(Ready, move |conn, ()| {
                conn.subscribe("all")?;
                conn.send_utf8(&format!("you are served by loop {number}"))
            })
            // The sender gets it, too; `conn.publish` would leave it out.
            .on(Utf8, |conn, text| conn.server().publish("all", text))
    })
    .spawn()?;
    signals::wind_down_on_signals(loops.handle().clone())?;
    for addr in loops.local_addrs() {
        eprintln!("listening on {addr}");
    }

    // The loops continue at the end of standard input, which a service may not have. They may also
    // end before standard input does.
    let handle = loops.handle().clone();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let sent = match line.as_str() {
                "" => handle.shutdown(),
                line => handle.publish("all", line),
            };
            if sent.is_err() {
                return; // the loops have ended
            }
        }
    });
    loops.join()?;
    Ok(())
}
