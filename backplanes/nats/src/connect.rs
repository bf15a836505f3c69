//! Connections to a server.
//!
//! The client library reconnects by itself, and keeps waiting messages in a buffer of its own. Here
//! each of its clients serves one connection only: when that breaks, the client is dropped with its
//! runtime, and the node decides what is sent again and which losses are announced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event, ServerAddr};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout;

use crate::builder::Options;
use crate::history::Stream;

/// A connection, and the events of its client.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) events: UnboundedReceiver<Event>,
    /// The stream with the histories, if there are any.
    pub(crate) stream: Option<Stream>,
    /// What the subjects of this node begin with.
    pub(crate) own: String,
}

/// Connects to one of the servers, and prepares the stream.
///
/// # Errors
///
/// Returns the reason why no connection was made.
pub(crate) async fn connect(
    servers: Vec<ServerAddr>,
    options: Options,
    node: u64,
) -> Result<Connection, String> {
    let (sender, events) = mpsc::unbounded_channel();
    let is_connected = Arc::new(AtomicBool::new(false));
    let was_connected = is_connected.clone();
    // No topic has this subject: see `subject`.
    let own = format!("{}%node.{node:016x}.", options.prefix);
    let count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
    let connecting = options
        .connect
        .name("wsloop")
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.command_timeout))
        .subscription_capacity(options.subscription_capacity)
        .client_capacity(COMMANDS_MAX)
        .custom_inbox_prefix(format!("{own}inbox"))
        .event_callback(move |event| {
            // The receiver is dropped when the connection is given up.
            let _ = sender.send(event);
            std::future::ready(())
        })
        .reconnect_delay_callback(move |_| match was_connected.load(Ordering::SeqCst) {
            true => NEVER,
            false => Duration::ZERO,
        })
        .connect(servers);
    // A server may have several addresses.
    let limit = options
        .connect_timeout
        .saturating_mul(count.saturating_add(1));
    let client = timeout(limit, connecting).await;
    let client = client.map_err(|_| "no answer in time".to_owned())?;
    let client = client.map_err(|error| with_source(&error))?;
    is_connected.store(true, Ordering::SeqCst);
    let stream = match &options.history {
        None => None,
        Some(history) => Some(Stream::open(&client, history, &options.prefix).await?),
    };
    if client.connection_state() != State::Connected {
        return Err("the connection has ended".into());
    }
    Ok(Connection {
        client,
        events,
        stream,
        own,
    })
}

/// Returns the text of an error with its cause.
pub(crate) fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Most commands that wait in the client: more than a session has under way.
const COMMANDS_MAX: usize = 16 << 10;

/// The client must not reconnect.
const NEVER: Duration = Duration::from_secs(3600 * 24 * 365);
