//! Connections: to one server, to the primary that Sentinel names, or to all primaries of a
//! cluster.

use std::io;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo,
    RedisError, Value,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::builder::{Options, Target};
use crate::history::Scripts;
use crate::slots;

/// What a connection reports: the number of its server, and what it pushed.
pub(crate) type Event = (usize, PushInfo);

/// The connections to one server.
pub(crate) struct Server {
    /// Publishes, and reads histories.
    pub(crate) publisher: MultiplexedConnection,
    /// Subscriptions.
    pub(crate) subscriber: MultiplexedConnection,
    /// The random number of the server's process; empty if it does not matter.
    pub(crate) run: String,
    /// The channel for probes, which is subscribed.
    pub(crate) probes: String,
}

/// Connections to all servers.
pub(crate) struct Servers {
    pub(crate) all: Vec<Server>,
    /// The number of the server for each slot of a cluster.
    slots: Option<Vec<u16>>,
}

impl Servers {
    /// Returns the number of the server of a channel.
    pub(crate) fn of(&self, channel: &str) -> usize {
        self.slots.as_ref().map_or(0, |slots| {
            let slot = slots::slot(channel.as_bytes());
            slots.get(usize::from(slot)).copied().map_or(0, usize::from)
        })
    }

    /// Returns whether the channels are sharded.
    pub(crate) fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }
}

/// Connects. `probes` is the beginning of the channels for probes.
pub(crate) async fn connect(
    target: &Target,
    options: &Options,
    scripts: &Scripts,
    probes: String,
    events: UnboundedSender<Event>,
) -> Result<Servers, RedisError> {
    match target {
        Target::Single(info) => {
            let server = open(info, options, scripts, probes, false, 0, events).await?;
            Ok(Servers {
                all: vec![server],
                slots: None,
            })
        }
        Target::Sentinel(sentinels, name) => {
            let info = find_primary(sentinels, name, options).await?;
            let mut server = open(&info, options, scripts, probes, false, 0, events).await?;
            let role = ask(&mut server.publisher, redis::cmd("ROLE")).await?;
            let Value::Array(role) = role else {
                return Err(failure("the answer to ROLE is malformed"));
            };
            if role.first().and_then(text) != Some("master") {
                return Err(failure("the server that Sentinel names is not a primary"));
            }
            Ok(Servers {
                all: vec![server],
                slots: None,
            })
        }
        Target::Cluster(nodes) => {
            let mut last = failure("there is no node");
            for node in nodes {
                match find_slots(node, options).await {
                    Ok((primaries, slots)) => {
                        let servers = primaries.iter().enumerate().map(|(number, info)| {
                            let own = |slot| slots.get(usize::from(slot)) == Some(&(number as u16));
                            let probes = slots::with_slot(format!("{probes}:"), "", own);
                            let events = events.clone();
                            open(info, options, scripts, probes, true, number, events)
                        });
                        let all = try_join_all(servers).await?;
                        let slots = Some(slots);
                        return Ok(Servers { all, slots });
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// Opens both connections to a server.
async fn open(
    info: &ConnectionInfo,
    options: &Options,
    scripts: &Scripts,
    probes: String,
    is_cluster: bool,
    number: usize,
    events: UnboundedSender<Event>,
) -> Result<Server, RedisError> {
    let client = client(info, options)?;
    let open = || async {
        let events = events.clone();
        let config = config(options).set_push_sender(move |info| events.send((number, info)));
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    };
    let mut publisher = open().await?;
    let mut subscriber = open().await?;
    if is_cluster {
        ask(&mut subscriber, shard_command("SSUBSCRIBE", &probes)).await?;
    } else {
        subscriber.subscribe(&probes).await?;
    }
    let mut run = String::new();
    if options.node.keeps_history {
        for load in scripts.load() {
            ask(&mut publisher, load).await?;
        }
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info = ask(&mut publisher, info).await?;
        let line = text(&info).and_then(|info| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix("run_id:"))
        });
        run = line.map(str::to_owned).unwrap_or_default();
    }
    Ok(Server {
        publisher,
        subscriber,
        run,
        probes,
    })
}

/// Returns a command for one sharded channel.
pub(crate) fn shard_command(name: &str, channel: &str) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(channel);
    cmd
}

fn client(info: &ConnectionInfo, options: &Options) -> Result<Client, RedisError> {
    let settings = info.redis_settings().clone();
    // With the third version of the protocol, subscriptions and commands share a connection, and
    // their answers come in one order.
    let settings = settings.set_protocol(ProtocolVersion::RESP3);
    let info = info.clone().set_redis_settings(settings);
    #[cfg(feature = "tls")]
    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may have been faster.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let certificates = redis::TlsCertificates {
            client_tls: None,
            root_cert: options.root_certificates.clone(),
        };
        return Client::build_with_tls(info, certificates);
    }
    let _ = options;
    Client::open(info)
}

fn config(options: &Options) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.command_timeout))
}

/// Asks the sentinels for the address of the primary.
async fn find_primary(
    sentinels: &[ConnectionInfo],
    name: &str,
    options: &Options,
) -> Result<ConnectionInfo, RedisError> {
    let mut last = failure("there is no sentinel");
    for sentinel in sentinels {
        match primary_of(sentinel, name, options).await {
            Ok((host, port)) => {
                let mut settings = redis::RedisConnectionInfo::default().set_db(options.database);
                if let Some((user, password)) = &options.user {
                    settings = settings.set_username(user).set_password(password);
                }
                return Ok(sentinel
                    .clone()
                    .set_addr(moved(sentinel.addr(), host, port))
                    .set_redis_settings(settings));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn primary_of(
    sentinel: &ConnectionInfo,
    name: &str,
    options: &Options,
) -> Result<(String, u16), RedisError> {
    let mut conn = lookup(sentinel, options).await?;
    let mut cmd = redis::cmd("SENTINEL");
    cmd.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let Value::Array(parts) = ask(&mut conn, cmd).await? else {
        return Err(failure("Sentinel does not know a primary of this name"));
    };
    let [host, port] = parts.as_slice() else {
        return Err(failure("the answer of Sentinel is malformed"));
    };
    let port = text(port).and_then(|port| port.parse().ok());
    let address = text(host).map(str::to_owned).zip(port);
    address.ok_or_else(|| failure("the answer of Sentinel is malformed"))
}

/// Asks a node for the primaries, and the number of the primary of each slot.
async fn find_slots(
    node: &ConnectionInfo,
    options: &Options,
) -> Result<(Vec<ConnectionInfo>, Vec<u16>), RedisError> {
    let mut conn = lookup(node, options).await?;
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SLOTS");
    let answer = ask(&mut conn, cmd).await?;
    let malformed = || failure("the answer to CLUSTER SLOTS is malformed");
    let Value::Array(ranges) = answer else {
        return Err(malformed());
    };
    let mut addresses: Vec<(String, u16)> = Vec::new();
    let mut slots = vec![u16::MAX; usize::from(slots::COUNT)];
    for range in &ranges {
        let Value::Array(range) = range else {
            return Err(malformed());
        };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(primary),
            ..,
        ] = range.as_slice()
        else {
            return Err(malformed());
        };
        let [host, Value::Int(port), ..] = primary.as_slice() else {
            return Err(malformed());
        };
        let host = match text(host) {
            // The node does not know its own address.
            None | Some("" | "?") => host_of(node.addr()),
            Some(host) => host.into(),
        };
        let address = (host, u16::try_from(*port).map_err(|_| malformed())?);
        let number = addresses.iter().position(|known| *known == address);
        let number = number.unwrap_or_else(|| {
            addresses.push(address);
            addresses.len() - 1
        });
        let first = usize::try_from(*first).map_err(|_| malformed())?;
        let last = usize::try_from(*last).map_err(|_| malformed())?;
        slots
            .get_mut(first..=last)
            .ok_or_else(malformed)?
            .fill(number as u16);
    }
    if slots.contains(&u16::MAX) {
        return Err(failure("the cluster has slots without a server"));
    }
    let primaries = addresses.into_iter().map(|(host, port)| {
        let addr = moved(node.addr(), host, port);
        node.clone().set_addr(addr)
    });
    Ok((primaries.collect(), slots))
}

/// Connects in order to ask where something is. It takes no longer than a connect, so that others
/// can be asked if the server is frozen.
async fn lookup(
    info: &ConnectionInfo,
    options: &Options,
) -> Result<MultiplexedConnection, RedisError> {
    let client = client(info, options)?;
    let timeout = options.connect_timeout.min(LOOKUP_MAX);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Returns the address with another host and port, and the same TLS settings.
fn moved(addr: &ConnectionAddr, other: String, number: u16) -> ConnectionAddr {
    match addr.clone() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host: other,
            port: number,
            insecure,
            tls_params,
        },
        _ => ConnectionAddr::Tcp(other, number),
    }
}

fn host_of(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => "127.0.0.1".into(),
    }
}

/// Sends a command; an error of the server is an error.
async fn ask(conn: &mut MultiplexedConnection, cmd: Cmd) -> Result<Value, RedisError> {
    conn.req_packed_command(&cmd).await?.extract_error()
}

pub(crate) fn failure(text: &'static str) -> RedisError {
    io::Error::other(text).into()
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

/// The longest time for a question of where something is.
const LOOKUP_MAX: Duration = Duration::from_secs(1);
