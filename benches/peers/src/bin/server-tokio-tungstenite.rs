//! tokio-tungstenite with its default buffers. Echo follows its `examples/autobahn-server.rs`;
//! broadcast follows its `examples/server.rs`, with a channel for each client.
//!
//! With `--batched`, replies are flushed when no further message is ready, like the `forward` of
//! its `examples/echo-server.rs`.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use wsloop_peers::server::{Mode, Options, Skill, runtime};

fn main() -> io::Result<()> {
    let options = Options::of(&[Skill::Batched, Skill::Broadcast, Skill::Tls]);
    let tls = runtime::acceptor(&options);
    let mut config = WebSocketConfig::default()
        .max_message_size(Some(options.max_message))
        .max_frame_size(Some(options.max_message));
    if let Some(bytes) = options.read_buffer {
        config = config.read_buffer_size(bytes);
    }
    let server = Arc::new(Server {
        config,
        batched: options.batched,
        everybody: (options.mode == Mode::Broadcast).then(Mutex::default),
    });
    runtime::serve(&options, |client| {
        let (server, tls) = (Arc::clone(&server), tls.clone());
        tokio::spawn(async move {
            // Errors are ignored: a failed client does not matter to the server.
            let _ = match tls {
                None => server.client(client).await,
                Some(tls) => match tls.accept(client).await {
                    Ok(client) => server.client(client).await,
                    Err(error) => Err(error.into()),
                },
            };
        });
    })
}

struct Server {
    config: WebSocketConfig,
    batched: bool,
    /// The clients that receive each message with `--mode broadcast`.
    everybody: Option<Mutex<Everybody>>,
}

#[derive(Default)]
struct Everybody {
    accepted: u64,
    channels: HashMap<u64, UnboundedSender<Message>>,
}

impl Server {
    async fn client<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<(), Error> {
        let mut socket = accept_async_with_config(stream, Some(self.config)).await?;
        if let Some(everybody) = &self.everybody {
            return broadcast(socket, everybody).await;
        }
        if self.batched {
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
}

async fn broadcast<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    everybody: &Mutex<Everybody>,
) -> Result<(), Error> {
    let lock = || everybody.lock().unwrap_or_else(PoisonError::into_inner);
    let (channel, mut news) = mpsc::unbounded_channel();
    let key = {
        let mut everybody = lock();
        everybody.accepted += 1;
        let key = everybody.accepted;
        everybody.channels.insert(key, channel);
        key
    };
    let (outgoing, incoming) = socket.split();
    let hear = incoming.try_for_each(|message| {
        if message.is_text() || message.is_binary() {
            for channel in lock().channels.values() {
                // Sending fails if the client is just disconnecting.
                let _ = channel.send(message.clone());
            }
        }
        future::ok(())
    });
    let tell = futures_util::stream::poll_fn(move |cx| news.poll_recv(cx))
        .map(Ok)
        .forward(outgoing);
    let result = future::select(hear, tell).await.factor_first().0;
    lock().channels.remove(&key);
    result
}
