//! yawc, following the server in its documentation: hyper for the handshake, then the stream and
//! sink. UTF-8 validation, which is off by default, is on.
//!
//! With `--batched` it is configured like the benchmark in its README: a read buffer of 128 KiB, a
//! write boundary of 64 KiB, and a flush after 32 messages or when no further message is ready.

use std::io;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use wsloop_peers::server::{Deflate, Options, Skill, runtime};
use yawc::{CompressionLevel, DeflatePool, OpCode, UpgradeFut, WebSocket};

fn main() -> io::Result<()> {
    let options = Options::of(&[Skill::Batched, Skill::Deflate]);
    let (settings, batched) = (settings(&options), options.batched);
    runtime::serve(&options, |client| {
        let settings = settings.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| handshake(request, settings.clone(), batched));
            // Errors are ignored: a failed client does not matter to the server.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(client), service)
                .with_upgrades()
                .await;
        });
    })
}

fn settings(options: &Options) -> yawc::Options {
    // The crate rejects sizes equal to a limit, so the limits are one byte higher.
    let limit = options.max_message.saturating_add(1);
    let mut settings = yawc::Options::default()
        .without_compression()
        .with_limits(limit, limit)
        .with_utf8();
    if options.batched {
        settings = settings
            .with_read_buffer_capacity(128 << 10)
            .with_backpressure_boundary(64 << 10);
    }
    if let Some(bytes) = options.read_buffer {
        settings = settings.with_read_buffer_capacity(bytes);
    }
    if let Some(deflate) = options.deflate {
        // By default the crate answers `client_max_window_bits` with 9, so that clients compress
        // badly.
        settings = settings
            .with_compression_level(CompressionLevel::default())
            .with_client_max_window_bits(15);
        if deflate == Deflate::Shared {
            settings = settings
                .server_no_context_takeover()
                .client_no_context_takeover()
                .with_deflate_pool(DeflatePool::new(1));
        }
    }
    settings
}

async fn handshake(
    mut request: Request<Incoming>,
    settings: yawc::Options,
    batched: bool,
) -> yawc::Result<Response<Empty<Bytes>>> {
    let (response, upgrade) = WebSocket::upgrade_with_options(&mut request, settings)?;
    tokio::spawn(async move {
        let _ = echo(upgrade, batched).await;
    });
    Ok(response)
}

async fn echo(upgrade: UpgradeFut, batched: bool) -> yawc::Result<()> {
    let mut socket = upgrade.await?;
    let mut fed = 0;
    if batched {
        while let Some(frame) = runtime::next_or_flush(&mut socket).await {
            if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) {
                socket.feed(frame).await?;
                fed += 1;
                if fed % 32 == 0 {
                    socket.flush().await?;
                }
            }
        }
    } else {
        while let Some(frame) = socket.next().await {
            if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) {
                socket.send(frame).await?;
            }
        }
    }
    Ok(())
}
