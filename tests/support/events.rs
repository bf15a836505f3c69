//! Handlers that record every event.

use std::sync::mpsc::Sender;

use wsloop::Builder;
use wsloop::event::*;

/// Records every event of the connections and of the server, except `Tick` and `Stopped`.
pub fn record(builder: Builder, log: &Sender<String>) -> Builder {
    let say = || {
        let log = log.clone();
        move |entry: String| _ = log.send(entry)
    };
    let (start, shutdown, accept, connect) = (say(), say(), say(), say());
    let (origin, handshake, ready, utf8) = (say(), say(), say(), say());
    let (binary, ping, pong, drain) = (say(), say(), say(), say());
    let (peer_close, error, disconnect) = (say(), say(), say());
    builder
        .on(Start, move |_, ()| start("start".into()))
        .on(Shutdown, move |_, ()| shutdown("shutdown".into()))
        .on(Accept, move |_, _| accept("accept".into()))
        .on(Connect, move |_, ()| connect("connect".into()))
        .on(Origin, move |_, from| {
            origin(format!("origin {}", from.unwrap_or("none")));
        })
        .on(Handshake, move |_, upgrade| {
            handshake(format!("handshake {}", upgrade.request().path()));
        })
        .on(Ready, move |_, ()| ready("ready".into()))
        .on(Utf8, move |_, text| utf8(format!("utf8 {text}")))
        .on(Binary, move |_, bytes| {
            binary(format!("binary {}", bytes.len()));
        })
        .on(Ping, move |_, payload| {
            ping(format!("ping {}", payload.escape_ascii()));
        })
        .on(Pong, move |_, payload| {
            pong(format!("pong {}", payload.escape_ascii()));
        })
        .on(Drain, move |_, ()| drain("drain".into()))
        .on(PeerClose, move |_, frame| {
            peer_close(match frame {
                Some(frame) => format!("peer close {} {}", frame.code, frame.reason),
                None => "peer close none".into(),
            });
        })
        .on(Error, move |_, fault| error(format!("error {fault}")))
        .on(Disconnect, move |_, why| {
            disconnect(format!("disconnect {why}"));
        })
}
