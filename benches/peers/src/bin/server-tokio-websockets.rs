//! tokio-websockets, following its `examples/echo_server.rs` and `examples/rustls_server.rs`.
//!
//! With `--batched`, replies are fed to the sink, and flushed when no further message is ready.
//! However, the crate itself flushes whenever it is polled for the next message.

use std::io;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::unconstrained;
use tokio_websockets::{Config, Error, Limits, ServerBuilder};
use wsloop_peers::server::{Options, Skill, runtime};

fn main() -> io::Result<()> {
    let options = Options::of(&[Skill::Batched, Skill::Tls]);
    let tls = runtime::acceptor(&options);
    let (max_message, batched) = (options.max_message, options.batched);
    runtime::serve(&options, |client| {
        let tls = tls.clone();
        // Unconstrained, as in the example: tokio's cooperative budget does not interrupt the task.
        tokio::spawn(unconstrained(async move {
            // Errors are ignored: a failed client does not matter to the server.
            let _ = match tls {
                None => echo(client, max_message, batched).await,
                Some(tls) => match tls.accept(client).await {
                    Ok(client) => echo(client, max_message, batched).await,
                    Err(error) => Err(error.into()),
                },
            };
        }));
    })
}

async fn echo<S>(stream: S, max_message: usize, batched: bool) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (_request, mut socket) = ServerBuilder::new()
        .config(Config::default().frame_size(usize::MAX))
        .limits(Limits::default().max_payload_len(Some(max_message)))
        .accept(stream)
        .await?;
    if batched {
        while let Some(message) = runtime::next_or_flush(&mut socket).await {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.feed(message).await?;
            }
        }
    } else {
        while let Some(message) = socket.next().await {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.send(message).await?;
            }
        }
    }
    Ok(())
}
