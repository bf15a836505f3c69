//! The shortest server: sends every message back to its sender.
//!
//! ```text
//! cargo run --release --example echo [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9001` unless given. To try it, open the console of a browser:
//!
//! ```text
//! ws = new WebSocket("ws://127.0.0.1:9001/")
//! ws.onmessage = event => console.log(event.data)
//! ws.send("hello")
//! ```

use wsloop::Server;
use wsloop::event::{Binary, Start, Utf8};

fn main() -> wsloop::Result<()> {
    let address = std::env::args().nth(1);
    Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9001"))
        .on(Start, |hub, ()| {
            eprintln!("listening on {:?}", hub.local_addrs())
        })
        .on(Utf8, |conn, text| conn.send_utf8(text))
        .on(Binary, |conn, data| conn.send_binary(data))
        .run()
}
