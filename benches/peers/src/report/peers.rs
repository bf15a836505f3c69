//! The compared servers.

use std::path::{Path, PathBuf};

/// A server, or a variant of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The name on the command line and in the results.
    pub(super) id: &'static str,
    /// The name in the report.
    pub(super) title: &'static str,
    /// The suffix in the name of the binary `server-NAME`, or of the script `server-NAME.js`.
    server: &'static str,
    runner: Runner,
    /// How this variant differs from its server.
    pub(super) variant: Variant,
    /// The crate whose version is read from `Cargo.lock`.
    pub(super) package: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Binary,
    Bun,
    Node,
    Perl,
}

/// How a variant differs from its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Not a variant.
    None,
    /// The application collects the replies; only in the pipelined case.
    Batched,
    /// Small reads, where the server otherwise has large ones; only for large messages.
    SmallReads,
}

/// The bare TCP echo, the basis of comparison.
pub(super) const RAW: &str = "raw";
/// uWebSockets, the basis of comparison where a bare echo is not comparable.
pub(super) const UWS: &str = "uws";
/// The peer that compresses best in the least time with context takeover.
pub(super) const YAWC: &str = "yawc";
/// The runtime that contains uWebSockets.
pub(super) const BUN: &str = "bun";
/// The server whose Redis adapter is compared with ours.
pub(super) const SOCKETIO: &str = "socketio";
/// The server of this workspace.
pub(super) const WSLOOP: &str = "wsloop";

/// All peers, in the order of the report.
pub(super) const PEERS: &[Peer] = &[
    binary(RAW, "raw TCP echo", Some("mio")),
    small_reads("raw-64k", "raw TCP echo, 64 KiB reads", "raw"),
    binary(WSLOOP, "wsloop", Some("wsloop")),
    binary(UWS, "uWebSockets", None),
    rust("fastwebsockets"),
    rust("tokio-tungstenite"),
    batched(
        "tokio-tungstenite-batched",
        "tokio-tungstenite, batched",
        "tokio-tungstenite",
    ),
    rust("tokio-websockets"),
    batched(
        "tokio-websockets-batched",
        "tokio-websockets, batched",
        "tokio-websockets",
    ),
    rust("sockudo-ws"),
    batched("sockudo-ws-batched", "sockudo-ws, batched", "sockudo-ws"),
    rust(YAWC),
    batched("yawc-batched", "yawc, batched", "yawc"),
    script(BUN, "Bun", Runner::Bun),
    script("node", "node, ws", Runner::Node),
    script("perl", "Perl, Net::WebSocket::Server", Runner::Perl),
    script(SOCKETIO, "Socket.IO", Runner::Node),
];

const fn binary(id: &'static str, title: &'static str, package: Option<&'static str>) -> Peer {
    Peer {
        id,
        title,
        server: id,
        runner: Runner::Binary,
        variant: Variant::None,
        package,
    }
}

const fn rust(id: &'static str) -> Peer {
    binary(id, id, Some(id))
}

const fn batched(id: &'static str, title: &'static str, server: &'static str) -> Peer {
    Peer {
        server,
        variant: Variant::Batched,
        ..binary(id, title, None)
    }
}

const fn small_reads(id: &'static str, title: &'static str, server: &'static str) -> Peer {
    Peer {
        server,
        variant: Variant::SmallReads,
        ..binary(id, title, None)
    }
}

const fn script(id: &'static str, title: &'static str, runner: Runner) -> Peer {
    Peer {
        runner,
        ..binary(id, title, None)
    }
}

/// Returns the peer with a name.
pub(super) fn find(id: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.id == id)
}

/// Returns the title of a peer, or its name if the peer no longer exists.
pub(super) fn title(id: &str) -> &str {
    find(id).map_or(id, |peer| peer.title)
}

/// Returns the position of a peer in the report.
pub(super) fn position(id: &str) -> usize {
    let found = PEERS.iter().position(|peer| peer.id == id);
    found.unwrap_or(PEERS.len())
}

impl Peer {
    /// Returns whether the peer is a binary and not a script.
    pub(super) fn is_binary(&self) -> bool {
        self.runner == Runner::Binary
    }

    /// Returns the command that starts the peer, without arguments, or why there is none.
    pub(super) fn command(&self, binaries: &Path, scripts: &Path) -> Result<Vec<PathBuf>, String> {
        let (interpreter, file) = match self.runner {
            Runner::Binary => (None, binaries.join(format!("server-{}", self.server))),
            Runner::Bun => (Some(bun(scripts)), scripts.join("server-bun.js")),
            Runner::Node => {
                let script = format!("server-{}.js", self.server);
                (Some("node".into()), scripts.join(script))
            }
            Runner::Perl => (Some("perl".into()), scripts.join("server-perl.pl")),
        };
        if !file.is_file() {
            return Err("not built".into());
        }
        if let Some(interpreter) = &interpreter
            && super::process::output(&interpreter.to_string_lossy(), &["--version"]).is_none()
        {
            let name = interpreter.file_name().unwrap_or_default();
            return Err(format!("{} is not installed", name.to_string_lossy()));
        }
        Ok(interpreter.into_iter().chain([file]).collect())
    }
}

/// Returns the path of Bun, which npm installs beside the scripts.
fn bun(scripts: &Path) -> PathBuf {
    scripts.join("node_modules/.bin/bun")
}
