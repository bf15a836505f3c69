//! Shared by the servers on tokio.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use futures_util::{Sink, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use super::{Options, announce, listen, refuse};

/// Runs a single-threaded tokio runtime, and passes each client to `welcome`, which spawns a task
/// for it.
///
/// # Errors
///
/// Returns the errors of the listener. Errors of a client do not end the server.
pub fn serve(options: &Options, welcome: impl Fn(TcpStream)) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    serve_on(&runtime, options, welcome)
}

/// Like [`serve`], with tokio's timers, which cost a little in each turn of the loop.
///
/// # Errors
///
/// Returns the errors of [`serve`].
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

/// Returns an acceptor if the options ask for TLS. It uses rustls with the same configuration as
/// wsloop.
pub fn acceptor(options: &Options) -> Option<TlsAcceptor> {
    let (chain, key) = options.tls.as_ref()?;
    match wsloop::config_from_pem(chain, key) {
        Ok(config) => Some(config.into()),
        Err(error) => refuse(error),
    }
}

/// Returns the next message, and flushes the replies fed so far while there is none. Returns `None`
/// at the end of the connection.
///
/// In this way an application batches: its replies to all available messages leave in one write.
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
