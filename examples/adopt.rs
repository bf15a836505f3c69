//! A web server with hyper on tokio. It hands its WebSockets over to wsloop, which runs on another
//! thread.
//!
//! ```text
//! cargo run --release --example adopt [ADDRESS]
//! ```
//!
//! The address is `127.0.0.1:9014` unless given. hyper answers all requests but those for `/ws`:
//!
//! ```text
//! curl http://127.0.0.1:9014/
//! python3 -m websockets ws://127.0.0.1:9014/ws
//! ```

mod logger;

use std::convert::Infallible;
use std::error::Error;
use std::sync::mpsc;
use std::{env, thread};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use wsloop::event::{Binary, Utf8};
use wsloop::handshake::Request;
use wsloop::{Handle, Server};

fn main() -> Result<(), Box<dyn Error>> {
    logger::init();
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9014".into());
    let (sender, receiver) = mpsc::channel();
    // Handlers stay on the thread that builds the server. Its handle can be sent to other threads.
    thread::spawn(move || {
        let mut server = Server::builder()
            .headless(true)
            .on(Utf8, |conn, text| conn.send_utf8(text))
            .on(Binary, |conn, data| conn.send_binary(data))
            .build()?;
        let _ = sender.send(server.handle());
        Ok::<_, wsloop::Error>(server.start()?)
    });
    let handle = receiver.recv()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(serve(&address, &handle))
}

/// Serves HTTP.
async fn serve(address: &str, handle: &Handle) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let handle = handle.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(request, &handle);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                log::info!("http connection ended: {error}");
            }
        });
    }
}

/// Answers a request. An upgrade for `/ws` is answered with a 101, and its socket is handed over.
fn answer(mut request: hyper::Request<Incoming>, handle: &Handle) -> Response<String> {
    if request.uri().path() != "/ws" {
        return Response::new("a page of hyper\n".into());
    }
    let upgrade = hyper::upgrade::on(&mut request);
    // wsloop validates the request that hyper has parsed.
    let request = Request::from(request.map(drop));
    let accept = match request.accept_key() {
        Ok(accept) => accept,
        Err(error) => return refusal(error.status(), &error),
    };
    let handle = handle.clone();
    tokio::spawn(async move {
        if let Err(error) = hand_over(upgrade, request, &handle).await {
            log::warn!("cannot hand over: {error}");
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", accept.as_str())
        .body(String::new())
        .unwrap_or_else(|error| refusal(StatusCode::INTERNAL_SERVER_ERROR, &error))
}

fn refusal(status: StatusCode, why: &dyn Error) -> Response<String> {
    let mut response = Response::new(why.to_string());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("Sec-WebSocket-Version", 13.into());
    response
}

/// Waits until hyper has sent the 101. Then gives the socket to wsloop, with the bytes that hyper
/// has already read.
async fn hand_over(
    upgrade: OnUpgrade,
    request: Request,
    handle: &Handle,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let parts = upgrade
        .await?
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| "not the socket that hyper was given")?;
    let stream = parts.io.into_inner().into_std()?;
    handle.adopt_upgraded(stream, parts.read_buf, request, None)?;
    Ok(())
}
