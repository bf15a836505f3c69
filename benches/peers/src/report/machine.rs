//! The machine and the software of a measurement.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::peers::PEERS;
use super::process::{EngineKind, output};

/// Facts about the machine and the programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    /// The processor.
    pub(super) processor: String,
    /// The number of cores.
    pub(super) cores: usize,
    /// The name and the version of the kernel.
    pub(super) kernel: String,
    /// The compiler.
    pub(super) rustc: String,
    /// The command line.
    pub(super) command: String,
    /// Versions by name.
    pub(super) versions: BTreeMap<String, String>,
}

/// Further packages that the figures depend on.
const FURTHER_PACKAGES: [&str; 7] = [
    "aws-lc-rs",
    "hyper",
    "rustls",
    "simdutf8",
    "tokio",
    "tokio-rustls",
    "tungstenite",
];

/// The packages of the scripts.
const NPM_PACKAGES: [&str; 6] = [
    "@socket.io/redis-adapter",
    "bufferutil",
    "bun",
    "redis",
    "socket.io",
    "ws",
];

impl Machine {
    /// Collects the facts for a run of `command`. `root` is the folder of `Cargo.lock`, `scripts`
    /// the folder of the scripts.
    pub(super) fn here(root: &Path, scripts: &Path, command: String) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        let cores = info.lines().filter(|line| line.starts_with("processor"));
        let mut versions = locked(root);
        versions.extend(scripted(scripts));
        Self {
            processor: processor.into(),
            cores: cores.count(),
            kernel: output("uname", &["-sr"]).unwrap_or_default(),
            rustc: output("rustc", &["--version"]).unwrap_or_default(),
            command,
            versions,
        }
    }
}

/// Returns the date and the time in UTC, in the form `2026-01-31 12:34:56`.
pub(super) fn now() -> String {
    output("date", &["-u", "+%F %T"]).unwrap_or_default()
}

/// Returns the versions of crates from `Cargo.lock`.
fn locked(root: &Path) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let text = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let Ok(lock) = toml::from_str::<Lock>(&text) else {
        return BTreeMap::new();
    };
    let wanted = |name: &str| {
        FURTHER_PACKAGES.contains(&name) || PEERS.iter().any(|peer| peer.package == Some(name))
    };
    let found = lock.package.into_iter().filter(|p| wanted(&p.name));
    found.fold(BTreeMap::new(), |mut versions, package| {
        // Cargo.lock may list a crate in two versions.
        let entry: &mut String = versions.entry(package.name).or_default();
        if !entry.is_empty() {
            entry.push_str(" and ");
        }
        entry.push_str(&package.version);
        versions
    })
}

/// Returns the versions of the interpreters and of the packages that their scripts use.
fn scripted(scripts: &Path) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    if let Some(version) = output("node", &["--version"]) {
        versions.insert("node".into(), version.trim_start_matches('v').into());
    }
    for engine in [EngineKind::Redis, EngineKind::Nats] {
        let program = engine.program();
        // As in `Redis server v=7.0.15 sha=...` and `nats-server: v2.9.10`.
        let version = output(program, &["--version"]).and_then(|line| {
            let mut words = line.split([' ', '=']).filter(|word| *word != "v");
            words.find_map(|word| {
                let word = word.trim_start_matches('v');
                word.starts_with(|first: char| first.is_ascii_digit())
                    .then(|| word.to_owned())
            })
        });
        if let Some(version) = version {
            versions.insert(program.into(), version);
        }
    }
    for package in NPM_PACKAGES {
        let file = scripts
            .join("node_modules")
            .join(package)
            .join("package.json");
        let version = fs::read(file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
            .and_then(|json| json.get("version")?.as_str().map(String::from));
        if let Some(version) = version {
            versions.insert(format!("{package} (npm)"), version);
        }
    }
    if let Some(version) = output("perl", &["-e", "print substr($^V, 1)"]) {
        versions.insert("perl".into(), version);
    }
    let module = "print Net::WebSocket::Server->VERSION";
    if let Some(version) = output("perl", &["-MNet::WebSocket::Server", "-e", module]) {
        versions.insert("Net::WebSocket::Server".into(), version);
    }
    versions
}
