//! The server that clients of others are tried with: see tests/interop/README.md.
//!
//! It sends messages back. A text that begins with a slash is an order: `/info` answers what is
//! known of the connection, `/close CODE REASON` closes it, `/ping PAYLOAD` pings, and the pong's
//! payload comes as a text. At `/refused` it answers 403, at `/fragments` it counts frames, and at
//! `/compressed` it compresses its answers to orders as well, however short they are. `?id=` names
//! a connection, so that the line about its end can be found.
//!
//! The arguments are a directory, for its Unix sockets, and the files of certificate and key. It
//! prints where it listens as JSON, and a line for each connection that is refused or ends.

use std::path::PathBuf;
use std::time::Duration;

use wsloop::event::{Binary, Disconnect, Fragment, Handshake, Pong, Ready, Utf8};
use wsloop::{
    ClientAddress, Compress, Connection, DeflateConfig, Outgoing, Place, SendError, Sent, Server,
    config_from_pem,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    env_logger::init();
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [dir, certificate, key] = &arguments[..] else {
        return Err("usage: interop DIRECTORY CERTIFICATE KEY".into());
    };
    let tls = config_from_pem(certificate, key)?;
    let unix = |name: &str| Place::unix(dir.join(name));
    let mut server = Server::builder()
        .listener(Place::tcp("127.0.0.1:0"))
        .listener(Place::tcp("127.0.0.1:0").tls(tls.clone()))
        .listener(Place::tcp("127.0.0.1:0").proxy_protocol(["127.0.0.1"]))
        .listener(
            Place::tcp("127.0.0.1:0")
                .tls(tls.clone())
                .proxy_protocol(["127.0.0.1"]),
        )
        .listener(unix("http.sock"))
        .listener(unix("proxy.sock").proxy_protocol(["unix:"]))
        .trusted_proxies(["127.0.0.1", "unix:"])
        .client_address(ClientAddress::XForwardedFor)
        .forwarded_scheme(true)
        .origins(["self", "none"])
        .subprotocols(["interop"])
        .deflate(DeflateConfig::shared())
        .connection_stats(true)
        .health_check("/health")
        .max_recv_size(4 << 20)
        .max_send_size(4 << 20)
        .max_backlog(16 << 20)
        .silence_max(Duration::ZERO)
        .on(Handshake, |conn, upgrade| {
            let request = upgrade.request();
            let id = request.query_param("id").unwrap_or_default().into_owned();
            if request.path() == "/refused" {
                println!("refused {id}");
                return conn.http_error(wsloop::handshake::Refusal::new(403).body("not today"));
            }
            if request.path() == "/fragments" {
                count_fragments(conn);
            }
            let compressed = request.path() == "/compressed";
            *conn.data() = Own { id, compressed };
            Ok(())
        })
        .on(Ready, |conn, ()| {
            // At once behind the 101: some clients drop what comes in the same read.
            say(conn, "welcome")
        })
        .on(Utf8, |conn, text| match text.strip_prefix('/') {
            Some(order) => obey(conn, order),
            None => conn.send_message(Outgoing::text(text).compress(Compress::Yes)),
        })
        .on(Binary, |conn, bytes| {
            conn.send_message(Outgoing::binary(bytes).compress(Compress::Yes))
        })
        .on(Pong, |conn, payload| {
            say(conn, &format!("pong {}", payload.escape_ascii()))
        })
        .on(Disconnect, |conn, end| {
            let id = &conn.data::<Own>().id;
            println!("end {id} {} {:?} {:?}", end.code, end.reason, end.cause);
        })
        .build()?;
    let addrs = server.local_addrs();
    let [plain, tls, proxy, proxy_tls] = addrs[..] else {
        return Err("four addresses are listened on".into());
    };
    println!(
        "{{\"plain\": {}, \"tls\": {}, \"proxy\": {}, \"proxy_tls\": {}}}",
        plain.port(),
        tls.port(),
        proxy.port(),
        proxy_tls.port()
    );
    server.start()?;
    Ok(())
}

/// What is kept of a connection.
#[derive(Default)]
struct Own {
    /// What the client calls it.
    id: String,
    compressed: bool,
}

/// Sends a text that is no echo.
fn say(conn: &mut Connection<'_>, text: &str) -> Result<Sent, SendError> {
    let compress = match conn.data::<Own>().compressed {
        true => Compress::Yes,
        false => Compress::Auto,
    };
    conn.send_message(Outgoing::text(text).compress(compress))
}

/// Takes messages frame by frame, and answers with the number of frames and bytes.
fn count_fragments(conn: &mut Connection<'_>) {
    let (mut frames, mut bytes) = (0, 0);
    conn.on(Fragment, move |conn, piece| {
        (frames, bytes) = match piece.first {
            true => (1, piece.payload.len()),
            false => (frames + 1, bytes + piece.payload.len()),
        };
        match piece.last {
            true => say(conn, &format!("{frames} pieces, {bytes} bytes")),
            false => Ok(Sent::NOTHING),
        }
    });
}

fn obey(conn: &mut Connection<'_>, order: &str) -> Result<Sent, SendError> {
    let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
    match word {
        "info" => {
            let text = info(conn);
            say(conn, &text)
        }
        "ping" => conn.ping(rest),
        "close" => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            conn.disconnect(code.parse::<u16>().unwrap_or(1011), reason)
        }
        _ => say(conn, "what?"),
    }
}

/// What is known of a connection, as JSON.
fn info(conn: &Connection<'_>) -> String {
    let stats = conn.stats().unwrap_or_default();
    let addr = conn
        .peer_addr()
        .map_or_else(String::new, |addr| addr.to_string());
    let uri = conn
        .request_uri()
        .map_or_else(String::new, |uri| uri.to_string());
    format!(
        "{{\"deflate\": {}, \"received\": {}, \"sent\": {}, \"address\": \"{addr}\", \
         \"tls\": {}, \"verified\": {}, \"uri\": \"{uri}\", \"subprotocol\": \"{}\"}}",
        conn.deflate().is_some(),
        stats.bytes_in,
        stats.bytes_out,
        conn.is_client_tls(),
        conn.is_verified_by_proxy(),
        conn.subprotocol().unwrap_or_default(),
    )
}
