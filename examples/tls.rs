//! Echo over TLS, with a certificate that is generated at start, or with your own.
//!
//! ```text
//! cargo run --release --example tls [ADDRESS] [CHAIN.pem KEY.pem]
//! ```
//!
//! The address is `127.0.0.1:9004` unless given. Without files the server generates a certificate
//! for `localhost`, `127.0.0.1` and `::1`, and writes it to standard output. Clients do not trust
//! this certificate unless they are configured to. To try it:
//!
//! ```text
//! cargo run --release --example tls > cert.pem &
//! SSL_CERT_FILE=cert.pem python3 -m websockets wss://127.0.0.1:9004/
//! ```
//!
//! A browser shows a warning when you open `https://127.0.0.1:9004/`. After you accept it, the
//! console can open `new WebSocket("wss://127.0.0.1:9004/")`. (The page itself is an error, because
//! this server only speaks WebSocket.)

mod logger;
mod signals;

use std::env;
use std::error::Error;
use std::sync::Arc;

use wsloop::Server;
use wsloop::event::{Binary, Utf8};
use wsloop::rustls::ServerConfig;
use wsloop::rustls::pki_types::PrivatePkcs8KeyDer;

fn main() -> Result<(), Box<dyn Error>> {
    logger::init();
    let args: Vec<String> = env::args().skip(1).collect();
    let address = args.first().map_or("127.0.0.1:9004", String::as_str);
    let config = match args.get(1..) {
        Some([chain, key]) => wsloop::config_from_pem(chain, key)?,
        _ => self_signed()?,
    };
    let mut server = Server::builder()
        .listen_tls(address, config)
        .on(Utf8, |conn, text| conn.send_utf8(text))
        .on(Binary, |conn, data| conn.send_binary(data))
        .build()?;
    signals::wind_down_on_signals(server.handle())?;
    if let Some(addr) = server.local_addr() {
        eprintln!("connect to wss://{addr}/ with the certificate on standard output");
    }
    for listener in server.listeners() {
        eprintln!("listening on {listener:#}");
    }
    server.start()?;
    Ok(())
}

/// Generates a self-signed certificate and its key, and prints the certificate.
fn self_signed() -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let made = rcgen::generate_simple_self_signed(names)?;
    print!("{}", made.cert.pem());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(wsloop::crypto_provider()?)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    Ok(Arc::new(config))
}
