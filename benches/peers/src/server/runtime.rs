//! What the servers on tokio have in common.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use futures_util::{Sink, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use super::{Options, announce, listen, refuse};

/// Runs a tokio runtime of one thread, and hands each client that connects to `welcome`, which
/// spawns a task for it.
///
/// # Errors
///
/// Those of listening; those of a client are its own.
pub fn serve(options: &Options, welcome: impl Fn(TcpStream)) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    serve_on(&runtime, options, welcome)
}

/// The same with tokio's timers, which cost a little at each turn, for a crate that uses them.
///
/// # Errors
///
/// Those of [`serve`].
pub fn serve_with_timers(options: &Options, welcome: impl Fn(TcpStream)) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    serve_on(&runtime, options, welcome)
}

fn serve_on(runtime: &Runtime, options: &Options, welcome: impl Fn(TcpStream)) -> io::Result<()> {
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen(options)?)?;
        announce(listener.local_addr()?)?;
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    client.set_nodelay(true)?;
                    welcome(client);
                }
                Err(error) => eprintln!("cannot accept: {error}"),
            }
        }
    })
}

/// What makes TLS of a client's socket, if TLS is asked for: rustls with the configuration that
/// wsloop has as well.
pub fn acceptor(options: &Options) -> Option<TlsAcceptor> {
    let (chain, key) = options.tls.as_ref()?;
    match wsloop::config_from_pem(chain, key) {
        Ok(config) => Some(config.into()),
        Err(error) => refuse(error),
    }
}

/// The next message; while there is none, what was fed before is flushed. Nothing if the connection
/// is over.
///
/// So an application batches: its replies to all messages that are ready leave in one write.
pub async fn next_or_flush<S, M>(socket: &mut S) -> Option<S::Item>
where
    S: Stream + Sink<M> + Unpin,
{
    poll_fn(|cx| {
        let next = Pin::new(&mut *socket).poll_next(cx);
        if next.is_pending()
            && let Poll::Ready(Err(_)) = Pin::new(&mut *socket).poll_flush(cx)
        {
            return Poll::Ready(None);
        }
        next
    })
    .await
}
