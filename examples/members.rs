//! A club: members who connect from the club's own pages can talk to each other. This is a program
//! for WebSocket::Server and WebSocket::Connection, ported handler by handler; the Perl original is
//! perl/members.pl.
//!
//! ```text
//! cargo run --release --example members [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9007` unless given. Members have a cookie `key` with the value `a1`,
//! `b2` or `e3`; the origin of the pages is `https://club.example`:
//!
//! ```text
//! curl -i -N -H 'Origin: https://club.example' -H 'Cookie: key=a1' -H 'Connection: Upgrade' \
//!     -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
//!     -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://127.0.0.1:9007/club --output -
//! ```
//!
//! Differences from the Perl:
//!
//! - A handler that returns nothing accepts, as in Perl, and `false` refuses. An error in a handler
//!   closes its connection with 1011 (with status 500 before `Ready`), where Perl mostly warns.
//! - A request without `Origin` is refused, because `None` differs from the expected origin.
//!   `http_error` sets the response, whatever the handler returns afterwards.
//! - `metadata` is a typed value, which `Default` creates on first use.
//! - The server selects one subprotocol, the first of its list that the client offers. Perl answers
//!   with all that both sides have.
//! - `Disconnect` comes after the closing handshake, and not before the server's Close frame. Last
//!   messages to a leaving client are sent before `disconnect`, or in `PeerClose`. `Disconnect`
//!   also comes at the end of a stream, which Perl does not notice.

mod logger;
mod signals;

use std::env;
use std::time::Duration;

use wsloop::event::{
    Binary, Connect, Disconnect, Handshake, Origin, Ping, Pong, Ready, Shutdown, Utf8,
};
use wsloop::handshake::Refusal;
use wsloop::{CloseCode, Sent, Server};

const ORIGIN: &str = "https://club.example";
const MEMBERS: [(&str, &str); 3] = [("a1", "ada"), ("b2", "bob"), ("e3", "eve")];
const BANNED: [&str; 1] = ["127.0.0.66"];
const SEATS: usize = 2;

/// The `metadata` of a connection: empty until its handshake is accepted.
#[derive(Clone, Default)]
struct Member {
    name: String,
    said: u64,
}

fn main() -> wsloop::Result<()> {
    logger::init();
    let address = env::args().nth(1);
    let mut server = Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9007"))
        .subprotocols(["club.v2", "club.v1"])
        .silence_max(Duration::from_secs(30))
        .on(Shutdown, |serv, ()| {
            serv.broadcast_utf8("* the club closes")
        })
        // The TCP connection is established. A refusal is answered with 403.
        .on(Connect, |conn, ()| {
            let ip = conn.ip().map_or_else(String::new, |ip| ip.to_string());
            if BANNED.contains(&ip.as_str()) {
                return false;
            }
            conn.set_max_recv_size(1000);
            conn.on(Origin, |_, from| from == Some(ORIGIN));
            conn.on(Handshake, |conn, handshake| {
                let request = handshake.request();
                if request.path() != "/club" {
                    return conn.http_error(404);
                }
                let key = request.cookie("key");
                let Some((_, name)) = MEMBERS.iter().find(|(known, _)| key == Some(known)) else {
                    let refusal = Refusal::new(401)
                        .body("members only")
                        .header("WWW-Authenticate", "Cookie");
                    return conn.http_error(refusal);
                };
                if conn.server().len() >= SEATS {
                    let refusal = Refusal::new(503).reason("No Seat").body("the club is full");
                    return conn.http_error(refusal);
                }
                conn.data::<Member>().name = (*name).to_owned();
                handshake.header("X-Member", name)?;
                handshake.cookie("seen", "yes", "Path=/")
            });
            conn.on(Ready, |conn, ()| {
                let name = &conn.data::<Member>().name.clone();
                let proto = conn.subprotocol().unwrap_or("none");
                conn.send_utf8(&format!("welcome, {name} ({proto})"))
            });
            conn.on(Utf8, |conn, text| {
                match text {
                    "/quit" => return conn.disconnect(4000, "as you wish"),
                    "/cut" => conn.abort(),
                    "/close" => conn.server().shutdown(),
                    _ => {
                        let member = conn.data::<Member>();
                        member.said += 1;
                        let line = format!("{}: {text}", member.name);
                        return conn.server().broadcast_utf8(&line);
                    }
                }
                Ok(Sent::NOTHING)
            });
            conn.on(Binary, |conn, _| {
                conn.disconnect(CloseCode::UNSUPPORTED_DATA, "text only")
            });
            // A refusal suppresses the pong.
            conn.on(Ping, |_, payload| payload != b"quiet");
            conn.on(Pong, |conn, _| {
                println!("{} is there", conn.data::<Member>().name);
            });
            conn.on(Disconnect, |conn, why| {
                let Member { name, said } = conn.data::<Member>().clone();
                if name.is_empty() {
                    return Ok(Sent::NOTHING); // refused
                }
                println!("{name} said {said} things and left: {}", why.code);
                conn.server().broadcast_utf8(&format!("* {name} has left"))
            });
            true
        })
        .build()?;
    signals::wind_down_on_signals(server.handle())?;
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    Ok(server.start()?)
}
