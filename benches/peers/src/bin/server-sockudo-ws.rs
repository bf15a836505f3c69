//! sockudo-ws, with the stream and sink of its `examples/simple_echo.rs`. Compression is negotiated
//! as in its integration with axum. The server sends no pings of its own, like all servers here.
//!
//! With `--batched`, replies are fed to the sink, and flushed when no further message is ready.

use std::io;

use bytes::BytesMut;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use sockudo_ws::deflate::negotiate_server_deflate;
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::{
    CompressedWebSocketStream, Compression, Config, DeflateConfig, Error, Message, Result, Role,
    WebSocketStream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wsloop_peers::server::{Deflate, Options, Skill, runtime};

fn main() -> io::Result<()> {
    let options = Options::of(&[Skill::Batched, Skill::Deflate]);
    let compression = match options.deflate {
        None => Compression::Disabled,
        Some(Deflate::Shared) => Compression::Shared,
        Some(_) => Compression::Dedicated,
    };
    let config = Config::builder()
        .max_payload_length(options.max_message)
        .compression(compression)
        .idle_timeout(0)
        .auto_ping(false)
        .build();
    let batched = options.batched;
    runtime::serve_with_timers(&options, |client| {
        let config = config.clone();
        tokio::spawn(async move {
            // Errors are ignored: a failed client does not matter to the server.
            let _ = welcome(client, config, batched).await;
        });
    })
}

async fn welcome(mut client: TcpStream, config: Config, batched: bool) -> Result<()> {
    let policy = config.compression.to_deflate_config();
    let (deflate, early) = handshake(&mut client, policy.as_ref()).await?;
    let early = (!early.is_empty()).then(|| early.freeze());
    match deflate {
        None => {
            let role = Role::Server;
            let socket = WebSocketStream::from_raw_with_leftover(client, role, config, early);
            echo(socket, batched).await
        }
        Some(deflate) => {
            let socket =
                CompressedWebSocketStream::server_with_leftover(client, config, deflate, early);
            echo(socket, batched).await
        }
    }
}

async fn echo<S>(mut socket: S, batched: bool) -> Result<()>
where
    S: Stream<Item = Result<Message>> + Sink<Message, Error = Error> + Unpin,
{
    if batched {
        while let Some(message) = runtime::next_or_flush(&mut socket).await {
            let message = message?;
            if matches!(message, Message::Text(_) | Message::Binary(_)) {
                socket.feed(message).await?;
            }
        }
    } else {
        while let Some(message) = socket.next().await {
            let message = message?;
            if matches!(message, Message::Text(_) | Message::Binary(_)) {
                socket.send(message).await?;
            }
        }
    }
    Ok(())
}

/// Answers the request. Returns the negotiated compression, and the bytes that followed the
/// request.
async fn handshake(
    client: &mut TcpStream,
    policy: Option<&DeflateConfig>,
) -> Result<(Option<DeflateConfig>, BytesMut)> {
    let mut head = BytesMut::with_capacity(4096);
    loop {
        if client.read_buf(&mut head).await? == 0 {
            return Err(Error::ConnectionClosed);
        }
        let Some((request, length)) = parse_request(&head)? else {
            continue;
        };
        let agreed = policy
            .zip(request.extensions)
            .and_then(|(policy, offers)| negotiate_server_deflate(offers, policy));
        let header = agreed.as_ref().map(|agreed| agreed.to_response_header());
        let accept = generate_accept_key(request.key);
        let response = build_response(&accept, None, header.as_deref());
        client.write_all(&response).await?;
        return Ok((agreed.map(|agreed| agreed.config), head.split_off(length)));
    }
}
