//! Tests with another WebSocket client, `tungstenite`, over TCP, a Unix socket and TLS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use crate::support;
use crate::support::temp::TempDir;
use crate::support::{PATIENCE, Running};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Error, Message, WebSocket, client};
use wsloop::event::*;
use wsloop::{Builder, Server};

const LARGE: usize = 4 << 20;

fn serve(builder: Builder) -> Builder {
    support::echo(builder)
        .max_recv_size(LARGE)
        .max_send_size(LARGE)
        .max_backlog(4 * LARGE)
        .subprotocols(["v2.chat", "v1.chat"])
        .on(Handshake, |conn, upgrade| {
            let request = conn.request().unwrap();
            if let Some(echo) = request.header("X-Echo") {
                upgrade.header("X-Echo", echo)?;
            }
            if let Some(user) = request.cookie("user") {
                upgrade.header("Set-Cookie", &format!("seen={user}"))?;
            }
            Ok::<_, wsloop::AnswerError>(request.path() != "/forbidden")
        })
        .on(Utf8, |conn, text| match text {
            "close" => conn.disconnect(4001, "as you wish"),
            "ping" => conn.ping(b"are you there?"),
            _ => conn.send_utf8(text),
        })
        .on(Pong, |conn, payload| {
            let text = format!("pong: {}", payload.escape_ascii());
            conn.send_utf8(&text)
        })
}

fn open<S: Read + Write>(stream: S) -> (WebSocket<S>, Response) {
    let mut request = "ws://localhost/chat?room=7".into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert(
        "Sec-WebSocket-Protocol",
        HeaderValue::from_static("v1.chat, v2.chat"),
    );
    headers.insert("X-Echo", HeaderValue::from_static("custom"));
    headers.insert("Cookie", HeaderValue::from_static("a=b; user=me"));
    headers.insert("Origin", HeaderValue::from_static("http://localhost"));
    match client(request, stream) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}"),
    }
}

fn tcp(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Exercises all features of a client, over any stream.
fn exercise<S: Read + Write>(connect: impl Fn() -> S) {
    let (mut socket, response) = open(connect());
    let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
    assert_eq!(header("Sec-WebSocket-Protocol"), Some(&b"v2.chat"[..]));
    assert_eq!(header("X-Echo"), Some(&b"custom"[..]));
    assert_eq!(header("Set-Cookie"), Some(&b"seen=me"[..]));

    for size in [0, 1, 125, 126, 65_535, 65_536, LARGE] {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
        socket.send(Message::binary(bytes.clone())).unwrap();
        assert!(socket.read().unwrap() == Message::binary(bytes), "{size}");
        let text: String = "aé€𝄞".chars().cycle().take(size / 4).collect();
        socket.send(Message::text(text.clone())).unwrap();
        assert!(socket.read().unwrap() == Message::text(text), "{size}");
    }

    // A fragmented message with a ping inside.
    let fragment = |text: &str, opcode, last| {
        let frame = Frame::message(text.as_bytes().to_vec(), OpCode::Data(opcode), last);
        Message::Frame(frame)
    };
    socket.send(fragment("grü", Data::Text, false)).unwrap();
    socket.send(Message::Ping("inside".into())).unwrap();
    socket.send(fragment("", Data::Continue, false)).unwrap();
    socket.send(fragment("ße", Data::Continue, true)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("inside".into()));
    assert_eq!(socket.read().unwrap(), Message::text("grüße"));

    // A ping of the server, which the client answers automatically.
    socket.send(Message::text("ping")).unwrap();
    let ping = socket.read().unwrap();
    assert_eq!(ping, Message::Ping("are you there?".into()));
    socket.flush().unwrap();
    let answered = socket.read().unwrap();
    assert_eq!(answered, Message::text("pong: are you there?"));

    // The client closes.
    let frame = CloseFrame {
        code: 4000.into(),
        reason: "bye".into(),
    };
    socket.close(Some(frame.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(Some(frame)));
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));

    // The server closes.
    let (mut socket, _) = open(connect());
    socket.send(Message::text("close")).unwrap();
    let frame = CloseFrame {
        code: 4001.into(),
        reason: "as you wish".into(),
    };
    assert_eq!(socket.read().unwrap(), Message::Close(Some(frame)));
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));

    // The server refuses the handshake.
    let request = "ws://localhost/forbidden".into_client_request().unwrap();
    match client(request, connect()) {
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
            assert_eq!(response.status(), 403);
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn over_tcp() {
    let server = Running::start(serve);
    exercise(|| tcp(&server));
}

#[test]
fn over_a_unix_socket() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let listen = path.clone();
    let _server = Running::start_on(move || serve(Server::builder().listen_unix(listen)));
    exercise(|| {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    });
}

#[cfg(feature = "tls")]
#[test]
fn over_tls() {
    let identity = support::tls::Identity::new();
    let tls = identity.server.clone();
    let server = Running::start_on(move || serve(Server::builder().listen_tls("127.0.0.1:0", tls)));
    exercise(|| identity.stream(server.addr));
}

#[test]
fn without_a_common_subprotocol_there_is_none() {
    let server = Running::start(|builder| serve(builder).subprotocols(["v3.chat"]));
    let (mut socket, response) = {
        let request = "ws://localhost/".into_client_request().unwrap();
        client(request, tcp(&server)).unwrap()
    };
    assert!(!response.headers().contains_key("Sec-WebSocket-Protocol"));
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
}

#[test]
fn fifty_clients_at_once() {
    const CLIENTS: usize = 50;
    let server = Running::start(serve);
    let threads: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let stream = tcp(&server);
            std::thread::spawn(move || {
                let (mut socket, _) = open(stream);
                for round in 0..50 {
                    let text = format!("{round} of {at}");
                    let bytes = vec![at as u8; 100 * round];
                    socket.write(Message::text(text.clone())).unwrap();
                    socket.send(Message::binary(bytes.clone())).unwrap();
                    assert_eq!(socket.read().unwrap(), Message::text(text));
                    assert_eq!(socket.read().unwrap(), Message::binary(bytes));
                }
                socket.close(None).unwrap();
                assert_eq!(socket.read().unwrap(), Message::Close(None));
                assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(server.stop().accepted, CLIENTS as u64);
}
