//! JSON in and out, with serde: the server adds numbers and greets.
//!
//! ```text
//! cargo run --release --example json [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9010` unless given. To try it, open the console of a browser:
//!
//! ```text
//! ws = new WebSocket("ws://127.0.0.1:9010/")
//! ws.onmessage = event => console.log(JSON.parse(event.data))
//! ws.send(JSON.stringify({type: "add", numbers: [1, 2, 3]}))
//! ws.send(JSON.stringify({type: "greet", name: "Ada"}))
//! ```
//!
//! JSON that is no order is answered with an error. A text that is no JSON closes the connection
//! with 1007, and a binary message with 1003.

use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use wsloop::event::{Binary, Start, Utf8};
use wsloop::{CloseCode, Connection, SendError, Sent, Server};

/// What a client sends.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Order {
    Add { numbers: Vec<f64> },
    Greet { name: String },
}

/// What the server sends.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Reply {
    Sum { sum: f64 },
    Greeting { text: String },
    Error { text: String },
}

fn main() -> wsloop::Result<()> {
    let address = std::env::args().nth(1);
    Server::builder()
        .listen(address.as_deref().unwrap_or("127.0.0.1:9010"))
        .max_recv_size(4096)
        .on(Start, |hub, ()| {
            eprintln!("listening on {:?}", hub.local_addrs())
        })
        .on(Utf8, |conn, text| match serde_json::from_str(text) {
            Ok(Order::Add { numbers }) => {
                let sum = numbers.iter().sum();
                send(conn, &Reply::Sum { sum })
            }
            Ok(Order::Greet { name }) => {
                let text = format!("Hello, {name}!");
                send(conn, &Reply::Greeting { text })
            }
            Err(error) if error.classify() == Category::Data => {
                let text = error.to_string();
                send(conn, &Reply::Error { text })
            }
            Err(_) => conn.disconnect(CloseCode::INVALID_PAYLOAD, "not JSON"),
        })
        .on(Binary, |conn, _| {
            conn.disconnect(CloseCode::UNSUPPORTED_DATA, "text only")
        })
        .run()
}

fn send(conn: &mut Connection<'_>, reply: &Reply) -> Result<Sent, SendError> {
    match serde_json::to_string(reply) {
        Ok(text) => conn.send_utf8(&text),
        Err(_) => conn.disconnect(CloseCode::INTERNAL_ERROR, ""),
    }
}
