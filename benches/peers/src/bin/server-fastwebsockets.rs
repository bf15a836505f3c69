//! fastwebsockets, following its `examples/echo_server.rs`: hyper for the handshake, and a
//! `FragmentCollector`. The crate validates text with simdutf8, and answers pings and Close frames.

use std::io;

use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use wsloop_peers::server::{Options, runtime};

fn main() -> io::Result<()> {
    let options = Options::of(&[]);
    let max_message = options.max_message;
    runtime::serve(&options, |client| {
        tokio::spawn(async move {
            let service = service_fn(move |request| handshake(request, max_message));
            // Errors are ignored: a client may disconnect at any time.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(client), service)
                .with_upgrades()
                .await;
        });
    })
}

async fn handshake(
    mut request: Request<Incoming>,
    max_message: usize,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgrade) = upgrade::upgrade(&mut request)?;
    // Unconstrained, as in the example: tokio's cooperative budget does not interrupt the task.
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = echo(upgrade, max_message).await;
    }));
    Ok(response)
}

async fn echo(upgrade: upgrade::UpgradeFut, max_message: usize) -> Result<(), WebSocketError> {
    let mut socket = upgrade.await?;
    // The crate rejects messages of the limit's size, so the limit is one byte higher.
    socket.set_max_message_size(max_message.saturating_add(1));
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
